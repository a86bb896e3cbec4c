from __future__ import annotations

from collections import Counter

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from storage_engine.kernel.difference import difference

SCHEMA = {"id": pl.Int64, "tags": pl.List(pl.String), "at": pl.Struct({"x": pl.Int64})}
values = st.tuples(
    st.one_of(st.none(), st.lists(st.sampled_from(["a", "b"]), max_size=2).map(tuple)),
    st.one_of(st.none(), st.integers(0, 2)),
)


def frame(rows: list[tuple[int, tuple[object, object]]]) -> pl.DataFrame:
    columns = {
        "id": [key for key, _ in rows],
        "tags": [None if tags is None else list(tags) for _, (tags, _) in rows],
        "at": [{"x": x} for _, (_, x) in rows],
    }
    return pl.DataFrame(columns, schema=SCHEMA)


def told(changes: pl.DataFrame) -> Counter[tuple[object, ...]]:
    return Counter(
        (row["_row_kind"], row["id"], None if row["tags"] is None else tuple(row["tags"]), row["at"]["x"])
        for row in changes.to_dicts()
    )


@given(st.dictionaries(st.integers(0, 5), values), st.dictionaries(st.integers(0, 5), values))
def test_with_a_key_each_change_is_told_once(old: dict, new: dict) -> None:
    expected: Counter[tuple[object, ...]] = Counter()
    for key in old.keys() | new.keys():
        if key not in new:
            expected["-D", key, *old[key]] += 1
        elif key not in old:
            expected["+I", key, *new[key]] += 1
        elif old[key] != new[key]:
            expected["-U", key, *old[key]] += 1
            expected["+U", key, *new[key]] += 1
    assert told(difference(frame([*old.items()]), frame([*new.items()]), keys=["id"])) == expected


rows = st.lists(st.tuples(st.integers(0, 2), values), max_size=8)


@given(rows, rows)
def test_without_a_key_rows_are_counted(old: list, new: list) -> None:
    before, after = (Counter((key, *value) for key, value in side) for side in (old, new))
    expected = Counter({("-D", *row): times for row, times in (before - after).items()})
    expected += Counter({("+I", *row): times for row, times in (after - before).items()})
    assert told(difference(frame(old), frame(new), keys=[])) == expected

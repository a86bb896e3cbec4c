"""Sorted runs side by side: every row comes once, in ranges of keys that do not meet."""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from storage_engine.store.key_ranges import OpenRun, Portions, key_ranges

Row = tuple[str | None, int, int]
SCHEMA = {"a": pl.String, "b": pl.Int64, "v": pl.Int64}
runs = st.lists(
    st.lists(st.tuples(st.none() | st.sampled_from("aé~"), st.integers(0, 9), st.integers(0, 3)), max_size=30),
    max_size=4,
)


def opener(rows: list[Row], portion: int) -> OpenRun:
    frame = pl.DataFrame(rows, schema=SCHEMA, orient="row").sort("a", "b", nulls_last=False)

    def opened(_: int) -> Iterator[pl.DataFrame]:
        return frame.iter_slices(portion)

    return opened


@given(runs, st.integers(1, 7))
def test_every_row_comes_once_and_no_key_twice(data: list[list[Row]], portion: int) -> None:
    found: list[Row] = []
    seen: list[tuple[str | None, int]] = []
    for frame in key_ranges([opener(rows, portion) for rows in data], ["a", "b"], 1):
        keys = set(frame.select("a", "b").iter_rows())
        ordered = sorted(keys, key=lambda key: (key[0] is not None, (key[0] or "").encode(), key[1]))
        seen += ordered
        found += frame.rows()
    assert sorted(map(repr, found)) == sorted(repr(row) for rows in data for row in rows)
    assert seen == sorted(set(seen), key=lambda key: (key[0] is not None, (key[0] or "").encode(), key[1]))
    assert len(seen) == len(set(seen))


def test_no_more_than_the_next_portion_of_each_run_is_read_ahead() -> None:
    asked: list[int] = []

    def endless(number: int) -> Iterator[pl.DataFrame]:
        for start in range(0, 1000, 10):
            asked.append(number)
            yield pl.DataFrame({"a": pl.int_range(start, start + 10, eager=True)})

    def opened(number: int) -> OpenRun:
        def run(_: int) -> Portions:
            return endless(number)

        return run

    ranges = key_ranges([opened(0), opened(1)], ["a"], 1 << 20)
    assert next(ranges).height > 0
    ranges.close()
    assert max(asked.count(number) for number in (0, 1)) <= 2

"""Portions of a snapshot and of changes: together they are all of it, and each key is in one of them."""

from __future__ import annotations

import random
import uuid
from collections import Counter
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from storage_engine import Catalog, Table
from storage_engine.errors import CorruptFile
from storage_engine.read.portions import Portion
from tests.effort import examples

KEYED = {"bucket": "2", "changelog-producer": "lookup"}
TABLES: dict[str, tuple[list[str], list[str], dict[str, str]]] = {
    "lookup changelog": (["d", "id"], ["d"], KEYED),
    "one bucket": (["id"], [], {"bucket": "1", "changelog-producer": "lookup"}),
    "no changelog": (["id"], [], {"bucket": "2"}),
    "the user's changelog": (["id"], [], {"bucket": "2", "changelog-producer": "input"}),
    "dynamic buckets": (["id"], [], {"bucket": "-1", "dynamic-bucket.target-row-num": "7", "changelog-producer": "lookup"}),
    "key without the partition": (["id"], ["d"], {"bucket": "-1", "changelog-producer": "lookup"}),
    "deletion vectors": (["id"], [], {**KEYED, "deletion-vectors.enabled": "true"}),
    "text key": (["name"], [], KEYED),
    "no key": ([], [], {"bucket": "-1"}),
}  # fmt: skip


def made(name: str) -> Table:
    keys, partitions, options = TABLES[name]
    catalog = Catalog(f"memory://{uuid.uuid4()}")
    catalog.create_database("db")
    columns = {"d": "STRING", "id": "BIGINT", "name": "STRING", "n": "BIGINT"}
    return catalog.create_table("db.t", columns, primary_key=keys, partitioned_by=partitions, options=options)


def rows(chance: random.Random, count: int) -> pl.DataFrame:
    ids = chance.sample(range(200), count)
    return pl.DataFrame(
        {
            "d": [chance.choice("ab") if chance.random() < 0.2 else "ab"[number % 2] for number in ids],
            "id": ids,
            "name": [f"name {number}" for number in ids],
            "n": [chance.randrange(1000) for _ in ids],
        }
    )


def written(name: str) -> Table:
    """A table with history, whose last commits are large."""
    chance, table = random.Random(4), made(name)
    for count in (30, 5, 120, 90):
        table.write(rows(chance, count))
    if table.schema.primary_keys:
        gone = rows(chance, 40)
        table.write(gone.with_columns(pl.lit("-D").alias("_row_kind")))
    return table


def taken(portions: list[Portion], key: list[str]) -> pl.DataFrame:
    """All rows of the portions; no key is in two of them."""
    frames = [portion.read() for portion in portions]
    if key:
        keys = pl.concat(frame.select(key).unique() for frame in frames)
        assert keys.height == keys.n_unique()
    return pl.concat(frames)


@pytest.mark.parametrize("name", TABLES)
def test_all_portions_are_the_whole_before_and_after_upkeep(name: str) -> None:
    table = written(name)
    latest = table.latest_snapshot()
    assert latest is not None
    assert_whole(table, latest.id)
    before = [portion.read() for portion in table.scan_portions(latest.id, max_rows=9)]
    table.compact(full=True)
    table.write(rows(random.Random(8), 50))
    after = [portion.read() for portion in table.scan_portions(latest.id, max_rows=9)]
    assert len(before) == len(after)
    assert all(ours.equals(theirs) for ours, theirs in zip(before, after, strict=True))


def assert_whole(table: Table, latest: int) -> None:
    key = list(table.schema.primary_keys)
    rows, whole = table.scan().collect().sort("*"), table.changes(2, latest).collect()
    for max_rows, ranges in ((7, True), (7, False), (50, True), (10_000, True)):
        state = table.scan_portions(latest, max_rows=max_rows, ranges=ranges)
        assert taken(state, key).sort("*").equals(rows)
        changes = table.change_portions(2, latest, max_rows=max_rows, ranges=ranges)
        found = taken(changes, key)
        assert found.sort("*").equals(whole.sort("*"))
        if key:  # the changes of a key keep their order
            assert found.sort(key, maintain_order=True).equals(whole.sort(key, maintain_order=True))
        else:
            assert found.equals(whole)
        few = ["n"]  # the key is not among what is wanted
        narrow = table.scan_portions(latest, max_rows=max_rows, columns=few, ranges=ranges)
        assert [part.read().columns for part in narrow] == [few] * len(state)
        assert all(ours.read().equals(part.read().select(few)) for ours, part in zip(narrow, state, strict=True))
        told = table.change_portions(2, latest, max_rows=max_rows, columns=few, ranges=ranges)
        wide = [part.read().select("_row_kind", *few) for part in changes]
        assert all(ours.read().equals(part) for ours, part in zip(told, wide, strict=True))
        if max_rows == 7:
            assert len(state) > 5
            assert max(portion.read().height for portion in (*state, *changes)) <= 5 * max_rows
        if max_rows == 10_000:
            assert (len(state), len(changes)) == (1, 1)


def test_bytes_bound_them_too() -> None:
    table = made("one bucket")
    ids = range(5000)
    table.write(pl.DataFrame({"d": "a", "id": ids, "name": [f"name {number}" for number in ids], "n": ids}))
    latest = table.latest_snapshot()
    assert latest is not None
    portions = table.scan_portions(latest.id, max_rows=10_000, max_bytes=table.file_bytes() // 4)
    assert 4 <= len(portions) <= 5
    assert taken(portions, ["id"]).height == 5000


def test_versions_without_ranges_dealt_them_like_this() -> None:
    """Golden: a stream that such a version has left inside of a snapshot goes on there."""
    table = made("one bucket")
    table.write(pl.DataFrame({"d": "a", "id": range(40), "name": "x", "n": 0}))
    portions = [
        [1, 12, 13, 22, 25, 26, 28, 34, 36, 39],
        [0, 4, 10, 11, 15, 18, 19, 20],
        [3, 5, 8, 9, 14, 21, 23, 27, 31, 33, 35, 37, 38],
        [2, 6, 7, 16, 17, 24, 29, 30, 32],
    ]
    latest = table.latest_snapshot()
    assert latest is not None
    for dealt in (
        table.scan_portions(latest.id, max_rows=12, ranges=False),
        table.change_portions(0, latest.id, max_rows=12, ranges=False),
    ):
        assert [portion.read()["id"].to_list() for portion in dealt] == portions


STEP = st.tuples(
    st.sampled_from(["write", "write", "delete", "overwrite", "a partition", "compact"]),
    st.lists(st.integers(0, 60), min_size=1, max_size=40, unique=True),
    st.integers(0, 5),
)


@pytest.mark.parametrize("name", TABLES)
@settings(max_examples=examples(6), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(steps=st.lists(STEP, min_size=1, max_size=7), since=st.integers(0, 6), max_rows=st.sampled_from([3, 20, 1000]))
def test_portions_of_a_difference_are_what_differs(name: str, steps: list[Any], since: int, max_rows: int) -> None:
    table = made(name)
    key, is_apart = list(table.schema.primary_keys), "d" in table.schema.partition_keys
    states: dict[int, pl.DataFrame] = {}
    for kind, ids, number in steps:
        if kind == "compact":
            table.compact(full=True)
        rows = pl.DataFrame({"d": [f"{each % 2}" for each in ids], "id": ids, "name": [f"n{each}" for each in ids]})
        rows = rows.with_columns(pl.lit(number, pl.Int64).alias("n"))
        if kind == "overwrite":
            table.overwrite(rows)
        elif kind == "a partition" and is_apart:
            table.overwrite(rows.filter(pl.col("d") == "0"), partitions=[{"d": "0"}])
        elif kind == "delete" and key:
            table.write(rows.with_columns(pl.lit("-D").alias("_row_kind")))
        else:
            table.write(rows)
        latest = table.latest_snapshot()
        if latest is not None:
            states[latest.id] = table.scan().collect()
    if not states:
        return
    until = max(states)
    after = sorted({0, *states})[min(since, len(states))]
    before = states.get(after, states[until].clear())
    expected = differing(before, states[until], key)
    portions = table.difference_portions(after, until, max_rows=max_rows)
    assert Counter(taken(portions, key).rows()) == expected if portions else not expected
    few = table.difference_portions(after, until, max_rows=max_rows, columns=[*key, "n"])
    narrow = [frame.select(*key, "n") for frame in (before, states[until])]
    found = sum((Counter(portion.read().rows()) for portion in few), Counter())
    assert found == differing(narrow[0], narrow[1], key)


def differing(before: pl.DataFrame, after: pl.DataFrame, key: list[str]) -> Counter[tuple[object, ...]]:
    """Rows with their kind, each as often as it comes or goes."""
    gone, came = Counter(before.rows()) - Counter(after.rows()), Counter(after.rows()) - Counter(before.rows())
    places = [before.columns.index(name) for name in key]

    def keys(rows: Counter[tuple[Any, ...]]) -> set[tuple[object, ...]]:
        return {tuple(row[place] for place in places) for row in rows}

    both = keys(gone) & keys(came) if key else set()
    found: Counter[tuple[object, ...]] = Counter()
    for rows, alone, together in ((gone, "-D", "-U"), (came, "+I", "+U")):
        for row, count in rows.items():
            found[together if tuple(row[place] for place in places) in both else alone, *row] = count
    return found


def test_of_an_overwritten_partition_nothing_else_is_read() -> None:
    catalog = Catalog(f"memory://{uuid.uuid4()}")
    catalog.create_database("db")
    table = catalog.create_table(
        "db.t",
        {"d": "INT", "id": "BIGINT", "n": "BIGINT"},
        primary_key=["d", "id"],
        partitioned_by=["d"],
        options=KEYED,
    )
    days = pl.DataFrame({"id": range(900)}).select(
        pl.col("id").cast(pl.Int32).mod(9).alias("d"), "id", pl.lit(1).alias("n")
    )
    first = table.write(days.cast({"n": pl.Int64}))
    day = days.filter(pl.col("d") == 4).with_columns(pl.lit(2, pl.Int64).alias("n"))
    last = table.overwrite(day, partitions=[{"d": 4}])
    assert first is not None
    assert last is not None
    consumed = table.difference_portions(first.id, last.id, max_rows=10_000)
    assert [portion.rows for portion in consumed] == [200]
    assert consumed[0].read().height == 200


def test_a_portion_reads_its_own_row_groups_alone(tmp_path: Path) -> None:
    """Where a row group is damaged, no portion fails but those that have rows of it."""
    catalog = Catalog(str(tmp_path))
    catalog.create_database("db")
    options = {"bucket": "1", "changelog-producer": "lookup", "write-buffer-size": "8 mb"}
    columns = {"id": "BIGINT", "text": "STRING"}
    keyed = catalog.create_table("db.keyed", columns, primary_key=["id"], options=options)
    plain = catalog.create_table("db.plain", columns, options={"bucket": "-1"})
    rows = pl.DataFrame({"id": range(800_000)}).with_columns(pl.format("text {}", "id").alias("text"))
    for table in (keyed, plain):
        table.write(rows)
        table.write(rows.head(1).with_columns(pl.lit("new").alias("text")))
        latest = table.latest_snapshot()
        assert latest is not None
        dealt = [
            table.scan_portions(latest.id, max_rows=100_000),
            table.change_portions(0, latest.id, max_rows=100_000),
            table.difference_portions(0, latest.id, max_rows=100_000) if table is keyed else [],
        ]
        for portions in filter(None, dealt):
            heights = [portion.read().height for portion in portions]
            assert 8 <= len(portions) <= 20
            assert sum(heights) >= 800_000
            assert max(heights) <= 150_000
        for path in tmp_path.rglob(f"{table.name.removeprefix('db.')}/**/*.parquet"):
            damage(path, group=6)
        for portions in filter(None, dealt):
            assert 1 <= sum(map(fails, portions)) <= 2


def damage(path: Path, group: int) -> None:
    """Make a row group unreadable, if the file has so many."""
    metadata = pq.ParquetFile(path).metadata
    if metadata.num_row_groups <= group:
        return
    content = bytearray(path.read_bytes())
    for number in range(metadata.num_columns):
        column = metadata.row_group(group).column(number)
        start = column.dictionary_page_offset or column.data_page_offset
        content[start : start + column.total_compressed_size] = bytes(column.total_compressed_size)
    path.write_bytes(content)


def fails(portion: Portion) -> bool:
    try:
        portion.read()
    except CorruptFile:
        return True
    return False


def test_a_range_of_keys_of_a_bucket_that_is_not_merged_at_once(tmp_path: Path) -> None:
    catalog = Catalog(str(tmp_path))
    catalog.create_database("db")
    options = {"bucket": "1", "write-buffer-size": "4 mb", "num-sorted-run.compaction-trigger": "9"}
    table = catalog.create_table("db.t", {"id": "BIGINT", "n": "BIGINT"}, primary_key=["id"], options=options)
    for number in range(2):
        table.write(pl.DataFrame({"id": range(100_000)}).with_columns(pl.lit(number, pl.Int64).alias("n")))
    found = table.scan().filter((pl.col("id") >= 100) & (pl.col("id") < 200)).collect().sort("id")
    assert found.rows() == [(number, 1) for number in range(100, 200)]

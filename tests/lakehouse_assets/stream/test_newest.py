"""Sources that only tell of writes: a stream of "latest" has their state, however late rows come. Truth is a plain dict."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse_assets.stream.declaration import Bounds, Lookup, Stream
from lakehouse_assets.stream.runner import StreamRunner
from storage_engine import Catalog, Table
from tests.effort import examples

START = datetime(2024, 1, 29)
DAYS = ("2024-01-29", "2024-01-30")
COLUMNS = {"day": "STRING", "id": "BIGINT", "at": "TIMESTAMP(3)", "n": "BIGINT", "v": "BIGINT"}
Write = tuple[str, int, int | None, int, int, str]
"""day, id, the second at which it happened, n, v, kind."""


def source_and_target(catalog: Catalog, options: Mapping[str, str]) -> tuple[Table, Table]:
    catalog.create_database("db")
    source = catalog.create_table(
        "db.source", COLUMNS, primary_key=["day", "id"], partitioned_by=["day"], options={"bucket": "2", **options}
    )
    target = catalog.create_table("db.target", COLUMNS, primary_key=["day", "id"], options={"bucket": "1"})
    return source, target


def put(table: Table, writes: Sequence[Write]) -> None:
    rows = [
        (day, id_, None if at is None else START + timedelta(seconds=at), n, v, kind)
        for day, id_, at, n, v, kind in writes
    ]
    table.write(pl.DataFrame(rows, schema={**table.schema.polars_schema, "_row_kind": pl.String}, orient="row"))


def rows_of(table: Table) -> list[tuple[object, ...]]:
    return sorted(table.scan().collect().iter_rows(), key=lambda row: row[:2])


def stream(**declared: object) -> Stream:
    return Stream(source="db.source", target="db.target", transform=lambda rows: rows, **declared)  # type: ignore[arg-type]


writes = st.lists(
    st.tuples(
        st.sampled_from(DAYS),
        st.integers(0, 3),
        st.none() | st.integers(0, 6),
        st.integers(0, 2),
        st.integers(0, 99),
        st.sampled_from(["+I", "+U", "+U", "-D"]),
    ),
    min_size=1,
    max_size=5,
)
OPTIONS: dict[str, dict[str, str]] = {
    "newest write": {},
    "newest by time": {"sequence.field": "at"},
    "by two columns": {"sequence.field": "at,n"},
    "without statistics": {"sequence.field": "at", "metadata.stats-mode": "none"},
    "changelog of the input": {"sequence.field": "at", "changelog-producer": "input"},
    "filled in": {"merge-engine": "partial-update", "partial-update.remove-record-on-delete": "true"},
    "compacted early": {"sequence.field": "at", "num-sorted-run.compaction-trigger": "2"},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@settings(max_examples=examples(8))
@given(commits=st.lists(st.tuples(writes, st.booleans()), min_size=1, max_size=6))
def test_the_target_has_the_state(options: dict[str, str], commits: list[tuple[list[Write], bool]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        source, target = source_and_target(Catalog(folder), options)
        runner = StreamRunner(Catalog(folder), stream())
        expected: dict[tuple[object, ...], tuple[object, ...]] = {}
        for batch, runs in commits:
            put(source, batch)
            if runs:
                runner.run_batch()
                assert rows_of(target) == rows_of(source)
        runner.run_batch()
        assert rows_of(target) == rows_of(source)
        if options == OPTIONS["newest by time"] and all(kind != "-D" for batch, _ in commits for *_, kind in batch):
            for day, id_, at, n, v, _ in (write for batch, _ in commits for write in batch):
                known = expected.get((day, id_))
                if (
                    known is None
                    or (at is not None and (known[2] is None or at >= known[2]))
                    or (at, known[2]) == (None,) * 2
                ):
                    expected[day, id_] = (day, id_, at, n, v)
            seconds = [
                (*row[:2], None if row[2] is None else (row[2] - START).total_seconds(), *row[3:])
                for row in rows_of(target)
            ]
            assert seconds == sorted(expected.values(), key=lambda row: row[:2])


def test_rows_newer_than_all_before_are_not_looked_up(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    source, target = source_and_target(catalog, {"sequence.field": "at"})
    runner = StreamRunner(catalog, stream())
    asked: list[int] = []
    lookup = Table.lookup

    def noted(table: Table, keys: pl.DataFrame, **rest: object) -> pl.DataFrame:
        asked.append(keys.height)
        return lookup(table, keys, **rest)  # type: ignore[arg-type]

    monkeypatch.setattr(Table, "lookup", noted)
    put(source, [(DAYS[0], id_, 10, 0, 0, "+I") for id_ in range(100)])
    runner.run_batch()
    put(source, [(DAYS[0], id_, 20, 0, 1, "+U") for id_ in range(50)])
    put(source, [(DAYS[1], 7, 20, 0, 1, "+U")])
    runner.run_batch()
    assert asked == []
    put(source, [(DAYS[0], id_, 15 + id_ % 2 * 10, 0, 2, "+U") for id_ in range(40, 60)])
    runner.run_batch()
    assert asked == [10], "only those that are older than something"
    assert rows_of(target) == rows_of(source)


def test_columns_that_order_rows_are_read_beside_the_declared_ones(catalog: Catalog) -> None:
    source, _ = source_and_target(catalog, {"sequence.field": "at"})
    catalog.create_table("db.slim", {"id": "BIGINT", "v": "BIGINT"}, primary_key=["id"], options={"bucket": "1"})
    slim = Stream(
        source="db.source", target="db.slim", transform=lambda rows: rows.select("_row_kind", "id", "v"), columns=("v",)
    )
    runner = StreamRunner(catalog, slim)
    put(source, [(DAYS[0], 1, 5, 0, 50, "+I")])
    runner.run_batch()
    put(source, [(DAYS[0], 1, 9, 0, 90, "+U")])
    put(source, [(DAYS[0], 1, 7, 0, 70, "+U")])
    runner.run_batch()
    assert catalog.table("db.slim").scan().collect().rows() == [(1, 90)]


def test_a_late_row_does_not_hide_that_its_dimension_has_changed(catalog: Catalog) -> None:
    source, _ = source_and_target(catalog, {"sequence.field": "at"})
    names = catalog.create_table(
        "db.names",
        {"n": "BIGINT", "name": "STRING"},
        primary_key=["n"],
        options={"changelog-producer": "lookup", "bucket": "1"},
    )
    catalog.create_table(
        "db.wide", {"id": "BIGINT", "v": "BIGINT", "name": "STRING"}, primary_key=["id"], options={"bucket": "1"}
    )
    wide = Stream(
        source="db.source",
        target="db.wide",
        transform=lambda rows: rows.select("_row_kind", "id", "v", "name"),
        lookups=(Lookup(table="db.names", left_on="n", right_on="n", columns={"name": "name"}),),
    )
    runner = StreamRunner(catalog, wide)
    names.write(pl.DataFrame({"n": [0], "name": ["old"]}))
    put(source, [(DAYS[0], 1, 9, 0, 90, "+I")])
    runner.run_batch()
    names.write(pl.DataFrame({"n": [0], "name": ["new"]}))
    put(source, [(DAYS[0], 1, 7, 0, 70, "+U")])
    runner.run_batch()
    assert catalog.table("db.wide").scan().collect().rows() == [(1, 90, "new")]


def test_what_was_consumed_may_have_expired(catalog: Catalog) -> None:
    source, target = source_and_target(catalog, {"sequence.field": "at"})
    runner = StreamRunner(catalog, stream())
    put(source, [(DAYS[0], 1, 9, 0, 90, "+I")])
    runner.run_batch()
    put(source, [(DAYS[0], 1, 7, 0, 70, "+U"), (DAYS[0], 2, 7, 0, 71, "+U")])
    source.store.consumers.delete(runner.stream.name)
    source.expire_snapshots(retain_max=1, retain_min=1, older_than_millis=2**60)
    assert source.store.snapshots.ids() == [2]
    runner.run_batch()
    assert rows_of(target) == rows_of(source)


def test_late_rows_in_portions_of_a_large_commit(catalog: Catalog) -> None:
    source, target = source_and_target(catalog, {"sequence.field": "at", "write-buffer-size": "64 kb"})
    runner = StreamRunner(catalog, stream(bounds=Bounds(max_rows=1000)))
    put(source, [(DAYS[0], id_, 10, 0, 0, "+I") for id_ in range(100)])
    while runner.run_batch():
        pass
    put(source, [(DAYS[id_ % 2], id_ % 3000, id_ % 17, 0, id_, "+U") for id_ in range(9000)])
    batches = 0
    while runner.run_batch():
        batches += 1
    assert batches > 2
    assert rows_of(target) == rows_of(source)

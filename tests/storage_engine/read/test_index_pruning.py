"""File indexes in a scan: files that cannot hold what is asked for are not read, and no row is lost."""

from __future__ import annotations

import datetime as dt
import re
import uuid

import polars as pl
import pytest

from storage_engine import Catalog, Table
from storage_engine.errors import CorruptFile, InvalidOption
from storage_engine.read.plan import plan_scan
from storage_engine.store.live_files import LiveFiles

DAY = dt.date(2024, 2, 29)
COLUMNS = {"id": "INT", "name": "STRING", "n": "BIGINT", "day": "DATE", "f": "DOUBLE"}
BOTH = {
    "file-index.bloom-filter.columns": "name, n,f",
    "file-index.bloom-filter.name.items": "100",
    "file-index.bloom-filter.n.items": "100",
    "file-index.bloom-filter.n.fpp": "0.001",
    "file-index.bloom-filter.f.items": "100",
    "file-index.bitmap.columns": "day,name",
}


def a_table(**options: str) -> Table:
    catalog = Catalog(f"memory://{uuid.uuid4()}")
    catalog.create_database("db")
    named = {"bucket": "1", "bucket-key": "id", "metadata.stats-mode": "none", **BOTH, **options}
    return catalog.create_table("db.t", COLUMNS, options=named)


def filled(table: Table) -> Table:
    """Three files: the numbers of one third each, interleaved."""
    for third in range(3):
        ids = list(range(third, 60, 3))
        table.write(
            pl.DataFrame(
                {
                    "id": pl.Series(ids, dtype=pl.Int32),
                    "name": [None if number % 10 == 9 else f"name {number}" for number in ids],
                    "n": [number * 1_000_000_007 for number in ids],
                    "day": [DAY + dt.timedelta(days=number % 6) for number in ids],
                    "f": [number / 4 for number in ids],
                }
            )
        )
    return table


def files_read(table: Table, predicate: pl.Expr) -> int:
    snapshot = table.latest_snapshot()
    return plan_scan(LiveFiles(table.store, table.schema), table.schema, snapshot, predicate).files_read


PREDICATES = [
    (pl.col("name") == "name 7", 1),
    (pl.col("name") == "nobody", 0),
    (pl.col("name").is_in(["name 7", "nobody"]), 1),
    (pl.col("name").is_in(["name 7", "name 8"]), 2),
    (pl.col("n") == 8 * 1_000_000_007, 1),
    (pl.col("n") == pl.lit(5), 0),
    ((pl.col("n") == 5) | (pl.col("name") == "name 7"), 1),
    ((pl.col("n") == 8 * 1_000_000_007) & (pl.col("name") == "name 7"), 0),
    (pl.col("day") == DAY, 1),
    (pl.col("day") == DAY - dt.timedelta(days=1), 0),
    ((pl.col("day") == DAY) & (pl.col("name") == "name 8"), 0),
    ((pl.col("day") == DAY) & (pl.col("id") > 3), 1),
    ((pl.col("day") == DAY) | (pl.col("id") > 3), 3),
    (pl.col("name").is_null(), 3),
    (pl.col("day").is_null(), 0),
    (pl.col("f") == 1.75, 1),
    (pl.col("f") == 0.0, 3),
    (pl.col("n") != 5, 3),
    (pl.col("name").str.len_chars() == 6, 3),
    (pl.col("name") == pl.col("name"), 3),
]


@pytest.mark.parametrize("beside", [True, False])
@pytest.mark.parametrize(("predicate", "files"), PREDICATES, ids=[str(predicate) for predicate, _ in PREDICATES])
def test_files_that_cannot_match_are_not_read(predicate: pl.Expr, files: int, beside: bool) -> None:
    table = filled(a_table(**({} if beside else {"file-index.in-manifest-threshold": "1 mb"})))
    assert files_read(table, predicate) == files
    whole = table.scan().collect()
    assert table.scan().filter(predicate).collect().equals(whole.filter(predicate))


def test_a_large_index_lies_beside_its_file_and_a_small_one_in_the_manifest() -> None:
    for options, suffixes in (({"file-index.in-manifest-threshold": "1 mb"}, 0), ({}, 3)):
        table = filled(a_table(**options))
        entries = LiveFiles(table.store, table.schema).entries(table.latest_snapshot())
        names = table.store.io.list_names(table.files()["file_path"][0].rpartition("/")[0])
        assert sum(name.endswith(".index") for name in names) == suffixes
        assert [entry.file.extra_files for entry in entries] == [
            (f"{entry.file.file_name}.index",) if suffixes else () for entry in entries
        ]
        assert all((entry.file.embedded_index is None) == bool(suffixes) for entry in entries)


def test_indexes_that_are_switched_off_prune_nothing() -> None:
    assert files_read(filled(a_table(**{"file-index.read.enabled": "false"})), pl.col("n") == 5) == 3


def test_a_damaged_index_is_named() -> None:
    table = filled(a_table())
    path = table.files()["file_path"][1] + ".index"
    content = table.store.io.read_bytes(path)
    table.store.io.overwrite(path, content[:40])
    with pytest.raises(CorruptFile, match=re.escape(path)):
        table.scan().filter(pl.col("n") == 5).collect()
    assert table.scan().collect().height == 60


@pytest.mark.parametrize(
    ("option", "value", "reason"),
    [
        ("file-index.bloom-filter.columns", "x", "names 'x', which is not a column"),
        ("file-index.bloom-filter.columns", "name,,n", "names an empty column"),
        ("file-index.bloom-filter.name.fpp", "2", "between 0 and 1"),
        ("file-index.bloom-filter.name.items", "none", "expected a number"),
        ("file-index.range-bitmap.columns", "n", "use 'bloom-filter' or 'bitmap'"),
        ("file-index.hash.columns", "n", "names the kind 'hash'"),
        ("file-index.in-manifest-threshold", "much", "expected a number"),
    ],
)
def test_bad_options_are_refused(option: str, value: str, reason: str) -> None:
    with pytest.raises(InvalidOption, match=reason):
        a_table(**{option: value})

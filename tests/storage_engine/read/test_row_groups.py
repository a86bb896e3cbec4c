"""EXPLAIN counts the row groups that can match; the truth is what the row groups hold."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pyarrow.parquet as pq
import pytest

from storage_engine import Catalog, Table
from storage_engine.errors import CorruptFile
from storage_engine.store.formats import parquet

ROWS = 10_000


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    catalog = Catalog(str(tmp_path_factory.mktemp("row-groups")))
    catalog.execute("CREATE DATABASE db; USE db")
    for name, more in (("sorted", "'write-only' = 'false'"), ("overlapping", "'write-only' = 'true'")):
        catalog.execute(f"""CREATE TABLE {name} (id INT, n BIGINT, f DOUBLE, PRIMARY KEY (id) NOT ENFORCED)
            WITH ('bucket' = '1', {more})""")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(parquet, "_ROW_GROUP_ROWS", 1_000)
        table = catalog.table("sorted")
        table.write(rows(ROWS))
        table.compact(full=True)
        for _ in range(2):
            catalog.table("overlapping").write(rows(ROWS))
    return catalog


def rows(count: int) -> pl.DataFrame:
    ids = pl.int_range(count, dtype=pl.Int32, eager=True).alias("id")
    return pl.DataFrame([ids, (ids.cast(pl.Int64) * 2).alias("n"), (ids / 4).alias("f")])


def explained(catalog: Catalog, query: str) -> str | None:
    frame = catalog.execute(f"EXPLAIN {query}")
    assert frame is not None
    lines = [line for (line,) in frame.rows() if line.startswith("  row groups: ")]
    return lines[0].removeprefix("  row groups: ") if lines else None


def groups(table: Table, column: str, low: int, high: int) -> str:
    """Those that hold a value between two of a table's Parquet files, by reading them all."""
    found, everything = 0, 0
    paths = table.files()["file_path"]
    for path in paths:
        file = pq.ParquetFile(path)
        for number in range(file.num_row_groups):
            values = file.read_row_group(number, columns=[column])[column].to_numpy()
            everything += 1
            found += bool(values.min() <= high and values.max() >= low)
    assert everything > len(paths), "the files have one row group each, which shows nothing"
    return f"{found} of {everything} in {len(paths)} Parquet files"


@pytest.mark.parametrize(("column", "low", "high"), [("id", 7, 9), ("n", 1_500, 9_000), ("n", 1, 1), ("id", 0, ROWS)])
def test_groups_that_cannot_match_are_not_counted(catalog: Catalog, column: str, low: int, high: int) -> None:
    told = explained(catalog, f"SELECT f FROM sorted WHERE {column} BETWEEN {low} AND {high}")
    assert told == groups(catalog.table("sorted"), column, low, high)


def test_where_rows_are_merged_only_keys_rule_out(catalog: Catalog) -> None:
    table = catalog.table("overlapping")
    assert explained(catalog, "SELECT f FROM overlapping WHERE id <= 9 AND n <= 4") == groups(table, "id", 0, 9)
    assert explained(catalog, "SELECT f FROM overlapping WHERE n <= 4") == groups(table, "id", 0, ROWS)


def test_a_column_without_comparable_statistics_rules_nothing_out(catalog: Catalog) -> None:
    table = catalog.table("sorted")
    assert explained(catalog, "SELECT id FROM sorted WHERE f < 1") == groups(table, "id", 0, ROWS)
    assert explained(catalog, "SELECT id FROM sorted WHERE f < 1 AND id < 10") == groups(table, "id", 0, 9)


def test_nothing_is_read_without_a_predicate_or_without_parquet(catalog: Catalog) -> None:
    assert explained(catalog, "SELECT id FROM sorted") is None
    catalog.execute("CREATE TABLE orc (id INT) WITH ('file.format' = 'orc'); INSERT INTO orc VALUES (1)")
    assert explained(catalog, "SELECT id FROM orc WHERE id = 1") is None


def test_a_damaged_footer_is_named(catalog: Catalog) -> None:
    catalog.execute("CREATE TABLE damaged (id INT); INSERT INTO damaged VALUES (1)")
    path = Path(catalog.table("damaged").files()["file_path"][0])
    path.write_bytes(path.read_bytes()[:-8] + b"damaged!")
    with pytest.raises(CorruptFile, match=path.name):
        explained(catalog, "SELECT id FROM damaged WHERE id = 1")

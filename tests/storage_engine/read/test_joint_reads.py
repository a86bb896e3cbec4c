"""Files that need no merge are read as one scan: with the rows that a dict of keys has, and damage named as file by file."""

from __future__ import annotations

from pathlib import Path
from unittest.mock import patch

import polars as pl
import pytest

from storage_engine import Catalog, Table
from storage_engine.errors import StorageEngineError
from storage_engine.read import merge_read

ROWS = 300


@pytest.fixture(params=["none", "vectors", "append"])
def table(request: pytest.FixtureRequest, tmp_path: Path) -> Table:
    catalog = Catalog(str(tmp_path))
    catalog.create_database("db")
    options = {"bucket": "3", "bucket-key": "id"} if request.param == "append" else {"bucket": "3"}
    if request.param == "vectors":
        options["deletion-vectors.enabled"] = "true"
    keys = [] if request.param == "append" else ["id"]
    catalog.create_table("db.t", {"id": "BIGINT NOT NULL", "v": "STRING"}, primary_key=keys, options=options)
    table = catalog.table("db.t")
    table.write(pl.DataFrame({"id": range(ROWS), "v": ["old"] * ROWS}))
    if request.param != "append":
        table.write(pl.DataFrame({"id": range(0, ROWS, 7), "v": ["new"] * len(range(0, ROWS, 7))}))
        table.compact(full=request.param == "none")
    return table


def expected(table: Table) -> dict[int, str]:
    updated = range(0, ROWS, 7) if table.schema.primary_keys else ()
    return dict.fromkeys(range(ROWS), "old") | dict.fromkeys(updated, "new")


def joined(table: Table, frame: pl.LazyFrame) -> pl.DataFrame:
    """The rows of a query, all of whose files were read together."""
    with patch.object(merge_read.SplitReader, "read", side_effect=AssertionError("read one by one")):
        return frame.collect()


def test_all_rows_are_read_together(table: Table) -> None:
    found = joined(table, table.scan())
    assert dict(found.rows()) == expected(table)
    assert found.height == ROWS


def test_a_predicate_and_a_projection_reach_the_scan(table: Table) -> None:
    model = sorted(key for key, value in expected(table).items() if value == "old" and key >= 150)
    found = joined(table, table.scan().filter((pl.col("v") == "old") & (pl.col("id") >= 150)).select("id"))
    assert sorted(found["id"].to_list()) == model


def test_no_more_rows_are_read_than_asked_for(table: Table) -> None:
    found = joined(table, table.scan().head(10))
    assert found.height == 10
    assert set(found.rows()) <= set(expected(table).items())


def test_a_missing_file_is_named(table: Table) -> None:
    victim = Path(table.files()["file_path"][0])
    victim.unlink()
    with pytest.raises((StorageEngineError, pl.exceptions.ComputeError), match=victim.name):
        table.scan().collect()

"""Bounds of a column's values by the statistics of files, held against the values."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from storage_engine import Catalog, Table
from storage_engine.read.value_bounds import highest_value

COLUMNS = {"day": "STRING", "id": "BIGINT", "at": "BIGINT", "note": "STRING"}


def orders(folder: Path, **options: str) -> Table:
    catalog = Catalog(str(folder))
    catalog.create_database("db")
    return catalog.create_table("db.t", COLUMNS, primary_key=["day", "id"], partitioned_by=["day"], options=options)


def put(table: Table, day: str, *at: int | None) -> None:
    rows = [(day, number, value, "z" * 40) for number, value in enumerate(at)]
    table.write(pl.DataFrame(rows, schema=table.schema.polars_schema, orient="row"))


def highest(table: Table, column: str = "at", days: list[str] | None = None) -> tuple[bool, object]:
    partitions = None if days is None else pl.DataFrame({"day": days})
    return highest_value(table.store, table.schema, table.latest_snapshot(), column, partitions)


def test_the_highest_value_is_that_of_all_files_of_some_partitions(tmp_path: Path) -> None:
    table = orders(tmp_path)
    assert highest(table) == (True, None), "there are none"
    put(table, "a", 5, None, 3)
    put(table, "a", 9)
    put(table, "b", 20)
    put(table, "c", None)
    assert highest(table) == (True, 20)
    assert highest(table, days=["a", "c"]) == (True, 9)
    assert highest(table, days=["c"]) == (True, None)
    assert highest(table, days=["d"]) == (True, None)
    known, bound = highest(table, "note")
    assert known
    assert str(bound) > "z" * 40, "of a text that is cut"


@pytest.mark.parametrize("mode", ["none", "counts"])
def test_without_statistics_no_bound_is_known(tmp_path: Path, mode: str) -> None:
    table = orders(tmp_path, **{"metadata.stats-mode": mode})
    put(table, "a", 5)
    assert highest(table) == (False, None)


def test_a_column_that_came_later_has_the_values_of_later_files(tmp_path: Path) -> None:
    table = orders(tmp_path)
    put(table, "a", 5)
    catalog = Catalog(str(tmp_path))
    catalog.execute("ALTER TABLE db.t ADD more BIGINT")
    table = catalog.table("db.t")
    assert highest(table, "more") == (True, None)
    table.write(pl.DataFrame([("a", 7, 1, "", 4)], schema=table.schema.polars_schema, orient="row"))
    assert highest(table, "more") == (True, 4)

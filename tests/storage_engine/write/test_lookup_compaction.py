"""Compaction under the lookup strategies: a key is counted once, whatever levels it stands at."""

from __future__ import annotations

import uuid

import polars as pl
import pytest

from storage_engine import Catalog, Table

SCHEMA = {"id": pl.Int32(), "n": pl.Int64()}


def a_table(**options: str) -> Table:
    catalog = Catalog(f"memory://{uuid.uuid4()}")
    catalog.create_database("db")
    named = {name.replace("__", ".").replace("_", "-"): value for name, value in options.items()}
    catalog.create_table("db.t", {"id": "INT", "n": "BIGINT"}, primary_key=["id"], options={"bucket": "1", **named})
    return catalog.table("db.t")


def write(table: Table, *rows: tuple[int, int]) -> None:
    table.write(pl.DataFrame(rows, schema=SCHEMA, orient="row"))


MANY = [(key, 0) for key in range(100, 1000)]
"""So many rows that the files of later writes are too small to be compacted with theirs."""


def rows(table: Table) -> list[tuple[int, int]]:
    return sorted(table.scan().collect().filter(pl.col("id") < 100).iter_rows())


def levels(table: Table) -> list[int]:
    return sorted(table.files()["level"])


@pytest.mark.parametrize("mode", [{"changelog_producer": "lookup"}, {"deletion_vectors__enabled": "true"}])
def test_a_full_compaction_adds_no_level_to_what_was_merged_with_it(mode: dict[str, str]) -> None:
    table = a_table(merge_engine="aggregation", fields__n__aggregate_function="sum", **mode)
    write(table, (1, 10), (2, 1), *MANY)
    for _ in range(2):
        write(table, (1, 10), (2, 1))
    assert levels(table) == [4, 5]
    assert rows(table) == [(1, 30), (2, 3)]
    table.compact(full=True)
    assert levels(table) == [5]
    assert rows(table) == [(1, 30), (2, 3)]


@pytest.mark.parametrize("mode", [{}, {"changelog_producer": "lookup"}])
def test_first_row_keeps_one_row_of_a_key_that_comes_again(mode: dict[str, str]) -> None:
    table = a_table(merge_engine="first-row", **mode)
    write(table, (1, 10), *MANY)
    write(table, (1, 11), (2, 20))
    write(table, (2, 21), (1, 12), (3, 30))
    assert levels(table) == [4, 5]
    assert rows(table) == [(1, 10), (2, 20), (3, 30)]
    if mode:
        changes = table.changes(0).collect().filter(pl.col("id") < 100)
        assert changes["_row_kind"].to_list() == ["+I"] * 3
        assert changes["n"].to_list() == [10, 20, 30]
    table.compact(full=True)
    assert rows(table) == [(1, 10), (2, 20), (3, 30)]

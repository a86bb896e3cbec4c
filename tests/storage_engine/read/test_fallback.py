"""Partitions that a table lacks come from the branch that its option names; a partition that it has never does."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

import polars as pl
import pytest

from storage_engine import Catalog, Table
from storage_engine.errors import InvalidInput, InvalidOption
from storage_engine.spec.schema_change import AddColumn, RemoveOption, SetOption
from storage_engine.spec.types import parse_type

Rows = list[tuple[str, int, int]]
SCHEMA = {"day": pl.String, "id": pl.Int64, "v": pl.Int64}
MAIN: Rows = [("2024-01-02", 1, 10), ("2024-01-03", 1, 11)]
BEHIND: Rows = [("2024-01-01", 1, 20), ("2024-01-02", 1, 21), ("2024-01-02", 2, 22), ("2024-01-04", 3, 23)]
FILLED: Rows = [("2024-01-01", 1, 20), *MAIN, ("2024-01-04", 3, 23)]


def frame(rows: Rows) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")


def rows_of(lazy: pl.LazyFrame) -> Rows:
    return sorted(lazy.collect().rows())


@pytest.fixture(params=[("day", "id"), ()], ids=["primary key", "append"])
def catalog(request: pytest.FixtureRequest, tmp_path: Path) -> Catalog:
    """``db.t``, whose main has two days, and a branch with three, one of them the same."""
    catalog = Catalog(str(tmp_path))
    catalog.create_database("db")
    options = {"bucket": "2", "bucket-key": "id"}
    table = catalog.create_table("db.t", SCHEMA, primary_key=request.param, partitioned_by=["day"], options=options)
    table.create_branch("corrected")
    catalog.table("db.t$branch_corrected").write(frame(BEHIND))
    table.write(frame(MAIN))
    table.alter(SetOption(key="scan.fallback-branch", value="corrected"))
    return catalog


def table_of(catalog: Catalog) -> Table:
    return catalog.table("db.t")


def test_partitions_that_are_lacking_come_from_the_branch(catalog: Catalog) -> None:
    table = table_of(catalog)
    assert rows_of(table.scan()) == FILLED
    assert rows_of(catalog.sql("SELECT * FROM db.t")) == FILLED
    assert rows_of(table.scan(fallback=False)) == MAIN
    assert rows_of(catalog.table("db.t$branch_corrected").scan()) == BEHIND


PREDICATES: Mapping[str, tuple[pl.Expr, Rows]] = {
    "a day of the branch": (pl.col("day") == "2024-01-04", [("2024-01-04", 3, 23)]),
    "a day of both": (pl.col("day") == "2024-01-02", [("2024-01-02", 1, 10)]),
    "a value that only the hidden rows have": (pl.col("v") == 22, []),
    "values of both": (pl.col("v").is_in([11, 20, 21]), [("2024-01-01", 1, 20), ("2024-01-03", 1, 11)]),
}


@pytest.mark.parametrize(("predicate", "expected"), PREDICATES.values(), ids=PREDICATES)
def test_a_predicate_shows_no_partition_of_the_branch_that_the_table_has(
    predicate: pl.Expr, expected: Rows, catalog: Catalog
) -> None:
    assert rows_of(table_of(catalog).scan().filter(predicate)) == expected


def test_a_partition_that_is_written_hides_that_of_the_branch(catalog: Catalog) -> None:
    table = table_of(catalog)
    before = table.latest_snapshot()
    assert before is not None
    table.write(frame([("2024-01-04", 9, 90)]))
    assert rows_of(table.scan()) == [*FILLED[:-1], ("2024-01-04", 9, 90)]
    assert rows_of(table.scan(snapshot=before.id)) == FILLED


def test_a_moment_is_that_of_both(catalog: Catalog) -> None:
    table = table_of(catalog)
    table.create_tag("now")
    seen = table.latest_snapshot()
    assert seen is not None
    while int(time.time() * 1000) <= seen.time_millis:
        continue
    catalog.table("db.t", branch="corrected").write(frame([("2024-01-05", 1, 50)]))
    assert rows_of(table.scan()) == [*FILLED, ("2024-01-05", 1, 50)]
    assert rows_of(table.scan(tag="now")) == rows_of(table.scan(timestamp=seen.time_millis)) == FILLED


def test_what_changes_rows_sees_the_table_alone(catalog: Catalog) -> None:
    table = table_of(catalog)
    assert table.changes(0).collect().height == len(MAIN)
    assert table.lookup(frame(BEHIND).select("day", "id")).height == 1
    assert table.delete(pl.col("day") == "2024-01-04") is None
    table.delete(pl.col("v") == 11)
    assert ("2024-01-04", 3, 23) in rows_of(table.scan())


def test_explain_tells_of_both(catalog: Catalog) -> None:
    told = catalog.execute("EXPLAIN SELECT v FROM db.t WHERE `day` = '2024-01-04'")
    assert told is not None
    text = "\n".join(told.to_series().to_list())
    assert "db.t at snapshot" in text
    assert "db.t$branch_corrected at snapshot" in text


def test_a_branch_that_is_not_there_is_named(catalog: Catalog) -> None:
    table = table_of(catalog)
    table.alter(SetOption(key="scan.fallback-branch", value="nowhere"))
    with pytest.raises(InvalidOption, match=r"table db.t: there is no branch 'nowhere'.*reset the option"):
        table.scan()
    assert rows_of(table.scan(fallback=False)) == MAIN


def test_a_branch_with_other_columns_is_refused(catalog: Catalog) -> None:
    catalog.table("db.t", branch="corrected").alter(AddColumn(path=("more",), type=parse_type("INT")))
    with pytest.raises(
        InvalidOption, match=r"has the columns day String, id Int64, v Int64, more Int32; the table has"
    ):
        table_of(catalog).scan()


def test_the_branch_is_not_deleted_while_reads_fall_back_to_it(catalog: Catalog) -> None:
    table = table_of(catalog)
    with pytest.raises(InvalidInput, match="reads fall back to the branch 'corrected'; reset the option"):
        table.delete_branch("corrected")
    table.alter(RemoveOption(key="scan.fallback-branch"))
    table.delete_branch("corrected")
    assert rows_of(table.scan()) == MAIN

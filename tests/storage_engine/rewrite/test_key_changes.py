"""DELETE and UPDATE of primary-key tables: what is changed, and what is refused."""

from __future__ import annotations

import uuid
from typing import Any

import polars as pl
import pytest

from storage_engine import Catalog, Table
from storage_engine.errors import InvalidInput, InvalidRows, Unsupported

COLUMNS = {"day": "STRING", "id": "INT", "name": "STRING", "n": "BIGINT"}
ROWS = [("a", 1, "x", 10), ("a", 2, "y", None), ("b", 1, None, 30), ("b", 3, "z", 40)]


def a_table(**options: str) -> Table:
    catalog = Catalog(f"memory://{uuid.uuid4()}")
    catalog.create_database("db")
    named = {name.replace("__", ".").replace("_", "-"): value for name, value in options.items()}
    catalog.create_table(
        "db.t", COLUMNS, primary_key=["day", "id"], partitioned_by=["day"], options={"bucket": "2", **named}
    )
    table = catalog.table("db.t")
    table.write(pl.DataFrame(ROWS, schema=["day", "id", "name", "n"], orient="row"))
    return table


def rows(table: Table) -> list[tuple[Any, ...]]:
    return sorted(table.scan().collect().iter_rows(), key=lambda row: row[:2])


DELETING = {
    "deduplicate": {},
    "lookup changelog": {"changelog_producer": "lookup"},
    "deletion vectors": {"deletion_vectors__enabled": "true"},
    "partial-update": {"merge_engine": "partial-update", "partial_update__remove_record_on_delete": "true"},
    "aggregation": {"merge_engine": "aggregation", "aggregation__remove_record_on_delete": "true"},
    "sequence group": {
        "merge_engine": "partial-update",
        "fields__n__sequence_group": "name",
        "partial_update__remove_record_on_sequence_group": "n",
    },
}


@pytest.mark.parametrize("options", DELETING.values(), ids=DELETING)
def test_delete_removes_what_the_predicate_selects(options: dict[str, str]) -> None:
    table = a_table(**options)
    assert table.delete(pl.col("n") >= 30) is not None
    assert rows(table) == ROWS[:2]
    assert table.delete(pl.col("n") >= 30) is None
    assert table.delete(pl.col("name") == "x") is not None
    assert rows(table) == ROWS[1:2]


REFUSING = {
    "first-row": ({"merge_engine": "first-row"}, "first-row"),
    "partial-update": ({"merge_engine": "partial-update"}, "partial-update.remove-record-on-delete"),
    "aggregation": ({"merge_engine": "aggregation"}, "aggregation.remove-record-on-delete"),
    "ignored": ({"ignore_delete": "true"}, "ignore-delete"),
}


@pytest.mark.parametrize(("options", "said"), REFUSING.values(), ids=REFUSING)
def test_delete_is_refused_where_it_would_not_delete(options: dict[str, str], said: str) -> None:
    table = a_table(**options)
    with pytest.raises(Unsupported, match=said):
        table.delete(pl.col("id") == 1)
    assert rows(table) == ROWS


def test_update_sets_columns_from_the_old_row() -> None:
    table = a_table(changelog_producer="lookup")
    before = table.latest_snapshot()
    assert before is not None
    snapshot = table.update(pl.col("id") == 1, {"n": pl.col("n") * 2, "name": pl.concat_str("day", pl.col("n"))})
    assert snapshot is not None
    assert rows(table) == [("a", 1, "a10", 20), ROWS[1], ("b", 1, "b30", 60), ROWS[3]]
    changes = table.changes(before.id).collect()
    assert sorted(changes["_row_kind"]) == ["+U", "+U", "-U", "-U"]
    assert table.update(pl.col("id") == 77, {"n": pl.lit(0)}) is None


def test_update_takes_null_and_a_lone_value() -> None:
    table = a_table()
    table.update(pl.lit(value=True), {"name": pl.lit(None), "n": pl.lit(7)})
    assert rows(table) == [(day, id_, None, 7) for day, id_, *_ in ROWS]


def test_a_partial_update_cannot_set_null() -> None:
    table = a_table(merge_engine="partial-update")
    table.update(pl.col("id") == 3, {"n": pl.lit(5)})
    with pytest.raises(InvalidRows, match="'name' cannot be set to NULL"):
        table.update(pl.col("id") == 3, {"name": pl.lit(None)})
    assert rows(table)[3] == ("b", 3, "z", 5)


@pytest.mark.parametrize(
    ("assignments", "said"),
    [
        ({"id": pl.lit(1)}, "primary key"),
        ({"day": pl.lit("c")}, "primary key"),
        ({"x": pl.lit(1)}, "no column"),
        ({}, "at least"),
    ],
)
def test_update_refuses_keys_and_unknown_columns(assignments: dict[str, pl.Expr], said: str) -> None:
    table = a_table()
    with pytest.raises(InvalidInput, match=said):
        table.update(pl.col("id") == 1, assignments)


def test_update_refuses_values_that_do_not_fit() -> None:
    table = a_table()
    with pytest.raises(InvalidRows, match="'n'"):
        table.update(pl.col("id") == 1, {"n": pl.lit(0.5)})
    assert rows(table) == ROWS


@pytest.mark.parametrize("engine", ["aggregation", "first-row"])
def test_update_is_refused_where_a_new_row_would_not_replace_the_old(engine: str) -> None:
    table = a_table(merge_engine=engine)
    with pytest.raises(Unsupported, match=engine):
        table.update(pl.col("id") == 1, {"n": pl.lit(1)})

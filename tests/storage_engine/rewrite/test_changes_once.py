"""``delete`` and ``update`` with a commit user and identifier: done once, however often they are tried."""

from __future__ import annotations

import uuid
from typing import Any

import polars as pl
import pytest

from storage_engine import Catalog, Table
from storage_engine.errors import InvalidInput

KINDS: dict[str, tuple[list[str], dict[str, str]]] = {
    "primary key": (["id"], {"bucket": "2"}),
    "lookup changelog": (["id"], {"bucket": "1", "changelog-producer": "lookup"}),
    "append": ([], {"bucket": "-1"}),
    "append with deletion vectors": ([], {"bucket": "-1", "deletion-vectors.enabled": "true"}),
}


@pytest.fixture(params=KINDS.values(), ids=KINDS)
def table(request: pytest.FixtureRequest) -> Table:
    keys, options = request.param
    catalog = Catalog(f"memory://{uuid.uuid4()}")
    catalog.create_database("db")
    catalog.create_table("db.t", {"id": "INT", "n": "INT"}, primary_key=keys, options=options)
    table = catalog.table("db.t")
    table.write(pl.DataFrame({"id": [1, 2, 3], "n": [10, 20, 30]}))
    return table


def rows(table: Table) -> list[tuple[Any, ...]]:
    return table.scan().sort("id").collect().rows()


def test_an_update_that_is_tried_again_counts_once(table: Table) -> None:
    once = {"commit_user": "raise", "commit_identifier": 7}
    snapshot = table.update(pl.col("id") > 1, {"n": pl.col("n") + 1}, **once, properties={"why": "index"})
    assert snapshot is not None
    assert snapshot.properties["why"] == "index"
    assert table.last_committed("raise") == 7
    assert table.update(pl.col("id") > 1, {"n": pl.col("n") + 1}, **once) is None
    assert rows(table) == [(1, 10), (2, 21), (3, 31)]
    assert table.update(pl.col("id") > 1, {"n": pl.col("n") + 1}, commit_user="raise", commit_identifier=8) is not None
    assert rows(table) == [(1, 10), (2, 22), (3, 32)]


def test_a_delete_that_is_tried_again_leaves_later_rows_alone(table: Table) -> None:
    once = {"commit_user": "clean", "commit_identifier": 0}
    assert table.delete(pl.col("n") >= 20, **once) is not None
    table.write(pl.DataFrame({"id": [4], "n": [40]}))
    assert table.delete(pl.col("n") >= 20, **once) is None
    assert rows(table) == [(1, 10), (4, 40)]


def test_an_identifier_counts_even_where_no_row_was_selected(table: Table) -> None:
    once = {"commit_user": "clean", "commit_identifier": 3}
    assert table.delete(pl.col("n") > 99, **once) is not None
    table.write(pl.DataFrame({"id": [4], "n": [100]}))
    assert table.delete(pl.col("n") > 99, **once) is None
    assert rows(table)[-1] == (4, 100)
    assert table.delete(pl.col("n") > 999) is None


def test_an_identifier_needs_its_user(table: Table) -> None:
    with pytest.raises(InvalidInput, match="commit_user"):
        table.delete(pl.col("id") == 1, commit_identifier=1)
    assert len(rows(table)) == 3

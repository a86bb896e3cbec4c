"""Checks as facts about a warehouse."""

from __future__ import annotations

import polars as pl
import pytest

from lakehouse_assets.checks import Totals, key_unique, layers_agree, stream_lag
from lakehouse_assets.stream.declaration import Stream
from lakehouse_assets.stream.runner import run_batch
from storage_engine import Catalog


def copied(rows: pl.DataFrame) -> pl.DataFrame:
    return rows


STREAM = Stream(source="db.a", target="db.b", transform=copied)
AGREE = layers_agree(
    Totals(table="db.a", sums={"n": pl.col("n")}, where=pl.col("n") > 0),
    Totals(table="db.b", sums={"n": pl.col("n")}),
    STREAM,
)


@pytest.fixture
def tables(catalog: Catalog) -> Catalog:
    catalog.create_database("db")
    for name in ("db.a", "db.b"):
        catalog.create_table(
            name,
            {"id": "STRING", "n": "BIGINT"},
            primary_key=["id"],
            options={"bucket": "1", "changelog-producer": "lookup"},
        )
    return catalog


def put(catalog: Catalog, table: str, **rows: int) -> None:
    catalog.table(table).write(pl.DataFrame({"id": list(rows), "n": list(rows.values())}))


def test_keys_are_unique_in_a_keyed_table(tables: Catalog) -> None:
    put(tables, "db.a", x=1, y=2)
    put(tables, "db.a", x=3)
    outcome = key_unique("db.a").run(tables)
    assert (outcome.passed, outcome.numbers) == (True, {"rows": 2, "repeated": 0})


def test_repeated_keys_are_counted(tables: Catalog) -> None:
    tables.create_table("db.keyless", {"id": "STRING"}, options={"bucket": "1", "bucket-key": "id"})
    tables.table("db.keyless").write(pl.DataFrame({"id": ["x", "x", "y"]}))
    outcome = key_unique("db.keyless", columns=["id"]).run(tables)
    assert (outcome.passed, outcome.numbers["repeated"]) == (False, 1)


def test_lag_is_what_waits_in_the_source(tables: Catalog) -> None:
    put(tables, "db.a", x=1)
    run_batch(tables, STREAM)
    put(tables, "db.a", x=2, y=3, z=4)
    assert stream_lag(STREAM, rows_max=4).run(tables).passed
    outcome = stream_lag(STREAM, rows_max=3).run(tables)
    assert (outcome.passed, outcome.warning, outcome.numbers) == (False, True, {"rows_behind": 4})


def test_layers_are_compared_at_what_was_consumed(tables: Catalog) -> None:
    assert AGREE.run(tables).passed
    put(tables, "db.a", x=1, y=2)
    run_batch(tables, STREAM)
    put(tables, "db.a", x=100)
    assert AGREE.run(tables).passed
    put(tables, "db.b", x=50)
    outcome = AGREE.run(tables)
    assert not outcome.passed
    assert outcome.description == "n is 52, expected 3"
    assert outcome.numbers == {"n_difference": 49.0}

"""Checks as facts about a warehouse."""

from __future__ import annotations

from datetime import datetime

import polars as pl
import pytest

from lakehouse_assets.checks import Totals, hit_rate, key_unique, late_rows, layers_agree, stream_lag
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


def test_hits_are_counted_among_all_rows(tables: Catalog) -> None:
    assert hit_rate("db.a", "n").run(tables).passed
    tables.table("db.a").write(pl.DataFrame({"id": ["x", "y", "z"], "n": [1, None, 3]}))
    outcome = hit_rate("db.a", "n", least=0.7).run(tables)
    assert (outcome.passed, outcome.warning, outcome.numbers["misses"]) == (False, True, 1)
    assert hit_rate("db.a", "n", least=0.6).run(tables).passed


def test_rows_that_come_long_after_their_day_are_counted(tables: Catalog) -> None:
    columns = {"day_": "STRING", "id": "STRING", "at": "TIMESTAMP(3)"}
    tables.create_table("db.late", columns, primary_key=["id"], options={"bucket": "1"})
    times = [datetime(2024, 1, 1, 23), datetime(2024, 1, 2, 1), datetime(2024, 1, 3, 1)]
    rows = pl.DataFrame({"day_": ["2024-01-01"] * 3, "id": ["a", "b", "c"], "at": times})
    tables.table("db.late").write(rows.cast({"at": pl.Datetime("ms")}))
    outcome = late_rows("db.late", day="day_", time="at").run(tables)
    assert (outcome.passed, outcome.numbers) == (False, {"late_rows": 1})
    assert late_rows("db.late", day="day_", time="at", days_max=2).run(tables).passed

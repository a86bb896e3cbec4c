"""Compaction and reading in bounded memory give what they give in one piece, whatever the table keeps."""

from __future__ import annotations

import random
import uuid
from collections.abc import Iterator
from typing import Any

import polars as pl
import pytest

from storage_engine import Catalog, Table
from storage_engine.store.data_files import DataFiles

SCHEMA = {"id": pl.Int32(), "name": pl.String(), "n": pl.Int64(), "seq": pl.Int32(), "_row_kind": pl.String()}
COLUMNS = {"id": "INT", "name": "STRING", "n": "BIGINT", "seq": "INT"}
TINY = {"write-buffer-size": "16 kb"}
"""No file fits: every merge takes a few rows at once."""
TABLES: dict[str, dict[str, str]] = {
    "deduplicate": {"sequence.field": "seq"},
    "partial-update": {"merge-engine": "partial-update", "ignore-delete": "true"},
    "aggregation": {"merge-engine": "aggregation", "fields.n.aggregate-function": "sum", "ignore-delete": "true"},
    "first-row": {"merge-engine": "first-row", "ignore-delete": "true"},
    "lookup": {"changelog-producer": "lookup"},
    "first-row with changelog": {"merge-engine": "first-row", "ignore-delete": "true", "changelog-producer": "lookup"},
    "full-compaction": {"changelog-producer": "full-compaction", "num-sorted-run.compaction-trigger": "99"},
    "deletion vectors": {"deletion-vectors.enabled": "true"},
    "deletion vectors with changelog": {"deletion-vectors.enabled": "true", "changelog-producer": "lookup"},
    "aggregation with lookup": {
        "merge-engine": "aggregation",
        "fields.n.aggregate-function": "sum",
        "ignore-delete": "true",
        "changelog-producer": "lookup",
    },
    "orc": {"file.format": "orc"},
    "inline writing": {"async-file-write": "false"},
}


def a_table(**options: str) -> Table:
    catalog = Catalog(f"memory://{uuid.uuid4()}")
    catalog.create_database("db")
    catalog.create_table("db.t", COLUMNS, primary_key=["id"], options={"bucket": "1", **options})
    return catalog.table("db.t")


def some_rows(seed: int) -> pl.DataFrame:
    chance = random.Random(seed)
    rows: list[tuple[Any, ...]] = [
        (
            chance.randrange(30),
            chance.choice([None, "é", "name"]),
            chance.randrange(5),
            chance.randrange(9),
            chance.choice(["+I", "+U", "+U", "-D"]),
        )
        for _ in range(chance.randrange(1, 25))
    ]
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")


def state(table: Table) -> list[Any]:
    changes = table.changes(0).collect() if table.schema.table_options.changelog_producer != "none" else None
    return [
        sorted(table.scan().collect().iter_rows()),
        None if changes is None else changes.rows(),
        table.scan().filter(pl.col("id") == 7).collect().rows(),
        table.scan().head(3).collect().height,
    ]


@pytest.mark.parametrize("kind", TABLES)
def test_ranges_of_keys_give_what_one_piece_gives(kind: str) -> None:
    whole, streamed = a_table(**TABLES[kind]), a_table(**TABLES[kind], **TINY)
    for step in range(8):
        for table in (whole, streamed):
            table.write(some_rows(step))
            if step == 5:
                table.compact(full=True)
        if step > 3:
            assert state(streamed) == state(whole), step


def test_the_head_of_a_large_bucket_is_read_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    table = a_table(**{"write-buffer-size": "64 kb", "write-only": "true"})
    frame = pl.DataFrame({"id": pl.int_range(20_000, dtype=pl.Int32, eager=True)})
    for n in range(2):
        table.write(frame.with_columns(n=pl.lit(n, pl.Int64)))
    read: list[int] = []
    portions = DataFiles.read_portions

    def counted(*args: Any, **named: Any) -> Iterator[pl.DataFrame]:
        for rows in portions(*args, **named):
            read.append(rows.height)
            yield rows

    monkeypatch.setattr(DataFiles, "read_portions", counted)
    assert table.scan().head(5).collect()["n"].to_list() == [1] * 5
    assert 0 < sum(read) < 10_000
    assert table.scan().select("n").collect()["n"].to_list() == [1] * 20_000
    assert sum(read) > 40_000
    assert max(read) < 2_000

"""Seeded input: upserts of a ten-column table, the same rows for every engine, kept as Arrow files."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa

CITIES = np.array(["Seoul", "Busan", "Incheon", "Daegu", "Daejeon", "Gwangju"])
COLUMNS = {
    "id": "BIGINT NOT NULL",
    "member_id": "STRING",
    "city": "STRING",
    "note": "STRING",
    "amount": "DECIMAL(20, 4)",
    "quantity": "INT",
    "ratio": "DOUBLE",
    "flag": "BOOLEAN",
    "score": "BIGINT",
    "event_time": "TIMESTAMP(3)",
}
BASE = {"bucket": "4", "sequence.field": "event_time", "write-only": "true"}
"""``write-only``: no peer compacts while it writes, so nobody does, and the runs overlap when they are read."""
MERGE_ENGINES: Mapping[str, Mapping[str, str]] = {
    "deduplicate": BASE,
    "partial-update": {**BASE, "merge-engine": "partial-update"},
    "aggregation": {
        **BASE,
        "merge-engine": "aggregation",
        "fields.amount.aggregate-function": "sum",
        "fields.quantity.aggregate-function": "max",
        "fields.ratio.aggregate-function": "min",
        "fields.flag.aggregate-function": "bool_or",
        "fields.score.aggregate-function": "sum",
        "fields.default-aggregate-function": "last_non_null_value",
    },
}
_PARTIAL_SHARE = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Upserts:
    """``count`` batches of ``rows`` distinct keys each, drawn from the same ``keys`` (one batch: all in random order).

    ``partial``: half of the values are null, as in pieces of rows.
    """

    count: int
    rows: int
    keys: int
    partial: bool = False
    seed: int = 7
    first_key: int = 0

    def write(self, folder: Path) -> list[str]:
        """Write one Arrow file for each batch; returns their paths."""
        folder.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(self.seed)
        paths = []
        for number in range(self.count):
            path = folder / f"{number}.arrow"
            with pa.ipc.new_file(path, (table := self.batch(rng, number)).schema) as file:
                file.write_table(table)
            paths.append(str(path))
        return paths

    def batch(self, rng: np.random.Generator, number: int) -> pa.Table:
        """One batch."""
        event_time = 1_700_000_000_000 + number * 3_600_000 + rng.integers(0, 7_200_000, self.rows)
        drawn = {
            "id": self.first_key + rng.choice(self.keys, size=self.rows, replace=False).astype(np.int64),
            "member_id": rng.integers(0, 50_000, self.rows),
            "city": rng.integers(0, len(CITIES), self.rows),
            "note": rng.integers(0, 1_000_000, self.rows),
            "amount": rng.integers(0, 10_000_000, self.rows),
            "quantity": rng.integers(1, 10, self.rows).astype(np.int32),
            "ratio": rng.random(self.rows),
            "flag": rng.random(self.rows) < 0.5,
            "score": rng.integers(0, 1000, self.rows),
            "event_time": event_time,
        }
        frame = pl.DataFrame(drawn).with_columns(
            pl.format("m-{}", "member_id").alias("member_id"),
            pl.lit(pl.Series(CITIES)).gather(pl.col("city")).alias("city"),
            pl.format("order note number {}", "note").alias("note"),
            (pl.col("amount") / 10_000).cast(pl.Decimal(20, 4)),
            pl.col("event_time").cast(pl.Datetime("ms")),
        )
        if self.partial:
            values = [name for name in frame.columns if name not in ("id", "event_time")]
            present = {name: pl.Series(name, rng.random(self.rows) < _PARTIAL_SHARE) for name in values}
            frame = frame.with_columns(pl.when(mask).then(pl.col(name)).alias(name) for name, mask in present.items())
        return frame.to_arrow(compat_level=pl.CompatLevel.oldest()).cast(ARROW_SCHEMA)


ARROW_SCHEMA = pa.schema(
    [
        ("id", pa.int64()),
        ("member_id", pa.string()),
        ("city", pa.string()),
        ("note", pa.string()),
        ("amount", pa.decimal128(20, 4)),
        ("quantity", pa.int32()),
        ("ratio", pa.float64()),
        ("flag", pa.bool_()),
        ("score", pa.int64()),
        ("event_time", pa.timestamp("ms")),
    ]
)


def create_table(warehouse: str | Path, options: Mapping[str, str]) -> None:
    """Write schema 0 of ``db.t``: the same file for every engine."""
    folder = f"{warehouse}/db.db/t/schema"
    os.makedirs(folder)
    schema = {
        "version": 3,
        "id": 0,
        "fields": [{"id": i, "name": name, "type": text} for i, (name, text) in enumerate(COLUMNS.items())],
        "highestFieldId": len(COLUMNS) - 1,
        "partitionKeys": [],
        "primaryKeys": ["id"],
        "options": dict(options),
        "timeMillis": 0,
    }
    with open(f"{folder}/schema-0", "w", encoding="utf-8") as file:
        json.dump(schema, file)

"""Seeded input: overlapping upserts of a ten-column table, the same Arrow tables for every engine."""

from __future__ import annotations

import json
import os

import numpy as np
import pyarrow as pa

BATCHES, ROWS, KEYS = 5, 200_000, 400_000
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
OPTIONS = {"bucket": "4", "sequence.field": "event_time", "write-only": "true"}
"""``write-only``: no peer compacts while it writes, so nobody does, and five runs overlap when they are read."""


def batches(count: int = BATCHES, rows: int = ROWS, keys: int = KEYS, seed: int = 7) -> list[pa.Table]:
    """Upserts of distinct keys each, drawn from the same range of keys."""
    rng = np.random.default_rng(seed)
    return [_batch(rng, number, rows, keys) for number in range(count)]


def _batch(rng: np.random.Generator, number: int, rows: int, keys: int) -> pa.Table:
    event_time = 1_700_000_000_000 + number * 3_600_000 + rng.integers(0, 7_200_000, rows)
    unscaled = np.zeros((rows, 2), np.int64)
    unscaled[:, 0] = rng.integers(0, 10_000_000, rows)
    amount = pa.Array.from_buffers(pa.decimal128(20, 4), rows, [None, pa.py_buffer(unscaled.tobytes())])
    return pa.table(
        {
            "id": pa.array(rng.choice(keys, size=rows, replace=False).astype(np.int64)),
            "member_id": pa.array(np.char.add("m-", rng.integers(0, 50_000, rows).astype(str))),
            "city": pa.array(CITIES[rng.integers(0, len(CITIES), rows)]),
            "note": pa.array(np.char.add("order note number ", rng.integers(0, 1_000_000, rows).astype(str))),
            "amount": amount,
            "quantity": pa.array(rng.integers(1, 10, rows).astype(np.int32)),
            "ratio": pa.array(rng.random(rows)),
            "flag": pa.array(rng.random(rows) < 0.5),
            "score": pa.array(rng.integers(0, 1000, rows)),
            "event_time": pa.array(event_time, pa.timestamp("ms")),
        }
    )


def create_table(warehouse: str) -> None:
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
        "options": OPTIONS,
        "timeMillis": 0,
    }
    with open(f"{folder}/schema-0", "w", encoding="utf-8") as file:
        json.dump(schema, file)

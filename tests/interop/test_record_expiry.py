"""Rows that are too old: whichever engine compacts, the same ones are left."""

from __future__ import annotations

import time

import polars as pl
import pytest

from tests.interop.both import Both
from tests.interop.flink.canonical import canon
from tests.interop.test_types import ENGINES
from tests.interop.workload import Column, ddl

COLUMNS = {
    "id": Column(sql="INT NOT NULL", dtype=pl.Int32(), values=[]),
    "at": Column(sql="BIGINT", dtype=pl.Int64(), values=[]),
}


@pytest.mark.feature("Compaction", "records expired by their age, {producer}")
@pytest.mark.parametrize("producer", ["none", "lookup"])
def test_the_same_rows_are_too_old(both: Both, producer: str) -> None:
    now = int(time.time())
    old, new = now - 200_000, now - 3_600
    frame = pl.DataFrame(
        {"id": range(6), "at": [old, new, None, old * 1000, new * 1000, 0]}, schema={"id": pl.Int32, "at": pl.Int64}
    )
    options = {
        "bucket": "1",
        "changelog-producer": producer,
        "record-level.expire-time": "1 d",
        "record-level.time-field": "at",
    }
    for engine in ENGINES:
        shared = both.create(f"db.{engine}", ddl(COLUMNS, ["id"]), options)
        shared.write(frame[:4], by="ours")
        shared.write(frame[2:], by="paimon")
        shared.compact(by=engine)
        assert shared.rows() == canon(frame.filter(pl.col("id").is_in([1, 2, 4])))

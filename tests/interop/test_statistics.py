"""ANALYZE TABLE by either engine: the same statistics, which the other one reads and keeps."""

from __future__ import annotations

import datetime as dt
import json
from typing import Any

import polars as pl
import pytest

from tests.interop.both import Both
from tests.interop.flink.canonical import canon, in_order

ANALYZE = "ANALYZE TABLE db.t COMPUTE STATISTICS FOR ALL COLUMNS"
COLUMNS = "id INT, name STRING, ratio DOUBLE, n BIGINT, day DATE, flag BOOLEAN, PRIMARY KEY (id) NOT ENFORCED"
ROWS = [
    (1, "a", 1.5, None, dt.date(2024, 1, 1), True),
    (2, "éé", -0.25, 7, None, True),
    (3, None, None, 2**62, dt.date(1969, 12, 31), None),
]


@pytest.mark.feature("System tables", "ANALYZE TABLE")
def test_statistics(both: Both) -> None:
    shared = both.create("db.t", COLUMNS, {"bucket": "1"})
    shared.write(pl.DataFrame(ROWS, schema=shared.table.schema.polars_schema, orient="row"), by="ours")
    both.ours.execute(ANALYZE)
    analyzed = shared.table.latest_snapshot()
    assert analyzed is not None
    assert analyzed.statistics is not None
    ours = statistics(both)
    both.flink.sql("INSERT INTO db.t VALUES (1, 'a', 1.5, CAST(NULL AS BIGINT), DATE '2024-01-01', TRUE)")
    latest = shared.table.latest_snapshot()
    assert latest is not None
    assert latest.id > analyzed.id
    assert latest.statistics == analyzed.statistics
    assert len(shared.rows()) == len(ROWS)
    both.flink.sql(ANALYZE)
    assert statistics(both) == ours


def statistics(both: Both) -> Any:
    """The statistics of the columns, after comparing what the two engines read."""
    ours = both.ours.table("db.t$statistics").scan().collect()
    assert canon(ours) == in_order(both.flink.read("db.t$statistics").rows)
    return json.loads(ours["colstat"].item())

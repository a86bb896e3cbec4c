"""``ROW_NUMBER() … = 1`` over a log whose rows come in any order of time, beside DuckDB."""

from __future__ import annotations

import random
import uuid

import duckdb
import polars as pl

from lakehouse_assets.flink_sql import read_project
from lakehouse_assets.stream.runner import run_batch
from storage_engine import Catalog

TABLES = """
CREATE TABLE log (a STRING, n INT, t BIGINT) WITH ('bucket' = '-1');
CREATE TABLE newest (a STRING, n INT, t BIGINT, PRIMARY KEY (a) NOT ENFORCED) WITH ('bucket' = '1', 'sequence.field' = 't');
"""
QUERY = """
SELECT a, n, t FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY a ORDER BY t DESC) AS r FROM log WHERE n <> 4)
WHERE r = 1 AND a <> 'b'
"""
"""Which rows count is chosen within; beside the number stands what holds of all rows of a key, or of none."""


def test_the_newest_row_of_some_keys_is_what_duckdb_gives() -> None:
    declared = read_project({"ddl.sql": TABLES, "app.sql": f"INSERT INTO newest {QUERY}"}, name="p")
    catalog, chance = Catalog(f"memory://{uuid.uuid4()}"), random.Random(4)
    catalog.execute(declared.ddl)
    times = chance.sample(range(100), 100)
    rows = pl.DataFrame(
        [(chance.choice("abc"), chance.randrange(9), at) for at in times], orient="row", schema=["a", "n", "t"]
    )
    (stream,) = declared.streams
    for slice_ in rows.iter_slices(20):
        catalog.table("default.log").write(slice_.cast({"n": pl.Int32}))
        run_batch(catalog, stream)
    connection = duckdb.connect()
    connection.register("log", rows)
    assert catalog.table("default.newest").scan().collect().sort("a").rows() == sorted(connection.sql(QUERY).fetchall())

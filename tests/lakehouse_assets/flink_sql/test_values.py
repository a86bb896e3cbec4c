"""Values of expressions where Flink has rules of its own; what is expected is what a run of Flink gave."""

from __future__ import annotations

import datetime as dt
import json
import uuid
from decimal import ROUND_HALF_UP, Decimal
from random import Random

import polars as pl
import pytest

from lakehouse_assets.flink_sql import read_project
from lakehouse_assets.stream.runner import run_batch
from storage_engine import Catalog

SOURCE = """CREATE TABLE s (
    k INT, i INT, b BIGINT, d DECIMAL(10, 2), f DOUBLE, s STRING, ts TIMESTAMP(3), PRIMARY KEY (k) NOT ENFORCED
) WITH ('bucket' = '1');"""
ROW = (1, 3, 7, Decimal("2.50"), 2.5, "abc", dt.datetime(2024, 1, 31, 23, 59, 58, 120000))
FIELDS = {"a": "x", "o": {"p": 1}, "l": [1, "two"], "t": True, "n": None, "e": {}, "j": '{"b": 1}'}
JSON = f"'{json.dumps(FIELDS)}'"


def computed(expression: str, *rows: tuple[object, ...], sql: str = "STRING") -> list[object]:
    """The values of an expression over some rows, in their order."""
    target = f"CREATE TABLE t (k INT, x {sql}, PRIMARY KEY (k) NOT ENFORCED) WITH ('bucket' = '1');"
    declared = read_project({"a.sql": f"{SOURCE}{target}INSERT INTO t SELECT k, {expression} FROM s"}, name="p")
    catalog = Catalog(f"memory://{uuid.uuid4()}")
    catalog.execute(declared.ddl)
    table = catalog.table("default.s")
    table.write(pl.DataFrame(rows or [ROW], schema=table.schema.polars_schema, orient="row"))
    run_batch(catalog, declared.streams[0])
    return catalog.table("default.t").scan().sort("k").collect()["x"].to_list()


TEXTS = {
    "CAST(s AS VARCHAR(2))": "ab", "CAST(s AS CHAR(5))": "abc  ", "CAST('abc' AS CHAR)": "a", "CAST('abc' AS VARCHAR)": "abc",
    "CAST(ts AS VARCHAR(10))": "2024-01-31", "TRY_CAST(s AS VARCHAR(2))": "ab", "CAST(i > 2 AS VARCHAR(2))": "TR",
    f"JSON_VALUE({JSON}, 'lax $.a')": "x", f"JSON_VALUE({JSON}, '$.o')": None, f"JSON_VALUE({JSON}, '$.l')": None,
    f"JSON_VALUE({JSON}, '$.l[1]')": "two", f"JSON_VALUE({JSON}, '$.t')": "true", f"JSON_VALUE({JSON}, '$.n')": None,
    f"JSON_VALUE({JSON}, '$.e')": None, f"JSON_VALUE({JSON}, '$.j')": '{"b": 1}',
    "CAST(f * 100000000000 AS STRING)": "2.5E11", "CAST(f / 100000000 AS STRING)": "2.5E-8", "CAST(f * 4e6 AS STRING)": "1.0E7",
    "CAST(f / 2500 AS STRING)": "0.001", "CAST(f / 2501 AS STRING)": "9.996001599360256E-4", "CAST(f * 0 AS STRING)": "0.0",
    "CAST(f * 1e300 * 1e300 AS STRING)": "Infinity",
    "CAST(d / 3 AS STRING)": "0.8333333333333", "CAST(d / 0.5 AS STRING)": "5.000000", "CAST(i / 2.0 AS STRING)": "1.500000",
    "CAST(1.00 / 3.000 AS STRING)": "0.3333333", "CAST(100 * d / b AS STRING)": "35.7142857142857142857",
    "CAST((d + 1.1234) / 3 AS STRING)": "1.207800000000000", "CAST(d * d AS STRING)": "6.2500",
    "CAST(ROUND(d, 1) AS STRING)": "2.5", "CAST(ROUND(d, 5) AS STRING)": "2.50", "CAST(ROUND(d, -1) AS STRING)": "0",
    "CAST(ROUND(15, -1) AS STRING)": "20", "CAST(ROUND(-2.5, 0) AS STRING)": "-3", "CAST(CEIL(d) AS STRING)": "3",
    "LEFT(s, -1)": "", "RIGHT(s, -1)": "", "SPLIT_INDEX(s, 'b', -1)": None, "CAST(POSITION('' IN s) AS STRING)": "1",
    "CAST(FLOOR(ts TO WEEK) AS STRING)": "2024-01-28 00:00:00.000", "CAST(CAST('2.9' AS INT) AS STRING)": "2",
    "CAST(CAST(CAST(ts AS TIMESTAMP(0)) AS TIMESTAMP(3)) AS STRING)": "2024-01-31 23:59:58.000",
    "CAST(TIME '10:11:12' AS STRING)": "10:11:12",
}  # fmt: skip


@pytest.mark.parametrize("expression", TEXTS)
def test_the_text_of_a_value_is_that_of_flink(expression: str) -> None:
    assert computed(expression) == [TEXTS[expression]]


def test_quotients_keep_the_digits_that_flinks_types_have() -> None:
    chance = Random(5)
    amounts = [Decimal(chance.randrange(-(10**10) + 1, 10**10)).scaleb(-2) for _ in range(200)]
    divisors = [chance.choice([-1, 1]) * chance.randrange(1, 2**31) for _ in amounts]
    rows = [(k, i, 0, d, 0.0, "", ROW[-1]) for k, (d, i) in enumerate(zip(amounts, divisors, strict=True))]
    expected = [
        (d / Decimal(i)).quantize(Decimal(1).scaleb(-13), ROUND_HALF_UP) for d, i in zip(amounts, divisors, strict=True)
    ]
    assert computed("d / i", *rows, sql="DECIMAL(38, 13)") == expected
    assert computed("d / 0", sql="DECIMAL(38, 13)") == [None]

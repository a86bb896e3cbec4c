"""A query of a SQL project and the same query in Flink: equal values, for every function and operator that is known."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

import polars as pl
import pytest

from lakehouse_assets.flink_sql.project import read_project
from lakehouse_assets.stream.runner import run_batch
from tests.interop.both import Both

SOURCE = """
    k INT, i INT, j INT, b BIGINT, d DECIMAL(10, 2), e DECIMAL(10, 4), f DOUBLE, s STRING, t STRING, n STRING,
    ts TIMESTAMP(3), day_ DATE, flag BOOLEAN, PRIMARY KEY (k) NOT ENFORCED
"""
ROWS = [
    (
        1,
        7,
        2,
        10**12,
        "7.125",
        "2.5000",
        1.5,
        " Tea ",
        "a,b,c",
        "12",
        (2024, 2, 29, 23, 59, 58, 123000),
        (2024, 2, 29),
        True,
    ),
    (2, -7, 2, -5, "-7.12", "-1.2345", -2.25, "mIlk", "x", " -3 ", (2024, 12, 31, 0, 0, 0, 0), (2023, 12, 31), False),
    (3, 0, 3, 0, "0.05", "0.0001", 0.0, "", "", "0", (1999, 1, 1, 12, 30, 15, 7000), (1970, 1, 1), None),
    (4, None, 5, None, None, None, None, None, None, None, None, None, True),
    (
        5,
        2**31 - 1,
        -3,
        2**40,
        "99999999.99",
        "999999.9999",
        1e3,
        "100%_é",
        "a,,b",
        "7",
        (2024, 3, 31, 1, 2, 3, 0),
        (2024, 3, 31),
        False,
    ),
]
EXPRESSIONS = {
    "INT": [
        "i + j",
        "i - 1",
        "i / j",
        "i % j",
        "MOD(i, 5)",
        "-i",
        "ABS(j)",
        "CHAR_LENGTH(s)",
        "CAST(n AS INT)",
        "CAST(f AS INT)",
        "CAST(d AS INT)",
        "TRY_CAST(s AS INT)",
        "CASE WHEN i > 0 THEN 1 WHEN i < 0 THEN -1 ELSE 0 END",
        "CASE j WHEN 2 THEN 20 WHEN 3 THEN 30 END",
        "COALESCE(i, j)",
        "NULLIF(j, 2)",
        "IF(flag, 1, 2)",
        "POSITION('b' IN t)",
        "GREATEST(i, j, 3)",
        "LEAST(i, j)",
        "CAST(flag AS INT)",
        "TIMESTAMPDIFF(DAY, ts, TIMESTAMP '2024-03-01 00:00:00')",
        "SIGN(j)",
        "FLOOR(i)",
        "CAST('2.9' AS INT)",
        "POSITION('' IN t)",
    ],
    "BIGINT": [
        "b * 2",
        "ROUND(b, -1)",
        "b + i",
        "EXTRACT(YEAR FROM ts)",
        "EXTRACT(MONTH FROM day_)",
        "YEAR(ts)",
        "MONTH(ts)",
        "DAYOFMONTH(ts)",
        "HOUR(ts)",
        "MINUTE(ts)",
        "SECOND(ts)",
        "QUARTER(ts)",
        "EXTRACT(DOW FROM ts)",
        "DAYOFYEAR(ts)",
        "WEEK(ts)",
    ],
    "DECIMAL(24, 6)": [
        "d + e",
        "d - e",
        "d * e",
        "d * i",
        "d + 1",
        "CAST(d AS DECIMAL(10, 1))",
        "CAST(f AS DECIMAL(10, 1))",
        "ROUND(d, 1)",
        "ROUND(e, 2)",
        "ABS(d)",
        "-d",
        "CAST('12.3456' AS DECIMAL(10, 2))",
        "d * 1.5",
    ],
    "DECIMAL(30, 4)": ["d / 3", "d / e", "e / 7"],
    "DECIMAL(38, 18)": [
        "d / j",
        "i / d",
        "b / d",
        "(d + 1.1234) / 3",
        "d * e / 7",
        "d - e * 1.25",
        "d / 0.7",
        "1.0 / 3",
    ],
    "DOUBLE": [
        "f * 2",
        "f / 4",
        "f + d",
        "SQRT(ABS(f))",
        "EXP(f / 1000)",
        "POWER(f, 2)",
        "CAST(d AS DOUBLE)",
        "ROUND(f, 1)",
        "CEIL(f)",
    ],
    "STRING": [
        "UPPER(s)",
        "LOWER(s)",
        "TRIM(s)",
        "TRIM(BOTH ' ' FROM s)",
        "TRIM(LEADING 'T' FROM s)",
        "LTRIM(s)",
        "RTRIM(s)",
        "s || '-' || t",
        "CONCAT(s, '/', t)",
        "CONCAT_WS('|', s, t)",
        "SUBSTRING(s, 2)",
        "SUBSTRING(s, 2, 2)",
        "SUBSTRING(s FROM 2 FOR 3)",
        "SUBSTRING(s, -3, 2)",
        "SUBSTRING(s, 0, 2)",
        "LEFT(s, 2)",
        "RIGHT(s, 2)",
        "REVERSE(s)",
        "REPLACE(t, ',', ';')",
        "LPAD(n, 5, '0')",
        "RPAD(n, 5, 'x')",
        "SPLIT_INDEX(t, ',', 1)",
        "REGEXP_EXTRACT(t, '([a-z]),([a-z])', 2)",
        "CAST(i AS STRING)",
        "CAST(d AS STRING)",
        "CAST(flag AS STRING)",
        "CAST(ts AS STRING)",
        "CAST(day_ AS STRING)",
        "DATE_FORMAT(ts, 'yyyy-MM-dd')",
        "DATE_FORMAT(ts, 'yyyyMM')",
        "DATE_FORMAT(ts, 'yyyy-MM-dd HH:mm:ss')",
        "COALESCE(s, 'none')",
        "NULLIF(s, '')",
        "IFNULL(t, '?')",
        "CASE WHEN flag THEN s ELSE t END",
        "DATE_FORMAT(TO_TIMESTAMP('2024-01-02 03:04:05'), 'yy/MM/dd')",
        'JSON_VALUE(\'{"a": {"b": "x"}}\', \'$.a.b\')',
        'JSON_VALUE(\'{"a": {"b": "x"}}\', \'lax $.a.b\')',
        'JSON_VALUE(\'{"a": {"b": "x"}}\', \'$.a\')',
        "JSON_VALUE('{\"a\": [1]}', '$.a')",
        "CAST(s AS VARCHAR(2))",
        "CAST(s AS CHAR(6))",
        "CAST('abc' AS CHAR)",
        "CAST('abc' AS VARCHAR)",
        "CAST(ts AS VARCHAR(10))",
        "CAST(f AS STRING)",
        "CAST(f * 1e10 AS STRING)",
        "CAST(f * 1e-10 AS STRING)",
        "CAST(f * 1e300 * 1e300 AS STRING)",
        "CAST(d / 3 AS STRING)",
        "CAST(d / e AS STRING)",
        "CAST(i / 2.0 AS STRING)",
        "CAST(1.00 / 3.000 AS STRING)",
        "CAST(d * e / 7 AS STRING)",
        "CAST(d + e - 1.5 AS STRING)",
        "CAST(ROUND(d, 1) AS STRING)",
        "CAST(ROUND(d, -1) AS STRING)",
        "CAST(CEIL(d) AS STRING)",
        "CAST(FLOOR(e) AS STRING)",
        "CAST(CASE WHEN d > 0 THEN d ELSE 1.123 END AS STRING)",
        "LEFT(s, -1)",
        "RIGHT(s, -1)",
        "SPLIT_INDEX(t, ',', -1)",
        "CAST(TIME '10:11:12' AS STRING)",
    ],
    "BOOLEAN": [
        "i > j",
        "i >= 0 AND flag",
        "i > 0 OR flag",
        "NOT flag",
        "s = 'mIlk'",
        "s <> t",
        "i IS NULL",
        "s IS NOT NULL",
        "i IS DISTINCT FROM j",
        "i IS NOT DISTINCT FROM NULLIF(i, 7)",
        "flag IS TRUE",
        "flag IS NOT FALSE",
        "flag IS FALSE",
        "i IN (7, 0, 3)",
        "i NOT IN (7, 0)",
        "s LIKE '%i%'",
        "s NOT LIKE 'm%'",
        "s LIKE '100!%%' ESCAPE '!'",
        "s LIKE '_Ilk'",
        "d BETWEEN 0 AND 8",
        "i NOT BETWEEN 0 AND 8",
        "ts > TIMESTAMP '2024-01-01 00:00:00'",
        "day_ = DATE '2024-02-29'",
        "REGEXP(s, '^[a-zA-Z]+$')",
        "e < d",
        "f > d",
        "CAST(n AS INT) = 7",
        "day_ >= '2024-01-01'",
    ],
    "TIMESTAMP(3)": [
        "ts + INTERVAL '1' DAY",
        "ts - INTERVAL '2' HOUR",
        "ts + INTERVAL '1' MONTH",
        "TIMESTAMPADD(MINUTE, 90, ts)",
        "FLOOR(ts TO DAY)",
        "FLOOR(ts TO MONTH)",
        "FLOOR(ts TO HOUR)",
        "FLOOR(ts TO WEEK)",
        "FLOOR(ts TO QUARTER)",
        "CAST(ts AS TIMESTAMP(0))",
        "CAST(ts AS TIMESTAMP(1))",
        "CAST('2024-05-06 07:08:09' AS TIMESTAMP(3))",
        "CAST(day_ AS TIMESTAMP(3))",
        "TO_TIMESTAMP('2024-01-02 03:04:05')",
        "TO_TIMESTAMP('02.01.2024 03:04', 'dd.MM.yyyy HH:mm')",
        "TIMESTAMP '2024-01-01 10:00:00'",
    ],
    "DATE": [
        "CAST(ts AS DATE)",
        "TO_DATE('2024-02-03')",
        "CAST('2024-02-03' AS DATE)",
        "CAST(DATE_FORMAT(ts, 'yyyy-MM-dd') AS DATE)",
    ],
}


def source_frame() -> pl.DataFrame:
    names = ["k", "i", "j", "b", "d", "e", "f", "s", "t", "n", "ts", "day_", "flag"]
    types = [
        pl.Int32(), pl.Int32(), pl.Int32(), pl.Int64(), pl.Decimal(10, 2), pl.Decimal(10, 4), pl.Float64(), pl.String(),
        pl.String(), pl.String(), pl.Datetime("ms"), pl.Date(), pl.Boolean(),
    ]  # fmt: skip
    rows = [
        [
            None if value is None
            else Decimal(value).quantize(Decimal(1).scaleb(-dtype.scale)) if isinstance(dtype, pl.Decimal)
            else dt.datetime(*value) if dtype == pl.Datetime("ms")
            else dt.date(*value) if dtype == pl.Date
            else value
            for value, dtype in zip(row, types, strict=True)
        ]
        for row in ROWS
    ]  # fmt: skip
    return pl.DataFrame(rows, schema=dict(zip(names, types, strict=True)), orient="row")


@pytest.mark.feature("SQL projects", "scalar functions and operators of Flink SQL")
def test_every_expression_gives_what_it_gives_in_flink(both: Both) -> None:
    columns = [
        (f"c{number}", sql, each)
        for number, (sql, each) in enumerate((t, e) for t, group in EXPRESSIONS.items() for e in group)
    ]
    target = ", ".join(f"{name} {sql}" for name, sql, _ in columns)
    query = "SELECT k, " + ", ".join(each for _, _, each in columns) + " FROM db.source"
    ddl = [
        f"CREATE TABLE db.source ({SOURCE}) WITH ('bucket' = '1')",
        *(
            f"CREATE TABLE db.{name} (k INT, {target}, PRIMARY KEY (k) NOT ENFORCED) WITH ('bucket' = '1')"
            for name in ("here", "there")
        ),
    ]
    project = read_project({"all.sql": ";\n".join([*ddl, f"INSERT INTO db.here {query}"])}, name="all")
    both.ours.execute(project.ddl)
    both.ours.table("db.source").write(source_frame())
    assert run_batch(both.ours, project.streams[0]) is not None
    both.flink.sql(f"INSERT INTO db.there {query}", timeout_s=120)
    here = both.ours.table("db.here").scan().sort("k").collect()
    there = both.ours.table("db.there").scan().sort("k").collect()
    assert there.height == len(ROWS)
    assert there["c0"].to_list()[:3] == [9, -5, 3]
    wrong = {
        each: (here[name].to_list(), there[name].to_list())
        for name, _, each in columns
        if not here[name].equals(there[name], null_equal=True) and not _close(here[name], there[name])
    }
    assert not wrong, "\n".join(f"{each}: here {ours}, in Flink {theirs}" for each, (ours, theirs) in wrong.items())


def _close(here: pl.Series, there: pl.Series) -> bool:
    """Whether floating numbers agree but for their last digits, which depend on the library of the processor."""
    if here.dtype != pl.Float64:
        return False
    return bool(((here - there).abs() <= here.abs() * 1e-15).fill_null(here.is_null() & there.is_null()).all())

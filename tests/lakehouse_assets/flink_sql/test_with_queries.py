"""``WITH``: the same as the queries in FROM that its names stand for, and what of it is refused."""

from __future__ import annotations

import polars as pl
import pytest

from lakehouse_assets.flink_sql.errors import SqlError
from lakehouse_assets.flink_sql.project import read_project
from lakehouse_assets.stream.runner import run_batch
from storage_engine import Catalog

TABLES = """
CREATE TABLE db.s (id INT, g STRING, n INT, PRIMARY KEY (id) NOT ENFORCED)
WITH ('bucket' = '1', 'changelog-producer' = 'lookup');
CREATE TABLE db.d (g STRING, v STRING, PRIMARY KEY (g) NOT ENFORCED) WITH ('bucket' = '1');
CREATE TABLE db.f (id INT, x STRING, v STRING, PRIMARY KEY (id) NOT ENFORCED) WITH ('bucket' = '1');
CREATE TABLE db.a (g STRING, n INT, PRIMARY KEY (g) NOT ENFORCED)
WITH ('bucket' = '1', 'merge-engine' = 'aggregation', 'fields.n.aggregate-function' = 'sum');
"""
LOOKUP = "LEFT JOIN db.d FOR SYSTEM_TIME AS OF PROCTIME() AS d ON b.g = d.g"

MEANING = {
    "a filter before a lookup": (
        f"db.f WITH big AS (SELECT id, g FROM db.s WHERE n > 1) SELECT b.id, b.g, d.v FROM big AS b {LOOKUP}",
        [(2, "y", None), (3, "x", "X")],
    ),
    "one upon the other": (
        "db.f WITH a AS (SELECT id, UPPER(g) AS x, n FROM db.s), b AS (SELECT id, x FROM a WHERE n > 1)"
        " SELECT id, x, b.x FROM b",
        [(2, "Y", "Y"), (3, "X", "X")],
    ),
    "branches that are put together and summed": (
        "db.a WITH a AS (SELECT g, n FROM db.s WHERE id < 3 UNION ALL SELECT g, n FROM db.s WHERE id >= 3)"
        " SELECT g, SUM(n) FROM a GROUP BY g",
        [("x", 4), ("y", 2)],
    ),
    "one name in two places, which is a table's within": (
        "db.f WITH s AS (SELECT id, g FROM db.s) SELECT s.id, s.g, t.g FROM s LEFT JOIN s AS t ON s.id = t.id",
        [(1, "x", "x"), (2, "y", "y"), (3, "x", "x")],
    ),
}


def flowed(catalog: Catalog, sql: str, target: str) -> list[tuple[object, ...]]:
    project = read_project({"a.sql": f"{TABLES}\n{sql}"}, name="p")
    catalog.execute(project.ddl)
    rows = {"id": [1, 2, 3], "g": ["x", "y", "x"], "n": [1, 2, 3]}
    catalog.table("db.s").write(pl.DataFrame(rows).cast({"id": pl.Int32, "n": pl.Int32}))
    catalog.table("db.d").write(pl.DataFrame({"g": ["x"], "v": ["X"]}))
    for stream in project.streams:
        while run_batch(catalog, stream) is not None:
            pass
    return sorted(catalog.table(target).scan().collect().rows())


@pytest.mark.parametrize("case", MEANING)
def test_it_means_what_it_means_in_flink(catalog: Catalog, case: str) -> None:
    query, expected = MEANING[case]
    assert flowed(catalog, f"INSERT INTO {query};", query[:4]) == expected


def test_views_may_have_it(catalog: Catalog) -> None:
    view = "CREATE VIEW db.v AS WITH a AS (SELECT id, g FROM db.s) SELECT id, g FROM a;"
    assert flowed(catalog, f"{view} INSERT INTO db.f SELECT id, g, g FROM db.v;", "db.f")[0] == (1, "x", "x")


@pytest.mark.parametrize(
    ("query", "line", "reason"),
    [
        ("WITH a AS (SELECT id FROM db.s)\nSELECT id, g, g FROM db.s", 2, "WITH a: nothing uses it"),
        ("WITH a AS (SELECT id,\n nope FROM db.s)\nSELECT id, nope, nope FROM a", 3, "there is no column nope"),
        ("WITH RECURSIVE a AS (SELECT id FROM db.s)\nSELECT id, id, id FROM a", 2, "WITH RECURSIVE"),
        ("WITH a (x) AS (SELECT id FROM db.s)\nSELECT x, x, x FROM a", 2, "name the columns in the query"),
        ("WITH a AS (SELECT id FROM db.s), a AS (SELECT id FROM db.s)\nSELECT id, id, id FROM a", 2, "names a twice"),
        (
            "SELECT id, g, g FROM\n(WITH a AS (SELECT id, g FROM db.s) SELECT id, g FROM a) AS q",
            3,
            "WITH within a query",
        ),
        ("WITH a AS (SELECT id, g FROM db.s LIMIT 5)\nSELECT id, g, g FROM a", 2, "LIMIT"),
    ],
)
def test_what_is_refused_says_the_line(query: str, line: int, reason: str) -> None:
    first = len(TABLES.split("\n"))
    with pytest.raises(SqlError, match=rf"a\.sql, line {first + line}\b") as refused:
        read_project({"a.sql": f"{TABLES}\nINSERT INTO db.f\n{query};"}, name="p")
    assert reason in str(refused.value)

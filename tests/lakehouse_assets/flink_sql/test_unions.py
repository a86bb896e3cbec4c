"""``UNION ALL``: each branch is a stream, and the table is what DuckDB gives for the same query over the same rows."""

from __future__ import annotations

import random
import re
import uuid

import duckdb
import polars as pl
import pytest

from lakehouse_assets.flink_sql import NotIncremental, SqlProject, read_project
from lakehouse_assets.stream.declaration import by_target
from lakehouse_assets.stream.repair import repair
from storage_engine import Catalog
from storage_engine.errors import SqlError
from tests.lakehouse_assets.flink_sql.test_shared_targets import DAYS, TABLES, change, move, rows_of

MORE = """
CREATE TABLE db.days (kind STRING, d STRING, id BIGINT, x BIGINT, PRIMARY KEY (kind, d, id) NOT ENFORCED)
    PARTITIONED BY (d) WITH ('bucket' = '1');
"""
A, B, C = (
    "SELECT 'a', d, id, n FROM db.a",
    "SELECT 'b', d, id, m FROM db.b WHERE m > 2",
    "SELECT 'c', d, id, n + 1 FROM db.a",
)
OUTER = "SELECT kind, d, id, x FROM (SELECT 'a' AS kind, d, id, n AS x FROM db.a"
VIEW = "CREATE VIEW db.both (day, v) AS SELECT d, n FROM db.a\nUNION ALL\nSELECT d, m FROM db.b WHERE m > 2;\n"
MOVED = {
    "branches": ("db.told", f"{A}\nUNION ALL\n{B}\nUNION ALL\n{C}"),
    "nested": ("db.told", f"({A})\nUNION ALL ({B}\nUNION ALL ({C} WHERE n > 4))"),
    "beneath a query": (
        "db.told",
        "SELECT kind, d, id, x * 2 FROM (SELECT 'a' AS kind, d, id, n AS x FROM db.a UNION ALL SELECT 'b', d, id, 7 FROM db.b"
        " UNION ALL SELECT 'c', d, id, NULL FROM db.c) AS u WHERE id < 5",
    ),
    "groups": (
        "db.sums",
        "SELECT d, COUNT(*), SUM(n) FROM db.a GROUP BY d UNION ALL SELECT d, COUNT(*), SUM(m) FROM db.b GROUP BY d",
    ),
    "groups of a view": ("db.sums", "SELECT day, COUNT(*), SUM(v) FROM db.both WHERE v < 8 GROUP BY day"),
    "groups of a join": (
        "db.sums",
        "SELECT u.d, COUNT(*), SUM(u.x) FROM (SELECT d, id, n AS x FROM db.a UNION ALL SELECT d, id, m FROM db.b) AS u"
        " INNER JOIN db.c AS c ON u.d = c.d AND u.id = c.id WHERE c.s <> 'x' GROUP BY u.d",
    ),
}  # fmt: skip


def project(statements: str) -> SqlProject:
    return read_project({"ddl.sql": TABLES + MORE, "app.sql": statements}, name="p")


def warehouse(declared: SqlProject) -> Catalog:
    catalog = Catalog(f"memory://{uuid.uuid4()}")
    catalog.execute(declared.ddl)
    return catalog


def truth(catalog: Catalog, query: str) -> list[tuple[object, ...]]:
    """What DuckDB gives; groups that the target adds up are added up."""
    with duckdb.connect() as database:
        database.execute("CREATE SCHEMA db")
        for name in ("db.a", "db.b", "db.c"):
            frame = catalog.table(name).scan().collect().to_arrow()
            database.register("frame", frame)
            database.execute(f"CREATE TABLE {name} AS SELECT * FROM frame")
        database.execute(VIEW)
        rows = database.execute(query).fetchall()
    if "GROUP BY" not in query:
        return sorted(rows, key=repr)
    days = {row[0] for row in rows}
    return sorted((d, *(sum(row[at] for row in rows if row[0] == d) for at in (1, 2))) for d in days)


def held(catalog: Catalog, target: str) -> list[tuple[object, ...]]:
    """What the target holds; groups that have lost all their rows keep a row of zeros."""
    rows = [tuple(row.values()) for row in rows_of(catalog, target)]
    return sorted((row for row in rows if target != "db.sums" or row[1]), key=repr)


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("case", MOVED)
def test_the_table_is_what_duckdb_gives(case: str, seed: int) -> None:
    target, query = MOVED[case]
    declared, chance = project(f"{VIEW}INSERT INTO {target} {query}"), random.Random(seed)
    catalog = warehouse(declared)
    assert all(stream.target == target and stream.part for stream in declared.streams)
    for clock in range(16):
        change(catalog, chance, clock)
        if clock % 5 == 4:
            move(catalog, declared, chance)
    for clock, name in enumerate(("db.a", "db.b", "db.c"), 16):
        keys = pl.DataFrame(
            {"d": DAYS[0], "id": [100], "k": "k", "n": [1], "m": [5], "s": "y", "t": clock, "u": clock, "v": clock}
        )
        catalog.table(name).write(keys.select(catalog.table(name).schema.column_names))
    move(catalog, declared, chance)
    assert held(catalog, target) == truth(catalog, query)
    (streams,) = by_target(declared.streams).values()
    assert repair(catalog, streams, DAYS[:1]).snapshot is None or held(catalog, target) == truth(catalog, query)


def test_logs_are_put_together() -> None:
    declared = project("INSERT INTO db.all_logs SELECT d, id FROM db.log UNION ALL SELECT d, id FROM db.log2")
    catalog = warehouse(declared)
    for number in range(4):
        catalog.table("db.log" if number % 2 else "db.log2").write(pl.DataFrame({"d": ["x"], "id": [number]}))
        move(catalog, declared, random.Random(number))
    assert sorted(held(catalog, "db.all_logs")) == [("x", number) for number in range(4)]  # type: ignore[type-var]


def test_a_statement_that_names_partitions_runs_once() -> None:
    query = f"{A} WHERE d = '{DAYS[0]}'\nUNION ALL\nSELECT 'b', d, id, m FROM db.b WHERE d IN ('{DAYS[0]}') AND m > 2"
    declared, chance = project(f"INSERT INTO db.days {query}"), random.Random(4)
    catalog = warehouse(declared)
    (batch,) = declared.batches
    assert (declared.streams, batch.column, batch.sources) == ((), "d", ("db.a", "db.b"))
    for clock in range(16):
        change(catalog, chance, clock)
    before = catalog.table("db.days").latest_snapshot()
    assert batch.run(catalog).snapshot is not None
    assert held(catalog, "db.days") == truth(catalog, query) != []
    assert batch.run(catalog, DAYS).rows == len(truth(catalog, f"{A} UNION ALL {B}"))
    assert held(catalog, "db.days") == truth(catalog, f"{A} UNION ALL {B}")
    assert before is None
    assert [each.commit_kind.value for each in catalog.table("db.days").store.snapshots.backwards()].count(
        "APPEND"
    ) == 2


def test_an_overwrite_takes_the_place_of_what_was_there() -> None:
    query = MOVED["groups"][1]
    declared, chance = project(f"INSERT OVERWRITE db.sums {query}"), random.Random(5)
    catalog = warehouse(declared)
    for clock in range(12):
        change(catalog, chance, clock)
        if clock % 6 == 5:
            assert declared.batches[0].run(catalog).snapshot is not None
            assert held(catalog, "db.sums") == truth(catalog, query)


REFUSED = {
    "distinct": (f"INSERT INTO db.told\n{A}\nUNION\n{B}", "", "compare a row with all others"),
    "distinct behind all": (f"INSERT INTO db.told {A}\nUNION ALL {B}\nUNION {C}", "", "compare a row with all others"),
    "except": (f"INSERT INTO db.told {A}\nUNION ALL ({B}\nEXCEPT {C})", "", "compare a row with all others"),
    "sorted": (f"INSERT INTO db.told {A}\nUNION ALL {B}\nORDER BY d", "", "a table has no order"),
    "one key in both": (
        "INSERT INTO db.newest\nSELECT d, id, n, t FROM db.a\nUNION ALL\nSELECT d, id, n + 1, t FROM db.a",
        "4",
        "app.sql, line 2",
    ),
    "groups of a table that keeps the newest": (
        f"INSERT INTO db.told {A}\nUNION ALL\nSELECT 'b', d, id, SUM(m) FROM db.b GROUP BY d, id",
        "3",
        "'merge-engine' = 'aggregation'",
    ),
    "grouped beneath": (
        "INSERT INTO db.sums SELECT d, 1, s FROM (SELECT d, n AS s FROM db.a\nUNION ALL\nSELECT d, SUM(m) FROM db.b GROUP BY d)",
        "3",
        "GROUP BY within FROM",
    ),
    "full join": (
        "INSERT INTO db.sums SELECT u.d, 1, 1 FROM (SELECT d FROM db.a UNION ALL SELECT d FROM db.b) AS u\nFULL JOIN db.c"
        " ON u.d = c.d",
        "",
        "whether a row has no partner",
    ),
    "second side": (
        "INSERT INTO db.sums SELECT u.d, 1, 1 FROM db.a AS u\nJOIN (SELECT d FROM db.b UNION ALL SELECT d FROM db.c) AS c"
        " ON u.d = c.d",
        "",
        "stand behind FROM",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_stream_is_refused_by_line(case: str) -> None:
    statements, line, reason = REFUSED[case]
    with pytest.raises(NotIncremental, match=rf"app\.sql, line {line}") as refused:
        project(statements)
    assert reason in str(refused.value)


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        (f"{OUTER}\nUNION ALL\nSELECT 'b', d, id FROM db.b) AS u", "gives 3 columns, the first 4"),
        (f"{OUTER}\nUNION ALL\nSELECT 'b', d, id, UPPER(d) FROM db.b) AS u", "column x is String here, Int64 in the first"),
        (f"{A}\nUNION ALL\nSELECT 'b', d, id FROM db.b", "gives 3 columns, db.told takes 4"),
        (f"{A}\nUNION ALL\nSELECT 'b', d, id, d FROM db.b", "column x is BIGINT"),
    ],
)  # fmt: skip
def test_branches_that_do_not_fit_are_told_by_line(query: str, reason: str) -> None:
    with pytest.raises(SqlError, match=rf"app\.sql, line 3.*{re.escape(reason)}"):
        project(f"INSERT INTO db.told {query}")

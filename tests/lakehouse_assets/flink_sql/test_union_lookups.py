"""Lookup joins over ``UNION ALL``: tables are what DuckDB gives for the same query, or what a model of processing time gives."""

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
from lakehouse_assets.stream.runner import run_batch
from storage_engine import Catalog
from storage_engine.errors import SqlError
from tests.fakes.faulty_file_io import Killed
from tests.lakehouse_assets.deaths import deaths
from tests.lakehouse_assets.flink_sql.any_order import move

TABLES = """
CREATE TABLE db.a (id BIGINT, k STRING, n BIGINT, pt AS PROCTIME(), PRIMARY KEY (id) NOT ENFORCED) WITH ('bucket' = '1');
CREATE TABLE db.b (id BIGINT, code STRING, m BIGINT, pt AS PROCTIME(), PRIMARY KEY (id) NOT ENFORCED) WITH ('bucket' = '1');
CREATE TABLE db.log (id BIGINT, k STRING, at TIMESTAMP(3), pt AS PROCTIME()) WITH ('bucket' = '-1');
CREATE TABLE db.d (k STRING, name STRING, w BIGINT, PRIMARY KEY (k) NOT ENFORCED) WITH ('bucket' = '2');
CREATE TABLE db.e (name STRING, region STRING, PRIMARY KEY (name) NOT ENFORCED) WITH ('bucket' = '1');
CREATE TABLE db.told (kind STRING, id BIGINT, name STRING, x BIGINT, PRIMARY KEY (kind, id) NOT ENFORCED) WITH ('bucket' = '1');
CREATE TABLE db.sums (name STRING, c BIGINT, s BIGINT, PRIMARY KEY (name) NOT ENFORCED) WITH ('bucket' = '1',
    'merge-engine' = 'aggregation', 'fields.default-aggregate-function' = 'sum');
CREATE TABLE db.seen (kind STRING, id BIGINT, name STRING) WITH ('bucket' = '-1');
"""
DATA = ("db.a", "db.b", "db.d", "db.e")
RETRY = "/*+ LOOKUP('table'='d', 'retry-predicate'='lookup_miss') */"
PARTIAL = "/*+ LOOKUP('table'='d', 'retry-predicate'='lookup_miss', 'strategy'='partial-cache') */"
RETRY_E = RETRY.replace("'d'", "'e'")
BOTH = f"{RETRY[:-2]}, LOOKUP('table'='e', 'retry-predicate'='lookup_miss') */"
NOW = "FOR SYSTEM_TIME AS OF"
VIEW = """CREATE VIEW db.both (kind, id, k, x, pt) AS
SELECT 'a', id, k, n, pt FROM db.a WHERE n <> 3
UNION ALL
SELECT 'b', id, code, m + 1, pt FROM db.b;
"""
WIDE_VIEW = f"""CREATE VIEW db.named AS
SELECT {RETRY} 'a' AS kind, a.id, d.name, a.n + COALESCE(d.w, 0) AS x, a.pt
    FROM db.a AS a LEFT JOIN db.d {NOW} a.pt AS d ON a.k = d.k
UNION ALL
SELECT {RETRY} 'b', b.id, d.name, b.m, b.pt FROM db.b AS b JOIN db.d {NOW} b.pt AS d ON b.code = d.k WHERE d.w > 2;
"""
IN_BRANCHES = (
    f"SELECT {RETRY} 'a', a.id, UPPER(d.name), a.n * COALESCE(d.w, -1) FROM db.a AS a"
    f" LEFT JOIN db.d {NOW} a.pt AS d ON a.k = d.k\n"
    f"UNION ALL SELECT {PARTIAL} 'b', b.id, COALESCE(d.name, '?'), b.m FROM db.b AS b"
    f" JOIN db.d {NOW} b.pt AS d ON d.k = b.code AND d.w > 1 WHERE b.m <> 5 AND d.name <> 'west'"
)
BENEATH = (
    f"SELECT {PARTIAL} u.kind, u.id, d.name, u.x + d.w FROM (SELECT 'a' AS kind, id, k, n AS x, pt FROM db.a"
    f" UNION ALL SELECT 'b', id, code, m, pt FROM db.b WHERE m > 2) AS u INNER JOIN db.d {NOW} u.pt AS d ON u.k = d.k"
    " WHERE d.w <> 4 AND u.x < 8"
)
OVER_VIEW = f"SELECT {RETRY} v.kind, v.id, d.name, v.x FROM db.both AS v LEFT JOIN db.d {NOW} v.pt AS d ON v.k = d.k"
IN_TURN = (
    f"SELECT {BOTH} v.kind, v.id, CONCAT(d.name, '/', COALESCE(e.region, '-')), v.x FROM db.both AS v"
    f" LEFT JOIN db.d {NOW} v.pt AS d ON v.k = d.k LEFT JOIN db.e {NOW} v.pt AS e ON d.name = e.name WHERE d.name IS NOT NULL"
)
TWICE = f"SELECT {RETRY_E} v.kind, v.id, e.region, v.x FROM db.named AS v JOIN db.e {NOW} v.pt AS e ON v.name = e.name"
GROUPS = (
    f"SELECT {RETRY} d.name, COUNT(*), SUM(v.x * d.w) FROM db.both AS v JOIN db.d {NOW} v.pt AS d ON v.k = d.k"
    " WHERE d.w > 0 GROUP BY d.name"
)
GROUPS_IN_BRANCHES = (
    f"SELECT {RETRY} d.name, COUNT(*), SUM(a.n) FROM db.a AS a JOIN db.d {NOW} a.pt AS d ON a.k = d.k GROUP BY d.name UNION ALL"
    f" SELECT {PARTIAL} d.name, COUNT(*), SUM(d.w) FROM db.b AS b JOIN db.d {NOW} b.pt AS d ON b.code = d.k GROUP BY d.name"
)
FOLLOWED = {
    "in branches": ("db.told", IN_BRANCHES),
    "beneath a query": ("db.told", BENEATH),
    "over a view": ("db.told", OVER_VIEW),
    "one after the other": ("db.told", IN_TURN),
    "within a view and over it": ("db.told", TWICE),
    "groups over a view": ("db.sums", GROUPS),
    "groups in branches": ("db.sums", GROUPS_IN_BRANCHES),
}


def project(statements: str) -> SqlProject:
    return read_project({"ddl.sql": TABLES, "views.sql": VIEW + WIDE_VIEW, "app.sql": statements}, name="p")


def warehouse(declared: SqlProject) -> Catalog:
    catalog = Catalog(f"memory://{uuid.uuid4()}")
    catalog.execute(declared.ddl)
    return catalog


def change(catalog: Catalog, chance: random.Random) -> None:
    """A few rows of one table, a dimension's too, are written or deleted."""
    table = catalog.table(chance.choice(["db.a", "db.b", "db.d", "db.e"]))
    made = {
        "db.a": lambda: (chance.randrange(6), chance.choice(["u", "v", "w", "late", None]), chance.randrange(9)),
        "db.b": lambda: (chance.randrange(6), chance.choice(["u", "v", "w", "late"]), chance.randrange(9)),
        "db.d": lambda: (chance.choice(["u", "v", "w"]), chance.choice(["north", "west"]), chance.randrange(5)),
        "db.e": lambda: (chance.choice(["north", "west"]), chance.choice(["r", "s"])),
    }[table.name]
    rows = pl.DataFrame([made() for _ in range(2)], schema=table.schema.polars_schema, orient="row")
    kinds = ["+I", "+I", "+I", "+I" if table.name == "db.e" else "-D"]
    table.write(rows.with_columns(pl.lit(chance.choice(kinds)).alias("_row_kind")))


def truth(catalog: Catalog, query: str) -> list[tuple[object, ...]]:
    """What DuckDB gives, the dimensions as they are now; groups that the target adds up are added up."""
    with duckdb.connect() as database:
        database.execute("CREATE SCHEMA db")
        for name in DATA:
            table = catalog.table(name)
            frame = pl.DataFrame(schema=table.schema.polars_schema)
            if table.latest_snapshot() is not None:
                frame = table.scan().collect()
            database.register("frame", frame.with_columns(pt=0).to_arrow())
            database.execute(f"CREATE TABLE {name} AS SELECT * FROM frame")
        plain = [re.sub(r"FOR SYSTEM_TIME AS OF \w+\.pt|/\*.*?\*/", "", text) for text in (VIEW, WIDE_VIEW, query)]
        for view in plain[:2]:
            database.execute(view)
        rows = database.execute(plain[2]).fetchall()
    if "GROUP BY" not in query:
        return sorted(rows, key=repr)
    names = {row[0] for row in rows}
    return sorted((name, *(sum(row[at] for row in rows if row[0] == name) for at in (1, 2))) for name in names)


def held(catalog: Catalog, target: str) -> list[tuple[object, ...]]:
    """What the target holds; groups that have lost all their rows keep a row of zeros."""
    table = catalog.table(target)
    rows = [] if table.latest_snapshot() is None else table.scan().collect().rows()
    return sorted((row for row in rows if target != "db.sums" or row[1]), key=repr)


@pytest.mark.parametrize("case", FOLLOWED)
def test_a_target_that_follows_its_dimensions_is_what_duckdb_gives(case: str) -> None:
    target, query = FOLLOWED[case]
    declared, chance = project(f"INSERT INTO {target} {query}"), random.Random(sorted(FOLLOWED).index(case))
    catalog = warehouse(declared)
    assert len(declared.streams) == 2
    dimension, seen = catalog.table("db.d"), 0
    catalog.table("db.e").write(pl.DataFrame({"name": ["north", "west"], "region": ["r", "s"]}))
    for turn in range(24):
        change(catalog, chance)
        if turn == 16:
            dimension.write(pl.DataFrame({"k": ["late"], "name": ["north"], "w": [3]}))
        if turn % 4 == 3:
            move(catalog, declared, chance)
            assert held(catalog, target) == truth(catalog, query)
            seen += len(held(catalog, target))
    assert seen
    (streams,) = by_target(declared.streams).values()
    if streams[0].repair is not None:
        repair(catalog, streams)
        assert held(catalog, target) == truth(catalog, query)
    assert [run_batch(catalog, stream) for stream in declared.streams] == [None, None]


@pytest.mark.parametrize("kept", ["db.told", "db.seen"])
def test_without_retry_a_row_keeps_what_it_found(kept: str) -> None:
    """Processing time: a plain model joins each row when its stream moves. One branch has a hint, and it alone follows."""
    source, key, columns = ("db.log", "k", ("'l'", "id")) if kept == "db.seen" else ("db.a", "k", ("'l'", "id"))
    value = "" if kept == "db.seen" else ", 0"
    branches = [
        f"SELECT {hint} {columns[0].replace('l', kind)}, s.id, d.name{value} FROM {source} AS s"
        f" LEFT JOIN db.d {NOW} s.pt AS d ON s.{key} = d.k"
        for kind, hint in (("l", ""), ("r", RETRY if kept == "db.told" else ""))
    ]
    declared, chance = project(f"INSERT INTO {kept} {' UNION ALL '.join(branches)}"), random.Random(8)
    catalog = warehouse(declared)
    names: dict[str, str] = {}
    keys: dict[int, str] = {}
    found: dict[int, str | None] = {}
    for number in range(12):
        if number % 3 == 1:
            names[chance.choice("uv")] = chance.choice(["north", "west", "east"])
            catalog.table("db.d").write(
                pl.DataFrame([(k, name, 1) for k, name in names.items()], schema=("k", "name", "w"), orient="row")
            )
        keys[number] = chance.choice("uvw")
        others = {"n": 1} if source == "db.a" else {"at": None}
        catalog.table(source).write(
            pl.DataFrame({"id": [number], "k": [keys[number]], **{name: [each] for name, each in others.items()}})
        )
        move(catalog, declared, chance)
        found[number] = names.get(keys[number])
    rows = {(row[0], row[1]): row[2] for row in held(catalog, kept)}
    follows = kept == "db.told"
    assert rows == {("l", number): name for number, name in found.items()} | {
        ("r", number): names.get(key) if follows else found[number] for number, key in keys.items()
    }


@pytest.mark.parametrize("case", ["groups over a view", "in branches"])
def test_a_death_between_the_commits_of_branches_doubles_and_loses_nothing(
    case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, query = FOLLOWED[case]
    declared, chance = project(f"INSERT INTO {target} {query}"), random.Random(21)
    catalog, died = warehouse(declared), 0
    for _ in range(10):
        change(catalog, chance)
        change(catalog, chance)
        with deaths(monkeypatch, chance, target=target):
            for stream in declared.streams:
                try:
                    run_batch(catalog, stream)
                except Killed:
                    died += 1
                    break  # the next branch of this round was not begun
    assert died > 3
    move(catalog, declared, chance)
    assert held(catalog, target) == truth(catalog, query) != []


SUMS = "INSERT INTO db.sums SELECT d.name, COUNT(*), SUM(v.x)\nFROM db.both AS v"
REFUSED = {
    "sums that would not follow": (
        f"{SUMS} JOIN db.d {NOW} v.pt AS d ON v.k = d.k GROUP BY d.name",
        "'retry-predicate'='lookup_miss'",
    ),
    "time of the event": (
        "INSERT INTO db.seen SELECT 'l', u.id, d.name FROM (SELECT id, k, at FROM db.log UNION ALL SELECT id, k, at FROM db.log)"
        f" AS u\nLEFT JOIN db.d {NOW} u.at AS d ON u.k = d.k",
        "takes a processing time",
    ),
    "a computed key in one branch": (
        "INSERT INTO db.told SELECT u.kind, u.id, d.name, 1 FROM (SELECT 'a' AS kind, id, k, pt FROM db.a UNION ALL"
        f" SELECT 'b', id, UPPER(code), pt FROM db.b) AS u\nLEFT JOIN db.d {NOW} u.pt AS d ON u.k = d.k",
        "ON a column as it stands",
    ),
    "a union as dimension": (
        f"INSERT INTO db.told SELECT 'a', a.id, u.name, 1 FROM db.a AS a\nLEFT JOIN db.both {NOW} a.pt AS u ON a.k = u.k",
        "there is no table",
    ),
    "not by the key of the dimension": (
        f"INSERT INTO db.told SELECT v.kind, v.id, d.name, 1 FROM db.both AS v\nLEFT JOIN db.d {NOW} v.pt AS d ON v.k = d.name",
        "primary key",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_follow_changes_is_refused_by_line(case: str) -> None:
    statement, reason = REFUSED[case]
    with pytest.raises(SqlError, match=r"app\.sql, line \d+, column \d+") as refused:
        project(statement)
    assert reason in str(refused.value)
    assert isinstance(refused.value, NotIncremental) or case == "a union as dimension"


@pytest.mark.parametrize(
    ("hint", "reason"),
    [
        (RETRY.replace("'d'", "'dim'"), "its SELECT looks up d"),
        (RETRY.replace("'d'", "'d', 'strategy'='magic'"), "strategy 'magic' is none of"),
        (RETRY.replace("'d'", "'d', 'workers'='4'"), "'4' workers"),
    ],
)
def test_a_hint_without_effect_is_refused_by_line(hint: str, reason: str) -> None:
    query = f"{OVER_VIEW.replace(RETRY, hint)}"
    with pytest.raises(SqlError, match=rf"app\.sql, line 2.*{re.escape(reason)}"):
        project(f"INSERT INTO db.told\n{query}")

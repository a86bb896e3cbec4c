"""Regular joins and counted lookups in SQL: after every run, tables are what the same query gives of the tables of now."""

from __future__ import annotations

import random
import uuid
from collections import Counter

import polars as pl
import pytest

from lakehouse_assets.flink_sql import NotIncremental, SqlProject, read_project
from lakehouse_assets.stream.repair import repair
from lakehouse_assets.stream.runner import StreamRunner
from storage_engine import Catalog
from storage_engine.errors import SqlError

TABLES = """
CREATE TABLE db.a (id BIGINT, k STRING, n BIGINT, pt AS PROCTIME(), PRIMARY KEY (id) NOT ENFORCED) WITH ('bucket' = '1');
CREATE TABLE db.b (bid BIGINT, k STRING, m BIGINT, PRIMARY KEY (bid) NOT ENFORCED) WITH ('bucket' = '1');
CREATE TABLE db.d (k STRING, name STRING, PRIMARY KEY (k) NOT ENFORCED) WITH ('bucket' = '1');
CREATE TABLE db.log (k STRING, n BIGINT) WITH ('bucket' = '-1');
CREATE TABLE db.pairs (id BIGINT, bid BIGINT, k STRING, total BIGINT, PRIMARY KEY (id, bid) NOT ENFORCED)
    WITH ('bucket' = '1');
CREATE TABLE db.named (id BIGINT, k STRING, name STRING, n BIGINT, PRIMARY KEY (id) NOT ENFORCED) WITH ('bucket' = '1');
CREATE TABLE db.sums (k STRING, c BIGINT, s BIGINT, PRIMARY KEY (k) NOT ENFORCED) WITH ('bucket' = '1',
    'merge-engine' = 'aggregation', 'fields.default-aggregate-function' = 'sum');
"""
INNER = """INSERT INTO db.pairs SELECT a.id, y.bid, a.k, a.n + y.m FROM db.a AS a JOIN db.b AS y ON a.k = y.k AND a.n <> y.m
    WHERE y.m > 1;"""
LEFT = "INSERT INTO db.named SELECT a.id, a.k, d.name, a.n FROM db.a AS a LEFT JOIN db.d AS d ON a.k = d.k;"
RIGHT = "INSERT INTO db.named SELECT a.id, a.k, d.name, a.n FROM db.d AS d RIGHT OUTER JOIN db.a AS a ON d.k = a.k;"
FULL = """INSERT INTO db.sums SELECT COALESCE(a.k, '-' || d.k), COUNT(*), SUM(a.n)
    FROM db.a AS a FULL JOIN db.d AS d ON a.k = d.k GROUP BY COALESCE(a.k, '-' || d.k);"""
COUNTED = """INSERT INTO db.sums SELECT /*+ LOOKUP('table'='d', 'retry-predicate'='lookup_miss') */ d.name, COUNT(*), SUM(a.n)
    FROM db.a AS a JOIN db.d FOR SYSTEM_TIME AS OF a.pt AS d ON a.k = d.k GROUP BY d.name;"""
LOOKED_UP = """INSERT INTO db.named SELECT /*+ LOOKUP('table'='d', 'retry-predicate'='lookup_miss') */ a.id, a.k, d.name, a.n
    FROM db.a AS a JOIN db.d FOR SYSTEM_TIME AS OF a.pt AS d ON a.k = d.k;"""
FILTERED = "INSERT INTO db.named SELECT a.id, a.k, 'x', a.n FROM db.a AS a WHERE a.n > 3;"
Rows = list[dict[str, object]]


def inner(a: Rows, b: Rows, _: Rows) -> list[tuple[object, ...]]:
    return [
        (x["id"], y["bid"], x["k"], x["n"] + y["m"])  # type: ignore[operator]
        for x in a
        for y in b
        if x["k"] == y["k"] and x["n"] != y["m"] and y["m"] > 1  # type: ignore[operator]
    ]


def left(a: Rows, _: Rows, d: Rows) -> list[tuple[object, ...]]:
    names = {row["k"]: row["name"] for row in d}
    return [(x["id"], x["k"], names.get(x["k"]), x["n"]) for x in a]


def looked_up(a: Rows, _: Rows, d: Rows) -> list[tuple[object, ...]]:
    return [row for row in left(a, [], d) if row[2] is not None]


def filtered(a: Rows, _: Rows, __: Rows) -> list[tuple[object, ...]]:
    return [(x["id"], x["k"], "x", x["n"]) for x in a if x["n"] > 3]  # type: ignore[operator]


def full(a: Rows, _: Rows, d: Rows) -> list[tuple[object, ...]]:
    counts: Counter[object] = Counter(x["k"] for x in a)
    known = set(counts)
    sums: Counter[object] = Counter()
    for x in a:
        sums[x["k"]] += x["n"]  # type: ignore[assignment, operator]
    return [(key, counts[key], sums[key]) for key in counts] + [
        (f"-{row['k']}", 1, None) for row in d if row["k"] not in known
    ]


def counted(a: Rows, _: Rows, d: Rows) -> list[tuple[object, ...]]:
    names = {row["k"]: row["name"] for row in d}
    found = [(names[x["k"]], x["n"]) for x in a if x["k"] in names]
    counts = Counter(name for name, _ in found)
    return [(name, counts[name], sum(n for each, n in found if each == name)) for name in counts]  # type: ignore[misc]


QUERIES = {"inner": (INNER, inner), "left": (LEFT, left), "right": (RIGHT, left), "full": (FULL, full)}
QUERIES["counted lookup"] = (COUNTED, counted)
QUERIES |= {"inner lookup": (LOOKED_UP, looked_up), "filter": (FILTERED, filtered)}


def project(statement: str) -> SqlProject:
    return read_project({"ddl.sql": TABLES, "app.sql": statement}, name="p")


def change(catalog: Catalog, chance: random.Random) -> None:
    name = chance.choice(["db.a", "db.a", "db.b", "db.d"])
    table = catalog.table(name)
    key = chance.choice("xyz") if name == "db.d" else chance.randrange(6)
    others = {
        "db.a": (chance.choice("xyzw"), chance.randrange(9)),
        "db.b": (chance.choice("xyz"), chance.randrange(9)),
        "db.d": (chance.choice(["north", "south"]),),
    }[name]
    kind = chance.choice(["+I", "+I", "+I", "-D"])
    rows = pl.DataFrame([(key, *others)], schema=table.schema.polars_schema, orient="row")
    table.write(rows.with_columns(pl.lit(kind).alias("_row_kind")))


def rows_of(catalog: Catalog, name: str) -> Rows:
    table = catalog.table(name)
    return [] if table.latest_snapshot() is None else table.scan().collect().to_dicts()


@pytest.mark.parametrize("query", QUERIES)
def test_a_target_is_what_its_query_gives_of_the_tables_of_now(query: str) -> None:
    statement, plain = QUERIES[query]
    declared, chance = project(statement), random.Random(11)
    catalog = Catalog(f"memory://{uuid.uuid4()}")
    catalog.execute(declared.ddl)
    (stream,) = declared.streams
    runner = StreamRunner(catalog, stream)
    for number in range(24):
        change(catalog, chance)
        if number % 3:
            continue
        while runner.run_batch() is not None:
            pass
        found = [tuple(row.values()) for row in rows_of(catalog, stream.target)]
        found = [row for row in found if stream.target != "db.sums" or row[1]]
        wanted = plain(*(rows_of(catalog, name) for name in ("db.a", "db.b", "db.d")))
        assert sorted(_zeros(found), key=str) == sorted(_zeros(wanted), key=str)
    if stream.repair is not None:
        assert repair(catalog, stream).snapshot is not None
        assert sorted(
            _zeros([tuple(row.values()) for row in rows_of(catalog, stream.target) if row.get("c", 1)]), key=str
        )


def _zeros(rows: list[tuple[object, ...]]) -> list[tuple[object, ...]]:
    """A sum of nothing is null at first, and zero once something was taken back."""
    return [tuple(0 if value is None and at == len(row) - 1 else value for at, value in enumerate(row)) for row in rows]


@pytest.mark.parametrize("producer", ["lookup", "none"])
def test_a_row_that_passes_no_longer_is_deleted_whatever_tells_it(producer: str) -> None:
    """A key that is deleted and written again between two batches, and a dimension row that goes."""
    catalog = Catalog(f"memory://{uuid.uuid4()}")
    tables = TABLES.replace("'bucket' = '1')", f"'bucket' = '1', 'changelog-producer' = '{producer}')")
    declared = [read_project({"ddl.sql": tables, "a.sql": each}, name="p") for each in (FILTERED, LOOKED_UP)]
    catalog.execute(declared[0].ddl)
    a, d = catalog.table("db.a"), catalog.table("db.d")
    row, dimension = pl.DataFrame({"id": [1], "k": ["x"], "n": [5]}), pl.DataFrame({"k": ["x"], "name": ["north"]})
    gone = pl.lit("-D").alias("_row_kind")
    a.write(row)
    d.write(dimension)
    found = []
    for each, change in zip(declared, ((a, row.with_columns(n=pl.lit(1, pl.Int64))), (d, dimension)), strict=True):
        while StreamRunner(catalog, each.streams[0]).run_batch() is not None:
            pass
        found.append(len(rows_of(catalog, "db.named")))
        table, rows = change
        table.write((row if table is a else rows).with_columns(gone))
        if table is a:
            table.write(rows)
        while StreamRunner(catalog, each.streams[0]).run_batch() is not None:
            pass
        found.append(len(rows_of(catalog, "db.named")))
    assert found == [1, 0, 1, 0]


def test_a_join_reads_both_tables_and_tells_its_columns() -> None:
    declared = project(INNER)
    (stream,) = declared.streams
    assert stream.sources == ("db.a", "db.b")
    assert stream.origins("total", ["id", "k", "n"]) == (("db.a", "n"), ("db.b", "m"))
    assert set(declared.added) == {"db.a", "db.b"}


REFUSED = {
    "no equality": ("INSERT INTO db.pairs SELECT a.id, b.bid, a.k, a.n FROM db.a JOIN db.b ON a.n > b.m", "must be equal"),
    "comma": ("INSERT INTO db.pairs SELECT a.id, b.bid, a.k, a.n FROM db.a, db.b WHERE a.k = b.k", "needs ON"),
    "using": ("INSERT INTO db.pairs SELECT a.id, b.bid, a.k, a.n FROM db.a JOIN db.b USING (k)", "needs ON"),
    "more in ON of an outer join": (
        "INSERT INTO db.named SELECT a.id, a.k, d.name, a.n FROM db.a LEFT JOIN db.d ON a.k = d.k AND d.name <> 'x'",
        "filter in WHERE",
    ),
    "three tables": (
        "INSERT INTO db.pairs SELECT a.id, b.bid, a.k, a.n FROM db.a JOIN db.b ON a.k = b.k JOIN db.d ON a.k = d.k",
        "is itself a join",
    ),
    "a lookup behind it": (
        "INSERT INTO db.pairs SELECT a.id, b.bid, d.name, a.n FROM db.a JOIN db.b ON a.k = b.k"
        " LEFT JOIN db.d FOR SYSTEM_TIME AS OF a.pt AS d ON a.k = d.k",
        "look up in a next INSERT",
    ),
    "a filtered right side": (
        "INSERT INTO db.pairs SELECT a.id, f.bid, a.k, a.n FROM db.a JOIN (SELECT * FROM db.b WHERE m > 1) AS f ON a.k = f.k",
        "filtered before the join",
    ),
    "an expression": ("INSERT INTO db.pairs SELECT a.id, b.bid, a.k, a.n FROM db.a JOIN db.b ON UPPER(a.k) = b.k", "as they"),
    "pairs of one key": ("INSERT INTO db.named SELECT a.id, a.k, b.k, b.m FROM db.a JOIN db.b ON a.k = b.k", "several pairs"),
    "no key": ("INSERT INTO db.sums SELECT a.k, COUNT(*), SUM(a.n) FROM db.a JOIN db.log ON a.k = log.k GROUP BY a.k", "key"),
    "the present": (
        "INSERT INTO db.named SELECT a.id, a.k, DATE_FORMAT(NOW(), 'yyyy'), a.n FROM db.a JOIN db.d ON a.k = d.k",
        "present time",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_a_join_cannot_be_is_refused_with_reason_and_place(case: str) -> None:
    statement, reason = REFUSED[case]
    with pytest.raises(NotIncremental, match=r"app\.sql, line \d+") as refused:
        project(statement)
    assert reason in str(refused.value)


def test_sides_of_two_types_are_told() -> None:
    with pytest.raises(SqlError, match="give both one type"):
        project("INSERT INTO db.pairs SELECT a.id, b.bid, a.k, a.n FROM db.a JOIN db.b ON a.n = b.k")

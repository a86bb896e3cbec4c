"""Queries over tables, their history, system tables and views; INSERT and DELETE. DuckDB is the independent truth."""

from __future__ import annotations

import uuid
from datetime import datetime
from decimal import Decimal

import duckdb
import polars as pl
import pytest

from storage_engine import Catalog
from storage_engine.errors import (
    InvalidRows,
    SnapshotNotFound,
    SqlError,
    StorageEngineError,
    TableNotFound,
    TagNotFound,
)

SETUP = """CREATE DATABASE db; USE db;
CREATE TABLE orders (dt STRING, id BIGINT, agent STRING, amount DECIMAL(20, 4), paid TIMESTAMP(3),
    PRIMARY KEY (dt, id) NOT ENFORCED) PARTITIONED BY (dt) WITH ('bucket' = '2', 'changelog-producer' = 'input');
CREATE TABLE agents (id STRING, team STRING, PRIMARY KEY (id) NOT ENFORCED) WITH ('bucket' = '1');
INSERT INTO agents VALUES ('x', 'red'), ('y', 'blue');
INSERT INTO orders VALUES ('2024-01-01', 1, 'x', 1.5, TIMESTAMP '2024-01-01 10:00:00.123'),
    ('2024-01-02', 2, 'y', 2.25, NULL), ('2024-01-02', 3, 'z', NULL, TIMESTAMP '2024-01-02 11:00:00');
INSERT INTO orders VALUES ('2024-01-01', 1, 'x', 7, TIMESTAMP '2024-01-01 12:00:00')"""


@pytest.fixture
def catalog() -> Catalog:
    catalog = Catalog(f"memory://query-{uuid.uuid4()}")
    catalog.execute(SETUP)
    return catalog


def rows(frame: pl.DataFrame | None) -> list[tuple[object, ...]]:
    assert frame is not None
    return frame.rows()


@pytest.mark.parametrize(
    "query",
    [
        "SELECT * FROM orders",
        "SELECT `id`, orders.amount FROM db.orders WHERE dt BETWEEN '2024-01-02' AND '2024-01-02'",
        "SELECT dt, SUM(amount) AS s, COUNT(*) AS c, COUNT(amount) AS d FROM orders GROUP BY dt HAVING COUNT(*) > 0",
        "SELECT o.id, a.team FROM orders AS o LEFT JOIN agents a ON o.agent = a.id",
        "SELECT o.id FROM orders o JOIN agents ON o.agent = agents.id WHERE agents.team = 'red'",
        "SELECT id FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY dt ORDER BY id DESC) AS n FROM orders) x WHERE n = 1",
        "WITH big AS (SELECT id, amount FROM orders WHERE amount > 2) SELECT id FROM big UNION ALL SELECT id FROM orders",
        "SELECT id FROM orders WHERE agent IN (SELECT id FROM agents) AND amount = (SELECT MAX(amount) FROM orders)",
        "SELECT CASE WHEN amount > 2 THEN 'big' ELSE 'small' END AS size, COALESCE(agent, '?') AS who FROM orders",
        "SELECT dt || '/' || agent AS k, EXTRACT(DAY FROM paid) AS d FROM orders WHERE paid IS NOT NULL",
        "SELECT id FROM orders WHERE paid >= TIMESTAMP '2024-01-01 11:59:59' -- a comment; with a semicolon",
    ],
)
def test_queries_agree_with_duckdb(catalog: Catalog, query: str):
    orders, agents = (catalog.table(name).scan().collect() for name in ("orders", "agents"))
    with duckdb.connect() as truth:
        truth.execute("CREATE SCHEMA db; USE db")
        truth.register("orders_frame", orders)
        truth.register("agents_frame", agents)
        truth.execute("CREATE TABLE db.orders AS FROM orders_frame; CREATE TABLE db.agents AS FROM agents_frame")
        expected = truth.execute(query.replace("`", '"')).fetchall()
    assert sorted(rows(catalog.execute(query)), key=repr) == sorted(expected, key=repr)
    assert sorted(catalog.sql(query).collect().rows(), key=repr) == sorted(expected, key=repr)


def test_a_query_is_lazy_and_its_predicate_reaches_the_files(catalog: Catalog):
    lazy = catalog.sql("SELECT id FROM orders WHERE dt = '2024-01-01'")
    assert isinstance(lazy, pl.LazyFrame)
    assert lazy.collect_schema() == {"id": pl.Int64}
    assert 'SELECTION: col("dt")' in lazy.explain()
    assert "FILTER" not in lazy.explain()


def test_decimals_and_times_are_exact(catalog: Catalog):
    first = rows(catalog.execute("SELECT amount, paid FROM orders VERSION AS OF 1 WHERE id = 1"))
    assert first == [(Decimal("1.5000"), datetime(2024, 1, 1, 10, 0, 0, 123_000))]


def test_the_past_is_read_by_snapshot_tag_and_time(catalog: Catalog):
    table = catalog.table("orders")
    table.create_tag("v1", 1)
    first, second = (table.store.snapshots.get(number).time_millis for number in (1, 2))
    old, new = [(Decimal("1.5000"),)], [(Decimal("7.0000"),)]
    shown = datetime.fromtimestamp(first / 1000).astimezone().isoformat()
    for clause, expected in [
        ("", new),
        ("FOR VERSION AS OF 1", old),
        ("VERSION AS OF 2", new),
        ("VERSION AS OF 'v1'", old),
        (f"TIMESTAMP AS OF {first}", old),
        (f"TIMESTAMP AS OF {second}", new),
        (f"FOR SYSTEM_TIME AS OF TIMESTAMP '{shown}'", old),
        ("/*+ OPTIONS('scan.snapshot-id'='1', 'scan.mode'='from-snapshot') */", old),
        ("/*+ OPTIONS('scan.tag-name'='v1') */", old),
        ("/*+ OPTIONS('scan.version'='v1') */", old),
        (f"/*+ OPTIONS('scan.timestamp-millis'='{first}') */", old),
        ("AS o /*+ OPTIONS('scan.tag-name'='v1') */", old),
    ]:
        assert rows(catalog.execute(f"SELECT amount FROM orders {clause} WHERE id = 1")) == expected, clause
    with pytest.raises(SnapshotNotFound):
        catalog.execute("SELECT * FROM orders VERSION AS OF 99")
    with pytest.raises(TagNotFound):
        catalog.execute("SELECT * FROM orders VERSION AS OF 'nope'")


def test_what_happened_in_between_is_read(catalog: Catalog):
    hint = "/*+ OPTIONS('incremental-between'='1,2') */"
    assert rows(catalog.execute(f"SELECT id, amount FROM orders {hint}")) == [(1, Decimal("7.0000"))]
    log = rows(catalog.execute(f"SELECT rowkind, id, amount FROM orders$audit_log {hint}"))
    assert log == [("+I", 1, Decimal("7.0000"))]


def test_system_tables_are_tables(catalog: Catalog):
    assert rows(catalog.execute("SELECT COUNT(*) FROM orders$snapshots")) == [(2,)]
    assert rows(catalog.execute("SELECT value FROM db.`orders$options` WHERE `key` = 'bucket'")) == [("2",)]
    assert rows(catalog.execute("SELECT SUM(f.record_count) FROM orders$files f")) == [(4,)]
    assert rows(catalog.execute("SELECT rowkind, COUNT(*) FROM orders$audit_log GROUP BY rowkind")) == [("+I", 3)]
    for name in ("schemas", "manifests", "partitions", "buckets", "tags", "branches", "consumers", "ro"):
        assert catalog.execute(f"SELECT * FROM orders${name}") is not None
    with pytest.raises(SqlError, match="no system table \\$nope; known: snapshots"):
        catalog.execute("SELECT * FROM orders$nope")


def test_branches_are_queried(catalog: Catalog):
    catalog.table("orders").create_tag("v1", 1)
    catalog.table("orders").create_branch("old", tag="v1")
    query = "SELECT amount FROM orders$branch_old WHERE id = 1"
    assert rows(catalog.execute(query)) == [(Decimal("1.5000"),)]
    assert rows(catalog.execute("SELECT COUNT(*) FROM orders$branch_old$snapshots")) == [(1,)]


def test_views_stand_for_their_queries(catalog: Catalog):
    catalog.execute("""CREATE VIEW big (number, money) AS SELECT id, amount FROM orders WHERE amount > 2;
        CREATE TEMPORARY VIEW bigger AS SELECT money FROM big WHERE money > 5;
        CREATE DATABASE other; USE other""")
    assert rows(catalog.execute("SELECT * FROM db.bigger")) == [(Decimal("7.0000"),)]
    assert rows(catalog.execute("SELECT number FROM db.big b ORDER BY b.number")) == [(1,), (2,)]
    assert ("big",) in rows(catalog.execute("SHOW TABLES IN db"))
    catalog.execute("USE db; DROP VIEW bigger; CREATE VIEW IF NOT EXISTS big AS SELECT 1 AS one")
    with pytest.raises(TableNotFound):
        catalog.execute("SELECT * FROM bigger")
    with pytest.raises(StorageEngineError, match=r"a table or view db\.orders exists"):
        catalog.execute("CREATE VIEW orders AS SELECT 1 AS one")
    with pytest.raises(TableNotFound, match=r"no view db\.nope"):
        catalog.execute("DROP VIEW nope")
    with pytest.raises(SqlError, match="named are 2"):
        catalog.execute("CREATE VIEW v (a, b) AS SELECT 1 AS one")


def test_views_on_views_end_somewhere(catalog: Catalog):
    views = [f"CREATE VIEW v{number} AS SELECT * FROM v{number - 1}" for number in range(1, 40)]
    catalog.execute("CREATE VIEW v0 AS SELECT id FROM orders")
    with pytest.raises(SqlError, match="views stand on each other"):
        catalog.execute("; ".join(views))


def test_the_case_studys_lookup_join_runs_on_the_newest_rows(catalog: Catalog):
    joined = catalog.execute("""SELECT t1.id, t1.agent, info.team AS team_name
        FROM (SELECT id, agent, PROCTIME() AS proc_time FROM orders) AS t1
        LEFT JOIN agents FOR SYSTEM_TIME AS OF t1.proc_time AS info ON t1.agent = info.id""")
    assert sorted(rows(joined)) == [(1, "x", "red"), (2, "y", "blue"), (3, "z", None)]


def test_insert_select_maps_columns_by_position(catalog: Catalog):
    outcome = catalog.execute(
        "INSERT INTO orders (id, dt, amount) SELECT id + 10, '2024-01-03', amount * 2 FROM orders WHERE id = 2"
    )
    assert outcome is not None
    assert outcome.to_dicts() == [{"snapshot_id": 3, "rows": 1}]
    inserted = catalog.execute("SELECT * FROM orders WHERE dt = '2024-01-03'")
    assert rows(inserted) == [("2024-01-03", 12, None, Decimal("4.5000"), None)]


def test_insert_overwrite_replaces_partitions(catalog: Catalog):
    catalog.execute(
        "INSERT OVERWRITE orders SELECT dt, id + 100, agent, amount, paid FROM orders WHERE dt = '2024-01-01'"
    )
    assert sorted(rows(catalog.execute("SELECT dt, id FROM orders"))) == [
        ("2024-01-01", 101), ("2024-01-02", 2), ("2024-01-02", 3),
    ]  # fmt: skip
    catalog.execute("INSERT OVERWRITE orders PARTITION (dt = '2024-01-02') (id, agent) VALUES (9, 'q')")
    assert sorted(rows(catalog.execute("SELECT dt, id FROM orders"))) == [("2024-01-01", 101), ("2024-01-02", 9)]
    catalog.execute("INSERT OVERWRITE orders PARTITION (dt = '2024-01-02') (id) SELECT id FROM orders WHERE id < 0")
    assert rows(catalog.execute("SELECT dt, id FROM orders")) == [("2024-01-01", 101)]


def test_partitions_are_dropped(catalog: Catalog):
    catalog.execute("ALTER TABLE orders DROP PARTITION (dt = '2024-01-02')")
    assert rows(catalog.execute("SELECT DISTINCT dt FROM orders")) == [("2024-01-01",)]
    with pytest.raises(SqlError, match="partitioned by dt, not by 'id'"):
        catalog.execute("ALTER TABLE orders DROP PARTITION (id = 1)")


def test_rows_are_deleted_by_condition(catalog: Catalog):
    outcome = catalog.execute("DELETE FROM orders WHERE amount > 2 AND agent <> 'x'")
    assert outcome is not None
    assert outcome["rows"].to_list() == [1]
    assert sorted(rows(catalog.execute("SELECT id FROM orders"))) == [(1,), (3,)]
    assert rows(catalog.execute("DELETE FROM orders WHERE id = 77")) == [(None, 0)]


def test_explain_shows_the_plan_and_what_is_left_out(catalog: Catalog):
    catalog.execute("INSERT INTO orders (dt, id, amount) VALUES ('2024-01-02', 2, 9)")
    lines = [
        line
        for (line,) in rows(
            catalog.execute("""EXPLAIN SELECT o.id, a.team FROM orders o JOIN agents a
        ON o.agent = a.id WHERE o.dt = '2024-01-02' AND o.amount > 2""")
        )
    ]
    assert any("paimon db.orders" in line for line in lines)
    at = lines.index("db.orders at snapshot 3")
    assert lines[at + 1] == "  columns: 4 of 5: dt, id, agent, amount"
    assert 'col("dt")) == ("2024-01-02")' in lines[at + 2]
    assert lines[at + 3] == "  partitions: 1 of 2"
    files = catalog.table("orders").files()
    second = files.filter(pl.col("partition") == "{2024-01-02}")
    assert lines[at + 5] == f"  files: {second.height} of {files.height}"
    assert lines[at + 6] == f"  rows in them: {second['record_count'].sum()} of {files['record_count'].sum()}"
    assert "merged" in lines[at + 8]
    assert lines[at + 9].startswith("  row groups: ")
    assert "db.agents at snapshot 1" in lines
    past = [line for (line,) in rows(catalog.execute("EXPLAIN SELECT id FROM orders VERSION AS OF 1 LIMIT 1"))]
    assert {"db.orders at snapshot 1", "  columns: 1 of 5: id", "  limit: 1"} <= set(past)


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("SELECT * FROM order", TableNotFound, "did you mean db.orders"),
        ("SELECT nope FROM orders", SqlError, "line 1, column 1: the query cannot be run: unable to find column"),
        ("USE db;\n  SELECT FOO(1) FROM orders", SqlError, "line 2, column 3: the query cannot be run"),
        ("SELECT * FROM orders WHERE", SqlError, "the query cannot be run"),
        ("SELECT CAST(agent AS INT) FROM orders", SqlError, "the query cannot be run"),
        ("SELECT " + "- " * 400 + "1", SqlError, "the query cannot be run"),
        ("SELECT * FROM orders /*+ OPTIONS('scan.tag-name'='x') */ VERSION AS OF 1", SqlError, "not several"),
        ("SELECT * FROM orders VERSION AS OF 1 /*+ OPTIONS('scan.tag-name'='x') */", SqlError, "not several"),
        ("SELECT * FROM orders /*+ OPTIONS('scan.snapshot-id'='1', 'scan.tag-name'='x') */", SqlError, "not several"),
        ("SELECT * FROM orders /*+ OPTIONS('scan.snapshot-id'='x') */", SqlError, "expected a whole number"),
        ("SELECT * FROM orders /*+ OPTIONS('foo'='x') */", SqlError, "'foo' cannot be given to a query; known: scan."),
        ("SELECT * FROM orders /*+ OPTIONS('incremental-between'='1') */", SqlError, "expected two snapshots"),
        ("SELECT * FROM orders TIMESTAMP AS OF 'soon'", SqlError, "expected '2026-11-23 12:00:00'"),
        ("INSERT INTO orders VALUES (1, 2)", SqlError, "the query gives 2 columns, expected 5: dt, id, agent"),
        ("INSERT INTO orders (id, nope) VALUES (1, 2)", SqlError, "no column 'nope'"),
        ("INSERT INTO orders (id, id) VALUES (1, 2)", SqlError, "'id' is given twice"),
        ("INSERT INTO orders PARTITION (dt = 'a') (dt, id) VALUES ('a', 2)", SqlError, "'dt' is given twice"),
        ("INSERT INTO agents VALUES ('a', 1.5)", InvalidRows, "team"),
        ("INSERT INTO agents VALUES (NULL, 'a')", InvalidRows, "column 'id', row 0"),
        ("DELETE FROM orders WHERE nope = 1", SqlError, "line 1, column 26"),
        ("DELETE FROM orders WHERE a b c", SqlError, "line 1, column 26"),
    ],
)
def test_errors_say_where_and_what(catalog: Catalog, text: str, error: type[Exception], message: str):
    with pytest.raises(error) as raised:
        catalog.execute(text)
    assert message in str(raised.value)
    assert catalog.table("orders").snapshots().height == 2


def test_sql_takes_queries_alone(catalog: Catalog):
    with pytest.raises(SqlError, match="expected a query"):
        catalog.sql("DROP TABLE orders")

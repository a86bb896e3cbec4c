"""PostgreSQL as a change source, against a real server: the mirror equals the table, whatever happens in between."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, time
from decimal import Decimal
from itertools import count
from threading import Event, Thread
from typing import Any

import polars as pl
import psycopg
import pytest

from lakehouse_assets.ingest import Ingester, Ingestion
from lakehouse_assets.quarantine import refused_lines
from lakehouse_assets.sources.errors import (
    SourceAccessDenied,
    SourceMissing,
    SourcePositionLost,
    SourceSchemaChanged,
    SourceUnavailable,
    SourceUnsupported,
)
from lakehouse_assets.sources.postgres import changes
from lakehouse_assets.sources.postgres.changes import PostgresChanges
from lakehouse_assets.sources.postgres.connection import PostgresConnection
from lakehouse_demo.postgres import installed
from storage_engine import Catalog
from tests.lakehouse_assets.quarantine_table import QUARANTINE_DDL
from tests.servers.postgres import PASSWORD, USER, PostgresServer

pytestmark = [
    pytest.mark.postgres,
    pytest.mark.skipif(not installed(), reason="PostgreSQL's server is not installed"),
]

Sql = Callable[..., list[tuple[Any, ...]]]
Mirroring = Callable[..., Ingester]
numbers = count(1)


@pytest.fixture(scope="module")
def one_server() -> Iterator[PostgresServer]:
    with PostgresServer() as server:
        yield server


@pytest.fixture
def server(one_server: PostgresServer) -> PostgresServer:
    """The server, running again if the test before killed it."""
    one_server.start()
    return one_server


@pytest.fixture
def database(server: PostgresServer) -> Iterator[str]:
    """A database of its own; its slots go with it."""
    name = f"shop_{next(numbers)}"
    with server.connect() as connection:
        connection.execute(f"CREATE DATABASE {name}")
    yield name
    server.start()
    with server.connect() as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s AND pid <> pg_backend_pid()",
            [name],
        )
        connection.execute(
            "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = %s", [name]
        )
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def sql(server: PostgresServer, database: str) -> Sql:
    """Runs statements in the test's database, which has a table ``item``, published."""

    def execute(statement: str, *values: object) -> list[tuple[Any, ...]]:
        with server.connect(database) as connection:
            cursor = connection.execute(statement, values or None)
            return cursor.fetchall() if cursor.description else []

    execute("CREATE TABLE item (id INT PRIMARY KEY, name TEXT)")
    execute("ALTER TABLE item REPLICA IDENTITY FULL")
    execute("CREATE PUBLICATION lakehouse FOR TABLE item")
    return execute


@pytest.fixture
def source(server: PostgresServer, database: str, sql: Sql) -> PostgresChanges:
    return PostgresChanges(connection_to(server, database))


def connection_to(server: PostgresServer, database: str, **changed: Any) -> PostgresConnection:
    place = {"host": "127.0.0.1", "port": server.port, "user": USER, "password": PASSWORD, "database": database}
    return PostgresConnection(**{**place, **changed})


@pytest.fixture
def mirror(catalog: Catalog, source: PostgresChanges) -> Ingester:
    """The ingestion of ``item`` into a table without the stream's own columns."""
    catalog.execute(QUARANTINE_DDL)
    catalog.execute("CREATE TABLE ods.item (id INT, name STRING, PRIMARY KEY (id) NOT ENFORCED) WITH ('bucket' = '1')")
    return ingester(catalog, source)


def ingester(catalog: Catalog, source: PostgresChanges, *, max_rows: int = 1_000) -> Ingester:
    return Ingester(catalog, source, [Ingestion(source_table="item", target="ods.item", added=())], max_rows=max_rows)


def rows(mirror: Ingester, table: str = "ods.item") -> list[tuple[Any, ...]]:
    while mirror.run_batch():
        pass
    return mirror.catalog.table(table).scan().sort("id").collect().rows()


def test_columns_may_have_the_names_of_what_is_told_of_changes(
    catalog: Catalog, source: PostgresChanges, sql: Sql
) -> None:
    catalog.execute(QUARANTINE_DDL)
    names = [
        "op",
        "deleted",
        "line",
        "source_file",
        "_time",
        "_reason",
        "raw",
        "reason",
        "target",
        "a+b ($)",
        "%s",
        "it's",
    ]
    columns = ", ".join(f'"{name}" TEXT' for name in names)
    sql(f"CREATE TABLE task (id INT PRIMARY KEY, {columns})")
    sql("ALTER TABLE task REPLICA IDENTITY FULL")
    sql("ALTER PUBLICATION lakehouse SET TABLE task")
    catalog.create_table("ods.task", {"id": "INT", **dict.fromkeys(names, "STRING")}, primary_key=["id"])
    mirror = Ingester(catalog, source, [Ingestion(source_table="task", target="ods.task", added=())])
    values = ", ".join(f"'{name[0]}'" for name in names)
    sql(f"INSERT INTO task SELECT n, {values} FROM generate_series(1, 2) n")
    assert len(rows(mirror, "ods.task")) == 2
    sql("UPDATE task SET op = 'd', deleted = 'yes', line = 'x' WHERE id = 1")
    sql("DELETE FROM task WHERE id = 2")
    assert rows(mirror, "ods.task") == [(1, "d", "yes", "x", *(name[0] for name in names[3:]))]


# -- values ------------------------------------------------------------------------------------------------------------

TYPES: dict[str, tuple[str, str, list[Any]]] = {
    "a_bool": ("BOOLEAN", "BOOLEAN", [True, False]),
    "a_small": ("SMALLINT", "SMALLINT", [-32768, 32767]),
    "a_int": ("INTEGER", "INT", [-(2**31), 2**31 - 1]),
    "a_big": ("BIGINT", "BIGINT", [-(2**63), 2**63 - 1]),
    "a_real": ("REAL", "FLOAT", [0.10000000149011612, float("-inf")]),
    "a_double": ("DOUBLE PRECISION", "DOUBLE", [0.1, -1.7976931348623157e308]),
    "a_numeric": ("NUMERIC(20,4)", "DECIMAL(20,4)", [Decimal("-9999999999999999.9999"), Decimal("0.0500")]),
    "a_free": ("NUMERIC", "DECIMAL(10,2)", [Decimal("1.50"), Decimal("-12345678.90")]),
    "a_long": (
        "NUMERIC(38,10)",
        "DECIMAL(38,10)",
        [Decimal("1234567890123456789012345678.0123456789"), Decimal("0E-10")],
    ),
    "a_date": ("DATE", "DATE", [date(1, 1, 1), date(9999, 12, 31)]),
    "a_time": ("TIME", "TIME(6)", [time(0, 0), time(23, 59, 59, 999000)]),
    "a_stamp": ("TIMESTAMP", "TIMESTAMP(6)", [datetime(1969, 12, 31, 23, 59, 59, 999999), datetime(2024, 2, 29)]),
    "a_stamp3": ("TIMESTAMP(3)", "TIMESTAMP(3)", [datetime(2024, 2, 29, 1, 2, 3, 4000), datetime(1000, 1, 1)]),
    "a_zoned": (
        "TIMESTAMPTZ",
        "TIMESTAMP_LTZ(6)",
        [datetime(2024, 3, 31, 1, 30, 0, 5, UTC), datetime(1999, 12, 31, tzinfo=UTC)],
    ),
    "a_text": ("TEXT", "STRING", ['it\'s \\ \n \t "quoted", 北京', ""]),
    "a_varchar": ("VARCHAR(300)", "STRING", ["🦆" * 70, "\\N"]),
    "a_char": ("CHAR(3)", "STRING", ["abc", "x  "]),
    "a_uuid": ("UUID", "STRING", ["00000000-0000-0000-0000-000000000001", "ffffffff-ffff-ffff-ffff-ffffffffffff"]),
    "a_jsonb": ("JSONB", "STRING", ['{"a": [1, null]}', "[]"]),
    "a_bytes": ("BYTEA", "BYTES", [b"\x00\xff\xfe", b""]),
    "some_ints": ("INT[]", "ARRAY<INT>", [[1, None, -3], []]),
    "some_texts": ("TEXT[]", "ARRAY<STRING>", [['a,"b\\c"', "", "NULL", None, "{x}"], ["y"]]),
    "a_mood": ("mood", "STRING", ["sad", "glad"]),
    "an_amount": ("amount", "DECIMAL(6,2)", [Decimal("1.25"), Decimal("9999.99")]),
    "an_interval": ("INTERVAL", "STRING", ["P1DT2H", "PT0S"]),
}


def test_types_and_values_are_exact_in_snapshots_and_changes(
    catalog: Catalog, source: PostgresChanges, sql: Sql
) -> None:
    sql("CREATE TYPE mood AS ENUM ('sad', 'glad')")
    sql("CREATE DOMAIN amount AS NUMERIC(6,2)")
    sql("DROP TABLE item")
    sql(
        f"CREATE TABLE item (id INT PRIMARY KEY, {', '.join(f'{name} {kind}' for name, (kind, _, _) in TYPES.items())})"
    )
    sql("ALTER TABLE item REPLICA IDENTITY FULL")
    sql("ALTER PUBLICATION lakehouse ADD TABLE item")
    catalog.execute(QUARANTINE_DDL)
    columns = ", ".join(f"{name} {kind}" for name, (_, kind, _) in TYPES.items())
    catalog.execute(f"CREATE TABLE ods.item (id INT, {columns}, PRIMARY KEY (id) NOT ENFORCED) WITH ('bucket' = '1')")
    wanted = [tuple(values[place] for _, _, values in TYPES.values()) for place in (0, 1)] + [(None,) * len(TYPES)]
    marks = ", ".join(f"%s::{kind}" for kind, _, _ in TYPES.values())

    def insert(first: int) -> None:
        for number, row in enumerate(wanted, start=first):
            sql(f"INSERT INTO item VALUES (%s, {marks})", number, *row)

    insert(1)
    mirror = ingester(catalog, source)
    snapshot = [(number, *row) for number, row in enumerate(wanted, start=1)]
    assert rows(mirror) == snapshot
    insert(4)
    changed = [(number, *row) for number, row in enumerate(wanted, start=4)]
    assert rows(mirror) == snapshot + changed


def test_values_that_no_column_can_hold_are_quarantined(mirror: Ingester, sql: Sql) -> None:
    sql("ALTER TABLE item ADD COLUMN price NUMERIC, ADD COLUMN day DATE, ADD COLUMN grid INT[]")
    mirror.catalog.execute("ALTER TABLE ods.item ADD price DECIMAL(6, 2)")
    bad = [
        "'NaN', NULL, NULL",
        "12345, NULL, NULL",
        "1.234, NULL, NULL",
        "NULL, 'infinity', NULL",
        "NULL, NULL, '{{1},{2}}'",
    ]
    for number, values in enumerate(bad):
        sql(f"INSERT INTO item VALUES ({number}, 'x', {values})")
    assert rows(mirror) == []
    sql("INSERT INTO item SELECT id + 10, name, price, day, grid FROM item")
    sql("INSERT INTO item VALUES (99, 'good', 1.20, '2024-01-01', '{1}')")
    assert rows(mirror) == [(99, "good", Decimal("1.20"), date(2024, 1, 1), [1])]
    refused = refused_lines(mirror.quarantine)
    assert refused.height == 10
    assert set(refused["reason"]) == {
        "price is no DECIMAL(6, 2): NaN",
        "price is no DECIMAL(6, 2): 12345",
        "price is no DECIMAL(6, 2): 1.234",
        "day is no DATE: infinity",
        "grid is no ARRAY<INT>: {{1},{2}}",
    }


# -- changes -----------------------------------------------------------------------------------------------------------


def test_a_snapshot_and_then_every_kind_of_change(mirror: Ingester, sql: Sql) -> None:
    sql("INSERT INTO item VALUES (1, 'a'), (2, 'b')")
    assert rows(mirror) == [(1, "a"), (2, "b")]
    assert mirror.waiting() == []
    sql("INSERT INTO item VALUES (3, NULL)")
    assert mirror.waiting() == ["ods.item"]
    sql("UPDATE item SET name = 'B' WHERE id = 2")
    sql("UPDATE item SET id = 9 WHERE id = 1")
    sql("DELETE FROM item WHERE id = 3")
    assert rows(mirror) == [(2, "B"), (9, "a")]


def test_large_values_that_an_update_does_not_touch_stay(mirror: Ingester, sql: Sql) -> None:
    large = "".join(random.Random(1).choices("abcdefghijklmnopqrstuvwxyz0123456789", k=20_000))
    sql("ALTER TABLE item ALTER name SET STORAGE EXTERNAL")
    sql("ALTER TABLE item ADD COLUMN size INT")
    assert rows(mirror) == []
    sql("INSERT INTO item VALUES (1, %s, 1)", large)
    sql("UPDATE item SET size = 2")
    assert rows(mirror) == [(1, large, 2)]


def test_a_truncated_table_is_empty_here_too(mirror: Ingester, sql: Sql, server: PostgresServer, database: str) -> None:
    sql("INSERT INTO item VALUES (1, 'a'), (2, 'b')")
    assert len(rows(mirror)) == 2
    sql("INSERT INTO item VALUES (3, 'c')")
    with server.connect(database) as connection, connection.transaction():
        connection.execute("INSERT INTO item VALUES (4, 'd')")
        connection.execute("TRUNCATE item")
        connection.execute("INSERT INTO item VALUES (2, 'B'), (5, 'e')")
    sql("INSERT INTO item VALUES (6, 'f')")
    assert rows(mirror) == [(2, "B"), (5, "e"), (6, "f")]
    sql("TRUNCATE item")
    assert rows(mirror) == []


def test_a_rolled_back_transaction_leaves_nothing(mirror: Ingester, server: PostgresServer, database: str) -> None:
    assert rows(mirror) == []
    with server.connect(database) as connection, connection.transaction() as transaction:
        connection.execute("INSERT INTO item VALUES (1, 'a')")
        raise psycopg.Rollback(transaction)
    with server.connect(database) as connection, connection.transaction():
        connection.execute("INSERT INTO item VALUES (2, 'b')")
        with pytest.raises(psycopg.errors.UniqueViolation), connection.transaction():
            connection.execute("INSERT INTO item VALUES (3, 'c'), (2, 'b')")
    assert rows(mirror) == [(2, "b")]


def test_transactions_that_are_open_during_the_snapshot_come_once(
    mirror: Ingester, server: PostgresServer, database: str, sql: Sql
) -> None:
    """The slot begins before the snapshot: what the snapshot shows is not told again, and nothing between them is lost."""
    other = PostgresChanges(connection_to(server, database))
    assert other.everything(mirror.ingestions[0].expected(mirror.tables["ods.item"].schema)).rows.is_empty()
    sql("INSERT INTO item VALUES (1, 'in the log and in the snapshot')")
    mirror.run_batch()
    table = mirror.tables["ods.item"]
    commits = table.snapshots().filter(pl.col("commit_kind") == "APPEND").height
    with server.connect(database) as connection, connection.transaction():
        connection.execute("INSERT INTO item VALUES (2, 'open')")
        assert mirror.run_batch() == []
    assert rows(mirror) == [(1, "in the log and in the snapshot"), (2, "open")]
    assert table.snapshots().filter(pl.col("commit_kind") == "APPEND").height == commits + 1


def test_batches_are_whole_transactions_bounded_by_rows(catalog: Catalog, mirror: Ingester, sql: Sql) -> None:
    assert rows(mirror) == []
    for first in (0, 10, 20):
        sql("INSERT INTO item SELECT n, 'x' FROM generate_series(%s::int, %s::int) n", first, first + 5)
    small = ingester(catalog, mirror.source, max_rows=7)
    sizes = []
    while results := small.run_batch():
        sizes.append(results[0].rows_read)
    assert sizes == [12, 6]


def test_a_busy_table_is_mirrored_exactly(mirror: Ingester, server: PostgresServer, database: str, sql: Sql) -> None:
    """Writers go on while the snapshot is taken and the log is read."""
    sql("INSERT INTO item SELECT n, 'x' FROM generate_series(1, 50) n")
    stop = Event()

    def work(seed: int) -> None:
        choose = random.Random(seed)
        with server.connect(database) as connection:
            while not stop.is_set():
                key = choose.randrange(60)
                with connection.transaction():
                    if choose.random() < 0.3:
                        connection.execute("DELETE FROM item WHERE id = %s", [key])
                    connection.execute(
                        "INSERT INTO item VALUES (%s, %s) ON CONFLICT (id) DO UPDATE SET name = excluded.name",
                        [choose.randrange(60), str(choose.random())],
                    )

    workers = [Thread(target=work, args=(seed,)) for seed in range(3)]
    for worker in workers:
        worker.start()
    for _ in range(15):
        mirror.run_batch()
    stop.set()
    for worker in workers:
        worker.join()
    assert rows(mirror) == sql("SELECT id, name FROM item ORDER BY id")


# -- the slot ----------------------------------------------------------------------------------------------------------


def confirmed(sql: Sql) -> int:
    return int(
        sql("SELECT (confirmed_flush_lsn - '0/0')::bigint FROM pg_replication_slots WHERE slot_name = 'lakehouse'")[0][
            0
        ]
    )


def test_the_slot_follows_what_is_committed(catalog: Catalog, mirror: Ingester, sql: Sql) -> None:
    assert rows(mirror) == []
    start = confirmed(sql)
    sql("INSERT INTO item VALUES (1, 'a')")
    table, source = mirror.tables["ods.item"], mirror.source
    asked = mirror.ingestions[0].expected(table.schema)
    position = str(table.committed_properties("stream-ods.item")).split('"source": "')[1].split('"')[0]
    batch = source.read([(asked, position)], max_rows=10)["item"]
    again = source.read([(asked, position)], max_rows=10)["item"]
    assert again.rows.equals(batch.rows)
    assert (again.position, confirmed(sql)) == (batch.position, start)
    assert rows(mirror) == [(1, "a")]
    assert confirmed(sql) > start


def test_an_idle_table_lets_the_server_forget_its_log(
    mirror: Ingester, sql: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changes, "IDLE_BYTES", 100_000)
    assert rows(mirror) == []
    start = confirmed(sql)
    sql("CREATE TABLE other AS SELECT n, repeat('x', 100) AS text FROM generate_series(1, 5000) n")
    sql("CHECKPOINT")
    assert rows(mirror) == []
    assert confirmed(sql) > start + 100_000
    sql("INSERT INTO item VALUES (1, 'a')")
    assert rows(mirror) == [(1, "a")]


@pytest.mark.parametrize("made_again", [False, True])
def test_a_slot_that_is_gone_is_told_and_a_new_snapshot_goes_on(
    mirror: Ingester, sql: Sql, *, made_again: bool
) -> None:
    sql("INSERT INTO item VALUES (1, 'a'), (2, 'b')")
    assert len(rows(mirror)) == 2
    sql("SELECT pg_drop_replication_slot('lakehouse')")
    sql("DELETE FROM item WHERE id = 1")
    if made_again:
        sql("SELECT pg_create_logical_replication_slot('lakehouse', 'pgoutput')")
    with pytest.raises(SourcePositionLost, match="new snapshot"):
        mirror.run_batch()
    mirror.resnapshot(mirror.ingestions[0])
    sql("INSERT INTO item VALUES (3, 'c')")
    assert rows(mirror) == [(2, "b"), (3, "c")]


def test_a_slot_whose_log_was_removed_is_told(mirror: Ingester, server: PostgresServer, sql: Sql) -> None:
    sql("INSERT INTO item VALUES (1, 'a')")
    assert rows(mirror) == [(1, "a")]
    sql("ALTER SYSTEM SET max_slot_wal_keep_size = '1MB'")
    sql("SELECT pg_reload_conf()")
    try:
        for _ in range(8):
            sql("CREATE TABLE IF NOT EXISTS filler (text TEXT)")
            sql("INSERT INTO filler SELECT repeat(md5(n::text), 100) FROM generate_series(1, 20000) n")
            sql("SELECT pg_switch_wal()")
            sql("CHECKPOINT")
            if sql("SELECT wal_status FROM pg_replication_slots")[0][0] == "lost":
                break
        with pytest.raises(SourcePositionLost, match="max_slot_wal_keep_size"):
            mirror.run_batch()
    finally:
        sql("ALTER SYSTEM RESET max_slot_wal_keep_size")
        sql("SELECT pg_reload_conf()")
    mirror.resnapshot(mirror.ingestions[0])
    sql("INSERT INTO item VALUES (2, 'b')")
    assert rows(mirror) == [(1, "a"), (2, "b")]


def test_a_publication_that_is_younger_than_the_slot_is_told_with_the_way_out(mirror: Ingester, sql: Sql) -> None:
    assert rows(mirror) == []
    sql("DROP PUBLICATION lakehouse")
    sql("INSERT INTO item VALUES (1, 'a')")
    sql("CREATE PUBLICATION lakehouse FOR TABLE item")
    with pytest.raises(SourceMissing, match="run pg_drop_replication_slot, then take a new snapshot"):
        mirror.run_batch()
    sql("SELECT pg_drop_replication_slot('lakehouse')")
    mirror.resnapshot(mirror.ingestions[0])
    sql("INSERT INTO item VALUES (2, 'b')")
    assert rows(mirror) == [(1, "a"), (2, "b")]


# -- tables and servers that change ------------------------------------------------------------------------------------


def test_added_and_widened_columns_are_followed(mirror: Ingester, sql: Sql) -> None:
    sql("INSERT INTO item VALUES (1, 'a')")
    assert rows(mirror) == [(1, "a")]
    sql("INSERT INTO item VALUES (2, 'b')")
    sql("ALTER TABLE item ADD COLUMN size INT")
    sql("INSERT INTO item VALUES (3, 'c', 7)")
    assert rows(mirror) == [(1, "a", None), (2, "b", None), (3, "c", 7)]
    sql("ALTER TABLE item ALTER size TYPE BIGINT")
    sql("INSERT INTO item VALUES (4, 'd', 8000000000)")
    assert rows(mirror)[-1] == (4, "d", 8_000_000_000)
    sql("ALTER TABLE item ADD COLUMN kind TEXT DEFAULT 'new'")
    (read_anew,) = mirror.run_batch()
    assert (read_anew.target, read_anew.rows_read) == ("ods.item", 4)
    assert [row[-1] for row in rows(mirror)] == ["new"] * 4


def test_dropped_and_renamed_columns_wait_for_a_person(mirror: Ingester, sql: Sql) -> None:
    sql("INSERT INTO item VALUES (1, 'a')")
    assert rows(mirror) == [(1, "a")]
    sql("ALTER TABLE item RENAME name TO title")
    sql("INSERT INTO item VALUES (2, 'b')")
    with pytest.raises(SourceSchemaChanged, match=r"no longer has name.*has title anew"):
        mirror.run_batch()
    mirror.catalog.execute("ALTER TABLE ods.item RENAME name TO title")
    assert rows(mirror) == [(1, "a"), (2, "b")]
    sql("ALTER TABLE item DROP title")
    sql("INSERT INTO item VALUES (3)")
    with pytest.raises(SourceSchemaChanged, match="no longer has title"):
        mirror.run_batch()
    mirror.catalog.execute("ALTER TABLE ods.item ADD COLUMN note STRING")
    mirror.catalog.execute("ALTER TABLE ods.item DROP COLUMN title")
    mirror.catalog.execute("ALTER TABLE ods.item DROP COLUMN note")
    assert rows(mirror) == [(1,), (2,), (3,)]


def test_a_server_that_vanishes_and_comes_back_loses_nothing(
    mirror: Ingester, server: PostgresServer, sql: Sql
) -> None:
    sql("INSERT INTO item VALUES (1, 'a')")
    assert rows(mirror) == [(1, "a")]
    sql("INSERT INTO item VALUES (2, 'b')")
    server.kill()
    for read in (mirror.run_batch, mirror.waiting):
        with pytest.raises(SourceUnavailable, match="is away; the next run goes on"):
            read()
    server.start()
    sql("INSERT INTO item VALUES (3, 'c')")
    assert rows(mirror) == [(1, "a"), (2, "b"), (3, "c")]


@pytest.mark.parametrize(
    ("changed", "error"),
    [
        ({"password": "sesame-" + PASSWORD}, SourceAccessDenied),
        ({"user": "nobody"}, SourceAccessDenied),
        ({"database": "absent"}, SourceMissing),
        ({"port": 1}, SourceUnavailable),
    ],
)
def test_a_server_that_refuses_is_told_and_no_password_shown(
    catalog: Catalog,
    mirror: Ingester,
    server: PostgresServer,
    database: str,
    changed: dict[str, Any],
    error: type[Exception],
) -> None:
    source = PostgresChanges(connection_to(server, **{"database": database, **changed}))
    with pytest.raises(error) as told:
        ingester(catalog, source).run_batch()
    assert PASSWORD not in str(told.value) + repr(source.__dict__)


@pytest.mark.parametrize(
    ("statement", "error", "remedy"),
    [
        ("DROP TABLE item", SourceMissing, "there is no table public.item"),
        ("ALTER TABLE item REPLICA IDENTITY DEFAULT", SourceUnsupported, "REPLICA IDENTITY FULL"),
        ("ALTER TABLE item DROP CONSTRAINT item_pkey", SourceUnsupported, "no primary key"),
        ("ALTER PUBLICATION lakehouse DROP TABLE item", SourceUnsupported, "ADD TABLE public.item"),
        ("ALTER PUBLICATION lakehouse SET (publish = 'insert')", SourceUnsupported, "leaves out changes"),
        ("DROP PUBLICATION lakehouse", SourceMissing, "CREATE PUBLICATION lakehouse"),
    ],
)
def test_what_cannot_be_read_exactly_is_refused(
    mirror: Ingester, sql: Sql, statement: str, error: type[Exception], remedy: str
) -> None:
    sql(statement)
    with pytest.raises(error, match=remedy):
        mirror.run_batch()

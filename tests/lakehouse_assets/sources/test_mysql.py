"""The MySQL source against real servers, MariaDB and MySQL: what it delivers equals what SQL says, whatever they do."""

from __future__ import annotations

import contextlib
import json
import socket
import time
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from itertools import count
from threading import Event, Thread
from typing import Any, Self

import polars as pl
import pymysql
import pytest

from lakehouse_assets.sources.change_source import OP
from lakehouse_assets.sources.errors import (
    SourceError,
    SourcePositionLost,
    SourceSchemaChanged,
    SourceUnavailable,
    SourceUnsupported,
)
from lakehouse_assets.sources.mysql.binlog import BinlogPosition
from lakehouse_assets.sources.mysql.connection import MySqlConnection
from lakehouse_assets.sources.mysql.source import ChangeBatch, MySqlSource
from lakehouse_assets.sources.mysql.tables import POSITION
from lakehouse_demo.source_tables import SOURCE_TABLES
from lakehouse_demo.sql_server import SqlServer
from lakehouse_demo.sql_workload import WorkloadConfig, prepare, run
from tests.servers.sql import MARIADB, MYSQL, SERVERS, serving

Sql = Callable[..., Any]
Rows = dict[tuple[Any, ...], dict[str, Any]]
numbers = count(1)


@pytest.fixture(scope="module", params=SERVERS)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SqlServer]:
    with serving(request.param, tmp_path_factory.mktemp(request.param)) as server:
        yield server


@pytest.fixture
def running(server: SqlServer) -> SqlServer:
    """The server, running again if the test before stopped it."""
    server.start()
    return server


@pytest.fixture
def database(running: SqlServer) -> Iterator[str]:
    name = f"shop_{next(numbers)}"
    with running.admin.connect() as connection, connection.cursor() as cursor:
        cursor.execute(f"CREATE DATABASE {name}")
        yield name


@pytest.fixture
def sql(running: SqlServer, database: str) -> Iterator[Sql]:
    """Runs a statement in the test's database, by itself or within a transaction that was started."""
    with running.admin.connect() as connection, connection.cursor() as cursor:
        connection.select_db(database)
        connection.autocommit(True)

        def execute(statement: str, *values: object) -> Any:
            cursor.execute(statement, values or None)
            return cursor.fetchall()

        yield execute


def source_of(server: SqlServer, database: str, *tables: str, **changed: Any) -> MySqlSource:
    login = server.admin
    settings: dict[str, Any] = {"host": login.host, "port": login.port, "user": login.user, "password": login.password}
    return MySqlSource(MySqlConnection(**settings | {"database": database} | changed), tables)


@pytest.fixture
def source(running: SqlServer, database: str, sql: Sql) -> MySqlSource:
    """A source of table ``item`` (id, text)."""
    sql("CREATE TABLE item (id INT PRIMARY KEY, text VARCHAR(50))")
    return source_of(running, database, "item")


def insert_many(sql: Sql, numbers: range, text: str = "x") -> None:
    """Rows of ``item`` by one statement."""
    sql(f"INSERT INTO item VALUES {', '.join(f'({number}, {text!r})' for number in numbers)}")


def ops(batch: ChangeBatch, table: str = "item") -> list[tuple[Any, ...]]:
    return batch.frames[table].drop(POSITION).rows()


def apply(state: Rows, frame: pl.DataFrame, *key: str) -> None:
    for row in frame.drop(POSITION).iter_rows(named=True):
        place = tuple(row[column] for column in key)
        if row.pop(OP) == "d":
            state.pop(place)
        else:
            state[place] = row


def all_batches(source: MySqlSource, after: int, *, max_rows: int) -> list[ChangeBatch]:
    batches = [source.changes(after, max_rows=max_rows)]
    while not batches[-1].at_end:
        batches.append(source.changes(batches[-1].position, max_rows=max_rows))
    return batches


# values

TYPES: dict[str, tuple[str, pl.DataType, list[Any]]] = {
    "a_tinyint": ("TINYINT", pl.Int8(), [-128, 127]),
    "a_utinyint": ("TINYINT UNSIGNED", pl.Int16(), [0, 255]),
    "a_bool": ("BOOL", pl.Int8(), [0, 1]),
    "a_smallint": ("SMALLINT", pl.Int16(), [-32768, 32767]),
    "a_usmallint": ("SMALLINT UNSIGNED", pl.Int32(), [0, 65535]),
    "a_mediumint": ("MEDIUMINT", pl.Int32(), [-8388608, 8388607]),
    "a_int": ("INT", pl.Int32(), [-2147483648, 2147483647]),
    "a_uint": ("INT UNSIGNED", pl.Int64(), [0, 4294967295]),
    "a_bigint": ("BIGINT", pl.Int64(), [-9223372036854775808, 9223372036854775807]),
    "a_ubigint": ("BIGINT UNSIGNED", pl.Decimal(20, 0), [Decimal(0), Decimal(18446744073709551615)]),
    "a_decimal": (
        "DECIMAL(20,4)",
        pl.Decimal(20, 4),
        [Decimal("-9999999999999999.9999"), Decimal("9999999999999999.9999")],
    ),
    "a_small_decimal": ("DECIMAL(20,4)", pl.Decimal(20, 4), [Decimal("-0.0001"), Decimal("100000000.0500")]),
    "a_long_decimal": (
        "DECIMAL(38,10)",
        pl.Decimal(38, 10),
        [Decimal("-1234567890123456789012345678.0123456789"), None],
    ),
    "a_float": ("FLOAT", pl.Float32(), [0.10000000149011612, -16777216.0]),
    "a_double": ("DOUBLE", pl.Float64(), [0.1, -1.7976931348623157e308]),
    "a_year": ("YEAR", pl.Int16(), [1901, 2155]),
    "a_date": ("DATE", pl.Date(), [date(1000, 1, 1), date(9999, 12, 31)]),
    "a_datetime": ("DATETIME", pl.Datetime("ms"), [datetime(1000, 1, 1), datetime(9999, 12, 31, 23, 59, 59)]),
    "a_datetime3": (
        "DATETIME(3)",
        pl.Datetime("ms"),
        [datetime(1969, 12, 31, 23, 59, 59, 999000), datetime(2024, 2, 29, 1, 2, 3, 4000)],
    ),
    "a_datetime6": (
        "DATETIME(6)",
        pl.Datetime("us"),
        [datetime(1969, 12, 31, 23, 59, 59, 999999), datetime(2024, 2, 29)],
    ),
    "a_timestamp3": (
        "TIMESTAMP(3) NULL",
        pl.Datetime("ms", "UTC"),
        [datetime(2024, 3, 31, 1, 30, 0, 5000, UTC), datetime(1999, 12, 31, tzinfo=UTC)],
    ),
    "a_char": ("CHAR(5)", pl.String(), ["", "北京"]),
    "a_varchar": ("VARCHAR(300)", pl.String(), ["🦆" * 70, 'it\'s \\ \n \t "quoted"']),
    "a_latin": ("VARCHAR(10) CHARACTER SET latin1", pl.String(), ["Müller", "é"]),
    "a_text": ("TEXT", pl.String(), ["x" * 60_000, ""]),
    "a_time": ("TIME", pl.String(), ["-838:59:59", "00:00:00"]),
    "a_time3": ("TIME(3)", pl.String(), ["838:59:58.999", "23:59:59.040"]),
    "a_set": ("SET('it''s','b','cd')", pl.String(), ["it's,cd", ""]),
    "a_bit": ("BIT", pl.Boolean(), [True, False]),
    "a_bit20": ("BIT(20)", pl.Binary(), [b"\x0f\xff\xfe", b"\x00\x00\x01"]),
    "a_year0": ("YEAR", pl.Int16(), [0, 2000]),
    "a_enum": ("ENUM('small','large')", pl.String(), ["small", "large"]),
    "a_varbinary": ("VARBINARY(10)", pl.Binary(), [b"\x00\xff\xfe", b""]),
    "a_blob": ("BLOB", pl.Binary(), [b"\x00" * 300, b"\xc3\x28"]),
}


def typed_rows() -> list[dict[str, Any]]:
    nulls: dict[str, Any] = {"id": 3} | dict.fromkeys(TYPES)
    return [{"id": place + 1} | {name: values[place] for name, (_, _, values) in TYPES.items()} for place in (0, 1)] + [
        nulls
    ]


def make_typed_table(sql: Sql) -> None:
    sql("SET time_zone = '+00:00'")
    columns = ", ".join(f"{name} {sql_type}" for name, (sql_type, _, _) in TYPES.items())
    sql(f"CREATE TABLE typed (id INT PRIMARY KEY, {columns})")


def insert_typed_rows(sql: Sql) -> None:
    for row in typed_rows():
        values = [value.replace(tzinfo=None) if isinstance(value, datetime) else value for value in row.values()]
        sql(f"INSERT INTO typed VALUES ({', '.join(['%s'] * len(row))})", *values)


def test_types_and_values_of_changes_are_exact(running: SqlServer, database: str, sql: Sql) -> None:
    make_typed_table(sql)
    source = source_of(running, database, "typed")
    start = source.position()
    insert_typed_rows(sql)
    frame = source.changes(start, max_rows=100).frames["typed"]
    assert dict(frame.drop(OP, POSITION).schema) == {"id": pl.Int32()} | {
        name: dtype for name, (_, dtype, _) in TYPES.items()
    }
    assert frame.drop(OP, POSITION).to_dicts() == typed_rows()


def test_types_and_values_of_a_snapshot_are_exact(running: SqlServer, database: str, sql: Sql) -> None:
    make_typed_table(sql)
    insert_typed_rows(sql)
    source = source_of(running, database, "typed")
    frame = source.snapshot().frames["typed"]
    assert frame[OP].to_list() == ["r"] * 3
    assert frame.drop(OP, POSITION).sort("id").to_dicts() == typed_rows()
    assert frame.schema == source.changes(source.position(), max_rows=1).frames["typed"].schema


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        ("id INT PRIMARY KEY, p POINT", "column p of table odd (point"),
        ("id INT PRIMARY KEY, d DECIMAL(50,4)", "50 digits"),
        ("id INT PRIMARY KEY, v VARCHAR(5), g INT AS (id + 1) VIRTUAL", "column g of table odd"),
        ("id INT PRIMARY KEY, g INT AS (id + 1) STORED", "column g of table odd"),
        ("id INT", "no primary key"),
        ("id INT PRIMARY KEY) ENGINE=MyISAM COMMENT=('x'", "MyISAM"),
    ],
)
def test_a_table_that_cannot_be_read_exactly_is_refused(
    running: SqlServer, database: str, sql: Sql, columns: str, told: str
) -> None:
    sql(f"CREATE TABLE odd ({columns})".replace("COMMENT=('x')", ""))
    source = source_of(running, database, "odd")
    for read in (source.snapshot, source.columns, lambda: source.changes(source.position(), max_rows=1)):
        with pytest.raises(SourceUnsupported) as error:
            read()
        assert told in str(error.value)


def test_a_missing_table_is_told(running: SqlServer, database: str) -> None:
    with pytest.raises(SourceUnsupported, match="there is no table nowhere"):
        source_of(running, database, "nowhere").snapshot()


# changes


def test_inserts_updates_and_deletes_come_in_source_order(source: MySqlSource, sql: Sql) -> None:
    start = source.position()
    sql("INSERT INTO item VALUES (1, 'a'), (2, 'b')")
    sql("UPDATE item SET text = 'c' WHERE id = 1")
    sql("DELETE FROM item WHERE id = 2")
    assert ops(source.changes(start, max_rows=100)) == [
        ("c", 1, "a"),
        ("c", 2, "b"),
        ("u", 1, "c"),
        ("d", 2, "b"),
    ]


def test_an_update_of_the_key_is_a_delete_and_an_insert(source: MySqlSource, sql: Sql) -> None:
    sql("INSERT INTO item VALUES (1, 'a'), (5, 'b')")
    start = source.position()
    sql("UPDATE item SET id = id + 1 ORDER BY id DESC")
    sql("UPDATE item SET text = 'z' WHERE id = 6")
    assert ops(source.changes(start, max_rows=100)) == [
        ("d", 5, "b"),
        ("c", 6, "b"),
        ("d", 1, "a"),
        ("c", 2, "a"),
        ("u", 6, "z"),
    ]


def test_what_was_rolled_back_does_not_come(source: MySqlSource, sql: Sql) -> None:
    start = source.position()
    sql("START TRANSACTION")
    sql("INSERT INTO item VALUES (1, 'never')")
    sql("ROLLBACK")
    sql("START TRANSACTION")
    sql("INSERT INTO item VALUES (2, 'kept')")
    sql("SAVEPOINT here")
    sql("INSERT INTO item VALUES (3, 'never')")
    sql("ROLLBACK TO SAVEPOINT here")
    sql("INSERT INTO item VALUES (4, 'kept')")
    sql("COMMIT")
    assert ops(source.changes(start, max_rows=100)) == [("c", 2, "kept"), ("c", 4, "kept")]


def test_a_batch_never_ends_within_a_transaction(source: MySqlSource, sql: Sql) -> None:
    start = source.position()
    sizes = [3, 1, 40, 2]
    for number, size in enumerate(sizes):
        sql("START TRANSACTION")
        for place in range(size):
            sql("INSERT INTO item VALUES (%s, %s)", 100 * number + place, f"transaction {number}")
        sql("COMMIT")
    batches = all_batches(source, start, max_rows=1)
    assert [batch.rows for batch in batches if batch.rows] == sizes
    for batch in batches:
        assert batch.frames["item"]["text"].n_unique() == min(batch.rows, 1)
        assert batch.frames["item"][POSITION].unique().to_list() in ([], [batch.position])
    assert [batch.rows for batch in all_batches(source, start, max_rows=4)][:2] == [4, 40]


def test_positions_grow_and_the_same_position_gives_the_same_changes(source: MySqlSource, sql: Sql) -> None:
    start = source.position()
    for number in range(10):
        sql("INSERT INTO item VALUES (%s, 'x')", number)
    batches = all_batches(source, start, max_rows=3)
    positions = [start, *(batch.position for batch in batches)]
    assert positions == sorted(positions)
    assert positions[-1] == source.position()
    for before, batch in zip(positions, batches, strict=False):
        again = source.changes(before, max_rows=3)
        assert again.position == batch.position
        assert again.frames["item"].equals(batch.frames["item"])
        assert batch.of("item", after=before).equals(batch.frames["item"])
        assert batch.of("item", after=batch.position).is_empty()
        assert batch.of("item", after=None).equals(batch.frames["item"])


def test_a_batch_can_be_cut_at_the_position_of_any_transaction(source: MySqlSource, sql: Sql) -> None:
    start = source.position()
    for number in range(4):
        sql("INSERT INTO item VALUES (%s, 'x')", number)
    middle = source.changes(start, max_rows=2).position
    whole = source.changes(start, max_rows=100)
    assert whole.of("item", after=middle)["id"].to_list() == [2, 3]


def test_nothing_new_gives_empty_frames_of_the_same_schema(source: MySqlSource, sql: Sql) -> None:
    sql("INSERT INTO item VALUES (1, 'a')")
    batch = source.changes(source.position(), max_rows=10)
    assert (batch.rows, batch.at_end, batch.position) == (0, True, source.position())
    assert batch.frames["item"].schema == source.snapshot().frames["item"].schema


def test_changes_elsewhere_only_move_the_position(
    running: SqlServer, source: MySqlSource, sql: Sql, database: str
) -> None:
    start = source.position()
    sql("CREATE TABLE other (id INT PRIMARY KEY)")
    sql("INSERT INTO other VALUES (1)")
    sql(f"CREATE DATABASE {database}_more")
    sql(f"CREATE TABLE {database}_more.item (id INT PRIMARY KEY, text VARCHAR(5))")
    sql(f"INSERT INTO {database}_more.item VALUES (1, 'no')")
    sql("CREATE TABLE copied AS SELECT * FROM item")
    sql("TRUNCATE TABLE other")
    sql(f"DROP DATABASE {database}_more")
    batch = source.changes(start, max_rows=10)
    assert batch.rows == 0
    assert batch.position == source.position() > start


def test_changes_of_several_tables_come_together(
    running: SqlServer, source: MySqlSource, sql: Sql, database: str
) -> None:
    sql("CREATE TABLE price (id INT PRIMARY KEY, amount DECIMAL(20,4))")
    both = source_of(running, database, "item", "price")
    start = both.position()
    sql("START TRANSACTION")
    sql("INSERT INTO item VALUES (1, 'a')")
    sql("INSERT INTO price VALUES (1, 2.5)")
    sql("UPDATE item SET text = 'b'")
    sql("COMMIT")
    batch = both.changes(start, max_rows=1)
    assert ops(batch) == [("c", 1, "a"), ("u", 1, "b")]
    assert ops(batch, "price") == [("c", 1, Decimal("2.5000"))]


# snapshot


def test_a_snapshot_and_the_changes_after_it_meet_without_gap_or_overlap(
    running: SqlServer, source: MySqlSource, sql: Sql, database: str
) -> None:
    sql("INSERT INTO item VALUES (1, 'before')")
    sql("START TRANSACTION")
    sql("INSERT INTO item VALUES (2, 'open while the snapshot is taken')")
    snapshot = source.snapshot()
    sql("COMMIT")
    assert ops(snapshot) == [("r", 1, "before")]
    assert snapshot.frames["item"][POSITION].to_list() == [snapshot.position]
    assert ops(source.changes(snapshot.position, max_rows=10)) == [("c", 2, "open while the snapshot is taken")]


def test_a_snapshot_can_be_of_some_tables(running: SqlServer, source: MySqlSource, sql: Sql, database: str) -> None:
    sql("CREATE TABLE price (id INT PRIMARY KEY)")
    assert source_of(running, database, "item", "price").snapshot(["price"]).frames.keys() == {"price"}


def test_a_large_table_is_read_whole(source: MySqlSource, sql: Sql, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lakehouse_assets.sources.mysql.source.SNAPSHOT_CHUNK_ROWS", 1_000)
    insert_many(sql, range(1, 4_501))
    frame = source.snapshot().frames["item"]
    assert frame["id"].sort().to_list() == list(range(1, 4_501))


@pytest.mark.parametrize("max_rows", [50, 100_000])
def test_snapshot_and_changes_of_the_workload_equal_sql(running: SqlServer, max_rows: int) -> None:
    config = WorkloadConfig(seed=max_rows, members=200, agents=12, transactions=300)
    with running.admin.connect() as connection, connection.cursor(pymysql.cursors.DictCursor) as cursor:
        for name in ("sales", "workload"):
            cursor.execute(f"DROP DATABASE IF EXISTS {name}")
        prepare(connection, config)
        source = source_of(running, "sales", *SOURCE_TABLES, **vars_of(running.reader))
        run(connection, config, transactions=100)
        snapshot = source.snapshot()
        run(connection, config, transactions=200)
        batches = [snapshot, *all_batches(source, snapshot.position, max_rows=max_rows)]
        for table in SOURCE_TABLES.values():
            state: Rows = {}
            for batch in batches:
                apply(state, batch.frames[table.name], *table.key)
            cursor.execute(f"SELECT * FROM sales.{table.name}")
            expected = {tuple(row[column] for column in table.key): row for row in cursor.fetchall()}
            assert state == expected
    changed = pl.concat([batch.frames["member_order"] for batch in batches])[OP].value_counts()
    assert dict(changed.iter_rows()).keys() == {"r", "c", "u", "d"}


def vars_of(login: Any) -> dict[str, Any]:
    return {"user": login.user, "password": login.password}


# a server that goes and comes back


def test_a_server_that_is_away_is_told_and_reading_goes_on_when_it_is_back(
    running: SqlServer, source: MySqlSource, database: str, sql: Sql
) -> None:
    start = source.position()
    sql("INSERT INTO item VALUES (1, 'before')")
    running.stop()
    for read in (source.position, source.snapshot, lambda: source.changes(start, max_rows=10)):
        with pytest.raises(SourceUnavailable, match="away"):
            read()
    running.start()
    source = source_of(running, database, "item")
    with running.admin.connect() as connection, connection.cursor() as cursor:
        cursor.execute(f"INSERT INTO {database}.item VALUES (2, 'after')")
        connection.commit()
    batch = source.changes(start, max_rows=10)
    assert ops(batch) == [("c", 1, "before"), ("c", 2, "after")]
    assert BinlogPosition.decoded(batch.position).file_number == BinlogPosition.decoded(start).file_number + 1
    assert source.changes(batch.position, max_rows=10).rows == 0


def insert_one(server: SqlServer, database: str, tables: list[str]) -> None:
    """One row into each table, so that the server numbers them in this order if it has just started."""
    with server.admin.connect() as connection, connection.cursor() as cursor:
        for table in tables:
            cursor.execute(f"INSERT INTO {database}.{table} VALUES (1, 'of {table}')")
            connection.commit()


@pytest.mark.parametrize("end", [SqlServer.stop, SqlServer.kill])
def test_after_a_restart_other_tables_have_the_numbers_of_a_table(
    running: SqlServer, source: MySqlSource, database: str, sql: Sql, end: Callable[[SqlServer], None]
) -> None:
    others = [f"other_{number}" for number in range(12)]
    for other in others:
        sql(f"CREATE TABLE {other} (id INT PRIMARY KEY, text VARCHAR(50))")
    running.stop()
    running.start()
    start = source_of(running, database, "item").position()
    insert_one(running, database, ["item"])
    end(running)
    running.start()
    insert_one(running, database, others)
    changes = source_of(running, database, "item").changes(start, max_rows=100)
    assert ops(changes) == [("c", 1, "of item")]


def test_committed_changes_survive_a_crash_of_the_server(
    running: SqlServer, source: MySqlSource, database: str, sql: Sql
) -> None:
    start = source.position()
    sql("INSERT INTO item VALUES (1, 'committed')")
    sql("START TRANSACTION")
    sql("INSERT INTO item VALUES (2, 'not committed')")
    running.kill()
    running.start()
    source = source_of(running, database, "item")
    assert ops(source.changes(start, max_rows=10)) == [("c", 1, "committed")]
    assert ops(source.snapshot()) == [("r", 1, "committed")]


def test_reading_follows_the_log_into_its_next_files(source: MySqlSource, sql: Sql) -> None:
    start = source.position()
    for number in range(3):
        sql("INSERT INTO item VALUES (%s, 'x')", number)
        sql("FLUSH BINARY LOGS")
    batches = all_batches(source, start, max_rows=1)
    assert [row[1] for batch in batches for row in ops(batch)] == [0, 1, 2]
    # a new file's checkpoint is written by the server in its own time, so the end may have moved meanwhile
    read, end = (BinlogPosition.decoded(position) for position in (batches[-1].position, source.position()))
    assert read.file_number == end.file_number
    assert read <= end


class CuttingProxy:
    """Passes connections on to a server one at a time, and cuts each after a number of bytes from the server."""

    def __init__(self, port: int, cut_after_bytes: int) -> None:
        self._server_port, self._cut_after_bytes = port, cut_after_bytes
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._threads: list[Thread] = []
        self._start(self._accept)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        while self._threads:
            self._threads.pop().join()

    def _start(self, target: Callable[..., None], *arguments: Any) -> None:
        self._threads.append(Thread(target=target, args=arguments))
        self._threads[-1].start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self._start(self._serve, client)

    def _serve(self, client: socket.socket) -> None:
        with client, socket.create_connection(("127.0.0.1", self._server_port)) as server:
            back = Thread(target=self._pass, args=(server, client, self._cut_after_bytes))
            back.start()
            self._pass(client, server, None)
            back.join()

    def _pass(self, source: socket.socket, target: socket.socket, left: int | None) -> None:
        with contextlib.suppress(OSError):
            while (data := source.recv(4096)) and (left is None or left > 0):
                target.sendall(data)
                left = None if left is None else left - len(data)
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


def test_a_connection_that_breaks_in_the_middle_is_told(
    running: SqlServer, source: MySqlSource, database: str, sql: Sql
) -> None:
    start = source.position()
    insert_many(sql, range(1, 20_001))
    with CuttingProxy(running.admin.port, cut_after_bytes=50_000) as proxy:
        broken = source_of(running, database, "item", port=proxy.port)
        assert broken.position() > start
        with pytest.raises(SourceUnavailable):
            broken.changes(start, max_rows=10)
    assert source.changes(start, max_rows=10).rows == 20_000


def purge_log(sql: Sql) -> None:
    """Remove all files of the log but the current one, which the server does as soon as it needs none of them."""
    sql("FLUSH BINARY LOGS")
    sql("FLUSH ENGINE LOGS")
    current = sql("SHOW BINARY LOGS")[-1][0]
    deadline = time.monotonic() + 30
    while len(sql("SHOW BINARY LOGS")) > 1:
        assert time.monotonic() < deadline
        sql(f"PURGE BINARY LOGS TO '{current}'")


def test_a_log_that_was_removed_is_told(source: MySqlSource, sql: Sql) -> None:
    start = source.position()
    sql("INSERT INTO item VALUES (1, 'a')")
    purge_log(sql)
    with pytest.raises(SourcePositionLost):
        source.changes(start, max_rows=10)
    snapshot = source.snapshot()
    sql("INSERT INTO item VALUES (2, 'b')")
    assert ops(source.changes(snapshot.position, max_rows=10)) == [("c", 2, "b")]


def test_a_position_of_another_server_is_told(source: MySqlSource) -> None:
    end = BinlogPosition.decoded(source.position())
    beyond = BinlogPosition(file_number=end.file_number + 7, offset=4)
    with pytest.raises(SourcePositionLost, match="beyond the end"):
        source.changes(beyond.encoded(), max_rows=10)


def test_a_wrong_password_is_told_without_the_password(running: SqlServer, database: str) -> None:
    source = source_of(running, database, "item", password="hunter2-secret")
    with pytest.raises(SourceError) as error:
        source.position()
    assert "Access denied" in str(error.value)
    assert "hunter2" not in f"{error.value} {error.value!r}"
    connection = MySqlConnection(host="h", user="u", password="hunter2-secret", database="d")
    assert "hunter2" not in repr(connection)


# tables and settings that change under the reader


def test_a_column_that_was_added_is_null_in_older_changes(source: MySqlSource, sql: Sql) -> None:
    start = source.position()
    sql("INSERT INTO item VALUES (1, 'a')")
    sql("ALTER TABLE item ADD COLUMN weight INT AFTER id")
    sql("INSERT INTO item VALUES (2, 7, 'b')")
    assert ops(source.changes(start, max_rows=10)) == [("c", 1, None, "a"), ("c", 2, 7, "b")]


def test_a_column_that_was_dropped_is_gone_from_older_changes(source: MySqlSource, sql: Sql) -> None:
    start = source.position()
    sql("INSERT INTO item VALUES (1, 'a')")
    sql("ALTER TABLE item DROP COLUMN text")
    assert ops(source.changes(start, max_rows=10)) == [("c", 1)]


def test_a_renamed_column_is_told_until_a_new_snapshot_is_taken(source: MySqlSource, sql: Sql) -> None:
    start = source.position()
    sql("INSERT INTO item VALUES (1, 'a')")
    sql("ALTER TABLE item CHANGE text title VARCHAR(50)")
    with pytest.raises(SourceSchemaChanged, match="take a new snapshot"):
        source.changes(start, max_rows=10)
    snapshot = source.snapshot()
    sql("INSERT INTO item VALUES (2, 'b')")
    assert ops(source.changes(snapshot.position, max_rows=10)) == [("c", 2, "b")]


@pytest.mark.parametrize(
    ("before", "after"), [("DECIMAL(20,4)", "DECIMAL(20,6)"), ("DATETIME(6)", "DATETIME(3)"), ("INT", "TINYINT")]
)
def test_a_changed_type_is_told(running: SqlServer, database: str, sql: Sql, before: str, after: str) -> None:
    sql(f"CREATE TABLE typed (id INT PRIMARY KEY, value {before})")
    source = source_of(running, database, "typed")
    start = source.position()
    value = {"DATETIME(6)": "2024-01-01 00:00:00.123456", "INT": "1000"}.get(before, "1.2345")
    sql("INSERT INTO typed VALUES (1, %s)", value)
    sql("DELETE FROM typed")
    sql(f"ALTER TABLE typed MODIFY value {after}")
    with pytest.raises(SourceSchemaChanged, match="typed"):
        source.changes(start, max_rows=10)


@pytest.mark.parametrize(
    "statement",
    [
        "TRUNCATE TABLE item",
        "truncate item",
        "DROP TABLE item",
        "RENAME TABLE item TO thing",
    ],
)
def test_rows_that_go_without_events_are_told(source: MySqlSource, sql: Sql, statement: str) -> None:
    start = source.position()
    sql("INSERT INTO item VALUES (1, 'a')")
    sql(statement)
    sql("CREATE TABLE IF NOT EXISTS item (id INT PRIMARY KEY, text VARCHAR(50))")
    with pytest.raises(SourceSchemaChanged, match="take a new snapshot"):
        source.changes(start, max_rows=10)


@pytest.mark.parametrize("server", [MARIADB], indirect=True)
def test_a_table_that_was_replaced_is_told(source: MySqlSource, sql: Sql) -> None:
    start = source.position()
    sql("CREATE OR REPLACE TABLE item (id INT PRIMARY KEY, text VARCHAR(50))")
    with pytest.raises(SourceSchemaChanged, match="take a new snapshot"):
        source.changes(start, max_rows=10)


def test_a_dropped_database_is_told(running: SqlServer, source: MySqlSource, sql: Sql, database: str) -> None:
    start = source.position()
    sql(f"DROP DATABASE {database}")
    sql(f"CREATE DATABASE {database}")
    sql(f"CREATE TABLE {database}.item (id INT PRIMARY KEY, text VARCHAR(50))")
    with pytest.raises(SourceSchemaChanged, match="take a new snapshot"):
        source.changes(start, max_rows=10)


@contextlib.contextmanager
def setting(sql: Sql, scope: str, name: str, value: str) -> Iterator[None]:
    before = sql(f"SHOW {scope} VARIABLES LIKE '{name}'")[0][1]
    sql(f"SET {scope} {name} = {value}")
    try:
        yield
    finally:
        sql(f"SET {scope} {name} = {before or 'DEFAULT'}")


@pytest.mark.parametrize(
    ("scope", "name", "value"),
    [
        ("SESSION", "binlog_format", "STATEMENT"),
        ("SESSION", "binlog_row_image", "MINIMAL"),
        ("GLOBAL", "binlog_row_metadata", "MINIMAL"),
    ],
)
def test_changes_that_the_log_does_not_tell_whole_are_refused(
    source: MySqlSource, sql: Sql, scope: str, name: str, value: str
) -> None:
    sql("INSERT INTO item VALUES (1, 'a')")
    start = source.position()
    with setting(sql, scope, name, value):
        sql("UPDATE item SET text = REPEAT('b', 50) WHERE id = 1")
        insert_many(sql, range(2, 51), "c" * 50)
    with pytest.raises(SourceUnsupported, match=name):
        source.changes(start, max_rows=1000)


@pytest.mark.parametrize("server", [MARIADB], indirect=True)
def test_compressed_events_of_mariadb_are_refused(source: MySqlSource, sql: Sql) -> None:
    start = source.position()
    with setting(sql, "GLOBAL", "log_bin_compress", "ON"), setting(sql, "GLOBAL", "log_bin_compress_min_len", "10"):
        insert_many(sql, range(2, 51), "c" * 50)
    with pytest.raises(SourceUnsupported, match="log_bin_compress"):
        source.changes(start, max_rows=1000)


@pytest.mark.parametrize(
    ("name", "value"),
    [("binlog_format", "MIXED"), ("binlog_row_image", "NOBLOB"), ("binlog_row_metadata", "MINIMAL")],
)
def test_a_server_that_is_set_up_otherwise_is_refused(source: MySqlSource, sql: Sql, name: str, value: str) -> None:
    with setting(sql, "GLOBAL", name, value):
        for read in (source.snapshot, lambda: source.changes(source.position(), max_rows=1)):
            with pytest.raises(SourceUnsupported, match=f"{name} is {value}"):
                read()


def test_distributed_transactions_are_refused(source: MySqlSource, sql: Sql) -> None:
    start = source.position()
    sql("XA START 'x'")
    sql("INSERT INTO item VALUES (1, 'prepared')")
    sql("XA END 'x'")
    sql("XA PREPARE 'x'")
    sql("XA COMMIT 'x'")
    with pytest.raises(SourceUnsupported, match="XA"):
        source.changes(start, max_rows=10)


# what MySQL alone has


of_mysql = pytest.mark.parametrize("server", [MYSQL], indirect=True)


@of_mysql
def test_compressed_transactions_are_read(
    running: SqlServer, source: MySqlSource, sql: Sql, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sql("CREATE TABLE price (id INT PRIMARY KEY, amount DECIMAL(20,4))")
    both = source_of(running, database, "item", "price")
    start = both.position()
    sql("INSERT INTO item VALUES (1, 'plain')")
    with setting(sql, "SESSION", "binlog_transaction_compression", "ON"):
        insert_many(sql, range(2, 3_000), "text " * 9)
        sql("START TRANSACTION")
        sql("UPDATE item SET id = 0, text = 'moved' WHERE id = 1")
        sql("SAVEPOINT here")
        sql("INSERT INTO price VALUES (1, 2.5)")
        sql("ROLLBACK TO SAVEPOINT here")
        sql("INSERT INTO price VALUES (2, 2.5)")
        sql("DELETE FROM item WHERE id > 1")
        sql("COMMIT")
        sql("CREATE TABLE other AS SELECT * FROM item")
    sql("INSERT INTO item VALUES (1, 'plain again')")
    whole = both.changes(start, max_rows=100_000)
    found = ops(whole)
    assert found[:3] == [("c", 1, "plain"), ("c", 2, "text " * 9), ("c", 3, "text " * 9)]
    assert found[2_999:3_002] == [("d", 1, "plain"), ("c", 0, "moved"), ("d", 2, "text " * 9)]
    assert found[-1] == ("c", 1, "plain again")
    assert len(found) == 6_000
    assert ops(whole, "price") == [("c", 2, Decimal("2.5000"))]
    batches = all_batches(both, start, max_rows=1)
    assert [batch.rows for batch in batches if batch.rows] == [1, 2_998, 3_001, 1]
    assert pl.concat([batch.frames["item"] for batch in batches]).equals(whole.frames["item"])


@of_mysql
@pytest.mark.parametrize("mode", ["OFF", "ON"])
def test_groups_with_and_without_gtids_are_read(source: MySqlSource, sql: Sql, mode: str) -> None:
    steps = ["OFF_PERMISSIVE", "ON_PERMISSIVE"]
    for step in [*reversed(steps), "OFF"] if mode == "OFF" else []:
        sql(f"SET GLOBAL gtid_mode = {step}")
    try:
        start = source.position()
        if mode == "ON":
            sql("SET gtid_next = 'AUTOMATIC:tagged'")
        sql("INSERT INTO item VALUES (1, 'a')")
        sql("CREATE TABLE other AS SELECT * FROM item")
        sql("ALTER TABLE item ADD COLUMN more INT")
        sql("UPDATE item SET more = 7")
        batches = all_batches(source, start, max_rows=1)
    finally:
        sql("SET gtid_next = 'AUTOMATIC'")
        for step in [*steps, "ON"] if mode == "OFF" else []:
            sql(f"SET GLOBAL gtid_mode = {step}")
    assert [row for batch in batches for row in ops(batch)] == [("c", 1, "a", None), ("u", 1, "a", 7)]


@of_mysql
def test_parts_of_json_values_are_refused(running: SqlServer, database: str, sql: Sql) -> None:
    sql("CREATE TABLE document (id INT PRIMARY KEY, body JSON)")
    sql("""INSERT INTO document VALUES (1, '{"a": 1, "b": "a text that is long enough"}')""")
    source = source_of(running, database, "document")
    start = source.position()
    with setting(sql, "SESSION", "binlog_row_value_options", "'PARTIAL_JSON'"):
        sql("UPDATE document SET body = JSON_SET(body, '$.a', 2)")
    with pytest.raises(SourceUnsupported, match="binlog_row_value_options"):
        source.changes(start, max_rows=10)
    with (
        setting(sql, "GLOBAL", "binlog_row_value_options", "'PARTIAL_JSON'"),
        pytest.raises(SourceUnsupported, match="PARTIAL_JSON"),
    ):
        source.snapshot()


DOCUMENTS = [
    "'null'",
    "'[]'",
    "'{}'",
    "'true'",
    "'-1'",
    "'18446744073709551615'",
    "'-9223372036854775808'",
    "'[1.0, 1e20, 0.1, -0.0, 1.5e-7, 123456789.125, 1e300]'",
    """'{"b": [1, 40000, 70000, 3000000000, null, false], "aa": {"x": "Xi\\\\u0027an 北京🦆"}, "": "\\\\n\\\\"\\\\\\\\"}'""",
    "JSON_OBJECT('day', DATE '2024-02-29', 'at', TIMESTAMP '2024-02-29 01:02:03.000004', 'for', TIME '-25:00:01.5')",
    "JSON_OBJECT('long', REPEAT('x', 70000), 'n', 3000000000, 'i', 100000, 'list', JSON_ARRAY(1, 2.50, CAST(3 AS DECIMAL(9,2))))",
    "JSON_ARRAY(CAST('0.1234567890123456789012345678' AS DECIMAL(40,28)), CAST(-12.5 AS DECIMAL(5,1)), CAST(7 AS DECIMAL(5,0)))",
    "JSON_ARRAY(CAST('bytes' AS BINARY), b'101', CAST('{\"a\": 1}' AS JSON))",
]


@of_mysql
def test_json_documents_of_the_log_are_those_of_a_query(running: SqlServer, database: str, sql: Sql) -> None:
    sql("CREATE TABLE document (id INT PRIMARY KEY, body JSON)")
    source = source_of(running, database, "document")
    start = source.position()
    for number, document in enumerate(DOCUMENTS):
        sql(f"INSERT INTO document VALUES ({number}, {document})".replace("%", "%%"))
    sql("INSERT INTO document VALUES (99, NULL)")
    queried = source.snapshot().frames["document"].sort("id")
    logged = source.changes(start, max_rows=100).frames["document"].sort("id")
    assert queried["body"].to_list() == logged["body"].to_list()
    assert logged["body"].null_count() == 1
    assert logged["body"][0] == "null"
    loaded = json.loads(logged["body"][8])
    assert loaded == {"": '\n"\\', "b": [1, 40000, 70000, 3_000_000_000, None, False], "aa": {"x": "Xi'an 北京🦆"}}
    assert json.loads(logged["body"][9]) == {
        "day": "2024-02-29", "at": "2024-02-29 01:02:03.000004", "for": "-25:00:01.500000",
    }  # fmt: skip


@of_mysql
def test_negative_times_with_fractions_are_refused(running: SqlServer, database: str, sql: Sql) -> None:
    sql("CREATE TABLE span (id INT PRIMARY KEY, t TIME(3))")
    source = source_of(running, database, "span")
    start = source.position()
    sql("INSERT INTO span VALUES (1, '-00:00:00.500')")
    assert source.snapshot().frames["span"]["t"].to_list() == ["-00:00:00.500"]
    with pytest.raises(SourceUnsupported, match=r"span\.t has a negative time"):
        source.changes(start, max_rows=10)


@of_mysql
def test_a_password_is_told_encrypted_where_the_driver_cannot_encrypt_it(
    running: SqlServer, source: MySqlSource, database: str, sql: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pymysql._auth._have_cryptography", False)
    sql("FLUSH PRIVILEGES")  # the server forgets whom it knows
    sql("INSERT INTO item VALUES (1, 'a')")
    assert ops(source.snapshot()) == [("r", 1, "a")]


@of_mysql
def test_a_snapshot_waits_for_long_statements_only_a_while(
    running: SqlServer, source: MySqlSource, database: str, sql: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lakehouse_assets.sources.mysql.servers.LOCK_WAIT_S", 1)
    sql("LOCK TABLES item WRITE")
    with pytest.raises(SourceUnavailable, match="busy"):
        source.snapshot()
    sql("UNLOCK TABLES")
    assert source.snapshot().rows == 0


@of_mysql
def test_snapshots_meet_the_log_while_many_write(
    running: SqlServer, source: MySqlSource, database: str, sql: Sql
) -> None:
    stop = Event()

    def write(first: int) -> None:
        with running.admin.connect() as connection, connection.cursor() as cursor:
            connection.autocommit(True)
            connection.select_db(database)
            number = first
            while not stop.is_set():
                cursor.execute("INSERT INTO item VALUES (%s, 'x')", (number,))
                number += 10

    threads = [Thread(target=write, args=(first,)) for first in range(4)]
    for thread in threads:
        thread.start()
    snapshots = [source.snapshot() for _ in range(10)]
    stop.set()
    for thread in threads:
        thread.join()
    everything = {row[0] for row in sql("SELECT id FROM item")}
    for snapshot in snapshots:
        later = [row[1] for batch in all_batches(source, snapshot.position, max_rows=100_000) for row in ops(batch)]
        before = snapshot.frames["item"]["id"].to_list()
        assert sorted([*before, *later]) == sorted(everything)


def test_positions_are_encoded_in_the_order_of_the_log() -> None:
    positions = [
        BinlogPosition(file_number=1, offset=4),
        BinlogPosition(file_number=1, offset=2**32 + 5),
        BinlogPosition.of("mariadb-bin.000002", 4),
        BinlogPosition.of("my.odd.name.1000000", 4),
    ]
    encoded = [position.encoded() for position in positions]
    assert encoded == sorted(encoded)
    assert [BinlogPosition.decoded(number) for number in encoded] == positions
    assert positions[2].file_name("mariadb-bin") == "mariadb-bin.000002"
    assert positions[3].file_name("my.odd.name") == "my.odd.name.1000000"
    assert max(encoded) < 2**63

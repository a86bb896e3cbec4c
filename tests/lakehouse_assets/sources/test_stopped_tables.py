"""A table of a database that needs a person's decision stops no other, and loses nothing while it waits."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from lakehouse_assets.ingest import Ingester, Ingestion
from lakehouse_assets.ingest_mover import IngestMover
from lakehouse_assets.sources.change_source import ChangeSource, SourceBatch, SourceTable
from lakehouse_assets.sources.errors import SourceError, SourcePositionLost, SourceSchemaChanged, SourceUnsupported
from lakehouse_assets.sources.mysql.binlog import BinlogPosition, BinlogReader, Transaction
from lakehouse_assets.sources.mysql.source import MySqlSource
from lakehouse_assets.sources.postgres import slots
from lakehouse_assets.sources.postgres.changes import PostgresChanges
from lakehouse_assets.sources.postgres.connection import PostgresConnection
from lakehouse_assets.sources.postgres.slot import Slot, lsn_number
from lakehouse_assets.stream.loop import Limits, Loop
from storage_engine import Catalog
from tests.effort import examples
from tests.lakehouse_assets.quarantine_table import QUARANTINE_DDL
from tests.servers.postgres import PASSWORD, USER, PostgresServer
from tests.servers.sql import POSTGRES, SERVERS, obtained, serving

Sql = Callable[[str], list[tuple[Any, ...]]]
TABLES = ("item", "city", "shop")
numbers = count(1)


@dataclass
class Database:
    """A database with three published tables, ``id`` and ``name`` each, and a table that mirrors each."""

    kind: str
    sql: Sql
    new_source: Callable[[], ChangeSource]
    catalog: Catalog
    ingestions: list[Ingestion] = field(default_factory=list)

    def create(self) -> None:
        self.catalog.execute(QUARANTINE_DDL)
        for name in TABLES:
            self.sql(f"CREATE TABLE {name} (id INT, name VARCHAR(20), CONSTRAINT {name}_pkey PRIMARY KEY (id))")
            if self.kind == "postgres":
                self.sql(f"ALTER TABLE {name} REPLICA IDENTITY FULL")
            self.catalog.execute(
                f"CREATE TABLE ods.{name} (id INT, name STRING, PRIMARY KEY (id) NOT ENFORCED) WITH ('bucket' = '1')"
            )
            self.ingestions.append(Ingestion(source_table=name, target=f"ods.{name}", added=()))
        if self.kind == "postgres":
            self.sql(f"CREATE PUBLICATION lakehouse FOR TABLE {', '.join(TABLES)}")

    def ingester(self, *, max_rows: int = 1_000) -> Ingester:
        return Ingester(self.catalog, self.new_source(), self.ingestions, max_rows=max_rows)

    def rows(self, table: str) -> list[tuple[Any, ...]]:
        return self.catalog.table(f"ods.{table}").scan().sort("id").collect().rows()

    def commits(self, table: str) -> int:
        snapshots = self.catalog.table(f"ods.{table}").snapshots()
        return snapshots.filter(pl.col("commit_kind") == "APPEND").height

    def is_mirrored(self, *tables: str) -> bool:
        return all(self.rows(table) == [*self.sql(f"SELECT * FROM {table} ORDER BY id")] for table in tables)

    def drop_key(self, table: str) -> None:
        self.sql(f"ALTER TABLE {table} DROP {'CONSTRAINT city_pkey' if self.kind == 'postgres' else 'PRIMARY KEY'}")

    def make_numbers(self, table: str) -> None:
        change = "ALTER name TYPE INT USING 7" if self.kind == "postgres" else "MODIFY name INT"
        self.sql(f"ALTER TABLE {table} {change}")


@contextmanager
def postgres() -> Iterator[tuple[Callable[[], Sql], Callable[[], ChangeSource]]]:
    with PostgresServer() as server:
        names: list[str] = []

        def in_new_database() -> Sql:
            names.append(f"shop_{next(numbers)}")
            with server.connect() as connection:
                connection.execute("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots")
                connection.execute(f"CREATE DATABASE {names[-1]}")

            def execute(statement: str) -> list[tuple[Any, ...]]:
                with server.connect(names[-1]) as connection:
                    cursor = connection.execute(statement)
                    return cursor.fetchall() if cursor.description else []

            return execute

        def source() -> ChangeSource:
            connection = PostgresConnection(
                host="127.0.0.1", port=server.port, user=USER, password=PASSWORD, database=names[-1]
            )
            return PostgresChanges(connection)

        yield in_new_database, source


@contextmanager
def mysql(kind: str, folder: Path) -> Iterator[tuple[Callable[[], Sql], Callable[[], ChangeSource]]]:
    with serving(kind, folder) as server, server.admin.connect() as connection, connection.cursor() as cursor:
        connection.autocommit(True)

        def execute(statement: str) -> list[tuple[Any, ...]]:
            cursor.execute(statement)
            return [*cursor.fetchall()]

        def in_new_database() -> Sql:
            for statement in ("DROP DATABASE IF EXISTS sales", "CREATE DATABASE sales", "USE sales"):
                execute(statement)
            return execute

        yield in_new_database, server.source


@pytest.fixture(scope="module", params=[*SERVERS, POSTGRES])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Any, Any]]:
    kind = request.param
    obtained(kind)
    with postgres() if kind == "postgres" else mysql(kind, tmp_path_factory.mktemp(kind)) as (new_database, source):
        yield kind, new_database, source


@pytest.fixture
def database(server: tuple[str, Any, Any], catalog: Catalog) -> Database:
    kind, in_new_database, source = server
    database = Database(kind=kind, sql=in_new_database(), new_source=source, catalog=catalog)
    database.create()
    return database


def landed(ingester: Ingester) -> tuple[list[str], SourceError | None]:
    """The targets of a batch, and what it ended with."""
    targets: list[str] = []
    try:
        targets.extend(result.target for result in ingester.landed())
    except SourceError as error:
        return targets, error
    return targets, None


def all_landed(ingester: Ingester) -> SourceError | None:
    while True:
        targets, error = landed(ingester)
        if not targets:
            return error


def begin(database: Database, **settings: Any) -> Ingester:
    """All tables with a row, mirrored."""
    for table in TABLES:
        database.sql(f"INSERT INTO {table} VALUES (1, 'a')")
    ingester = database.ingester(**settings)
    assert all_landed(ingester) is None
    assert database.is_mirrored(*TABLES)
    return ingester


def rename(database: Database) -> None:
    database.sql("ALTER TABLE city RENAME COLUMN name TO title")
    database.sql("INSERT INTO city VALUES (2, 'b')")


@pytest.mark.parametrize("new_process", [False, True])
def test_a_column_that_cannot_be_followed_stops_its_table_alone(database: Database, *, new_process: bool) -> None:
    ingester = begin(database)
    rename(database)
    commits = database.commits("item")
    for number in range(2, 6):
        database.sql(f"INSERT INTO item VALUES ({number}, 'x')")
        database.sql(f"INSERT INTO shop VALUES ({number}, 'y')")
        ingester = database.ingester() if new_process else ingester
        targets, error = landed(ingester)
        assert targets == ["ods.item", "ods.shop"]
        assert isinstance(error, SourceSchemaChanged)
        assert "no longer has name" in str(error)
        assert landed(ingester)[0] == []
    assert database.is_mirrored("item", "shop")
    assert database.commits("item") == commits + 4
    assert database.rows("city") == [(1, "a")]
    database.sql("UPDATE city SET title = 'B' WHERE id = 2")
    database.sql("DELETE FROM city WHERE id = 1")
    database.catalog.execute("ALTER TABLE ods.city RENAME name TO title")
    assert all_landed(database.ingester() if new_process else ingester) is None
    assert database.rows("city") == [(2, "B")]
    assert database.is_mirrored(*TABLES)


@pytest.mark.parametrize("trouble", ["key", "type", "gone"])
def test_other_decisions_stop_their_table_alone(database: Database, trouble: str) -> None:
    ingester = begin(database)
    if trouble == "key":
        database.drop_key("city")
    elif trouble == "type":
        database.sql("DELETE FROM city")
        database.make_numbers("city")
        database.sql("INSERT INTO city VALUES (2, 2)")
    else:
        database.sql("DROP TABLE city")
    database.sql("INSERT INTO item VALUES (2, 'x')")
    for reader in (ingester, database.ingester()):
        targets, error = landed(reader)
        assert targets == (["ods.item"] if reader is ingester else [])
        assert error is not None
        assert error.table == "city"
        assert "city" in str(error)
    assert database.is_mirrored("item")


def lose_changes(database: Database) -> None:
    """A change of the log is under other names than both the table and its mirror."""
    database.sql("INSERT INTO city VALUES (2, 'b')")
    database.sql("ALTER TABLE city RENAME COLUMN name TO title")
    database.catalog.execute("ALTER TABLE ods.city RENAME name TO title")


def test_a_table_whose_changes_are_lost_stops_no_other_until_its_new_snapshot(database: Database) -> None:
    ingester = begin(database)
    lose_changes(database)
    for number in (2, 3):
        database.sql(f"INSERT INTO item VALUES ({number}, 'x')")
        targets, error = landed(ingester)
        assert targets == ["ods.item"]
        assert isinstance(error, SourceSchemaChanged)
        assert "new snapshot" in str(error)
    database.sql("DELETE FROM city WHERE id = 1")
    ingester.resnapshot(ingester.ingestions[1])
    database.sql("INSERT INTO city VALUES (3, 'c')")
    database.sql("INSERT INTO shop VALUES (2, 'y')")
    assert all_landed(ingester) is None
    assert database.rows("city") == [(2, "b"), (3, "c")]
    assert database.is_mirrored(*TABLES)


def test_what_a_new_snapshot_has_passed_is_no_trouble_for_tables_that_are_behind(database: Database) -> None:
    """The others are still before the place at which the table was stopped."""
    ingester = begin(database)
    database.sql("INSERT INTO item VALUES (2, 'x')")
    lose_changes(database)
    database.sql("INSERT INTO shop VALUES (2, 'y')")
    database.ingester().resnapshot(ingester.ingestions[1])
    assert all_landed(database.ingester()) is None
    assert database.is_mirrored(*TABLES)


def test_two_tables_are_stopped_and_mended_one_after_the_other(database: Database) -> None:
    ingester = begin(database)
    rename(database)
    database.drop_key("city")
    database.sql("ALTER TABLE shop RENAME COLUMN name TO title")
    database.sql("INSERT INTO shop VALUES (2, 'b')")
    database.sql("INSERT INTO item VALUES (2, 'x')")
    assert landed(ingester)[0] == ["ods.item"]
    database.catalog.execute("ALTER TABLE ods.shop RENAME name TO title")
    error = all_landed(ingester)
    assert isinstance(error, SourceUnsupported)
    assert "no primary key" in str(error)
    assert database.is_mirrored("item", "shop")
    database.sql("ALTER TABLE city ADD CONSTRAINT city_pkey PRIMARY KEY (id)")
    database.catalog.execute("ALTER TABLE ods.city RENAME name TO title")
    assert all_landed(ingester) is None
    assert database.is_mirrored(*TABLES)


def test_a_column_that_is_not_to_be_followed_stops_its_table_alone(database: Database) -> None:
    begin(database)
    database.ingestions[1] = Ingestion(source_table="city", target="ods.city", added=(), follows_schema=False)
    ingester = database.ingester()
    database.sql("ALTER TABLE city ADD COLUMN size INT")
    database.sql("INSERT INTO city VALUES (2, 'b', 3)")
    database.sql("INSERT INTO item VALUES (2, 'x')")
    targets, error = landed(ingester)
    assert targets == ["ods.item"]
    assert isinstance(error, SourceSchemaChanged)
    database.catalog.execute("ALTER TABLE ods.city ADD size INT")
    assert all_landed(ingester) is None
    assert database.rows("city") == [(1, "a", None), (2, "b", 3)]


def test_what_waits_is_told_beside_a_stopped_table(database: Database) -> None:
    ingester = begin(database)
    database.drop_key("city")
    with pytest.raises(SourceUnsupported, match="no primary key"):
        ingester.waiting()
    database.sql("INSERT INTO item VALUES (2, 'x')")
    assert database.ingester().waiting() == ["ods.item"]
    assert ingester.waiting() == ["ods.item"]
    database.sql("ALTER TABLE city ADD CONSTRAINT city_pkey PRIMARY KEY (id)")
    assert all_landed(ingester) is None
    rename(database)
    database.sql("INSERT INTO item VALUES (3, 'x')")
    assert database.ingester().waiting() == ["ods.city", "ods.item"]


def test_a_stopped_table_catches_up_while_the_others_go_on(database: Database) -> None:
    """It has more to catch up with than a batch takes."""
    ingester = begin(database, max_rows=4)
    rename(database)
    for number in range(3, 20):
        database.sql(f"INSERT INTO city VALUES ({number}, 'c')")
        database.sql(f"INSERT INTO item VALUES ({number}, 'x')")
    while not database.is_mirrored("item"):
        targets, error = landed(ingester)
        assert targets == ["ods.item"]
        assert error is not None
    database.catalog.execute("ALTER TABLE ods.city RENAME name TO title")
    beside = []
    for number in range(20, 60):
        database.sql(f"INSERT INTO item VALUES ({number}, 'x')")
        targets, error = landed(ingester)
        assert error is None
        beside.append(targets)
        if targets == ["ods.item"]:
            break
    assert beside[:3] == [["ods.item", "ods.city"]] * 3
    assert database.is_mirrored(*TABLES)


def test_the_log_is_not_read_again_for_a_table_that_stays_stopped(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    ingester = begin(database)
    lose_changes(database)
    for _ in range(2):
        assert landed(ingester)[1] is not None
    reads: list[object] = []
    changes, peek = MySqlSource.changes, Slot.peek
    monkeypatch.setattr(MySqlSource, "changes", lambda *args, **more: reads.append(args) or changes(*args, **more))
    monkeypatch.setattr(Slot, "peek", lambda *args: reads.append(args) or peek(*args))
    for _ in range(3):
        reads.clear()
        assert landed(ingester)[1] is not None
        assert len(reads) == 1


@pytest.mark.parametrize("server", SERVERS, indirect=True)
def test_a_new_process_reads_the_log_up_to_the_place_that_stops_a_table(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And not what the others have read behind it."""
    ingester = begin(database)
    rename(database)
    for number in range(2, 40):
        database.sql(f"INSERT INTO item VALUES ({number}, 'x')")
    database.sql("INSERT INTO shop VALUES (2, 'y')")
    assert landed(ingester)[0] == ["ods.item", "ods.shop"]
    database.sql("INSERT INTO item VALUES (99, 'x')")
    read: list[Transaction] = []
    transactions = BinlogReader.transactions

    def counted(reader: BinlogReader, after: BinlogPosition) -> Iterator[Transaction]:
        for transaction in transactions(reader, after):
            read.append(transaction)
            yield transaction

    monkeypatch.setattr(BinlogReader, "transactions", counted)
    again = database.ingester()
    assert landed(again)[0] == ["ods.item"]
    assert landed(again)[0] == []
    assert len(read) < 15


def test_a_continuous_run_tells_once_of_a_stopped_table_and_moves_the_others(database: Database) -> None:
    ingester = begin(database)
    rename(database)
    told: list[str] = []
    loop = Loop(
        [IngestMover(ingester)],
        Limits(window_s=60, seconds=60),
        tolerant=True,
        on_error=lambda _, error: told.append(str(error)),
    )
    database.sql("INSERT INTO item VALUES (2, 'x')")
    seen = []
    for number, result in enumerate(loop.results(), start=3):
        seen.append(result.target)
        if number == 8:
            database.catalog.execute("ALTER TABLE ods.city RENAME name TO title")
        if result.target == "ods.city":
            break
        database.sql(f"INSERT INTO item VALUES ({number}, 'x')")
    assert set(seen[:5]) == {"ods.item"}
    assert len(told) == 1
    assert database.rows("city") == [(1, "a"), (2, "b")]


@dataclass
class Wild:
    """Random writes, renamed columns and decisions, while two processes and new ones land what they can."""

    database: Database
    choose: random.Random
    readers: list[Ingester]
    at_source: dict[str, str] = field(default_factory=lambda: dict.fromkeys(TABLES, "name"))
    here: dict[str, str] = field(default_factory=lambda: dict.fromkeys(TABLES, "name"))
    ids: Iterator[int] = field(default_factory=lambda: count(100))

    def write(self, table: str) -> None:
        column = self.at_source[table]
        first = next(self.ids)
        values = ", ".join(f"({next(self.ids)}, 'v{first}')" for _ in range(self.choose.choice((1, 3, 60))))
        self.database.sql(f"INSERT INTO {table} VALUES {values}")
        self.database.sql(f"UPDATE {table} SET {column} = 'u{first}' WHERE id % 7 = {self.choose.randrange(7)}")
        self.database.sql(f"DELETE FROM {table} WHERE id % 11 = {self.choose.randrange(11)}")

    def rename(self, table: str) -> None:
        old, new = self.at_source[table], f"name_{next(self.ids)}"
        self.database.sql(f"ALTER TABLE {table} RENAME COLUMN {old} TO {new}")
        self.at_source[table] = new

    def decide(self, table: str) -> None:
        old, new = self.here[table], self.at_source[table]
        if old != new:
            self.database.catalog.execute(f"ALTER TABLE ods.{table} RENAME {old} TO {new}")
        self.here[table] = new

    def land(self, table: str) -> None:
        error = landed(self.choose.choice([*self.readers, self.database.ingester(max_rows=50)]))[1]
        assert error is None or error.table in TABLES
        if error is not None and "new snapshot" in str(error) and self.choose.random() < 0.5:
            self.read_anew(str(error.table))

    def read_anew(self, table: str) -> None:
        self.decide(table)
        ingestion = next(each for each in self.database.ingestions if each.source_table == table)
        self.choose.choice(self.readers).resnapshot(ingestion)

    def end(self) -> None:
        for table in TABLES:
            self.decide(table)
        reader = self.database.ingester()
        while (error := all_landed(reader)) is not None:
            assert "new snapshot" in str(error)
            self.read_anew(str(error.table))


@pytest.mark.parametrize("seed", range(examples(2)))
def test_whatever_is_decided_and_when_each_mirror_equals_its_table_in_the_end(
    database: Database, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    monkeypatch.setattr(slots, "ASIDE_BYTES", 3_000)
    begin(database)
    wild = Wild(database, random.Random(seed), [database.ingester(max_rows=50) for _ in range(2)])
    for _ in range(50):
        act = wild.choose.choices((wild.write, wild.land, wild.rename, wild.decide), weights=(5, 6, 1, 1))[0]
        act(wild.choose.choice(TABLES))
    wild.end()
    assert database.is_mirrored(*TABLES)
    if database.kind == "postgres":
        assert list(standing(database)) == ["lakehouse"]


# -- PostgreSQL's slots ------------------------------------------------------------------------------------------------

of_postgres = pytest.mark.parametrize("server", [POSTGRES], indirect=True)


@pytest.fixture
def small_distance(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stopped table is soon kept by a slot of its own."""
    monkeypatch.setattr(slots, "ASIDE_BYTES", 20_000)


def standing(database: Database) -> dict[str, int]:
    """How far the server may forget its log, by slot."""
    return dict(
        database.sql("SELECT slot_name, (confirmed_flush_lsn - '0/0')::bigint FROM pg_replication_slots ORDER BY 1")
    )


def position_of(database: Database, table: str) -> int:
    """How far a table was read, as its mirror tells."""
    told = str(database.catalog.table(f"ods.{table}").committed_properties(f"stream-ods.{table}"))
    return lsn_number(told.split('"source": "')[1].split('"', maxsplit=1)[0].split(" ", maxsplit=1)[0])


def go_on(database: Database, ingester: Ingester, *, rounds: int) -> None:
    """Others have many changes while ``city`` is stopped."""
    first = database.sql("SELECT max(id) + 1 FROM item")[0][0]
    for number in range(first, first + rounds):
        database.sql(f"INSERT INTO shop SELECT {number} * 100 + n, 'y' FROM generate_series(1, 90) n")
        database.sql(f"INSERT INTO item VALUES ({number}, 'x')")
        targets, error = landed(ingester)
        assert targets == ["ods.item", "ods.shop"]
        assert error is not None
        assert error.table == "city"


@of_postgres
def test_the_log_is_kept_for_a_table_that_is_stopped_near_the_others(database: Database) -> None:
    ingester = begin(database)
    rename(database)
    go_on(database, ingester, rounds=8)
    assert list(standing(database)) == ["lakehouse"]
    assert standing(database)["lakehouse"] <= position_of(database, "city") < position_of(database, "item")


@of_postgres
@pytest.mark.usefixtures("small_distance")
@pytest.mark.parametrize("new_process", [False, True])
def test_a_table_that_is_stopped_far_behind_has_a_slot_until_it_has_caught_up(
    database: Database, monkeypatch: pytest.MonkeyPatch, *, new_process: bool
) -> None:
    ingester = begin(database)
    rename(database)
    go_on(database, ingester, rounds=8)
    assert list(standing(database)) == ["lakehouse", "lakehouse_aside"]
    assert standing(database)["lakehouse_aside"] <= position_of(database, "city") < standing(database)["lakehouse"]
    peeked: list[int] = []
    peek = Slot.peek

    def counted(slot: Slot, messages: int) -> list[bytes]:
        found = peek(slot, messages)
        peeked.append(len(found))
        return found

    monkeypatch.setattr(Slot, "peek", counted)
    database.sql("UPDATE city SET title = 'B' WHERE id = 2")
    go_on(database, ingester, rounds=8)
    assert max(peeked) < 8 * 90
    ingester = database.ingester() if new_process else ingester
    database.catalog.execute("ALTER TABLE ods.city RENAME name TO title")
    assert all_landed(ingester) is None
    assert list(standing(database)) == ["lakehouse"]
    assert database.rows("city") == [(1, "a"), (2, "B")]
    for number in range(3, 6):
        database.sql(f"INSERT INTO city VALUES ({number}, 'c')")
        database.sql(f"INSERT INTO item VALUES ({number} + 1000, 'c')")
        assert all_landed(ingester) is None
    assert database.is_mirrored(*TABLES)


@of_postgres
@pytest.mark.usefixtures("small_distance")
def test_where_the_server_has_no_room_for_a_slot_the_one_stays(database: Database) -> None:
    ingester = begin(database)
    rename(database)
    (room,) = database.sql("SELECT current_setting('max_replication_slots')::int")[0]
    for number in range(1, room):
        database.sql(f"SELECT pg_create_physical_replication_slot('taken_{number}')")
    try:
        go_on(database, ingester, rounds=8)
        assert standing(database)["lakehouse"] <= position_of(database, "city")
    finally:
        database.sql(
            "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_type = 'physical'"
        )
    database.catalog.execute("ALTER TABLE ods.city RENAME name TO title")
    assert all_landed(ingester) is None
    assert database.is_mirrored(*TABLES)


@of_postgres
@pytest.mark.usefixtures("small_distance")
@pytest.mark.parametrize("lost", [False, True])
def test_a_new_snapshot_goes_on_while_the_others_do(
    database: Database, monkeypatch: pytest.MonkeyPatch, *, lost: bool
) -> None:
    """They move the slot on between the snapshot's beginning and its commit."""
    ingester = begin(database)
    lose_changes(database)
    go_on(database, ingester, rounds=8)
    if lost:
        database.sql("SELECT pg_drop_replication_slot('lakehouse_aside')")
        go_on(database, ingester, rounds=2)
        assert list(standing(database)) == ["lakehouse"]
        assert isinstance(landed(ingester)[1], SourcePositionLost)
    everything = PostgresChanges.everything

    def slowly(source: PostgresChanges, table: SourceTable) -> SourceBatch:
        batch = everything(source, table)
        database.sql("INSERT INTO city VALUES (9, 'later')")
        go_on(database, ingester, rounds=3)
        return batch

    alone = Ingester(database.catalog, database.new_source(), database.ingestions[1:2])
    monkeypatch.setattr(PostgresChanges, "everything", slowly)
    alone.resnapshot(database.ingestions[1])
    monkeypatch.undo()
    assert all_landed(database.ingester()) is None
    assert list(standing(database)) == ["lakehouse"]
    assert database.is_mirrored(*TABLES)

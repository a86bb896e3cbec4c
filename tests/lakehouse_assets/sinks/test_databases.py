"""Tables served from databases, against real servers: what they hold equals the table, whatever happens in between."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, time
from decimal import Decimal
from functools import partial
from itertools import count
from threading import Thread
from typing import Any

import polars as pl
import pytest

from lakehouse_assets.sinks import Delivery, MySqlSink, PostgresSink, Sink, mysql_sink, postgres_sink
from lakehouse_assets.sinks.declaration import SinkTarget
from lakehouse_assets.sources.errors import SourceAccessDenied, SourceUnavailable
from lakehouse_assets.stream.declaration import Bounds
from lakehouse_assets.stream.source import portions_of
from lakehouse_demo.postgres import installed as postgres_installed
from lakehouse_demo.sql_server import SqlServer
from storage_engine import Catalog, Table
from storage_engine.errors import InvalidInput, InvalidRows
from storage_engine.read.portions import Portion
from tests.fakes.faulty_file_io import Killed
from tests.servers.postgres import PASSWORD, USER, PostgresServer
from tests.servers.sql import MARIADB, MYSQL, serving

numbers = count(1)
COLUMNS = {
    "id": "INT",
    "part": "STRING",
    "flag": "BOOLEAN",
    "tiny": "TINYINT",
    "big": "BIGINT",
    "real": "FLOAT",
    "half": "DOUBLE",
    "price": "DECIMAL(20,4)",
    "text": "STRING",
    "bytes": "BYTES",
    "day": "DATE",
    "clock": "TIME(3)",
    "at": "TIMESTAMP(3)",
    "zoned": "TIMESTAMP_LTZ(6)",
    "tags": "ARRAY<STRING>",
}
ROWS: list[dict[str, Any]] = [
    {
        "id": 1, "part": "it's", "flag": True, "tiny": -128, "big": 2**63 - 1, "real": 0.5, "half": 0.1,
        "price": Decimal("-9999999999999999.9999"), "text": 'a\\n "q", \n\t; \\N 北京🦆',
        "bytes": b"\x00\xff", "day": date(9999, 12, 31),
        "clock": time(23, 59, 59, 999000), "at": datetime(2024, 2, 29, 1, 2, 3, 4000),
        "zoned": datetime(1999, 12, 31, 23, 59, 59, 999999, UTC), "tags": ["a", 'b"c', None],
    },
    {"id": 2, "part": "", "text": "", "bytes": b"", "tags": []},
    {"id": 2, "part": "B"},
]  # fmt: skip


class Place:
    """A database server: its sink, and what is in a table there."""

    def __init__(self, sink: Callable[..., SinkTarget], run: Callable[[str], Any]) -> None:
        self.sink = sink
        self.run = run

    def rows(self) -> list[tuple[Any, ...]]:
        names = ", ".join(name if name not in ("real", "text", "day", "at") else f'"{name}"' for name in COLUMNS)
        return [tuple(row) for row in self.run(f"SELECT {names} FROM item ORDER BY id, part")]

    def few(self) -> list[tuple[Any, ...]]:
        return [tuple(row) for row in self.run("SELECT id, part, tiny FROM item ORDER BY id, part")]


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    with PostgresServer() as server:
        yield server


@pytest.fixture(scope="module")
def mariadb(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SqlServer]:
    with serving("mariadb", tmp_path_factory.mktemp("mariadb")) as server:
        yield server


@pytest.fixture(scope="module")
def mysql(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SqlServer]:
    with serving("mysql", tmp_path_factory.mktemp("mysql")) as server:
        yield server


def postgres_place(server: PostgresServer, name: str) -> Place:
    with server.connect() as connection:
        connection.execute(f"CREATE DATABASE {name}")

    def run(statement: str) -> Any:
        with server.connect(name) as connection:
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else None

    def sink(**changed: Any) -> SinkTarget:
        return PostgresSink(**{"port": server.port, "user": USER, "database": name, **changed})

    return Place(sink, run)


def mysql_place(server: SqlServer, name: str) -> Place:
    login = server.admin

    def run(statement: str) -> Any:
        with login.connect() as connection, connection.cursor() as cursor:
            cursor.execute("SET sql_mode = 'ANSI_QUOTES'")
            connection.select_db(name)
            cursor.execute(statement)
            connection.commit()
            return cursor.fetchall()

    with login.connect() as connection, connection.cursor() as cursor:
        cursor.execute(f"CREATE DATABASE {name}")

    def sink(**changed: Any) -> SinkTarget:
        return MySqlSink(**{"port": login.port, "user": login.user, "database": name, **changed})

    return Place(sink, run)


SERVERS = [
    pytest.param(
        "postgres",
        marks=[
            pytest.mark.postgres,
            pytest.mark.skipif(not postgres_installed(), reason="PostgreSQL is not installed"),
        ],
    ),
    MARIADB,
    MYSQL,
]


@pytest.fixture(params=SERVERS)
def place(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Place:
    """A database of its own at each kind of server."""
    server, name = request.getfixturevalue(request.param), f"served_{next(numbers)}"
    monkeypatch.setenv("LAKEHOUSE_SINK_PASSWORD", PASSWORD if request.param == "postgres" else server.admin.password)
    return postgres_place(server, name) if request.param == "postgres" else mysql_place(server, name)


@pytest.fixture
def table(catalog: Catalog) -> Table:
    columns = ", ".join(f"`{name}` {kind}" for name, kind in COLUMNS.items())
    catalog.execute(
        f"""CREATE DATABASE app; CREATE TABLE app.item ({columns}, PRIMARY KEY (id, part) NOT ENFORCED)
            WITH ('bucket' = '1', 'changelog-producer' = 'lookup')"""
    )
    return catalog.table("app.item")


@pytest.fixture
def delivery(catalog: Catalog, table: Table, place: Place) -> Delivery:
    return Delivery(catalog, Sink(table="app.item", to=place.sink(), bounds=Bounds(max_snapshots=1)))


def write(table: Table, *rows: dict[str, Any], kind: str = "+I") -> None:
    schema = table.schema.polars_schema
    frame = pl.DataFrame([{**dict.fromkeys(schema.names()), **row} for row in rows], schema=schema)
    table.write(frame.with_columns(pl.lit(kind).alias("_row_kind")))


def small(number: int, part: str = "x", tiny: int = 0) -> dict[str, Any]:
    return {"id": number, "part": part, "tiny": tiny}


def catch_up(delivery: Delivery) -> list[bool]:
    whole = []
    while (result := delivery.run()) is not None:
        whole.append(result.whole)
    return whole


def comparable(value: Any) -> Any:
    """A value as every driver gives it."""
    if isinstance(value, datetime):
        return value.replace(tzinfo=None)
    if isinstance(value, str) and value[:1] == "[":
        return json.loads(value)
    if hasattr(value, "total_seconds"):
        return (datetime(2000, 1, 1) + value).time()
    return bool(value) if value is True or value is False else value


def test_every_type_arrives_as_it_was(delivery: Delivery, table: Table, place: Place) -> None:
    write(table, *ROWS)
    assert catch_up(delivery) == [True]
    wanted = [
        tuple({**dict.fromkeys(COLUMNS), **row}.values())
        for row in sorted(ROWS, key=lambda row: (row["id"], row["part"]))
    ]
    assert [tuple(map(comparable, row)) for row in place.rows()] == [tuple(map(comparable, row)) for row in wanted]


def test_a_load_and_then_the_changes_each_once(delivery: Delivery, table: Table, place: Place) -> None:
    assert delivery.run() is None
    write(table, small(1), small(2), small(3))
    assert delivery.waits()
    assert catch_up(delivery) == [True]
    write(table, small(2, tiny=5), small(4))
    write(table, small(1), kind="-D")
    write(table, small(1, tiny=7), small(9))
    write(table, small(9), kind="-D")
    assert set(catch_up(delivery)) == {False}
    assert place.few() == [(1, "x", 7), (2, "x", 5), (3, "x", 0), (4, "x", 0)]
    assert not delivery.waits()
    result_of_nothing = delivery.run()
    assert result_of_nothing is None


def test_columns_that_the_table_gets_are_added(
    catalog: Catalog, delivery: Delivery, table: Table, place: Place
) -> None:
    write(table, small(1))
    catch_up(delivery)
    catalog.execute("ALTER TABLE app.item ADD note STRING")
    later = Delivery(catalog, delivery.sink)
    write(catalog.table("app.item"), {**small(2), "note": "new"})
    catch_up(later)
    assert [tuple(row) for row in place.run("SELECT id, note FROM item ORDER BY id")] == [(1, None), (2, "new")]


@pytest.mark.parametrize("whole", [True, False])
def test_a_killed_delivery_leaves_nothing_and_is_done_once(
    delivery: Delivery, table: Table, place: Place, monkeypatch: pytest.MonkeyPatch, *, whole: bool
) -> None:
    write(table, small(1))
    if not whole:
        catch_up(delivery)
        write(table, small(1), kind="-D")
        write(table, small(2))
    before = None if whole else place.few()

    def dying(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        for module in (postgres_sink, mysql_sink):
            patch.setattr(module._Session, "finish", dying)
        with pytest.raises(Killed):
            delivery.run()
    if not whole:
        assert place.few() == before
    catch_up(delivery)
    assert place.few() == [(1, "x", 0)] if whole else [(2, "x", 0)]


def test_overlapping_deliveries_bring_each_change_once(
    catalog: Catalog, delivery: Delivery, table: Table, place: Place
) -> None:
    write(table, small(0))
    catch_up(delivery)
    for number in range(1, 9):
        write(table, small(number, tiny=number))
    results: list[Any] = []

    def run() -> None:
        own = Delivery(catalog, delivery.sink)
        while (result := own.run()) is not None:
            results.append(result.delivered.snapshot)

    threads = [Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == len(set(results))
    assert place.few() == [(number, "x", number) for number in range(9)]


def test_a_table_that_was_rolled_back_or_made_again_is_loaded_anew(
    catalog: Catalog, delivery: Delivery, table: Table, place: Place
) -> None:
    write(table, small(1))
    first = table.latest_snapshot()
    assert first is not None
    write(table, small(2))
    catch_up(delivery)
    table.rollback_to(first.id)
    assert catch_up(delivery) == [True]
    assert place.few() == [(1, "x", 0)]
    write(table, small(3), small(4))
    assert catch_up(delivery) == [False]
    assert [row[0] for row in place.few()] == [1, 3, 4]


def test_a_table_without_a_changelog_is_compared(catalog: Catalog, place: Place) -> None:
    catalog.execute(
        """CREATE DATABASE app; CREATE TABLE app.item (id INT, tiny INT, part STRING, PRIMARY KEY (id) NOT ENFORCED)
           WITH ('bucket' = '1', 'merge-engine' = 'aggregation', 'fields.tiny.aggregate-function' = 'sum')"""
    )
    table, sums = catalog.table("app.item"), Delivery(catalog, Sink(table="app.item", to=place.sink()))
    for _ in range(3):
        table.write(pl.DataFrame({"id": [1], "tiny": [2]}, schema={"id": pl.Int32, "tiny": pl.Int32}))
        catch_up(sums)
    assert place.few() == [(1, None, 6)]


def test_large_tables_go_in_chunks(
    delivery: Delivery, table: Table, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mysql_sink, "CHUNK_BYTES", 20_000)
    monkeypatch.setattr(postgres_sink, "CHUNK_ROWS", 100)
    frame = pl.DataFrame({"id": range(1_000), "part": ["x"] * 1_000, "text": ["y" * 20] * 1_000})
    table.write(frame.cast({"id": pl.Int32}))
    catch_up(delivery)
    assert place.run('SELECT count(*), sum(id), min("text") FROM item')[0] == (1_000, 499_500, "y" * 20)


@pytest.mark.parametrize("dies_at", [None, 3])
def test_what_is_larger_than_the_bounds_is_read_in_portions_and_comes_at_once(
    catalog: Catalog, table: Table, place: Place, monkeypatch: pytest.MonkeyPatch, dies_at: int | None
) -> None:
    delivery = Delivery(catalog, Sink(table="app.item", to=place.sink(), bounds=Bounds(max_rows=100)))
    read: list[pl.DataFrame] = []

    def counted(portion: Portion) -> pl.DataFrame:
        if len(read) + 1 == dies_at:
            raise Killed
        read.append(frame := portion.read())
        return frame

    def portions(of: Table, where: Any) -> list[Portion]:
        return [replace(each, read=partial(counted, each)) for each in portions_of(of, where)]

    def delivered() -> None:
        with monkeypatch.context() as patched:
            patched.setattr("lakehouse_assets.sinks.delivery.portions_of", portions)
            if dies_at is None:
                catch_up(delivery)
            else:
                with pytest.raises(Killed):
                    delivery.run()
        heights.append([frame.height for frame in read])
        read.clear()

    heights: list[list[int]] = []
    frame = pl.DataFrame({"id": range(1_000), "part": "x", "tiny": 0}).cast({"id": pl.Int32, "tiny": pl.Int8})
    table.write(frame)
    delivered()
    catch_up(delivery)
    assert place.run("SELECT count(*), sum(id), sum(tiny) FROM item")[0] == (1_000, 499_500, 0)
    changes = frame.head(700).with_columns(tiny=pl.lit(1, pl.Int8))
    kinds = pl.when(pl.col("id") < 200).then(pl.lit("-D")).otherwise(pl.lit("+U"))
    table.write(changes.with_columns(kinds.alias("_row_kind")))
    before = place.few()
    delivered()
    assert dies_at is None or place.few() == before
    catch_up(delivery)
    assert place.run("SELECT count(*), min(id), sum(tiny) FROM item")[0] == (800, 200, 500)
    table.overwrite(frame.head(500).with_columns(tiny=pl.lit(2, pl.Int8)))
    before = place.few()
    delivered()
    assert dies_at is None or place.few() == before
    catch_up(delivery)
    assert place.run("SELECT count(*), min(id), sum(tiny) FROM item")[0] == (500, 0, 1_000)
    if dies_at is None:
        # 200 deletes, 500 updates of two rows; 500 deletes, 200 inserts, 300 updates
        assert [sum(each) for each in heights] == [1_000, 1_200, 1_300]
        assert max(height for each in heights for height in each) < 200
    else:
        assert [len(each) for each in heights] == [2, 2, 2]


def test_what_a_database_cannot_hold_is_told_and_nothing_written(
    delivery: Delivery, table: Table, place: Place
) -> None:
    write(table, small(1))
    catch_up(delivery)
    write(table, small(2), {**small(3), "text": "a\0b"})
    with pytest.raises(InvalidRows, match="column text has a text with a NUL"):
        delivery.run()
    assert place.few() == [(1, "x", 0)]


def test_wrong_passwords_and_absent_servers_are_told_without_secrets(
    catalog: Catalog, table: Table, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(table, small(1))
    away = Delivery(catalog, Sink(table="app.item", to=place.sink(port=1)))
    with pytest.raises(SourceUnavailable):
        away.run()
    monkeypatch.setenv("LAKEHOUSE_SINK_PASSWORD", "sesame-that-must-not-show")
    refused = Delivery(catalog, Sink(table="app.item", to=place.sink()))
    with pytest.raises(SourceAccessDenied) as told:
        refused.run()
    assert "sesame" not in str(told.value) + repr(refused.sink)
    monkeypatch.delenv("LAKEHOUSE_SINK_PASSWORD")
    with pytest.raises(InvalidInput, match="LAKEHOUSE_SINK_PASSWORD is not set"):
        refused.run()


def test_a_table_without_a_key_is_refused(catalog: Catalog, place: Place) -> None:
    catalog.execute("CREATE DATABASE app; CREATE TABLE app.item (id INT)")
    catalog.execute("INSERT INTO app.item VALUES (1)")
    with pytest.raises(InvalidInput, match="no primary key"):
        Delivery(catalog, Sink(table="app.item", to=place.sink())).run()


def test_columns_of_any_name(catalog: Catalog, place: Place) -> None:
    catalog.create_database("db")
    names = [
        "a b",
        "a.b",
        "it's",
        'q"uote',
        "back`tick",
        "%s",
        "%(id)s",
        "{0}",
        "$1",
        ":x",
        "?",
        "größe",
        "order",
        "@a",
        "--",
    ]
    columns = {"id": "INT", **dict.fromkeys(names, "STRING")}
    table = catalog.create_table(
        "db.odd", columns, primary_key=["id"], options={"bucket": "1", "changelog-producer": "lookup"}
    )
    delivery = Delivery(catalog, Sink(table="db.odd", to=place.sink()))
    write(table, *({"id": number, **dict.fromkeys(names, f"v{number}")} for number in (1, 2)))
    catch_up(delivery)
    write(table, {"id": 1, **dict.fromkeys(names, "new")})
    write(table, {"id": 2, **dict.fromkeys(names, "v2")}, kind="-D")
    catch_up(delivery)
    assert [tuple(row) for row in place.run("SELECT * FROM odd")] == [(1, *["new"] * len(names))]

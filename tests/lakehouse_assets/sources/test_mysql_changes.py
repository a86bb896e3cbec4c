"""MySQL and MariaDB as the lakehouse's change source: each table goes on at its own position, without gap or rereading."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import polars as pl
import pytest

from lakehouse_assets.ingest import Ingester, Ingestion
from lakehouse_assets.sources.change_source import REJECTED_SCHEMA, ChangeSource, SourceTable
from lakehouse_assets.sources.debezium import parse
from lakehouse_assets.sources.errors import SourceSchemaChanged
from lakehouse_assets.sources.mysql import changes as mysql_changes
from lakehouse_assets.sources.mysql.changes import MySqlChanges
from lakehouse_assets.sources.mysql.source import MySqlSource
from lakehouse_demo.sql_server import SqlServer
from storage_engine import Catalog
from tests.lakehouse_assets.quarantine_table import QUARANTINE_DDL
from tests.servers.sql import SERVERS, serving

Sql = Callable[..., Any]

ORDER = SourceTable(
    name="member_order",
    target="ods.member_order",
    columns={"v_date": pl.String(), "id": pl.Int32(), "event_time": pl.Datetime("ms")},
    required=frozenset({"v_date", "id"}),
    days=frozenset({"v_date"}),
)
CITY = SourceTable(
    name="city",
    target="dim.city",
    columns={"id": pl.Int32(), "name": pl.String()},
    required=frozenset({"id", "name"}),
)
TIME = datetime(2024, 1, 30, 1, 2, 3, 4000)


@pytest.fixture(scope="module", params=SERVERS)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SqlServer]:
    with serving(request.param, tmp_path_factory.mktemp(request.param)) as server:
        yield server


@pytest.fixture
def sql(server: SqlServer) -> Iterator[Sql]:
    """Runs a statement, in a new database ``sales`` with two tables."""
    with server.admin.connect() as connection, connection.cursor() as cursor:
        connection.autocommit(True)
        cursor.execute("DROP DATABASE IF EXISTS sales")
        cursor.execute("CREATE DATABASE sales")
        cursor.execute("USE sales")
        cursor.execute(
            "CREATE TABLE member_order (v_date VARCHAR(20), id INT, event_time DATETIME(3), PRIMARY KEY (v_date, id))"
        )
        cursor.execute("CREATE TABLE city (id INT PRIMARY KEY, name VARCHAR(20))")

        def execute(statement: str, *values: object) -> Any:
            cursor.execute(statement, values or None)
            return cursor.fetchall()

        yield execute


@pytest.fixture
def source(server: SqlServer, sql: Sql) -> MySqlChanges:
    return server.source()


def place(sql: Sql, number: int, v_date: str = "2024-01-30") -> None:
    sql("INSERT INTO member_order VALUES (%s, %s, %s)", v_date, number, TIME)


def test_it_is_a_change_source(server: SqlServer, source: MySqlChanges) -> None:
    as_protocol: ChangeSource = source
    assert as_protocol.name.startswith(f"{server.title} 127.0.0.1:")
    assert as_protocol.name.endswith("/sales")


def test_a_snapshot_comes_first_and_then_the_changes(source: MySqlChanges, sql: Sql) -> None:
    place(sql, 1)
    sql("INSERT INTO city VALUES (1, 'Xi''an')")
    first = source.read([(ORDER, None), (CITY, None)], max_rows=100)
    assert first["member_order"].rows.rows() == [("2024-01-30", 1, "r", False, TIME)]
    assert first["city"].rows.rows() == [(1, "Xi'an", "r", False, None)]
    assert first["city"].position == first["member_order"].position
    assert first["city"].rows.schema["event_time"] == pl.Datetime("ms")
    place(sql, 2)
    sql("DELETE FROM member_order WHERE id = 1")
    position = first["member_order"].position
    then = source.read([(ORDER, position), (CITY, position)], max_rows=100)
    assert then.keys() == {"member_order"}
    assert then["member_order"].rows.rows() == [
        ("2024-01-30", 2, "c", False, TIME),
        ("2024-01-30", 1, "d", True, TIME),
    ]
    assert then["member_order"].at_end
    assert source.read([(ORDER, then["member_order"].position), (CITY, position)], max_rows=100) == {}


def test_tables_go_on_at_their_own_positions(source: MySqlChanges, sql: Sql) -> None:
    start = source.read([(ORDER, None), (CITY, None)], max_rows=100)["city"].position
    place(sql, 1)
    middle = source.read([(ORDER, start)], max_rows=100)["member_order"].position
    sql("INSERT INTO city VALUES (1, 'a')")
    place(sql, 2)
    batches = source.read([(ORDER, middle), (CITY, start)], max_rows=100)
    assert batches["member_order"].rows["id"].to_list() == [2]
    assert batches["city"].rows["id"].to_list() == [1]
    again = source.read([(ORDER, middle), (CITY, start)], max_rows=100)
    assert again["member_order"].rows.equals(batches["member_order"].rows)


def test_changes_behind_many_that_are_known_are_found(source: MySqlChanges, sql: Sql) -> None:
    start = source.read([(ORDER, None), (CITY, None)], max_rows=100)["city"].position
    for number in range(10):
        place(sql, number)
    known = source.read([(ORDER, start)], max_rows=100)["member_order"].position
    sql("INSERT INTO city VALUES (1, 'a')")
    batches = source.read([(ORDER, known), (CITY, start)], max_rows=2)
    assert batches.keys() == {"city"}


def test_a_table_that_seldom_changes_does_not_make_the_log_be_searched_again(
    source: MySqlChanges, sql: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = source.read([(ORDER, None), (CITY, None)], max_rows=100)["city"].position
    searched: list[int] = []
    changes = MySqlSource.changes

    def counted(self: MySqlSource, after: int, **settings: Any) -> Any:
        searched.append(after)
        return changes(self, after, **settings)

    monkeypatch.setattr(MySqlSource, "changes", counted)
    position = start
    for number in range(3):
        place(sql, number)
        batch = source.read([(ORDER, position), (CITY, start)], max_rows=100)["member_order"]
        assert batch.rows["id"].to_list() == [number]
        position = batch.position
    assert len(set(searched)) == 3
    sql("INSERT INTO city VALUES (1, 'a')")
    assert source.read([(ORDER, position), (CITY, start)], max_rows=100)["city"].rows.height == 1


def test_after_many_rows_the_other_tables_get_the_position_too(
    source: MySqlChanges, sql: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that another process does not search the log again for them; a table that is ahead never goes back."""
    monkeypatch.setattr(mysql_changes, "NOTED_ROWS", 4)
    start = source.read([(ORDER, None), (CITY, None)], max_rows=100)["city"].position
    for number in range(3):
        place(sql, number)
    assert source.read([(ORDER, start), (CITY, start)], max_rows=100).keys() == {"member_order"}
    place(sql, 3)
    found = source.read([(ORDER, start), (CITY, start)], max_rows=100)
    assert {name: batch.rows.height for name, batch in found.items()} == {"member_order": 4, "city": 0}
    assert found["city"].position == found["member_order"].position
    sql("INSERT INTO city VALUES (1, 'a')")
    ahead = source.read([(CITY, found["city"].position)], max_rows=100)["city"].position
    assert source.read([(ORDER, start), (CITY, ahead)], max_rows=4).keys() == {"member_order"}


def test_batches_are_bounded_by_rows(source: MySqlChanges, sql: Sql) -> None:
    position: str | None = source.read([(ORDER, None)], max_rows=100)["member_order"].position
    for number in range(7):
        place(sql, number)
    sizes = []
    while batch := source.read([(ORDER, position)], max_rows=3).get("member_order"):
        sizes.append(batch.rows.height)
        position = batch.position
    assert sizes == [3, 3, 1]


def test_rows_that_the_target_cannot_have_are_rejected(source: MySqlChanges, sql: Sql) -> None:
    place(sql, 1)
    place(sql, 2, "../../x")
    place(sql, 3, "2024-02-30")
    sql("INSERT INTO city VALUES (1, NULL), (2, 'a')")
    batch = source.everything(ORDER)
    assert batch.rows["id"].to_list() == [1]
    assert batch.rejected.schema == REJECTED_SCHEMA
    assert batch.rejected["reason"].to_list() == ["v_date is no day of the calendar"] * 2
    row = '{"v_date":"../../x","id":2,"event_time":1706576523004}'
    assert batch.rejected["raw"][0] == f'{{"op":"r","after":{row},"source":{{"ts_ms":1706576523004}}}}'
    assert batch.rejected.select("source_file", "line").is_unique().all()
    cities = source.everything(CITY)
    assert cities.rows["id"].to_list() == [2]
    assert cities.rejected["reason"].to_list() == ["name is null"]


def test_a_table_of_other_columns_is_told(source: MySqlChanges, sql: Sql) -> None:
    sql("ALTER TABLE city MODIFY id BIGINT")
    with pytest.raises(SourceSchemaChanged, match="city"):
        source.everything(CITY)


def test_refused_rows_of_one_transaction_are_all_kept(source: MySqlChanges, sql: Sql) -> None:
    start = source.read([(CITY, None)], max_rows=1)["city"].position
    sql("INSERT INTO city VALUES (1, NULL), (2, 'a'), (3, NULL)")
    sql("INSERT INTO city VALUES (4, NULL)")
    rejected = source.read([(CITY, start)], max_rows=100)["city"].rejected
    assert rejected.height == 3
    assert rejected.select("source_file", "line").is_unique().all()
    assert source.read([(CITY, start)], max_rows=100)["city"].rejected.equals(rejected)
    good, refused = parse(rejected.with_columns(pl.col("raw").str.replace("null", '"x"')), CITY)
    assert good["id"].to_list() == [1, 3, 4]
    assert refused.is_empty()


# a mirror of a table


@pytest.fixture
def mirror(catalog: Catalog, source: MySqlChanges) -> Ingester:
    """The ingestion of ``city`` into a table without the stream's own columns."""
    catalog.execute(
        """CREATE DATABASE ods;
           CREATE TABLE ods.city (id INT, name STRING, PRIMARY KEY (id) NOT ENFORCED) WITH ('bucket' = '1');"""
    )
    catalog.execute(QUARANTINE_DDL)
    return Ingester(catalog, source, [Ingestion(source_table="city", target="ods.city", added=())])


def rows(ingester: Ingester) -> list[tuple[Any, ...]]:
    while ingester.run_batch():
        pass
    return ingester.tables["ods.city"].scan().sort("id").collect().rows()


def test_added_and_widened_columns_are_followed(mirror: Ingester, sql: Sql) -> None:
    sql("INSERT INTO city VALUES (1, 'a'), (2, 'b')")
    assert rows(mirror) == [(1, "a"), (2, "b")]
    sql("DELETE FROM city WHERE id = 1")
    sql("ALTER TABLE city ADD COLUMN size INT FIRST")
    assert mirror.waiting() == ["ods.city"]
    sql("INSERT INTO city VALUES (7, 3, 'c')")
    assert rows(mirror) == [(2, "b", None), (3, "c", 7)]
    sql("ALTER TABLE city MODIFY size BIGINT")
    sql("INSERT INTO city VALUES (8000000000, 4, 'd')")
    assert rows(mirror)[-1] == (4, "d", 8_000_000_000)


def test_columns_may_have_the_names_of_what_is_told_of_changes(
    catalog: Catalog, source: MySqlChanges, sql: Sql
) -> None:
    catalog.execute("CREATE DATABASE ods")
    catalog.execute(QUARANTINE_DDL)
    names = ["position", "op", "deleted", "line", "source_file", "raw", "reason", "target", "a+b ($)", "%s", "it's"]
    sql(f"CREATE TABLE task (id INT PRIMARY KEY, {', '.join(f'`{name}` VARCHAR(9)' for name in names)})")
    catalog.create_table("ods.task", {"id": "INT", **dict.fromkeys(names, "STRING")}, primary_key=["id"])
    ingester = Ingester(catalog, source, [Ingestion(source_table="task", target="ods.task", added=())])
    values = ", ".join(["'a'"] * len(names))
    sql(f"INSERT INTO task VALUES (1, {values}), (2, {values})")
    ingester.run_batch()
    sql("UPDATE task SET position = 'x', op = 'd', deleted = 'yes' WHERE id = 1")
    sql("DELETE FROM task WHERE id = 2")
    while ingester.run_batch():
        pass
    assert ingester.tables["ods.task"].scan().collect().rows() == [(1, "x", "d", "yes", *["a"] * (len(names) - 3))]


def test_a_column_with_a_default_reaches_the_rows_of_before(mirror: Ingester, sql: Sql) -> None:
    sql("INSERT INTO city VALUES (1, 'a'), (2, 'b')")
    assert len(rows(mirror)) == 2
    sql("ALTER TABLE city ADD COLUMN country VARCHAR(2) DEFAULT 'cn'")
    sql("UPDATE city SET country = NULL WHERE id = 2")
    assert rows(mirror) == [(1, "a", "cn"), (2, "b", None)]


def test_dropped_and_renamed_columns_wait_for_a_person(mirror: Ingester, sql: Sql) -> None:
    sql("INSERT INTO city VALUES (1, 'a')")
    assert len(rows(mirror)) == 1
    sql("ALTER TABLE city CHANGE name title VARCHAR(20)")
    sql("INSERT INTO city VALUES (2, 'b')")
    with pytest.raises(SourceSchemaChanged, match=r"no longer has name.*has title anew"):
        mirror.run_batch()
    mirror.catalog.execute("ALTER TABLE ods.city RENAME name TO title")
    assert rows(mirror) == [(1, "a"), (2, "b")]
    sql("DELETE FROM city")
    assert rows(mirror) == []
    sql("ALTER TABLE city MODIFY title INT")
    sql("INSERT INTO city VALUES (1, 2)")
    with pytest.raises(SourceSchemaChanged, match="not every old value fits"):
        mirror.run_batch()


def test_a_new_snapshot_goes_on_where_the_log_is_lost(mirror: Ingester, sql: Sql) -> None:
    sql("INSERT INTO city VALUES (1, 'a'), (2, 'b')")
    assert len(rows(mirror)) == 2
    sql("DELETE FROM city WHERE id = 1")
    sql("TRUNCATE TABLE city")
    sql("INSERT INTO city VALUES (2, 'b'), (3, 'c')")
    with pytest.raises(SourceSchemaChanged, match="take a new snapshot"):
        mirror.run_batch()
    result = mirror.resnapshot(mirror.ingestions[0])
    assert result.rows_written == {"-D": 1, "+I": 2}
    assert rows(mirror) == [(2, "b"), (3, "c")]
    sql("INSERT INTO city VALUES (4, 'd')")
    assert rows(mirror) == [(2, "b"), (3, "c"), (4, "d")]

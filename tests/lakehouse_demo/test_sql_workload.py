"""The workload is the same however it is cut, and its figures by SQL are those by plain Python over the same rows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pymysql
import pytest
from pymysql.cursors import DictCursor

from lakehouse_demo.app_tables import MEMBER_GROWTH, SPRINT_PERFORMANCE, compare
from lakehouse_demo.mariadb import MariaDbServer, installed
from lakehouse_demo.source_tables import SOURCE_TABLES
from lakehouse_demo.sql_truth import expected_app
from lakehouse_demo.sql_workload import WorkloadConfig, prepare, progress_of, run
from lakehouse_demo.truth import member_growth, sprint_performance

pytestmark = [
    pytest.mark.mariadb,
    pytest.mark.skipif(not installed(), reason="the program mariadbd is not installed"),
]

CONFIG = WorkloadConfig(seed=5, members=150, agents=10, transactions=240)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MariaDbServer]:
    with MariaDbServer(tmp_path_factory.mktemp("mariadb")) as server:
        yield server


@pytest.fixture
def connection(server: MariaDbServer) -> Iterator[pymysql.Connection]:
    """A connection to a server without tables."""
    with server.app.connect() as connection, connection.cursor() as cursor:
        for database in ("sales", "workload"):
            cursor.execute(f"DROP DATABASE IF EXISTS {database}")
        yield connection


def tables_of(connection: pymysql.Connection) -> dict[str, dict[tuple[Any, ...], dict[str, Any]]]:
    tables = {}
    with connection.cursor(DictCursor) as cursor:
        for table in SOURCE_TABLES.values():
            cursor.execute(f"SELECT * FROM sales.{table.name}")
            tables[table.name] = {tuple(row[column] for column in table.key): row for row in cursor.fetchall()}
        cursor.execute("COMMIT")
    return tables


def test_the_tables_are_the_source_tables(connection: pymysql.Connection) -> None:
    prepare(connection, CONFIG)
    with connection.cursor() as cursor:
        for table in SOURCE_TABLES.values():
            cursor.execute(f"SHOW COLUMNS FROM sales.{table.name}")
            assert [row[0] for row in cursor.fetchall()] == list(table.columns)


def test_steps_of_any_length_give_the_same_tables(server: MariaDbServer, connection: pymysql.Connection) -> None:
    prepare(connection, CONFIG)
    run(connection, CONFIG, transactions=CONFIG.transactions)
    whole = tables_of(connection)
    with connection.cursor() as cursor:
        cursor.execute("DROP DATABASE sales")
        cursor.execute("DROP DATABASE workload")
    for steps in (1, 99, 40):
        with server.app.connect() as another:
            prepare(another, CONFIG)
            run(another, CONFIG, transactions=steps)
    assert progress_of(connection).transactions == 140
    assert run(connection, CONFIG, transactions=1_000).transactions == CONFIG.transactions
    assert tables_of(connection) == whole
    assert run(connection, CONFIG, transactions=1).transactions == CONFIG.transactions
    assert tables_of(connection) == whole


def test_a_transaction_that_was_cut_off_is_done_again(server: MariaDbServer, connection: pymysql.Connection) -> None:
    prepare(connection, CONFIG)
    before = run(connection, CONFIG, transactions=50)
    with server.app.connect() as cut_off, cut_off.cursor() as cursor:
        cursor.execute("START TRANSACTION")
        cursor.execute("UPDATE workload.progress SET transactions = transactions + 1")
        cursor.execute("DELETE FROM sales.member_order")
    assert progress_of(connection) == before
    assert len(tables_of(connection)["member_order"]) > 10


def test_event_times_of_a_row_only_grow(connection: pymysql.Connection) -> None:
    prepare(connection, CONFIG)
    known: dict[tuple[str, tuple[Any, ...]], dict[str, Any]] = {}
    changed = 0
    for _ in range(CONFIG.transactions // 4):
        run(connection, CONFIG, transactions=4)
        tables = tables_of(connection)
        for table in ("member", "member_order"):
            for key, row in tables[table].items():
                earlier = known.get((table, key), row)
                changed += earlier != row
                assert earlier == row or earlier["event_time"] < row["event_time"]
                known[table, key] = row
    assert changed > 100


def test_figures_by_sql_are_those_by_python(connection: pymysql.Connection) -> None:
    prepare(connection, CONFIG)
    run(connection, CONFIG, transactions=CONFIG.transactions)
    tables, expected = tables_of(connection), expected_app(connection)
    assert compare(SPRINT_PERFORMANCE, expected.sprint_performance, sprint_performance(tables)) == []
    assert compare(MEMBER_GROWTH, expected.member_growth, member_growth(tables)) == []
    assert len(expected.sprint_performance) > 50
    assert {row["v_month"] for row in expected.member_growth} == {"2024-01", "2024-02"}


def test_another_seed_gives_another_workload(connection: pymysql.Connection) -> None:
    other = WorkloadConfig(seed=6, members=150, agents=10, transactions=240)
    prepare(connection, CONFIG)
    run(connection, CONFIG, transactions=40)
    first = tables_of(connection)
    with connection.cursor() as cursor:
        cursor.execute("DROP DATABASE sales")
        cursor.execute("DROP DATABASE workload")
    prepare(connection, other)
    run(connection, other, transactions=40)
    assert tables_of(connection)["member_order"] != first["member_order"]

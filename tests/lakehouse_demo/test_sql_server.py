"""The demo's private server: it keeps to its folder, and its data outlives every way to end."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pymysql
import pytest

from lakehouse_demo import mariadb, mysql
from lakehouse_demo.mariadb import MariaDbServer
from lakehouse_demo.mysql import MySqlServer
from lakehouse_demo.private_server import ServerFailed, ServerMissing
from lakehouse_demo.sql_server import SqlServer
from tests.servers.sql import SERVERS, serving


@pytest.fixture(scope="module", params=SERVERS)
def one_server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SqlServer]:
    with serving(request.param, tmp_path_factory.mktemp(request.param)) as server:
        yield server


@pytest.fixture
def kind(one_server: SqlServer) -> type[SqlServer]:
    return type(one_server)


@pytest.fixture
def server(one_server: SqlServer) -> SqlServer:
    """A running server without the business's databases."""
    one_server.start()
    with one_server.app.connect() as connection, connection.cursor() as cursor:
        cursor.execute("DROP DATABASE IF EXISTS sales")
    return one_server


def add_row(server: SqlServer, number: int) -> None:
    with server.app.connect() as connection, connection.cursor() as cursor:
        cursor.execute("CREATE DATABASE IF NOT EXISTS sales")
        cursor.execute("CREATE TABLE IF NOT EXISTS sales.t (id INT PRIMARY KEY)")
        cursor.execute("INSERT INTO sales.t VALUES (%s)", (number,))
        connection.commit()


def rows(server: SqlServer) -> list[int]:
    with server.reader.connect() as connection, connection.cursor() as cursor:
        cursor.execute("SELECT id FROM sales.t ORDER BY id")
        return [number for (number,) in cursor.fetchall()]


def test_data_outlives_stops_and_crashes(server: SqlServer) -> None:
    add_row(server, 1)
    server.stop()
    assert not server.running()
    server.stop()
    server.start()
    server.start()
    add_row(server, 2)
    server.kill()
    assert not server.running()
    server.start()
    assert rows(server) == [1, 2]


def test_another_process_takes_over_a_server_that_was_left_running(
    server: SqlServer, kind: type[SqlServer], tmp_path: Path
) -> None:
    folder = tmp_path / "left"
    program = (
        f"import os, signal\nfrom {kind.__module__} import {kind.__name__}\n"
        f"{kind.__name__}({str(folder)!r}).start()\nos.kill(os.getpid(), signal.SIGKILL)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode < 0
    with kind(folder) as taken_over:
        port = taken_over.app.port
        add_row(taken_over, 1)
        assert taken_over.running()
        assert port != server.app.port
    assert not taken_over.running()


def test_a_taken_port_is_no_obstacle(server: SqlServer, kind: type[SqlServer], tmp_path: Path) -> None:
    add_row(server, 1)
    port = server.app.port
    server.stop()
    second = tmp_path / "second"
    second.mkdir()
    shutil.copy(server.folder / "server.json", second)
    with kind(second) as other:
        assert other.app.port == port
        server.start()
        assert server.app.port != port
        assert rows(server) == [1]


def test_only_the_owner_reads_the_passwords_and_nobody_comes_in_without(server: SqlServer) -> None:
    assert stat.S_IMODE(server.folder.stat().st_mode) == 0o700
    for name in ("server.json", "users.sql"):
        assert stat.S_IMODE((server.folder / name).stat().st_mode) == 0o600
    assert server.app.password not in repr(server.app)
    for user in ("root", "admin", "app", "reader", ""):
        with pytest.raises(pymysql.err.OperationalError, match="denied"):
            pymysql.connect(host=server.app.host, port=server.app.port, user=user, password="")


def test_users_may_do_what_they_are_for(server: SqlServer) -> None:
    add_row(server, 1)
    with server.reader.connect() as connection, connection.cursor() as cursor:
        cursor.execute("SHOW BINARY LOGS")
        assert cursor.fetchone() is not None
        with pytest.raises(pymysql.err.OperationalError, match="denied"):
            cursor.execute("DELETE FROM sales.t")
    with (
        server.app.connect() as connection,
        connection.cursor() as cursor,
        pytest.raises(pymysql.err.OperationalError, match="denied"),
    ):
        cursor.execute("CREATE DATABASE other")


def test_the_log_tells_whole_rows(server: SqlServer) -> None:
    with server.reader.connect() as connection, connection.cursor() as cursor:
        cursor.execute("SHOW GLOBAL VARIABLES LIKE 'binlog_%'")
        variables = dict(cursor.fetchall())
    assert {name: variables[f"binlog_{name}"] for name in ("format", "row_image", "row_metadata")} == {
        "format": "ROW",
        "row_image": "FULL",
        "row_metadata": "FULL",
    }


def test_a_set_up_that_was_cut_off_is_begun_again(kind: type[SqlServer], tmp_path: Path) -> None:
    (tmp_path / "data.unfinished" / "mysql").mkdir(parents=True)
    with kind(tmp_path) as server:
        add_row(server, 1)
        assert rows(server) == [1]


def test_a_server_that_cannot_start_is_told_with_its_log(kind: type[SqlServer], tmp_path: Path) -> None:
    server = kind(tmp_path / "broken")
    with server:
        pass
    (server.folder / "data" / "ibdata1").write_bytes(b"damaged")
    with pytest.raises(ServerFailed, match="does not start"):
        server.start()
    assert not server.running()


@pytest.mark.mariadb
def test_an_absent_mariadb_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("lakehouse_demo.mariadb.PROGRAM_PATH", os.fspath(tmp_path))
    monkeypatch.setenv("PATH", os.fspath(tmp_path))
    assert not mariadb.installed()
    with pytest.raises(ServerMissing, match="mariadb-server"):
        MariaDbServer.install()
    with pytest.raises(ServerMissing):
        MariaDbServer(tmp_path / "server").start()


def test_a_mysql_that_cannot_be_fetched_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LAKEHOUSE_MYSQL_HOME", os.fspath(tmp_path / "home"))
    monkeypatch.setenv("PATH", os.fspath(tmp_path))
    monkeypatch.setattr(mysql, "_program", mysql._program.__wrapped__)
    with pytest.raises(ServerMissing, match=r"MySQL is not installed.*apt-get is not on this machine"):
        MySqlServer.install()
    assert [path.name for path in (tmp_path / "home").iterdir() if path.is_dir()] == []

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

from lakehouse_demo.mariadb import MariaDbFailed, MariaDbMissing, MariaDbServer, install, installed

pytestmark = [
    pytest.mark.mariadb,
    pytest.mark.skipif(not installed(), reason="the program mariadbd is not installed"),
]


@pytest.fixture(scope="module")
def one_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MariaDbServer]:
    with MariaDbServer(tmp_path_factory.mktemp("mariadb")) as server:
        yield server


@pytest.fixture
def server(one_server: MariaDbServer) -> MariaDbServer:
    """A running server without the business's databases."""
    one_server.start()
    with one_server.app.connect() as connection, connection.cursor() as cursor:
        cursor.execute("DROP DATABASE IF EXISTS sales")
    return one_server


def add_row(server: MariaDbServer, number: int) -> None:
    with server.app.connect() as connection, connection.cursor() as cursor:
        cursor.execute("CREATE DATABASE IF NOT EXISTS sales")
        cursor.execute("CREATE TABLE IF NOT EXISTS sales.t (id INT PRIMARY KEY)")
        cursor.execute("INSERT INTO sales.t VALUES (%s)", (number,))
        connection.commit()


def rows(server: MariaDbServer) -> list[int]:
    with server.reader.connect() as connection, connection.cursor() as cursor:
        cursor.execute("SELECT id FROM sales.t ORDER BY id")
        return [number for (number,) in cursor.fetchall()]


def test_data_outlives_stops_and_crashes(server: MariaDbServer) -> None:
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


def test_another_process_takes_over_a_server_that_was_left_running(server: MariaDbServer, tmp_path: Path) -> None:
    folder = tmp_path / "left"
    program = (
        "import os, signal\nfrom lakehouse_demo.mariadb import MariaDbServer\n"
        f"MariaDbServer({str(folder)!r}).start()\nos.kill(os.getpid(), signal.SIGKILL)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode < 0
    with MariaDbServer(folder) as taken_over:
        port = taken_over.app.port
        add_row(taken_over, 1)
        assert taken_over.running()
        assert port != server.app.port
    assert not taken_over.running()


def test_a_taken_port_is_no_obstacle(server: MariaDbServer, tmp_path: Path) -> None:
    add_row(server, 1)
    port = server.app.port
    server.stop()
    second = tmp_path / "second"
    second.mkdir()
    shutil.copy(server.folder / "server.json", second)
    with MariaDbServer(second) as other:
        assert other.app.port == port
        server.start()
        assert server.app.port != port
        assert rows(server) == [1]


def test_only_the_owner_reads_the_passwords_and_nobody_comes_in_without(server: MariaDbServer) -> None:
    assert stat.S_IMODE(server.folder.stat().st_mode) == 0o700
    for name in ("server.json", "users.sql"):
        assert stat.S_IMODE((server.folder / name).stat().st_mode) == 0o600
    assert server.app.password not in repr(server.app)
    for user in ("root", "admin", "app", "reader", ""):
        with pytest.raises(pymysql.err.OperationalError, match="denied"):
            pymysql.connect(host=server.app.host, port=server.app.port, user=user, password="")


def test_users_may_do_what_they_are_for(server: MariaDbServer) -> None:
    add_row(server, 1)
    with server.reader.connect() as connection, connection.cursor() as cursor:
        cursor.execute("SHOW MASTER STATUS")
        assert cursor.fetchone() is not None
        with pytest.raises(pymysql.err.OperationalError, match="denied"):
            cursor.execute("DELETE FROM sales.t")
    with (
        server.app.connect() as connection,
        connection.cursor() as cursor,
        pytest.raises(pymysql.err.OperationalError, match="denied"),
    ):
        cursor.execute("CREATE DATABASE other")


def test_the_log_tells_whole_rows(server: MariaDbServer) -> None:
    with server.reader.connect() as connection, connection.cursor() as cursor:
        cursor.execute("SHOW GLOBAL VARIABLES LIKE 'binlog_%'")
        variables = dict(cursor.fetchall())
    assert {name: variables[f"binlog_{name}"] for name in ("format", "row_image", "row_metadata")} == {
        "format": "ROW",
        "row_image": "FULL",
        "row_metadata": "FULL",
    }


def test_a_set_up_that_was_cut_off_is_begun_again(tmp_path: Path) -> None:
    (tmp_path / "data.unfinished" / "mysql").mkdir(parents=True)
    with MariaDbServer(tmp_path) as server:
        add_row(server, 1)
        assert rows(server) == [1]


def test_a_server_that_cannot_start_is_told_with_its_log(tmp_path: Path) -> None:
    server = MariaDbServer(tmp_path / "broken")
    with server:
        pass
    (server.folder / "data" / "ibdata1").write_bytes(b"damaged")
    with pytest.raises(MariaDbFailed, match="does not start"):
        server.start()
    assert not server.running()


def test_an_absent_server_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("lakehouse_demo.mariadb.PROGRAM_PATH", os.fspath(tmp_path))
    monkeypatch.setenv("PATH", os.fspath(tmp_path))
    assert not installed()
    with pytest.raises(MariaDbMissing, match="mariadb-server"):
        install()
    with pytest.raises(MariaDbMissing):
        MariaDbServer(tmp_path / "server").start()

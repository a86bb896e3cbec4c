"""The demo's private PostgreSQL server: it keeps to its folder, outlives its starter, and runs the workload."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg.rows import dict_row

from lakehouse_demo import postgres
from lakehouse_demo.app_tables import MEMBER_GROWTH, SPRINT_PERFORMANCE, compare
from lakehouse_demo.postgres import PostgresServer
from lakehouse_demo.private_server import ServerFailed, ServerMissing
from lakehouse_demo.source_tables import SOURCE_TABLES
from lakehouse_demo.sql_dialect import POSTGRES
from lakehouse_demo.sql_truth import expected_app
from lakehouse_demo.sql_workload import WorkloadConfig, prepare, progress_of, run
from lakehouse_demo.truth import member_growth, sprint_performance

needs_server = pytest.mark.skipif(not postgres.installed(), reason="the programs of PostgreSQL are not installed")
CONFIG = WorkloadConfig(seed=5, members=150, agents=10, transactions=240)


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    """A running server, in a folder that the user of the server may enter."""
    with tempfile.TemporaryDirectory(prefix="lakehouse-postgres-") as folder:
        Path(folder).chmod(0o755)
        server = PostgresServer(Path(folder) / "its own" / "server")
        server.start()
        try:
            yield server
        finally:
            server.stop()


@pytest.mark.postgres
@needs_server
def test_data_and_passwords_outlive_the_process_that_started_it(server: PostgresServer) -> None:
    with server.app.connect() as connection:
        connection.execute("CREATE TABLE t AS SELECT 1 AS id")
    server.stop()
    assert not server.running()
    server.stop()
    program = (
        f"import os\nfrom lakehouse_demo.postgres import PostgresServer\nPostgresServer({str(server.folder)!r}).start()\n"
        f"os.kill(os.getpid(), {int(signal.SIGKILL)})"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == -signal.SIGKILL
    assert server.running()
    server.start()
    with server.reader.connect() as connection:
        assert connection.execute("SELECT id FROM t").fetchall() == [(1,)]
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("DELETE FROM t")
    assert stat.S_IMODE((server.folder / "server.json").stat().st_mode) == 0o600
    assert not (server.folder / "password").exists()
    assert server.app.password not in repr(server.app)
    with pytest.raises(psycopg.OperationalError, match=r"no password|authentication failed"):
        psycopg.connect(host="127.0.0.1", port=server.app.port, user="app", dbname="sales", passfile=os.devnull)


@pytest.mark.postgres
@needs_server
def test_the_workload_is_the_same_however_it_is_cut(server: PostgresServer) -> None:
    with server.app.connect() as connection:
        for _ in range(2):
            prepare(connection, CONFIG, POSTGRES)
        run(connection, CONFIG, POSTGRES, transactions=CONFIG.transactions)
        tables = {}
        for table in SOURCE_TABLES.values():
            rows = connection.cursor(row_factory=dict_row).execute(f"SELECT * FROM {table.name}").fetchall()
            assert list(rows[0]) == list(table.columns)
            tables[table.name] = {tuple(row[column] for column in table.key): row for row in rows}
        expected = expected_app(connection, POSTGRES)
        assert compare(SPRINT_PERFORMANCE, expected.sprint_performance, sprint_performance(tables)) == []
        assert compare(MEMBER_GROWTH, expected.member_growth, member_growth(tables)) == []
        assert len(expected.sprint_performance) > 50

        connection.execute("DROP PUBLICATION lakehouse")
        for schema in ("workload", "public"):
            connection.execute(f"DROP SCHEMA {schema} CASCADE")
        for transactions in (1, 150, 1_000):
            with server.app.connect() as another:
                prepare(another, CONFIG, POSTGRES)
                run(another, CONFIG, POSTGRES, transactions=transactions)
        assert progress_of(connection).transactions == CONFIG.transactions
        assert expected_app(connection, POSTGRES) == expected


@pytest.mark.postgres
@needs_server
@pytest.mark.skipif(os.geteuid() != 0, reason="only as root does the server run as another user")
def test_a_folder_that_its_user_cannot_enter_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    with pytest.raises(ServerFailed, match="the user postgres cannot enter"):
        PostgresServer(tmp_path / "server").start()


def test_a_server_that_is_not_installed_is_told_with_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "DEBIAN", tmp_path)
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(ServerMissing, match=r"postgres, initdb, pg_ctl cannot be found .* package postgresql"):
        PostgresServer(tmp_path / "server").start()

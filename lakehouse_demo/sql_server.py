"""A private server of MariaDB or MySQL for the demo: started in a folder of its own, stopped and restarted.

The server listens on the loopback address only, writes a binary log of whole rows, and has three users with
random passwords (kept in the folder, readable by its owner alone): ``admin`` (everything), ``app`` (the
business: rows of ``sales`` and ``workload``) and ``reader`` (change data capture: reads ``sales`` and the
binary log). It needs no root.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Final, Self

import pymysql

from lakehouse_assets.sources.mysql.changes import MySqlChanges
from lakehouse_assets.sources.mysql.connection import MySqlConnection, connect
from lakehouse_demo.private_server import HOST, POLL_S, TIMEOUT_S, ServerFailed, free_port, is_locked, write_private
from lakehouse_demo.sql_dialect import MYSQL, SqlDialect

DATABASES: Final = ("sales", "workload")
CONNECT_TIMEOUT_S: Final = 5

_CONFIGURATION = """\
[mysqld]
datadir={data}
tmpdir={folder}/tmp
pid-file={folder}/server.pid
log-error={folder}/error.log
init-file={folder}/users.sql
port={port}
bind-address={host}
skip-name-resolve
server-id=1
max-binlog-size=8M
binlog-row-image=FULL
binlog-row-metadata=FULL
sync-binlog=0
innodb-flush-log-at-trx-commit=2
innodb-buffer-pool-size=64M
performance-schema=OFF
character-set-server=utf8mb4
collation-server=utf8mb4_bin
default-time-zone=+00:00
sql-mode=TRADITIONAL
{more}
"""

_USERS = """\
CREATE USER IF NOT EXISTS 'admin'@'{host}' IDENTIFIED BY '{admin}';
GRANT ALL PRIVILEGES ON *.* TO 'admin'@'{host}';
CREATE USER IF NOT EXISTS 'app'@'{host}' IDENTIFIED BY '{app}';
GRANT ALL PRIVILEGES ON sales.* TO 'app'@'{host}';
GRANT ALL PRIVILEGES ON workload.* TO 'app'@'{host}';
CREATE USER IF NOT EXISTS 'reader'@'{host}' IDENTIFIED BY '{reader}';
GRANT SELECT ON sales.* TO 'reader'@'{host}';
GRANT {rights} ON *.* TO 'reader'@'{host}';
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """How to connect: a user of the server and where it listens."""

    host: str
    port: int
    user: str
    password: str = field(repr=False)

    def connect(self) -> pymysql.Connection[Any]:
        """A connection, which the caller closes."""
        return connect(
            host=self.host,
            port=self.port,
            user=self.user,
            password=self.password,
            charset="utf8mb4",
            ssl_disabled=True,
            connect_timeout=CONNECT_TIMEOUT_S,
        )


class SqlServer(ABC):
    """A server whose data, log and passwords live in one folder, and outlive the process.

    ``start`` makes the folder's server run (a new one, a stopped one, or one that a killed process left
    running), ``stop`` ends it. As a context manager it does both.
    """

    title: ClassVar[str]
    """What it is called."""
    rights: ClassVar[str]
    """What the reader may do at the whole server."""
    dialect: ClassVar[SqlDialect] = MYSQL

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder).absolute()
        self._process: subprocess.Popen[bytes] | None = None

    @classmethod
    @abstractmethod
    def install(cls) -> None:
        """Get the server's programs where they are absent. Raises ServerMissing where that cannot be done."""

    @abstractmethod
    def command(self) -> list[str]:
        """The program that serves, to which its options are added. Raises ServerMissing."""

    @abstractmethod
    def settings(self) -> str:
        """Lines of the configuration that only this kind of server has."""

    @abstractmethod
    def create(self, data: Path, temporary: Path) -> None:
        """Fill a new data directory; ``temporary``: the server's own temporary folder. Raises ServerMissing, ServerFailed."""

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def admin(self) -> Login:
        """May do everything. REQUIRES: the server was started once."""
        return self._login("admin")

    @property
    def app(self) -> Login:
        """May read and write the databases of the business."""
        return self._login("app")

    @property
    def reader(self) -> Login:
        """May read ``sales`` and the binary log."""
        return self._login("reader")

    def source(self) -> MySqlChanges:
        """The binary log, as the reader sees it."""
        login = self.reader
        return MySqlChanges(
            MySqlConnection(
                host=login.host,
                port=login.port,
                user=login.user,
                password=login.password,
                database=DATABASES[0],
                server=self.title,
            )
        )

    def running(self) -> bool:
        """Whether the folder's server answers."""
        return self._data_in_use() and self._answers()

    def start(self) -> None:
        """Start the server and wait until it answers. Raises ServerMissing and ServerFailed."""
        command = self.command()
        if not self._data_in_use():
            self._prepare()
            self._process = subprocess.Popen(  # noqa: S603 - our own configuration
                [*command, f"--defaults-file={self.folder / 'server.cnf'}", *as_root()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        deadline = time.monotonic() + TIMEOUT_S
        while not self._answers():
            ended = self._process is not None and self._process.poll() is not None
            if ended or time.monotonic() > deadline:
                self.kill()
                raise ServerFailed(f"the server in {self.folder} does not start:\n{self._log()}")
            time.sleep(POLL_S)

    def stop(self) -> None:
        """Shut the server down in an orderly way and wait for its end; nothing happens if it does not run.

        Raises ServerFailed.
        """
        if not self.running():
            return
        with self.admin.connect() as connection, connection.cursor() as cursor:
            cursor.execute("SHUTDOWN")
        deadline = time.monotonic() + TIMEOUT_S
        while self._data_in_use():
            if time.monotonic() > deadline:
                raise ServerFailed(f"the server in {self.folder} does not stop:\n{self._log()}")
            time.sleep(POLL_S)
        if self._process is not None:
            self._process.wait()
            self._process = None

    def kill(self) -> None:
        """End the server at once (SIGKILL), as a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _prepare(self) -> None:
        """Make the data directory if it is new, and write the configuration for a free port."""
        data, temporary = self.folder / "data", self.folder / "tmp"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o700)
        temporary.mkdir(exist_ok=True)  # of its own: a server that starts clears its temporary folder
        if not data.exists():
            unfinished = self.folder / "data.unfinished"
            shutil.rmtree(unfinished, ignore_errors=True)
            self.create(unfinished, temporary)
            unfinished.replace(data)
        known = self._kept() if (self.folder / "server.json").exists() else {}
        passwords = known.get("passwords") or {user: secrets.token_hex(16) for user in ("admin", "app", "reader")}
        port = free_port(known.get("port", 0))
        write_private(self.folder / "server.json", json.dumps({"port": port, "passwords": passwords}))
        write_private(self.folder / "users.sql", _USERS.format(host=HOST, rights=self.rights, **passwords))
        configuration = _CONFIGURATION.format(data=data, folder=self.folder, host=HOST, port=port, more=self.settings())
        write_private(self.folder / "server.cnf", configuration)

    def _kept(self) -> Mapping[str, Any]:
        settings: Mapping[str, Any] = json.loads((self.folder / "server.json").read_text())
        return settings

    def _login(self, user: str) -> Login:
        settings = self._kept()
        return Login(host=HOST, port=settings["port"], user=user, password=settings["passwords"][user])

    def _answers(self) -> bool:
        """Whether a server with this folder's passwords listens: another one that took the port does not
        count.
        """
        try:
            with self.reader.connect():
                return True
        except pymysql.err.OperationalError:
            return False

    def _data_in_use(self) -> bool:
        """Whether a server, of whatever process, works on the data."""
        return is_locked(self.folder / "data" / "ibdata1")

    def _log(self) -> str:
        log = self.folder / "error.log"
        return "\n".join(log.read_text(errors="replace").splitlines()[-15:]) if log.exists() else "(no log)"


def as_root() -> list[str]:
    """Root has to say that the server may run as root."""
    return ["--user=root"] if os.geteuid() == 0 else []

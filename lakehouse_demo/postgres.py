"""PostgreSQL as a private server with logical replication: the programs of Debian's package, or of the search path.

It listens on the loopback address only, and has three users with random passwords: ``admin`` (everything), ``app`` (the
business: owns the database ``sales``) and ``reader`` (change data capture: reads ``sales`` and its changes). PostgreSQL does
not run as root: started by root, it runs as the user ``postgres``, which Debian's package makes and which owns the data then.
"""

from __future__ import annotations

import json
import os
import pwd
import secrets
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Final

from lakehouse_assets.extras import package
from lakehouse_assets.sources.change_source import ChangeSource
from lakehouse_assets.sources.postgres.changes import PostgresChanges
from lakehouse_assets.sources.postgres.connection import PostgresConnection
from lakehouse_demo.private_server import HOST, TIMEOUT_S, ServerFailed, ServerMissing, free_port, write_private
from lakehouse_demo.sql_dialect import POSTGRES, SqlDialect

DEBIAN: Final = Path("/usr/lib/postgresql")
"""Where Debian keeps the programs, by version."""
UNPRIVILEGED: Final = "postgres"
DATABASE: Final = "sales"
CONNECT_TIMEOUT_S: Final = 5
_NEEDED: Final = ("postgres", "initdb", "pg_ctl")
SETTINGS: Final = {
    "wal_level": "logical",
    "listen_addresses": HOST,
    "unix_socket_directories": "",
    "max_wal_senders": "4",
    "max_replication_slots": "4",
    "shared_buffers": "32MB",
    "min_wal_size": "32MB",
    "max_wal_size": "64MB",
    "timezone": "UTC",
}
_USERS: Final = """
SELECT format('CREATE ROLE %I LOGIN', name) FROM unnest(ARRAY['app', 'reader']) AS name
WHERE name NOT IN (SELECT rolname FROM pg_roles)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class PostgresLogin:
    """How to connect: a user of the server, where it listens, and the database."""

    port: int
    user: str
    password: str = field(repr=False)
    database: str = DATABASE

    def connect(self) -> Any:
        """A connection that commits by itself, which the caller closes. Raises what psycopg does."""
        return package("psycopg", extra="postgres").connect(
            host=HOST,
            port=self.port,
            user=self.user,
            password=self.password,
            dbname=self.database,
            autocommit=True,
            connect_timeout=CONNECT_TIMEOUT_S,
        )


class PostgresServer:
    """A PostgreSQL server in a folder of its own; ``start`` and ``stop`` as ``PrivateServer`` says."""

    title: ClassVar[str] = "PostgreSQL"
    dialect: ClassVar[SqlDialect] = POSTGRES

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder).absolute()
        self._data = self.folder / "data"

    @classmethod
    def install(cls) -> None:
        """Look for the server's programs. Raises ServerMissing, which names the package."""
        missing = [name for name in _NEEDED if program(name) is None]
        if missing:
            raise ServerMissing(
                f"{', '.join(missing)} cannot be found in {DEBIAN}/*/bin or on the path; install Debian's package"
                " postgresql (or PostgreSQL 13 or newer)"
            )
        package("psycopg", extra="postgres")
        _owner()

    @property
    def admin(self) -> PostgresLogin:
        """May do everything. REQUIRES: the server was started once."""
        return self._login("admin")

    @property
    def app(self) -> PostgresLogin:
        """Owns the database of the business."""
        return self._login("app")

    @property
    def reader(self) -> PostgresLogin:
        """May read the database and its changes."""
        return self._login("reader")

    def source(self) -> ChangeSource:
        """The server's changes, through the slot and the publication ``lakehouse``."""
        login = self.reader
        return PostgresChanges(
            PostgresConnection(
                host=HOST, port=login.port, user=login.user, password=login.password, database=login.database
            )
        )

    def running(self) -> bool:
        """Whether the folder's server runs, whoever started it."""
        return self._data.exists() and self._ran("pg_ctl", "status", "-D", str(self._data)).returncode == 0

    def start(self) -> None:
        """Start the server, unless it runs, and wait until it answers. Raises ServerMissing and ServerFailed."""
        self.install()
        if not self.running():
            self._prepare()
            settings = {**SETTINGS, "port": str(self._kept()["port"])}
            options = " ".join(f"-c {name}='{value}'" for name, value in settings.items())
            log = self.folder / "log"
            log.mkdir(exist_ok=True)
            self._give_away(log)
            self._run("pg_ctl", "start", "-w", "-t", str(TIMEOUT_S), "-l", str(log / "server.log"), "-o", options)
        self._make_users()

    def stop(self) -> None:
        """Shut the server down and wait for its end; nothing happens if it does not run. Raises ServerFailed."""
        if self.running():
            self._run("pg_ctl", "stop", "-w", "-t", str(TIMEOUT_S), "-m", "fast")

    def _prepare(self) -> None:
        """Make the data directory if it is new, and choose a port."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o711 if _owner() else 0o700)  # what is secret in it is its own owner's alone
        self._check_reachable()
        known = self._kept() if (self.folder / "server.json").exists() else {}
        passwords = known.get("passwords") or {user: secrets.token_hex(16) for user in ("admin", "app", "reader")}
        port = free_port(known.get("port", 0))
        write_private(self.folder / "server.json", json.dumps({"port": port, "passwords": passwords}))
        if not self._data.exists():
            self._create(passwords["admin"])

    def _create(self, password: str) -> None:
        """A new data directory, which is there as a whole or not at all."""
        unfinished, given = self.folder / "data.unfinished", self.folder / "password"
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(mode=0o700)
        write_private(given, password)
        self._give_away(unfinished)
        self._give_away(given)
        try:
            encoding = ("--encoding=UTF8", "--locale=C")
            access = ("--username=admin", "--auth=scram-sha-256", f"--pwfile={given}")
            self._run("initdb", "--no-sync", *encoding, *access, data=unfinished)
        finally:
            given.unlink()
        unfinished.replace(self._data)

    def _make_users(self) -> None:
        """The users and the database, where they are not there yet."""
        sql = package("psycopg", extra="postgres").sql
        admin = self._login("admin", "postgres")
        with admin.connect() as connection:
            for (statement,) in connection.execute(_USERS).fetchall():
                connection.execute(statement)
            for user, rights in (("app", ""), ("reader", " REPLICATION")):
                password = sql.Literal(self._login(user).password)
                connection.execute(
                    sql.SQL("ALTER ROLE {}" + rights + " PASSWORD {}").format(sql.Identifier(user), password)
                )
            if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (DATABASE,)).fetchall():
                connection.execute(f"CREATE DATABASE {DATABASE} OWNER app")
        with self.app.connect() as connection:
            connection.execute("ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT ON TABLES TO reader")

    def _check_reachable(self) -> None:
        owner = _owner()
        if owner and self._ran(str(shutil.which("test")), "-x", str(self.folder)).returncode:
            raise ServerFailed(
                f"PostgreSQL does not run as root, and the user {owner} cannot enter {self.folder}: choose a warehouse in"
                " a folder that all may enter, or run this as another user than root"
            )

    def _give_away(self, path: Path) -> None:
        owner = _owner()
        if owner:
            shutil.chown(path, owner, owner)

    def _kept(self) -> dict[str, Any]:
        settings: dict[str, Any] = json.loads((self.folder / "server.json").read_text())
        return settings

    def _login(self, user: str, database: str = DATABASE) -> PostgresLogin:
        kept = self._kept()
        return PostgresLogin(port=kept["port"], user=user, password=kept["passwords"][user], database=database)

    def _run(self, name: str, *arguments: str, data: Path | None = None) -> None:
        """Run a program of the server on the data. Raises ServerFailed with the end of what it and the server said."""
        done = self._ran(name, *arguments, "-D", str(data or self._data))
        if done.returncode:
            log = self.folder / "log" / "server.log"
            told = log.read_text(errors="replace")[-1000:] if log.exists() else ""
            raise ServerFailed(f"{name} failed for the server in {self.folder}:\n{done.stdout[-1000:]}{told}")

    def _ran(self, name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """What a program said; as root, it is another user who runs it."""
        owner = _owner()
        return subprocess.run(  # noqa: S603 - our own folder
            [program(name) or name, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
            cwd="/",
            env={**os.environ, "LC_ALL": "C"},
            user=owner or None,
            group=owner or None,
            extra_groups=() if owner else None,
        )


def program(name: str) -> str | None:
    """A program of the server: Debian's newest, or of the search path."""
    kept = sorted(DEBIAN.glob(f"*/bin/{name}"), key=lambda path: float(path.parts[-3]))
    return str(kept[-1]) if kept else shutil.which(name)


def installed() -> bool:
    """Whether the server's programs are on this machine."""
    return all(program(name) for name in _NEEDED)


def _owner() -> str:
    """Who the server runs as, if not as ourselves. Raises ServerMissing."""
    if os.geteuid() != 0:
        return ""
    try:
        return pwd.getpwnam(UNPRIVILEGED).pw_name
    except KeyError:
        raise ServerMissing(
            f"PostgreSQL does not run as root, and there is no user {UNPRIVILEGED}, which Debian's package postgresql"
            " makes: install it, or run this as another user than root"
        ) from None

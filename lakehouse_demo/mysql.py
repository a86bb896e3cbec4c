"""MySQL as a private server: one that is installed, or else Debian's newest package in a folder of its own."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Final

from lakehouse_demo.debian_packages import PackagesUnavailable, unpacked
from lakehouse_demo.private_server import ServerMissing, run_to_its_end
from lakehouse_demo.sql_server import SqlServer, as_root

HOME_VARIABLE: Final = "LAKEHOUSE_MYSQL_HOME"
HOME: Final = Path(__file__).resolve().parents[1] / ".mysql"
PACKAGE: Final = "mysql-server-core"
NOT_RUN: Final = ("perl",)
"""Only scripts of the package need it."""
_VERSION: Final = re.compile(r"Ver (8\.[4-9]|9|[1-9]\d)(?!.*MariaDB)")
"""Versions that will do; MariaDB has a program of the same name."""


class MySqlServer(SqlServer):
    """A MySQL server in a folder of its own, from version 8.4 on."""

    title = "MySQL"
    rights = "REPLICATION SLAVE, REPLICATION CLIENT, FLUSH_TABLES"

    @classmethod
    def install(cls) -> None:
        """Get the server's package where the program is absent. Raises ServerMissing."""
        _program()

    def command(self) -> list[str]:
        """The program ``mysqld``. Raises ServerMissing."""
        return list(_program())

    def settings(self) -> str:
        """The log, redo files that are small, no second protocol, and no exchange of files."""
        return "\n".join(
            [
                "socket=mysql.sock",
                "mysqlx=OFF",
                "log-bin=mysql-bin",
                "secure-file-priv=NULL",
                "innodb-redo-log-capacity=16M",
                *_shares(),
            ]
        )

    def create(self, data: Path, temporary: Path) -> None:
        """Fill a new data directory. Raises ServerMissing and ServerFailed."""
        if len(self.command()) == 1:
            _initialize(self.command(), data, temporary)
            return
        with _locked_home() as home:
            filled = home / "data"
            if not filled.exists():
                part = home / "data.part"
                shutil.rmtree(part, ignore_errors=True)
                _initialize(self.command(), part, temporary)
                (part / "auto.cnf").unlink()  # the name of a server, which each has for itself
                part.rename(filled)
        shutil.copytree(filled, data)


def _initialize(command: list[str], data: Path, temporary: Path) -> None:
    """Fill a data directory, whose administrator has a password that nobody knows."""
    small = ["--innodb-redo-log-capacity=16M", "--innodb-buffer-pool-size=64M", "--secure-file-priv=NULL"]
    arguments = ["--no-defaults", *(f"--{line}" for line in _shares()), *as_root(), "--initialize", *small]
    run_to_its_end([*command, *arguments, f"--tmpdir={temporary}", f"--datadir={data}"], data)


@lru_cache(maxsize=1)
def _program() -> tuple[str, ...]:
    """What starts ``mysqld``. Raises ServerMissing."""
    there = shutil.which("mysqld")
    if there is not None and _VERSION.search(_version([there])):
        return (there,)
    try:
        with _locked_home() as home:
            command = unpacked([PACKAGE], home / "root", without=NOT_RUN).command("usr/sbin/mysqld")
    except PackagesUnavailable as error:
        raise ServerMissing(
            f"MySQL is not installed, and Debian's package {PACKAGE} cannot be fetched: {error}"
        ) from error
    _version(command)
    return tuple(command)


@contextmanager
def _locked_home() -> Iterator[Path]:
    """The folder of what was fetched and made for all servers; of two that want it, one fills it."""
    home = Path(os.environ.get(HOME_VARIABLE) or HOME)
    home.mkdir(parents=True, exist_ok=True)
    (home / ".gitignore").write_text("*\n")
    with (home / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield home


def _version(command: list[str]) -> str:
    """What a server says of itself. Raises ServerMissing for one that does not run on this machine."""
    done = subprocess.run(  # noqa: S603 - the program that was found
        [*command, "--no-defaults", "--version"], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise ServerMissing(f"{command[-1]} does not run here: {(done.stdout + done.stderr)[-1000:]}")
    return done.stdout


def _shares() -> list[str]:
    """Where the files of an unpacked package are; an installed one knows."""
    usr = Path(_program()[-1]).parents[1]
    if len(_program()) == 1:
        return []
    return [f"basedir={usr}", f"lc-messages-dir={usr}/share/mysql", f"plugin-dir={usr}/lib/mysql/plugin"]

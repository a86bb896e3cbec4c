"""MariaDB and MySQL for tests: each test runs against both, and is skipped where one cannot be had."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import pytest

from lakehouse_demo import mariadb
from lakehouse_demo.mariadb import MariaDbServer
from lakehouse_demo.mysql import MySqlServer
from lakehouse_demo.sql_server import ServerMissing, SqlServer

KINDS: dict[str, type[SqlServer]] = {"mariadb": MariaDbServer, "mysql": MySqlServer}
MARIADB = pytest.param("mariadb", marks=pytest.mark.mariadb)
MYSQL = pytest.param("mysql", marks=pytest.mark.mysql)
SERVERS = [MARIADB, MYSQL]


def obtained(kind: str) -> type[SqlServer]:
    """A kind of server whose programs are here now. Skips the test where they cannot be had."""
    reason = missing(kind)
    if reason:
        pytest.skip(reason)
    return KINDS[kind]


@cache
def missing(kind: str) -> str:
    """Why there is no such server, or nothing; what cannot be fetched is not sought again by each module."""
    if kind == "mariadb" and not mariadb.installed():
        return "the program mariadbd is not installed"
    try:
        KINDS[kind].install()
    except ServerMissing as error:
        return str(error)
    return ""


@contextmanager
def serving(kind: str, folder: Path) -> Iterator[SqlServer]:
    """A server in a folder, while it is needed."""
    with obtained(kind)(folder) as server:
        yield server

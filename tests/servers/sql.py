"""Databases for tests: each test runs against MariaDB and MySQL, or PostgreSQL too, and is skipped where one is not to be had."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import pytest

from lakehouse_demo import mariadb, server_feed
from lakehouse_demo.mariadb import MariaDbServer
from lakehouse_demo.mysql import MySqlServer
from lakehouse_demo.private_server import ServerMissing
from lakehouse_demo.sql_server import SqlServer

KINDS: dict[str, type[SqlServer]] = {"mariadb": MariaDbServer, "mysql": MySqlServer}
MARIADB = pytest.param("mariadb", marks=pytest.mark.mariadb)
MYSQL = pytest.param("mysql", marks=pytest.mark.mysql)
SERVERS = [MARIADB, MYSQL]
POSTGRES = pytest.param("postgres", marks=pytest.mark.postgres)


def obtained(kind: str) -> None:
    """See that a kind of server's programs are here now. Skips the test where they cannot be had."""
    reason = missing(kind)
    if reason:
        pytest.skip(reason)


@cache
def missing(kind: str) -> str:
    """Why there is no such server, or nothing; what cannot be fetched is not sought again by each module."""
    if kind == "mariadb" and not mariadb.installed():
        return "the program mariadbd is not installed"
    try:
        server_feed.SERVERS[kind].install()
    except ServerMissing as error:
        return str(error)
    return ""


@contextmanager
def serving(kind: str, folder: Path) -> Iterator[SqlServer]:
    """A server in a folder, while it is needed."""
    obtained(kind)
    with KINDS[kind](folder) as server:
        yield server

"""How a MySQL or MariaDB server is reached, and its errors as errors of a source."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import pymysql
from pymysql.constants import CR, ER

from lakehouse_assets.sources.errors import (
    SourceAccessDenied,
    SourceError,
    SourceMissing,
    SourceSchemaChanged,
    SourceUnavailable,
    SourceUnsupported,
)

CONNECT_TIMEOUT_S: Final = 10
READ_TIMEOUT_S: Final = 300
LOOPBACK: Final = ("127.0.0.1", "::1", "localhost")

_AWAY: Final = frozenset(
    {
        CR.CR_CONNECTION_ERROR,
        CR.CR_CONN_HOST_ERROR,
        CR.CR_SERVER_GONE_ERROR,
        CR.CR_SERVER_LOST,
        CR.CR_SERVER_LOST_EXTENDED,
        ER.CON_COUNT_ERROR,
        ER.SERVER_SHUTDOWN,
        ER.NORMAL_SHUTDOWN,
        ER.FORCING_CLOSE,
        ER.TOO_MANY_USER_CONNECTIONS,
        ER.LOCK_WAIT_TIMEOUT,
        ER.LOCK_DEADLOCK,
    }
)
_REFUSED: Final = frozenset(
    {
        ER.ACCESS_DENIED_ERROR,
        ER.DBACCESS_DENIED_ERROR,
        ER.TABLEACCESS_DENIED_ERROR,
        ER.COLUMNACCESS_DENIED_ERROR,
        ER.SPECIFIC_ACCESS_DENIED_ERROR,
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class MySqlConnection:
    """Where a database is, and as whom to read it; ``server``: what messages call it.

    The user needs SELECT on the tables, and on the server REPLICATION SLAVE and BINLOG MONITOR (MySQL: REPLICATION
    SLAVE, REPLICATION CLIENT and FLUSH_TABLES). Connections are encrypted where the server can; on the loopback address
    only where it must be, to tell a password.
    """

    host: str
    port: int = 3306
    user: str
    password: str = field(repr=False)
    database: str
    server: str = "MySQL"

    @property
    def place(self) -> str:
        """Where it is, without the user."""
        return f"{self.server} {self.host}:{self.port}/{self.database}"

    def settings(self) -> dict[str, Any]:
        """The connection as keywords of ``pymysql.connect``."""
        return {
            "host": self.host,
            "port": self.port,
            "user": self.user,
            "password": self.password,
            "charset": "utf8mb4",
            "connect_timeout": CONNECT_TIMEOUT_S,
            "read_timeout": READ_TIMEOUT_S,
            "ssl_disabled": self.host in LOOPBACK,
        }

    @contextmanager
    def open(self) -> Iterator[pymysql.Connection[Any]]:
        """A connection in UTC for the length of a ``with``. Server errors in it are raised as SourceError."""
        try:
            connection = connect(**self.settings(), database=self.database, init_command="SET time_zone = '+00:00'")
            try:
                yield connection
            finally:
                connection.close()
        except pymysql.err.Error as error:
            raise source_error(error, self.place) from error


def connect(**settings: Any) -> pymysql.Connection[Any]:
    """A connection by the driver's keywords.

    A password that the server does not have at hand (``caching_sha2_password``) is only told encrypted, so a connection
    that might go without is encrypted after all. Raises what the driver raises.
    """
    try:
        return pymysql.connect(**settings)
    except RuntimeError as error:  # the driver lacks an optional package to encrypt the password alone
        if settings.get("ssl_disabled"):
            return connect(**settings | {"ssl_disabled": False})
        raise SourceUnsupported("the server asks for a password, but has no TLS to tell it; switch TLS on") from error


def source_error(error: pymysql.err.Error, place: str) -> SourceError:
    """An error of the driver as what its reader can do about it."""
    code = error.args[0] if error.args else None
    if code in _REFUSED:
        return SourceAccessDenied(f"{place}: the server refuses the user, its password or what it may do: {error}")
    if code == ER.BAD_DB_ERROR:
        return SourceMissing(f"{place}: there is no such database: {error}")
    if code in _AWAY or isinstance(error, pymysql.err.InterfaceError):
        return SourceUnavailable(f"{place} is away or busy; the next run goes on: {error}")
    if code in (ER.TABLE_DEF_CHANGED, ER.NO_SUCH_TABLE):
        return SourceSchemaChanged(f"{place}: a table changed while it was read: {error}")
    return SourceError(f"{place} refused: {error}")

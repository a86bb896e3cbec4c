"""How a MariaDB server is reached, and its errors as errors of a source."""

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
class MariaDbConnection:
    """Where a database is, and as whom to read it.

    The user needs SELECT on the tables, and REPLICATION SLAVE and BINLOG MONITOR on the server. Connections
    are encrypted where the server can, but not on the loopback address.
    """

    host: str
    port: int = 3306
    user: str
    password: str = field(repr=False)
    database: str

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
            connection = pymysql.connect(
                **self.settings(), database=self.database, init_command="SET time_zone = '+00:00'"
            )
            try:
                yield connection
            finally:
                connection.close()
        except pymysql.err.Error as error:
            raise source_error(error) from error


def source_error(error: pymysql.err.Error) -> SourceError:
    """An error of the driver as what its reader can do about it."""
    code = error.args[0] if error.args else None
    if code in _REFUSED:
        return SourceAccessDenied(f"the MariaDB server refuses the user, its password or what it may do: {error}")
    if code == ER.BAD_DB_ERROR:
        return SourceMissing(f"the MariaDB server has no such database: {error}")
    if code in _AWAY or isinstance(error, pymysql.err.InterfaceError):
        return SourceUnavailable(f"the MariaDB server is away: {error}")
    if code in (ER.TABLE_DEF_CHANGED, ER.NO_SUCH_TABLE):
        return SourceSchemaChanged(f"a table changed while it was read: {error}")
    return SourceError(f"the MariaDB server refused: {error}")

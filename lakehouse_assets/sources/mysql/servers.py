"""What MySQL and MariaDB do in different ways: settings, the end of the log, and a snapshot with its position."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any, Final

import pymysql

from lakehouse_assets.sources.errors import SourceUnsupported
from lakehouse_assets.sources.mysql.binlog import BinlogPosition

_BOTH: Final = {
    "log_bin": "ON",
    "binlog_format": "ROW",
    "binlog_row_image": "FULL",
    "binlog_row_metadata": "FULL",
}
REQUIRED_VARIABLES: Final[Mapping[str, Mapping[str, str]]] = {
    "MariaDB": {**_BOTH, "log_bin_compress": "OFF"},
    "MySQL": {**_BOTH, "binlog_row_value_options": ""},
}
"""Server → what its global variables must be. One that a server does not have yet, or any more, is as needed."""

LOCK_WAIT_S: Final = 10
"""How long a statement that runs may hold up a snapshot of MySQL."""
_NEW_STATUS: Final = (8, 2)
"""MySQL's version that has another name for the statement."""
_SNAPSHOT: Final = "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY"


def log_end(connection: pymysql.Connection[Any]) -> BinlogPosition:
    """The end of the binary log as it is now. Raises SourceUnsupported if there is none."""
    version = connection.get_server_info()
    renamed = kind_of(connection) == "MySQL" and _numbers(version) >= _NEW_STATUS
    status = _execute(connection, "SHOW BINARY LOG STATUS" if renamed else "SHOW MASTER STATUS")
    if not status:
        raise SourceUnsupported("the server writes no binary log; set log_bin")
    return BinlogPosition.of(status[0][0], status[0][1])


def log_base_name(connection: pymysql.Connection[Any]) -> str:
    """The first part of the log files' names. Raises SourceUnsupported if the server's log is not as
    needed.
    """
    required = REQUIRED_VARIABLES[kind_of(connection)]
    names = ", ".join(f"'{name}'" for name in (*required, "log_bin_basename"))
    variables = dict(_execute(connection, f"SHOW GLOBAL VARIABLES WHERE Variable_name IN ({names})"))
    for name, value in required.items():
        if variables.get(name, value) != value:
            raise SourceUnsupported(f"the server's {name} is {variables[name]}; set it to {value or 'nothing'}")
    return PurePosixPath(variables["log_bin_basename"].replace("\\", "/")).name


def begin_snapshot(connection: pymysql.Connection[Any]) -> BinlogPosition:
    """Begin a transaction that sees one moment, and tell where the binary log was at that moment.

    MariaDB knows that place (as Percona Server does). MySQL does not: a global read lock holds back all commits while
    the transaction begins and the log's end is asked for. Raises the driver's error if a long statement keeps the lock
    from being had.
    """
    _execute(connection, "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ")
    _execute(connection, _SNAPSHOT)
    status = dict(_execute(connection, "SHOW STATUS LIKE 'binlog_snapshot_%'"))
    if "Binlog_snapshot_file" in status:
        return BinlogPosition.of(status["Binlog_snapshot_file"], int(status["Binlog_snapshot_position"]))
    _execute(connection, "ROLLBACK")
    _execute(connection, f"SET SESSION lock_wait_timeout = {LOCK_WAIT_S}")
    _execute(connection, "FLUSH TABLES WITH READ LOCK")
    try:
        _execute(connection, _SNAPSHOT)
        return log_end(connection)
    finally:
        _execute(connection, "UNLOCK TABLES")


def kind_of(connection: pymysql.Connection[Any]) -> str:
    """``MariaDB`` or ``MySQL``: what answers."""
    return "MariaDB" if "MariaDB" in connection.get_server_info() else "MySQL"


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version)[:2])


def _execute(connection: pymysql.Connection[Any], statement: str) -> Sequence[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(statement)
        rows: Sequence[tuple[Any, ...]] = cursor.fetchall()
        return rows

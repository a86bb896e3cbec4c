"""The binary log of MySQL or MariaDB as transactions: positions that are one growing integer, and the rows of whole
transactions.

The log is a sequence of files of events. A transaction is an event group: a GTID event (anonymous where MySQL keeps no
GTIDs; followed by a BEGIN there), row events, and an end (XID, or COMMIT for engines without transactions); it never
spans two files. Statements that define tables are groups of one query event. A compressed transaction of MySQL is one
event that holds all of a group's but the first.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import polars as pl
import pymysql
from pymysqlreplication import BinLogStreamReader
from pymysqlreplication.bitmap import BitGet
from pymysqlreplication.column import Column
from pymysqlreplication.constants import FIELD_TYPE
from pymysqlreplication.event import (
    BinLogEvent,
    GtidEvent,
    MariadbGtidEvent,
    NotImplementedEvent,
    QueryEvent,
    RotateEvent,
    XAPrepareEvent,
    XidEvent,
)
from pymysqlreplication.row_event import (
    DeleteRowsEvent,
    PartialUpdateRowsEvent,
    RowsEvent,
    UpdateRowsEvent,
    WriteRowsEvent,
)

from lakehouse_assets.sources.errors import (
    SourceError,
    SourcePositionLost,
    SourceSchemaChanged,
    SourceUnavailable,
    SourceUnsupported,
)
from lakehouse_assets.sources.mysql.connection import MySqlConnection, connect, source_error
from lakehouse_assets.sources.mysql.payload import TRANSACTION_PAYLOAD, PayloadReader
from lakehouse_assets.sources.mysql.row_images import row_images
from lakehouse_assets.sources.mysql.tables import RowImages, TableColumns

OFFSET_BITS: Final = 40
READ_TIMEOUT_S: Final = 60

ER_MASTER_FATAL_ERROR_READING_BINLOG: Final = 1236
GTID_STANDALONE: Final = 1
COMPRESSED_EVENT_TYPES: Final = range(165, 172)
"""MariaDB's."""
GTID_EVENT_TYPES: Final = frozenset({34, 42})
"""MySQL's anonymous groups, and GTIDs with a tag."""

EVENTS: Final = (
    DeleteRowsEvent,
    GtidEvent,
    MariadbGtidEvent,
    NotImplementedEvent,
    PartialUpdateRowsEvent,
    QueryEvent,
    RotateEvent,
    UpdateRowsEvent,
    WriteRowsEvent,
    XAPrepareEvent,
    XidEvent,
)


@dataclass(frozen=True, slots=True, order=True, kw_only=True)
class BinlogPosition:
    """The end of a transaction: the number of the log file and the offset in it, in bytes."""

    file_number: int
    offset: int

    def encoded(self) -> int:
        """The position as an int64 that grows along the log."""
        return self.file_number << OFFSET_BITS | self.offset

    @classmethod
    def decoded(cls, position: int) -> BinlogPosition:
        """The inverse of ``encoded``."""
        return cls(file_number=position >> OFFSET_BITS, offset=position & (1 << OFFSET_BITS) - 1)

    @classmethod
    def of(cls, file_name: str, offset: int) -> BinlogPosition:
        """The position in a log file such as ``mariadb-bin.000003``."""
        return cls(file_number=int(file_name.rpartition(".")[2]), offset=offset)

    def file_name(self, base: str) -> str:
        """The log file's name, with the server's base name."""
        return f"{base}.{self.file_number:06d}"


@dataclass(slots=True)
class Transaction:
    """A committed transaction: its end, and the row changes of the tables that are read, by table (there
    may be none).
    """

    end: BinlogPosition
    images: dict[str, RowImages] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """Number of row changes."""
        return sum(len(images.ops) for images in self.images.values())


class BinlogReader:
    """Reads the transactions of one database after a position, up to the end that the log has now."""

    def __init__(
        self,
        connection: MySqlConnection,
        *,
        tables: Mapping[str, TableColumns],
        log_base_name: str,
        known: Mapping[str, BinlogPosition] | None = None,
    ) -> None:
        """``known``: up to where the tables were read before; what the log has of them until there is passed over."""
        self._connection = connection
        self._database = connection.database
        self._tables = tables
        self._known = known or {}
        self._log_base_name = log_base_name

    def transactions(self, after: BinlogPosition) -> Iterator[Transaction]:
        """The transactions after a position; those without rows of the tables only tell how far the log was
        read.

        Raises SourcePositionLost, SourceUnavailable, SourceSchemaChanged and SourceUnsupported.
        """
        stream = self._open(after)
        try:
            payloads = PayloadReader(stream, events=EVENTS, database=self._database, tables=list(self._tables))
            groups = _EventGroups(self._database, self._tables, after, self._known)
            yield from groups.transactions(_events(stream, payloads))
        except pymysql.err.Error as error:
            raise _source_error(error, after, self._connection.place) from error
        finally:
            stream.close()

    def _open(self, after: BinlogPosition) -> BinLogStreamReader:
        connected: list[pymysql.Connection[Any]] = []

        def connect_twice(**settings: object) -> pymysql.Connection[Any]:
            """Connect once for events and once for control: the stream would go on within a transaction
            otherwise.
            """
            if len(connected) == 2:
                raise SourceUnavailable("the server closed the connection to its binary log")
            database = settings.pop("db", None)
            connected.append(connect(**settings, database=database))
            return connected[-1]

        return BinLogStreamReader(
            connection_settings=self._connection.settings() | {"read_timeout": READ_TIMEOUT_S},
            server_id=secrets.randbelow(2**31) + 2**31,
            resume_stream=True,
            log_file=after.file_name(self._log_base_name),
            log_pos=after.offset,
            only_events=list(EVENTS),
            filter_non_implemented_events=False,
            only_schemas=[self._database],
            only_tables=list(self._tables),
            pymysql_wrapper=connect_twice,
            enable_logging=False,
        )


def _skip_status_variables(event: QueryEvent, _key: int) -> None:
    """Go behind all of a statement's variables, whose lengths only their server's own version knows."""
    event.packet.advance(event.status_vars_length - 1)


# The driver knows the variables of some versions, and stops at others; none of them is needed.
QueryEvent._read_status_vars_value_for_key = _skip_status_variables  # noqa: SLF001


def _events(stream: BinLogStreamReader, payloads: PayloadReader) -> Iterator[BinLogEvent]:
    """The events of a log, compressed ones too, the tables' numbers forgotten at the end of each file.

    A server that starts numbers its tables anew. The stream forgets the old numbers only where a file ends with a
    rotation, which one that was shut down or crashed did not write.
    """
    for event in stream:
        if isinstance(event, RotateEvent):
            stream.table_map = {}
        if isinstance(event, NotImplementedEvent) and event.event_type == TRANSACTION_PAYLOAD:
            yield from payloads.events(event)
        else:
            yield event


class _EventGroups:
    """Puts the events of a log into transactions, from a position on."""

    def __init__(
        self,
        database: str,
        tables: Mapping[str, TableColumns],
        after: BinlogPosition,
        known: Mapping[str, BinlogPosition],
    ) -> None:
        self._database = database
        self._tables = tables
        self._position = after
        self._known = known
        self._passed_over: frozenset[str] = frozenset()
        self._images: dict[str, RowImages] = {}
        self._standalone = False
        self._checked: set[int] = set()

    def transactions(self, events: Iterator[BinLogEvent]) -> Iterator[Transaction]:
        for event in events:
            if isinstance(event, RotateEvent):
                moved = self._new_file(event)
                if moved:
                    yield Transaction(end=self._position)
            elif isinstance(event, RowsEvent):
                self._add(event)
            elif isinstance(event, XidEvent) or (isinstance(event, QueryEvent) and self._ends_group(event)):
                yield self._end(event)
            elif isinstance(event, XAPrepareEvent):
                self._check_prepared(event)
                yield self._end(event)
            else:
                self._begin(event)

    def _begin(self, event: BinLogEvent) -> None:
        """Begin a group if the event is a GTID; a BEGIN may follow, after which a statement does not end it."""
        if isinstance(event, MariadbGtidEvent):
            self._new_group(event, standalone=bool(event.flags & GTID_STANDALONE))
        elif isinstance(event, GtidEvent) or event.event_type in GTID_EVENT_TYPES:
            self._new_group(event, standalone=True)
        elif isinstance(event, NotImplementedEvent) and event.event_type in COMPRESSED_EVENT_TYPES:
            raise SourceUnsupported("the binary log is compressed; set log_bin_compress=OFF")

    def _new_group(self, event: BinLogEvent, *, standalone: bool) -> None:
        begun = BinlogPosition(file_number=self._position.file_number, offset=event.packet.log_pos)
        self._images, self._standalone = {}, standalone
        self._passed_over = frozenset(table for table, position in self._known.items() if position >= begun)

    def _new_file(self, event: RotateEvent) -> bool:
        """Go to the log's next file; what an unfinished group before it had was never committed."""
        start = BinlogPosition.of(event.next_binlog, event.position)
        moved = start > self._position
        self._images = {}
        self._checked.clear()
        self._position = max(start, self._position)
        return moved

    def _end(self, event: BinLogEvent) -> Transaction:
        self._position = BinlogPosition(file_number=self._position.file_number, offset=event.packet.log_pos)
        transaction = Transaction(end=self._position, images=self._images)
        position = self._position.encoded()
        for images in self._images.values():
            images.positions = [position] * len(images.ops)
        self._images = {}
        return transaction

    def _add(self, event: RowsEvent) -> None:
        if event.table in self._passed_over:
            return
        columns = self._tables[event.table]
        if event.table_id not in self._checked:
            _check_columns(columns, event)
            self._checked.add(event.table_id)
        _check_whole_rows(event)
        self._images.setdefault(event.table, RowImages()).extend(row_images(columns, event))

    def _ends_group(self, event: QueryEvent) -> bool:
        """Whether a statement ends its group. Raises for one that changes rows without telling which."""
        statement = event.query.strip()
        verb = statement.upper()
        if verb == "ROLLBACK":
            self._images = {}
        if verb in ("COMMIT", "ROLLBACK"):
            return True
        if _IN_GROUP.match(statement) or _CREATED_WITH_ROWS.search(statement):
            self._standalone = False
            return False
        self._check_statement(event, statement)
        return self._standalone

    def _check_statement(self, event: QueryEvent, statement: str) -> None:
        tables = [table for table in self._tables if table not in self._passed_over]
        names_database = _names(statement, self._database)
        in_database = names_database or event.schema.decode() == self._database
        concerned = [table for table in tables if in_database and _names(statement, table)]
        if concerned and (found := _ROWS_BY_STATEMENT.match(statement)):
            raise SourceUnsupported(
                f"the binary log of {self._database} has a statement ({found[1]}) instead of the rows of {concerned[0]}; "
                "set binlog_format=ROW for all sessions",
                table=concerned[0],
            )
        gone = concerned if _ROWS_GONE.match(statement) else []
        if names_database and _DATABASE_GONE.match(statement):
            gone = tables
        if gone:
            raise SourceSchemaChanged(
                f"rows of {gone[0]} went without change events; take a new snapshot: {statement[:200]}", table=gone[0]
            )

    def _check_prepared(self, event: XAPrepareEvent) -> None:
        if self._images and not event.one_phase:
            tables = sorted(self._images)
            raise SourceUnsupported(f"tables {tables} were changed in an XA transaction", table=tables[0])


_FLAGS = re.IGNORECASE | re.DOTALL
_COMMENTS = r"(?:/\*.*?\*/\s*)*"
_IN_GROUP = re.compile(r"(BEGIN|SAVEPOINT|ROLLBACK\s+TO|XA\s+(START|BEGIN|END))\b", _FLAGS)
_CREATED_WITH_ROWS = re.compile(r"\bSTART\s+TRANSACTION$", _FLAGS)
_ROWS_BY_STATEMENT = re.compile(_COMMENTS + r"(INSERT|UPDATE|DELETE|REPLACE|LOAD|WITH)\b", _FLAGS)
_ROWS_GONE = re.compile(
    _COMMENTS + r"(TRUNCATE|(DROP|RENAME|CREATE\s+OR\s+REPLACE)\s+TABLE"
    r"|ALTER\s+TABLE.*\b(DROP|TRUNCATE|EXCHANGE)\s+PARTITION)\b",
    _FLAGS,
)
_DATABASE_GONE = re.compile(_COMMENTS + r"DROP\s+(DATABASE|SCHEMA)\b", _FLAGS)


def _names(statement: str, word: str) -> bool:
    """Whether a word stands in the statement."""
    return re.search(rf"\b{re.escape(word)}\b", statement) is not None


def _check_columns(columns: TableColumns, event: RowsEvent) -> None:
    """Raise if the event's columns are not those of the table as it stands now.

    Columns that were added since are missing in older events, and read as null. A column that was dropped since is
    ignored: who reads the table has dropped it as well. Both at once may be a column under a new name.
    """
    names = [column.name for column in event.columns]
    if None in names:
        raise SourceUnsupported(
            f"the binary log has no column names of table {columns.name}; set binlog_row_metadata=FULL",
            table=columns.name,
        )
    missing, gone = set(columns.schema) - set(names), set(names) - set(columns.schema)
    if missing & set(columns.key) or (missing and gone):
        raise SourceSchemaChanged(
            f"table {columns.name} has the columns {list(columns.schema)} now, a change in the binary log {names}: which"
            " of them are the same cannot be told; take a new snapshot",
            table=columns.name,
        )
    for column in event.columns:
        dtype = columns.schema.get(column.name)
        if dtype is not None and not _same_precision(column, dtype):
            raise SourceSchemaChanged(
                f"column {columns.name}.{column.name} is {dtype}, its change of another type; take a new snapshot",
                table=columns.name,
            )


def _same_precision(column: Column, dtype: pl.DataType) -> bool:
    if column.type == FIELD_TYPE.NEWDECIMAL:
        return dtype == pl.Decimal(column.precision, column.decimals)
    if column.type in (FIELD_TYPE.DATETIME2, FIELD_TYPE.TIMESTAMP2):
        return isinstance(dtype, pl.Datetime) and dtype.time_unit == ("ms" if column.fsp <= 3 else "us")
    return True


def _check_whole_rows(event: RowsEvent) -> None:
    if isinstance(event, PartialUpdateRowsEvent):
        raise SourceUnsupported(
            f"the binary log has parts of JSON values of table {event.table}; set binlog_row_value_options to nothing",
            table=event.table,
        )
    images = [event.columns_present_bitmap]
    if isinstance(event, UpdateRowsEvent):
        images.append(event.columns_present_bitmap2)
    # MySQL sets the bits behind the last column too
    if not all(BitGet(image, place) for image in images for place in range(event.number_of_columns)):
        raise SourceUnsupported(
            f"the binary log has parts of rows of table {event.table}; set binlog_row_image=FULL", table=event.table
        )


def _source_error(error: pymysql.err.Error, after: BinlogPosition, place: str) -> SourceError:
    code, message = (*error.args, "")[:2]
    if code == ER_MASTER_FATAL_ERROR_READING_BINLOG:
        return SourcePositionLost(
            f"{place}: the binary log cannot be read from file {after.file_number}, offset {after.offset}; take a new snapshot:"
            f" {message}"
        )
    return source_error(error, place)

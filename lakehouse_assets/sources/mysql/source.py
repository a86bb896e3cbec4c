"""MySQL or MariaDB as a source of change streams: a consistent snapshot first, then the changes from its binary log.

Positions are int64 numbers that grow along the binary log, so they can be a commit's identifier. A batch
holds whole transactions, from one position to another; reading again from the same position gives the same
changes, so a reader that keeps the position with what it wrote delivers every change exactly once, across
restarts of either side.

The server needs ``log_bin``, ``binlog_format=ROW``, ``binlog_row_image=FULL`` and
``binlog_row_metadata=FULL``; the tables need InnoDB and a primary key.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import polars as pl
import pymysql
from pymysql.cursors import DictCursor, SSCursor

from lakehouse_assets.sources.change_source import OP
from lakehouse_assets.sources.errors import SourcePositionLost
from lakehouse_assets.sources.mysql.binlog import BinlogPosition, BinlogReader
from lakehouse_assets.sources.mysql.connection import MySqlConnection
from lakehouse_assets.sources.mysql.servers import begin_snapshot, log_base_name, log_end
from lakehouse_assets.sources.mysql.tables import (
    COLUMNS_SQL,
    METADATA_SCHEMA,
    POSITION,
    RowImages,
    TableColumns,
    changes_frame,
    frame_of_columns,
    table_columns,
    with_metadata,
)

SNAPSHOT_CHUNK_ROWS: Final = 50_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeBatch:
    """Changes up to ``position``, per table of the source.

    Each frame has ``op`` (String: ``r`` row of a snapshot, ``c`` insert, ``u`` update, ``d`` delete with
    the last values), the table's columns, and ``position`` (Int64): the end of the row's transaction, at
    most the batch's. Rows stand in source order. ``at_end``: the log has no more for now. ``filled``: by table,
    the columns that have values in older rows too if they were added.
    """

    position: int
    frames: dict[str, pl.DataFrame]
    at_end: bool
    filled: Mapping[str, frozenset[str]] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """Number of rows in all frames."""
        return sum(len(frame) for frame in self.frames.values())

    def of(self, table: str, *, after: int | None) -> pl.DataFrame:
        """A table's rows after the position that its reader has (None: all of them)."""
        frame = self.frames[table]
        return frame if after is None else frame.filter(pl.col(POSITION) > after)


class MySqlSource:
    """Reads some tables of one database. Holds no connection between calls, so the server may come and go.

    Every method raises SourceUnavailable while the server is away, and SourceUnsupported for a server or
    table that cannot be read exactly.
    """

    def __init__(self, connection: MySqlConnection, tables: Sequence[str]) -> None:
        self._connection = connection
        self._tables = tuple(tables)

    def columns(self) -> dict[str, TableColumns]:
        """The tables' column types and primary keys, as they are now."""
        with self._connection.open() as connection:
            return self._columns(connection, self._tables)

    def position(self) -> int:
        """The end of the binary log as it is now."""
        with self._connection.open() as connection:
            return log_end(connection).encoded()

    def snapshot(self, tables: Sequence[str] | None = None) -> ChangeBatch:
        """All rows of the tables (all, or some of the source's) as of one moment, and that moment's position.

        MariaDB locks nothing; MySQL holds back commits for the moment in which its log's position is taken. The whole
        snapshot belongs into one commit per table: half of one cannot be continued.
        """
        wanted = self._tables if tables is None else tuple(tables)
        with self._connection.open() as connection:
            columns = self._columns(connection, wanted)
            log_base_name(connection)
            position = begin_snapshot(connection).encoded()
            frames = {name: _table_rows(connection, table, position) for name, table in columns.items()}
        return ChangeBatch(position=position, frames=frames, at_end=True, filled=_filled(columns))

    def changes(
        self,
        after: int,
        *,
        max_rows: int,
        known: Mapping[str, int] | None = None,
        check: Callable[[TableColumns], None] = lambda _: None,
    ) -> ChangeBatch:
        """The changes after a position: whole transactions, until they have ``max_rows`` rows or the log
        ends. ``known``: by table, up to where it was read before; its changes until there are left out. ``check``: raises if
        a table is not to be read; called at its first change, so that the rest of the log is not read in vain.

        ``position`` of the batch is where to go on; it moves even when no row of the tables changed. Raises
        SourcePositionLost if the log was removed, SourceSchemaChanged if a table is not what it was at the
        position.
        """
        start = BinlogPosition.decoded(after)
        read_before = {table: BinlogPosition.decoded(position) for table, position in (known or {}).items()}
        with self._connection.open() as connection:
            end = log_end(connection)
            _check_end(end, start, read_before)
            columns = self._columns(connection, self._tables)
            reader = BinlogReader(
                self._connection, tables=columns, log_base_name=log_base_name(connection), known=read_before
            )
        images = {table: RowImages() for table in columns}
        rows = 0
        for transaction in reader.transactions(start) if start < end else ():
            start = transaction.end
            rows += transaction.rows
            for table, changed in transaction.images.items():
                if not images[table].ops:
                    check(columns[table])
                images[table].extend(changed)
            if rows >= max_rows:
                return _batch(columns, images, start, at_end=False)
        return _batch(columns, images, max(start, end), at_end=True)

    def _columns(self, connection: pymysql.Connection[Any], tables: Sequence[str]) -> dict[str, TableColumns]:
        with connection.cursor(DictCursor) as cursor:
            cursor.execute(COLUMNS_SQL, (self._connection.database, tables))
            rows = cursor.fetchall()
        return {table: table_columns(table, [row for row in rows if row["table_name"] == table]) for table in tables}


def _check_end(end: BinlogPosition, start: BinlogPosition, known: Mapping[str, BinlogPosition]) -> None:
    beyond = next((table for table, position in known.items() if position > end), None)
    if beyond is not None or start > end:
        raise SourcePositionLost(
            f"position {known[beyond] if beyond else start} is beyond the end of the binary log, {end}; take a new snapshot",
            table=beyond,
        )


def _batch(
    columns: Mapping[str, TableColumns],
    images: Mapping[str, RowImages],
    position: BinlogPosition,
    *,
    at_end: bool,
) -> ChangeBatch:
    frames = {table: changes_frame(columns[table], changed) for table, changed in images.items()}
    return ChangeBatch(position=position.encoded(), frames=frames, at_end=at_end, filled=_filled(columns))


def _filled(columns: Mapping[str, TableColumns]) -> dict[str, frozenset[str]]:
    return {name: table.filled for name, table in columns.items()}


def _table_rows(connection: pymysql.Connection[Any], table: TableColumns, position: int) -> pl.DataFrame:
    """All rows of a table; only a chunk of them is held as Python values at a time."""
    selected = ", ".join(_select_exactly(name, dtype) for name, dtype in table.schema.items())
    chunks = [pl.DataFrame(schema={OP: METADATA_SCHEMA[OP], **table.schema, POSITION: METADATA_SCHEMA[POSITION]})]
    with connection.cursor(SSCursor) as cursor:
        cursor.execute(f"SELECT {selected} FROM {_quoted(table.name)}")  # noqa: S608 - quoted names
        while rows := cursor.fetchmany(SNAPSHOT_CHUNK_ROWS):
            values = dict(zip(table.schema, zip(*rows, strict=True), strict=True))
            frame = frame_of_columns(table, values)
            chunks.append(with_metadata(frame, ops=["r"] * len(rows), positions=[position] * len(rows)))
    return pl.concat(chunks)


def _select_exactly(name: str, dtype: pl.DataType) -> str:
    """A column in the select list; FLOAT would be told with six digits only."""
    return f"CAST({_quoted(name)} AS DOUBLE)" if dtype == pl.Float32() else _quoted(name)


def _quoted(name: str) -> str:
    return f"`{name.replace('`', '``')}`"

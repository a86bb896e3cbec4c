"""MySQL or MariaDB as a change source of the lakehouse: a table without a position gets its snapshot, others go on in the log.

The position of a table is the end of the last transaction that was read for it, as the text of the source's int64.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import polars as pl

from lakehouse_assets.sources.change_source import OP, SNAPSHOT_OP, SourceBatch, SourceTable
from lakehouse_assets.sources.errors import SourceError, SourcePositionLost
from lakehouse_assets.sources.known_troubles import KnownTroubles
from lakehouse_assets.sources.mysql.connection import MySqlConnection
from lakehouse_assets.sources.mysql.source import ChangeBatch, MySqlSource
from lakehouse_assets.sources.mysql.tables import POSITION, TableColumns
from lakehouse_assets.sources.typed_rows import LINE, SOURCE_FILE, check_columns, typed_batch

NOTED_ROWS: Final = 2000
"""Rows of one read from which on the tables that have none of them get the new position too."""


class MySqlChanges:
    """The tables of one database as a ``ChangeSource``.

    Tables that are read together with no position share one snapshot, so they are of the same moment. Where the log
    was searched in vain for a table is remembered, so that a table that seldom changes does not make the next
    ``read`` search it again; and where a large part was, the table gets a batch without rows, so that its position tells
    the next process too.
    """

    def __init__(self, connection: MySqlConnection) -> None:
        self._connection = connection
        self._searched: dict[str, tuple[int, int]] = {}
        self._troubles = KnownTroubles()

    @property
    def name(self) -> str:
        """Where the database is."""
        return self._connection.place

    def read(self, tables: Sequence[tuple[SourceTable, str | None]], *, max_rows: int) -> Mapping[str, SourceBatch]:
        """The snapshot of tables without a position, else the next changes. Raises like ``MySqlSource``."""
        new = [table for table, position in tables if position is None]
        if new:
            return self._snapshots(new, at_end=False)
        begun = [(table, int(position)) for table, position in tables if position]
        causes = self._causes(begun)
        for name, cause in causes.items():
            self._troubles.check(name, cause)
        try:
            return self._changes(begun, max_rows)
        except SourceError as error:
            if error.table is not None:
                self._troubles.note(error.table, causes.get(error.table), error)
            raise

    def everything(self, table: SourceTable) -> SourceBatch:
        """All rows of a table that the database has now."""
        return self._snapshots([table], at_end=True)[table.name]

    def _snapshots(self, tables: Sequence[SourceTable], *, at_end: bool) -> dict[str, SourceBatch]:
        source = self._source(tables)
        columns = source.columns()
        for table in tables:  # before all their rows are read
            _check(table, columns[table.name])
        snapshot = source.snapshot()
        return {table.name: _source_batch(table, snapshot, after=None, at_end=at_end) for table in tables}

    def _causes(self, tables: Sequence[tuple[SourceTable, int]]) -> dict[str, object]:
        """What the troubles of tables that have run into some depend on beside the log, as it is now."""
        stopped = [(table, after) for table, after in tables if table.name in self._troubles]
        columns = self._source([table for table, _ in stopped]).columns() if stopped else {}
        return {table.name: (table, after, columns[table.name].schema) for table, after in stopped}

    def _changes(self, tables: Sequence[tuple[SourceTable, int]], max_rows: int) -> dict[str, SourceBatch]:
        source = self._source([table for table, _ in tables])
        start = min((self._known_until(table.name, after) for table, after in tables), default=0)
        known, asked = {table.name: after for table, after in tables}, {table.name: table for table, _ in tables}
        found: dict[str, SourceBatch] = {}
        at_end = not tables
        while not found and not at_end:
            try:
                changes = source.changes(
                    start, max_rows=max_rows, known=known, check=lambda columns: _check(asked[columns.name], columns)
                )
            except SourcePositionLost as lost:
                first, _ = min(tables, key=lambda each: self._known_until(each[0].name, each[1]))
                lost.table = lost.table or first.name
                raise
            start, at_end = changes.position, changes.at_end
            for table, after in tables:
                if changes.of(table.name, after=after).is_empty():
                    self._searched[table.name] = (after, max(self._known_until(table.name, after), start))
                else:
                    found[table.name] = _source_batch(table, changes, after=after, at_end=at_end)
            if found and changes.rows >= NOTED_ROWS:
                behind = [(table, after) for table, after in tables if after < changes.position]
                return {
                    table.name: _source_batch(table, changes, after=after, at_end=at_end) for table, after in behind
                }
        return found

    def _known_until(self, table: str, after: int) -> int:
        """How far the log holds nothing for a table after a position, as far as it was searched."""
        known_after, until = self._searched.get(table, (after, after))
        return until if known_after == after else after

    def _source(self, tables: Sequence[SourceTable]) -> MySqlSource:
        return MySqlSource(self._connection, [table.name for table in tables])


def _check(table: SourceTable, found: TableColumns) -> None:
    check_columns(table, found.schema, filled=bool(found.filled - table.columns.keys()))


def _source_batch(table: SourceTable, changes: ChangeBatch, *, after: int | None, at_end: bool) -> SourceBatch:
    """A table's changes. A refused row is known by its place in its transaction, or in the snapshot."""
    frame = changes.of(table.name, after=after)
    found = {name: dtype for name, dtype in frame.schema.items() if name not in (OP, POSITION)}
    check_columns(table, found, filled=bool(changes.filled.get(table.name, frozenset()) - table.columns.keys()))
    place = pl.when(pl.col(OP) == SNAPSHOT_OP).then(pl.lit("snapshot")).otherwise(pl.lit("binlog"))
    rows = frame.with_columns(
        pl.concat_str(pl.lit(f"{table.name}/"), place, pl.lit("/"), POSITION).alias(SOURCE_FILE),
        pl.int_range(1, pl.len() + 1).over(POSITION).alias(LINE),
    )
    return typed_batch(table, rows, position=str(changes.position), at_end=at_end)

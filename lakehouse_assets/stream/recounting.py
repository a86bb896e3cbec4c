"""Lookups of a stream that counts: what a row adds is taken back when its dimension row changes, and added anew.

Nothing is kept beside the tables. The rows of the source that a batch concerns (they changed, or a dimension row that they
were joined with, or waited for, did) are joined with the dimensions as of the snapshots that were consumed, and as of those that
the batch consumes; both go through the transformation, and what differs is written as retractions and additions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import polars as pl

from lakehouse_assets.stream.declaration import Stream
from lakehouse_assets.stream.source import (
    RETRACTIONS,
    ROW_KIND,
    Pending,
    compaction_brings_changelog,
    read_changes,
    read_start,
    read_state,
)
from lakehouse_assets.stream.states import difference, inserted, transformed_state
from lakehouse_assets.stream.widening import Widening, concerned
from storage_engine import Table


def recounts(stream: Stream) -> bool:
    """Whether rows that were counted are counted again when their dimension rows change."""
    return stream.reads == "changelog" and any(lookup.reemit for lookup in stream.lookups)


@dataclass(slots=True)
class Recounting:
    """The lookups of one counting stream."""

    stream: Stream
    tables: Mapping[str, Table]
    widening: Widening
    rows_read: int = field(default=0)
    rows_reemitted: int = field(default=0)

    def changes(self, pending: Mapping[str, Pending], *, start: bool) -> pl.DataFrame:
        """What a batch writes to the target, with ``_row_kind``. Raises ChangesExpired."""
        table, found = self.tables[self.stream.source], pending[self.stream.source]
        until = {name: each.until for name, each in pending.items()}
        if start:
            rows = read_start(table, found)
            self.rows_read, self.rows_reemitted = rows.height, 0
            return inserted(self._state(rows, until))
        changes = read_changes(table, found)
        before, after = _changed(table, found, changes)
        again = self._again(table, pending, changes)
        self.rows_read, self.rows_reemitted = changes.height, again.height
        consumed = {name: each.after for name, each in pending.items()}
        return difference(
            self._state(pl.concat([before, again]), consumed),
            self._state(pl.concat([after, again]), until),
            key=(),
            retracts=True,
        )

    def _again(self, table: Table, pending: Mapping[str, Pending], changes: pl.DataFrame) -> pl.DataFrame:
        """Rows that have not changed, but dimension rows of theirs have."""
        predicate = concerned(self.stream, self.tables, pending)
        if predicate is None:
            return _as_inserts(changes.clear())
        rows = read_state(table, pending[table.name].after, predicate)
        key = list(table.schema.primary_keys)
        return rows.join(changes, on=key, how="anti") if key else rows

    def _state(self, rows: pl.DataFrame, snapshots: Mapping[str, int]) -> pl.DataFrame:
        return transformed_state(self.stream, self.widening.join(rows, snapshots))


def _changed(table: Table, found: Pending, changes: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The rows that have changed, as they were and as they are, as inserts."""
    key = list(table.schema.primary_keys)
    retracted = pl.col(ROW_KIND).is_in(RETRACTIONS)
    if not key:
        return _as_inserts(changes.filter(retracted)), _as_inserts(changes.filter(~retracted))
    if compaction_brings_changelog(table) or found.overwritten:
        before = changes.unique(key, keep="first", maintain_order=True).filter(retracted)
        after = changes.unique(key, keep="last", maintain_order=True).filter(~retracted)
        return _as_inserts(before), _as_inserts(after)
    keys = changes.select(key).unique()
    states = [_rows_of(table, keys, snapshot).select(changes.columns) for snapshot in (found.after, found.until)]
    return states[0], states[1]


def _rows_of(table: Table, keys: pl.DataFrame, snapshot: int) -> pl.DataFrame:
    """The rows of some keys: what changes name need not be what stood there (the user's own, or none of the old)."""
    return inserted(table.lookup(keys, snapshot=snapshot))


def _as_inserts(changes: pl.DataFrame) -> pl.DataFrame:
    return inserted(changes).select(changes.columns)

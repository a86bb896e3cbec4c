"""``TablePortions``: what a table gives in portions that fit in memory, the same ones whenever they are asked for."""

from __future__ import annotations

from collections.abc import Collection

import polars as pl

from storage_engine.read.changes import ChangeReader
from storage_engine.read.fallback import ScanPart
from storage_engine.read.portions import Limits, Portion, dealt
from storage_engine.read.source import lazy_scan
from storage_engine.read.split_rules import Split
from storage_engine.read.state_units import difference_units, state_units
from storage_engine.read.time_travel import Moment, snapshot_at
from storage_engine.store.data_files import DataFiles
from storage_engine.store.live_files import LiveFiles
from storage_engine.table_writes import TableWrites


class TablePortions(TableWrites):
    """What is read of a table in portions.

    Each takes about ``max_rows`` rows, and ``max_bytes`` bytes of files, at most. Rows, or changes, of one key are in one
    portion, whatever ``columns`` are wanted (None: all). ``ranges``: what is too large is cut into ranges of keys, of which
    about no more is read than they give; without, as versions that knew no ranges dealt it out: all of it is read for each.
    """

    def scan_portions(
        self,
        snapshot: int,
        *,
        max_rows: int,
        max_bytes: int | None = None,
        columns: list[str] | None = None,
        ranges: bool = True,
    ) -> list[Portion]:
        """The rows at a snapshot; a fallback branch is not asked. Raises SnapshotNotFound and SnapshotExpired."""
        part = self._part(Moment(snapshot=snapshot))
        files = DataFiles(self.store.io, part.schema, self.store.schemas)
        names = part.schema.column_names if columns is None else columns
        units = state_units(self.store.io, part.plan(None).splits, part.schema, files, names)
        empty = pl.DataFrame(schema=part.schema.polars_schema).select(names)
        return dealt(units, empty, Limits(max_rows=max_rows, max_bytes=max_bytes, ranges=ranges))

    def change_portions(
        self,
        after: int,
        until: int,
        *,
        max_rows: int,
        max_bytes: int | None = None,
        columns: list[str] | None = None,
        ranges: bool = True,
    ) -> list[Portion]:
        """What ``changes(after, until, columns=columns)`` gives, those of a key in their order. Raises SnapshotExpired."""
        reader = self._change_reader()
        names = reader.schema.column_names if columns is None else columns
        units = reader.units(after, until, names)
        return dealt(units, reader.empty(names), Limits(max_rows=max_rows, max_bytes=max_bytes, ranges=ranges))

    def difference_portions(
        self,
        after: int,
        until: int,
        *,
        max_rows: int,
        max_bytes: int | None = None,
        columns: list[str] | None = None,
    ) -> list[Portion]:
        """What ``changes(after, until, mode="diff")`` gives, without changes that leave the key and ``columns`` as they were:
        exact after an overwrite, too. ``after`` 0: before the first snapshot.

        ``max_rows`` are of both states. Files that both states have are not read. Raises SnapshotNotFound, SnapshotExpired.
        """
        schema, io = self.schema, self.store.io
        files = DataFiles(io, schema, self.store.schemas)
        names = schema.column_names if columns is None else columns
        units = difference_units(io, (self._splits(after), self._splits(until)), schema, files, names)
        return dealt(units, self._change_reader().empty(names), Limits(max_rows=max_rows, max_bytes=max_bytes))

    def _splits(self, snapshot: int) -> list[Split]:
        return list(self._part(Moment(snapshot=snapshot)).plan(None).splits) if snapshot else []

    def _change_reader(self) -> ChangeReader:
        schema = self.schema
        return ChangeReader(
            store=self.store,
            schema=schema,
            live=LiveFiles(self.store, schema),
            files=DataFiles(self.store.io, schema, self.store.schemas),
            state_at=self._state_at,
        )

    def _state_at(self, snapshot: int) -> pl.LazyFrame:
        part = self._part(Moment(snapshot=snapshot))
        return lazy_scan(
            part.schema,
            DataFiles(self.store.io, part.schema, self.store.schemas),
            part.plan,
            table=part.table,
            metadata_columns=(),
        )

    def _part(
        self, moment: Moment, *, buckets: Collection[int] | None = None, read_optimized: bool = False
    ) -> ScanPart:
        return ScanPart(
            store=self.store,
            schema=self.schema,
            snapshot=snapshot_at(self.store, moment, table=self.name),
            table=self.name,
            buckets=buckets,
            read_optimized=read_optimized,
        )

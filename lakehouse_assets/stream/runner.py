"""Runs a stream batch by batch, exactly once.

1. The target's newest snapshot says which snapshot of each source is consumed.
2. Changes of the sources after that are read, up to a bound, and transformed.
3. Rows and new offsets are committed in one snapshot, on condition that the offsets are still the ones of step 1.

Whatever happens in between (a kill, a retry, another run of the same stream), a change counts once.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import polars as pl

from lakehouse_assets.stream.declaration import Stream
from lakehouse_assets.stream.offsets import StreamOffsets, properties_of
from lakehouse_assets.stream.widen import Widener
from storage_engine import Catalog, Snapshot, Table
from storage_engine.errors import OffsetConflict

ROW_KIND = "_row_kind"


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchResult:
    """What one batch did. ``consumed``: (after, until] snapshot ids by source; durations in milliseconds."""

    stream: Stream
    snapshot: Snapshot
    consumed: Mapping[str, tuple[int | None, int]]
    rows_in: int
    rows_out: int
    rows_reemitted: int
    partitions: tuple[str, ...]
    read_ms: float
    commit_ms: float
    lag_snapshots: int
    lag_ms: int
    hit_rates: Mapping[str, float] = field(default_factory=dict)


class StreamRunner:
    """Runs one stream. Keeps dimension caches from batch to batch; holds no offset."""

    def __init__(self, catalog: Catalog, stream: Stream) -> None:
        self._catalog = catalog
        self._stream = stream
        self._target = catalog.table(stream.target)
        self._sources = {name: catalog.table(name) for name in stream.tables}
        self._widener = Widener(catalog, stream)

    def is_behind(self) -> bool:
        """Whether a source has snapshots that the target has not consumed."""
        consumed = StreamOffsets.read(self._target, self._stream.name).snapshots
        return any(consumed.get(name, 0) < _latest_id(table) for name, table in self._sources.items())

    def run_batch(self) -> BatchResult | None:
        """Move the stream on by one batch; None if there is nothing new, or another run has just done it.

        Raises SnapshotExpired if changes are gone before they were read: repair the target, then go on.
        """
        self._target.settle()
        offsets = StreamOffsets.read(self._target, self._stream.name)
        upto = self._bounds(offsets)
        if all(offsets.snapshots.get(name) == snapshot for name, snapshot in upto.items()):
            return None
        started = time.perf_counter()
        changes = self._changes(offsets.snapshots.get(self._stream.source), upto.get(self._stream.source))
        again = self._reemitted(changes, offsets, upto)
        rows = self._transformed(pl.concat([again, changes]), upto)
        read = time.perf_counter()
        try:
            snapshot = self._target.write(
                rows,
                commit_user=self._stream.name,
                commit_identifier=offsets.next_identifier,
                properties=properties_of({**offsets.snapshots, **upto}),
                expected_offsets={self._stream.name: offsets.identifier},
            )
        except OffsetConflict:
            return None
        if snapshot is None:
            return None
        committed = time.perf_counter()
        return BatchResult(
            stream=self._stream,
            snapshot=snapshot,
            consumed={name: (offsets.snapshots.get(name), until) for name, until in upto.items()},
            rows_in=changes.height,
            rows_out=rows.height,
            rows_reemitted=again.height,
            partitions=_partitions(rows, self._target),
            read_ms=(read - started) * 1000,
            commit_ms=(committed - read) * 1000,
            lag_snapshots=sum(_latest_id(table) - upto.get(name, 0) for name, table in self._sources.items()),
            lag_ms=self._lag_ms(upto),
            hit_rates=self._widener.stats(),
        )

    def _bounds(self, offsets: StreamOffsets) -> dict[str, int]:
        """Up to which snapshot each source is read in this batch; sources without a snapshot are left out."""
        latest = {name: _latest_id(table) for name, table in self._sources.items()}
        found = {name: snapshot for name, snapshot in latest.items() if snapshot}
        source = self._stream.source
        consumed = offsets.snapshots.get(source)
        if source in found and consumed is not None:
            found[source] = self._bounded(consumed, found[source])
        return found

    def _bounded(self, consumed: int, latest: int) -> int:
        store = self._sources[self._stream.source].store.snapshots
        rows = 0
        for snapshot_id in range(consumed + 1, min(latest, consumed + self._stream.max_snapshots) + 1):
            snapshot = store.get(snapshot_id)
            rows += snapshot.changelog_record_count or max(snapshot.delta_record_count, 0)
            if rows >= self._stream.max_rows:
                return snapshot_id
        return min(latest, consumed + self._stream.max_snapshots)

    def _changes(self, consumed: int | None, upto: int | None) -> pl.DataFrame:
        """The driving source's changes; its whole state, as inserts, before the first batch."""
        table = self._sources[self._stream.source]
        if upto is None:
            return pl.DataFrame(schema={ROW_KIND: pl.String(), **table.schema.polars_schema})
        if consumed is None:
            rows = table.scan(snapshot=upto).select(pl.lit("+I").alias(ROW_KIND), *table.schema.column_names)
            return rows.collect()
        changes = table.changes(consumed, upto).collect()
        if self._stream.every_change:
            return changes
        return changes.unique(list(table.schema.primary_keys), keep="last", maintain_order=True)

    def _reemitted(self, changes: pl.DataFrame, offsets: StreamOffsets, upto: Mapping[str, int]) -> pl.DataFrame:
        """Source rows, unchanged themselves, whose dimensions changed."""
        source = self._stream.source
        if not self._stream.lookups or source not in upto or offsets.identifier is None:
            return changes.clear()
        touched = self._widener.touched(offsets.snapshots, upto)
        if touched.is_empty():
            return changes.clear()
        keys = list(self._sources[source].schema.primary_keys)
        rest = touched.join(changes, on=keys, how="anti")
        rows = self._sources[source].scan(snapshot=upto[source]).collect().join(rest, on=keys, how="semi")
        return rows.select(pl.lit("+U").alias(ROW_KIND), *changes.columns[1:])

    def _transformed(self, rows: pl.DataFrame, upto: Mapping[str, int]) -> pl.DataFrame:
        widened = self._widener.widen(rows, upto)
        return self._stream.transform(widened).select(ROW_KIND, *self._target.schema.column_names)

    def _lag_ms(self, upto: Mapping[str, int]) -> int:
        """Age of the newest source snapshot that this batch consumed, when the batch was committed."""
        source = self._stream.source
        if source not in upto:
            return 0
        committed = self._sources[source].store.snapshots.get(upto[source]).time_millis
        return max(0, int(time.time() * 1000) - committed)


def _latest_id(table: Table) -> int:
    return table.store.snapshots.latest_id() or 0


def _partitions(rows: pl.DataFrame, target: Table) -> tuple[str, ...]:
    names = target.schema.partition_keys
    if not names or rows.is_empty():
        return ()
    return tuple(sorted(str(value) for value in rows[names[0]].unique()))

"""Delivers a table's changes to a place, each once: rows and the snapshot's id are one transaction there."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

import polars as pl

from lakehouse_assets.sinks.declaration import Delivered, DeliveryResult, Sink, SinkSession
from lakehouse_assets.stream.declaration import Bounds
from lakehouse_assets.stream.errors import ChangesExpired, SourceRewound
from lakehouse_assets.stream.place import Place
from lakehouse_assets.stream.source import (
    RETRACTIONS,
    ROW_KIND,
    Pending,
    complete_snapshot,
    has_changelog,
    pending,
    portions_of,
    read_changes,
)
from storage_engine import Catalog
from storage_engine.errors import SnapshotNotFound
from storage_engine.read.portions import Portion

UNBOUNDED: Final = Bounds(max_snapshots=2**31, max_rows=2**62)


class Delivery:
    """Moves one sink on."""

    def __init__(self, catalog: Catalog, sink: Sink) -> None:
        """Raises TableNotFound."""
        self.sink = sink
        self.table = catalog.table(sink.table)

    def run(self) -> DeliveryResult | None:
        """Bring what comes next; None if the place has everything.

        The first time, and whenever the changes that come next have expired or the table was rolled back, the whole table
        is loaded. Raises SourceError (the place is away, or refuses), and what the engine raises.
        """
        started = time.perf_counter()
        with self.sink.to.session(self.sink, self.table) as session:
            before = session.delivered()
            found = self._next(before)
            if found is None:
                return None
            rows = self._load(session, found) if found.after == 0 else self._apply(session, found)
            delivered = Delivered(snapshot=found.until, committed_ms=self._committed_ms(found.until))
            session.finish(delivered)
        self.table.store.consumers.write(self.sink.consumer, delivered.snapshot)
        return DeliveryResult(
            sink=self.sink.title,
            place=self.sink.to.place,
            delivered=delivered,
            rows=rows,
            whole=found.after == 0,
            duration_ms=round((time.perf_counter() - started) * 1000),
            lag_ms=max(0, round(time.time() * 1000) - delivered.committed_ms),
            rows_behind=pending(self.table, delivered.snapshot, bounds=UNBOUNDED).rows,
        )

    def waits(self) -> bool:
        """Whether there is something to bring. Raises SourceError."""
        with self.sink.to.session(self.sink, self.table) as session:
            return self._next(session.delivered()) is not None

    def _next(self, before: Delivered | None) -> Pending | None:
        """What comes next; ``after`` 0 is the whole table."""
        if before is None or not self._is_known(before):
            until = complete_snapshot(self.table)
            return Pending(after=0, until=until) if until else None
        try:
            found = pending(self.table, before.snapshot, bounds=self.sink.bounds)
        except (ChangesExpired, SourceRewound):
            return Pending(after=0, until=complete_snapshot(self.table))
        if found.overwritten and not self.table.schema.primary_keys:
            return Pending(after=0, until=found.until)
        return found or None

    def _is_known(self, before: Delivered) -> bool:
        """Whether the table still has the snapshot: another one of its number tells of a table that was made again."""
        try:
            return self._committed_ms(before.snapshot) == before.committed_ms
        except SnapshotNotFound:
            return False

    def _committed_ms(self, snapshot: int) -> int:
        return self.table.store.snapshots.get(snapshot).time_millis

    def _load(self, session: SinkSession, found: Pending) -> dict[str, int]:
        portions = (portion.read() for portion in self._portions(found))
        return {"loaded": session.load(portions, self.table.scan(snapshot=found.until, fallback=False))}

    def _apply(self, session: SinkSession, found: Pending) -> dict[str, int]:
        counts = {"upserted": 0, "deleted": 0}
        session.apply(self._last(found, counts), self.table.scan(snapshot=found.until, fallback=False))
        return counts

    def _last(self, found: Pending, counts: dict[str, int]) -> Iterator[pl.DataFrame]:
        """The last change of each key, a part at a time, which are counted."""
        key = list(self.table.schema.primary_keys)
        for changes in self._changes(found):
            last = changes.unique(key, keep="last", maintain_order=True) if key else changes
            deleted = int(last[ROW_KIND].is_in(RETRACTIONS).sum())
            counts["upserted"] += last.height - deleted
            counts["deleted"] += deleted
            yield last

    def _changes(self, found: Pending) -> Iterator[pl.DataFrame]:
        """The changes as whole rows."""
        for portion in self._portions(found):
            yield read_changes(self.table, replace(found, portion=portion))

    def _portions(self, found: Pending) -> list[Portion]:
        """Portions of the whole table or of its changes, which are told by comparing its states where nothing else tells them:
        after an overwrite, and of a table with a key and without a changelog.
        """
        bounds, is_silent = self.sink.bounds, bool(self.table.schema.primary_keys) and not has_changelog(self.table)
        place = Place(
            source=self.table.name,
            after=found.after,
            until=found.until,
            start=found.after == 0,
            max_rows=bounds.max_rows,
            max_bytes=bounds.max_bytes,
            ranges=True,
            compared=(self.table.name,) if found.after and (found.overwritten or is_silent) else (),
        )
        return portions_of(self.table, place)

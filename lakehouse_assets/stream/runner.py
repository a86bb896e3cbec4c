"""Runs streams: one micro-batch at a time, exactly once.

A batch reads ``(consumed, until]`` of its sources, computes, and commits rows *and* the new offsets as one snapshot
of the target, on the condition that nobody has moved the offsets meanwhile. So a batch that is repeated, runs twice
at a time, or is killed anywhere changes the target once or not at all; there is no other place where a position is
kept.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

import polars as pl

from lakehouse_assets.stream.blame import Blaming, blamed
from lakehouse_assets.stream.declaration import Stream
from lakehouse_assets.stream.errors import StreamBusy
from lakehouse_assets.stream.join_shares import place_in, plan_of
from lakehouse_assets.stream.joining import Joining
from lakehouse_assets.stream.newest import newest_rows, only_tells_writes, sequence_of
from lakehouse_assets.stream.offsets import Consumed, properties
from lakehouse_assets.stream.plan import Plan
from lakehouse_assets.stream.portioning import Portioning
from lakehouse_assets.stream.recounting import Recounting, recounts
from lakehouse_assets.stream.source import (
    DELETE,
    INSERT,
    ROW_KIND,
    UNBOUNDED,
    UPDATE_AFTER,
    UPDATE_BEFORE,
    Pending,
    compaction_brings_changelog,
    complete_snapshot,
    gone_first,
    is_complete,
    pending,
    read_changes,
    read_start,
    read_state,
    settle,
    starting_snapshot,
)
from lakehouse_assets.stream.states import without_undone
from lakehouse_assets.stream.stream_checks import check_changes_are_told, check_stream
from lakehouse_assets.stream.widening import Widening, concerned
from storage_engine import Catalog, Snapshot, Table
from storage_engine.errors import OffsetConflict
from storage_engine.kernel.merge_plan import MergePlan
from storage_engine.lookup import LookupStats
from storage_engine.spec.snapshot import CommitKind

ATTEMPTS: Final = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchResult:
    """What one batch did.

    ``consumed``: source → (position before, position after). ``rows_read``: changes of the driving source;
    ``rows_reemitted``: rows that were sent again because a dimension changed; ``rows_written``: by row kind.
    ``partitions``: values of the target's partition columns that were touched. ``latency_ms``: from the commit of
    the newest change at the driving source to the commit here; ``rows_behind``: changes still waiting there. ``stream``:
    its name in a target that several fill ("": it is the only one); ``parts``: by that name, if this is what several did.
    """

    target: str
    snapshot: Snapshot
    consumed: Mapping[str, tuple[int | str | None, int | str]]
    rows_read: int
    rows_reemitted: int
    rows_written: Mapping[str, int]
    partitions: tuple[Mapping[str, object], ...]
    duration_ms: int
    commit_ms: int
    latency_ms: int | None
    rows_behind: int = 0
    lookups: Mapping[str, LookupStats] = field(default_factory=dict)
    rows_rejected: int = 0
    stream: str = ""
    parts: Mapping[str, BatchResult] = field(default_factory=dict)


class StreamRunner:
    """Runs one stream; keeps the caches of its lookups from batch to batch. Not safe between threads.

    Errors say in a note where the stream is declared.
    """

    def __init__(self, catalog: Catalog, stream: Stream) -> None:
        """Raises TableNotFound, and InvalidStream for a declaration that does not fit its tables."""
        self.stream = stream
        with Blaming(stream):
            self.target = catalog.table(stream.target)
            self.tables = {name: catalog.table(name) for name in stream.sources}
            self.widening = Widening(stream=stream, catalog=catalog)
            self._settled: int | None = None
            check_stream(stream, self.target, self.tables)
            join = stream.join
            self._joining = None if join is None else Joining.of(stream, join, self.target, self.tables)
            self._recounting = Recounting(stream, self.tables, self.widening) if recounts(stream) else None
            self._only_adds_up = bool(self.target.schema.primary_keys) and MergePlan.of(self.target.schema).only_adds_up
            self._portioning = Portioning(stream, self.tables[stream.source], self.target, self._only_adds_up)

    @blamed
    def run_batch(self, *, upto: int | None = None) -> BatchResult | None:
        """Run the next batch; None if there is nothing to do. ``upto``: the last snapshot of the driving source.

        Raises ChangesExpired, SourceRewound, StreamBusy, what the engine raises, and InvalidStream where changes are not told.
        """
        check_changes_are_told(self.stream, self.target, self.tables[self.stream.source])
        self.settle()
        for _ in range(ATTEMPTS):
            plan = self._plan(upto)
            if plan is None:
                return None
            try:
                result = self._run(plan)
            except OffsetConflict:
                continue
            if result is not None:
                return result
        raise StreamBusy(f"{self.stream.name}: other runs committed first {ATTEMPTS} times; run it again")

    @blamed
    def settle(self) -> None:
        """Finish what a killed run left half done in the target (rows that have no changelog yet)."""
        latest = self.target.latest_snapshot()
        if latest is not None and latest.id != self._settled:
            self._settled = (settle(self.target) or latest).id

    @blamed
    def consumed(self) -> Consumed:
        """What the stream has consumed, by the target's newest snapshot."""
        found = Consumed.of_stream(self.target, self.stream)
        elsewhere = found.within is not None and found.within.source != self.stream.source
        return replace(found, within=None) if elsewhere else found

    @blamed
    def pending(self) -> Pending:
        """All that waits in the driving source. Raises ChangesExpired and SourceRewound."""
        offsets, table = self.consumed(), self.tables[self.stream.source]
        if offsets.within is None:
            return pending(table, offsets.snapshot(table.name) or 0, bounds=UNBOUNDED)
        found = pending(table, offsets.within.until, bounds=UNBOUNDED)
        return replace(found, after=offsets.within.after, rows=found.rows + offsets.within.left)

    @blamed
    def waiting(self) -> dict[str, Pending]:
        """Sources that have changes the target has not consumed. Raises ChangesExpired and SourceRewound."""
        offsets = self.consumed()
        if offsets.within is not None:
            place = offsets.within
            return {place.source: Pending(after=place.after, until=place.until, rows=max(place.left, 1))}
        if offsets.identifier is None:
            source = self.tables[self.stream.source]
            until = complete_snapshot(source)
            return {source.name: Pending(after=0, until=until)} if until else {}
        found = {
            name: pending(table, offsets.snapshot(name) or 0, bounds=UNBOUNDED) for name, table in self.tables.items()
        }
        return {name: news for name, news in found.items() if news}

    def is_unfinished(self) -> bool:
        """Whether the stream's last commit was killed before its changelog was written."""
        if not compaction_brings_changelog(self.target):
            return False
        user = self.consumed().user
        own = (found for found in self.target.store.snapshots.backwards() if found.commit_user == user)
        last = next(own, None)
        if last is None or is_complete(last, by_compaction=True):
            return False
        return bool((self.target.files()["level"] == 0).any())

    def _plan(self, upto: int | None) -> Plan | None:
        offsets = self.consumed()
        place = offsets.within
        if place is not None:
            beyond = upto is not None and not place.start and place.until > upto
            if beyond:
                return None
            if self._joining is not None or place.shares:
                return plan_of(place, self.stream, self.tables, offsets)
            return self._portioning.at(offsets, place, self._columns, self._fixed(offsets))
        if offsets.identifier is None:
            return self._in_bounds(self._first_plan(offsets))
        found = {
            name: pending(
                table,
                offsets.snapshot(name) or 0,
                bounds=self.stream.bounds if name in self.stream.driving else UNBOUNDED,
                upto=upto if name == self.stream.source else None,
            )
            for name, table in self.tables.items()
        }
        return self._in_bounds(Plan(offsets=offsets, pending=found, start=False)) if any(found.values()) else None

    def _in_bounds(self, plan: Plan | None) -> Plan | None:
        """The plan, or the first portion of it if the driving source has more in one snapshot than a batch may read.

        A join takes both sides, in shares of its own keys.
        """
        if plan is None:
            return None
        if self._joining is not None:
            shared = place_in(plan, self.stream, self.tables)
            return plan if shared is None else plan_of(shared, self.stream, self.tables, plan.offsets)
        dimensions = plan.pending if plan.start else self._fixed(plan.offsets)
        return self._portioning.first(plan, self._columns, dimensions) or plan

    def _fixed(self, offsets: Consumed) -> dict[str, Pending]:
        """Every source as it was consumed, without what is new."""
        at = {name: offsets.snapshot(name) or 0 for name in self.tables}
        return {name: Pending(after=snapshot, until=snapshot) for name, snapshot in at.items()}

    def _first_plan(self, offsets: Consumed) -> Plan | None:
        start = starting_snapshot(self.tables[self.stream.source])
        found = {name: Pending(after=0, until=complete_snapshot(table)) for name, table in self.tables.items()}
        join = self.stream.join
        if start is None and join is not None and join.how == "full" and found[join.table].until:
            start = 0 if self.tables[self.stream.source].latest_snapshot() is None else None
        if start is None:
            return None
        found[self.stream.source] = Pending(after=0, until=start)
        return Plan(offsets=offsets, pending=found, start=True)

    def _run(self, plan: Plan) -> BatchResult | None:
        started = time.perf_counter()
        computed, read, reemitted = self._computed(plan)
        written = self._portioning.written(plan, computed)
        written = without_undone(written) if self._only_adds_up else written
        committing = time.perf_counter()
        snapshot = self.target.write(
            written,
            commit_user=plan.offsets.user,
            commit_identifier=plan.offsets.next_identifier,
            properties=properties(
                plan.positions,
                driving=self.stream.source,
                within=plan.within,
                declared=plan.offsets.declared.then(self.stream),
            ),
            expected_offsets=plan.offsets.expected,
        )
        if snapshot is None:
            return None
        if snapshot.commit_kind is not CommitKind.APPEND or written.is_empty():
            self._settled = snapshot.id
        self.note_consumers(plan.offsets, plan.needed)
        source = plan.pending[self.stream.source]
        committed = [
            found.committed_ms for name, found in plan.pending.items() if name in self.stream.driving and found
        ]
        newest = max((at for at in committed if at is not None), default=source.committed_ms)
        return BatchResult(
            target=self.stream.target,
            stream=self.stream.part or "",
            snapshot=snapshot,
            consumed=plan.consumed,
            rows_read=read,
            rows_reemitted=reemitted,
            rows_written=kind_counts(written),
            partitions=touched_partitions(self.target, written),
            duration_ms=_ms_since(started),
            commit_ms=_ms_since(committing),
            latency_ms=None if newest is None else max(0, snapshot.time_millis - newest),
            rows_behind=(0 if plan.within is None else plan.within.left)
            + pending(self.tables[self.stream.source], source.until, bounds=UNBOUNDED).rows,
            lookups=self.widening.stats() if self._joining is None else self._joining.stats(),
        )

    def _computed(self, plan: Plan) -> tuple[pl.DataFrame, int, int]:
        """What a batch writes; how many changes it read, and how many rows it sent again."""
        if self._joining is not None:
            written = self._joining.changes(plan.pending, start=plan.start, share=plan.share)
            return written, self._joining.rows_read, 0
        if self._recounting is not None:
            written = self._recounting.changes(plan.pending, start=plan.start)
            return written, self._recounting.rows_read, self._recounting.rows_reemitted
        read, reemitted = self._rows(plan)
        merged = self._merged(plan, read, reemitted)
        written = self.transformed(merged, plan.snapshots)
        if self.stream.reads == "latest":  # of a key of the target, one row of the source may go and another one come
            written = gone_first(written)
        return written, read.height, reemitted.height

    def _rows(self, plan: Plan) -> tuple[pl.DataFrame, pl.DataFrame]:
        """The driving source's rows, and those that a changed dimension concerns."""
        table, found = self.tables[self.stream.source], plan.pending[self.stream.source]
        columns = self._columns
        if plan.start:
            rows = read_start(table, found, columns)
            return rows, rows.clear()
        rows = read_changes(table, found, columns)
        predicate = concerned(self.stream, self.tables, plan.pending)
        return rows, rows.clear() if predicate is None else read_state(table, found.until, predicate, columns)

    @property
    def _columns(self) -> list[str] | None:
        """Columns that are read of the driving source; None: all."""
        source = self.tables[self.stream.source]
        columns = self.stream.columns_read(source.schema.primary_keys)
        if columns is None or self.stream.reads == "changelog" or not only_tells_writes(source):
            return columns
        return list(dict.fromkeys([*columns, *sequence_of(source)]))

    def _merged(self, plan: Plan, read: pl.DataFrame, reemitted: pl.DataFrame) -> pl.DataFrame:
        """All rows that go through the transformation: for "latest" one of each key, the state at the end.

        Only a row that the target cannot hold yet is an insert.
        """
        if self.stream.reads == "changelog":
            return read
        source, found = self.tables[self.stream.source], plan.pending[self.stream.source]
        key = list(source.schema.primary_keys)
        is_state = only_tells_writes(source) and not plan.start and not found.overwritten
        if compaction_brings_changelog(source):  # then what a key had before is followed by what it has now
            read = read.filter(pl.col(ROW_KIND) != UPDATE_BEFORE)
            again = ~pl.struct(key).is_first_distinct() if (read[ROW_KIND] == DELETE).any() else pl.lit(value=False)
        else:  # an insert may be an update then
            read = newest_rows(source, read, found) if is_state else read
            again = pl.lit(value=not plan.start)
        told = pl.when(again & (pl.col(ROW_KIND) == INSERT)).then(pl.lit(UPDATE_AFTER)).otherwise(pl.col(ROW_KIND))
        rows = read.with_columns(told.alias(ROW_KIND))
        if is_state and reemitted.is_empty():
            return rows
        sent_again = reemitted.with_columns(pl.lit(UPDATE_AFTER).alias(ROW_KIND))
        return pl.concat([sent_again, rows]).unique(key, keep="last", maintain_order=True)

    @blamed
    def transformed(self, rows: pl.DataFrame, snapshots: Mapping[str, int]) -> pl.DataFrame:
        """Rows of the source → rows of the target, the dimensions as of some snapshots."""
        if self._joining is not None:
            return self.stream.transform(self._joining.widened(rows, snapshots[self._joining.join.table]))
        return self.stream.transform(self.widening.join(rows, snapshots))

    def note_consumers(self, offsets: Consumed, snapshots: Mapping[str, int]) -> None:
        """Tell the sources' expiry what this stream still needs: from the consumed snapshot on."""
        for name, snapshot in snapshots.items():
            if snapshot:
                self.tables[name].store.consumers.write(offsets.user, snapshot)


def run_batch(catalog: Catalog, stream: Stream, *, upto: int | None = None) -> BatchResult | None:
    """Run the next batch of a stream once; see ``StreamRunner.run_batch``."""
    return StreamRunner(catalog, stream).run_batch(upto=upto)


def kind_counts(rows: pl.DataFrame) -> dict[str, int]:
    """Number of rows by row kind; rows without one are inserts."""
    if ROW_KIND not in rows.columns:
        return {"+I": rows.height}
    counts = rows.group_by(ROW_KIND, maintain_order=True).len()
    return dict(zip(counts[ROW_KIND].to_list(), counts["len"].to_list(), strict=True))


def touched_partitions(table: Table, rows: pl.DataFrame) -> tuple[Mapping[str, object], ...]:
    """The partitions that rows belong to, sorted; none for an unpartitioned table."""
    keys = list(table.schema.partition_keys)
    if not keys:
        return ()
    return tuple(rows.select(keys).unique().sort(keys).to_dicts())


def _ms_since(started: float) -> int:
    return round((time.perf_counter() - started) * 1000)

"""Repair: parts of a target computed again from its source, in one commit, while the stream goes on.

The parts are recomputed as of the offsets that the stream has consumed, and committed on the condition that these have
not moved meanwhile, so no change is lost or counted twice. With ``values=None`` the whole target is recomputed from the
source as it is now, and the stream goes on from there: the way back when changes have expired before they were read.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

import polars as pl

from lakehouse_assets.stream.blame import Blaming
from lakehouse_assets.stream.declaration import Repair, Stream, of_one_target
from lakehouse_assets.stream.errors import InvalidStream, StreamBusy
from lakehouse_assets.stream.offsets import Consumed, properties, reset_properties
from lakehouse_assets.stream.runner import StreamRunner, kind_counts, touched_partitions
from lakehouse_assets.stream.source import (
    DELETE,
    INSERT,
    RETRACTIONS,
    ROW_KIND,
    UPDATE_AFTER,
    UPDATE_BEFORE,
    complete_snapshot,
    read_state,
    starting_snapshot,
)
from storage_engine import Catalog, Snapshot, Table
from storage_engine.errors import CommitConflict
from storage_engine.options import MergeEngine

ATTEMPTS: Final = 20
PAUSE_S: Final = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class RepairResult:
    """What a repair did; ``snapshot`` is None where everything was right already.

    ``rows``: what the parts hold now; ``rows_written``: by row kind. ``partitions``: those that changed.
    """

    target: str
    snapshot: Snapshot | None
    rows: int
    rows_written: Mapping[str, int] = field(default_factory=dict)
    partitions: tuple[Mapping[str, object], ...] = ()
    attempts: int = 1


def repair(catalog: Catalog, stream: Stream | Sequence[Stream], values: Sequence[str] | None = None) -> RepairResult:
    """Recompute the parts of a target that ``stream.repair.column`` names; None: all of it, from the source of now.

    A target that several streams fill is recomputed from all of them, which are given together. A stream that has never run
    is caught up first. Raises InvalidStream if the stream has no repair, StreamBusy if the stream moved on at every attempt,
    and ChangesExpired if the source has lost the consumed snapshot.
    """
    with Blaming(*of_one_target(stream)):
        runners = repairable(catalog, stream)
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return RepairAttempt(runners, values, attempt).run()
            except CommitConflict:
                time.sleep(PAUSE_S)
        raise busy(runners)


def repairable(catalog: Catalog, streams: Stream | Sequence[Stream]) -> list[StreamRunner]:
    """The runners of a target's streams, each of which has run. Raises InvalidStream if they do not tell how it is repaired."""
    runners = [StreamRunner(catalog, stream) for stream in of_one_target(streams)]
    for runner in runners:
        if runner.stream.repair is None:
            raise InvalidStream(
                f"{runner.stream.name} does not tell how it is repaired: declare Stream(repair=Repair(…))"
            )
    columns = {runner.stream.repair.column for runner in runners if runner.stream.repair is not None}
    if len(columns) > 1:
        raise InvalidStream(
            f"streams into {runners[0].stream.target} are repaired by different columns, {' and '.join(sorted(columns))}:"
            " name one column of it in all of them"
        )
    for runner in runners:
        runner.settle()
        if runner.consumed().identifier is None:
            runner.run_batch()
    return runners


def between_snapshots(runner: StreamRunner) -> Consumed:
    """What a stream has consumed, once it is not inside a snapshot: parts of the target would be of two states."""
    while (offsets := runner.consumed()).within is not None:
        runner.run_batch()
    return offsets


def busy(runners: Sequence[StreamRunner]) -> StreamBusy:
    """What a repair raises that was overtaken again and again."""
    names = ", ".join(runner.stream.name for runner in runners)
    return StreamBusy(f"{names}: the stream moved on during each of {ATTEMPTS} repairs; try again, or pause it")


@dataclass(frozen=True, slots=True, kw_only=True)
class Correction:
    """What a repair would do: the parts as they must be, and the rows that it writes."""

    wanted: pl.DataFrame
    written: pl.DataFrame
    snapshots: Sequence[Mapping[str, int]]
    overwrites: bool


class RepairAttempt:
    """One try to repair, at the offsets that the target has now: by one stream, or all that fill it."""

    def __init__(self, runners: Sequence[StreamRunner], values: Sequence[str] | None, number: int) -> None:
        self._runners = runners
        self._target = runners[0].target
        self._repairs = [runner.stream.repair for runner in runners if runner.stream.repair is not None]
        self._column = self._repairs[0].column
        self._values = None if values is None else list(values)
        self._number = number
        self._offsets = [runner.consumed() if values is None else between_snapshots(runner) for runner in runners]
        self._expected = {user: at for offsets in self._offsets for user, at in offsets.expected.items()}

    def run(self) -> RepairResult:
        """Compute and commit. Raises OffsetConflict if a stream moved meanwhile."""
        return self.commit(self.correction())

    def correction(self) -> Correction:
        """Compute; nothing is written."""
        snapshots = [self._snapshots(*each) for each in zip(self._runners, self._offsets, strict=True)]
        wanted = self._recomputed(snapshots)
        overwrites = any(how.mode == "overwrite" for how in self._repairs) and self._values is not None
        written = wanted if overwrites else self._difference(self.current, wanted)
        return Correction(wanted=wanted, written=written, snapshots=snapshots, overwrites=overwrites)

    @cached_property
    def current(self) -> pl.DataFrame:
        """The parts as they are; an overwrite need not read them."""
        return self._target.scan(fallback=False).filter(self._chosen()).collect()

    def commit(self, correction: Correction) -> RepairResult:
        """Commit what was computed. Raises OffsetConflict if a stream moved meanwhile."""
        written = correction.written
        snapshot = self._overwrite(written) if correction.overwrites else self._write(written, correction.snapshots)
        return RepairResult(
            target=self._target.name,
            snapshot=snapshot,
            rows=correction.wanted.height,
            rows_written=kind_counts(written) if snapshot else {},
            partitions=touched_partitions(self._target, written),
            attempts=self._number,
        )

    def write_to(self, branch: Table, correction: Correction) -> None:
        """Write what was computed to a branch of the target."""
        if correction.overwrites:
            branch.overwrite(correction.written, partitions=self._partitions())
        elif not correction.written.is_empty():
            branch.write(correction.written)

    def _snapshots(self, runner: StreamRunner, offsets: Consumed) -> dict[str, int]:
        """The snapshot of each source that is recomputed from."""
        stream = runner.stream
        if self._values is not None or (offsets.identifier is None and len(self._runners) > 1):
            return {name: offsets.snapshot(name) or 0 for name in stream.sources}
        latest = {name: complete_snapshot(table) for name, table in runner.tables.items()}
        return {**latest, stream.source: starting_snapshot(runner.tables[stream.source]) or 0}

    def _recomputed(self, snapshots: Sequence[Mapping[str, int]]) -> pl.DataFrame:
        """The rows that the parts must hold, merged as the target merges them."""
        found = [
            self._rows_of(runner, how, at)
            for runner, how, at in zip(self._runners, self._repairs, snapshots, strict=True)
        ]
        return merged_rows(self._target, pl.concat(found, how="diagonal_relaxed")).filter(self._chosen())

    def _rows_of(self, runner: StreamRunner, how: Repair, snapshots: Mapping[str, int]) -> pl.DataFrame:
        source = runner.tables[runner.stream.source]
        predicate = None if self._values is None else how.source.is_in(self._values)
        rows = read_state(source, snapshots[source.name], predicate)
        written = runner.transformed(rows, snapshots)
        if ROW_KIND not in written.columns:
            return written
        return written.filter(~pl.col(ROW_KIND).is_in(RETRACTIONS)).with_columns(pl.lit(INSERT).alias(ROW_KIND))

    def _chosen(self) -> pl.Expr:
        return pl.lit(value=True) if self._values is None else pl.col(self._column).is_in(self._values)

    def _difference(self, current: pl.DataFrame, wanted: pl.DataFrame) -> pl.DataFrame:
        """The changes that turn the target's rows into the wanted ones."""
        columns = list(self._target.schema.column_names)
        wrong = current.join(wanted, on=columns, how="anti", nulls_equal=True)
        right = wanted.join(current, on=columns, how="anti", nulls_equal=True)
        if self._target.schema.table_options.merge_engine is MergeEngine.AGGREGATION:
            return pl.concat([_of_kind(wrong, UPDATE_BEFORE), _of_kind(right, UPDATE_AFTER)])
        gone = wrong.join(right, on=list(self._target.schema.primary_keys), how="anti")
        return pl.concat([_of_kind(gone, DELETE), _of_kind(right, UPDATE_AFTER)])

    def _write(self, rows: pl.DataFrame, snapshots: Sequence[Mapping[str, int]]) -> Snapshot | None:
        if self._values is None:
            snapshot = self._moved(rows, snapshots)
            for runner, offsets, at in zip(self._runners, self._offsets, snapshots, strict=True):
                runner.note_consumers(offsets, at)
            return snapshot
        if rows.is_empty():
            return None
        return self._target.write(
            rows,
            commit_user=self._runners[0].stream.repairer,
            commit_identifier=self._next(self._runners[0].stream.repairer),
            expected_offsets=self._expected,
        )

    def _moved(self, rows: pl.DataFrame, snapshots: Sequence[Mapping[str, int]]) -> Snapshot | None:
        """Write the whole target, and where its streams go on."""
        stream, offsets = self._runners[0].stream, self._offsets[0]
        if len(self._runners) == 1:
            return self._target.write(
                rows,
                commit_user=offsets.user,
                commit_identifier=offsets.next_identifier,
                properties=properties(snapshots[0], driving=stream.source, declared=offsets.declared.then(stream)),
                expected_offsets=self._expected,
            )
        begun = [each for each in zip(self._offsets, snapshots, strict=True) if each[0].identifier is not None]
        return self._target.write(
            rows,
            commit_user=stream.resetter,
            commit_identifier=self._next(stream.resetter),
            properties=reset_properties(begun),
            expected_offsets=self._expected,
        )

    def _overwrite(self, rows: pl.DataFrame) -> Snapshot | None:
        return self._target.overwrite(
            rows,
            partitions=self._partitions(),
            commit_user=self._runners[0].stream.repairer,
            commit_identifier=self._next(self._runners[0].stream.repairer),
            expected_offsets=self._expected,
        )

    def _partitions(self) -> list[dict[str, object]]:
        return [{self._column: value} for value in self._values or ()]

    def _next(self, user: str) -> int:
        return Consumed(identifier=self._expected[user]).next_identifier


def merged_rows(table: Table, rows: pl.DataFrame) -> pl.DataFrame:
    """What a table would hold if it held only these rows: merged by its own merge engine, in memory."""
    scratch = Catalog(f"memory://repair-{uuid.uuid4()}")
    database = table.name.partition(".")[0]
    scratch.create_database(database)
    options = {
        key: value
        for key, value in table.schema.options.items()
        if key in ("merge-engine", "bucket", "sequence.field") or key.startswith("fields.")
    }
    copy = scratch.create_table(
        table.name,
        {column.name: str(column.type) for column in table.schema.fields},
        primary_key=table.schema.primary_keys,
        options={**options, "bucket": "1"},
    )
    copy.write(rows)
    merged = copy.scan(fallback=False).collect()
    scratch.drop_database(database, cascade=True)
    return merged


def _of_kind(rows: pl.DataFrame, kind: str) -> pl.DataFrame:
    return rows.select(pl.lit(kind).alias(ROW_KIND), pl.all())

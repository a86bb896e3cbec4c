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
from typing import Final

import polars as pl

from lakehouse_assets.stream.declaration import Repair, Stream
from lakehouse_assets.stream.errors import InvalidStream, StreamBusy
from lakehouse_assets.stream.offsets import Consumed, properties
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


def repair(catalog: Catalog, stream: Stream, values: Sequence[str] | None = None) -> RepairResult:
    """Recompute the parts of a target that ``stream.repair.column`` names; None: all of it, from the source of now.

    A stream that has never run is caught up first. Raises InvalidStream if the stream has no repair, StreamBusy if the
    stream moved on at every attempt, and ChangesExpired if the source has lost the consumed snapshot.
    """
    runner = StreamRunner(catalog, stream)
    if stream.repair is None:
        raise InvalidStream(f"{stream.name} does not tell how it is repaired: declare Stream(repair=Repair(…))")
    runner.settle()
    if runner.consumed().identifier is None:
        runner.run_batch()
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return RepairAttempt(runner, stream.repair, values, attempt).run()
        except CommitConflict:
            time.sleep(PAUSE_S)
    raise StreamBusy(f"{stream.name}: the stream moved on during each of {ATTEMPTS} repairs; try again, or pause it")


@dataclass(frozen=True, slots=True, kw_only=True)
class Correction:
    """What a repair would do: the parts as they are and as they must be, and the rows that it writes."""

    current: pl.DataFrame
    wanted: pl.DataFrame
    written: pl.DataFrame
    snapshots: Mapping[str, int]
    overwrites: bool


class RepairAttempt:
    """One try to repair, at the offsets that the target has now."""

    def __init__(self, runner: StreamRunner, how: Repair, values: Sequence[str] | None, number: int) -> None:
        self._runner = runner
        self._stream = runner.stream
        self._target = runner.target
        self._how = how
        self._values = None if values is None else list(values)
        self._number = number
        self._offsets = runner.consumed()
        self._expected = runner.expected_offsets(self._offsets)

    def run(self) -> RepairResult:
        """Compute and commit. Raises OffsetConflict if the stream moved meanwhile."""
        return self.commit(self.correction())

    def correction(self) -> Correction:
        """Compute; nothing is written."""
        snapshots = self._snapshots()
        wanted = self._recomputed(snapshots)
        current = self._target.scan(fallback=False).filter(self._chosen()).collect()
        overwrites = self._how.mode == "overwrite" and self._values is not None
        written = wanted if overwrites else self._difference(current, wanted)
        return Correction(current=current, wanted=wanted, written=written, snapshots=snapshots, overwrites=overwrites)

    def commit(self, correction: Correction) -> RepairResult:
        """Commit what was computed. Raises OffsetConflict if the stream moved meanwhile."""
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
            partitions = [{self._how.column: value} for value in self._values or ()]
            branch.overwrite(correction.written, partitions=partitions)
        elif not correction.written.is_empty():
            branch.write(correction.written)

    def _snapshots(self) -> dict[str, int]:
        """The snapshot of each source that is recomputed from."""
        if self._values is not None:
            return {name: self._offsets.snapshot(name) or 0 for name in self._stream.sources}
        latest = {name: complete_snapshot(table) for name, table in self._runner.tables.items()}
        source = self._stream.source
        return {**latest, source: starting_snapshot(self._runner.tables[source]) or 0}

    def _recomputed(self, snapshots: Mapping[str, int]) -> pl.DataFrame:
        """The rows that the parts must hold, merged as the target merges them."""
        source = self._runner.tables[self._stream.source]
        predicate = None if self._values is None else self._how.source.is_in(self._values)
        rows = read_state(source, snapshots[self._stream.source], predicate)
        written = self._runner.transformed(rows, snapshots)
        if ROW_KIND in written.columns:
            written = written.filter(~pl.col(ROW_KIND).is_in(RETRACTIONS)).with_columns(pl.lit(INSERT).alias(ROW_KIND))
        return merged_rows(self._target, written).filter(self._chosen())

    def _chosen(self) -> pl.Expr:
        return pl.lit(value=True) if self._values is None else pl.col(self._how.column).is_in(self._values)

    def _difference(self, current: pl.DataFrame, wanted: pl.DataFrame) -> pl.DataFrame:
        """The changes that turn the target's rows into the wanted ones."""
        columns = list(self._target.schema.column_names)
        wrong = current.join(wanted, on=columns, how="anti", nulls_equal=True)
        right = wanted.join(current, on=columns, how="anti", nulls_equal=True)
        if self._target.schema.table_options.merge_engine is MergeEngine.AGGREGATION:
            return pl.concat([_of_kind(wrong, UPDATE_BEFORE), _of_kind(right, UPDATE_AFTER)])
        gone = wrong.join(right, on=list(self._target.schema.primary_keys), how="anti")
        return pl.concat([_of_kind(gone, DELETE), _of_kind(right, UPDATE_AFTER)])

    def _write(self, rows: pl.DataFrame, snapshots: Mapping[str, int]) -> Snapshot | None:
        if self._values is None:
            snapshot = self._target.write(
                rows,
                commit_user=self._stream.name,
                commit_identifier=self._offsets.next_identifier,
                properties=properties(snapshots),
                expected_offsets=self._expected,
            )
            self._runner.note_consumers(snapshots)
            return snapshot
        if rows.is_empty():
            return None
        return self._target.write(
            rows,
            commit_user=self._stream.repairer,
            commit_identifier=self._next_repair(),
            expected_offsets=self._expected,
        )

    def _overwrite(self, rows: pl.DataFrame) -> Snapshot | None:
        return self._target.overwrite(
            rows,
            partitions=[{self._how.column: value} for value in self._values or ()],
            commit_user=self._stream.repairer,
            commit_identifier=self._next_repair(),
            expected_offsets=self._expected,
        )

    def _next_repair(self) -> int:
        return Consumed(identifier=self._expected[self._stream.repairer]).next_identifier


def merged_rows(table: Table, rows: pl.DataFrame) -> pl.DataFrame:
    """What a table would hold if it held only these rows: merged by its own merge engine, in memory."""
    scratch = Catalog(f"memory://repair-{uuid.uuid4()}")
    scratch.create_database("scratch")
    options = {
        key: value
        for key, value in table.schema.options.items()
        if key in ("merge-engine", "bucket", "sequence.field") or key.startswith("fields.")
    }
    copy = scratch.create_table(
        "scratch.rows",
        {column.name: str(column.type) for column in table.schema.fields},
        primary_key=table.schema.primary_keys,
        options={**options, "bucket": "1"},
    )
    copy.write(rows)
    merged = copy.scan(fallback=False).collect()
    scratch.drop_database("scratch", cascade=True)
    return merged


def _of_kind(rows: pl.DataFrame, kind: str) -> pl.DataFrame:
    return rows.select(pl.lit(kind).alias(ROW_KIND), pl.all())

"""One table in two engines: this one and real Flink, which must tell the same of it."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from storage_engine import Catalog, Table
from tests.interop.compatibility import Seen
from tests.interop.flink.canonical import Row, canon, canon_changes, in_order
from tests.interop.flink.server import FlinkSession

Changes = list[tuple[str, Row]]


@dataclass(slots=True, kw_only=True)
class Both:
    """A warehouse that both engines have open."""

    ours: Catalog
    flink: FlinkSession
    seen: set[Seen] = field(default_factory=set)
    """What was found equal so far."""

    def create(self, name: str, columns: str, options: dict[str, str], *, by: str = "ours", rest: str = "") -> Shared:
        """Creates a table by one engine's DDL; ``rest`` is what stands before WITH."""
        pairs = ", ".join(f"'{key}' = '{value}'" for key, value in options.items())
        ddl = f"CREATE TABLE {name} ({columns}) {rest} WITH ({pairs})"
        if by == "ours":
            self.ours.execute(ddl)
        else:
            self.flink.sql(ddl)
        return Shared(both=self, name=name)


@dataclass(slots=True, kw_only=True)
class Shared:
    """One table, which either engine writes and compacts, and whose reads must agree."""

    both: Both
    name: str
    compared: int = 0
    """The snapshot up to which the changelogs were compared."""
    done: set[Seen] = field(default_factory=set)
    """Who has written and compacted it."""

    @property
    def table(self) -> Table:
        """The table in this engine."""
        return self.both.ours.table(self.name)

    def latest(self) -> int:
        """The latest snapshot, 0 for none."""
        snapshot = self.table.latest_snapshot()
        return 0 if snapshot is None else snapshot.id

    def sql(self, statement: str) -> None:
        """Runs a statement that writes the table in Flink."""
        self.done.add(Seen.PAIMON_WRITES)
        self.both.flink.sql(statement)

    def write(self, frame: pl.DataFrame, *, by: str) -> None:
        """Upserts a frame, which may have ``_row_kind``: "ours", by a "flink" job, or by "paimon" without a job."""
        self.done.add(Seen.WE_WRITE if by == "ours" else Seen.PAIMON_WRITES)
        if by == "ours":
            self.table.write(frame)
            return
        kinds = pl.lit("+I").alias("_row_kind")
        changes = canon_changes(frame if "_row_kind" in frame.columns else frame.with_columns(kinds))
        flink = self.both.flink
        (flink.write if by == "flink" else flink.write_core)(self.name, changes)

    def compact(self, *, by: str, full: bool = True) -> None:
        """Compacts the table: "ours", by a "flink" job, or by "paimon" without a job."""
        self.done.add(Seen.WE_COMPACT if by == "ours" else Seen.PAIMON_COMPACTS)
        if by == "ours":
            self.table.compact(full=full)
        elif by == "flink":
            self.both.flink.compact(self.name, full=full)
        else:
            self.both.flink.compact_core(self.name, full=full)

    def rows(self) -> list[Row]:
        """The rows, sorted, after comparing what the two engines read."""
        ours = canon(self.table.scan().collect())
        theirs = in_order(self.both.flink.read(self.name).rows)
        _check_same(ours, theirs, f"{self.name}: rows")
        self.both.seen |= self.done
        if {Seen.WE_WRITE, Seen.PAIMON_WRITES} <= self.done:
            self.both.seen.add(Seen.BOTH_WRITE)
        return ours

    def new_changes(self) -> Changes:
        """The changes since the last call, sorted, after comparing what the engines read of every snapshot."""
        return in_order(change for changes in self.changes_by_snapshot().values() for change in changes)

    def changes_by_snapshot(self) -> dict[int, Changes]:
        """The same, snapshot by snapshot."""
        last = self.latest()
        theirs: defaultdict[int, Changes] = defaultdict(list)
        for snapshot, kind, row in self.both.flink.changelog(self.name, self.compared, last):
            theirs[snapshot].append((kind, row))
        found: dict[int, Changes] = {}
        for snapshot in range(self.compared + 1, last + 1):
            ours = in_order(canon_changes(self.table.changes(snapshot - 1, snapshot).collect()))
            _check_same(ours, in_order(theirs[snapshot]), f"{self.name}: changes of snapshot {snapshot}")
            found[snapshot] = ours
            self.both.seen |= {Seen.CHANGES} if ours else set()
        self.compared = last
        return found


def _check_same(ours: list[Any], theirs: list[Any], what: str) -> None:
    if ours != theirs:
        here = [row for row in ours if row not in theirs]
        there = [row for row in theirs if row not in ours]
        counts = f"{len(ours)} rows here, {len(theirs)} in Paimon"
        raise AssertionError(f"{what} differ ({counts}):\n  here alone: {here}\n  in Paimon alone: {there}")

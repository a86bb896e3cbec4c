"""Partitions that a branch has not, read from another branch (``scan.fallback-branch``).

Spec: "Batch Reading from Fallback Branch" of Apache Paimon: a stream keeps one branch fresh, a batch corrects the
other, and a batch read takes each partition from the corrected branch if it is there. A partition that the branch has is
never filled up: as of 1.3.1 Paimon asks whether a file of it is left after pruning, which shows a partition of the
other branch where the predicate excludes all files of one's own.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

import polars as pl

from storage_engine.errors import InvalidOption, SnapshotNotFound
from storage_engine.read.plan import Plan, plan_scan
from storage_engine.read.time_travel import Moment, at_or_before
from storage_engine.spec.schema import TableSchema
from storage_engine.spec.snapshot import Snapshot
from storage_engine.store.live_files import LiveFiles
from storage_engine.store.paths import POSTPONE_BUCKET
from storage_engine.store.table_store import TableStore

OPTION = "scan.fallback-branch"


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanPart:
    """What one branch gives to a scan of a table: a snapshot, without the partitions that another part has."""

    store: TableStore
    schema: TableSchema
    snapshot: Snapshot | None
    table: str
    buckets: Collection[int] | None = None
    read_optimized: bool = False
    without: ScanPart | None = None

    def plan(self, predicate: pl.Expr | None) -> Plan:
        """The files that a read needs."""
        live = LiveFiles(self.store, self.schema)
        plan = plan_scan(
            live, self.schema, self.snapshot, predicate, buckets=self.buckets, read_optimized=self.read_optimized
        )
        if self.without is None:
            return plan
        theirs = self.without.partitions()
        splits = tuple(split for split in plan.splits if split.bucket.partition not in theirs)
        read = sum(len(split.files) for split in splits)
        return replace(plan, splits=splits, files_read=read, files_pruned=plan.files_read + plan.files_pruned - read)

    def partitions(self) -> set[bytes]:
        """The partitions that have rows here, whatever a predicate says."""
        entries = LiveFiles(self.store, self.schema).entries(self.snapshot)
        return {entry.partition for entry in entries if entry.bucket != POSTPONE_BUCKET}


def with_fallback(part: ScanPart, moment: Moment) -> list[ScanPart]:
    """The part, and the one that fills it up if the option asks for it: as the other branch was at that time.

    Raises InvalidOption for a branch that does not exist, or has other columns, partition keys or primary keys.
    """
    name = part.schema.table_options.scan_fallback_branch
    if name is None or name == part.store.paths.branch:
        return [part]
    store = part.store.of_branch(name)
    schema = store.schemas.latest()
    if schema is None:
        raise InvalidOption(
            f"table {part.table}: there is no branch {name!r}, which the option {OPTION!r} names:"
            " create the branch, or reset the option"
        )
    _check_alike(part, schema, name)
    return [
        part,
        replace(
            part,
            store=store,
            schema=schema,
            snapshot=_snapshot_beside(store, part, moment),
            table=f"{part.table}$branch_{name}",
            without=part,
        ),
    ]


def _check_alike(part: ScanPart, behind: TableSchema, name: str) -> None:
    for what, ours, theirs in (
        ("columns", _columns(part.schema), _columns(behind)),
        ("partition keys", part.schema.partition_keys, behind.partition_keys),
        ("primary key", part.schema.primary_keys or behind.primary_keys, behind.primary_keys),
    ):
        if ours != theirs:
            raise InvalidOption(
                f"table {part.table}: the branch {name!r}, which the option {OPTION!r} names, has the {what}"
                f" {', '.join(theirs) or 'none'}; the table has {', '.join(ours) or 'none'}: change one, or reset the option"
            )


def _columns(schema: TableSchema) -> tuple[str, ...]:
    return tuple(f"{name} {dtype}" for name, dtype in schema.polars_schema.items())


def _snapshot_beside(store: TableStore, part: ScanPart, moment: Moment) -> Snapshot | None:
    if part.snapshot is None or not moment.given:
        return store.snapshots.latest()
    try:
        return at_or_before(store, part.snapshot.time_millis, table=part.table)
    except SnapshotNotFound:
        return None

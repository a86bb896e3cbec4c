"""How a dimension has changed between two snapshots, as far as a cache needs to know."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from storage_engine.errors import SnapshotNotFound
from storage_engine.options import ChangelogProducer
from storage_engine.read.changes import ROW_KIND
from storage_engine.spec.snapshot import CommitKind, Snapshot
from storage_engine.table import Table

_WAITS = (ChangelogProducer.LOOKUP, ChangelogProducer.FULL_COMPACTION)
_GONE = ("-U", "-D")
REREAD_KEYS = 200_000
"""Keys up to which the rows of changed keys are read again rather than the whole table."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangedRows:
    """``keys``: primary keys of rows that have changed; ``rows``: what stands there now."""

    keys: pl.DataFrame
    rows: pl.DataFrame


def as_it_is(table: Table, snapshot: int) -> Snapshot:
    """A snapshot as it is now: a rollback may have given its number to another one. Raises what ``SnapshotStore.get`` does."""
    table.latest_snapshot()  # finds out about rollbacks
    return table.store.snapshots.get(snapshot)


def can_follow(table: Table, known: Snapshot | None, snapshot: Snapshot) -> bool:
    """Whether a snapshot is a later state of what is known."""
    if known is None or known.id >= snapshot.id:
        return False
    try:
        return table.store.snapshots.get(known.id) == known
    except SnapshotNotFound:
        return False


def changed_rows(table: Table, after: int, until: int, columns: Sequence[str]) -> ChangedRows | None:
    """The rows that differ, ``columns`` of them (the primary key among them); None: read the table as a whole.

    By the changelog where there is one; else the keys of new files are read again at ``until``.
    """
    keys = list(table.schema.primary_keys)
    if not keys:
        return None
    changes = _changes(table, after, until)
    if changes is None:
        return None
    if _is_exact(table, until):
        last = changes.unique(keys, keep="last", maintain_order=True)
        rows = last.filter(~pl.col(ROW_KIND).is_in(_GONE)).select(columns)
        return ChangedRows(keys=last.select(keys), rows=rows)
    changed = changes.select(keys).unique()
    if changed.height > REREAD_KEYS:
        return None
    return ChangedRows(keys=changed, rows=table.lookup(changed, columns=columns, snapshot=until))


def changed_keys(table: Table, after: int, until: int, on: Sequence[str]) -> pl.DataFrame | None:
    """Values of ``on``, before and after, of the rows that have changed; None: any may have.

    Without a changelog nothing tells the value before, so ``on`` must be columns of the primary key then.
    """
    told = _is_exact(table, until) or set(on) <= set(table.schema.primary_keys)
    changes = _changes(table, after, until) if told and table.schema.primary_keys else None
    return None if changes is None else changes.select(on).unique()


def _changes(table: Table, after: int, until: int) -> pl.DataFrame | None:
    """Changes of a range; None if it is gone, or if something in it was replaced as a whole, which no file tells."""
    try:
        if any(found.commit_kind is CommitKind.OVERWRITE for found in table.store.snapshots.range(after, until)):
            return None
        delta = [] if _is_exact(table, until) else [table.changes(after, until, mode="delta")]
        logged = [] if _producer(table) is ChangelogProducer.NONE else [table.changes(after, until, mode="changelog")]
        return pl.concat([*logged, *delta]).collect()
    except SnapshotNotFound:
        return None


def _is_exact(table: Table, until: int) -> bool:
    """Whether the changelog up to a snapshot tells all of its rows."""
    producer = _producer(table)
    if producer is ChangelogProducer.NONE:
        return False
    return producer not in _WAITS or not _waits(table.store.snapshots.get(until))


def _waits(snapshot: Snapshot) -> bool:
    return snapshot.commit_kind is CommitKind.APPEND and snapshot.delta_record_count > 0


def _producer(table: Table) -> ChangelogProducer:
    return table.schema.table_options.changelog_producer

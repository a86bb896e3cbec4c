"""A table as the source of a stream: what is new in it, and the rows of that.

A commit of a table with a changelog producer is two snapshots: APPEND shows the new rows, COMPACT brings their
changelog. A stream stops only at *complete* snapshots, where nothing waits for its changelog, or within one that is too
large for a batch, at a place that its files give.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import polars as pl

from lakehouse_assets.stream.declaration import Bounds
from lakehouse_assets.stream.errors import ChangesExpired, SourceRewound
from lakehouse_assets.stream.place import Place
from storage_engine import Snapshot, Table
from storage_engine.errors import CommitConflict, SnapshotExpired, SnapshotNotFound
from storage_engine.options import ChangelogProducer
from storage_engine.read.portions import Portion
from storage_engine.spec.manifest import FileKind
from storage_engine.spec.snapshot import CommitKind

ROW_KIND = "_row_kind"
INSERT, UPDATE_BEFORE, UPDATE_AFTER, DELETE = "+I", "-U", "+U", "-D"
RETRACTIONS = (UPDATE_BEFORE, DELETE)
UNBOUNDED = Bounds(max_snapshots=2**31, max_rows=2**62, max_bytes=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pending:
    """What a reader finds in ``(after, until]`` of a table.

    ``rows``: changes in it; ``until`` equals ``after`` if there is no complete snapshot yet. ``overwritten``: a
    partition was replaced as a whole, which no changelog tells. ``committed_ms``: when ``until`` was committed.
    ``file_bytes``: of the files that hold the changes, 0 if nobody asked for it; ``portion``: what is read of them, None: all.
    """

    after: int
    until: int
    rows: int = 0
    overwritten: bool = False
    committed_ms: int | None = None
    file_bytes: int = 0
    portion: Portion | None = None

    def exceeds(self, bounds: Bounds) -> bool:
        """Whether it is more than one batch may read."""
        return self.rows > bounds.max_rows or (bounds.max_bytes is not None and self.file_bytes > bounds.max_bytes)

    def __bool__(self) -> bool:
        return self.rows > 0 or self.overwritten


def has_changelog(table: Table) -> bool:
    """Whether the table keeps changelog files (else its new rows are the changes)."""
    return table.schema.table_options.changelog_producer is not ChangelogProducer.NONE


def compaction_brings_changelog(table: Table) -> bool:
    """Whether new rows get their changelog only when they are compacted."""
    producer = table.schema.table_options.changelog_producer
    return producer in (ChangelogProducer.LOOKUP, ChangelogProducer.FULL_COMPACTION)


def is_complete(snapshot: Snapshot, *, by_compaction: bool) -> bool:
    """Whether nothing of the snapshot waits for its changelog."""
    return not by_compaction or snapshot.commit_kind is not CommitKind.APPEND or snapshot.delta_record_count == 0


def changed_rows(snapshot: Snapshot, *, changelog: bool) -> int:
    """Number of changes that readers find in a snapshot."""
    if changelog:
        return snapshot.changelog_record_count
    return snapshot.delta_record_count if snapshot.commit_kind is CommitKind.APPEND else 0


def changed_bytes(table: Table, snapshot: Snapshot, *, changelog: bool) -> int:
    """Bytes of the files in which readers find a snapshot's changes."""
    if not changed_rows(snapshot, changelog=changelog):
        return 0
    name, size = snapshot.delta_manifest_list, snapshot.delta_manifest_list_size
    if changelog:
        name, size = snapshot.changelog_manifest_list or name, snapshot.changelog_manifest_list_size
    manifests = table.store.manifests(table.schema)
    entries = (entry for meta in manifests.read_list(name, size) for entry in manifests.read(meta))
    return sum(entry.file.file_size for entry in entries if entry.kind is FileKind.ADD)


def pending(table: Table, after: int, *, bounds: Bounds, upto: int | None = None) -> Pending:
    """What is new in a table after a snapshot, within bounds and not beyond ``upto``.

    Raises ChangesExpired and SourceRewound.
    """
    latest = table.latest_snapshot()
    last = 0 if latest is None else latest.id
    if last < after:
        raise SourceRewound(
            f"table {table.name} is at snapshot {last}, but {after} was consumed: it was rolled back or made again;"
            " repair the whole target"
        )
    if upto is not None:
        last = min(last, upto)
    changelog, by_compaction = has_changelog(table), compaction_brings_changelog(table)
    found = Pending(after=after, until=after)
    rows, overwritten, size = 0, False, 0
    with _expiry_told(table, after):
        for snapshot in table.store.snapshots.range(after, last):
            rows += changed_rows(snapshot, changelog=changelog)
            overwritten |= snapshot.commit_kind is CommitKind.OVERWRITE
            size += 0 if bounds.max_bytes is None else changed_bytes(table, snapshot, changelog=changelog)
            if is_complete(snapshot, by_compaction=by_compaction):
                more = Pending(
                    after=after,
                    until=snapshot.id,
                    rows=rows,
                    overwritten=overwritten,
                    committed_ms=snapshot.time_millis,
                    file_bytes=size,
                )
                if found and more.exceeds(bounds):
                    break
                found = more
                if rows >= bounds.max_rows or snapshot.id - after >= bounds.max_snapshots:
                    break
                if bounds.max_bytes is not None and size >= bounds.max_bytes:
                    break
    return found


def read_changes(table: Table, found: Pending, columns: Sequence[str] | None = None) -> pl.DataFrame:
    """The changes of ``(after, until]`` with ``_row_kind``, in commit order; of some columns, None: all.

    After an overwrite, what leaves the key and these columns as they were is no change, and what goes away comes first.
    Raises ChangesExpired.
    """
    with _expiry_told(table, found.after):
        if found.portion is not None:
            changes = found.portion.read()
            return changes if columns is None else changes.select(ROW_KIND, *columns)
        if found.overwritten:
            return _difference(table, found, columns)
        return table.changes(found.after, found.until, columns=columns).collect()


def gone_first(changes: pl.DataFrame) -> pl.DataFrame:
    """Changes with those first that take something away, if they tell their kind."""
    if ROW_KIND not in changes.columns:
        return changes
    goes = changes.get_column(ROW_KIND).is_in(RETRACTIONS)
    return pl.concat([changes.filter(goes), changes.filter(~goes)]) if goes.any() else changes


def read_start(table: Table, found: Pending, columns: Sequence[str] | None = None) -> pl.DataFrame:
    """The rows that a new reader begins with, or a portion of them, as inserts. Raises ChangesExpired."""
    if found.portion is None:
        return read_state(table, found.until, columns=columns)
    names = table.schema.column_names if columns is None else columns
    with _expiry_told(table, found.until):
        return found.portion.read().select(pl.lit(INSERT).alias(ROW_KIND), *names)


def portions_of(table: Table, place: Place, columns: list[str] | None = None) -> list[Portion]:
    """The portions in which a large snapshot is consumed, the same at any time; of some columns, None: all.

    Raises ChangesExpired.
    """
    rows, size = place.max_rows, place.max_bytes
    with _expiry_told(table, place.after):
        if place.start:
            return table.scan_portions(place.until, max_rows=rows, max_bytes=size, columns=columns, ranges=place.ranges)
        if table.name in place.compared:
            return table.difference_portions(place.after, place.until, max_rows=rows, max_bytes=size, columns=columns)
        return table.change_portions(
            place.after, place.until, max_rows=rows, max_bytes=size, columns=columns, ranges=place.ranges
        )


def read_in_portions(table: Table, place: Place, columns: list[str]) -> Iterator[pl.DataFrame]:
    """What ``portions_of`` gives, one after the other, with the key and perhaps other columns. Raises ChangesExpired."""
    for portion in portions_of(table, place, columns):
        with _expiry_told(table, place.after):
            rows = portion.read()
        yield rows


def read_state(
    table: Table, snapshot: int, predicate: pl.Expr | None = None, columns: Sequence[str] | None = None
) -> pl.DataFrame:
    """The rows at a snapshot as inserts, of some columns, None: all; 0 is a table without rows. Raises ChangesExpired."""
    with _expiry_told(table, snapshot):
        rows = _state(table, snapshot)
        chosen = rows if predicate is None else rows.filter(predicate)
        names = table.schema.column_names if columns is None else columns
        return chosen.select(pl.lit(INSERT).alias(ROW_KIND), *names).collect()


def complete_snapshot(table: Table) -> int:
    """The newest complete snapshot; 0 if there is none."""
    waits = compaction_brings_changelog(table)
    complete = (found.id for found in table.store.snapshots.backwards() if is_complete(found, by_compaction=waits))
    return next(complete, 0)


def starting_snapshot(table: Table) -> int | None:
    """The newest snapshot whose rows are all covered by changelogs up to it: where a new reader may start.

    None if there is none yet: the table has no rows, or its writer has not compacted them.
    """
    if not compaction_brings_changelog(table):
        latest = table.latest_snapshot()
        return None if latest is None else latest.id
    settle(table)
    for snapshot in table.store.snapshots.backwards():
        if table.files(snapshot.id).filter(pl.col("level") < _lowest_covered_level(table)).is_empty():
            return snapshot.id
    return None


def settle(table: Table) -> Snapshot | None:
    """Finish what a killed writer left half done; None if there is nothing, or somebody is at it."""
    try:
        return table.settle()
    except CommitConflict:
        return None


def _lowest_covered_level(table: Table) -> int:
    """The lowest level whose rows all have had their changelog."""
    options = table.schema.table_options
    if options.changelog_producer is ChangelogProducer.LOOKUP:
        return 1
    return (options.num_levels or options.compaction_trigger + 1) - 1


def _difference(table: Table, found: Pending, columns: Sequence[str] | None) -> pl.DataFrame:
    """What differs between two states, as changes: exact after an overwrite too, but files that one state lacks are read."""
    names = list(table.schema.column_names if columns is None else columns)
    portions = table.difference_portions(found.after, found.until, max_rows=UNBOUNDED.max_rows, columns=names)
    none = table.changes(found.until, found.until, columns=names).collect()
    return gone_first(pl.concat([none, *(portion.read() for portion in portions)]))


def _state(table: Table, snapshot: int) -> pl.LazyFrame:
    if snapshot == 0:
        return pl.LazyFrame(schema=table.schema.polars_schema)
    return table.scan(snapshot=snapshot, fallback=False)


@contextmanager
def _expiry_told(table: Table, after: int) -> Iterator[None]:
    try:
        yield
    except SnapshotNotFound as cause:
        if not isinstance(cause, SnapshotExpired):
            raise
        raise ChangesExpired(
            f"table {table.name}: snapshots after {after}, which were not consumed yet, have expired ({cause});"
            " repair the whole target, and let the source keep snapshots for longer ('snapshot.time-retained')"
        ) from cause

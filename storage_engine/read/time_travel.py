"""Which snapshot a read is about.

Spec: "Time Travel" of Apache Paimon: by snapshot, tag, time or watermark.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from storage_engine.errors import InvalidInput, SnapshotNotFound
from storage_engine.spec.snapshot import Snapshot
from storage_engine.store.table_store import TableStore


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """Where in a table's history to read: at most one is given, none for the newest rows.

    ``timestamp`` and ``watermark`` are epoch milliseconds or a datetime (UTC unless it has a zone).
    """

    snapshot: int | None = None
    tag: str | None = None
    timestamp: int | datetime | None = None
    watermark: int | datetime | None = None

    @property
    def given(self) -> tuple[object, ...]:
        """What is given."""
        return tuple(value for value in (self.snapshot, self.tag, self.timestamp, self.watermark) if value is not None)


def snapshot_at(store: TableStore, moment: Moment, *, table: str) -> Snapshot | None:
    """The snapshot to read; None for a table that was never written.

    A time is that of the last snapshot at or before it, a watermark that of the first snapshot whose watermark has
    reached it. Raises InvalidInput if several are given, SnapshotNotFound, SnapshotExpired, TagNotFound.
    """
    if len(moment.given) > 1:
        raise InvalidInput("give one of snapshot, tag, timestamp and watermark")
    if moment.tag is not None:
        return store.tags.get(moment.tag)
    latest = store.snapshots.latest()  # finds out about rollbacks: an id may be another snapshot's now
    if moment.snapshot is not None:
        return store.snapshots.get(moment.snapshot)
    if moment.timestamp is not None:
        return at_or_before(store, epoch_millis(moment.timestamp), table=table)
    if moment.watermark is not None:
        return _at_watermark(store, epoch_millis(moment.watermark), table=table)
    return latest


def at_or_before(store: TableStore, millis: int, *, table: str) -> Snapshot:
    """The last snapshot that was committed at or before a time. Raises SnapshotNotFound."""
    found = first_snapshot(store, lambda snapshot: snapshot.time_millis > millis)
    ids = store.snapshots.ids()
    before = [snapshot_id for snapshot_id in ids if found is None or snapshot_id < found.id]
    if not before:
        raise SnapshotNotFound(f"table {table} has no snapshot at or before {_shown(millis)}")
    return store.snapshots.get(before[-1])


def first_snapshot(store: TableStore, is_reached: Callable[[Snapshot], bool]) -> Snapshot | None:
    """The first snapshot for which something holds that then holds for all later ones; None if it holds for none."""
    ids = store.snapshots.ids()
    low, high = 0, len(ids)
    while low < high:
        middle = (low + high) // 2
        if is_reached(store.snapshots.get(ids[middle])):
            high = middle
        else:
            low = middle + 1
    return store.snapshots.get(ids[low]) if low < len(ids) else None


def epoch_millis(moment: int | datetime) -> int:
    """Epoch milliseconds of a moment; a datetime without a zone is UTC."""
    if isinstance(moment, datetime):
        aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return int(aware.timestamp() * 1000)
    return moment


def _at_watermark(store: TableStore, millis: int, *, table: str) -> Snapshot:
    # A watermark never goes back, and who sets none carries the last one on.
    found = first_snapshot(store, lambda snapshot: (snapshot.watermark or -(1 << 63)) >= millis)
    if found is None:
        raise SnapshotNotFound(f"table {table} has no snapshot whose watermark has reached {_shown(millis)}")
    return found


def _shown(millis: int) -> str:
    try:
        return f"{datetime.fromtimestamp(millis / 1000, UTC).isoformat()} ({millis})"
    except (ValueError, OverflowError, OSError):
        return str(millis)

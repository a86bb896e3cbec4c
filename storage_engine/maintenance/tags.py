"""Tags that do not race with expiry, and the removal of what only a tag kept.

Spec: "Manage Tags" of Apache Paimon.
"""

from __future__ import annotations

from datetime import datetime

from storage_engine.errors import SnapshotExpired, SnapshotNotFound
from storage_engine.maintenance.references import (
    data_file_paths,
    data_metas,
    delete_metadata,
    index_names,
    live_names,
    manifest_names,
    names_needed_by_other_branches,
    statistics_names,
)
from storage_engine.spec.manifest import live_entries
from storage_engine.spec.schema import TableSchema
from storage_engine.spec.snapshot import Snapshot
from storage_engine.store.table_store import TableStore
from storage_engine.store.tags import Tag


def create_tag(
    store: TableStore,
    name: str,
    snapshot_id: int | None = None,
    *,
    time_retained_ms: int | None = None,
    now: datetime | None = None,
) -> Tag:
    """Name a snapshot (default: the latest), which keeps all that it needs. ``now`` is local wall-clock time.

    Raises AlreadyExists, SnapshotNotFound or SnapshotExpired, InvalidInput for a name that cannot be a file
    name.
    """
    store.snapshots.forget()
    snapshot = store.snapshots.latest() if snapshot_id is None else store.snapshots.get(snapshot_id)
    if snapshot is None:
        raise SnapshotNotFound(f"{store.paths.branch_root}: there is no snapshot to tag yet")
    create_time = None if time_retained_ms is None else (now or _local_now())
    tag = store.tags.create(name, snapshot, create_time=create_time, time_retained_ms=time_retained_ms)
    # Expiry removes the snapshot before it looks for tags: a snapshot that is still there saw this tag in
    # time.
    if not store.snapshots.exists(snapshot.id):
        store.tags.delete(name)
        raise SnapshotExpired(f"{store.paths.branch_root}: snapshot {snapshot.id} was expired while it was tagged")
    return tag


def delete_tag(store: TableStore, schema: TableSchema, name: str) -> None:
    """Remove a tag, and the files that nothing but this tag kept. Raises TagNotFound."""
    store.snapshots.forget()
    tag = store.tags.tag(name)
    store.tags.delete(name)
    if store.snapshots.exists(tag.snapshot.id):
        return
    manifests = store.manifests(schema)
    kept = names_needed_by_other_branches(store, manifests)
    for neighbour in _neighbours(store, tag.snapshot.id):
        kept |= live_names(manifests, neighbour) | manifest_names(manifests, neighbour)
        kept |= index_names(manifests, neighbour) | statistics_names(neighbour)
    for entry in live_entries(manifests.read_all(data_metas(manifests, tag.snapshot))):
        if entry.file.file_name not in kept:
            for path in data_file_paths(store, schema, entry):
                store.io.delete(path)
    delete_metadata(store, manifests, [tag.snapshot], kept)


def expire_tags(store: TableStore, schema: TableSchema, *, now: datetime | None = None) -> list[str]:
    """Remove the tags whose time to live is over; returns their names. ``now`` is local wall-clock time."""
    moment = now or _local_now()
    expired = [tag.name for tag in store.tags.list() if tag.is_expired(moment)]
    for name in expired:
        delete_tag(store, schema, name)
    return expired


def _local_now() -> datetime:
    return datetime.now()  # noqa: DTZ005 - a tag's time is the local wall clock, without a zone


def _neighbours(store: TableStore, snapshot_id: int) -> list[Snapshot]:
    """The nearest tags on both sides, and the earliest snapshot.

    A file is live from one commit to another without a gap, so what is further away cannot hold a file of
    this one that these do not hold.
    """
    snapshots = [tag.snapshot for tag in store.tags.list()]
    below = [snapshot for snapshot in snapshots if snapshot.id <= snapshot_id][-1:]
    above = [snapshot for snapshot in snapshots if snapshot.id > snapshot_id][:1]
    earliest = store.snapshots.earliest_id()
    return below + above + ([] if earliest is None else [store.snapshots.get(earliest)])

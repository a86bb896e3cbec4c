"""Rollback: an older snapshot, or a tagged one, becomes the latest again.

Spec: "Rollback" of Apache Paimon. Writers and streaming readers should be stopped: later commits use the ids
again. Files of the snapshots that go stay until orphan files are removed.
"""

from __future__ import annotations

from storage_engine.errors import CommitConflict, SnapshotNotFound
from storage_engine.spec.snapshot import Snapshot
from storage_engine.store.table_store import TableStore

_MOST_ROUNDS = 100


def rollback_to(store: TableStore, snapshot_or_tag: int | str) -> Snapshot:
    """Make a snapshot (by id) or a tag (by name) the latest; returns it.

    Snapshots, tags and long-lived changelogs after it go. Raises SnapshotNotFound, SnapshotExpired,
    TagNotFound; CommitConflict if a writer kept on committing.
    """
    store.snapshots.forget()
    if isinstance(snapshot_or_tag, str):
        target = store.tags.get(snapshot_or_tag)
        _restore(store, target)
    else:
        target = store.snapshots.get(snapshot_or_tag)
    store.snapshots.write_latest_hint(target.id)
    _remove_later_snapshots(store, target.id)
    for tag in store.tags.list():
        if tag.snapshot.id > target.id:
            store.tags.delete(tag.name)
    remove_later_changelogs(store, target.id)
    store.snapshots.forget()
    return target


def remove_later_changelogs(store: TableStore, snapshot_id: int) -> None:
    """Remove the long-lived changelogs after a snapshot: its successors will be others."""
    later = [changelog_id for changelog_id in store.snapshots.changelog_ids() if changelog_id > snapshot_id]
    for changelog_id in later:
        store.snapshots.delete_changelog(changelog_id)
    if later:
        store.snapshots.write_changelog_hints()


def _restore(store: TableStore, target: Snapshot) -> None:
    """Bring back the snapshot of a tag whose own file was expired."""
    try:
        standing = store.snapshots.get(target.id)
    except SnapshotNotFound:
        if store.snapshots.restore(target):
            return
        standing = store.snapshots.get(target.id)
    if standing != target:
        raise CommitConflict(
            f"{store.paths.branch_root}: snapshot {target.id} is not the one that was tagged; the table was rolled back"
        )


def _remove_later_snapshots(store: TableStore, target_id: int) -> None:
    for _ in range(_MOST_ROUNDS):
        later = [snapshot_id for snapshot_id in store.snapshots.ids() if snapshot_id > target_id]
        if not later:
            return
        for snapshot_id in reversed(later):
            store.snapshots.delete(snapshot_id)
    raise CommitConflict(f"{store.paths.branch_root}: a writer keeps on committing; stop it and roll back again")

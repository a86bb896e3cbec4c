"""Tags that do not race with expiry, and the removal of what only a tag kept.

Spec: "Manage Tags" of Apache Paimon.
"""

from __future__ import annotations

from datetime import datetime

from storage_engine.errors import SnapshotExpired, SnapshotNotFound, TagNotFound
from storage_engine.lifecycle_options import LifecycleOptions
from storage_engine.maintenance.marks import write_mark
from storage_engine.maintenance.references import (
    changelog_names,
    data_file_paths,
    data_metas,
    delete_metadata,
    index_names,
    live_names,
    long_lived_changelogs,
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
    schema: TableSchema | None = None,
    time_retained_ms: int | None = None,
    now: datetime | None = None,
) -> Tag:
    """Name a snapshot (default: the latest), which keeps all that it needs. ``now`` is local wall-clock time.

    A schema's options say how long a tag lives that is not told, and whether it gets a success file. Raises
    AlreadyExists, SnapshotNotFound or SnapshotExpired, InvalidInput for a name that cannot be a file name.
    """
    options = LifecycleOptions() if schema is None else LifecycleOptions.parse(schema.options)
    tag = _tag_of(store, name, snapshot_id, options, time_retained_ms, now)
    store.tags.create(name, tag.snapshot, create_time=tag.create_time, time_retained_ms=tag.time_retained_ms)
    # Expiry removes the snapshot before it looks for tags: a snapshot that is still there saw this tag in
    # time.
    if not store.snapshots.exists(tag.snapshot.id):
        store.tags.delete(name)
        raise _expired_meanwhile(store, tag)
    if options.tag_success_file:
        write_mark(store, store.paths.tag_success_file(name))
    return tag


def _tag_of(
    store: TableStore,
    name: str,
    snapshot_id: int | None,
    options: LifecycleOptions,
    time_retained_ms: int | None,
    now: datetime | None = None,
) -> Tag:
    """A tag that is not written yet. Raises SnapshotNotFound or SnapshotExpired."""
    store.snapshots.forget()
    snapshot = store.snapshots.latest() if snapshot_id is None else store.snapshots.get(snapshot_id)
    if snapshot is None:
        raise SnapshotNotFound(f"{store.paths.branch_root}: there is no snapshot to tag yet")
    time_retained_ms = options.tag_time_retained_ms if time_retained_ms is None else time_retained_ms
    create_time = None if time_retained_ms is None else (now or _local_now())
    return Tag(name=name, snapshot=snapshot, create_time=create_time, time_retained_ms=time_retained_ms)


def _expired_meanwhile(store: TableStore, tag: Tag) -> SnapshotExpired:
    return SnapshotExpired(f"{store.paths.branch_root}: snapshot {tag.snapshot.id} was expired while it was tagged")


def replace_tag(
    store: TableStore,
    schema: TableSchema,
    name: str,
    snapshot_id: int | None = None,
    *,
    time_retained_ms: int | None = None,
) -> Tag:
    """Let a tag name another snapshot (default: the latest), or live longer: in every moment there is one or the other.

    Raises TagNotFound and what ``create_tag`` raises.
    """
    if not store.tags.exists(name):
        raise TagNotFound(f"{store.paths.tags}: there is no tag {name!r} to replace; create it")
    options, old = LifecycleOptions.parse(schema.options), store.tags.tag(name)
    tag = _tag_of(store, name, snapshot_id, options, time_retained_ms)
    store.tags.write(tag)
    if not store.snapshots.exists(tag.snapshot.id):
        store.tags.write(old)
        raise _expired_meanwhile(store, tag)
    if options.tag_success_file:
        write_mark(store, store.paths.tag_success_file(name))
    _remove_what_it_kept(store, schema, old)
    return tag


def rename_tag(store: TableStore, name: str, new_name: str) -> Tag:
    """Give a tag another name. Raises TagNotFound, AlreadyExists."""
    tag = store.tags.tag(name)
    renamed = store.tags.create(
        new_name, tag.snapshot, create_time=tag.create_time, time_retained_ms=tag.time_retained_ms
    )
    store.tags.delete(name)
    return renamed


def delete_tag(store: TableStore, schema: TableSchema, name: str) -> None:
    """Remove a tag, and the files that nothing but this tag kept. Raises TagNotFound."""
    store.snapshots.forget()
    tag = store.tags.tag(name)
    store.tags.delete(name)
    store.io.delete(store.paths.tag_success_file(name))
    _remove_what_it_kept(store, schema, tag)


def _remove_what_it_kept(store: TableStore, schema: TableSchema, tag: Tag) -> None:
    """Remove the files that nothing but a tag kept which is gone."""
    if store.snapshots.exists(tag.snapshot.id):
        return
    manifests = store.manifests(schema)
    kept = names_needed_by_other_branches(store, manifests)
    for changelog in long_lived_changelogs(store):
        kept |= changelog_names(manifests, changelog)
    for neighbour in _neighbours(store, tag.snapshot.id):
        kept |= live_names(manifests, neighbour) | manifest_names(manifests, neighbour)
        kept |= index_names(manifests, neighbour) | statistics_names(neighbour)
    for entry in live_entries(manifests.read_all(data_metas(manifests, tag.snapshot))):
        if entry.file.file_name not in kept:
            for path in data_file_paths(store, schema, entry):
                store.io.delete(path)
    delete_metadata(store, schema, manifests, [tag.snapshot], kept)


def expire_tags(
    store: TableStore, schema: TableSchema, *, older_than: datetime | None = None, now: datetime | None = None
) -> list[str]:
    """Remove the tags whose time to live is over; returns their names. ``now`` is local wall-clock time.

    ``older_than`` (local too): of the tags that have a time to live, those that were made before go instead.
    """
    moment = now or _local_now()
    expired = [
        tag.name
        for tag in store.tags.list()
        if (tag.is_expired(moment) if older_than is None else tag.create_time and tag.create_time < older_than)
    ]
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

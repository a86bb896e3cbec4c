"""Expiry of changelogs that outlived their snapshots.

Spec: "Changelog lifecycle decoupled" of Apache Paimon 1.3.1; the arithmetic is that of snapshots, and the newest of these
changelogs always stays. As with snapshots, the changelog's own file goes first, its files after it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress

from storage_engine.errors import FileMissing, SnapshotExpired, SnapshotNotFound
from storage_engine.lifecycle_options import LifecycleOptions
from storage_engine.maintenance.expire import Retention, nearest_below
from storage_engine.maintenance.references import (
    changelog_files,
    changelog_manifest_names,
    delete_data,
    delta_metas,
    file_names,
    live_names,
    names_needed_by_other_branches,
)
from storage_engine.spec.manifest import FileKind, FileSource, ManifestEntry
from storage_engine.spec.schema import TableSchema
from storage_engine.spec.snapshot import Snapshot
from storage_engine.store.manifests import ManifestStore
from storage_engine.store.table_store import TableStore
from storage_engine.store.tags import Tag


def expire_changelogs(
    store: TableStore,
    schema: TableSchema,
    *,
    retain_max: int | None = None,
    retain_min: int | None = None,
    older_than_millis: int | None = None,
    max_deletes: int | None = None,
    delete_all: bool = False,
    now_millis: int | None = None,
) -> int:
    """Expire long-lived changelogs by the table's options, or by these values instead; returns how many went.

    Numbers count from the latest snapshot; ``older_than_millis`` is a moment, epoch milliseconds. ``delete_all``: all of
    them. Raises InvalidInput, StorageUnavailable, CorruptFile.
    """
    store.snapshots.forget()
    ids, latest = store.snapshots.changelog_ids(), store.snapshots.latest_id()
    if not ids or latest is None:
        return 0
    now = int(time.time() * 1000) if now_millis is None else now_millis
    options, lifecycle = schema.table_options, LifecycleOptions.parse(schema.options)
    retention = Retention.of(
        retain_min=retain_min,
        retain_max=retain_max,
        older_than_millis=older_than_millis,
        max_deletes=max_deletes,
        usual=Retention(
            retain_min=lifecycle.changelog_num_retained_min or options.snapshot_num_retained_min,
            retain_max=lifecycle.changelog_num_retained_max or options.snapshot_num_retained_max,
            older_than_millis=now - (lifecycle.changelog_time_retained_ms or options.snapshot_time_retained_ms),
            max_deletes=options.snapshot_expire_limit,
        ),
    )
    doomed = ids if delete_all else [id_ for id_ in ids if id_ < _expire_until(store, retention, ids, latest)]
    return _ChangelogExpiry(store, schema, doomed).run() if doomed else 0


def _expire_until(store: TableStore, retention: Retention, ids: Sequence[int], latest: int) -> int:
    """The first changelog that stays."""
    least = max(latest - retention.retain_max + 1, ids[0])
    consumers = store.consumers.list().values()
    end = min(latest - retention.retain_min + 1, ids[0] + retention.max_deletes, ids[-1], *consumers)
    for changelog_id in ids:
        if least <= changelog_id < end:
            with suppress(SnapshotExpired):
                if store.snapshots.changelog(changelog_id).time_millis >= retention.older_than_millis:
                    return changelog_id
    return end


class _ChangelogExpiry:
    """One run over the oldest changelogs."""

    def __init__(self, store: TableStore, schema: TableSchema, doomed: Sequence[int]) -> None:
        self._store = store
        self._schema = schema
        self._manifests: ManifestStore = store.manifests(schema)
        self._doomed = doomed
        self._clean = LifecycleOptions.parse(schema.options).clean_empty_directories

    def run(self) -> int:
        changelogs = self._existing()
        needed = names_needed_by_other_branches(self._store, self._manifests)
        for changelog in changelogs:
            self._store.snapshots.delete_changelog(changelog.id)
        self._store.snapshots.write_changelog_hints()
        tags = self._store.tags.list()
        for changelog in changelogs:
            self._delete_changelog_files(changelog, needed)
        for snapshot in (*changelogs, *self._successor(changelogs)):
            self._delete_removed_rows(snapshot, tags, needed)
        kept = needed | self._kept_manifests(tags)
        doomed = {name for changelog in changelogs for name in changelog_manifest_names(self._manifests, changelog)}
        for name in sorted(doomed - kept):
            self._store.io.delete(self._store.paths.manifest_file(name))
        return len(changelogs)

    def _existing(self) -> list[Snapshot]:
        found = []
        for changelog_id in self._doomed:
            with suppress(SnapshotExpired):
                found.append(self._store.snapshots.changelog(changelog_id))
        return found

    def _successor(self, changelogs: Sequence[Snapshot]) -> list[Snapshot]:
        """What follows the last that goes: rows that it removed are held by none of those that stay."""
        with suppress(SnapshotNotFound):
            return [self._store.snapshots.committed(changelog.id + 1) for changelog in changelogs[-1:]]
        return []

    def _delete_changelog_files(self, changelog: Snapshot, needed: set[str]) -> None:
        _, entries = changelog_files(self._manifests, changelog)
        added = [entry for entry in entries if entry.kind is FileKind.ADD and entry.file.file_name not in needed]
        delete_data(self._store, self._schema, added, and_directories=self._clean)

    def _delete_removed_rows(self, snapshot: Snapshot, tags: Sequence[Tag], needed: set[str]) -> None:
        """The rows, as they were written, that a snapshot removed: only changelogs before it held them."""
        delta = self._delta(snapshot)
        kept = file_names(entry for entry in delta if entry.kind is FileKind.ADD) | needed
        nearest = nearest_below(tags, snapshot.id)
        if nearest is not None:
            kept |= live_names(self._manifests, nearest.snapshot)
        doomed = [
            entry
            for entry in delta
            if entry.kind is FileKind.DELETE
            and entry.file.file_source != FileSource.COMPACT
            and entry.file.file_name not in kept
        ]
        delete_data(self._store, self._schema, doomed, and_directories=self._clean)

    def _delta(self, changelog: Snapshot) -> list[ManifestEntry]:
        try:
            return self._manifests.read_all(delta_metas(self._manifests, changelog))
        except FileMissing:
            return []

    def _kept_manifests(self, tags: Sequence[Tag]) -> set[str]:
        """What the next changelog, the earliest snapshot and tags still need: a manifest lives without a gap."""
        keeping = [tag.snapshot for tag in tags]
        left, earliest = self._store.snapshots.changelog_ids(), self._store.snapshots.earliest_id()
        with suppress(SnapshotExpired):
            keeping += [self._store.snapshots.changelog(changelog_id) for changelog_id in left[:1]]
        if earliest is not None:
            keeping.append(self._store.snapshots.get(earliest))
        kept: set[str] = set()
        for snapshot in keeping:
            kept |= changelog_manifest_names(self._manifests, snapshot)
        return kept

"""Snapshot expiry: old snapshots go, and with them the files that nothing else needs.

Spec: "Manage Snapshots / Expire Snapshots" of Apache Paimon. Which snapshots go is Paimon's arithmetic;
beyond Paimon's own rule, files that any branch needs are kept too.

The order makes it safe beside readers, and beside whoever creates a tag at the same time: first the snapshot
files go, so that nobody can begin to use them; only then the tags are listed and files are removed. Whoever
creates a tag writes it first and looks for the snapshot afterwards. A run that is stopped leaves files that
the removal of orphans finds.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass

from storage_engine.errors import (
    CorruptFile,
    FileMissing,
    InvalidInput,
    SnapshotNotFound,
    StorageUnavailable,
    Unsupported,
)
from storage_engine.maintenance.references import (
    changelog_files,
    data_file_paths,
    delete_metadata,
    delta_metas,
    file_names,
    index_names,
    live_names,
    manifest_names,
    names_needed_by_other_branches,
    statistics_names,
)
from storage_engine.spec.manifest import FileKind, ManifestEntry
from storage_engine.spec.schema import TableSchema
from storage_engine.spec.snapshot import Snapshot
from storage_engine.store.manifests import ManifestStore
from storage_engine.store.table_store import TableStore
from storage_engine.store.tags import Tag

_log = logging.getLogger(__name__)
_DECOUPLED_CHANGELOG = ("changelog.num-retained.min", "changelog.num-retained.max", "changelog.time-retained")


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """What expiry keeps: ``retain_min`` snapshots at least, ``retain_max`` at most.

    In between it keeps those committed at or after ``older_than_millis`` (epoch milliseconds). At most
    ``max_deletes`` go in one run.
    """

    retain_min: int
    retain_max: int
    older_than_millis: int
    max_deletes: int


def expire_after_commit(store: TableStore, schema: TableSchema, *, now_millis: int | None = None) -> int:
    """Expire by the table's options. The commit before it stands, so trouble is logged and not raised."""
    if _has_decoupled_changelog(schema):
        return 0
    try:
        return expire_snapshots(store, schema, now_millis=now_millis)
    except (StorageUnavailable, FileMissing, SnapshotNotFound, CorruptFile) as cause:
        _log.warning("snapshots of %s could not be expired: %s", store.paths.branch_root, cause)
        return 0


def expire_snapshots(
    store: TableStore,
    schema: TableSchema,
    *,
    retain_max: int | None = None,
    retain_min: int | None = None,
    older_than_millis: int | None = None,
    max_deletes: int | None = None,
    now_millis: int | None = None,
) -> int:
    """Expire snapshots by the table's options, or by these values instead; returns how many went.

    ``older_than_millis`` is a moment, epoch milliseconds, not an age. Raises InvalidInput, Unsupported for a
    table whose changelog outlives its snapshots, StorageUnavailable, CorruptFile.
    """
    if _has_decoupled_changelog(schema):
        raise Unsupported(
            f"{store.paths.root}: options changelog.num-retained.* and changelog.time-retained need Paimon's own expiry"
        )
    options = schema.table_options
    now = int(time.time() * 1000) if now_millis is None else now_millis
    most = options.snapshot_num_retained_max if retain_max is None else retain_max
    least = min(options.snapshot_num_retained_min, most) if retain_min is None else retain_min
    if not 1 <= least <= most:
        raise InvalidInput(f"expected 1 <= retain_min <= retain_max, not {least} and {most}")
    retention = Retention(
        retain_min=least,
        retain_max=most,
        older_than_millis=(now - options.snapshot_time_retained_ms if older_than_millis is None else older_than_millis),
        max_deletes=options.snapshot_expire_limit if max_deletes is None else max_deletes,
    )
    store.snapshots.forget()
    earliest, latest = store.snapshots.earliest_id(), store.snapshots.latest_id()
    if earliest is None or latest is None or latest - earliest < retention.retain_min:
        return 0
    end = expire_until(store, retention, earliest, latest)
    return _Expiry(store, schema, earliest, end).run() if end > earliest else 0


def expire_until(store: TableStore, retention: Retention, earliest: int, latest: int) -> int:
    """The first snapshot that stays: ``[earliest, expire_until)`` goes."""
    consumers = store.consumers.list().values()
    least = max(latest - retention.retain_max + 1, earliest)
    end = min(latest - retention.retain_min + 1, earliest + retention.max_deletes, *consumers)
    for snapshot_id in range(least, end):
        try:
            if store.snapshots.get(snapshot_id).time_millis >= retention.older_than_millis:
                return snapshot_id
        except SnapshotNotFound:
            continue
    return end


def _has_decoupled_changelog(schema: TableSchema) -> bool:
    return any(key in schema.options for key in _DECOUPLED_CHANGELOG)


class _Expiry:
    """One run over ``[begin, end)``."""

    def __init__(self, store: TableStore, schema: TableSchema, begin: int, end: int) -> None:
        self._store = store
        self._schema = schema
        self._manifests: ManifestStore = store.manifests(schema)
        self._begin = begin
        self._end = end

    def run(self) -> int:
        snapshots = self._existing()
        retained = self._store.snapshots.get(self._end)
        # A branch that is made from now on is made from a tag, and tags are listed below.
        needed = names_needed_by_other_branches(self._store, self._manifests)
        expired = [snapshot for snapshot in snapshots if snapshot.id < self._end]
        for snapshot in expired:
            self._store.snapshots.delete(snapshot.id)
        self._store.snapshots.write_earliest_hint(self._end)
        tags = self._store.tags.list()
        self._delete_removed_files(snapshots, tags, needed)
        self._delete_changelogs(expired, needed)
        self._delete_metadata(expired, retained, tags, needed)
        return len(expired)

    def _existing(self) -> list[Snapshot]:
        """The snapshots of ``[begin, end]`` that are there."""
        found = []
        for snapshot_id in range(self._begin, self._end + 1):
            try:
                found.append(self._store.snapshots.get(snapshot_id))
            except SnapshotNotFound:
                continue
        return found

    def _delete_removed_files(self, snapshots: Sequence[Snapshot], tags: Sequence[Tag], needed: set[str]) -> None:
        """A file that snapshot n removed goes when n - 1 expires, unless the nearest tag before n holds it.

        Between its commit and its removal a file is live without a gap, so an earlier tag cannot hold it
        either.
        """
        held: dict[int, set[str]] = {}
        for snapshot in snapshots:
            if snapshot.id == self._begin:
                continue
            entries = self._entries_of_delta(snapshot)
            kept = file_names(entry for entry in entries if entry.kind is FileKind.ADD) | needed
            nearest = _nearest_below(tags, snapshot.id)
            if nearest is not None:
                if nearest.snapshot.id not in held:
                    held[nearest.snapshot.id] = live_names(self._manifests, nearest.snapshot)
                kept |= held[nearest.snapshot.id]
            self._delete_data([e for e in entries if e.kind is FileKind.DELETE and e.file.file_name not in kept])

    def _entries_of_delta(self, snapshot: Snapshot) -> list[ManifestEntry]:
        """What a snapshot changed; nothing if another run was here first, which then removes the files."""
        try:
            return self._manifests.read_all(delta_metas(self._manifests, snapshot))
        except FileMissing:
            return []

    def _delete_changelogs(self, expired: Sequence[Snapshot], needed: set[str]) -> None:
        for snapshot in expired:
            _, entries = changelog_files(self._manifests, snapshot)
            self._delete_data([e for e in entries if e.kind is FileKind.ADD and e.file.file_name not in needed])

    def _delete_data(self, entries: Sequence[ManifestEntry]) -> None:
        for entry in entries:
            for path in data_file_paths(self._store, self._schema, entry):
                self._store.io.delete(path)

    def _delete_metadata(
        self, expired: Sequence[Snapshot], retained: Snapshot, tags: Sequence[Tag], needed: set[str]
    ) -> None:
        before = _nearest_below(tags, self._begin)
        keeping = [tag.snapshot for tag in tags if self._begin <= tag.snapshot.id <= self._end]
        keeping += [retained] + ([] if before is None else [before.snapshot])
        kept = set(needed)
        for snapshot in keeping:
            kept |= manifest_names(self._manifests, snapshot) | index_names(self._manifests, snapshot)
            kept |= statistics_names(snapshot)
        delete_metadata(self._store, self._manifests, expired, kept)


def _nearest_below(tags: Sequence[Tag], snapshot_id: int) -> Tag | None:
    below = (tag for tag in tags if tag.snapshot.id < snapshot_id)
    return max(below, key=lambda tag: tag.snapshot.id, default=None)

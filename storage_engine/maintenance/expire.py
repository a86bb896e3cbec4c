"""Snapshot expiry: old snapshots go, and with them the files that nothing else needs.

Spec: "Manage Snapshots / Expire Snapshots" of Apache Paimon. Which snapshots go is Paimon's arithmetic;
beyond Paimon's own rule, files that any branch needs are kept too. Where changelogs outlive their snapshots, what they
need stays until ``expire_changelogs``.

The order makes it safe beside readers, and beside whoever creates a tag at the same time: first the snapshot
files go, so that nobody can begin to use them; only then the tags are listed and files are removed. Whoever
creates a tag writes it first and looks for the snapshot afterwards. A run that is stopped leaves files that
the removal of orphans finds.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from storage_engine.errors import FileMissing, InvalidInput, SnapshotNotFound
from storage_engine.lifecycle_options import LifecycleOptions
from storage_engine.maintenance.references import (
    changelog_files,
    delete_data,
    delete_metadata,
    delta_metas,
    file_names,
    index_names,
    live_names,
    manifest_names,
    names_needed_by_other_branches,
    statistics_names,
)
from storage_engine.options import ChangelogProducer
from storage_engine.spec.manifest import FileKind, FileSource, ManifestEntry
from storage_engine.spec.schema import TableSchema
from storage_engine.spec.snapshot import Snapshot
from storage_engine.store.manifests import ManifestStore
from storage_engine.store.table_store import TableStore
from storage_engine.store.tags import Tag


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

    @staticmethod
    def of(
        *,
        retain_min: int | None,
        retain_max: int | None,
        older_than_millis: int | None,
        max_deletes: int | None,
        usual: Retention,
    ) -> Retention:
        """What is given, and the usual for what is not. Raises InvalidInput."""
        most = usual.retain_max if retain_max is None else retain_max
        least = min(usual.retain_min, most) if retain_min is None else retain_min
        if not 1 <= least <= most:
            raise InvalidInput(f"expected 1 <= retain_min <= retain_max, not {least} and {most}")
        return Retention(
            retain_min=least,
            retain_max=most,
            older_than_millis=usual.older_than_millis if older_than_millis is None else older_than_millis,
            max_deletes=usual.max_deletes if max_deletes is None else max_deletes,
        )


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

    ``older_than_millis`` is a moment, epoch milliseconds, not an age. Raises InvalidInput, StorageUnavailable, CorruptFile.
    """
    options = schema.table_options
    retention = Retention.of(
        retain_min=retain_min,
        retain_max=retain_max,
        older_than_millis=older_than_millis,
        max_deletes=max_deletes,
        usual=Retention(
            retain_min=options.snapshot_num_retained_min,
            retain_max=options.snapshot_num_retained_max,
            older_than_millis=(now_millis or _now_millis()) - options.snapshot_time_retained_ms,
            max_deletes=options.snapshot_expire_limit,
        ),
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


def _now_millis() -> int:
    return int(time.time() * 1000)


class _Expiry:
    """One run over ``[begin, end)``."""

    def __init__(self, store: TableStore, schema: TableSchema, begin: int, end: int) -> None:
        self._store = store
        self._schema = schema
        self._manifests: ManifestStore = store.manifests(schema)
        self._begin = begin
        self._end = end
        options = schema.table_options
        self._lifecycle = LifecycleOptions.parse(schema.options)
        self._changelog_stays = self._lifecycle.changelog_outlives(options)
        self._rows_stay = self._changelog_stays and options.changelog_producer is ChangelogProducer.NONE
        """Without a producer the changelog consists of the rows as they were written."""

    def run(self) -> int:
        snapshots = self._existing()
        retained = self._store.snapshots.get(self._end)
        # A branch that is made from now on is made from a tag, and tags are listed below.
        needed = names_needed_by_other_branches(self._store, self._manifests)
        expired = [snapshot for snapshot in snapshots if snapshot.id < self._end]
        if self._changelog_stays:
            self._keep_changelogs(expired)
        for snapshot in expired:
            self._store.snapshots.delete(snapshot.id)
        self._store.snapshots.write_earliest_hint(self._end)
        tags = self._store.tags.list()
        self._delete_removed_files(snapshots, tags, needed)
        self._delete_changelogs(expired, needed)
        self._delete_metadata(expired, retained, tags, needed)
        return len(expired)

    def _keep_changelogs(self, expired: Sequence[Snapshot]) -> None:
        """The changelog is found before the snapshot is gone, so that a reader of it finds one of the two."""
        for snapshot in expired:
            self._store.snapshots.keep_changelog(snapshot)
        if expired:
            self._store.snapshots.write_changelog_hints()

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
            nearest = nearest_below(tags, snapshot.id)
            if nearest is not None:
                if nearest.snapshot.id not in held:
                    held[nearest.snapshot.id] = live_names(self._manifests, nearest.snapshot)
                kept |= held[nearest.snapshot.id]
            removed = [e for e in entries if e.kind is FileKind.DELETE and e.file.file_name not in kept]
            if self._rows_stay:
                removed = [entry for entry in removed if entry.file.file_source == FileSource.COMPACT]
            self._delete_data(removed)

    def _entries_of_delta(self, snapshot: Snapshot) -> list[ManifestEntry]:
        """What a snapshot changed; nothing if another run was here first, which then removes the files."""
        try:
            return self._manifests.read_all(delta_metas(self._manifests, snapshot))
        except FileMissing:
            return []

    def _delete_changelogs(self, expired: Sequence[Snapshot], needed: set[str]) -> None:
        if self._changelog_stays:
            return
        for snapshot in expired:
            _, entries = changelog_files(self._manifests, snapshot)
            self._delete_data([e for e in entries if e.kind is FileKind.ADD and e.file.file_name not in needed])

    def _delete_data(self, entries: Sequence[ManifestEntry]) -> None:
        delete_data(self._store, self._schema, entries, and_directories=self._lifecycle.clean_empty_directories)

    def _delete_metadata(
        self, expired: Sequence[Snapshot], retained: Snapshot, tags: Sequence[Tag], needed: set[str]
    ) -> None:
        before = nearest_below(tags, self._begin)
        keeping = [tag.snapshot for tag in tags if self._begin <= tag.snapshot.id <= self._end]
        keeping += [retained] + ([] if before is None else [before.snapshot])
        kept = set(needed)
        for snapshot in keeping:
            kept |= manifest_names(self._manifests, snapshot) | index_names(self._manifests, snapshot)
            kept |= statistics_names(snapshot)
        for snapshot in expired if self._changelog_stays else ():
            if self._rows_stay:
                kept |= manifest_names(self._manifests, snapshot) - {snapshot.index_manifest or ""}
            elif snapshot.changelog_manifest_list is not None:
                kept |= {meta.file_name for meta in changelog_files(self._manifests, snapshot)[0]}
                kept.add(snapshot.changelog_manifest_list)
        delete_metadata(self._store, self._schema, self._manifests, expired, kept)


def nearest_below(tags: Sequence[Tag], snapshot_id: int) -> Tag | None:
    """The nearest tag of a snapshot before one."""
    below = (tag for tag in tags if tag.snapshot.id < snapshot_id)
    return max(below, key=lambda tag: tag.snapshot.id, default=None)

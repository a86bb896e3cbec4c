"""Compaction of one table version, each as one COMPACT snapshot: trees, append tables, postponed rows, manifests."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

import polars as pl

from storage_engine.errors import CommitConflict
from storage_engine.lsm.append_compaction import Effort
from storage_engine.spec.manifest import CommitMessage, ManifestEntry
from storage_engine.spec.schema import TableSchema
from storage_engine.spec.snapshot import CommitKind, Snapshot
from storage_engine.store.data_files import DataFiles
from storage_engine.store.index_files import IndexFiles
from storage_engine.store.live_files import Bucket, BucketKey, LiveFiles
from storage_engine.store.manifest_cache import ALL_ENTRIES, EntryFilter
from storage_engine.store.paths import POSTPONE_BUCKET
from storage_engine.store.table_store import TableStore
from storage_engine.write.append_compactor import AppendCompactor
from storage_engine.write.commit import FileStoreCommit
from storage_engine.write.commit_compaction import CommitCompaction
from storage_engine.write.compaction_task import CompactionTask
from storage_engine.write.compactor import Compactor
from storage_engine.write.postpone import PostponedBuckets
from storage_engine.write.requests import Committer, compaction_request, written_names

_COMPACTION_ATTEMPTS = 20
_BACKOFF_S = 0.02


class TableCompaction:
    """Compacts one table version."""

    def __init__(self, store: TableStore, schema: TableSchema, *, table: str) -> None:
        self._store = store
        self._schema = schema
        self._table = table
        self._live = LiveFiles(store, schema)
        self._files = DataFiles(store.io, schema, store.schemas)
        self._index_files = index_files = IndexFiles(store, schema)
        self._postponed: PostponedBuckets | None = None
        if schema.table_options.bucket == POSTPONE_BUCKET:
            self._postponed = PostponedBuckets(store, schema, self._live, self._files, table=table)
        self._compactor = Compactor(schema, self._files, index_files)
        self._append_compactor = AppendCompactor(schema, self._files, index_files)
        self._commit = FileStoreCommit(store, schema, self._live, table=table)
        self._after = CommitCompaction(self.compact, schema, table=table)

    def compact(
        self,
        keys: Sequence[BucketKey] | None = None,
        *,
        full: bool = False,
        committer: Committer | None = None,
        frames: Mapping[str, pl.DataFrame] | None = None,
        awaited: frozenset[str] | None = None,
    ) -> Snapshot | None:
        """Compact buckets (None: all) where their shape asks for it; None if nothing was to be done.

        A compaction that another one overtook is thrown away and tried again on the new state, unless the other one has
        taken the files of level 0 that this one is about (``awaited``). Raises CommitConflict if it is always overtaken.
        """
        named = (committer or Committer()).named()
        placed = None if self._postponed is None else self._placed(self._postponed, named)
        return self._compacted_trees(named, keys, full=full, frames=frames, awaited=awaited) or placed

    def commit_statistics(self, name: str) -> Snapshot | None:
        """Commit a file of statistics, and no rows."""
        request = Committer().named().request(CommitKind.ANALYZE, delta=())
        return self._commit.commit(replace(request, statistics=name))

    def _placed(self, postponed: PostponedBuckets, committer: Committer) -> Snapshot | None:
        """Give postponed rows their buckets; None if there are none, or another compaction has done it."""
        latest = self._store.snapshots.latest()
        moved = postponed.moved(latest)
        if moved is None:
            return None
        request = committer.request(CommitKind.COMPACT, delta=moved.delta)
        return self._commit.commit(replace(request, changelog=moved.changelog, check_conflicts=True))

    def _compacted_trees(
        self,
        named: Committer,
        keys: Sequence[BucketKey] | None,
        *,
        full: bool,
        frames: Mapping[str, pl.DataFrame] | None,
        awaited: frozenset[str] | None,
    ) -> Snapshot | None:
        for attempt in range(_COMPACTION_ATTEMPTS):
            time.sleep(attempt * _BACKOFF_S * random.random())  # noqa: S311 - jitter, not a secret
            latest = self._store.snapshots.latest()
            found = self._live.buckets(latest, only=keys)
            buckets = {key: bucket for key, bucket in found.items() if bucket.bucket != POSTPONE_BUCKET}
            if attempt and awaited is not None and not _at_level0(buckets) & awaited:
                return None
            messages = self._compacted(list(buckets.values()), full=full, frames=frames)
            if not messages:
                return None
            try:
                return self._commit.commit(compaction_request(named, messages))
            except CommitConflict as conflict:
                self._discard(messages, buckets)
                overtaken = conflict
        raise overtaken

    def plan_compaction(self, partitions: frozenset[bytes] | None, *, full: bool) -> list[CompactionTask]:
        """The buckets of some partitions (None: all) that are due for compaction, or all of them (``full``)."""
        latest = self._store.snapshots.latest()
        keep = ALL_ENTRIES if partitions is None else EntryFilter.of_partitions(partitions)
        found = self._live.buckets(latest, keep=keep)
        return [
            CompactionTask(partition=bucket.partition, bucket=bucket.bucket, full=full)
            for bucket in found.values()
            if bucket.bucket != POSTPONE_BUCKET
            and (not self._schema.primary_keys or self._compactor.is_due(bucket, full=full))
        ]

    def run_compaction(self, task: CompactionTask) -> list[CommitMessage]:
        """Compact one bucket without committing it; what was written is durable."""
        latest = self._store.snapshots.latest()
        buckets = self._live.buckets(latest, only=[(task.partition, task.bucket)])
        messages = self._compacted(list(buckets.values()), full=task.full, frames=None)
        self._store.io.sync(written_names(messages))
        return messages

    def _compacted(
        self, buckets: Sequence[Bucket], *, full: bool, frames: Mapping[str, pl.DataFrame] | None
    ) -> list[CommitMessage]:
        if self._schema.primary_keys:
            return self._compactor.compact(buckets, full=full, frames=frames)
        effort = Effort.FULL if full else Effort.DUE if frames is None else Effort.AFTER_WRITE
        return self._append_compactor.compact(buckets, effort)

    @property
    def _needs_lookup(self) -> bool:
        """Whether rows are read, or their changes seen, only once level 0 is compacted."""
        return bool(self._schema.primary_keys) and self._schema.table_options.needs_lookup

    def compact_manifests(self) -> Snapshot | None:
        """A COMPACT snapshot without changes, whose manifests are all rewritten."""
        options = {**self._schema.options, "manifest.full-compaction-threshold-size": "1 b"}
        schema = replace(self._schema, options=options)
        commit = FileStoreCommit(self._store, schema, LiveFiles(self._store, schema), table=self._table)
        return commit.commit(Committer().named().request(CommitKind.COMPACT, delta=()))

    def remove_files(self, entries: Sequence[ManifestEntry]) -> Snapshot | None:
        """A COMPACT snapshot without some live files. Raises CommitConflict if one is not live any more."""
        request = Committer().named().request(CommitKind.COMPACT, delta=[entry.as_delete() for entry in entries])
        return self._commit.commit(replace(request, check_conflicts=True))

    def settle(self) -> Snapshot | None:
        """Finish what an interrupted writer left at level 0 of a table whose commits always compact it."""
        if not self._needs_lookup or self._schema.table_options.write_only or self._postponed is not None:
            return None
        self._after.wait()
        latest = self._store.snapshots.latest()
        entries = [entry for entry in self._live.entries(latest) if entry.file.level == 0]
        keys = {(entry.partition, entry.bucket) for entry in entries}
        files = frozenset(entry.file.file_name for entry in entries)
        return self.compact(sorted(keys), awaited=files) if keys else None

    def _commit_compacted(self, committer: Committer, messages: Sequence[CommitMessage]) -> Snapshot | None:
        """Commit compactions; what others have overtaken is given up."""
        try:
            return self._commit.commit(compaction_request(committer, messages))
        except CommitConflict:
            keys = ((message.partition, message.bucket, message.total_buckets) for message in messages)
            self._discard(messages, {key[:2]: self._live.empty_bucket(*key) for key in keys})
            raise

    def _discard(self, messages: Sequence[CommitMessage], buckets: Mapping[BucketKey, Bucket]) -> None:
        """Remove the files that a lost compaction wrote; upgraded files are older than it and stay."""
        for message in messages:
            directory = buckets[(message.partition, message.bucket)].directory
            known = {file.file_name for file in message.compact_before}
            for file in (*message.compact_after, *message.compact_changelog_files):
                if file.file_name not in known:
                    self._store.io.delete(self._files.path_of(file, directory))


def _at_level0(buckets: Mapping[BucketKey, Bucket]) -> set[str]:
    return {file.file_name for bucket in buckets.values() for file in bucket.files if file.level == 0}

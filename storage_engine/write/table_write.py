"""Writes to one table version: upsert, overwrite and compaction, each as one atomic commit.

Spec: "Write path" of Apache Paimon: an upsert is an APPEND snapshot; the compaction that follows it is a COMPACT
snapshot of the same user and identifier.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace

import polars as pl

from storage_engine.errors import CommitConflict, CommitUnfinished, OffsetConflict, StorageEngineError
from storage_engine.lifecycle_options import LifecycleOptions
from storage_engine.lsm.append_compaction import Effort
from storage_engine.spec.manifest import (
    CommitMessage,
    IndexManifestEntry,
    ManifestEntry,
)
from storage_engine.spec.schema import TableSchema
from storage_engine.spec.snapshot import CommitKind, Snapshot
from storage_engine.store.data_files import DataFiles
from storage_engine.store.index_files import IndexFiles
from storage_engine.store.live_files import Bucket, BucketKey, LiveFiles
from storage_engine.store.manifest_cache import ALL_ENTRIES, EntryFilter
from storage_engine.store.table_store import TableStore
from storage_engine.write.append_compactor import AppendCompactor
from storage_engine.write.commit import ANY_INDEX, FileStoreCommit
from storage_engine.write.compaction_task import CompactionTask
from storage_engine.write.compactor import Compactor
from storage_engine.write.dynamic_buckets import DynamicBuckets
from storage_engine.write.key_locations import KeyLocations
from storage_engine.write.level0_writer import Level0Writer, WrittenBucket
from storage_engine.write.offsets import Offsets
from storage_engine.write.requests import Committer, append_request, compaction_request, removed_index
from storage_engine.write.write_buffer import WriteBuffer, at_the_top

_log = logging.getLogger(__name__)
_COMPACTION_ATTEMPTS = 20
_BACKOFF_S = 0.02
_APPEND_ATTEMPTS = 10
_DYNAMIC = -1


Targets = Callable[[pl.DataFrame], frozenset[bytes] | None]
"""The partitions that some rows replace (None: all)."""


class TableWrite:
    """Writes frames to one table version."""

    def __init__(self, store: TableStore, schema: TableSchema, *, table: str) -> None:
        self._store = store
        self._schema = schema
        self._table = table
        self._live = LiveFiles(store, schema)
        self._files = DataFiles(store.io, schema, store.schemas)
        self._index_files = index_files = IndexFiles(store, schema)
        is_dynamic = bool(schema.primary_keys) and schema.table_options.bucket == _DYNAMIC
        self._dynamic: DynamicBuckets | None = None
        self._locations: KeyLocations | None = None
        if is_dynamic and schema.is_cross_partition:
            self._locations = KeyLocations(store.snapshots, schema, self._live, self._files)
        elif is_dynamic:
            self._dynamic = DynamicBuckets(store, schema, self._live.manifests, index_files)
        self._level0 = Level0Writer(
            schema, self._live, self._files, self._dynamic, table=table, locations=self._locations
        )
        self._compactor = Compactor(schema, self._files, index_files)
        self._silent_compactor = Compactor(schema, self._files, index_files, changelog=False)
        self._append_compactor = AppendCompactor(schema, self._files, index_files)
        self._commit = FileStoreCommit(store, schema, self._live, table=table)
        lifecycle = LifecycleOptions.parse(schema.options)
        self._commits_nothing = lifecycle.force_create_snapshot or lifecycle.ignore_empty_commit is False

    def upsert(self, frame: pl.DataFrame, committer: Committer) -> Snapshot | None:
        """Write a conformed frame; None if nothing was to be done.

        A pair of user and identifier that is already committed writes nothing, but finishes a compaction that an
        interrupted writer left undone. An empty frame with an identifier commits the identifier alone. Raises
        OffsetConflict and CommitUnfinished.
        """
        if self._is_committed(committer, self._store.snapshots.latest()):
            self.settle()
            return None
        if frame.is_empty() and committer.identifier is None and not self._commits_nothing:
            return None
        named = committer.named()
        written, snapshot = self._appended(frame, named)
        if snapshot is None:
            self.settle()
            return None
        frames = {name: rows for part in written for name, rows in part.frames.items()}
        return self._compacted_after(snapshot, named, [part.message for part in written], frames)

    def upsert_batches(self, frames: Iterable[pl.DataFrame], committer: Committer) -> Snapshot | None:
        """``upsert`` of rows that come frame by frame, at least one: still one commit, in bounded memory.

        Nothing is committed, and no file stays, if a frame cannot be had.
        """
        if self._is_committed(committer, self._store.snapshots.latest()):
            self.settle()
            return None
        if self._locations is not None:
            return self.upsert(pl.concat(frames), committer)
        with self.new_buffer() as buffer:
            for frame in frames:
                buffer.add(frame)
            messages = buffer.messages()
        if messages is None:
            return self.upsert(buffer.held(), committer)
        try:
            snapshot = self.commit_messages(messages, committer, base=buffer.base)
        except CommitConflict:
            buffer.discard()
            raise
        if snapshot is None:
            buffer.discard()
        return snapshot

    def overwrite_batches(
        self, frames: Iterable[pl.DataFrame], targets: Targets, committer: Committer
    ) -> Snapshot | None:
        """``overwrite`` with rows that come frame by frame, at least one, in bounded memory.

        ``targets`` gives the partitions to be replaced for some rows; it is asked for every frame.
        """
        if self._is_committed(committer, self._store.snapshots.latest()):
            return None
        if self._locations is not None:
            whole = pl.concat(frames)
            return self.overwrite(whole, targets(whole), committer)
        partitions: frozenset[bytes] | None = frozenset()
        with self.new_buffer(overwrites=True) as buffer:
            for frame in frames:
                mine = targets(frame)
                partitions = None if mine is None or partitions is None else partitions | mine
                buffer.add(frame)
            if (messages := buffer.messages()) is not None and self._schema.primary_keys:
                messages = at_the_top(messages, self._live, self._files, self._silent_compactor)
        if messages is None:
            return self.overwrite(buffer.held(), partitions, committer)
        return self._overwritten_by(messages, partitions, committer, buffer.base)

    def new_buffer(self, *, overwrites: bool = False) -> WriteBuffer:
        """For rows that come frame by frame, on top of the newest snapshot, or (``overwrites``) in place of what is there."""
        latest = self._store.snapshots.latest()
        return WriteBuffer(self._schema, self._level0, self._files, self._index_files, latest, overwrites=overwrites)

    def commit_messages(
        self, messages: Sequence[CommitMessage], committer: Committer, *, base: Snapshot | None
    ) -> Snapshot | None:
        """Commit what others have written: new files, then compactions; then compact as a write does.

        None if the user and identifier are committed already; then the files of the messages are nobody's, if they are
        not those of that commit. Raises CommitConflict if a file is part of the table already, or was compacted by others.
        """
        named = committer.named()
        if self._is_committed(named, self._store.snapshots.latest()):
            return None
        adding = [message for message in messages if message.new_files or message.changelog_files]
        compacted = [message for message in messages if message.compact_before or message.compact_changelog_files]
        snapshot = None
        if adding or not compacted:
            snapshot = self._commit.commit(
                replace(append_request(named, adding), index_base=self._index_base(base), check_conflicts=True)
            )
            if snapshot is None:
                return None
        if compacted:
            snapshot = self._commit_compacted(named, compacted)
        return None if snapshot is None else self._compacted_after(snapshot, named, adding, {})

    def _commit_compacted(self, committer: Committer, messages: Sequence[CommitMessage]) -> Snapshot | None:
        """Commit compactions; what others have overtaken is given up."""
        try:
            return self._commit.commit(compaction_request(committer, messages))
        except CommitConflict:
            keys = ((message.partition, message.bucket, message.total_buckets) for message in messages)
            self._discard(messages, {key[:2]: self._live.empty_bucket(*key) for key in keys})
            raise

    def _compacted_after(
        self,
        snapshot: Snapshot,
        committer: Committer,
        messages: Sequence[CommitMessage],
        frames: Mapping[str, pl.DataFrame],
    ) -> Snapshot:
        """The compaction that follows a commit of new files; gives the snapshot that shows them."""
        if self._schema.table_options.write_only or not messages:
            return snapshot
        keys = [(message.partition, message.bucket) for message in messages]
        new = frozenset(file.file_name for message in messages for file in message.new_files)
        try:
            return self.compact(keys, committer=committer, frames=frames, awaited=new) or snapshot
        except StorageEngineError as cause:
            return self._uncompacted(snapshot, cause)

    def _uncompacted(self, snapshot: Snapshot, cause: StorageEngineError) -> Snapshot:
        """A commit stands although its compaction failed; that is an error only where reads wait for the compaction."""
        what = f"table {self._table}: snapshot {snapshot.id} is committed, but its compaction failed ({cause})"
        if self._needs_lookup:
            raise CommitUnfinished(
                f"{what}; call settle(), or repeat the write with the same user and identifier"
            ) from cause
        _log.warning("%s; a later write compacts", what)
        return snapshot

    def _appended(self, frame: pl.DataFrame, committer: Committer) -> tuple[list[WrittenBucket], Snapshot | None]:
        """Write level 0 and commit it; again from the start if another writer assigned dynamic buckets meanwhile.

        No snapshot if another run committed the same user and identifier meanwhile.
        """
        for attempt in range(_APPEND_ATTEMPTS):
            latest = self._store.snapshots.latest()
            written = self._level0.write(frame, latest)
            request = append_request(committer, [part.message for part in written])
            request = replace(request, index_base=self._index_base(latest), rows_base=self._rows_base(latest))
            try:
                snapshot = self._commit.commit(request)
            except OffsetConflict:
                raise
            except CommitConflict:
                if not (self._dynamic or self._locations) or attempt == _APPEND_ATTEMPTS - 1:
                    raise
            else:
                if self._locations is not None:
                    self._locations.committed(latest, snapshot)
                return written, snapshot
        raise AssertionError("the last attempt returns or raises")

    def overwrite(
        self, frame: pl.DataFrame, partitions: Collection[bytes] | None, committer: Committer
    ) -> Snapshot | None:
        """Replace partitions (None: the whole table) by a conformed frame. Produces no changelog, as in Paimon.

        Rows go straight to the top level, so that nothing is left to compact.
        """
        latest = self._store.snapshots.latest()
        if self._is_committed(committer, latest):
            return None
        keep = ALL_ENTRIES if partitions is None else EntryFilter.of_partitions(partitions)
        replaced = partitions or frozenset(entry.partition for entry in self._live.entries(latest, keep=keep))
        written = self._level0.write(frame, latest, level=self._top_level(), replaced=replaced)
        return self._overwritten_by([part.message for part in written], partitions, committer, latest)

    def _overwritten_by(
        self,
        messages: Sequence[CommitMessage],
        partitions: Collection[bytes] | None,
        committer: Committer,
        latest: Snapshot | None,
    ) -> Snapshot | None:
        """Commit new files of the top level in place of all of some partitions."""
        request = append_request(committer.named(), messages)
        keep = ALL_ENTRIES if partitions is None else EntryFilter.of_partitions(partitions)
        removed = self._live.entries(latest, keep=keep)
        return self._commit.commit(
            replace(
                request,
                kind=CommitKind.OVERWRITE,
                delta=(*(entry.as_delete() for entry in removed), *request.delta),
                changelog=(),
                index=(*self._removed_index(latest, partitions), *request.index),
                index_base=self._index_base(latest),
                rows_base=self._rows_base(latest),
                check_conflicts=True,
            )
        )

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
        for attempt in range(_COMPACTION_ATTEMPTS):
            time.sleep(attempt * _BACKOFF_S * random.random())  # noqa: S311 - jitter, not a secret
            latest = self._store.snapshots.latest()
            buckets = self._live.buckets(latest, only=keys)
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
            if not self._schema.primary_keys or self._compactor.is_due(bucket, full=full)
        ]

    def run_compaction(self, task: CompactionTask) -> list[CommitMessage]:
        """Compact one bucket without committing it; what was written is durable."""
        latest = self._store.snapshots.latest()
        buckets = self._live.buckets(latest, only=[(task.partition, task.bucket)])
        messages = self._compacted(list(buckets.values()), full=task.full, frames=None)
        self._store.io.sync_directories()
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
        if not self._needs_lookup or self._schema.table_options.write_only:
            return None
        latest = self._store.snapshots.latest()
        entries = [entry for entry in self._live.entries(latest) if entry.file.level == 0]
        keys = {(entry.partition, entry.bucket) for entry in entries}
        files = frozenset(entry.file.file_name for entry in entries)
        return self.compact(sorted(keys), awaited=files) if keys else None

    def _rows_base(self, latest: Snapshot | None) -> int | None:
        """The snapshot that keys were located in."""
        if self._locations is None:
            return None
        return 0 if latest is None else latest.id

    def _index_base(self, latest: Snapshot | None) -> str | None:
        """The index that dynamic buckets were assigned by."""
        if self._dynamic is None:
            return ANY_INDEX
        return None if latest is None else latest.index_manifest

    def _top_level(self) -> int:
        options = self._schema.table_options
        return (options.num_levels or options.compaction_trigger + 1) - 1

    def _is_committed(self, committer: Committer, latest: Snapshot | None) -> bool:
        if committer.user is None or committer.identifier is None:
            return False
        offsets = Offsets.read(self._store.snapshots, latest)
        return offsets.identifiers.get(committer.user, -1) >= committer.identifier

    def _removed_index(self, latest: Snapshot | None, partitions: Collection[bytes] | None) -> list[IndexManifestEntry]:
        if latest is None or latest.index_manifest is None:
            return []
        return removed_index(self._live.manifests.read_index(latest.index_manifest), partitions)

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

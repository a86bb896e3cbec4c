"""Writes to one table version: upsert, overwrite and compaction, each as one atomic commit.

Spec: "Write path" of Apache Paimon: an upsert is an APPEND snapshot; the compaction that follows it is a COMPACT
snapshot of the same user and identifier.
"""

from __future__ import annotations

import logging
import random
import time
import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

import polars as pl

from storage_engine.errors import CommitConflict, CommitUnfinished, OffsetConflict, StorageEngineError
from storage_engine.lifecycle_options import LifecycleOptions
from storage_engine.lsm.append_compaction import Effort
from storage_engine.spec.manifest import (
    CommitMessage,
    DataFileMeta,
    FileKind,
    IndexManifestEntry,
    ManifestEntry,
)
from storage_engine.spec.schema import TableSchema
from storage_engine.spec.snapshot import BATCH_COMMIT_IDENTIFIER, CommitKind, Snapshot
from storage_engine.store.data_files import DataFiles
from storage_engine.store.index_files import IndexFiles
from storage_engine.store.live_files import Bucket, BucketKey, LiveFiles
from storage_engine.store.manifest_cache import ALL_ENTRIES, EntryFilter
from storage_engine.store.table_store import TableStore
from storage_engine.write.append_compactor import AppendCompactor
from storage_engine.write.commit import ANY_INDEX, CommitRequest, FileStoreCommit, adds, index_entries
from storage_engine.write.compactor import Compactor
from storage_engine.write.dynamic_buckets import DynamicBuckets
from storage_engine.write.key_locations import KeyLocations
from storage_engine.write.level0_writer import Level0Writer, WrittenBucket
from storage_engine.write.offsets import Offsets

_log = logging.getLogger(__name__)
_COMPACTION_ATTEMPTS = 20
_BACKOFF_S = 0.02
_APPEND_ATTEMPTS = 10
_DYNAMIC = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class Committer:
    """Who commits: user and identifier (its own uuid and the batch identifier if none is given), and what it
    expects.
    """

    user: str | None = None
    identifier: int | None = None
    properties: Mapping[str, str] = field(default_factory=dict)
    expected_offsets: Mapping[str, int | None] = field(default_factory=dict)
    watermark: int | None = None

    def named(self) -> Committer:
        """The same with a user: a uuid if there was none."""
        return self if self.user else replace(self, user=str(uuid.uuid4()))

    def request(self, kind: CommitKind, *, delta: Sequence[ManifestEntry]) -> CommitRequest:
        """A commit request in this committer's name. REQUIRES: named()."""
        return CommitRequest(
            kind=kind,
            user=self.user or "",
            identifier=BATCH_COMMIT_IDENTIFIER if self.identifier is None else self.identifier,
            properties=self.properties,
            delta=tuple(delta),
            watermark=self.watermark,
        )


class TableWrite:
    """Writes frames to one table version."""

    def __init__(self, store: TableStore, schema: TableSchema, *, table: str) -> None:
        self._store = store
        self._schema = schema
        self._table = table
        self._live = LiveFiles(store, schema)
        self._files = DataFiles(store.io, schema, store.schemas)
        index_files = IndexFiles(store, schema)
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
        if self._schema.table_options.write_only or not written:
            return snapshot
        frames = {name: rows for part in written for name, rows in part.frames.items()}
        keys = [part.bucket.key for part in written]
        files = frozenset(file.file_name for part in written for file in part.message.new_files)
        try:
            return self.compact(keys, committer=named, frames=frames, awaited=files) or snapshot
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
            index = [
                entry
                for part in written
                for entry in index_entries(*part.bucket.key, added=part.message.new_index_files, removed=())
            ]
            request = replace(
                committer.request(CommitKind.APPEND, delta=_new_files(written)),
                changelog=tuple(_changelog_files(written)),
                expected_offsets=committer.expected_offsets,
                index=tuple(index),
                index_base=self._index_base(latest),
                rows_base=self._rows_base(latest),
            )
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
        removed = self._live.entries(latest, keep=keep)
        replaced = frozenset(entry.partition for entry in removed) if partitions is None else partitions
        written = self._level0.write(frame, latest, level=self._top_level(), replaced=replaced)
        delta = [*(entry.as_delete() for entry in removed), *_new_files(written)]
        index = [
            entry
            for part in written
            for entry in index_entries(*part.bucket.key, added=part.message.new_index_files, removed=())
        ]
        request = replace(
            committer.named().request(CommitKind.OVERWRITE, delta=delta),
            index=(*self._removed_index(latest, partitions), *index),
            expected_offsets=committer.expected_offsets,
            index_base=self._index_base(latest),
            rows_base=self._rows_base(latest),
            check_conflicts=True,
        )
        return self._commit.commit(request)

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
                return self._commit.commit(_compaction_request(named, messages))
            except CommitConflict as conflict:
                self._discard(messages, buckets)
                overtaken = conflict
        raise overtaken

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
        return [
            IndexManifestEntry(
                kind=FileKind.DELETE,
                partition=entry.partition,
                bucket=entry.bucket,
                index_file=entry.index_file,
            )
            for entry in self._live.manifests.read_index(latest.index_manifest)
            if partitions is None or entry.partition in partitions
        ]

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


def _new_files(written: Sequence[WrittenBucket]) -> list[ManifestEntry]:
    return [entry for part in written for entry in _added(part.message, part.message.new_files)]


def _changelog_files(written: Sequence[WrittenBucket]) -> list[ManifestEntry]:
    return [entry for part in written for entry in _added(part.message, part.message.changelog_files)]


def _added(message: CommitMessage, files: Sequence[DataFileMeta]) -> list[ManifestEntry]:
    return adds(message.partition, message.bucket, message.total_buckets, files)


def _compaction_request(committer: Committer, messages: Sequence[CommitMessage]) -> CommitRequest:
    delta: list[ManifestEntry] = []
    changelog: list[ManifestEntry] = []
    index: list[IndexManifestEntry] = []
    for message in messages:
        delta += [entry.as_delete() for entry in _added(message, message.compact_before)]
        delta += _added(message, message.compact_after)
        changelog += _added(message, message.compact_changelog_files)
        index += index_entries(
            message.partition,
            message.bucket,
            added=message.compact_new_index_files,
            removed=message.compact_deleted_index_files,
        )
    request = committer.request(CommitKind.COMPACT, delta=delta)
    return replace(request, changelog=tuple(changelog), index=tuple(index), check_conflicts=True)

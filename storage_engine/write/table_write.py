"""Writes to one table version: upsert and overwrite, each as one atomic commit.

Spec: "Write path" of Apache Paimon: an upsert is an APPEND snapshot; the compaction that follows it is a COMPACT
snapshot of the same user and identifier.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace

import polars as pl

from storage_engine.errors import CommitConflict, OffsetConflict, Unsupported
from storage_engine.lifecycle_options import LifecycleOptions
from storage_engine.spec.manifest import (
    CommitMessage,
    IndexManifestEntry,
    ManifestEntry,
)
from storage_engine.spec.schema import TableSchema
from storage_engine.spec.snapshot import CommitKind, Snapshot
from storage_engine.store.manifest_cache import ALL_ENTRIES, EntryFilter
from storage_engine.store.paths import POSTPONE_BUCKET
from storage_engine.store.table_store import TableStore
from storage_engine.write.commit import ANY_INDEX
from storage_engine.write.compactor import Compactor
from storage_engine.write.dynamic_buckets import DynamicBuckets
from storage_engine.write.key_locations import KeyLocations
from storage_engine.write.level0_writer import Level0Writer, WrittenBucket
from storage_engine.write.offsets import Offsets
from storage_engine.write.requests import Committer, append_request, removed_index
from storage_engine.write.table_compaction import TableCompaction
from storage_engine.write.write_buffer import WriteBuffer, at_the_top

_log = logging.getLogger(__name__)
_APPEND_ATTEMPTS = 10
_DYNAMIC = -1


Targets = Callable[[pl.DataFrame], frozenset[bytes] | None]
"""The partitions that some rows replace (None: all)."""


class TableWrite(TableCompaction):
    """Writes frames to one table version."""

    def __init__(self, store: TableStore, schema: TableSchema, *, table: str) -> None:
        super().__init__(store, schema, table=table)
        is_dynamic = bool(schema.primary_keys) and schema.table_options.bucket == _DYNAMIC
        self._dynamic: DynamicBuckets | None = None
        self._locations: KeyLocations | None = None
        if is_dynamic and schema.is_cross_partition:
            self._locations = KeyLocations(store.snapshots, schema, self._live, self._files)
        elif is_dynamic:
            self._dynamic = DynamicBuckets(store, schema, self._live.manifests, self._index_files)
        self._level0 = Level0Writer(
            schema, self._live, self._files, self._dynamic, table=table, locations=self._locations
        )
        self._silent_compactor = Compactor(schema, self._files, self._index_files, changelog=False)
        lifecycle = LifecycleOptions.parse(schema.options)
        self._commits_nothing = lifecycle.force_create_snapshot or lifecycle.ignore_empty_commit is False

    def upsert(self, frame: pl.DataFrame, committer: Committer) -> Snapshot | None:
        """Write a conformed frame; None if nothing was to be done.

        A pair of user and identifier that is already committed writes nothing, but finishes a compaction that an
        interrupted writer left undone. An empty frame with an identifier commits the identifier alone. Raises
        OffsetConflict and CommitUnfinished.
        """
        if self.is_done(committer):
            return None
        if frame.is_empty() and committer.identifier is None and not self._commits_nothing:
            return None
        named = committer.named()
        written, snapshot = self._appended(frame, named)
        if snapshot is None:
            self.settle()
            return None
        frames = {name: rows for part in written for name, rows in part.frames.items()}
        return self._after.run(snapshot, named, [part.message for part in written], frames)

    def is_done(self, committer: Committer) -> bool:
        """Whether a user's identifier is committed; the compaction that its writer left undone is finished then."""
        done = self._is_committed(committer, self._store.snapshots.latest())
        if done:
            self.settle()
        return done

    def upsert_batches(self, frames: Iterable[pl.DataFrame], committer: Committer) -> Snapshot | None:
        """``upsert`` of rows that come frame by frame, at least one: still one commit, in bounded memory.

        Nothing is committed, and no file stays, if a frame cannot be had.
        """
        if self.is_done(committer):
            return None
        if self._locations is not None:
            return self.upsert(pl.concat(frames), committer)
        named = committer.named()
        with self.new_buffer(named) as buffer:
            for frame in frames:
                buffer.add(frame)
            messages = buffer.messages()
        if messages is None:
            return self.upsert(buffer.held(), named)
        try:
            snapshot = self.commit_messages(messages, named, base=buffer.base)
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
        named = committer.named()
        partitions: frozenset[bytes] | None = frozenset()
        with self.new_buffer(named, overwrites=True) as buffer:
            for frame in frames:
                mine = targets(frame)
                partitions = None if mine is None or partitions is None else partitions | mine
                buffer.add(frame)
            messages = buffer.messages()
            if messages is not None and self._schema.primary_keys and self._postponed is None:
                messages = at_the_top(messages, self._live, self._files, self._silent_compactor)
        if messages is None:
            return self.overwrite(buffer.held(), partitions, named)
        return self._overwritten_by(messages, partitions, named, buffer.base)

    def new_buffer(self, committer: Committer, *, overwrites: bool = False) -> WriteBuffer:
        """For rows that come frame by frame, on top of the newest snapshot, or (``overwrites``) in place of what is there."""
        if self._locations is not None:
            raise Unsupported(f"table {self._table}: rows that move between partitions are written by write()")
        latest = self._store.snapshots.latest()
        if self._postponed is not None:
            flush = self._postponed.flushes(user=committer.user or "")
        else:
            flush = self._level0.flushes(None if overwrites else latest, changelog=not overwrites)
        return WriteBuffer(self._schema, flush, self._files, self._index_files, latest)

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
        return None if snapshot is None else self._after.run(snapshot, named, adding, {})

    def _appended(self, frame: pl.DataFrame, committer: Committer) -> tuple[list[WrittenBucket], Snapshot | None]:
        """Write level 0 and commit it; again from the start if another writer assigned dynamic buckets meanwhile.

        No snapshot if another run committed the same user and identifier meanwhile.
        """
        for attempt in range(_APPEND_ATTEMPTS):
            latest = self._store.snapshots.latest()
            written = self._written(frame, latest, committer)
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

    def _written(self, frame: pl.DataFrame, latest: Snapshot | None, committer: Committer) -> list[WrittenBucket]:
        if self._postponed is not None:
            return self._postponed.write(frame, user=committer.user or "")
        return self._level0.write(frame, latest)

    def overwrite(
        self,
        frame: pl.DataFrame,
        partitions: Collection[bytes] | None,
        committer: Committer,
        *,
        read_at: int | None = None,
    ) -> Snapshot | None:
        """Replace partitions (None: the whole table) by a conformed frame. Produces no changelog, as in Paimon.

        ``read_at`` is the snapshot that the frame was read at, where it must hold all rows: a later commit of rows conflicts.
        Rows go straight to the top level, so that nothing is left to compact.
        """
        latest = self._store.snapshots.latest()
        if self._is_committed(committer, latest):
            return None
        keep = ALL_ENTRIES if partitions is None else EntryFilter.of_partitions(partitions)
        replaced = partitions or frozenset(entry.partition for entry in self._live.entries(latest, keep=keep))
        named = committer.named()
        if self._postponed is not None:
            written = self._postponed.write(frame, user=named.user or "")
        else:
            written = self._level0.write(frame, latest, level=self._top_level(), replaced=replaced)
        return self._overwritten_by([part.message for part in written], partitions, named, latest, read_at=read_at)

    def _overwritten_by(
        self,
        messages: Sequence[CommitMessage],
        partitions: Collection[bytes] | None,
        committer: Committer,
        latest: Snapshot | None,
        *,
        read_at: int | None = None,
    ) -> Snapshot | None:
        """Commit new files of the top level in place of all of some partitions."""
        request = append_request(committer.named(), messages)
        keep = ALL_ENTRIES if partitions is None else EntryFilter.of_partitions(partitions)
        removed = [entry for entry in self._live.entries(latest, keep=keep) if self._replaces(entry)]
        return self._commit.commit(
            replace(
                request,
                kind=CommitKind.OVERWRITE,
                delta=(*(entry.as_delete() for entry in removed), *request.delta),
                changelog=(),
                index=(*self._removed_index(latest, partitions), *request.index),
                index_base=self._index_base(latest),
                rows_base=self._rows_base(latest) if read_at is None else read_at,
                check_conflicts=True,
            )
        )

    def _replaces(self, entry: ManifestEntry) -> bool:
        """Whether an overwrite removes a file: postponed rows stay where real buckets alone are written."""
        return entry.bucket != POSTPONE_BUCKET or self._postponed is not None

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

"""Turns commit messages into snapshots.

Spec: "Concurrency control / commit protocol" of Apache Paimon. Order of writing: data files (before), manifests,
manifest lists, index manifest, then ``snapshot-N`` by exclusive creation. New files and a compaction are two
snapshots with one identifier: APPEND, then COMPACT.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from storage_engine.errors import CommitConflict, SnapshotNotFound
from storage_engine.spec.manifest import (
    DELETION_VECTORS_INDEX,
    DataFileMeta,
    FileKind,
    IndexFileMeta,
    IndexManifestEntry,
    ManifestEntry,
    ManifestFileMeta,
)
from storage_engine.spec.schema import TableSchema
from storage_engine.spec.snapshot import BATCH_COMMIT_IDENTIFIER, KEEPING_ROWS, CommitKind, Snapshot
from storage_engine.store.live_files import LiveFiles
from storage_engine.store.manifest_cache import EntryFilter
from storage_engine.store.table_store import TableStore
from storage_engine.store.turns import turn
from storage_engine.write.conflicts import conflict
from storage_engine.write.offsets import Offsets, carried_properties, check_expected
from storage_engine.write.vector_conflicts import vector_conflict

ANY_INDEX = "*"
_FIRST_BACKOFF_S, _LONGEST_BACKOFF_S = 0.01, 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitRequest:
    """Who commits what.

    ``properties`` are kept in the snapshot; ``expected_offsets`` (user → last identifier or None) is compared at every
    attempt, so that nobody else's commit can slip in between.
    """

    kind: CommitKind
    user: str
    identifier: int
    delta: tuple[ManifestEntry, ...] = ()
    changelog: tuple[ManifestEntry, ...] = ()
    index: tuple[IndexManifestEntry, ...] = ()
    properties: Mapping[str, str] = field(default_factory=dict)
    expected_offsets: Mapping[str, int | None] = field(default_factory=dict)
    check_conflicts: bool = False
    statistics: str | None = None
    """A new file of statistics; none keeps the one before, as long as the schema is the same."""
    watermark: int | None = None
    """Epoch milliseconds of event time; a snapshot's is never below that of the one before."""
    index_base: str | None = ANY_INDEX
    """The index manifest that this commit builds on, where that matters (dynamic buckets)."""
    rows_base: int | None = None
    """The snapshot whose rows this commit builds on (0: none), where nobody may change any since (keys that move)."""

    def is_repeated(self, committed: Offsets) -> bool:
        """Whether its user has committed its identifier; the compaction that follows a commit bears the same one."""
        if self.kind is CommitKind.COMPACT or self.identifier == BATCH_COMMIT_IDENTIFIER:
            return False
        return committed.identifiers.get(self.user, -1) >= self.identifier

    @property
    def file_names(self) -> tuple[str, ...]:
        """The data and index files that it names."""
        files = [entry.file for entry in (*self.delta, *self.changelog)]
        beside = [name for file in files for name in file.extra_files]
        return (*(file.file_name for file in files), *beside, *(entry.index_file.file_name for entry in self.index))

    @property
    def partitions(self) -> frozenset[bytes]:
        """The partitions that it touches."""
        return frozenset(entry.partition for entry in self.delta) | {entry.partition for entry in self.index}


def adds(partition: bytes, bucket: int, total_buckets: int, files: Iterable[DataFileMeta]) -> list[ManifestEntry]:
    """ADD entries of files."""
    return [
        ManifestEntry(kind=FileKind.ADD, partition=partition, bucket=bucket, total_buckets=total_buckets, file=file)
        for file in files
    ]


class FileStoreCommit:
    """Commits to one table (or one branch of it)."""

    def __init__(
        self,
        store: TableStore,
        schema: TableSchema,
        live: LiveFiles,
        *,
        table: str,
        clock_millis: Callable[[], int] = lambda: int(time.time() * 1000),
    ) -> None:
        self._store = store
        self._schema = schema
        self._live = live
        self._manifests = live.manifests
        self._table = table
        self._clock_millis = clock_millis
        self._key_types = schema.types_of(schema.trimmed_primary_keys)
        self._is_append = not schema.primary_keys
        self._has_buckets = self._is_append and schema.table_options.bucket > 0

    def commit(self, request: CommitRequest) -> Snapshot | None:
        """Create the next snapshot, trying again when another writer took its number.

        None if another run committed the same user and identifier meanwhile. Raises CommitConflict or OffsetConflict
        (nothing became visible) and CommitStateUnknown.
        """
        delta = self._manifests.write(request.delta)
        changelog = self._manifests.write(request.changelog)
        wait_s = _FIRST_BACKOFF_S
        snapshots = self._store.io.local_path(self._store.paths.snapshots)
        for _ in range(self._schema.table_options.commit_max_retries + 1):
            with turn(snapshots):
                latest = self._store.snapshots.latest()
                offsets = Offsets.read(self._store.snapshots, latest)
                if request.is_repeated(offsets):
                    return None
                created = self._attempt(request, latest, offsets, delta, changelog)
            if created is not None:
                return created
            time.sleep(wait_s * (0.5 + random.random()))  # noqa: S311 - jitter, not a secret
            wait_s = min(wait_s * 2, _LONGEST_BACKOFF_S)
        raise CommitConflict(
            f"table {self._table}: {self._schema.table_options.commit_max_retries + 1} attempts to"
            f" commit were all overtaken by"
            " other writers; try again, or raise 'commit.max-retries'"
        )

    def _attempt(
        self,
        request: CommitRequest,
        latest: Snapshot | None,
        offsets: Offsets,
        delta: Sequence[ManifestFileMeta],
        changelog: Sequence[ManifestFileMeta],
    ) -> Snapshot | None:
        check_expected(offsets, request.expected_offsets, table=self._table)
        if request.check_conflicts:
            self._check_conflicts(request, latest)
        if request.index_base not in (ANY_INDEX, None if latest is None else latest.index_manifest):
            raise CommitConflict(
                f"table {self._table}: another writer has assigned dynamic buckets meanwhile; write again"
            )
        if request.rows_base is not None and latest is not None:
            self._check_only_compacted(request.rows_base, latest)
        before = [] if latest is None else self._live.manifest_metas(latest)
        base = self._manifests.merge(before)
        base_name, base_size = self._manifests.write_list(base)
        delta_name, delta_size = self._manifests.write_list(delta)
        changelog_name, changelog_size = self._manifests.write_list(changelog) if changelog else (None, None)
        delta_records = _record_delta(request.delta)
        snapshot = Snapshot(
            id=1 if latest is None else latest.id + 1,
            schema_id=self._latest_schema_id(),
            base_manifest_list=base_name,
            base_manifest_list_size=base_size,
            delta_manifest_list=delta_name,
            delta_manifest_list_size=delta_size,
            changelog_manifest_list=changelog_name,
            changelog_manifest_list_size=changelog_size,
            index_manifest=self._index_manifest(request, latest),
            commit_user=request.user,
            commit_identifier=request.identifier,
            commit_kind=request.kind,
            time_millis=max(self._clock_millis(), 0 if latest is None else latest.time_millis),
            total_record_count=delta_records + (0 if latest is None else latest.total_record_count),
            delta_record_count=delta_records,
            changelog_record_count=sum(entry.file.row_count for entry in request.changelog),
            watermark=_watermark(request, latest),
            statistics=request.statistics or self._kept_statistics(latest),
            properties=carried_properties(offsets, request.user, request.identifier, request.properties),
        )
        beside = (base_name, delta_name, changelog_name, snapshot.index_manifest, snapshot.statistics)
        manifests = (meta.file_name for meta in (*base, *delta, *changelog))
        needs = (*(name for name in beside if name is not None), *manifests, *request.file_names)
        if self._store.snapshots.try_create(snapshot, needs=needs) or self._is_ours(snapshot):
            return snapshot
        self._remove_lists([base_name, delta_name, changelog_name], base, before)
        return None

    def _kept_statistics(self, latest: Snapshot | None) -> str | None:
        return None if latest is None or latest.schema_id != self._latest_schema_id() else latest.statistics

    def _latest_schema_id(self) -> int:
        latest = self._store.schemas.latest()
        return self._schema.id if latest is None else latest.id

    def _is_ours(self, snapshot: Snapshot) -> bool:
        """Whether a creation that was thought lost had succeeded; the names of its lists are nobody else's."""
        with suppress(SnapshotNotFound):
            return self._store.snapshots.get(snapshot.id).delta_manifest_list == snapshot.delta_manifest_list
        return False

    def _check_conflicts(self, request: CommitRequest, latest: Snapshot | None) -> None:
        partitions = request.partitions
        live = self._live.entries(latest, keep=EntryFilter.of_partitions(partitions))
        overwrite = request.kind is CommitKind.OVERWRITE
        reason = conflict(live, request.delta, key_types=self._key_types, overwrite=overwrite)
        if reason is None and self._is_append:
            listed = self._listed_index(latest)
            names = {entry.file.file_name for entry in live}
            reason = vector_conflict(listed, request.index, live=names, delta=request.delta)
        if reason is not None:
            raise CommitConflict(f"table {self._table}: the {request.kind} commit conflicts: {reason}")

    def _check_only_compacted(self, base: int, latest: Snapshot) -> None:
        since = range(base + 1, latest.id + 1)
        if any(self._store.snapshots.get(id_).commit_kind not in KEEPING_ROWS for id_ in since):
            raise CommitConflict(
                f"table {self._table}: another writer may have moved the same keys meanwhile; write again"
            )

    def _index_manifest(self, request: CommitRequest, latest: Snapshot | None) -> str | None:
        """The index manifest after this commit: a full list."""
        current = None if latest is None else latest.index_manifest
        if not request.index:
            return current
        removed = {entry.index_file.file_name for entry in request.index if entry.kind is FileKind.DELETE}
        added = [entry for entry in request.index if entry.kind is FileKind.ADD]
        replaced = {_bucket_of_index(entry) for entry in added if self._is_one_a_bucket(entry)}
        kept = [
            entry
            for entry in self._listed_index(latest)
            if entry.index_file.file_name not in removed and _bucket_of_index(entry) not in replaced
        ]
        return self._manifests.write_index([*kept, *added])

    def _listed_index(self, latest: Snapshot | None) -> list[IndexManifestEntry]:
        current = None if latest is None else latest.index_manifest
        return [] if current is None else list(self._manifests.read_index(current))

    def _is_one_a_bucket(self, entry: IndexManifestEntry) -> bool:
        """Whether a new index file replaces the one of its bucket and type; append tables without buckets have many."""
        return self._has_buckets or not self._is_append or entry.index_file.index_type != DELETION_VECTORS_INDEX

    def _remove_lists(
        self,
        names: Iterable[str | None],
        base: Sequence[ManifestFileMeta],
        before: Sequence[ManifestFileMeta],
    ) -> None:
        """Remove what a lost attempt wrote for itself alone; its delta manifests are used by the next attempt."""
        known = {meta.file_name for meta in before}
        merged = [meta.file_name for meta in base if meta.file_name not in known]
        for name in (*names, *merged):
            if name is not None:
                self._store.io.delete(self._store.paths.manifest_file(name))


def index_entries(
    partition: bytes, bucket: int, *, added: Iterable[IndexFileMeta], removed: Iterable[IndexFileMeta]
) -> list[IndexManifestEntry]:
    """Index manifest changes of one bucket: deletes first, as Paimon applies them."""
    kinds = [(FileKind.DELETE, file) for file in removed] + [(FileKind.ADD, file) for file in added]
    return [IndexManifestEntry(kind=kind, partition=partition, bucket=bucket, index_file=file) for kind, file in kinds]


def _bucket_of_index(entry: IndexManifestEntry) -> tuple[bytes, int, str]:
    return entry.partition, entry.bucket, entry.index_file.index_type


def _watermark(request: CommitRequest, latest: Snapshot | None) -> int | None:
    known = (request.watermark, None if latest is None else latest.watermark)
    return max((mark for mark in known if mark is not None), default=None)


def _record_delta(entries: Iterable[ManifestEntry]) -> int:
    return sum(entry.file.row_count if entry.kind is FileKind.ADD else -entry.file.row_count for entry in entries)

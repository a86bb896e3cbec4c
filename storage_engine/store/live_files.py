"""The live files of a snapshot, bucket by bucket.

Spec: "Manifest" of Apache Paimon: live files are the ADD entries of base and delta list that no DELETE entry names.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from storage_engine.codec.binary_columns import BinaryRows
from storage_engine.codec.collector import collector_paused
from storage_engine.codec.deletion_vector import DeletionVector, read_deletion_vectors
from storage_engine.codec.manifest_columns import EntryColumns
from storage_engine.codec.many_values import made_of_columns
from storage_engine.errors import CorruptFile
from storage_engine.spec.manifest import (
    DELETION_VECTORS_INDEX,
    DataFileMeta,
    IndexFileMeta,
    ManifestEntry,
    ManifestFileMeta,
    live_entries,
)
from storage_engine.spec.schema import TableSchema
from storage_engine.spec.snapshot import Snapshot
from storage_engine.store.file_io import FileIO
from storage_engine.store.manifest_cache import ALL_ENTRIES, MANY, EntryFilter, Found
from storage_engine.store.manifests import ManifestStore, as_columns, as_values
from storage_engine.store.paths import POSTPONE_BUCKET, bucket_directory
from storage_engine.store.schemas import SchemaStore
from storage_engine.store.table_layout import TableLayout
from storage_engine.store.table_store import TableStore

BucketKey = tuple[bytes, int]
IndexFiles = Mapping[BucketKey, tuple[IndexFileMeta, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """One bucket of one partition at a snapshot.

    ``partition`` is the serialized row, ``partition_values`` the same as Python values, ``directory`` where its data
    files lie, ``vectors`` the deletion vectors by data file name, ``index_files`` what the index manifest lists for it.
    """

    partition: bytes
    partition_values: tuple[object, ...]
    bucket: int
    total_buckets: int
    directory: str
    files: tuple[DataFileMeta, ...] = ()
    index_files: tuple[IndexFileMeta, ...] = ()
    vectors: Mapping[str, DeletionVector] = field(default_factory=dict)

    @property
    def key(self) -> BucketKey:
        """What identifies the bucket within a table."""
        return self.partition, self.bucket

    @property
    def max_sequence_number(self) -> int:
        """The highest sequence number of its live files, -1 if there is none."""
        return max((file.max_sequence_number for file in self.files), default=-1)


class _Partition(NamedTuple):
    """The values of a partition, and what the paths of its buckets begin with."""

    values: tuple[object, ...]
    directory: str


ManifestFilter = Callable[[Sequence[ManifestFileMeta]], Sequence[ManifestFileMeta]]


class LiveFiles:
    """Reads which files are live at a snapshot of one table version."""

    def __init__(self, store: TableStore, schema: TableSchema) -> None:
        self._store = store
        self.layout = TableLayout(store.paths, schema)
        self.manifests: ManifestStore = store.manifests(schema)

    @property
    def io(self) -> FileIO:
        """Where the files lie."""
        return self._store.io

    @property
    def schemas(self) -> SchemaStore:
        """The versions of the table that its files were written by."""
        return self._store.schemas

    def entries(self, snapshot: Snapshot | None, *, keep: EntryFilter = ALL_ENTRIES) -> list[ManifestEntry]:
        """Live entries of the wanted partitions and buckets, in order of the manifests."""
        found = self.found(snapshot, keep=keep)
        with collector_paused():
            return as_values(found)

    def found(
        self,
        snapshot: Snapshot | None,
        *,
        kept_manifests: ManifestFilter | None = None,
        keep: EntryFilter = ALL_ENTRIES,
    ) -> Found:
        """The same, as columns where they are many; ``kept_manifests`` only saves work and may keep too much."""
        if snapshot is None:
            return []
        metas: Sequence[ManifestFileMeta] = self.manifest_metas(snapshot)
        parts = self.manifests.found_in_all(metas if kept_manifests is None else kept_manifests(metas), keep)
        columns = [part for part in parts if isinstance(part, EntryColumns)]
        with collector_paused():
            if not columns or sum(map(len, parts)) < MANY:
                return live_entries(entry for part in parts for entry in as_values(part))
            return EntryColumns.together([as_columns(part) for part in parts]).live()

    def manifest_metas(self, snapshot: Snapshot) -> list[ManifestFileMeta]:
        """Manifests of the base list, then of the delta list."""
        base = self.manifests.read_list(snapshot.base_manifest_list, snapshot.base_manifest_list_size)
        delta = self.manifests.read_list(snapshot.delta_manifest_list, snapshot.delta_manifest_list_size)
        return [*base, *delta]

    def buckets(
        self,
        snapshot: Snapshot | None,
        *,
        only: Iterable[BucketKey] | None = None,
        keep: EntryFilter = ALL_ENTRIES,
    ) -> dict[BucketKey, Bucket]:
        """Buckets that hold live files, by key, in order of the manifests; ``only`` limits them, instead of ``keep``."""
        wanted = None if only is None else frozenset(only)
        if wanted is not None:
            keep = EntryFilter.of_partitions({partition for partition, _ in wanted})
        entries = self.entries(snapshot, keep=keep)
        if wanted is not None:
            entries = [entry for entry in entries if (entry.partition, entry.bucket) in wanted]
        return self.by_bucket(entries, self.index_files(snapshot))

    def by_bucket(self, entries: Iterable[ManifestEntry], index_files: IndexFiles) -> dict[BucketKey, Bucket]:
        """Live entries as buckets, in order; ``index_files`` are those of the snapshot."""
        grouped: dict[BucketKey, list[ManifestEntry]] = {}
        for entry in entries:
            grouped.setdefault((entry.partition, entry.bucket), []).append(entry)
        files = [[entry.file for entry in listed] for listed in grouped.values()]
        totals = [listed[-1].total_buckets for listed in grouped.values()]
        return dict(zip(grouped, self.buckets_of(list(grouped), totals, files, index_files), strict=True))

    def buckets_of(
        self,
        keys: Sequence[BucketKey],
        totals: Sequence[int],
        files: Sequence[Sequence[DataFileMeta]],
        index_files: IndexFiles,
    ) -> list[Bucket]:
        """The buckets of some keys, with how many of them their partitions have, and their files."""
        places = self._places({partition for partition, _ in keys})
        placed = [places[partition] for partition, _ in keys]
        indexes = [index_files.get(key, ()) for key in keys]
        columns: dict[str, Iterable[object]] = {
            "partition": [partition for partition, _ in keys],
            "partition_values": [place.values for place in placed],
            "bucket": [bucket for _, bucket in keys],
            "total_buckets": totals,
            "directory": [
                bucket_directory(place.directory, bucket) for place, (_, bucket) in zip(placed, keys, strict=True)
            ],
            "files": map(tuple, files),
            "index_files": indexes,
            "vectors": [
                self._vectors(key, listed) if listed else {} for key, listed in zip(keys, indexes, strict=True)
            ],
        }
        with collector_paused():
            return made_of_columns(Bucket, len(keys), columns)

    def index_files(self, snapshot: Snapshot | None) -> IndexFiles:
        """The index files of each bucket that has some. Raises FileMissing, CorruptFile."""
        if snapshot is None or snapshot.index_manifest is None:
            return {}
        found: dict[BucketKey, tuple[IndexFileMeta, ...]] = {}
        for entry in self.manifests.read_index(snapshot.index_manifest):
            key = (entry.partition, entry.bucket)
            found[key] = (*found.get(key, ()), entry.index_file)
        return found

    def empty_bucket(self, partition: bytes, bucket: int, total_buckets: int) -> Bucket:
        """A bucket that holds nothing yet."""
        return self.buckets_of([(partition, bucket)], [total_buckets], [()], {})[0]

    def partition_values(self, partition: bytes) -> tuple[object, ...]:
        """A serialized partition as Python values."""
        return self.layout.partition_values(partition)

    def directory(self, partition_values: Sequence[object], bucket: int) -> str:
        """Where the data files of a bucket lie."""
        return bucket_directory(self.layout.partition_directory(partition_values), bucket)

    def _places(self, partitions: Collection[bytes]) -> dict[bytes, _Partition]:
        rows, directory_of = list(partitions), self.layout.partition_directory
        values = BinaryRows(self.layout.partition_types, rows).values()
        return {row: _Partition(each, directory_of(each)) for row, each in zip(rows, values, strict=True)}

    def _vectors(self, key: BucketKey, index_files: Iterable[IndexFileMeta]) -> dict[str, DeletionVector]:
        vectors: dict[str, DeletionVector] = {}
        for index_file in index_files:
            if index_file.index_type == DELETION_VECTORS_INDEX and index_file.deletion_vector_ranges:
                vectors |= self._vectors_in(self.layout.index_file(*key, index_file), index_file)
        return vectors

    def _vectors_in(self, path: str, index_file: IndexFileMeta) -> Mapping[str, DeletionVector]:
        cache = self.manifests.cache
        found = cache.vectors_of(path, index_file)
        if found is None:
            ranges = index_file.deletion_vector_ranges or ()
            found = read_deletion_vectors(self._store.io.read_bytes(path), ranges, path=path)
            cache.put_vectors(path, index_file, found)
        return found


def check_total_buckets(buckets: Iterable[Bucket], expected: int, *, table: str) -> None:
    """Refuse to mix bucket counts in a partition, which readers would not notice. Raises CorruptFile."""
    for bucket in buckets:
        if bucket.total_buckets not in (expected, POSTPONE_BUCKET):
            raise CorruptFile(
                f"table {table}: partition {bucket.partition_values} was written with"
                f" {bucket.total_buckets} buckets, the table"
                f" now has {expected}: rewrite the partition with overwrite() first"
            )

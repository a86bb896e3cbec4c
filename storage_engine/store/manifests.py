"""``ManifestStore``: writes, reads and merges manifests, manifest lists and index manifests.

Spec: "Manifest" of Apache Paimon. A name is never written twice, so what was read once is kept. What a list
says of a manifest (size, counts) is compared with what the manifest holds: readers skip by those numbers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from storage_engine.codec.binary_row import deserialize_row, serialize_row
from storage_engine.codec.manifest_avro import (
    decode_index_manifest,
    decode_manifest_list,
    encode_index_manifest,
    encode_manifest,
    encode_manifest_list,
)
from storage_engine.codec.manifest_columns import EntryColumns, PartOfManifest, decode_columns, decode_part
from storage_engine.errors import CorruptFile
from storage_engine.options import TableOptions
from storage_engine.spec.manifest import (
    EMPTY_STATS,
    EntryIdentity,
    FileKind,
    IndexManifestEntry,
    ManifestEntry,
    ManifestFileMeta,
    SimpleStats,
)
from storage_engine.spec.types import DataType
from storage_engine.store.file_io import FileIO
from storage_engine.store.manifest_cache import (
    ALL_ENTRIES,
    MANY,
    EntryFilter,
    Found,
    HeldManifest,
    ManifestCache,
    check_named_files,
)
from storage_engine.store.paths import FileNames, TablePaths, check_stored_name
from storage_engine.store.threads import side_by_side

_THREADS = 4


class ManifestStore:
    """Manifests of one table, as one writer names and writes them.

    ``partition_types`` are the types of the partition columns, in order.
    """

    def __init__(
        self,
        io: FileIO,
        paths: TablePaths,
        options: TableOptions,
        partition_types: Sequence[DataType],
        *,
        cache: ManifestCache | None = None,
    ) -> None:
        self._io = io
        self._paths = paths
        self._options = options
        self._encoding = options.manifest_compression, options.manifest_format
        self._partition_types = tuple(partition_types)
        self.cache = cache or ManifestCache()
        self._manifest_names = FileNames("manifest-")
        self._list_names = FileNames("manifest-list-")
        self._index_names = FileNames("index-manifest-")

    def read_list(self, name: str, size: int | None = None) -> list[ManifestFileMeta]:
        """The manifests that a list names.

        ``size``: what the snapshot says. Raises FileMissing or CorruptFile.
        """
        path = self._path_of(name, "a snapshot")
        metas = self.cache.list_of(path)
        if metas is None:
            metas = tuple(decode_manifest_list(self._read_whole(path, size), path=path))
            for meta in metas:
                check_stored_name(meta.file_name, path=path)
            self.cache.put_list(path, metas)
        return list(metas)

    def write_list(self, metas: Iterable[ManifestFileMeta]) -> tuple[str, int]:
        """Write a list, which may be empty; returns its name and size in bytes."""
        listed = tuple(metas)
        path = self._paths.manifest_file(name := self._list_names.next())
        data = encode_manifest_list(listed, *self._encoding)
        self._io.write_new(path, data)
        self.cache.put_list(path, listed)
        return name, len(data)

    def read(self, manifest: ManifestFileMeta | str, keep: EntryFilter = ALL_ENTRIES) -> list[ManifestEntry]:
        """The entries of a manifest that are wanted. Raises FileMissing or CorruptFile."""
        return as_values(self.found(manifest, keep))

    def found(self, manifest: ManifestFileMeta | str, keep: EntryFilter = ALL_ENTRIES) -> Found:
        """The same, of a large manifest as columns.

        Of one that was not read before, the first read may take only the part that can be wanted; the next one keeps it.
        """
        meta = manifest if isinstance(manifest, ManifestFileMeta) else None
        path = self._path_of(manifest if isinstance(manifest, str) else manifest.file_name, "a manifest list")
        held = self.cache.get(path)
        if held is None:
            data = self._read_whole(path, meta.file_size if meta else None)
            part = decode_part(data, keep.holding, path=path) if keep.holding and self.cache.is_new(path) else None
            if part is not None:
                return _wanted_part(part, meta, keep, path)
            held = HeldManifest(path, decode_columns(data, path=path))
            self.cache.put(path, held)
        if meta is not None:
            _check_counts(meta, held, path)
        return held.found(keep)

    def found_in_all(self, metas: Sequence[ManifestFileMeta], keep: EntryFilter = ALL_ENTRIES) -> list[Found]:
        """What is wanted of several manifests, in order; those that must be read first are read side by side."""
        missing = sum(self.cache.get(self._paths.manifest_file(meta.file_name)) is None for meta in metas)
        return side_by_side(lambda meta: self.found(meta, keep), metas, threads=min(missing, _THREADS))

    def read_all(self, metas: Iterable[ManifestFileMeta]) -> list[ManifestEntry]:
        """The entries of several manifests, in order."""
        return [entry for meta in metas for entry in self.read(meta)]

    def write(self, entries: Sequence[ManifestEntry]) -> list[ManifestFileMeta]:
        """Write entries, in order, as manifests of about the target size; none for no entries."""
        if not entries:
            return []
        data = encode_manifest(entries, *self._encoding)
        target = self._options.manifest_target_file_size
        if len(data) <= target or len(entries) == 1:
            return [self._write_one(entries, data)]
        size = max(1, len(entries) * target // len(data))
        parts = [entries[start : start + size] for start in range(0, len(entries), size)]
        return [self._write_one(part, encode_manifest(part, *self._encoding)) for part in parts]

    def read_index(self, name: str) -> list[IndexManifestEntry]:
        """The index files that an index manifest names. Raises FileMissing or CorruptFile."""
        path = self._path_of(name, "a snapshot")
        entries = self.cache.index_of(path)
        if entries is None:
            entries = tuple(decode_index_manifest(self._io.read_bytes(path), path=path))
            for entry in entries:
                check_stored_name(entry.index_file.file_name, path=path)
                for part in entry.index_file.deletion_vector_ranges or ():
                    check_stored_name(part.data_file_name, path=path)
            self.cache.put_index(path, entries)
        return list(entries)

    def write_index(self, entries: Iterable[IndexManifestEntry]) -> str:
        """Write an index manifest; returns its name."""
        name = self._index_names.next()
        data = encode_index_manifest(entries, *self._encoding)
        self._io.write_new(self._paths.manifest_file(name), data)
        return name

    def merge(self, metas: Sequence[ManifestFileMeta]) -> list[ManifestFileMeta]:
        """Merge small manifests, or all that hold removed files once they are large; returns the new list.

        New manifests are written; the old ones stay, older snapshots need them. Raises CorruptFile for
        manifests that add one file twice.
        """
        full = self._merge_fully(metas)
        return self._merge_small(metas) if full is None else full

    def _merge_fully(self, metas: Sequence[ManifestFileMeta]) -> list[ManifestFileMeta] | None:
        target = self._options.manifest_target_file_size
        must_change = [meta.num_deleted_files > 0 or meta.file_size < target for meta in metas]
        weight = sum(meta.file_size for meta, must in zip(metas, must_change, strict=True) if must)
        if weight < self._options.manifest_full_compaction_size:
            return None
        removals = [
            entry
            for meta in metas
            if meta.num_deleted_files > 0
            for entry in self.read(meta)
            if entry.kind is FileKind.DELETE
        ]
        deleted = {entry.identity for entry in removals}
        partitions = {entry.partition for entry in removals}
        kept: list[ManifestFileMeta] = []
        rewritten: list[ManifestEntry] = []
        for meta, must in zip(metas, must_change, strict=True):
            if not must and not self._may_hold(meta, partitions):
                kept.append(meta)
                continue
            entries = self.read(meta)
            live = [entry for entry in entries if entry.kind is FileKind.ADD and entry.identity not in deleted]
            if not must and len(live) == len(entries):
                kept.append(meta)
            else:
                rewritten += live
        return kept + self.write(rewritten)

    def _merge_small(self, metas: Sequence[ManifestFileMeta]) -> list[ManifestFileMeta]:
        merged: list[ManifestFileMeta] = []
        group: list[ManifestFileMeta] = []
        for meta in metas:
            group.append(meta)
            if sum(member.file_size for member in group) >= self._options.manifest_target_file_size:
                merged += self._merge_group(group)
                group = []
        if len(group) >= self._options.manifest_merge_min_count:
            group = self._merge_group(group)
        return merged + group

    def _merge_group(self, group: Sequence[ManifestFileMeta]) -> list[ManifestFileMeta]:
        return list(group) if len(group) == 1 else self.write(fold_entries(self.read_all(group)))

    def _may_hold(self, meta: ManifestFileMeta, partitions: set[bytes]) -> bool:
        """Whether a manifest's partition range leaves room for one of the partitions."""
        if not self._partition_types:
            return bool(partitions)
        least = self._values_of(meta.partition_stats.min_values, meta.file_name)
        most = self._values_of(meta.partition_stats.max_values, meta.file_name)
        return any(
            all(map(_is_between, least, self._values_of(partition, meta.file_name), most)) for partition in partitions
        )

    def _write_one(self, entries: Sequence[ManifestEntry], data: bytes) -> ManifestFileMeta:
        name = self._manifest_names.next()
        path = self._paths.manifest_file(name)
        self._io.write_new(path, data)
        self.cache.put(
            path, HeldManifest(path, list(entries) if len(entries) < MANY else EntryColumns.of_entries(entries))
        )
        added = sum(entry.kind is FileKind.ADD for entry in entries)
        return ManifestFileMeta(
            file_name=name,
            file_size=len(data),
            num_added_files=added,
            num_deleted_files=len(entries) - added,
            partition_stats=self._partition_stats(entries),
            schema_id=max(entry.file.schema_id for entry in entries),
            min_bucket=min(entry.bucket for entry in entries),
            max_bucket=max(entry.bucket for entry in entries),
            min_level=min(entry.file.level for entry in entries),
            max_level=max(entry.file.level for entry in entries),
        )

    def _partition_stats(self, entries: Sequence[ManifestEntry]) -> SimpleStats:
        if not self._partition_types:
            return EMPTY_STATS
        counts = Counter(entry.partition for entry in entries)
        rows = [(self._values_of(partition, "an entry"), count) for partition, count in counts.items()]
        columns = range(len(self._partition_types))
        present: list[list[Any]] = [[row[i] for row, _ in rows if row[i] is not None] for i in columns]
        return SimpleStats(
            min_values=serialize_row(self._partition_types, [min(column, default=None) for column in present]),
            max_values=serialize_row(self._partition_types, [max(column, default=None) for column in present]),
            null_counts=tuple(sum(count for row, count in rows if row[i] is None) for i in columns),
        )

    def _values_of(self, partition: bytes, where: str) -> tuple[object, ...]:
        try:
            return deserialize_row(self._partition_types, partition)
        except CorruptFile as cause:
            raise CorruptFile(f"{self._paths.manifests}: the partition in {where} cannot be read: {cause}") from cause

    def _path_of(self, name: str, holder: str) -> str:
        return self._paths.manifest_file(check_stored_name(name, path=f"{self._paths.branch_root}: {holder}"))

    def _read_whole(self, path: str, size: int | None) -> bytes:
        data = self._io.read_bytes(path)
        # A cut between two Avro blocks, or another table's file, would otherwise go unnoticed.
        if isinstance(size, int) and len(data) != size:
            raise CorruptFile(
                f"{path}: has {len(data)} bytes where its metadata says {size}; it is truncated or foreign"
            )
        return data


def fold_entries(entries: Iterable[ManifestEntry]) -> list[ManifestEntry]:
    """Entries in order, without the pairs that add and then remove a file; removals of others stay.

    Raises CorruptFile if a file is added twice.
    """
    folded: dict[EntryIdentity, ManifestEntry] = {}
    for entry in entries:
        identity = entry.identity
        if entry.kind is FileKind.ADD:
            if identity in folded:
                raise CorruptFile(f"the manifests add the file {entry.file.file_name} of bucket {entry.bucket} twice")
            folded[identity] = entry
        elif identity in folded:
            del folded[identity]
        else:
            folded[identity] = entry
    return list(folded.values())


def as_values(found: Found) -> list[ManifestEntry]:
    """Entries as values."""
    return found.entries() if isinstance(found, EntryColumns) else found


def as_columns(found: Found) -> EntryColumns:
    """Entries as columns."""
    return found if isinstance(found, EntryColumns) else EntryColumns.of_entries(found)


def _wanted_part(part: PartOfManifest, meta: ManifestFileMeta | None, keep: EntryFilter, path: str) -> EntryColumns:
    if meta is not None and part.count != (said := meta.num_added_files + meta.num_deleted_files):
        raise CorruptFile(f"{path}: holds {part.count} files where its manifest list says {said}")
    columns = part.entries
    wanted = None if keep.partitions is None else keep.partitions(columns.partitions())
    columns = columns.of(wanted, keep.buckets)
    check_named_files(columns.file_names(), path)
    return columns


def _is_between(least: Any, value: Any, most: Any) -> bool:
    """Whether a value lies in a range; an unknown bound or a null value leaves room."""
    return value is None or least is None or most is None or bool(least <= value <= most)


def _check_counts(meta: ManifestFileMeta, held: HeldManifest, path: str) -> None:
    found: Mapping[str, int] = {"added": held.count - held.deleted, "deleted": held.deleted}
    said = {"added": meta.num_added_files, "deleted": meta.num_deleted_files}
    if found != said:
        raise CorruptFile(f"{path}: holds {found} files where its manifest list says {said}")

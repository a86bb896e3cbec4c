"""Manifests: which files a snapshot adds and removes, and what is known of each file.

Spec: "Manifest" of Apache Paimon. Byte fields hold serialized BinaryRows (``storage_engine.codec.binary_row``).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import TypeAlias

EMPTY_ROW = bytes(12)  # arity 0 (4 bytes) and the 8-byte header of an empty BinaryRow


class FileKind(IntEnum):
    """Whether an entry adds or removes its file. The values are on disk: do not change them."""

    ADD = 0
    DELETE = 1


class FileSource(IntEnum):
    """What wrote a file. The values are on disk: do not change them."""

    APPEND = 0
    COMPACT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class SimpleStats:
    """Minimum, maximum (serialized rows) and null count of a list of columns."""

    min_values: bytes = EMPTY_ROW
    max_values: bytes = EMPTY_ROW
    null_counts: tuple[int | None, ...] = ()


EMPTY_STATS = SimpleStats()


@dataclass(frozen=True, slots=True, kw_only=True)
class DataFileMeta:
    """One data or changelog file. ``creation_time_millis`` is local wall-clock time read as UTC, as Paimon keeps it."""

    file_name: str
    file_size: int
    row_count: int
    min_key: bytes = EMPTY_ROW
    max_key: bytes = EMPTY_ROW
    key_stats: SimpleStats = EMPTY_STATS
    value_stats: SimpleStats = EMPTY_STATS
    min_sequence_number: int
    max_sequence_number: int
    schema_id: int
    level: int
    extra_files: tuple[str, ...] = ()
    creation_time_millis: int | None = None
    delete_row_count: int | None = 0
    embedded_index: bytes | None = None
    file_source: FileSource | None = FileSource.APPEND
    value_stats_cols: tuple[str, ...] | None = None
    external_path: str | None = None
    first_row_id: int | None = None
    write_cols: tuple[str, ...] | None = None

    def upgraded(self, level: int) -> DataFileMeta:
        """The same file at another level: a change of metadata alone."""
        return replace(self, level=level)


EntryIdentity: TypeAlias = tuple[bytes, int, int, str, tuple[str, ...], bytes | None, str | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestEntry:
    """A file added to, or removed from, a bucket of a partition."""

    kind: FileKind
    partition: bytes
    bucket: int
    total_buckets: int
    file: DataFileMeta

    @property
    def identity(self) -> EntryIdentity:
        """What makes an ADD and a DELETE speak of the same file."""
        file = self.file
        return (
            self.partition,
            self.bucket,
            file.level,
            file.file_name,
            file.extra_files,
            file.embedded_index,
            file.external_path,
        )

    def as_delete(self) -> ManifestEntry:
        """The entry that removes this file."""
        return replace(self, kind=FileKind.DELETE)


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestFileMeta:
    """One manifest as it stands in a manifest list. The file counts must be exact: readers skip by them."""

    file_name: str
    file_size: int
    num_added_files: int
    num_deleted_files: int
    partition_stats: SimpleStats
    schema_id: int
    min_bucket: int | None = None
    max_bucket: int | None = None
    min_level: int | None = None
    max_level: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeletionVectorRange:
    """Where the deletion vector of one data file lies in an index file."""

    data_file_name: str
    offset: int
    length: int
    cardinality: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexFileMeta:
    """One index file; ``row_count`` is the number of hashes or of deletion vectors in it."""

    index_type: str
    file_name: str
    file_size: int
    row_count: int
    deletion_vector_ranges: tuple[DeletionVectorRange, ...] | None = None
    external_path: str | None = None


HASH_INDEX = "HASH"
DELETION_VECTORS_INDEX = "DELETION_VECTORS"


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexManifestEntry:
    """An index file added to, or removed from, a bucket of a partition."""

    kind: FileKind
    partition: bytes
    bucket: int
    index_file: IndexFileMeta


def live_entries(entries: Iterable[ManifestEntry]) -> list[ManifestEntry]:
    """ADD entries that no DELETE entry names, in order.

    An identity that was ever deleted stays deleted, wherever its ADD stands (Paimon's scan rule).
    """
    listed = list(entries)
    deleted = {entry.identity for entry in listed if entry.kind is FileKind.DELETE}
    if not deleted:
        return listed
    return [entry for entry in listed if entry.kind is FileKind.ADD and entry.identity not in deleted]


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitMessage:
    """What one bucket of one partition contributes to a commit."""

    partition: bytes
    bucket: int
    total_buckets: int
    new_files: tuple[DataFileMeta, ...] = ()
    changelog_files: tuple[DataFileMeta, ...] = ()
    compact_before: tuple[DataFileMeta, ...] = ()
    compact_after: tuple[DataFileMeta, ...] = ()
    compact_changelog_files: tuple[DataFileMeta, ...] = ()
    new_index_files: tuple[IndexFileMeta, ...] = ()
    deleted_index_files: tuple[IndexFileMeta, ...] = ()
    compact_new_index_files: tuple[IndexFileMeta, ...] = ()
    compact_deleted_index_files: tuple[IndexFileMeta, ...] = ()

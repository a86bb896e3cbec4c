"""How the files of one bucket are dealt into splits.

Spec: "Batch read" of Apache Paimon 1.3.1: a section of overlapping sorted runs is merged; a file that no other
overlaps, holds no retraction and needs no masking beyond its deletion vector is read raw.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum, auto

from storage_engine.codec.binary_row import deserialize_row
from storage_engine.lsm.append_compaction import in_sequence
from storage_engine.lsm.levels import sections
from storage_engine.options import MergeEngine
from storage_engine.spec.manifest import DataFileMeta
from storage_engine.spec.schema import TableSchema
from storage_engine.spec.types import DataType
from storage_engine.store.live_files import Bucket
from storage_engine.store.paths import POSTPONE_BUCKET


class Reading(Enum):
    """Which files of a bucket are read, and how: all but ``MERGED`` read them raw."""

    APPEND = auto()  # all, in the order of their sequence numbers
    TOP_LEVEL = auto()  # those of the highest level, if it is not 0
    UPPER_LEVELS = auto()  # those above level 0
    MERGED = auto()  # all, where they overlap merged


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """Files of one bucket that are read together; ``raw`` means without merging."""

    bucket: Bucket
    files: tuple[DataFileMeta, ...]
    raw: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitTotals:
    """What some splits add up to; ``raw_files`` are those in the ``raw_splits``."""

    partitions: int
    buckets: int
    splits: int
    raw_splits: int
    files: int
    raw_files: int
    rows: int
    bytes: int

    @staticmethod
    def of(splits: Sequence[Split]) -> SplitTotals:
        """Of a few."""
        files = [file for split in splits for file in split.files]
        raw = [split for split in splits if split.raw]
        return SplitTotals(
            partitions=len({split.bucket.partition for split in splits}),
            buckets=len({split.bucket.key for split in splits}),
            splits=len(splits),
            raw_splits=len(raw),
            files=len(files),
            raw_files=sum(len(split.files) for split in raw),
            rows=sum(file.row_count for file in files),
            bytes=sum(file.file_size for file in files),
        )


class SplitRules:
    """The rules of one table version. ``read_optimized``: only the top level, unmerged."""

    def __init__(self, schema: TableSchema, *, read_optimized: bool) -> None:
        self.key_types: Sequence[DataType] = schema.types_of(schema.trimmed_primary_keys)
        self.reading = _reading(schema, read_optimized=read_optimized)

    def splits(self, bucket: Bucket) -> Iterator[Split]:
        """The splits of one bucket."""
        files = bucket.files
        if bucket.bucket == POSTPONE_BUCKET:
            return  # its rows come with the compaction that gives them a bucket
        if self.reading is Reading.MERGED and not _one_clean_level(files):
            yield from self._sections(bucket, files)
            return
        if chosen := self._chosen(files):
            yield Split(bucket=bucket, files=tuple(chosen), raw=True)

    def merged_together(self, files: Sequence[DataFileMeta]) -> tuple[DataFileMeta, ...]:
        """Files that are merged, in the order in which a split has them."""
        return tuple(file for run in sections(files, self._key_of)[0] for file in run.files)

    def _chosen(self, files: Sequence[DataFileMeta]) -> Sequence[DataFileMeta]:
        match self.reading:
            case Reading.APPEND:
                return in_sequence(files)
            case Reading.TOP_LEVEL:
                top = max((file.level for file in files), default=0)
                return [file for file in files if file.level == top and top > 0]
            case Reading.UPPER_LEVELS:
                return [file for file in files if file.level > 0]
            case Reading.MERGED:
                return files

    def _sections(self, bucket: Bucket, files: Sequence[DataFileMeta]) -> Iterator[Split]:
        for section in sections(files, self._key_of):
            members = tuple(file for run in section for file in run.files)
            yield Split(bucket=bucket, files=members, raw=len(members) == 1 and members[0].delete_row_count == 0)

    def _key_of(self, key: bytes) -> tuple[object, ...]:
        return deserialize_row(self.key_types, key)


def _reading(schema: TableSchema, *, read_optimized: bool) -> Reading:
    options = schema.table_options
    if not schema.primary_keys:
        return Reading.APPEND
    if read_optimized:
        return Reading.TOP_LEVEL
    no_merge = options.deletion_vectors or options.merge_engine is MergeEngine.FIRST_ROW
    return Reading.UPPER_LEVELS if no_merge else Reading.MERGED


def _one_clean_level(files: Sequence[DataFileMeta]) -> bool:
    level = files[0].level
    return level > 0 and all(file.level == level and file.delete_row_count == 0 for file in files)

"""A conformed frame becomes level-0 files (and ``input`` changelog files), one set for each bucket that it touches.

Spec: "LSM / write path" of Apache Paimon: rows get ascending sequence numbers in input order, are sorted and merged
by key, and written as sorted runs of level 0.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import polars as pl

from storage_engine.errors import Unsupported
from storage_engine.kernel.merge import MergePlan, drop_retracts, gathered, merge, sort_by_key
from storage_engine.kernel.space_filling import Curve, OrderStrategy, ends_of
from storage_engine.options import ChangelogProducer, MergeEngine, TableOptions, flag_of
from storage_engine.spec.manifest import CommitMessage, DataFileMeta, FileSource, IndexFileMeta
from storage_engine.spec.schema import SEQUENCE_NUMBER, TableSchema
from storage_engine.spec.snapshot import Snapshot
from storage_engine.store.data_files import DataFiles, FileRole
from storage_engine.store.live_files import Bucket, BucketKey, LiveFiles, check_total_buckets
from storage_engine.store.manifest_cache import EntryFilter
from storage_engine.store.merge_frames import GROUP
from storage_engine.store.threads import side_by_side
from storage_engine.write.bucket_router import RoutedFrame, by_group, route
from storage_engine.write.dynamic_buckets import DynamicBuckets
from storage_engine.write.key_locations import KeyLocations

_WRITER_THREADS = 2
_ROW_IDS = ("row-tracking.enabled", "data-evolution.enabled")


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenBucket:
    """What a write added to one bucket. ``frames`` are the written rows by file name, for a compaction that follows."""

    bucket: Bucket
    message: CommitMessage
    frames: Mapping[str, pl.DataFrame]


Flush = Callable[[pl.DataFrame, Sequence[WrittenBucket]], list[WrittenBucket]]
"""Writes one of the frames of a commit, given what it has written before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What a commit has written so far: the sequence number that comes next, and the hash indexes that it extended."""

    next_sequence_number: int = 0
    index_files: Mapping[BucketKey, IndexFileMeta] = field(default_factory=dict)

    @staticmethod
    def of(parts: Iterable[WrittenBucket]) -> Written:
        """What some flushes have written, in their order."""
        numbers = [0]
        index_files: dict[BucketKey, IndexFileMeta] = {}
        for part in parts:
            numbers += [file.max_sequence_number + 1 for file in part.message.new_files]
            if part.message.new_index_files:
                index_files[part.bucket.key] = part.message.new_index_files[-1]
        return Written(next_sequence_number=max(numbers), index_files=index_files)


NOTHING_WRITTEN = Written()


class Level0Writer:
    """Writes frames as sorted runs of one table version."""

    def __init__(
        self,
        schema: TableSchema,
        live: LiveFiles,
        files: DataFiles,
        dynamic: DynamicBuckets | None,
        *,
        table: str,
        locations: KeyLocations | None = None,
    ) -> None:
        """``dynamic`` assigns buckets, and ``locations`` partitions too, where the table does not fix them.

        Raises Unsupported for tables that cannot be written.
        """
        for option in _ROW_IDS:
            if flag_of(schema.options, option):
                raise Unsupported(f"table {table}: option {option!r} is 'true': row ids are not given here")
        self._schema = schema
        self._dynamic = dynamic
        self._locations = locations
        self._live = live
        self._files = files
        self._table = table
        self._plan = plan = MergePlan.of(schema)
        are_told = plan.changelog_producer is ChangelogProducer.INPUT
        # where a key's first row says which partition it goes to, that row must not be merged before it is looked at
        is_fixed = locations is None
        self._gathers = plan.engine is MergeEngine.AGGREGATION and is_fixed and not plan.sequence and not are_told

    def flushes(self, base: Snapshot | None, *, changelog: bool) -> Flush:
        """``write`` for the frames of one commit, one after another."""

        def flush(frame: pl.DataFrame, before: Sequence[WrittenBucket]) -> list[WrittenBucket]:
            return self.write(frame, base, after=Written.of(before), changelog=changelog)

        return flush

    def write(
        self,
        frame: pl.DataFrame,
        base: Snapshot | None,
        *,
        level: int = 0,
        replaced: Collection[bytes] | None = None,
        after: Written = NOTHING_WRITTEN,
        changelog: bool = True,
    ) -> list[WrittenBucket]:
        """Write a conformed frame on top of ``base``, or (``level`` above 0: overwrite) beside it, without retractions.

        ``replaced`` are the partitions that are overwritten; ``after``: what the same commit has written before this frame;
        ``changelog``: whether readers are told. Raises CorruptFile if a touched partition was written with another number of
        buckets.
        """
        if frame.is_empty():
            return []
        if self._gathers:
            frame = gathered(frame, self._plan, self._schema.primary_keys)
        if self._locations is not None:
            routed = self._locations.route(frame, base, replaced=replaced)
        else:
            routed = route(frame, self._schema, self._dynamic, None if level else base, after.index_files)
        buckets = {} if level else self._touched_buckets(routed, base)
        first = max((bucket.max_sequence_number for bucket in buckets.values()), default=-1) + 1
        first = max(first, after.next_sequence_number)
        numbers = np.arange(first, first + routed.frame.height, dtype=np.int64)
        numbered = routed.frame.hstack([pl.Series(SEQUENCE_NUMBER, numbers)])
        changes: dict[int, pl.DataFrame] = {}
        if changelog and level == 0 and self._schema.table_options.changelog_producer is ChangelogProducer.INPUT:
            changes = by_group(sort_by_key(numbered, self._plan, group=(GROUP,)))
        merged = self._merged(numbered, level)
        role = self._files.data_role(level if self._schema.primary_keys else 0, FileSource.APPEND)
        work = [
            (
                buckets.get(key) or self._live.empty_bucket(*key, self._schema.table_options.bucket),
                rows,
                group,
            )
            for group, rows in by_group(merged).items()
            for key in (routed.keys[group],)
        ]
        written = side_by_side(
            lambda item: self._write_bucket(item[0], item[1], role, changes.get(item[2])),
            work,
            threads=self._files.threads(merged.height, _WRITER_THREADS),
        )
        return [_with_index(part, routed) for part in written]

    def _merged(self, numbered: pl.DataFrame, level: int) -> pl.DataFrame:
        """One row a key, sorted; the rows of an append table as they came, or clustered, bucket by bucket."""
        if not self._schema.primary_keys:
            return _clustered(numbered, self._schema.table_options).sort(GROUP, maintain_order=True)
        merged = merge(numbered, self._plan, group=(GROUP,))
        return drop_retracts(merged) if level else merged

    def _touched_buckets(self, routed: RoutedFrame, base: Snapshot | None) -> dict[BucketKey, Bucket]:
        touched = [routed.keys[group] for group in np.unique(routed.frame.get_column(GROUP).to_numpy())]
        partitions = frozenset(partition for partition, _ in touched)
        found = self._live.buckets(base, keep=EntryFilter.of_partitions(partitions))
        check_total_buckets(found.values(), self._schema.table_options.bucket, table=self._table)
        return {key: found[key] for key in touched if key in found}

    def _write_bucket(
        self, bucket: Bucket, rows: pl.DataFrame, role: FileRole, changelog: pl.DataFrame | None
    ) -> WrittenBucket:
        new_files = self._files.write(rows, bucket.directory, role)
        changelog_files: list[DataFileMeta] = []
        if changelog is not None:
            changelog_files = self._files.write(changelog, bucket.directory, self._files.changelog_role())
        message = CommitMessage(
            partition=bucket.partition,
            bucket=bucket.bucket,
            total_buckets=bucket.total_buckets,
            new_files=tuple(new_files),
            changelog_files=tuple(changelog_files),
        )
        frames = {new_files[0].file_name: rows} if len(new_files) == 1 else {}
        return WrittenBucket(bucket=bucket, message=message, frames=frames)


def _clustered(rows: pl.DataFrame, options: TableOptions) -> pl.DataFrame:
    """The rows along the curve that the table's options name; a table with buckets keeps the order in which they came."""
    columns = options.clustering_columns
    if not columns or options.bucket > 0:
        return rows
    strategy = OrderStrategy.parse(options.clustering_strategy, len(columns))
    return Curve.over(ends_of(rows, columns), strategy, bytes_of_text=options.zorder_bytes_of_text).sort(rows)


def _with_index(part: WrittenBucket, routed: RoutedFrame) -> WrittenBucket:
    """The same with the hash index of its bucket, if that grew."""
    index_file = routed.index_files.get(part.bucket.key)
    if index_file is None:
        return part
    return replace(part, message=replace(part.message, new_index_files=(index_file,)))

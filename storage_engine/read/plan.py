"""Which files a batch read of a snapshot needs, and how each must be read.

Spec: "Batch read" of Apache Paimon 1.3.1: a section of overlapping sorted runs is merged; a file that no other
overlaps, holds no retraction and needs no masking beyond its deletion vector is read raw.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import polars as pl

from storage_engine.codec.binary_row import deserialize_row
from storage_engine.codec.collector import collector_paused
from storage_engine.lsm.append_compaction import in_sequence
from storage_engine.lsm.levels import sections
from storage_engine.options import MergeEngine
from storage_engine.read.index_pruning import IndexPruner
from storage_engine.read.pruning import Pruner
from storage_engine.spec.manifest import DataFileMeta
from storage_engine.spec.schema import TableSchema
from storage_engine.spec.snapshot import Snapshot
from storage_engine.store.live_files import Bucket, LiveFiles
from storage_engine.store.paths import POSTPONE_BUCKET


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """Files of one bucket that are read together; ``raw`` means without merging."""

    bucket: Bucket
    files: tuple[DataFileMeta, ...]
    raw: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The splits of one read, and how much pruning saved."""

    snapshot: Snapshot | None
    splits: tuple[Split, ...]
    files_read: int = 0
    files_pruned: int = 0


def plan_scan(
    live: LiveFiles,
    schema: TableSchema,
    snapshot: Snapshot | None,
    predicate: pl.Expr | None = None,
    *,
    buckets: Collection[int] | None = None,
    read_optimized: bool = False,
) -> Plan:
    """Plan a batch read of all or of some buckets. ``read_optimized``: only the files of the top level, unmerged
    (Paimon's ``t$ro``).
    """
    pruner = Pruner(live.schemas, schema, predicate, buckets=buckets)
    found = live.buckets(snapshot, keep_manifest=pruner.keep_manifest, keep=pruner.keep)
    index_pruner = IndexPruner(live.io, live.schemas, schema, predicate)
    planner = _SplitPlanner(schema, read_optimized=read_optimized)
    with collector_paused():
        splits = [split for bucket in found.values() for split in planner.splits(bucket)]
        splits = splits if predicate is None else list(_pruned(splits, pruner, index_pruner))
    read = sum(len(split.files) for split in splits)
    total = sum(len(bucket.files) for bucket in found.values())
    return Plan(snapshot=snapshot, splits=tuple(splits), files_read=read, files_pruned=total - read)


def _pruned(splits: Sequence[Split], pruner: Pruner, index_pruner: IndexPruner) -> Iterator[Split]:
    """Splits without the files that need not be read; statistics are looked at for all files at once."""
    raw = iter(pruner.may_hold_rows([file for split in splits if split.raw for file in split.files]))
    merged = iter(pruner.may_hold_keys([file for split in splits if not split.raw for file in split.files]))
    for split in splits:
        may_hold = [next(raw if split.raw else merged) for _ in split.files]
        if not split.raw:
            if any(may_hold):
                yield split
            continue
        some = [file for file, may in zip(split.files, may_hold, strict=True) if may]
        if kept := index_pruner.kept_files(some, split.bucket.directory):
            yield Split(bucket=split.bucket, files=tuple(kept), raw=True)


class _SplitPlanner:
    def __init__(self, schema: TableSchema, *, read_optimized: bool) -> None:
        options = schema.table_options
        self._key_types = schema.types_of(schema.trimmed_primary_keys)
        self._append_only = not schema.primary_keys
        self._no_merge = options.deletion_vectors or options.merge_engine is MergeEngine.FIRST_ROW
        self._read_optimized = read_optimized

    def splits(self, bucket: Bucket) -> Iterator[Split]:
        """The splits of one bucket."""
        files = bucket.files
        if bucket.bucket == POSTPONE_BUCKET:
            return  # its rows come with the compaction that gives them a bucket
        if self._append_only:
            yield from self._raw(bucket, in_sequence(files))
            return
        if self._read_optimized:
            top = max((file.level for file in files), default=0)
            yield from self._raw(bucket, [file for file in files if file.level == top and top > 0])
            return
        if self._no_merge:
            yield from self._raw(bucket, [file for file in files if file.level > 0])
            return
        if self._one_clean_level(files):
            yield from self._raw(bucket, files)
            return
        yield from self._sections(bucket, files)

    def _one_clean_level(self, files: Sequence[DataFileMeta]) -> bool:
        level = files[0].level
        if len(files) == 1:
            return level > 0 and files[0].delete_row_count == 0
        return level > 0 and all(file.level == level and file.delete_row_count == 0 for file in files)

    def _sections(self, bucket: Bucket, files: Sequence[DataFileMeta]) -> Iterator[Split]:
        for section in sections(files, lambda key: deserialize_row(self._key_types, key)):
            members = [file for run in section for file in run.files]
            if len(members) == 1 and members[0].delete_row_count == 0:
                yield from self._raw(bucket, members)
            else:
                yield Split(bucket=bucket, files=tuple(members), raw=False)

    @staticmethod
    def _raw(bucket: Bucket, files: Sequence[DataFileMeta]) -> Iterator[Split]:
        if files:
            yield Split(bucket=bucket, files=tuple(files), raw=True)

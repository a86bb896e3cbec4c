"""Rows to partitions and buckets: which rows go where, as contiguous slices of one sorted frame."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import polars as pl

from storage_engine.codec.binary_row import serialize_row
from storage_engine.kernel.bucket import fixed_bucket
from storage_engine.spec.manifest import EMPTY_ROW, IndexFileMeta
from storage_engine.spec.schema import TableSchema
from storage_engine.spec.snapshot import Snapshot
from storage_engine.store.live_files import BucketKey
from storage_engine.store.merge_frames import GROUP
from storage_engine.write.dynamic_buckets import NO_INDEX, DynamicBuckets


@dataclass(frozen=True, slots=True, kw_only=True)
class RoutedFrame:
    """A frame with the column ``_GROUP`` (Int32): an index into ``keys``, the partition and bucket of the row.

    ``index_files``: hash indexes that grew, for dynamic buckets.
    """

    frame: pl.DataFrame
    keys: tuple[BucketKey, ...]
    index_files: Mapping[BucketKey, IndexFileMeta] = field(default_factory=dict)


def route(
    frame: pl.DataFrame,
    schema: TableSchema,
    dynamic: DynamicBuckets | None,
    base: Snapshot | None,
    extended: Mapping[BucketKey, IndexFileMeta] = NO_INDEX,
) -> RoutedFrame:
    """Give each row of a conformed frame its partition and bucket; ``dynamic`` where buckets are not fixed by the hash.

    ``extended``: hash indexes that stand for those of ``base``.
    """
    partitions, partition_ids = _partitions(frame, schema)
    if dynamic is not None:
        assigned = dynamic.assign(frame, partitions, partition_ids, base, extended)
        return _grouped(frame, partitions, partition_ids, assigned.buckets, assigned.index_files)
    if schema.table_options.bucket > 1:
        return _grouped(frame, partitions, partition_ids, fixed_bucket(frame, schema), {})
    return _grouped(frame, partitions, partition_ids, _zeros(frame.height), {})


def _grouped(
    frame: pl.DataFrame,
    partitions: Sequence[bytes],
    partition_ids: pl.Series,
    bucket_ids: pl.Series,
    index_files: Mapping[BucketKey, IndexFileMeta],
) -> RoutedFrame:
    highest = bucket_ids.max()
    buckets = 1 + (highest if isinstance(highest, int) else 0)
    groups = (partition_ids.to_numpy() * buckets + bucket_ids.to_numpy()).astype(np.int32, copy=False)
    keys = tuple((partition, bucket) for partition in partitions for bucket in range(buckets))
    return RoutedFrame(frame=frame.hstack([pl.Series(GROUP, groups)]), keys=keys, index_files=index_files)


def _partitions(frame: pl.DataFrame, schema: TableSchema) -> tuple[list[bytes], pl.Series]:
    """Serialized partition rows, and for each row of the frame the index of its own."""
    names = list(schema.partition_keys)
    if not names:
        return [EMPTY_ROW], _zeros(frame.height)
    distinct = frame.select(names).unique(maintain_order=True)
    types = schema.types_of(names)
    partitions = [serialize_row(types, values) for values in distinct.iter_rows()]
    if len(partitions) == 1:
        return partitions, _zeros(frame.height)
    numbered = distinct.with_columns(pl.int_range(pl.len(), dtype=pl.Int32).alias(GROUP))
    joined = frame.select(names).join(numbered, on=names, how="left", nulls_equal=True, maintain_order="left")
    return partitions, joined[GROUP]


def _zeros(height: int) -> pl.Series:
    return pl.Series(GROUP, np.zeros(height, np.int32))


def by_group(frame: pl.DataFrame) -> dict[int, pl.DataFrame]:
    """The rows of each group of a frame sorted by ``_GROUP``, as slices without that column."""
    if frame.is_empty():
        return {}
    groups = frame.get_column(GROUP).to_numpy()
    starts = [0, *(np.flatnonzero(groups[1:] != groups[:-1]) + 1).tolist(), len(groups)]
    rows = frame[[name for name in frame.columns if name != GROUP]]
    return {int(groups[start]): rows.slice(start, end - start) for start, end in pairwise(starts)}

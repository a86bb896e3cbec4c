"""Leaves out partitions, manifests and files that a predicate rules out.

Partition values are exact; key statistics hold for merged rows too; value statistics only for files that are read raw.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import polars as pl

from storage_engine.codec.binary_row import deserialize_row
from storage_engine.kernel.predicate import part_over, ruled_out, stats_frame
from storage_engine.spec.manifest import DataFileMeta, ManifestFileMeta, SimpleStats
from storage_engine.spec.schema import TableSchema
from storage_engine.spec.types import NESTED_ROOTS, TIMESTAMP_ROOTS, DataType
from storage_engine.store.manifest_cache import EntryFilter

_NANOS_PRECISION = 7
_RANK = "_RANK"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Range:
    """Minimum, maximum and null count by column name, of so many rows; a column that is absent is unknown."""

    rows: int
    lows: dict[str, object]
    highs: dict[str, object]
    nulls: dict[str, int | None]


def _range(names: Sequence[str], types: Sequence[DataType], stats: SimpleStats, rows: int) -> _Range:
    if len(stats.null_counts) != len(names):
        return _Range(rows=rows, lows={}, highs={}, nulls={})
    nullable = [data_type.with_nullable(True) for data_type in types]
    return _Range(
        rows=rows,
        lows=dict(zip(names, deserialize_row(nullable, stats.min_values), strict=True)),
        highs=dict(zip(names, deserialize_row(nullable, stats.max_values), strict=True)),
        nulls=dict(zip(names, stats.null_counts, strict=True)),
    )


class Pruner:
    """Decides by partition values and statistics what a read can leave out."""

    def __init__(
        self, schema: TableSchema, predicate: pl.Expr | None, *, buckets: Collection[int] | None = None
    ) -> None:
        self._schema = schema
        self._polars = schema.polars_schema
        self._partition_types = schema.types_of(schema.partition_keys)
        self._on_partition = part_over(predicate, schema.partition_keys)
        self._on_key = part_over(predicate, schema.trimmed_primary_keys)
        usable = [field.name for field in schema.fields if _has_statistics(field.type)]
        self._on_values = part_over(predicate, usable)
        self._buckets = None if buckets is None else frozenset(buckets)

    def keep_manifest(self, meta: ManifestFileMeta) -> bool:
        """Whether a manifest may list files of partitions that the predicate allows."""
        if self._on_partition is None:
            return True
        rows = meta.num_added_files + meta.num_deleted_files
        found = _range(self._schema.partition_keys, self._partition_types, meta.partition_stats, rows)
        return not self._ruled_out(self._on_partition, [found])[0]

    @property
    def keep(self) -> EntryFilter:
        """The entries of partitions that the predicate allows, and of the buckets that are wanted."""
        partitions = None if self._on_partition is None else self._allowed
        return EntryFilter(partitions=partitions, buckets=self._buckets)

    def kept_files(self, files: Sequence[DataFileMeta]) -> list[DataFileMeta]:
        """Of files that are read raw, those that may hold rows the predicate allows."""
        if self._on_values is None or not files:
            return list(files)
        out = self._ruled_out(self._on_values, [self._value_range(file) for file in files])
        return [file for file, ruled in zip(files, out, strict=True) if not ruled]

    def keep_section(self, files: Sequence[DataFileMeta]) -> bool:
        """Whether files that are merged together may hold keys that the predicate allows."""
        if self._on_key is None:
            return True
        keys = self._schema.trimmed_primary_keys
        types = self._schema.types_of(keys)
        ranges = [_range(keys, types, file.key_stats, file.row_count) for file in files]
        return not self._ruled_out(self._on_key, ranges).all()

    def _allowed(self, partitions: Collection[bytes]) -> Collection[bytes]:
        """Of some partitions, those that the predicate allows."""
        if self._on_partition is None or not partitions:
            return partitions
        given = list(partitions)
        names = self._schema.partition_keys
        rows = zip(*(deserialize_row(self._partition_types, partition) for partition in given), strict=True)
        columns = [pl.Series(name, values, self._polars[name]) for name, values in zip(names, rows, strict=True)]
        rank = pl.Series(_RANK, range(len(given)), pl.UInt32)
        allowed = pl.DataFrame([*columns, rank]).filter(self._on_partition)
        return {given[index] for index in allowed.get_column(_RANK)}

    def _ruled_out(self, predicate: pl.Expr, ranges: Sequence[_Range]) -> pl.Series:
        names = list(dict.fromkeys(predicate.meta.root_names()))
        frame = stats_frame(
            self._polars,
            names,
            [[found.lows.get(name) for found in ranges] for name in names],
            [[found.highs.get(name) for found in ranges] for name in names],
            [[found.nulls.get(name) for found in ranges] for name in names],
            [found.rows for found in ranges],
        )
        return ruled_out(predicate, self._polars, frame)

    def _value_range(self, file: DataFileMeta) -> _Range:
        """Value statistics by column; unknown where the file has another schema than the table."""
        if file.schema_id != self._schema.id:
            return _Range(rows=file.row_count, lows={}, highs={}, nulls={})
        names = self._schema.column_names if file.value_stats_cols is None else file.value_stats_cols
        return _range(names, self._schema.types_of(names), file.value_stats, file.row_count)


def _has_statistics(data_type: DataType) -> bool:
    nanos = data_type.root in TIMESTAMP_ROOTS and (data_type.precision or 0) >= _NANOS_PRECISION
    return not nanos and data_type.root not in NESTED_ROOTS

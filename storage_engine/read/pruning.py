"""Leaves out partitions, manifests and files that a predicate rules out.

Partition values are exact; key statistics hold for merged rows too; value statistics only for files that are read raw.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence

import numpy as np
import polars as pl

from storage_engine.codec.binary_columns import BinaryRows
from storage_engine.kernel.predicate import part_over, ruled_out, stats_frame
from storage_engine.spec.manifest import DataFileMeta, ManifestFileMeta, SimpleStats
from storage_engine.spec.schema import TableSchema
from storage_engine.spec.types import NESTED_ROOTS, TIMESTAMP_ROOTS, DataType
from storage_engine.store.manifest_cache import EntryFilter
from storage_engine.store.schemas import SchemaStore

_NANOS_PRECISION = 7
_RANK = "_RANK"


class Pruner:
    """Decides by partition values and statistics what a read can leave out."""

    def __init__(
        self,
        schemas: SchemaStore,
        schema: TableSchema,
        predicate: pl.Expr | None,
        *,
        buckets: Collection[int] | None = None,
    ) -> None:
        self._schemas = schemas
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
        names = self._schema.partition_keys
        return not self._ruled_out(self._on_partition, names, [meta.partition_stats], [rows])[0]

    @property
    def keep(self) -> EntryFilter:
        """The entries of partitions that the predicate allows, and of the buckets that are wanted."""
        partitions = None if self._on_partition is None else self._allowed
        return EntryFilter(partitions=partitions, buckets=self._buckets)

    def may_hold_rows(self, files: Sequence[DataFileMeta]) -> Sequence[bool]:
        """For each of some files that are read raw, whether it may hold rows that the predicate allows."""
        keep = [True] * len(files)
        if self._on_values is None:
            return keep
        for columns, places in self._by_columns(files).items():
            some = [files[place] for place in places]
            counts = [file.row_count for file in some]
            out = self._ruled_out(self._on_values, columns, [file.value_stats for file in some], counts)
            for place, ruled in zip(places, out, strict=True):
                keep[place] = not ruled
        return keep

    def may_hold_keys(self, files: Sequence[DataFileMeta]) -> Sequence[bool]:
        """For each of some files that are merged with others, whether it may hold keys that the predicate allows."""
        if self._on_key is None or not files:
            return [True] * len(files)
        counts, stats = [file.row_count for file in files], [file.key_stats for file in files]
        return (~self._ruled_out(self._on_key, self._schema.trimmed_primary_keys, stats, counts)).to_list()

    def _by_columns(self, files: Sequence[DataFileMeta]) -> dict[tuple[str, ...], list[int]]:
        """Places of files by the columns that their statistics are of; one that was written with other columns has none."""
        found: dict[tuple[str, ...], list[int]] = defaultdict(list)
        names = tuple(self._schema.column_names)
        same = {id_ for id_ in {file.schema_id for file in files} if self._has_same_columns(id_)}
        for place, file in enumerate(files):
            if file.schema_id in same:
                found[names if file.value_stats_cols is None else file.value_stats_cols].append(place)
        return found

    def _has_same_columns(self, schema_id: int) -> bool:
        """Whether an older version of the table differs in nothing but options and comments."""
        if schema_id == self._schema.id:
            return True
        then = self._schemas.get(schema_id).fields
        return [(field.id, field.name, field.type) for field in then] == [
            (field.id, field.name, field.type) for field in self._schema.fields
        ]

    def _allowed(self, partitions: Collection[bytes]) -> Collection[bytes]:
        """Of some partitions, those that the predicate allows."""
        if self._on_partition is None or not partitions:
            return partitions
        given = list(partitions)
        rows = BinaryRows(self._partition_types, given)
        columns = [rows.column(index).alias(name) for index, name in enumerate(self._schema.partition_keys)]
        rank = pl.Series(_RANK, range(len(given)), pl.UInt32)
        allowed = pl.DataFrame([*columns, rank]).filter(self._on_partition)
        return {given[index] for index in allowed.get_column(_RANK)}

    def _ruled_out(
        self, predicate: pl.Expr, columns: Sequence[str], stats: Sequence[SimpleStats], rows: Sequence[int]
    ) -> pl.Series:
        """For each of some statistics of ``columns``, of so many rows, whether it rules the predicate out."""
        known = [place for place, part in enumerate(stats) if len(part.null_counts) == len(columns)]
        types = [data_type.with_nullable(True) for data_type in self._schema.types_of(columns)]
        lows = BinaryRows(types, [stats[place].min_values for place in known])
        highs = BinaryRows(types, [stats[place].max_values for place in known])
        unknown = [None] * len(known)
        of = {name: index for index, name in enumerate(columns)}
        names = list(dict.fromkeys(predicate.meta.root_names()))
        frame = stats_frame(
            self._polars,
            names,
            [lows.column(of[name]) if name in of else unknown for name in names],
            [highs.column(of[name]) if name in of else unknown for name in names],
            [[stats[place].null_counts[of[name]] for place in known] if name in of else unknown for name in names],
            [rows[place] for place in known],
        )
        out = np.zeros(len(stats), np.bool_)
        out[known] = ruled_out(predicate, self._polars, frame).to_numpy()
        return pl.Series(out)


def _has_statistics(data_type: DataType) -> bool:
    nanos = data_type.root in TIMESTAMP_ROOTS and (data_type.precision or 0) >= _NANOS_PRECISION
    return not nanos and data_type.root not in NESTED_ROOTS

"""Leaves out partitions, manifests and files that a predicate rules out.

Partition values are exact; key statistics hold for merged rows too; value statistics only for files that are read raw.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import product
from math import prod
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl

from storage_engine.codec.binary_columns import BinaryRows
from storage_engine.codec.binary_row import serialize_row
from storage_engine.kernel.equality import equality_of
from storage_engine.kernel.predicate import conjuncts, part_over, ruled_out, stats_frame
from storage_engine.read.file_statistics import FileStatistics, Statistics
from storage_engine.spec.manifest import ManifestFileMeta
from storage_engine.spec.schema import TableSchema
from storage_engine.spec.types import INTEGER_ROOTS, NESTED_ROOTS, STRING_ROOTS, TIMESTAMP_ROOTS, DataType, TypeRoot
from storage_engine.store.manifest_cache import MOST_HELD, EntryFilter
from storage_engine.store.schemas import SchemaStore

_NANOS_PRECISION = 7
# Types of which each value is the same bytes in every partition that holds it.
_ONE_FORM_ROOTS = INTEGER_ROOTS | STRING_ROOTS | {TypeRoot.DATE}
_RANK = "_RANK"

Bools: TypeAlias = npt.NDArray[np.bool_]


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

    def kept_manifests(self, metas: Sequence[ManifestFileMeta]) -> Sequence[ManifestFileMeta]:
        """Those of some manifests that may list files of partitions that the predicate allows."""
        if self._on_partition is None or not metas:
            return metas
        names, rows = self._schema.partition_keys, [meta.num_added_files + meta.num_deleted_files for meta in metas]
        stats = Statistics.of_values([meta.partition_stats for meta in metas], rows, len(names))
        out = self._ruled_out(self._on_partition, names, stats, len(metas))
        return [meta for meta, is_out in zip(metas, out, strict=True) if not is_out]

    @property
    def keep(self) -> EntryFilter:
        """The entries of partitions that the predicate allows, and of the buckets that are wanted."""
        partitions = None if self._on_partition is None else self._allowed
        return EntryFilter(partitions=partitions, buckets=self._buckets, holding=self._holding())

    def may_hold_rows(self, files: FileStatistics) -> Bools:
        """For each of some files that are read raw, whether it may hold rows that the predicate allows."""
        keep = np.ones(len(files), np.bool_)
        if self._on_values is None or not len(files):
            return keep
        for columns, places in files.by_columns(self._has_same_columns, self._schema.column_names):
            stats = files.of_values(places, len(columns))
            keep[places] = ~self._ruled_out(self._on_values, columns, stats, len(places))
        return keep

    def may_hold_keys(self, files: FileStatistics) -> Bools:
        """For each of some files that are merged with others, whether it may hold keys that the predicate allows."""
        if self._on_key is None or not len(files):
            return np.ones(len(files), np.bool_)
        names = self._schema.trimmed_primary_keys
        return ~self._ruled_out(self._on_key, names, files.of_keys(len(names)), len(files))

    def _holding(self) -> tuple[frozenset[bytes], ...]:
        """Bytes that stand in the partitions that the predicate allows: whole rows, or the texts of some columns."""
        if self._on_partition is None:
            return ()
        equalities = [equality_of(part, self._polars) for part in conjuncts(self._on_partition)]
        wanted = {name: values.to_list() for name, values in filter(None, equalities) if 0 < len(values) <= MOST_HELD}
        types = dict(zip(self._schema.partition_keys, self._partition_types, strict=True))
        wanted = {name: values for name, values in wanted.items() if types[name].root in _ONE_FORM_ROOTS}
        if len(wanted) == len(types) and prod(map(len, wanted.values())) <= MOST_HELD:
            rows = product(*(wanted[name] for name in types))
            return (frozenset(serialize_row(self._partition_types, row) for row in rows),)
        texts = [values for name, values in wanted.items() if types[name].root in STRING_ROOTS and all(values)]
        return tuple(frozenset(text.encode() for text in values) for values in texts)

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

    def _ruled_out(self, predicate: pl.Expr, columns: Sequence[str], stats: Statistics, count: int) -> Bools:
        """For each of ``count`` places, whether the statistics of ``columns`` that are known there rule the predicate out."""
        types = [data_type.with_nullable(True) for data_type in self._schema.types_of(columns)]
        lows, highs = BinaryRows(types, stats.mins), BinaryRows(types, stats.maxs)
        of, unknown = {name: index for index, name in enumerate(columns)}, [None] * len(stats.places)
        names = list(dict.fromkeys(predicate.meta.root_names()))
        frame = stats_frame(
            self._polars,
            names,
            [lows.column(of[name]) if name in of else unknown for name in names],
            [highs.column(of[name]) if name in of else unknown for name in names],
            [stats.null_counts(of[name]) if name in of else unknown for name in names],
            stats.rows,
        )
        out = np.zeros(count, np.bool_)
        out[stats.places] = ruled_out(predicate, self._polars, frame).to_numpy()
        return out


def _has_statistics(data_type: DataType) -> bool:
    nanos = data_type.root in TIMESTAMP_ROOTS and (data_type.precision or 0) >= _NANOS_PRECISION
    return not nanos and data_type.root not in NESTED_ROOTS

"""Leaves out partitions, manifests and files that a predicate rules out.

Partition values are exact; key statistics hold for merged rows too; value statistics only for files that are read raw.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from itertools import product
from math import prod
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl

from storage_engine.codec.binary_columns import BinaryRows
from storage_engine.codec.binary_row import serialize_row
from storage_engine.codec.manifest_columns import stats_column
from storage_engine.kernel.equality import equality_of
from storage_engine.kernel.predicate import conjuncts, part_over, ruled_out, stats_frame
from storage_engine.spec.manifest import ManifestFileMeta
from storage_engine.spec.schema import TableSchema
from storage_engine.spec.types import INTEGER_ROOTS, NESTED_ROOTS, STRING_ROOTS, TIMESTAMP_ROOTS, DataType, TypeRoot
from storage_engine.store.manifest_cache import MOST_HELD, EntryFilter
from storage_engine.store.schemas import SchemaStore

_NANOS_PRECISION = 7
# Types of which each value is the same bytes in every partition that holds it.
_ONE_FORM_ROOTS = INTEGER_ROOTS | STRING_ROOTS | {TypeRoot.DATE}
_RANK, _PLACE, _ROWS = "_RANK", "_PLACE", "_ROWS"

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
        stats = stats_column([meta.partition_stats for meta in metas])
        rows = pl.Series([meta.num_added_files + meta.num_deleted_files for meta in metas])
        out = self._ruled_out(self._on_partition, self._schema.partition_keys, stats, rows)
        return [meta for meta, is_out in zip(metas, out, strict=True) if not is_out]

    @property
    def keep(self) -> EntryFilter:
        """The entries of partitions that the predicate allows, and of the buckets that are wanted."""
        partitions = None if self._on_partition is None else self._allowed
        return EntryFilter(partitions=partitions, buckets=self._buckets, holding=self._holding())

    def may_hold_rows(self, files: pl.DataFrame) -> Bools:
        """For each of some files (``file_columns``) that are read raw, whether it may hold rows that the predicate allows.

        Nothing is known of one that was written with other columns.
        """
        keep = np.ones(files.height, np.bool_)
        if self._on_values is None or not files.height:
            return keep
        same = [id_ for id_ in files.get_column("_SCHEMA_ID").unique() if self._has_same_columns(id_)]
        known = files.select("_SCHEMA_ID", "_VALUE_STATS", "_VALUE_STATS_COLS", "_ROW_COUNT").with_row_index(_PLACE)
        known = known.filter(pl.col("_SCHEMA_ID").is_in(same))
        for columns, some in _by_columns(known, self._schema.column_names):
            out = self._ruled_out(
                self._on_values, columns, some.get_column("_VALUE_STATS"), some.get_column("_ROW_COUNT")
            )
            keep[some.get_column(_PLACE).to_numpy()] = ~out
        return keep

    def may_hold_keys(self, files: pl.DataFrame) -> Bools:
        """For each of some files that are merged with others, whether it may hold keys that the predicate allows."""
        if self._on_key is None or not files.height:
            return np.ones(files.height, np.bool_)
        names, stats = self._schema.trimmed_primary_keys, files.get_column("_KEY_STATS")
        return ~self._ruled_out(self._on_key, names, stats, files.get_column("_ROW_COUNT"))

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

    def _ruled_out(self, predicate: pl.Expr, columns: Sequence[str], stats: pl.Series, rows: pl.Series) -> Bools:
        """For each of some statistics of ``columns``, of so many rows, whether it rules the predicate out."""
        parts = pl.DataFrame([*stats.struct.unnest(), rows.alias(_ROWS)]).with_row_index(_PLACE)
        parts = parts.filter(pl.col("_NULL_COUNTS").list.len().fill_null(0) == len(columns))
        types = [data_type.with_nullable(True) for data_type in self._schema.types_of(columns)]
        lows, highs = (BinaryRows(types, parts.get_column(name)) for name in ("_MIN_VALUES", "_MAX_VALUES"))
        nulls, unknown = parts.get_column("_NULL_COUNTS"), [None] * parts.height
        of = {name: index for index, name in enumerate(columns)}
        names = list(dict.fromkeys(predicate.meta.root_names()))
        frame = stats_frame(
            self._polars,
            names,
            [lows.column(of[name]) if name in of else unknown for name in names],
            [highs.column(of[name]) if name in of else unknown for name in names],
            [nulls.list.get(of[name]) if name in of else unknown for name in names],
            parts.get_column(_ROWS),
        )
        out = np.zeros(len(stats), np.bool_)
        out[parts.get_column(_PLACE).to_numpy()] = ruled_out(predicate, self._polars, frame).to_numpy()
        return out


def _by_columns(files: pl.DataFrame, all_columns: Sequence[str]) -> Iterator[tuple[Sequence[str], pl.DataFrame]]:
    """Files by the columns that their statistics are of."""
    named = files.get_column("_VALUE_STATS_COLS")
    if named.null_count():
        yield all_columns, files.filter(named.is_null())
    if named.null_count() < files.height:
        for (columns,), some in files.filter(named.is_not_null()).group_by("_VALUE_STATS_COLS"):
            yield list(columns), some


def _has_statistics(data_type: DataType) -> bool:
    nanos = data_type.root in TIMESTAMP_ROOTS and (data_type.precision or 0) >= _NANOS_PRECISION
    return not nanos and data_type.root not in NESTED_ROOTS

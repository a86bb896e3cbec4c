"""Leaves expired rows out of compactions, and finds the files that must be rewritten for it.

Spec: "Record-Level expire" of Apache Paimon 1.3.1. A row is dropped when a compaction rewrites it, without a change that
tells of it.
"""

from __future__ import annotations

import time

import polars as pl

from storage_engine.codec.binary_row import deserialize_row
from storage_engine.spec.manifest import DataFileMeta
from storage_engine.spec.record_expiry import RecordExpiry
from storage_engine.spec.schema import TableSchema
from storage_engine.spec.types import TypeRoot

_FIRST_MILLIS = 1_000_000_000_000  # larger numbers are milliseconds


class ExpiredRecords:
    """What is too old in one table version; nothing where the table does not say."""

    def __init__(self, schema: TableSchema) -> None:
        self._expiry = RecordExpiry.of(schema)

    @property
    def are_dropped(self) -> bool:
        """Whether the table drops old rows at all."""
        return self._expiry is not None

    def without(self, rows: pl.DataFrame) -> pl.DataFrame:
        """The rows that are not too old; those without a time stay."""
        if self._expiry is None:
            return rows
        return rows.filter((_seconds(self._expiry) >= _now() - self._expiry.seconds).fill_null(value=True))

    def are_in(self, file: DataFileMeta, written_by: TableSchema) -> bool:
        """Whether the file's least time is too old, as far as its statistics tell; ``written_by`` is the file's schema."""
        expiry, stats = self._expiry, file.value_stats
        if expiry is None:
            return False
        names = written_by.column_names if file.value_stats_cols is None else file.value_stats_cols
        name = next((field.name for field in written_by.fields if field.id == expiry.field.id), None)
        if name not in names or written_by.by_name[name].type.root is not expiry.field.type.root:
            return False
        if len(stats.null_counts) != len(names):
            return False
        types = [data_type.with_nullable(True) for data_type in written_by.types_of(names)]
        least = deserialize_row(types, stats.min_values)[names.index(name)]
        if least is None:
            return False
        row = pl.DataFrame([pl.Series(expiry.field.name, [least], dtype=expiry.field.type.to_polars())])
        return self.without(row).is_empty()


def _now() -> int:
    return int(time.time())


def _seconds(expiry: RecordExpiry) -> pl.Expr:
    column = pl.col(expiry.field.name)
    match expiry.field.type.root:
        case TypeRoot.INT:
            return column.cast(pl.Int64)
        case TypeRoot.BIGINT:
            return pl.when(column >= _FIRST_MILLIS).then(column // 1000).otherwise(column)
        case _:
            return column.dt.epoch("ms") // 1000

"""What a manifest says of a data file's rows, gathered frame by frame while the file is written.

Spec: "Data files / metadata" of Apache Paimon: first and last key, statistics, sequence numbers, number of retractions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import polars as pl

from storage_engine.codec.binary_row import serialize_row
from storage_engine.kernel.statistics import Stats, column_stats, joined_stats
from storage_engine.spec.manifest import EMPTY_STATS, DataFileMeta, FileSource, SimpleStats
from storage_engine.spec.schema import SEQUENCE_NUMBER, VALUE_KIND, TableSchema
from storage_engine.spec.types import NESTED_ROOTS, DataField

_KEY_STATS_LENGTH, _VALUE_STATS_LENGTH = 128, 16


@dataclass(frozen=True, slots=True, kw_only=True)
class FileContents:
    """Some rows of a file, sorted by key. ``delete_rows``: how many of them take something back."""

    rows: int
    first_key: tuple[object, ...]
    last_key: tuple[object, ...]
    key_stats: Stats
    value_stats: Stats
    min_sequence_number: int
    max_sequence_number: int
    delete_rows: int

    @staticmethod
    def of(frame: pl.DataFrame, schema: TableSchema) -> FileContents:
        """Look at a key-value frame. REQUIRES: it has rows."""
        keys = schema.trimmed_primary_keys
        ends = frame.select(keys)
        numbers = frame[SEQUENCE_NUMBER].to_numpy()
        key_fields = [schema.by_name[key] for key in keys]
        return FileContents(
            rows=frame.height,
            first_key=ends.row(0) if keys else (),
            last_key=ends.row(-1) if keys else (),
            key_stats=column_stats(frame, key_fields, truncate_length=_KEY_STATS_LENGTH),
            value_stats=column_stats(frame, _value_fields(schema), truncate_length=_VALUE_STATS_LENGTH),
            min_sequence_number=int(numbers.min()),
            max_sequence_number=int(numbers.max()),
            delete_rows=int((frame[VALUE_KIND].to_numpy() & 1).sum()),  # -U is 1, -D is 3
        )

    def followed_by(self, later: FileContents) -> FileContents:
        """These rows, and behind them some more of the same file."""
        return replace(
            self,
            rows=self.rows + later.rows,
            last_key=later.last_key,
            key_stats=joined_stats(self.key_stats, self.rows, later.key_stats, later.rows),
            value_stats=joined_stats(self.value_stats, self.rows, later.value_stats, later.rows),
            min_sequence_number=min(self.min_sequence_number, later.min_sequence_number),
            max_sequence_number=max(self.max_sequence_number, later.max_sequence_number),
            delete_rows=self.delete_rows + later.delete_rows,
        )

    def meta(
        self,
        schema: TableSchema,
        *,
        file_name: str,
        file_size: int,
        level: int,
        file_source: FileSource,
        creation_time_millis: int,
    ) -> DataFileMeta:
        """The manifest's record of a file that holds these rows."""
        keys = schema.trimmed_primary_keys
        key_types = schema.types_of(keys)
        value_fields = _value_fields(schema)
        partial = len(value_fields) < len(schema.fields)
        return DataFileMeta(
            file_name=file_name,
            file_size=file_size,
            row_count=self.rows,
            min_key=serialize_row(key_types, self.first_key),
            max_key=serialize_row(key_types, self.last_key),
            key_stats=_serialized([schema.by_name[key] for key in keys], self.key_stats),
            value_stats=_serialized(value_fields, self.value_stats),
            value_stats_cols=tuple(field.name for field in value_fields) if partial else None,
            min_sequence_number=self.min_sequence_number,
            max_sequence_number=self.max_sequence_number,
            schema_id=schema.id,
            level=level,
            creation_time_millis=creation_time_millis,
            delete_row_count=self.delete_rows,
            file_source=file_source,
        )


def _value_fields(schema: TableSchema) -> list[DataField]:
    return [field for field in schema.fields if field.type.root not in NESTED_ROOTS]


def _serialized(fields: Sequence[DataField], stats: Stats) -> SimpleStats:
    if not fields:
        return EMPTY_STATS
    mins, maxs, nulls = stats
    types = [field.type.with_nullable(True) for field in fields]
    return SimpleStats(
        min_values=serialize_row(types, mins), max_values=serialize_row(types, maxs), null_counts=tuple(nulls)
    )

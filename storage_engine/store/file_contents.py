"""What a manifest says of a data file's rows, gathered frame by frame while the file is written.

Spec: "Data files / metadata" of Apache Paimon: first and last key, statistics, sequence numbers, number of retractions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import polars as pl

from storage_engine.codec.binary_row import serialize_row
from storage_engine.kernel.statistics import KEY_TRUNCATE_LENGTH, Stats, column_stats, joined_stats
from storage_engine.spec.file_index_options import ColumnIndex
from storage_engine.spec.file_options import StatsKind, StatsMode
from storage_engine.spec.manifest import EMPTY_STATS, DataFileMeta, FileSource, SimpleStats
from storage_engine.spec.schema import SEQUENCE_NUMBER, VALUE_KIND, TableSchema
from storage_engine.spec.types import NESTED_ROOTS, DataField
from storage_engine.store.indexed_values import IndexedValues

Known = tuple[object, object, int | None]
_UNKNOWN: Known = (None, None, None)


@dataclass(frozen=True, slots=True, kw_only=True)
class FileContents:
    """Some rows of a file, sorted by key.

    ``value_columns``: those that ``value_stats`` speak of; ``delete_rows``: how many rows take something back.
    """

    rows: int
    first_key: tuple[object, ...]
    last_key: tuple[object, ...]
    key_stats: Stats
    value_columns: tuple[str, ...]
    value_stats: Stats
    min_sequence_number: int
    max_sequence_number: int
    delete_rows: int
    indexed: IndexedValues | None = None

    @staticmethod
    def of(
        frame: pl.DataFrame,
        schema: TableSchema,
        modes: Mapping[str, StatsMode],
        indexes: Sequence[ColumnIndex] = (),
    ) -> FileContents:
        """Look at a key-value frame; ``modes`` says by column what is kept of the values. REQUIRES: it has rows."""
        keys = schema.trimmed_primary_keys
        numbers = frame[SEQUENCE_NUMBER].to_numpy()
        key_fields = [schema.by_name[key] for key in keys]
        value_fields = _value_fields(schema, modes)
        return FileContents(
            rows=frame.height,
            first_key=tuple(frame.get_column(key)[0] for key in keys),
            last_key=tuple(frame.get_column(key)[-1] for key in keys),
            key_stats=column_stats(frame, key_fields, truncate_length=KEY_TRUNCATE_LENGTH),
            value_columns=tuple(field.name for field in value_fields),
            value_stats=_value_stats(frame, value_fields, modes),
            min_sequence_number=int(numbers.min()),
            max_sequence_number=int(numbers.max()),
            delete_rows=int((frame[VALUE_KIND].to_numpy() & 1).sum()),  # -U is 1, -D is 3
            indexed=IndexedValues.of(frame, schema, indexes),
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
            indexed=self.indexed and later.indexed and self.indexed.followed_by(later.indexed),
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
        dense_stats: bool = True,
        embedded_index: bytes | None = None,
        extra_files: tuple[str, ...] = (),
    ) -> DataFileMeta:
        """The manifest's record of a file that holds these rows.

        Not ``dense_stats``: every column has its place in the statistics, empty where nothing is known.
        """
        keys = schema.trimmed_primary_keys
        key_types = schema.types_of(keys)
        stats, stats_columns = self._of_values(schema, dense=dense_stats)
        return DataFileMeta(
            file_name=file_name,
            file_size=file_size,
            row_count=self.rows,
            min_key=serialize_row(key_types, self.first_key),
            max_key=serialize_row(key_types, self.last_key),
            key_stats=_serialized([schema.by_name[key] for key in keys], self.key_stats),
            value_stats=stats,
            value_stats_cols=stats_columns,
            min_sequence_number=self.min_sequence_number,
            max_sequence_number=self.max_sequence_number,
            schema_id=schema.id,
            level=level,
            creation_time_millis=creation_time_millis,
            delete_row_count=self.delete_rows,
            file_source=file_source,
            embedded_index=embedded_index,
            extra_files=extra_files,
        )

    def _of_values(self, schema: TableSchema, *, dense: bool) -> tuple[SimpleStats, tuple[str, ...] | None]:
        partial = len(self.value_columns) < len(schema.fields)
        if dense or not partial:
            fields = [schema.by_name[name] for name in self.value_columns]
            return _serialized(fields, self.value_stats), self.value_columns if partial else None
        known = dict(zip(self.value_columns, zip(*self.value_stats, strict=True), strict=True))
        mins, maxs, nulls = zip(*(known.get(field.name, _UNKNOWN) for field in schema.fields), strict=True)
        return _serialized(schema.fields, (mins, maxs, nulls)), None


def _value_fields(schema: TableSchema, modes: Mapping[str, StatsMode]) -> list[DataField]:
    """Columns of which something is kept; never nested ones."""
    flat = (field for field in schema.fields if field.type.root not in NESTED_ROOTS)
    return [field for field in flat if modes[field.name].kind is not StatsKind.NONE]


def _value_stats(frame: pl.DataFrame, fields: Sequence[DataField], modes: Mapping[str, StatsMode]) -> Stats:
    known: dict[str, tuple[object, object, int]] = {}
    for mode in dict.fromkeys(modes[field.name] for field in fields):
        mine = [field for field in fields if modes[field.name] == mode]
        mins, maxs, nulls = column_stats(frame, mine, truncate_length=mode.length)
        ranged = mode.kind is StatsKind.RANGE
        ends = zip(mins, maxs, nulls, strict=True) if ranged else ((None, None, count) for count in nulls)
        known |= {field.name: known_of for field, known_of in zip(mine, ends, strict=True)}
    found = [known[field.name] for field in fields]
    return [low for low, _, _ in found], [high for _, high, _ in found], [nulls for _, _, nulls in found]


def _serialized(
    fields: Sequence[DataField], stats: tuple[Sequence[object], Sequence[object], Sequence[int | None]]
) -> SimpleStats:
    if not fields:
        return EMPTY_STATS
    mins, maxs, nulls = stats
    types = [field.type.with_nullable(True) for field in fields]
    return SimpleStats(
        min_values=serialize_row(types, mins), max_values=serialize_row(types, maxs), null_counts=tuple(nulls)
    )

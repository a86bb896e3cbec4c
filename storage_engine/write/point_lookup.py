"""Finds the current record of some keys in files above level 0, for many buckets at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from storage_engine.codec.binary_row import deserialize_row
from storage_engine.kernel.keys import key_order
from storage_engine.spec.schema import SEQUENCE_NUMBER, VALUE_KIND, TableSchema
from storage_engine.store.data_files import DataFiles
from storage_engine.store.merge_frames import FILE, FILE_NAME, GROUP, POSITION, FilePart, lowest_level_only, read_parts

_LARGE_FILE_ROWS = 200_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """Rows found (key-value frame with ``_GROUP``), and where: ``_GROUP``, ``file_name``, ``_POSITION``."""

    rows: pl.DataFrame
    places: pl.DataFrame


class PointLookup:
    """Looks keys up level by level: the lowest level that has a key answers for it."""

    def __init__(self, schema: TableSchema, files: DataFiles) -> None:
        self._files = files
        self._keys = list(schema.trimmed_primary_keys)
        self._key_types = schema.types_of(self._keys)
        self._columns = [*schema.column_names, SEQUENCE_NUMBER, VALUE_KIND]
        system = {SEQUENCE_NUMBER: pl.Int64(), VALUE_KIND: pl.Int8(), GROUP: pl.Int32()}
        self._empty = pl.DataFrame(schema={**schema.polars_schema, **system})

    def find(self, keys: pl.DataFrame, parts: Sequence[FilePart]) -> Found:
        """The record of each of ``keys`` (distinct, with ``_GROUP``) in the files of its group; absent where none has it."""
        candidates = self._candidates(keys, parts)
        held = [part for part in candidates if part.meta.row_count <= _LARGE_FILE_ROWS or self._holds_any(part, keys)]
        if not held:
            places = pl.DataFrame(schema={GROUP: pl.Int32, FILE_NAME: pl.String, POSITION: pl.Int64})
            return Found(rows=self._empty, places=places)
        on = [GROUP, *self._keys]
        rows = read_parts(self._files, held, self._columns, positions=True).join(keys, on=on, how="semi")
        rows = lowest_level_only(rows, on)
        names = pl.Series(FILE_NAME, [part.meta.file_name for part in held])
        places = rows.select(GROUP, POSITION).with_columns(names.gather(rows[FILE]))
        return Found(rows=rows.select(self._empty.columns), places=places)

    def _candidates(self, keys: pl.DataFrame, parts: Sequence[FilePart]) -> list[FilePart]:
        """Files whose range of the first key column meets that of their group's keys."""
        first = self._keys[0]
        ends = keys.group_by(GROUP).agg(pl.col(first).min().alias("low"), pl.col(first).max().alias("high"))
        ranges = {group: (key_order([low]), key_order([high])) for group, low, high in ends.iter_rows()}
        return [
            part
            for part in parts
            if part.group in ranges
            and key_order(deserialize_row(self._key_types, part.meta.min_key)[:1]) <= ranges[part.group][1]
            and key_order(deserialize_row(self._key_types, part.meta.max_key)[:1]) >= ranges[part.group][0]
        ]

    def _holds_any(self, part: FilePart, keys: pl.DataFrame) -> bool:
        """Whether a large file has any of the keys: reads its key columns alone."""
        stored = read_parts(self._files, [part], self._keys)
        return not stored.join(keys, on=[GROUP, *self._keys], how="semi").is_empty()

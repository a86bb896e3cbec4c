"""Finds the current record of some keys in files above level 0, for many buckets at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from storage_engine.codec.binary_row import deserialize_row
from storage_engine.kernel.key_search import Places, can_search, places_of
from storage_engine.kernel.key_sort import lowest_of
from storage_engine.kernel.keys import key_order
from storage_engine.spec.schema import SEQUENCE_NUMBER, VALUE_KIND, TableSchema
from storage_engine.store.data_files import DataFiles
from storage_engine.store.lookup_files import LookupFiles
from storage_engine.store.merge_frames import (
    FILE,
    FILE_NAME,
    GROUP,
    LEVEL,
    POSITION,
    FilePart,
    find_rows,
    lowest_level_only,
    placed_rows,
    read_parts,
)

_LARGE_FILE_ROWS = 200_000
_FEW = 0.1
"""Share of a file's rows up to which it is cheaper to look for keys than to decode all."""
_EXACT = (pl.Int8, pl.Int16, pl.Int32, pl.Int64, pl.String, pl.Date)
"""Key columns that are compared while reading; those of other types only afterwards."""
_ROW = "_ROW"
_NOWHERE = pl.DataFrame(schema={GROUP: pl.Int32, POSITION: pl.Int64, FILE_NAME: pl.String})


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
        self._can_search = bool(self._keys) and can_search(schema.polars_schema[self._keys[0]])
        self._unpacked = LookupFiles(schema, files)
        self._empty = pl.DataFrame(schema={**schema.polars_schema, **system})

    def find(self, keys: pl.DataFrame, parts: Sequence[FilePart]) -> Found:
        """The record of each of ``keys`` (with ``_GROUP``) in the files of its group; absent where none has it."""
        self._unpacked.retain(parts)
        candidates = list(enumerate(self._candidates(keys, parts)))
        groups = {int(group[0]): rows for group, rows in keys.partition_by(GROUP, as_dict=True).items()}
        few = {number for number, part in candidates if groups[part.group].height <= part.meta.row_count * _FEW}
        read: list[tuple[int, FilePart]] = []
        found: list[pl.DataFrame] = []
        for number, part in candidates:
            rows = self._unpacked.rows(part, few=number in few) if self._can_search else None
            if rows is None:
                read.append((number, part))
            elif len(met := places_of(rows, groups[part.group], self._keys)):
                found.append(placed_rows(part, number, rows[self._columns][met], pl.Series(met)))
        if held := [each for each in read if self._is_looked_into(each[1]) or self._holds_any(each[1], keys)]:
            wanted = self._wanted(groups, {number: part.group for number, part in held if number in few})
            found.append(_current(find_rows(self._files, held, self._columns, wanted), keys, [GROUP, *self._keys]))
        if not found:
            return Found(rows=self._empty, places=_NOWHERE)
        rows = found[0] if len(found) == 1 else lowest_level_only(pl.concat(found), [GROUP, *self._keys])
        names = pl.Series(FILE_NAME, [part.meta.file_name for _, part in candidates])
        places = rows[[GROUP, POSITION]].hstack([names.gather(rows.get_column(FILE))])
        return Found(rows=rows[self._empty.columns], places=places)

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

    def _is_looked_into(self, part: FilePart) -> bool:
        """Whether a file is small, or one of which no more need be read than what is looked for."""
        is_small = part.meta.row_count <= _LARGE_FILE_ROWS
        return is_small or self._files.plain_paths([(part.meta, part.directory)], ".parquet") is not None

    def _holds_any(self, part: FilePart, keys: pl.DataFrame) -> bool:
        """Whether a file has any of the keys: reads its key columns alone."""
        stored = read_parts(self._files, [part], self._keys)
        return not stored.join(keys, on=[GROUP, *self._keys], how="semi").is_empty()

    def _wanted(self, groups: Mapping[int, pl.DataFrame], few: Mapping[int, int]) -> dict[int, pl.Expr]:
        """Which rows may be looked for, by file, given the group of each; files of which much is wanted are read whole."""
        names = [name for name in self._keys if self._empty.schema[name] in _EXACT]
        if not names:
            return {}
        among = {group: _is_among(groups[group].select(names)) for group in set(few.values())}
        return {number: among[group] for number, group in few.items()}


def _current(rows: pl.DataFrame, keys: pl.DataFrame, names: Sequence[str]) -> pl.DataFrame:
    """The record of each key at its lowest level, in the order of the rows.

    Keys and levels are looked at alone, since to pick rows out costs less than to join them.
    """
    if rows.is_empty() or keys.is_empty():
        return rows.clear()
    met = lowest_of(keys, rows, names, rows.get_column(LEVEL).to_numpy())
    if met is not None:
        return _picked(rows, met)
    numbered = rows[list(names)].with_row_index(_ROW)
    joined = numbered.join(keys, on=names, how="semi").get_column(_ROW)
    return lowest_level_only(_picked(rows, joined.to_numpy()), names)


def _picked(rows: pl.DataFrame, places: Places) -> pl.DataFrame:
    """Some rows, in their order."""
    is_picked = np.zeros(rows.height, np.bool_)
    is_picked[places] = True
    return rows.filter(pl.Series(is_picked))


def _is_among(keys: pl.DataFrame) -> pl.Expr:
    """Whether each key column has one of its values: no more than the keys where there is one, not much more where several."""
    return pl.all_horizontal(pl.col(column.name).is_in(column.unique().implode()) for column in keys)

"""A snapshot, or what happened up to one, in portions that fit in memory: in the same portions whenever it is asked for.

The files of a snapshot never change, so neither does how they are dealt out. Rows of one key are in one portion. What is too
large and has a key is shared out by a hash of it, as Paimon hashes keys; a file without keys is cut by the places of its rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from storage_engine.kernel.row_hash import row_hash, shares_of
from storage_engine.read.merge_read import SplitReader
from storage_engine.read.split_rules import Split
from storage_engine.spec.schema import TableSchema
from storage_engine.store.data_files import DataFiles

_LEAST_ROWS = 1024
"""Files have bytes beside those of their rows: no unit is shared out into less rows than these for its bytes alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Portion:
    """Some rows of a table. ``rows`` and ``file_bytes`` are those of the files, or the share of them; ``read`` gives the rows."""

    rows: int
    file_bytes: int
    read: Callable[[], pl.DataFrame]


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """What is dealt out: rows that no other unit has a key of. ``frames`` reads them in their order, a part at a time, with the
    key's columns among others.
    """

    rows: int
    file_bytes: int
    frames: Callable[[], Iterator[pl.DataFrame]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """One of ``of`` shares of a unit, counted from 0: by the hash of ``keys``, or by the place of a row if there are none."""

    number: int
    of: int
    rows: int
    schema: TableSchema

    def kept(self, frames: Iterable[pl.DataFrame]) -> Iterator[pl.DataFrame]:
        """The rows of this share."""
        place, keys = 0, list(self.schema.primary_keys)
        for frame in frames:
            if keys:
                own = shares_of(row_hash(frame.select(keys), self.schema.types_of(keys)), self.of) == self.number
            else:
                own = np.arange(place, place + frame.height) * self.of // self.rows == self.number
                place += frame.height
            yield frame.filter(pl.Series(own))


def dealt(
    units: Iterable[Unit], schema: TableSchema, empty: pl.DataFrame, *, max_rows: int, max_bytes: int | None
) -> list[Portion]:
    """Portions within bounds, as far as a single row allows it, of the columns that ``empty`` has."""
    portions: list[Portion] = []
    group: list[Unit] = []
    rows = file_bytes = 0
    for unit in units:
        parts = parts_within(unit.rows, unit.file_bytes, max_rows=max_rows, max_bytes=max_bytes)
        full = rows + unit.rows > max_rows or (max_bytes is not None and file_bytes + unit.file_bytes > max_bytes)
        if group and full:
            portions.append(_together(group, empty))
            group, rows, file_bytes = [], 0, 0
        if parts > 1:
            portions += _shares(unit, parts, schema, empty)
            continue
        group.append(unit)
        rows, file_bytes = rows + unit.rows, file_bytes + unit.file_bytes
    return [*portions, _together(group, empty)] if group else portions


def parts_within(rows: int, file_bytes: int, *, max_rows: int, max_bytes: int | None) -> int:
    """How many parts of about the same size some rows are shared out into, so that each is within bounds."""
    by_bytes = 1 if max_bytes is None else -(-file_bytes // max_bytes)
    return max(-(-rows // max_rows), min(by_bytes, -(-rows // _LEAST_ROWS)), 1)


def read_with_key(schema: TableSchema, names: Sequence[str]) -> list[str]:
    """Columns to read so that rows can be shared out: the wanted ones, and the key."""
    return list(dict.fromkeys((*schema.primary_keys, *names)))


def state_units(splits: Sequence[Split], schema: TableSchema, files: DataFiles, names: Sequence[str]) -> list[Unit]:
    """A unit for each file that is read as it is, and for each section of files that are merged; of some columns."""
    alone = [each for split in splits for each in _files_alone(split)]
    if schema.primary_keys:
        ordered = sorted(alone, key=lambda split: (*split.bucket.key, min(file.file_name for file in split.files)))
    else:
        ordered = sorted(alone, key=lambda split: split.bucket.key)
    reader = SplitReader(schema, files, columns=read_with_key(schema, names))
    return [
        Unit(
            rows=sum(file.row_count for file in split.files),
            file_bytes=sum(file.file_size for file in split.files),
            frames=lambda split=split: reader.read(split),  # type: ignore[misc]
        )
        for split in ordered
    ]


def _files_alone(split: Split) -> list[Split]:
    return [Split(bucket=split.bucket, files=(file,), raw=True) for file in split.files] if split.raw else [split]


def _together(units: Sequence[Unit], empty: pl.DataFrame) -> Portion:
    group = tuple(units)
    return Portion(
        rows=sum(unit.rows for unit in group),
        file_bytes=sum(unit.file_bytes for unit in group),
        read=lambda: pl.concat([empty, *(frame.select(empty.columns) for unit in group for frame in unit.frames())]),
    )


def _shares(unit: Unit, parts: int, schema: TableSchema, empty: pl.DataFrame) -> list[Portion]:
    return [
        Portion(
            rows=unit.rows // parts,
            file_bytes=unit.file_bytes // parts,
            read=lambda share=Share(number=number, of=parts, rows=unit.rows, schema=schema): pl.concat(  # type: ignore[misc]
                [empty, *(frame.select(empty.columns) for frame in share.kept(unit.frames()))]
            ),
        )
        for number in range(parts)
    ]

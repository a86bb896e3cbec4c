"""Rows of several files as one frame, with the group and the level that each came from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from storage_engine.codec.deletion_vector import DeletionVector
from storage_engine.errors import CorruptFile
from storage_engine.kernel.key_sort import lowest, sort_keys
from storage_engine.spec.manifest import DataFileMeta
from storage_engine.store.data_files import DataFiles
from storage_engine.store.key_ranges import OpenRun
from storage_engine.store.threads import side_by_side

LEVEL, GROUP, POSITION, FILE, FILE_NAME = "_LEVEL", "_GROUP", "_POSITION", "_FILE", "file_name"
_READER_THREADS = 4
_HELD_ROWS = 1 << 16


@dataclass(frozen=True, slots=True, kw_only=True)
class FilePart:
    """A file to be read: where it lies, which of its positions are deleted, and the group that its rows belong to."""

    meta: DataFileMeta
    directory: str
    vector: DeletionVector | None = None
    group: int = 0


def read_parts(
    files: DataFiles,
    parts: Sequence[FilePart],
    columns: Sequence[str],
    *,
    frames: Mapping[str, pl.DataFrame] | None = None,
    predicate: pl.Expr | None = None,
    positions: bool = False,
) -> pl.DataFrame:
    """All rows of some files minus their deleted positions, with ``_GROUP`` (Int32) and ``_LEVEL`` (Int8) appended.

    ``frames`` are rows already in memory by file name. ``predicate`` only saves reading, and only where no vector hides rows.
    ``positions`` also appends ``_FILE`` (Int32 index into ``parts``) and ``_POSITION`` (Int64 row of the file).
    """

    def read(item: tuple[int, FilePart]) -> pl.DataFrame:
        number, part = item
        frame = (frames or {}).get(part.meta.file_name)
        if frame is None:
            pushed = None if part.vector or positions else predicate
            frame = files.read(part.meta, part.directory, columns, pushed)
        else:
            frame = frame[list(columns)]
        frame = frame.hstack(_tags(part, frame.height))
        if positions:
            frame = frame.hstack(_positions(number, pl.Series(np.arange(frame.height))))
        return frame.filter(_visible(part, frame.height)) if part.vector else frame

    if len(parts) == 1:
        return read((0, parts[0]))
    threads = files.threads(sum(part.meta.row_count for part in parts), _READER_THREADS)
    return pl.concat(side_by_side(read, list(enumerate(parts)), threads=threads))


def find_rows(
    files: DataFiles, parts: Sequence[tuple[int, FilePart]], columns: Sequence[str], wanted: Mapping[int, pl.Expr]
) -> pl.DataFrame:
    """What ``read_parts`` gives with ``positions``, but of each file no more than the rows that satisfy ``wanted``.

    Each part comes with the number that ``_FILE`` shall hold, and that ``wanted`` goes by. A file that it does not name is read
    whole. Of one that is local Parquet, only what may be wanted is read.
    """

    def read(item: tuple[int, FilePart]) -> pl.DataFrame:
        number, part = item
        expression = wanted.get(number)
        found = None
        if expression is not None:
            found = files.matching(part.meta, part.directory, columns, expression, POSITION)
        if found is None:
            rows = read_parts(files, [part], columns, positions=True)
            return rows.with_columns(pl.lit(number, pl.Int32).alias(FILE))
        return placed_rows(part, number, found.drop(POSITION), found.get_column(POSITION))

    if len(parts) == 1:
        return read(parts[0])
    threads = files.threads(sum(part.meta.row_count for _, part in parts), _READER_THREADS)
    return pl.concat(side_by_side(read, parts, threads=threads))


def placed_rows(part: FilePart, number: int, rows: pl.DataFrame, places: pl.Series) -> pl.DataFrame:
    """Some rows of a file, whose places in it (Int64) are given, as ``read_parts`` gives them with ``positions``."""
    tagged = rows.hstack([*_tags(part, rows.height), *_positions(number, places)])
    return tagged.filter(_visible(part, part.meta.row_count).gather(places)) if part.vector else tagged


def open_run(
    files: DataFiles,
    parts: Sequence[tuple[int, FilePart]],
    columns: Sequence[str],
    *,
    frames: Mapping[str, pl.DataFrame] | None = None,
    predicate: pl.Expr | None = None,
    positions: bool = False,
) -> OpenRun:
    """Files of one sorted run, in key order, to be read in portions: the rows and columns that ``read_parts`` gives.

    Each file comes with the number that ``_FILE`` shall hold.
    """

    def opened(portion_bytes: int) -> Iterator[pl.DataFrame]:
        for number, part in parts:
            held = (frames or {}).get(part.meta.file_name)
            pushed = None if part.vector or positions else predicate
            if held is None:
                portions = files.read_portions(part.meta, part.directory, columns, portion_bytes, pushed)
            else:
                portions = held.select(columns).iter_slices(_HELD_ROWS)
            start = 0
            tags: list[pl.Series] = []
            visible = _visible(part, part.meta.row_count) if part.vector else None
            for frame in portions:
                if not tags or len(tags[0]) < frame.height:
                    tags = _tags(part, frame.height)
                rows = frame.hstack([tag.head(frame.height) for tag in tags])
                if positions:
                    rows = rows.hstack(_positions(number, pl.Series(np.arange(start, start + frame.height))))
                rows = rows if visible is None else rows.filter(visible.slice(start, frame.height))
                start += frame.height
                yield rows if predicate is None else rows.filter(predicate)

    return opened


def _tags(part: FilePart, height: int) -> list[pl.Series]:
    return [
        pl.Series(GROUP, np.full(height, part.group, np.int32)),
        pl.Series(LEVEL, np.full(height, part.meta.level, np.int8)),
    ]


def _positions(number: int, places: pl.Series) -> list[pl.Series]:
    return [pl.Series(FILE, np.full(len(places), number, np.int32)), places.alias(POSITION)]


def _visible(part: FilePart, rows: int) -> pl.Series:
    """For each row of a whole file, whether its deletion vector leaves it visible. Raises CorruptFile."""
    visible = np.ones(rows, dtype=np.bool_)
    positions = (part.vector or DeletionVector()).positions()
    if positions.size and positions[-1] >= rows:
        raise CorruptFile(
            f"{part.directory}/{part.meta.file_name}: its deletion vector hides row {positions[-1]}, but the file has {rows}"
            " rows: one of the two is foreign or damaged"
        )
    visible[positions] = False
    return pl.Series(visible)


def lowest_level_only(rows: pl.DataFrame, keys: Sequence[str]) -> pl.DataFrame:
    """Of rows above level 0, the record of each key at its lowest level.

    Under the lookup strategies that record is already merged with everything above it.
    """
    if rows.is_empty() or rows.get_column(LEVEL).n_unique() == 1:
        return rows
    whole = rows.rechunk()
    ordered = sort_keys(whole, keys)
    if ordered is None:
        return rows.sort(LEVEL, maintain_order=True).unique(keys, keep="first", maintain_order=True)
    if ordered.first.all():
        return rows
    return whole[lowest(ordered, whole.get_column(LEVEL).to_numpy())]

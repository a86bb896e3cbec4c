"""Files that are too large to be held, read in portions.

What memory a row takes is looked at when the file is opened, since a file's size says little of it. Parquet is read page by
page, ORC stripe by stripe, Avro block by block.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from io import BytesIO
from itertools import accumulate, pairwise

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from storage_engine.errors import CorruptFile, FileMissing
from storage_engine.kernel.predicate import part_over, ruled_out, stats_frame
from storage_engine.store.file_io import FileIO
from storage_engine.store.formats import pieces
from storage_engine.store.formats.arrow_bridge import from_arrow
from storage_engine.store.formats.base import DAMAGES, damages_named
from storage_engine.store.formats.parquet import holds_int96, lazily

_PROBED_ROWS = 256
_MOST_ROWS = 1 << 20
_BUFFER_BYTES = 1 << 16
_GROUP_PORTIONS = 12
"""A row group of so many portions is decoded at once, by Polars: that is several times faster than page by page."""
COMPARED = (pl.Int8, pl.Int16, pl.Int32, pl.Int64, pl.String, pl.Date)
"""Types of columns by whose statistics row groups are left out."""


def read_portions(
    io: FileIO,
    path: str,
    columns: Sequence[str],
    portion_bytes: int,
    *,
    dtypes: Mapping[str, pl.DataType],
    predicate: pl.Expr | None = None,
    places: range | None = None,
) -> Iterator[pl.DataFrame]:
    """The columns that a file has among ``columns``, in portions of about so many bytes in memory, in file order.

    ``predicate`` leaves out row groups that hold nothing of it by their statistics, and no single rows; ``places``: of those
    rows of the file alone, instead of a predicate. Raises CorruptFile and FileMissing.
    """
    if not path.endswith(".parquet"):
        frames = _gathered(pieces(io, path, columns, dtypes), portion_bytes)
        yield from frames if places is None else rows_at(places, frames)
        return
    with damages_named(path, "Parquet"):
        yield from _parquet_portions(io, path, columns, portion_bytes, dtypes, predicate=predicate, places=places)


def rows_at(places: range, frames: Iterator[pl.DataFrame], first: int = 0) -> Iterator[pl.DataFrame]:
    """The rows at some places, of frames that follow each other from place ``first`` on; no frames beyond them are asked for."""
    for frame in frames:
        start = max(places.start - first, 0)
        rows = frame.slice(start, max(places.stop - first - start, 0)) if start < frame.height else frame.clear()
        first += frame.height
        if rows.height:
            yield rows
        if first >= places.stop:
            return


def _gathered(frames: Iterator[pl.DataFrame], portion_bytes: int) -> Iterator[pl.DataFrame]:
    """Frames one after the other, put together or cut to portions of about so many bytes."""
    held: list[pl.DataFrame] = []
    size = 0
    for frame in frames:
        held.append(frame)
        size += int(frame.estimated_size())
        if size >= portion_bytes:
            whole = pl.concat(held)
            yield from whole.iter_slices(_rows_of(portion_bytes, size, whole.height))
            held, size = [], 0
    if held:
        yield pl.concat(held)


def count_rows(path: str, predicate: pl.Expr, dtypes: Mapping[str, pl.DataType]) -> int:
    """How many rows of a local Parquet file satisfy a predicate: only its columns are read. Raises CorruptFile."""
    try:
        lazy = lazily(path, list(dict.fromkeys(predicate.meta.root_names())), predicate, dtypes)
        return int(lazy.select(pl.len()).collect().item())
    except FileNotFoundError as cause:
        raise FileMissing(f"{path}: there is no such file") from cause
    except DAMAGES as cause:
        raise CorruptFile(f"{path}: not a readable Parquet file: {cause}") from cause


def count_groups(
    io: FileIO, path: str, predicate: pl.Expr | None, dtypes: Mapping[str, pl.DataType]
) -> tuple[int, int]:
    """How many row groups of a Parquet file may hold what a predicate allows, and how many there are: only the footer is read.

    Raises CorruptFile and FileMissing.
    """
    compared = [name for name, dtype in dtypes.items() if dtype in COMPARED]
    with damages_named(path, "Parquet"), io.open_input(path) as source:
        metadata = pq.ParquetFile(source, pre_buffer=False).metadata
        return len(_wanted_groups(metadata, part_over(predicate, compared), dtypes)), metadata.num_row_groups


def lowest_of_groups(io: FileIO, path: str, column: str) -> list[tuple[object, int]] | None:
    """The smallest value of a column in each row group of a Parquet file, and how many rows it has: only the footer is read.

    None where the file does not tell, or is of another format. Raises CorruptFile and FileMissing.
    """
    if not path.endswith(".parquet"):
        return None
    with damages_named(path, "Parquet"), io.open_input(path) as source:
        metadata = pq.ParquetFile(source, pre_buffer=False).metadata
        groups = range(metadata.num_row_groups)
        place = _columns_of(metadata).get(column)
        found = [(_ends(metadata, group, place)[0], metadata.row_group(group).num_rows) for group in groups]
    return None if any(lowest is None for lowest, _ in found) else found


def read_matching(
    path: str, columns: Sequence[str], predicate: pl.Expr, dtypes: Mapping[str, pl.DataType], row_index: str
) -> pl.DataFrame:
    """The rows of a local Parquet file that satisfy a predicate, with each one's place in the file as ``row_index``.

    Row groups are left out by their statistics, and other columns than the predicate's decoded only where it holds.
    Raises CorruptFile.
    """
    try:
        return lazily(path, columns, predicate, dtypes, row_index=row_index).collect()
    except FileNotFoundError as cause:
        raise FileMissing(f"{path}: there is no such file") from cause
    except DAMAGES as cause:
        raise CorruptFile(f"{path}: not a readable Parquet file: {cause}") from cause


def _rows_of(portion_bytes: int, size: int, rows: int) -> int:
    width = max(1, size // max(1, rows))
    return min(_MOST_ROWS, max(1, portion_bytes // width))


def _parquet_portions(
    io: FileIO,
    path: str,
    columns: Sequence[str],
    portion_bytes: int,
    dtypes: Mapping[str, pl.DataType],
    *,
    predicate: pl.Expr | None,
    places: range | None,
) -> Iterator[pl.DataFrame]:
    with io.open_input(path) as source:
        file = pq.ParquetFile(source, pre_buffer=False, buffer_size=_BUFFER_BYTES, page_checksum_verification=True)
        metadata = file.metadata
        groups = _wanted_groups(metadata, predicate, dtypes) if places is None else _groups_at(metadata, places)
        if not groups:
            return
        frames = _of_groups(io, path, columns, portion_bytes, dtypes, file=file, groups=groups)
        yield from frames if places is None else rows_at(places, frames, _starts(metadata)[groups[0]])


def _of_groups(
    io: FileIO,
    path: str,
    columns: Sequence[str],
    portion_bytes: int,
    dtypes: Mapping[str, pl.DataType],
    *,
    file: pq.ParquetFile,
    groups: list[int],
) -> Iterator[pl.DataFrame]:
    """The rows of some row groups, one after the other."""
    present = [name for name in columns if name in file.schema_arrow.names]
    probed = next(file.iter_batches(_PROBED_ROWS, row_groups=groups, columns=present, use_threads=False), None)
    if probed is None:
        return
    rows = _rows_of(portion_bytes, probed.get_total_buffer_size(), probed.num_rows)
    local = io.local_path(path)
    highest = max(file.metadata.row_group(group).num_rows for group in groups)
    small = local is not None and highest <= rows * _GROUP_PORTIONS
    if small or holds_int96(file.schema):
        lazy = lazily(local or BytesIO(io.read_bytes(path)), columns, None, dtypes)
        for start, length in _places(file.metadata, groups, highest if small else rows):
            yield from lazy.slice(start, length).collect().iter_slices(rows)
        return
    for batch in file.iter_batches(rows, row_groups=groups, columns=present, use_threads=False):
        yield from_arrow(pa.Table.from_batches([batch])).select(present)


def _groups_at(metadata: pq.FileMetaData, places: range) -> list[int]:
    """The row groups that have rows at some places."""
    starts = _starts(metadata)
    ends = pairwise(starts)
    return [group for group, (start, end) in enumerate(ends) if start < places.stop and places.start < end]


def _starts(metadata: pq.FileMetaData) -> list[int]:
    """Where each row group begins in its file, and where the last one ends."""
    heights = (metadata.row_group(number).num_rows for number in range(metadata.num_row_groups))
    return list(accumulate(heights, initial=0))


def _places(metadata: pq.FileMetaData, groups: Sequence[int], rows: int) -> Iterator[tuple[int, int]]:
    """Where the rows of some row groups begin in the file, and how many they are, at most ``rows`` at once."""
    first = 0
    for number in range(metadata.num_row_groups):
        height = metadata.row_group(number).num_rows
        if number in groups:
            yield from ((first + start, min(rows, height - start)) for start in range(0, height, rows))
        first += height


def _wanted_groups(
    metadata: pq.FileMetaData, predicate: pl.Expr | None, dtypes: Mapping[str, pl.DataType]
) -> list[int]:
    """The row groups that may hold what a predicate allows."""
    everything = list(range(metadata.num_row_groups))
    names = [] if predicate is None else list(dict.fromkeys(predicate.meta.root_names()))
    if predicate is None or not all(dtypes.get(name) in COMPARED for name in names):
        return everything
    places = _columns_of(metadata)
    known = [[_ends(metadata, group, places.get(name)) for group in everything] for name in names]
    frame = stats_frame(
        dtypes,
        names,
        [[ends[0] for ends in column] for column in known],
        [[ends[1] for ends in column] for column in known],
        [[ends[2] for ends in column] for column in known],
        [metadata.row_group(group).num_rows for group in everything],
    )
    out = ruled_out(predicate, dict(dtypes), frame)
    return [group for group, ruled in zip(everything, out, strict=True) if not ruled]


def _columns_of(metadata: pq.FileMetaData) -> dict[str, int]:
    """The place of each column in a row group."""
    if not metadata.num_row_groups:
        return {}
    return {metadata.row_group(0).column(place).path_in_schema: place for place in range(metadata.num_columns)}


def _ends(metadata: pq.FileMetaData, group: int, column: int | None) -> tuple[object, object, int | None]:
    """Minimum, maximum and null count of a column in a row group; None where the file does not tell."""
    stats = None if column is None else metadata.row_group(group).column(column).statistics
    if stats is None:
        return None, None, None
    nulls = stats.null_count if stats.has_null_count else None
    return (stats.min, stats.max, nulls) if stats.has_min_max else (None, None, nulls)

"""Several Parquet files as one lazy scan, where their rows are the table's as they are: Polars reads them side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import polars as pl
from polars.exceptions import PanicException, PolarsError

from storage_engine.store.data_files import DataFiles
from storage_engine.store.merge_frames import POSITION, FilePart

_EXTENSION = ".parquet"
_VISIBLE = "_VISIBLE"
_FEW = 1 << 15
"""Hidden rows that are compared with every row that is read, a hash table for each row group: more are looked up in a mask."""
_TABLES = 64


@dataclass(frozen=True, slots=True)
class _Hidden:
    """The rows of several files that deletion vectors hide, numbered through all of them; ``rows``: how many there are in all."""

    rows: int
    numbers: npt.NDArray[np.int64]

    @staticmethod
    def of(parts: Sequence[FilePart]) -> _Hidden:
        """Raises IndexError if a vector speaks of a row behind the last one of its file."""
        counts = np.array([part.meta.row_count for part in parts])
        firsts = np.cumsum(counts) - counts
        numbers = [np.empty(0, np.int64)]
        for part, first in zip(parts, firsts, strict=True):
            if part.vector:
                positions = part.vector.positions().astype(np.int64)
                if positions[-1] >= part.meta.row_count:
                    raise IndexError(positions[-1])
                numbers.append(positions + first)
        return _Hidden(int(counts.sum()), np.concatenate(numbers))

    @property
    def count(self) -> int:
        """How many they are."""
        return len(self.numbers)

    def visible(self) -> npt.NDArray[np.bool_]:
        """For each row, whether it is not hidden."""
        visible = np.ones(self.rows, np.bool_)
        visible[self.numbers] = False
        return visible


def joint_read(
    files: DataFiles,
    parts: Sequence[FilePart],
    dtypes: Mapping[str, pl.DataType],
    columns: Sequence[str],
    *,
    predicate: pl.Expr | None = None,
    limit: int | None = None,
) -> pl.DataFrame | None:
    """Columns of the rows that a predicate leaves and no deletion vector hides, ``limit`` at most.

    ``dtypes`` are those of all columns that are read. None where the files must be read one by one: they are of another
    format or schema, or not on a disk; or something is wrong with them, which the reader of single files can name.
    """
    paths = files.plain_paths([(part.meta, part.directory) for part in parts], _EXTENSION)
    if (
        not paths
        or not columns
        or any(isinstance(dtype, pl.Datetime) and dtype.time_unit == "ns" for dtype in dtypes.values())
    ):
        return None
    is_whole = predicate is None and limit is None
    try:
        hidden = _Hidden.of(parts)
        is_numbered = hidden.count > 0 and not is_whole
        lazy = pl.scan_parquet(
            paths, glob=False, hive_partitioning=False, row_index_name=POSITION if is_numbered else None
        )
        stored = lazy.collect_schema()
        if any(stored.get(name) != dtype for name, dtype in dtypes.items()):
            return None
        if is_numbered:
            return (
                _by_number(lazy, hidden, columns, predicate, limit) if _rows_in(tuple(paths)) == hidden.rows else None
            )
        if hidden.count:
            # where all is decoded anyway, a mask beside the rows takes half the time of looking each row's place up
            lazy = pl.concat([lazy, pl.LazyFrame({_VISIBLE: hidden.visible()})], how="horizontal").filter(_VISIBLE)
        frame = _wanted(lazy, predicate, limit).select(columns).collect()
    except (PolarsError, PanicException, OSError, IndexError):
        return None
    return None if is_whole and frame.height != hidden.rows - hidden.count else frame


def _by_number(
    lazy: pl.LazyFrame, hidden: _Hidden, columns: Sequence[str], predicate: pl.Expr | None, limit: int | None
) -> pl.DataFrame:
    """The rows of a numbered scan, which begins each file where the one before should end."""
    if hidden.count <= _FEW:
        numbers = pl.Series(hidden.numbers).cast(pl.get_index_type()).implode()
        is_visible = ~pl.col(POSITION).is_in(numbers)
        return (
            _wanted(lazy, is_visible if predicate is None else predicate & is_visible, limit).select(columns).collect()
        )
    most = None if limit is None else limit + hidden.count
    frame = _wanted(lazy, predicate, most).select(*columns, POSITION).collect()
    is_seen = hidden.visible()[frame.get_column(POSITION).to_numpy()]
    seen = frame.drop(POSITION).filter(pl.Series(is_seen))
    return seen if limit is None else seen.head(limit)


def _wanted(lazy: pl.LazyFrame, predicate: pl.Expr | None, limit: int | None) -> pl.LazyFrame:
    found = lazy if predicate is None else lazy.filter(predicate)
    return found if limit is None else found.head(limit)


@lru_cache(maxsize=_TABLES)
def _rows_in(paths: tuple[str, ...]) -> int:
    """How many rows files have by their footers. They never change, and their names are nobody else's."""
    return int(pl.scan_parquet(list(paths), glob=False, hive_partitioning=False).select(pl.len()).collect().item())

"""Sorted runs that are together too large to be held, read side by side in ranges of their keys.

Each run is sorted by key, so of every run a portion is held, and what lies below the least of the portions' last keys is
complete: those rows are one range, which can be merged by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

import polars as pl

_READER_THREADS = 2

Portions = Iterator[pl.DataFrame]
OpenRun = Callable[[int], Portions]
"""Opens a sorted run, to be read in portions of so many bytes."""


def key_ranges(runs: Sequence[OpenRun], keys: Sequence[str], range_bytes: int) -> Generator[pl.DataFrame, None, None]:
    """The rows of all runs, as frames of about so many bytes: each holds all rows of a range of keys, in no order.

    REQUIRES: each run is sorted by ``keys``, nulls first; a key may stand in a run more than once.
    """
    portion_bytes = max(1, range_bytes // max(1, len(runs)))
    cursors = [_Cursor(run(portion_bytes), keys, portion_bytes) for run in runs]
    with ThreadPoolExecutor(_READER_THREADS) as pool:
        list(pool.map(_Cursor.fill, cursors))
        while any(cursor.held for cursor in cursors):
            going_on = [cursor for cursor in cursors if not cursor.ended]
            bound = _least([cursor.last_key for cursor in going_on], keys) if going_on else None
            parts = [part for cursor in cursors for part in cursor.taken(bound)]
            short = [cursor for cursor in going_on if cursor.is_short or bound is None or cursor.ends_at(bound)]
            filled = pool.map(_Cursor.fill, short)  # while the range is being merged
            if parts:
                yield pl.concat(parts)
                del parts
            list(filled)


class _Cursor:
    """How far a run is read, and the rows of it that wait for the other runs."""

    def __init__(self, portions: Portions, keys: Sequence[str], portion_bytes: int) -> None:
        self._portions = portions
        self._keys = list(keys)
        self._portion_bytes = portion_bytes
        self.held: list[pl.DataFrame] = []
        self.last_key = pl.DataFrame()
        """The key of the last row read."""
        self.ended = False

    def fill(self) -> None:
        """Read one more portion."""
        portion = next((part for part in self._portions if not part.is_empty()), None)
        if portion is None:
            self.ended = True
        else:
            self.held.append(portion)
            self.last_key = portion[-1:, self._keys]

    @property
    def is_short(self) -> bool:
        """Whether so little waits that the next range would be small."""
        return sum(part.estimated_size() for part in self.held) < self._portion_bytes / 2

    def ends_at(self, bound: pl.DataFrame) -> bool:
        """Whether nothing is held beyond a key, so that the next range needs more of this run."""
        return not self.held or self.last_key.equals(bound)

    def taken(self, bound: pl.DataFrame | None) -> list[pl.DataFrame]:
        """The rows below a key (None: all), which are held no more."""
        found: list[pl.DataFrame] = []
        while self.held:
            part = self.held[0]
            rows = part.height if bound is None else _rows_below(part, bound)
            if rows:
                found.append(part.head(rows))
            if rows < part.height:
                self.held[0] = part.slice(rows)
                break
            self.held.pop(0)
        return found


def _least(keys: Sequence[pl.DataFrame], names: Sequence[str]) -> pl.DataFrame:
    return pl.concat(keys).sort(names, nulls_last=False).head(1)


def _rows_below(part: pl.DataFrame, bound: pl.DataFrame) -> int:
    """How many rows of a sorted frame have a key below one."""
    low, high = 0, part.height
    *leading, last = bound.columns
    for name in leading:
        column, value = part.get_column(name).slice(low, high - low), bound.get_column(name)
        low, high = low + _place(column, value, "left"), low + _place(column, value, "right")
    return low + _place(part.get_column(last).slice(low, high - low), bound.get_column(last), "left")


def _place(column: pl.Series, value: pl.Series, side: Literal["left", "right"]) -> int:
    """Where a value stands, or would stand, in a sorted column with nulls first."""
    if column.dtype.is_integer() and not column.null_count() and not value.null_count():
        return int(column.to_numpy().searchsorted(value.to_numpy()[0], side))
    return int(column.search_sorted(value, side).item())

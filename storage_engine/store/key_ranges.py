"""Sorted runs that are together too large to be held, read side by side in ranges of their keys.

Each run is sorted by key, so of every run a portion is held, and what lies below the least of the portions' last keys is
complete: those rows are one range, which can be merged by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import reduce

import polars as pl

_READER_THREADS = 2

Portions = Iterator[pl.DataFrame]
OpenRun = Callable[[int], Portions]
"""Opens a sorted run, to be read in portions of so many bytes."""


def key_ranges(runs: Sequence[OpenRun], keys: Sequence[str], range_bytes: int) -> Iterator[pl.DataFrame]:
    """The rows of all runs, as frames of about so many bytes: each holds all rows of a range of keys, in no order.

    REQUIRES: each run is sorted by ``keys``, nulls first; a key may stand in a run more than once.
    """
    portion_bytes = max(1, range_bytes // max(1, len(runs)))
    cursors = [_Cursor(run(portion_bytes), keys, portion_bytes) for run in runs]
    with ThreadPoolExecutor(_READER_THREADS) as pool:
        list(pool.map(_Cursor.fill, cursors))
        while any(cursor.held for cursor in cursors):
            going_on = [cursor for cursor in cursors if not cursor.ended]
            bound = _least([cursor.last_key() for cursor in going_on], keys) if going_on else None
            parts = [part for cursor in cursors for part in cursor.taken(bound)]
            if parts:
                yield pl.concat(parts)
                del parts
            short = [cursor for cursor in going_on if cursor.is_short or bound is None or cursor.ends_at(bound)]
            list(pool.map(_Cursor.fill, short))


class _Cursor:
    """How far a run is read, and the rows of it that wait for the other runs."""

    def __init__(self, portions: Portions, keys: Sequence[str], portion_bytes: int) -> None:
        self._portions = portions
        self._keys = list(keys)
        self._portion_bytes = portion_bytes
        self.held: list[pl.DataFrame] = []
        self.ended = False

    def fill(self) -> None:
        """Read one more portion."""
        portion = next((part for part in self._portions if not part.is_empty()), None)
        if portion is None:
            self.ended = True
        else:
            self.held.append(portion)

    @property
    def is_short(self) -> bool:
        """Whether so little waits that the next range would be small."""
        return sum(part.estimated_size() for part in self.held) < self._portion_bytes / 2

    def last_key(self) -> pl.DataFrame:
        """The key of the last row read. REQUIRES: rows are held."""
        return self.held[-1].select(self._keys).tail(1)

    def ends_at(self, bound: pl.DataFrame) -> bool:
        """Whether nothing is held beyond a key, so that the next range needs more of this run."""
        return not self.held or self.last_key().equals(bound)

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
    values = {name: pl.lit(bound.get_column(name)).first() for name in bound.columns}

    def lower(rest: pl.Expr, name: str) -> pl.Expr:
        column, value = pl.col(name), values[name]
        is_lower = (column < value).fill_null(value=False) | (column.is_null() & value.is_not_null())
        return is_lower | (column.eq_missing(value) & rest)

    below = reduce(lower, reversed(bound.columns), pl.lit(value=False))
    return int(part.select(below.sum()).item())

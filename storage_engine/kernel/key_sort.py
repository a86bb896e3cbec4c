"""Sorting rows by key: whole-number keys are packed into one number each, which sorts several times faster than columns do.

Rows are ordered by (group, key, sequence fields, sequence number), nulls lowest, and last by their place in the frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

Longs = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

_LIMIT = 1 << 62
_FEW_DESCENTS = 64  # rows a descent: fewer, and the rows are mostly sorted runs, which a merging sort makes use of
_LOWEST = np.iinfo(np.int64).min


@dataclass(frozen=True, slots=True)
class SortedKeys:
    """``rows``: row numbers in key order. ``first``: whether the row there is the first of its key."""

    rows: Longs
    first: Mask


def sort_keys(frame: pl.DataFrame, key: Sequence[str]) -> SortedKeys | None:
    """The rows of a frame by (group and) key alone; None if the key is not of whole numbers that fit together in 62 bits."""
    packed = _packed(frame, key)
    if packed is None:
        return None
    descents = np.count_nonzero(packed[1:] < packed[:-1])
    rows = packed.argsort(kind="stable" if descents * _FEW_DESCENTS < len(packed) else None)
    ordered = packed[rows]
    first = np.ones(len(rows), np.bool_)
    np.not_equal(ordered[1:], ordered[:-1], out=first[1:])
    return SortedKeys(rows, first)


def newest(frame: pl.DataFrame, keys: SortedKeys, order: Sequence[str]) -> Longs | None:
    """The row number of the last record of each key by the columns ``order``; None if they are not of whole numbers."""
    rows, first = keys.rows, keys.first
    if first.all():
        return rows
    columns = [_numbers(frame.get_column(name)) for name in order]
    starts = np.flatnonzero(first)
    lengths = np.diff(starts, append=len(rows))
    wins: Mask | None = None
    for values in [*columns, np.arange(len(rows), dtype=np.int64)]:
        if values is None:
            return None
        placed = values[rows]
        if wins is not None:
            placed[~wins] = _LOWEST
        wins = placed == np.repeat(np.maximum.reduceat(placed, starts), lengths)
        if np.count_nonzero(wins) == len(starts):
            break
    return rows[wins]


def merge_order(frame: pl.DataFrame, keys: SortedKeys, order: Sequence[str]) -> Longs:
    """All row numbers, those of one key in the order of the columns ``order``."""
    rows, first = keys.rows, keys.first
    lone = first & np.append(first[1:], True)
    if lone.all():
        return rows
    places = np.flatnonzero(~lone)
    met = rows[places]
    number = pl.Series("_KEY", np.cumsum(first[places]))
    row = pl.Series("_PLACE", met)
    several = frame.select(order)[met].with_columns(number, row)
    sorting = several.select(pl.arg_sort_by("_KEY", *order, "_PLACE", nulls_last=False)).to_series()
    rows[places] = met[sorting.to_numpy()]
    return rows


def _packed(frame: pl.DataFrame, key: Sequence[str]) -> Longs | None:
    """One number for each row that orders as the columns do."""
    packed: Longs | None = None
    spread = 1
    for name in key:
        values = _numbers(frame.get_column(name))
        if values is None or frame.get_column(name).null_count():
            return None
        low, high = int(values.min()), int(values.max())
        width = high - low + 1
        spread *= width
        if spread >= _LIMIT or abs(low) >= _LIMIT:
            return None
        packed = values - low if packed is None else packed * width + (values - low)
    return packed


def _numbers(column: pl.Series) -> Longs | None:
    """The values of a column of whole numbers, dates or times, null as the lowest; None for other columns."""
    physical = column if column.dtype.is_integer() else column.to_physical()
    if not physical.dtype.is_signed_integer() or physical.dtype == pl.Int128 or column.dtype == pl.Decimal:
        return None
    if physical.null_count():
        physical = physical.cast(pl.Int64).fill_null(_LOWEST)
    return physical.to_numpy().astype(np.int64, copy=False)

"""Sorting rows by key: keys are packed into one number each, or a few, which sort several times faster than columns do.

Rows are ordered by (group, key, sequence fields, sequence number), nulls lowest, and last by their place in the frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from storage_engine.kernel.text_words import text_words

Longs = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

_LIMIT = 1 << 62
_FEW_DESCENTS = 64  # rows a descent: fewer, and the rows are mostly sorted runs, which a merging sort makes use of
_LOWEST = np.iinfo(np.int64).min
_ROW_BITS = 48
_ROW = (1 << _ROW_BITS) - 1


@dataclass(frozen=True, slots=True)
class SortedKeys:
    """``rows``: row numbers in key order. ``first``: whether the row there is the first of its key."""

    rows: Longs
    first: Mask


def sort_keys(frame: pl.DataFrame, key: Sequence[str]) -> SortedKeys | None:
    """The rows of a frame by (group and) key alone; None if the key is not of whole numbers and short texts without nulls."""
    words = _packed(frame, key)
    if words is None:
        return None
    leading = words[0]
    descents = np.count_nonzero(leading[1:] < leading[:-1])
    rows = leading.argsort(kind="stable" if descents * _FEW_DESCENTS < len(leading) else None)
    first = _starts(leading[rows])
    if len(words) > 1:
        _break_ties(rows, first, words)
    return SortedKeys(rows, first)


def lowest(keys: SortedKeys, ranks: npt.NDArray[np.int8]) -> Longs:
    """The row number of the record of each key whose rank is the lowest, and of several the first."""
    return np.minimum.reduceat(_scores(ranks)[keys.rows], np.flatnonzero(keys.first)) & _ROW


def lowest_of(
    wanted: pl.DataFrame, frame: pl.DataFrame, key: Sequence[str], ranks: npt.NDArray[np.int8]
) -> Longs | None:
    """The row number in a frame of the record of each wanted key whose rank is the lowest, and of several the first.

    None where ``sort_keys`` gives none.
    """
    names = list(key)
    keys = sort_keys(pl.concat([wanted[names], frame[names]], rechunk=True), names)
    if keys is None:
        return None
    starts = np.flatnonzero(keys.first)
    is_wanted = np.minimum.reduceat(keys.rows, starts) < wanted.height
    scores = np.concatenate([np.full(wanted.height, _LIMIT), _scores(ranks)])
    found = np.minimum.reduceat(scores[keys.rows], starts)
    return found[is_wanted & (found < _LIMIT)] & _ROW


def _scores(ranks: npt.NDArray[np.int8]) -> Longs:
    """The rank of each row, followed by its number (``_ROW``)."""
    return (ranks.astype(np.int64) << _ROW_BITS) | np.arange(len(ranks))


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
        is_most = placed == np.repeat(np.maximum.reduceat(placed, starts), lengths)
        wins = is_most if wins is None else is_most & wins  # the lowest of all may be what a winner has, too
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
    by_key = sort_keys(several, ["_KEY", *order, "_PLACE"])
    if by_key is not None:
        rows[places] = met[by_key.rows]
        return rows
    sorting = several.select(pl.arg_sort_by("_KEY", *order, "_PLACE", nulls_last=False)).to_series()
    rows[places] = met[sorting.to_numpy()]
    return rows


def _starts(ordered: Longs) -> Mask:
    """Whether each number is another one than that before it."""
    first = np.ones(len(ordered), np.bool_)
    np.not_equal(ordered[1:], ordered[:-1], out=first[1:])
    return first


def _break_ties(rows: Longs, first: Mask, words: Sequence[Longs]) -> None:
    """Order rows that are sorted by the first word by the further ones, in place: where rows that agree so far differ."""
    for number, word in enumerate(words[1:], 1):
        differs = np.zeros(len(rows), np.bool_)
        for further in words[number:]:
            differs |= _starts(further[rows])
        broken = differs & ~first
        if not broken.any():
            return
        starts = np.flatnonzero(first)
        mixed = np.logical_or.reduceat(broken, starts)
        places = np.flatnonzero(np.repeat(mixed, np.diff(starts, append=len(rows))))
        met = rows[places]
        order = np.lexsort((word[met], np.cumsum(first[places])))
        rows[places] = met[order]
        first[places] |= _starts(word[met[order]])


def _packed(frame: pl.DataFrame, key: Sequence[str]) -> list[Longs] | None:
    """A few numbers for each row, the first of which decides, that order as the columns do; as few as they fit in."""
    packed: list[Longs] = []
    lowest_of: list[int] = []
    spread = _LIMIT
    for name in key:
        words = _words(frame.get_column(name))
        if words is None:
            return None
        for values in words:
            low, high = int(values.min()), int(values.max())
            width = high - low + 1
            if packed and spread == 1:  # all that came before is the same in every row
                packed[-1], lowest_of[-1], spread = values, low, width
            elif not packed or spread * width >= _LIMIT:
                packed.append(values)
                lowest_of.append(low)
                spread = width
            elif width > 1:
                packed[-1] = (packed[-1] - lowest_of[-1]) * width + (values - low)
                lowest_of[-1] = 0
                spread *= width
    return packed


def _words(column: pl.Series) -> list[Longs] | None:
    """A key column as numbers, of which the first decides; None for what has none."""
    if column.null_count():
        return None
    if column.dtype == pl.String:
        return text_words(column)
    values = _numbers(column)
    return None if values is None else [values]


def _numbers(column: pl.Series) -> Longs | None:
    """The values of a column of whole numbers, dates or times, null as the lowest; None for other columns.

    None, too, where null would be one with the lowest number.
    """
    physical = column if column.dtype.is_integer() else column.to_physical()
    if not physical.dtype.is_signed_integer() or physical.dtype == pl.Int128 or column.dtype == pl.Decimal:
        return None
    if physical.null_count():
        if physical.min() == _LOWEST:
            return None
        physical = physical.cast(pl.Int64).fill_null(_LOWEST)
    return physical.to_numpy().astype(np.int64, copy=False)

"""Where to cut rows that are sorted by a column, in several runs side by side, into ranges of about so many rows.

What is known of a run is the value at some of its rows; between them, values are taken to be spread evenly. All is counted in
whole numbers, so that every machine cuts alike.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np
import numpy.typing as npt

_TEXT_BYTES = 7
_BITS = 31
"""Of places and of rows: their product fits."""

Places = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class SortedRun:
    """``values`` at some rows of a run (whole numbers, days or texts), ``before`` which there are so many: those of the first
    row and of the last one among them.
    """

    values: tuple[Any, ...]
    before: tuple[int, ...]


def cut(runs: Sequence[SortedRun], most: int) -> list[tuple[Any, int]]:
    """Where ranges of about ``most`` rows begin, and how many rows they have, about. The first begins before all values (None).

    Ranges begin at values of runs only, so where these lie apart a range has more rows, or less.
    """
    values = sorted({value for run in runs for value in run.values[:-1]})
    places = _places([*values, *(run.values[-1] for run in runs)])
    counted = _rows_before(runs, values, places)
    total = sum(run.before[-1] for run in runs)
    ranges: list[tuple[Any, int]] = []
    begun, begun_at, last, last_at = None, 0, None, 0
    for value, before in zip(values, counted, strict=True):
        if before - begun_at > most:
            if last is None:
                last, last_at = value, before
            ranges.append((begun, last_at - begun_at))
            begun, begun_at, last = last, last_at, None
        if 2 * (before - begun_at) >= most and value != begun:
            last, last_at = value, before
    if last is not None and total - begun_at > most:
        ranges.append((begun, last_at - begun_at))
        begun, begun_at = last, last_at
    return [*ranges, (begun, max(total - begun_at, 1))]


def _rows_before(runs: Iterable[SortedRun], values: Sequence[Any], places: dict[Any, int]) -> list[int]:
    """About how many rows of all runs come before each value."""
    at = np.array([places[value] for value in values], dtype=np.int64)
    found = np.zeros(len(values), dtype=np.int64)
    for run in runs:
        knots = np.maximum.accumulate(np.array([places[value] for value in run.values], dtype=np.int64))
        rows = np.array(run.before, dtype=np.int64)
        right = np.clip(np.searchsorted(knots, at, side="left"), 1, len(knots) - 1)
        left = right - 1
        width = np.maximum(knots[right] - knots[left], 1)
        part = (rows[right] - rows[left]) * np.clip(at - knots[left], 0, width) // width
        found += np.where(at <= knots[0], 0, rows[left] + part)
    return [int(count) for count in found]


def _places(values: Sequence[Any]) -> dict[Any, int]:
    """Values as whole numbers in their order, of so few bits that they can be counted with; different ones may be one."""
    shared = _shared_bytes(min(values), max(values)) if isinstance(values[0], str) else 0
    numbers = [_number(value, shared) for value in values]
    lowest = min(numbers)
    shift = max((max(numbers) - lowest).bit_length() - _BITS, 0)
    return {value: (number - lowest) >> shift for value, number in zip(values, numbers, strict=True)}


def _shared_bytes(lowest: str, highest: str) -> int:
    """How many bytes texts begin with alike, which lie between two."""
    ends = lowest.encode(), highest.encode()
    differs = (at for at, (one, other) in enumerate(zip(*ends, strict=False)) if one != other)
    return next(differs, min(map(len, ends)))


def _number(value: Any, shared: int) -> int:
    if isinstance(value, str):
        return int.from_bytes(value.encode()[shared : shared + _TEXT_BYTES].ljust(_TEXT_BYTES, b"\0"), "big")
    return value.toordinal() if isinstance(value, date) else int(value)

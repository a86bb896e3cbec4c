"""Column statistics of a frame, as manifests keep them: minimum, maximum and null count.

Spec: "Manifest / SimpleStats" of Apache Paimon 1.3.1 (modes none, counts, truncate(n), full).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from storage_engine.spec.types import FLOAT_ROOTS, NESTED_ROOTS, STRING_ROOTS, TIMESTAMP_ROOTS, DataField

VALUE_TRUNCATE_LENGTH = 16
KEY_TRUNCATE_LENGTH = 128
_LAST_CODE_POINT, _SURROGATES = 0x10FFFF, range(0xD800, 0xE000)

Stats = tuple[list[object], list[object], list[int]]


def column_stats(
    frame: pl.DataFrame, fields: Sequence[DataField], *, truncate_length: int | None = VALUE_TRUNCATE_LENGTH
) -> Stats:
    """Minima, maxima (Python values, None where unknown) and null counts of some columns.

    Strings are cut to ``truncate_length`` code points (None: whole); a cut maximum is raised so that it stays an upper bound,
    and if it cannot be, both ends are None. Nested columns, nanosecond timestamps and floats that hold NaN have no minimum
    and maximum.
    """
    if frame.is_empty() or not fields:
        return [None] * len(fields), [None] * len(fields), [0] * len(fields)
    mins: list[object] = []
    maxs: list[object] = []
    nulls: list[int] = []
    for field in fields:
        column = frame.get_column(field.name)
        low, high = _ends(column, field)
        if field.type.root in STRING_ROOTS and truncate_length is not None:
            low, high = _truncated(low, high, truncate_length)
        mins.append(low)
        maxs.append(high)
        nulls.append(column.null_count())
    return mins, maxs, nulls


def joined_stats(left: Stats, left_rows: int, right: Stats, right_rows: int) -> Stats:
    """The statistics of two frames put together; an end that one of them does not know is unknown of both."""
    mins: list[object] = []
    maxs: list[object] = []
    for low, high, nulls, other_low, other_high, other_nulls in zip(*left, *right, strict=True):
        ends = _joined_ends((low, high, nulls == left_rows), (other_low, other_high, other_nulls == right_rows))
        mins.append(ends[0])
        maxs.append(ends[1])
    return mins, maxs, [nulls + other for nulls, other in zip(left[2], right[2], strict=True)]


def _joined_ends(left: tuple[Any, Any, bool], right: tuple[Any, Any, bool]) -> tuple[Any, Any]:
    """Each side: minimum, maximum, and whether all is null there, so that it has no say."""
    if left[2]:
        return right[:2]
    if right[2]:
        return left[:2]
    if left[0] is None or right[0] is None:
        return None, None
    return min(left[0], right[0]), max(left[1], right[1])


def _is_ordered(field: DataField) -> bool:
    """Whether a minimum is kept: not for nested types, nor for timestamps finer than Python's."""
    is_nanos = field.type.root in TIMESTAMP_ROOTS and field.type.time_unit == "ns"
    return field.type.root not in NESTED_ROOTS and not is_nanos


def _ends(column: pl.Series, field: DataField) -> tuple[Any, Any]:
    """Minimum and maximum, asked of the column itself: a query of many small expressions takes longer than its answer."""
    if not _is_ordered(field) or (field.type.root in FLOAT_ROOTS and _holds_nan(column)):
        return None, None
    return column.min(), column.max()


def _holds_nan(column: pl.Series) -> bool:
    present = column.drop_nulls() if column.null_count() else column
    return bool(np.isnan(present.to_numpy()).any())


def _truncated(low: str | None, high: str | None, length: int) -> tuple[str | None, str | None]:
    if low is None or high is None:
        return low, high
    bound = high if len(high) <= length else _raised(high[:length])
    return (None, None) if bound is None else (low[:length], bound)


def _raised(text: str) -> str | None:
    """The least string of at most the same length above all that begin with ``text``; None if there is none."""
    for end in range(len(text) - 1, -1, -1):
        following = ord(text[end]) + 1
        if following in _SURROGATES:
            following = _SURROGATES.stop
        if following <= _LAST_CODE_POINT:
            return text[:end] + chr(following)
    return None

"""How the values of Debezium's rows look and are read, column by column; what certain rows consist of."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import inf, nan
from typing import Final

import polars as pl
import pyarrow as pa

from lakehouse_assets.sources.change_source import DELETE_OP, DELETED, EVENT_TIME, OP

AT: Final = "_change.at"
"""The number of a line among those that were handed in."""
TIME: Final = "_change.time"
READ: Final = "_read."
"""Stands before the name of a column: its values, null where they are none."""
TIME_MS_MAX: Final = 253_402_300_799_999
"""The last millisecond of the year 9999."""

_DAY: Final = "[0-9]{4}-[0-9]{2}-[0-9]{2}"
_INTEGER: Final = "(-?(?:0|[1-9][0-9]*))"
NUMBER: Final = r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?"
_CLOCK: Final = "[0-9]{2}:[0-9]{2}:[0-9]{2}"
FRACTION_DIGITS: Final[Mapping[str, int]] = {"ms": 3, "us": 6, "ns": 9}
SPECIAL_NUMBERS: Final[Mapping[str, float]] = {"NaN": nan, "Infinity": inf, "-Infinity": -inf}
"""Texts of what is no number of JSON."""
BASE64: Final = "(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?"


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """How a value is asked for, and read: null where it is no value of its column. ``pattern``: its JSON text, in a group.

    ``parsed``: ``read`` for texts that are known to follow the pattern.
    """

    asked: pa.DataType
    pattern: str
    read: Callable[[pl.Expr], pl.Expr]
    parsed: Callable[[pl.Expr], pl.Expr] | None = None

    def read_text(self, text: pl.Expr) -> pl.Expr:
        """What a text that follows the pattern says."""
        if self.parsed is not None:
            return self.parsed(text)
        if self.asked == pa.int64():
            return self.read(text.cast(pl.Int64, strict=False))
        return self.read(text == "true" if self.asked == pa.bool_() else text)


def _between(low: int, high: int, dtype: pl.DataType) -> Callable[[pl.Expr], pl.Expr]:
    return lambda number: pl.when(number.is_between(low, high)).then(number).cast(dtype)


def day(text: pl.Expr) -> pl.Expr:
    """The day that a text names, null if it names none."""
    return _date(pl.when(text.str.contains(f"^{_DAY}$")).then(text))


def _date(text: pl.Expr) -> pl.Expr:
    return text.str.to_date("%Y-%m-%d", strict=False)


def _decimal(dtype: pl.Decimal) -> Field:
    fraction = rf"(?:\.[0-9]{{1,{dtype.scale}}})?" if dtype.scale else ""
    pattern = rf"-?[0-9]{{1,{dtype.precision - dtype.scale}}}{fraction}"
    return Field(
        asked=pa.string(),
        pattern=f'"({pattern})"',
        read=lambda text: pl.when(text.str.contains(f"^{pattern}$")).then(text).cast(dtype, strict=False),
        parsed=lambda text: text.cast(dtype, strict=False),
    )


def _fraction(most: int) -> str:
    return rf"(?:\.[0-9]{{1,{most}}})?"


def moment_pattern(dtype: pl.Datetime) -> str:
    """What the text of a time looks like: of UTC, if it is a moment."""
    zone = "" if dtype.time_zone is None else "Z"
    return f"{_DAY}T{_CLOCK}{_fraction(FRACTION_DIGITS[dtype.time_unit])}{zone}"


CLOCK_PATTERN: Final = f"{_CLOCK}{_fraction(9)}"


def moment(text: pl.Expr, dtype: pl.Datetime) -> pl.Expr:
    """The time that a text of ``moment_pattern`` names, null if it names none."""
    naive = text.str.strip_suffix("Z").str.to_datetime("%Y-%m-%dT%H:%M:%S%.f", time_unit=dtype.time_unit, strict=False)
    return naive if dtype.time_zone is None else naive.dt.replace_time_zone(dtype.time_zone)


def clock(text: pl.Expr) -> pl.Expr:
    """The time of day that a text of ``CLOCK_PATTERN`` names, null if it names none."""
    return text.str.to_time("%H:%M:%S%.f", strict=False)


def finite(number: pl.Expr) -> pl.Expr:
    """Numbers, null where a text says more than the type can hold."""
    return pl.when(number.is_finite()).then(number)


def _text_of(pattern: str, read: Callable[[pl.Expr], pl.Expr]) -> Field:
    return Field(
        asked=pa.string(),
        pattern=f'"({pattern})"',
        read=lambda text: read(pl.when(text.str.contains(f"^{pattern}$")).then(text)),
        parsed=read,
    )


def _float(dtype: pl.DataType, asked: pa.DataType) -> Field:
    return Field(
        asked=asked, pattern=f"({NUMBER})", read=finite, parsed=lambda text: finite(text.cast(dtype, strict=False))
    )


TIME_FIELD: Final = Field(asked=pa.int64(), pattern=_INTEGER, read=_between(0, TIME_MS_MAX, pl.Datetime("ms")))
_FIELDS: Final[Mapping[pl.DataType, Field]] = {
    pl.String(): Field(asked=pa.string(), pattern=r'"([^"\\\x00-\x1f]*)"', read=lambda text: text),
    pl.Boolean(): Field(asked=pa.bool_(), pattern="(true|false)", read=lambda value: value),
    pl.Int8(): Field(asked=pa.int64(), pattern=_INTEGER, read=_between(-(2**7), 2**7 - 1, pl.Int8())),
    pl.Int16(): Field(asked=pa.int64(), pattern=_INTEGER, read=_between(-(2**15), 2**15 - 1, pl.Int16())),
    pl.Int32(): Field(asked=pa.int64(), pattern=_INTEGER, read=_between(-(2**31), 2**31 - 1, pl.Int32())),
    pl.Int64(): Field(asked=pa.int64(), pattern=_INTEGER, read=lambda number: number),
    pl.Date(): Field(asked=pa.string(), pattern=f'"({_DAY})"', read=day, parsed=_date),
    pl.Datetime("ms"): TIME_FIELD,
    pl.Float32(): _float(pl.Float32(), pa.float32()),
    pl.Float64(): _float(pl.Float64(), pa.float64()),
    pl.Time(): _text_of(CLOCK_PATTERN, clock),
    pl.Binary(): _text_of(BASE64, lambda text: text.str.decode("base64", strict=False)),
}


def field_of(dtype: pl.DataType) -> Field:
    """The field of a column. REQUIRES: its dtype has a JSON form."""
    if isinstance(dtype, pl.Decimal):
        return _decimal(dtype)
    if isinstance(dtype, pl.Datetime) and dtype not in _FIELDS:
        return _text_of(moment_pattern(dtype), lambda text: moment(text, dtype))
    return _FIELDS[dtype]


def results(names: Sequence[str]) -> list[pl.Expr]:
    """The columns of a certain row of a table with these columns."""
    return [
        *(pl.col(f"{READ}{name}").alias(name) for name in names if name != EVENT_TIME),
        pl.col(OP),
        (pl.col(OP) == DELETE_OP).alias(DELETED),
        pl.col(TIME).alias(EVENT_TIME),
    ]

"""How the values of Debezium's rows look and are read, column by column; what certain rows consist of."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
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


TIME_FIELD: Final = Field(asked=pa.int64(), pattern=_INTEGER, read=_between(0, TIME_MS_MAX, pl.Datetime("ms")))
_FIELDS: Final[Mapping[pl.DataType, Field]] = {
    pl.String(): Field(asked=pa.string(), pattern=r'"([^"\\\x00-\x1f]*)"', read=lambda text: text),
    pl.Boolean(): Field(asked=pa.bool_(), pattern="(true|false)", read=lambda value: value),
    pl.Int32(): Field(asked=pa.int64(), pattern=_INTEGER, read=_between(-(2**31), 2**31 - 1, pl.Int32())),
    pl.Int64(): Field(asked=pa.int64(), pattern=_INTEGER, read=lambda number: number),
    pl.Date(): Field(asked=pa.string(), pattern=f'"({_DAY})"', read=day, parsed=_date),
    pl.Datetime("ms"): TIME_FIELD,
}


def field_of(dtype: pl.DataType) -> Field:
    """The field of a column. REQUIRES: its dtype has a JSON form."""
    return _decimal(dtype) if isinstance(dtype, pl.Decimal) else _FIELDS[dtype]


def results(names: Sequence[str]) -> list[pl.Expr]:
    """The columns of a certain row of a table with these columns."""
    return [
        *(pl.col(f"{READ}{name}").alias(name) for name in names if name != EVENT_TIME),
        pl.col(OP),
        (pl.col(OP) == DELETE_OP).alias(DELETED),
        pl.col(TIME).alias(EVENT_TIME),
    ]

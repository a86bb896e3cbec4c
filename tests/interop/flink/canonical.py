"""Canonical rows: the form in which rows read by two engines are compared.

A row is a tuple of values, each of the following; ``None`` is NULL everywhere.

- BOOLEAN, integers: bool, int; CHAR, STRING: str; DATE: ``"2024-02-29"``
- FLOAT, DOUBLE: float (a FLOAT widened), but ``"NaN"``, ``"Infinity"``, ``"-Infinity"`` and ``"-0.0"``
- DECIMAL(p, s): str with s digits after the point; BINARY, BYTES: lower-case hex str
- TIMESTAMP(p): ``"2024-02-29T23:59:59.123"`` with 3, 6 or 9 digits, the least that holds p; TIMESTAMP_LTZ(p):
  the same in UTC, with ``"Z"`` behind; TIME: ``"23:59:59.123000000"``, always 9 digits
- ARRAY and ROW: list; MAP and MULTISET: list of [key, value] lists, sorted by key
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias, TypeVar

import polars as pl

Value: TypeAlias = "bool | int | float | str | list[Value] | None"
Row: TypeAlias = tuple[Value, ...]
T = TypeVar("T")

_DIGITS = {"ms": 3, "us": 6, "ns": 9}
_PLAIN = (pl.Boolean, pl.String, pl.Null)
_MAP_FIELDS = ["key", "value"]


def canon(frame: pl.DataFrame) -> list[Row]:
    """The canonical rows of ``frame``, sorted as `in_order` sorts.

    A list of structs of key and value is taken for a MAP, so an ARRAY of such ROWs loses its order.

    Raises:
        TypeError: a column has a dtype that no Paimon column is read as.
    """
    return in_order(zip(*(_values(column) for column in frame.iter_columns()), strict=True))


def canon_changes(frame: pl.DataFrame) -> list[tuple[str, Row]]:
    """(kind, row) of a frame with the column ``_row_kind``, in the frame's order."""
    columns = [_values(column) for column in frame.drop("_row_kind").iter_columns()]
    return list(zip(frame["_row_kind"].to_list(), zip(*columns, strict=True), strict=True))


def in_order(items: Iterable[T]) -> list[T]:
    """Sorts rows, or tuples that hold rows, in an order that is total whatever their values are."""
    return sorted(items, key=repr)


def _values(column: pl.Series) -> Sequence[Value]:
    finish = _finisher(column.dtype)
    values = column.to_frame().select(_text(pl.col(column.name), column.dtype)).to_series().to_list()
    return values if finish is None else [None if value is None else finish(value) for value in values]


def _text(values: pl.Expr, dtype: pl.DataType) -> pl.Expr:
    """Casts what Python's own types would hold less exactly, at any depth, to its canonical text."""
    match dtype:
        case pl.Decimal():
            return values.cast(pl.String)
        case pl.Date():
            return values.dt.strftime("%Y-%m-%d")
        case pl.Time():
            return values.dt.strftime("%H:%M:%S%.9f")
        case pl.Datetime():
            zone = "" if dtype.time_zone is None else "Z"
            naive = values if dtype.time_zone is None else values.dt.convert_time_zone("UTC")
            return naive.dt.strftime(f"%Y-%m-%dT%H:%M:%S%.{_DIGITS[dtype.time_unit]}f{zone}")
        case pl.Binary():
            return values.bin.encode("hex")
        case pl.List():
            return values.list.eval(_text(pl.element(), _dtype(dtype.inner)))
        case pl.Struct():
            fields = [_text(values.struct.field(f.name), _dtype(f.dtype)).alias(f.name) for f in dtype.fields]
            return pl.when(values.is_not_null()).then(pl.struct(*fields))
        case _:
            return values


def _finisher(dtype: pl.DataType) -> Callable[[Any], Value] | None:
    """What Python has yet to do with a value of this dtype; None: nothing."""
    match dtype:
        case pl.Float32() | pl.Float64():
            return _float
        case pl.List(inner=pl.Struct(fields=fields)) if [field.name for field in fields] == _MAP_FIELDS:
            key, value = (_optional(_finisher(_dtype(field.dtype))) for field in fields)
            return lambda pairs: _sorted_pairs([[key(pair["key"]), value(pair["value"])] for pair in pairs])
        case pl.List():
            element = _optional(_finisher(_dtype(dtype.inner)))
            return lambda values: [element(value) for value in values]
        case pl.Struct():
            finishers = [(field.name, _optional(_finisher(_dtype(field.dtype)))) for field in dtype.fields]
            return lambda fields: [finish(fields[name]) for name, finish in finishers]
        case pl.Decimal() | pl.Date() | pl.Time() | pl.Datetime() | pl.Binary():
            return None
        case _ if dtype in _PLAIN or dtype.is_integer():
            return None
        case _:
            raise TypeError(f"no Paimon column is read as {dtype}")


def _optional(finish: Callable[[Any], Value] | None) -> Callable[[Any], Value]:
    if finish is None:
        return lambda value: value
    return lambda value: None if value is None else finish(value)


def _dtype(dtype: Any) -> pl.DataType:
    return dtype if isinstance(dtype, pl.DataType) else dtype()


def _float(value: float) -> Value:
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    return "-0.0" if value == 0 and math.copysign(1, value) < 0 else value


def _sorted_pairs(pairs: list[Any]) -> Value:
    return sorted(pairs, key=lambda pair: (pair[0] is not None, pair[0]))

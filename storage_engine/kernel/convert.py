"""Lossless conversion of a user's column to a table's type: what fits exactly is converted, nothing is rounded.

Widenings are allowed (Int32 to BIGINT, a decimal of smaller scale, Date to TIMESTAMP, Categorical to STRING, …), and narrowings
whose values all fit. A column of another family (text to a number, a float to a decimal or an integer) is a mistake.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import polars as pl
from polars._typing import PolarsDataType

from storage_engine.spec.types import BINARY_ROOTS, MAX_LENGTH, STRING_ROOTS, DataType, TypeRoot

_NANOS_PER_MILLI = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Converted:
    """A column in the table's dtype. ``bad`` marks values that do not fit (None: all do), ``reason`` says why."""

    values: pl.Series
    bad: pl.Series | None = None
    reason: str = ""


def convert(values: pl.Series, data_type: DataType) -> Converted | None:
    """Convert a column to the Polars dtype of a type, value by value exactly; None if its dtype is of the wrong kind."""
    target = data_type.to_polars()
    if values.dtype == pl.Null:
        return Converted(values=values.cast(target))
    if values.dtype == target and data_type.root not in _CHECKED_ROOTS:
        return Converted(values=values)
    converter = _CONVERTERS.get(data_type.root)
    return None if converter is None else converter(values, data_type)


def _exactly(values: pl.Series, target: pl.DataType, reason: str) -> Converted:
    """Cast; bad where the value does not survive the way there and back."""
    casted = values.cast(target, strict=False)
    back = casted.cast(values.dtype, strict=False)
    bad = back.ne_missing(values)
    return Converted(values=casted, bad=bad, reason=reason) if bad.any() else Converted(values=casted)


def _integer(values: pl.Series, data_type: DataType) -> Converted | None:
    if not values.dtype.is_integer():
        return None
    target = data_type.to_polars()
    casted = values.cast(target, strict=False)
    if casted.null_count() == values.null_count():
        return Converted(values=casted)
    bad = casted.is_null() & values.is_not_null()
    return Converted(values=casted, bad=bad, reason=f"is out of the range of {data_type.sql}")


def _float(values: pl.Series, data_type: DataType) -> Converted | None:
    if not (values.dtype.is_float() or values.dtype.is_integer()):
        return None
    return _exactly(values, data_type.to_polars(), f"has no exact {data_type.sql}")


def _decimal(values: pl.Series, data_type: DataType) -> Converted | None:
    if not (values.dtype.is_decimal() or values.dtype.is_integer()):
        return None
    return _exactly(values, data_type.to_polars(), f"does not fit {data_type.sql} without rounding")


def _string(values: pl.Series, data_type: DataType) -> Converted | None:
    if values.dtype in (pl.Categorical, pl.Enum):
        values = values.cast(pl.String)
    if values.dtype != pl.String:
        return None
    return _within(values, values.str.len_chars, data_type, "characters")


def _binary(values: pl.Series, data_type: DataType) -> Converted | None:
    if values.dtype != pl.Binary:
        return None
    return _within(values, values.bin.size, data_type, "bytes")


def _within(values: pl.Series, length: Callable[[], pl.Series], data_type: DataType, unit: str) -> Converted:
    if data_type.length is None or data_type.length == MAX_LENGTH:
        return Converted(values=values)
    bad = (length() > data_type.length).fill_null(value=False)
    if not bad.any():
        return Converted(values=values)
    return Converted(values=values, bad=bad, reason=f"has more {unit} than {data_type.sql} holds")


def _time(values: pl.Series, data_type: DataType) -> Converted | None:
    """TIME is kept in milliseconds, whatever its precision."""
    if values.dtype != pl.Time:
        return None
    bad = (values.to_physical() % _NANOS_PER_MILLI != 0).fill_null(value=False)
    if not bad.any():
        return Converted(values=values)
    return Converted(values=values, bad=bad, reason=f"is finer than the milliseconds of {data_type.sql}")


def _timestamp(values: pl.Series, data_type: DataType) -> Converted | None:
    """Naive and UTC times are taken for each other; a time of another zone is an instant, so only TIMESTAMP_LTZ takes it."""
    if values.dtype == pl.Date:
        values = values.cast(pl.Datetime("us"))
    if not isinstance(values.dtype, pl.Datetime):
        return None
    zone = values.dtype.time_zone
    local = data_type.root is TypeRoot.TIMESTAMP
    if local and zone not in (None, "UTC"):
        return None
    if zone is not None:
        values = values.dt.convert_time_zone("UTC").dt.replace_time_zone(None)
    converted = _exactly(values, pl.Datetime(data_type.time_unit), f"does not fit {data_type.sql} without rounding")
    if local:
        return converted
    return Converted(values=converted.values.dt.replace_time_zone("UTC"), bad=converted.bad, reason=converted.reason)


def _nested(values: pl.Series, data_type: DataType) -> Converted | None:
    """Nested columns: a field of a ROW that the frame lacks is null, one that the table lacks is a mistake."""
    expression = _fitted(pl.col(values.name), values.dtype, data_type)
    if expression is None:
        return None
    expression = expression.alias(values.name)
    bad = _overflows(values, expression)
    if bad:
        marked = pl.repeat(value=False, n=len(values), dtype=pl.Boolean, eager=True).scatter(bad, values=True)
        # Gathered, since a nulled list may still carry its elements along.
        rows = pl.int_range(len(values), dtype=pl.get_index_type(), eager=True).set(marked, None)
        kept = values.gather(rows)
        converted = kept.to_frame().select(expression).to_series()
        return Converted(values=converted, bad=marked, reason=f"holds a number out of the range of {data_type.sql}")
    return _without_null_keys(values.to_frame().select(expression).to_series(), data_type)


def _overflows(values: pl.Series, expression: pl.Expr, start: int = 0) -> list[int]:
    """Rows whose strict cast fails, found by halving: numbers inside nested values leave no other trace."""
    try:
        values.to_frame().select(expression)
    except pl.exceptions.InvalidOperationError:
        middle = len(values) // 2
        if middle == 0:
            return [start]
        left = _overflows(values[:middle], expression, start)
        return left + _overflows(values[middle:], expression, start + middle)
    return []


def _without_null_keys(values: pl.Series, data_type: DataType) -> Converted:
    if data_type.root not in (TypeRoot.MAP, TypeRoot.MULTISET):
        return Converted(values=values)
    has_null = pl.element().struct.field("key").is_null().any()
    bad = values.list.eval(has_null).list.first().fill_null(value=False)
    if not bad.any():
        return Converted(values=values)
    return Converted(values=values, bad=bad, reason="has a null key")


def _fitted(values: pl.Expr, dtype: pl.DataType, data_type: DataType) -> pl.Expr | None:
    target = data_type.to_polars()
    if dtype == target:
        return values
    if dtype == pl.Null:
        return values.cast(target)
    if isinstance(dtype, pl.Map):
        entry = pl.Struct({"key": dtype.key, "value": dtype.value})
        return _fitted(values.cast(pl.List(entry)), pl.List(entry), data_type)
    if isinstance(dtype, (pl.List, pl.Array)) and isinstance(target, pl.List):
        inner = _as_dtype(dtype.inner)
        element = _fitted_element(inner, data_type)
        return None if element is None else values.cast(pl.List(inner)).list.eval(element)
    if isinstance(dtype, pl.Struct) and data_type.root is TypeRoot.ROW:
        fields = {field.name: field.type for field in data_type.fields}
        return _fitted_struct(values, {field.name: _as_dtype(field.dtype) for field in dtype.fields}, fields)
    return values.cast(target) if _casts_exactly(dtype, target) else None


def _as_dtype(dtype: PolarsDataType) -> pl.DataType:
    return dtype if isinstance(dtype, pl.DataType) else dtype()


def _fitted_element(inner: pl.DataType, data_type: DataType) -> pl.Expr | None:
    if data_type.root is TypeRoot.ARRAY and data_type.element is not None:
        return _fitted(pl.element(), inner, data_type.element)
    if data_type.root in (TypeRoot.MAP, TypeRoot.MULTISET) and isinstance(inner, pl.Struct):
        key, value = data_type.map_parts()
        given = {field.name: _as_dtype(field.dtype) for field in inner.fields}
        return _fitted_struct(pl.element(), given, {"key": key, "value": value})
    return None


def _fitted_struct(values: pl.Expr, given: Mapping[str, pl.DataType], fields: Mapping[str, DataType]) -> pl.Expr | None:
    if not given.keys() <= fields.keys():
        return None
    parts: list[pl.Expr] = []
    for name, data_type in fields.items():
        if name in given:
            part = _fitted(values.struct.field(name), given[name], data_type)
        else:
            part = pl.lit(None, data_type.to_polars()) if data_type.nullable else None
        if part is None:
            return None
        parts.append(part.alias(name))
    return pl.when(values.is_not_null()).then(pl.struct(parts))


def _casts_exactly(dtype: pl.DataType, target: pl.DataType) -> bool:
    """Whether a strict cast never rounds: it is exact, or fails."""
    if dtype.is_integer() and (target.is_integer() or target.is_decimal()):
        return True
    if isinstance(dtype, pl.Decimal) and isinstance(target, pl.Decimal):
        return dtype.scale <= target.scale
    if isinstance(dtype, pl.Datetime) and isinstance(target, pl.Datetime):
        finer = _UNITS.index(dtype.time_unit) <= _UNITS.index(target.time_unit)
        return finer and dtype.time_zone == target.time_zone
    return any(dtype == narrow and target == wide for narrow, wide in _WIDENINGS) or (
        dtype in (pl.Categorical, pl.Enum) and target == pl.String
    )


_UNITS = ("ms", "us", "ns")
_WIDENINGS = ((pl.Float32, pl.Float64), (pl.Int8, pl.Float32), (pl.Int16, pl.Float32), (pl.Int32, pl.Float64))
_CHECKED_ROOTS = STRING_ROOTS | BINARY_ROOTS | {TypeRoot.TIME, TypeRoot.MAP, TypeRoot.MULTISET}
_CONVERTERS: dict[TypeRoot, Callable[[pl.Series, DataType], Converted | None]] = {
    TypeRoot.ARRAY: _nested,
    TypeRoot.MAP: _nested,
    TypeRoot.MULTISET: _nested,
    TypeRoot.ROW: _nested,
    TypeRoot.TINYINT: _integer,
    TypeRoot.SMALLINT: _integer,
    TypeRoot.INT: _integer,
    TypeRoot.BIGINT: _integer,
    TypeRoot.FLOAT: _float,
    TypeRoot.DOUBLE: _float,
    TypeRoot.DECIMAL: _decimal,
    TypeRoot.CHAR: _string,
    TypeRoot.VARCHAR: _string,
    TypeRoot.BINARY: _binary,
    TypeRoot.VARBINARY: _binary,
    TypeRoot.TIME: _time,
    TypeRoot.TIMESTAMP: _timestamp,
    TypeRoot.TIMESTAMP_LTZ: _timestamp,
}

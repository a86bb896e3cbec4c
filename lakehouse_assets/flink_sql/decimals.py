"""Decimals by Flink's rules: which precision and scale a result has, and its digits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import polars as pl

from lakehouse_assets.flink_sql.values import Value

MOST: Final = 38
_LEAST_SCALE: Final = 6
"""A quotient has so many digits behind the point; they are not given up for those before it."""
_WHOLE: Final[Mapping[type[pl.DataType], int]] = {pl.Int8: 3, pl.Int16: 5, pl.Int32: 10, pl.Int64: 19}


def total(left: Value, right: Value, found: pl.Expr) -> pl.Expr:
    """A sum or difference of decimals and whole numbers; null if it has too many digits."""
    (digits, scale), (other_digits, other_scale) = _shape(left), _shape(right)
    behind = max(scale, other_scale)
    target = _bounded(max(digits - scale, other_digits - other_scale) + behind + 1, behind)
    return found.cast(target, strict=False)


def product(left: Value, right: Value) -> pl.Expr:
    """Of decimals and whole numbers: the scales add up, so that no digit is lost."""
    (digits, scale), (other_digits, other_scale) = _shape(left), _shape(right)
    target = _bounded(digits + other_digits + 1, scale + other_scale)
    wide = pl.Decimal(MOST, target.scale)
    return (left.expr.cast(wide) * right.expr.cast(wide)).cast(target, strict=False)


def quotient(left: Value, right: Value) -> pl.Expr:
    """Of decimals and whole numbers; by zero gives null."""
    (digits, scale), (other_digits, other_scale) = _shape(left), _shape(right)
    behind = max(_LEAST_SCALE, scale + other_digits + 1)
    target = _bounded(digits - scale + other_scale + behind, behind)
    divisor = pl.when(right.expr != 0).then(right.expr).cast(pl.Decimal(MOST, other_scale))
    return (left.expr.cast(pl.Decimal(MOST, target.scale)) / divisor).cast(target, strict=False)


def edge(value: Value, *, up: bool) -> pl.Expr:
    """The next whole number, upwards or downwards."""
    return (value.expr.ceil() if up else value.expr.floor()).cast(pl.Decimal(MOST, 0))


def rounded(number: Value, places: int) -> pl.Expr:
    """Half away from zero, to some digits behind the point; less than none: before it."""
    if number.dtype.is_integer():
        return number.expr if places >= 0 else _whole_rounded(number.expr, 10**-places).cast(number.dtype)
    if not isinstance(number.dtype, pl.Decimal):
        return number.expr.round(places, mode="half_away_from_zero")
    digits, scale = _shape(number)
    if places < 0:
        unit = pl.lit(10**-places).cast(pl.Decimal(MOST, 0))
        tens = (number.expr.cast(pl.Decimal(MOST, scale - places)) / unit).round(0, mode="half_away_from_zero")
        return tens.cast(pl.Decimal(MOST, 0)) * unit
    found = number.expr.round(places, mode="half_away_from_zero")
    return found.cast(_bounded(1 + digits - scale + places, places) if places < scale else number.dtype)


def _whole_rounded(number: pl.Expr, unit: int) -> pl.Expr:
    """Whole numbers, to a multiple of ``unit``."""
    size = (number.cast(pl.Int64).abs() + unit // 2) // unit * unit
    return pl.when(number < 0).then(-size).otherwise(size)


def _shape(value: Value) -> tuple[int, int]:
    """Precision and scale."""
    if isinstance(value.dtype, pl.Decimal):
        return value.dtype.precision or MOST, value.dtype.scale
    return _WHOLE.get(value.dtype.base_type(), MOST), 0


def _bounded(digits: int, scale: int) -> pl.Decimal:
    """A type of 38 digits at most: those behind the point give way, but for six."""
    if digits <= MOST:
        return pl.Decimal(digits, scale)
    return pl.Decimal(MOST, max(MOST - (digits - scale), min(scale, _LEAST_SCALE)))

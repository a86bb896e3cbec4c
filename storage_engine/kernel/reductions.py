"""Aggregate functions that compute a value: sum, product, max, min, listagg.

Spec: "Merge Engine / Aggregation" of Apache Paimon 1.3.1. ``ends`` are the row numbers of the last record of each key, so that a
running total gives every key's sum by one subtraction.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from storage_engine.kernel.column_rule import KEY_INDEX, RETRACT, Column
from storage_engine.spec.types import FLOAT_ROOTS, INTEGER_ROOTS, DataType, TypeRoot

_SAFE_PRECISION = 28  # totals of as many rows as a frame can have still fit 128 bits
_LARGEST_UNSCALED = 1.5e38
_COMPACT_PRECISION, _LONGEST_PRECISION = 18, 38


def total(records: pl.DataFrame, column: Column, ends: pl.Series) -> pl.Series:
    """``sum``: adds minus retracts; null where no value counts. Integers wrap around, as in Java."""
    root, data_type = column.rule.type.root, column.rule.type
    value = column.value
    if root in INTEGER_ROOTS:
        value = value.cast(pl.Int64)
    if column.retracts:
        counts = pl.col(column.order).is_not_null()
        value = pl.when(counts & pl.col(RETRACT)).then(-value).when(counts).then(value)
    else:
        value = pl.when(column.position.is_not_null()).then(value)
    signed = records.select(value.alias(column.rule.name)).to_series()
    if root in FLOAT_ROOTS:
        sums = _by_key(np.add, signed.fill_null(0.0).to_numpy(), ends, signed.name)
    elif root in INTEGER_ROOTS or (data_type.precision or 0) <= _SAFE_PRECISION:
        sums = _differences(signed.fill_null(0).cum_sum(), ends)
    else:
        sums = _checked_sums(records, signed, data_type)
    return _fitted(_null_if_none(sums, signed, ends), data_type)


def product(records: pl.DataFrame, column: Column, ends: pl.Series) -> pl.Series:
    """``product`` of adds; null where no value counts. Integers wrap around, as in Java; decimals are rounded."""
    values = records.select(column.added).to_series()
    if column.rule.type.root is TypeRoot.DECIMAL:
        return _rounded_products(values, ends, column.rule.type)
    if column.rule.type.root in INTEGER_ROOTS:
        values = values.cast(pl.Int64)
    products = _by_key(np.multiply, values.fill_null(1).to_numpy(), ends, values.name)
    return _fitted(_null_if_none(products, values, ends), column.rule.type)


def _rounded_products(values: pl.Series, ends: pl.Series, data_type: DataType) -> pl.Series:
    """Products of decimals as Paimon makes them, one after the other: each is rounded half up to the scale.

    One beyond the precision is null, so that the next value begins anew. All keys are multiplied at once, by their first
    values, then by their second ones, and so on; whole numbers of any length hold what 128 bits do not.
    """
    scale, precision = data_type.scale or 0, data_type.precision or 10
    lengths = np.diff(ends.to_numpy(), prepend=-1)
    present = values.is_not_null().to_numpy()
    keys = np.repeat(np.arange(len(ends)), lengths)[present]
    factors = np.array(values.drop_nulls().to_physical().to_list(), dtype=object)
    ranks = np.arange(len(keys)) - np.searchsorted(keys, keys)
    by_rank = np.argsort(ranks, kind="stable")
    bounds = np.concatenate([[0], np.cumsum(np.bincount(ranks))])
    one, limit = 10**scale, 10**precision
    products, has_one = np.zeros(len(ends), dtype=object), np.zeros(len(ends), dtype=bool)
    for start, end in pairwise(bounds.tolist()):
        rows = by_rank[start:end]
        at, factor = keys[rows], factors[rows]
        multiplied = products[at] * factor
        rounded = np.sign(multiplied) * ((np.abs(multiplied) + one // 2) // one)
        products[at] = np.where(has_one[at], rounded, factor)
        has_one[at] = np.abs(products[at]) < limit
    products[~has_one] = 0
    whole = pl.Series(values.name, products.tolist(), dtype=pl.Int128).set(pl.Series(~has_one), None)
    stored = whole.cast(pl.Decimal(38, 0)).to_arrow().cast(pa.decimal128(38, 0)).view(pa.decimal128(precision, scale))
    return pl.Series(values.name, pl.from_arrow(stored), dtype=data_type.to_polars())


def largest(records: pl.DataFrame, column: Column, ends: pl.Series) -> pl.Series:
    """``max`` and ``bool_or`` of adds: strings by their bytes, NaN above all numbers."""
    ordered = _sorted_in_keys(records, column, nulls_last=False)
    return ordered.gather(ends)


def smallest(records: pl.DataFrame, column: Column, ends: pl.Series) -> pl.Series:
    """``min`` and ``bool_and`` of adds."""
    ordered = _sorted_in_keys(records, column, nulls_last=True)
    return ordered.gather(ends.shift(1, fill_value=-1) + 1)


def listing(records: pl.DataFrame, column: Column, ends: pl.Series) -> pl.Series:
    """``listagg``: the adds' texts with the delimiter between them."""
    texts = records.select(KEY_INDEX, column.position.alias("_POSITION"), column.added.alias(column.rule.name))
    if column.with_older:
        texts = texts.sort(KEY_INDEX, "_POSITION")
    joined = texts.group_by(KEY_INDEX, maintain_order=True).agg(
        pl.col(column.rule.name).drop_nulls().str.join(column.rule.delimiter)
    )
    return _null_if_none(joined.get_column(column.rule.name), records.select(column.added).to_series(), ends)


def _sorted_in_keys(records: pl.DataFrame, column: Column, *, nulls_last: bool) -> pl.Series:
    values = records.select(KEY_INDEX, column.added.alias(column.rule.name))
    order = values.select(pl.arg_sort_by(KEY_INDEX, column.rule.name, nulls_last=nulls_last, maintain_order=True))
    return values.get_column(column.rule.name).gather(order.to_series())


def _differences(running: pl.Series, ends: pl.Series) -> pl.Series:
    at_ends = running.gather(ends)
    return at_ends - at_ends.shift(1).fill_null(0)


def _by_key(reduce: np.ufunc, values: npt.NDArray[Any], ends: pl.Series, name: str) -> pl.Series:
    starts = np.concatenate([[0], ends.to_numpy()[:-1] + 1])
    with np.errstate(over="ignore", invalid="ignore"):
        return pl.Series(name, reduce.reduceat(values, starts))


def _null_if_none(results: pl.Series, values: pl.Series, ends: pl.Series) -> pl.Series:
    """Results, null for the keys that have no value at all."""
    if values.null_count() == 0:
        return results
    counts = _differences(values.is_not_null().cast(pl.Int64).cum_sum(), ends)
    return results.set(counts == 0, None)


def _checked_sums(records: pl.DataFrame, values: pl.Series, data_type: DataType) -> pl.Series:
    """Sums of long decimals, null where 128 bits do not hold them: Polars' grouped sum wraps around without a word."""
    limit = _LARGEST_UNSCALED / 10 ** (data_type.scale or 0)
    value = pl.col(values.name)
    checked = pl.when(value.cast(pl.Float64).sum().abs() < limit).then(value.sum()).alias(values.name)
    keyed = pl.DataFrame([records.get_column(KEY_INDEX), values])
    return keyed.group_by(KEY_INDEX, maintain_order=True).agg(checked).get_column(values.name)


def _fitted(values: pl.Series, data_type: DataType) -> pl.Series:
    """Results in the column's type: integers keep their low bits, for decimals see ``_fitted_decimal``."""
    if data_type.root in INTEGER_ROOTS:
        return values.cast(data_type.to_polars(), wrap_numerical=True)
    if data_type.root is TypeRoot.DECIMAL:
        return _fitted_decimal(values, data_type)
    return values.cast(data_type.to_polars())


def _fitted_decimal(values: pl.Series, data_type: DataType) -> pl.Series:
    """A sum beyond the precision stays as it is up to 18 digits (Paimon does not check those), and is null above."""
    dtype, precision, scale = data_type.to_polars(), data_type.precision or 10, data_type.scale or 0
    fitted = values.cast(dtype, strict=False)
    if precision == _LONGEST_PRECISION:
        too_long = fitted.to_physical().abs() >= 10**_LONGEST_PRECISION
        return fitted.set(too_long.fill_null(value=False), None)
    if precision > _COMPACT_PRECISION or fitted.null_count() == values.null_count():
        return fitted
    unchecked = values.to_arrow().cast(pa.decimal128(38, scale)).view(pa.decimal128(precision, scale))
    return pl.Series(values.name, pl.from_arrow(unchecked), dtype=dtype)

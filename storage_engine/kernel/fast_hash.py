"""Values as file indexes see them: days, milliseconds and the like as numbers, and the hash that bloom filters set.

Spec: "File index" of Apache Paimon 1.3.1: xxHash64 of texts and bytes, Thomas Wang's 64-bit mix of numbers.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl

from storage_engine.kernel.xx_hash import Hashes, xx_hash64
from storage_engine.spec.types import (
    BINARY_ROOTS,
    FLOAT_ROOTS,
    NESTED_ROOTS,
    STRING_ROOTS,
    TIMESTAMP_ROOTS,
    DataType,
    TypeRoot,
)

_MILLIS = 3
_NANOS_PER_MICRO, _NANOS_PER_MILLI = 1000, 1_000_000
BLOOM_ROOTS = frozenset(TypeRoot) - NESTED_ROOTS - {TypeRoot.BOOLEAN, TypeRoot.DECIMAL}
BITMAP_ROOTS = frozenset(TypeRoot) - NESTED_ROOTS - BINARY_ROOTS - {TypeRoot.DECIMAL}


def indexed_values(values: pl.Series, data_type: DataType) -> pl.Series:
    """The values as the index keeps them: numbers, texts, bytes or booleans; nulls stay."""
    if data_type.root is TypeRoot.DATE:
        return values.cast(pl.Int32)
    if data_type.root is TypeRoot.TIME:
        return (values.cast(pl.Int64) // _NANOS_PER_MILLI).cast(pl.Int32)
    if data_type.root in TIMESTAMP_ROOTS:
        units = values.cast(pl.Int64)
        return units // _NANOS_PER_MICRO if data_type.time_unit == "ns" else units
    return values


def fast_hashes(values: pl.Series, data_type: DataType) -> Hashes:
    """The hash of each distinct value that is there, in no order."""
    present = indexed_values(values, data_type).drop_nulls()
    if data_type.root in FLOAT_ROOTS:
        return _mixed(np.unique(_bits(present)))
    distinct = present.unique()
    if data_type.root in STRING_ROOTS | BINARY_ROOTS:
        return _of_bytes(distinct)
    return _mixed(distinct.cast(pl.Int64).to_numpy())


def _of_bytes(values: pl.Series) -> Hashes:
    array = values.cast(pl.Binary).rechunk().to_arrow(compat_level=pl.CompatLevel.oldest())
    _, offsets, data = array.buffers()
    bounds = np.frombuffer(offsets, np.int64)[array.offset : array.offset + len(array) + 1]
    content = np.frombuffer(data, np.uint8) if data is not None else np.empty(0, np.uint8)
    return xx_hash64(content, bounds[:-1], np.diff(bounds))


def _bits(values: pl.Series) -> npt.NDArray[np.int64]:
    """The bits of floats, with one NaN, as Java's ``floatToIntBits`` gives them."""
    numbers = values.to_numpy().copy()
    numbers[np.isnan(numbers)] = np.nan
    bits: npt.NDArray[np.int64] = numbers.view(np.dtype(f"i{numbers.itemsize}")).astype(np.int64)
    return bits


def _mixed(keys: npt.NDArray[np.int64]) -> Hashes:
    keys = ~keys + (keys << 21)
    keys = keys ^ (keys >> 24)
    keys = keys + (keys << 3) + (keys << 8)
    keys = keys ^ (keys >> 14)
    keys = keys + (keys << 2) + (keys << 4)
    keys = keys ^ (keys >> 28)
    return (keys + (keys << 31)).view(np.uint64)

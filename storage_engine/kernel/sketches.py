"""Aggregate functions whose values are sketches or bitmaps: one union for each key that has several.

Spec: "Merge Engine / Aggregation" of Apache Paimon 1.3.1. ``hll_sketch`` and ``theta_sketch`` are Apache DataSketches as its
Java library serializes them, which the optional package ``datasketches`` reads and writes; ``rbm32`` is a roaring bitmap in its
portable form, ``rbm64`` one in Java's own form.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import polars as pl
from pyroaring import BitMap, BitMap64

from storage_engine.errors import InvalidRows, Unsupported
from storage_engine.kernel.column_rule import KEY_INDEX, Column
from storage_engine.kernel.roaring_tree import read_bitmap64, write_bitmap64

Union = Callable[[Sequence[bytes]], bytes]
_THETA_NOMINAL_LOG = 12


def hll_sketch(records: pl.DataFrame, column: Column) -> pl.DataFrame:
    """``hll_sketch``: the union of HyperLogLog sketches, as an HLL_4 sketch in its compact form."""
    return _united(records, column, _hll_union)


def theta_sketch(records: pl.DataFrame, column: Column) -> pl.DataFrame:
    """``theta_sketch``: the union of theta sketches, of 4096 nominal entries, in its compact form."""
    return _united(records, column, _theta_union)


def rbm32(records: pl.DataFrame, column: Column) -> pl.DataFrame:
    """``rbm32``: the union of bitmaps."""
    return _united(records, column, _bitmap_union)


def rbm64(records: pl.DataFrame, column: Column) -> pl.DataFrame:
    """``rbm64``: the union of bitmaps of 64 bits."""
    return _united(records, column, _bitmap64_union)


@lru_cache(maxsize=1)
def _datasketches() -> Any:
    try:
        return importlib.import_module("datasketches")
    except ImportError as cause:
        raise Unsupported(
            "aggregate functions hll_sketch and theta_sketch need the package datasketches:"
            " pip install 'streaming-lakehouse[sketches]'"
        ) from cause


def check_datasketches(_: object) -> None:
    """Refuse a table of sketches where the package is missing. Raises Unsupported."""
    _datasketches()


def _united(records: pl.DataFrame, column: Column, union: Union) -> pl.DataFrame:
    """A key's only value as it is, the union of several; keys without any are left out."""
    name = column.rule.name
    values = records.select(KEY_INDEX, column.added.alias(name)).drop_nulls(name)
    grouped = values.group_by(KEY_INDEX, maintain_order=True).agg(name)
    try:
        united = [parts[0] if len(parts) == 1 else union(parts) for parts in grouped[name]]
    except (ValueError, IndexError, RuntimeError) as cause:
        function = column.rule.function
        raise InvalidRows(
            f"column {name!r}: a value is nothing that aggregate function {function!r} reads: {cause}"
        ) from cause
    return grouped.select(KEY_INDEX, pl.Series(name, united, dtype=pl.Binary))


def _hll_union(parts: Sequence[bytes]) -> bytes:
    sketches = _datasketches()
    read = [sketches.hll_sketch.deserialize(part) for part in parts]
    union = sketches.hll_union(min(sketch.lg_config_k for sketch in read))
    for sketch in read:
        union.update(sketch)
    return bytes(union.get_result(sketches.tgt_hll_type.HLL_4).serialize_compact())


def _theta_union(parts: Sequence[bytes]) -> bytes:
    sketches = _datasketches()
    union = sketches.theta_union(_THETA_NOMINAL_LOG)
    for part in parts:
        union.update(sketches.compact_theta_sketch.deserialize(part))
    return bytes(union.get_result().serialize())


def _bitmap_union(parts: Sequence[bytes]) -> bytes:
    united = BitMap.union(*(BitMap.deserialize(part) for part in parts))
    united.run_optimize()
    return bytes(united.serialize())


def _bitmap64_union(parts: Sequence[bytes]) -> bytes:
    return write_bitmap64(BitMap64.union(*map(read_bitmap64, parts)))

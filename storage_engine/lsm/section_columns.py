"""Key sections of very many buckets at once: what ``lsm.levels.sections`` finds, as columns.

Spec: "LSM tree" of Apache Paimon 1.3.1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl

from storage_engine.codec.binary_columns import BinaryRows
from storage_engine.codec.binary_row import deserialize_row
from storage_engine.kernel.keys import key_order
from storage_engine.spec.types import DataType

Longs: TypeAlias = npt.NDArray[np.int64]
Bools: TypeAlias = npt.NDArray[np.bool_]


def key_ranks(types: Sequence[DataType], keys: pl.Series) -> Longs:
    """For each serialized key its place among the different ones, in Paimon's order. Raises CorruptFile."""
    rows = BinaryRows(types, keys)
    columns = [rows.exact_column(index) for index in range(len(types))]
    ranks = np.zeros(len(keys), np.int64)
    for column in columns:
        if column is None:
            return _ranks_one_by_one(types, keys)
        own = column.rank("dense").fill_null(0).cast(pl.Int64).to_numpy()  # nulls first
        ranks = pl.Series(ranks * (own.max(initial=0) + 1) + own).rank("dense").cast(pl.Int64).to_numpy()
    return ranks


def section_order(groups: Longs, lows: Longs, highs: Longs) -> tuple[Longs, Bools]:
    """Files by group and section, in key order, and which of them begin a section (touching is overlapping).

    ``lows`` and ``highs`` are ranks of their smallest and largest keys; ``groups`` are numbers from 0.
    """
    order = np.lexsort((highs, lows, groups))
    behind = groups[order] * (max(lows.max(initial=0), highs.max(initial=0)) + 1)
    starts = np.ones(len(order), np.bool_)
    ends = np.maximum.accumulate(highs[order] + behind)
    starts[1:] = (lows[order] + behind)[1:] > ends[:-1]
    return order, starts


def _ranks_one_by_one(types: Sequence[DataType], keys: pl.Series) -> Longs:
    """Of types whose values no column holds exactly."""
    found = [key_order(deserialize_row(types, key)) for key in keys]
    place = {key: number for number, key in enumerate(sorted(set(found)))}
    return np.array([place[key] for key in found], np.int64)

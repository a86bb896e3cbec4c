"""The values that a file's indexes are made of, gathered frame by frame while the file is written.

Spec: "File index" of Apache Paimon 1.3.1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from storage_engine.codec.bitmap_index import write_bitmap_index
from storage_engine.codec.bloom_filter import write_bloom_filter
from storage_engine.codec.file_index import write_file_index
from storage_engine.kernel.fast_hash import fast_hashes, indexed_values
from storage_engine.kernel.xx_hash import Hashes
from storage_engine.spec.file_index_options import BLOOM_FILTER, ColumnIndex
from storage_engine.spec.schema import TableSchema


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexedValues:
    """Some rows of a file: the hashes of what goes into a bloom filter, the values of what goes into a bitmap."""

    hashes: Mapping[ColumnIndex, Hashes]
    values: Mapping[ColumnIndex, pl.Series]

    @staticmethod
    def of(frame: pl.DataFrame, schema: TableSchema, indexes: Sequence[ColumnIndex]) -> IndexedValues | None:
        """Look at a frame; None where nothing is indexed."""
        if not indexes:
            return None
        types = {index: schema.by_name[index.column].type for index in indexes}
        return IndexedValues(
            hashes={
                index: fast_hashes(frame[index.column], types[index]) for index in indexes if index.kind == BLOOM_FILTER
            },
            values={
                index: indexed_values(frame[index.column], types[index])
                for index in indexes
                if index.kind != BLOOM_FILTER
            },
        )

    def followed_by(self, later: IndexedValues) -> IndexedValues:
        """These rows, and behind them some more of the same file."""
        return IndexedValues(
            hashes={
                index: np.unique(np.concatenate([hashes, later.hashes[index]])) for index, hashes in self.hashes.items()
            },
            values={index: pl.concat([values, later.values[index]]) for index, values in self.values.items()},
        )

    def container(self) -> bytes:
        """The bytes of the file's indexes."""
        indexes: dict[str, dict[str, bytes | None]] = {}
        for index, hashes in self.hashes.items():
            content = write_bloom_filter(hashes, items=index.items, fpp=index.fpp)
            indexes.setdefault(index.column, {})[index.kind] = content
        for index, values in self.values.items():
            indexes.setdefault(index.column, {})[index.kind] = write_bitmap_index(values)
        return write_file_index(indexes)

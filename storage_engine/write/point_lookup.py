"""Finds the current record of some keys in files above level 0."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from storage_engine.codec.binary_row import deserialize_row
from storage_engine.codec.deletion_vector import DeletionVector
from storage_engine.kernel.keys import key_order
from storage_engine.spec.manifest import DataFileMeta
from storage_engine.spec.schema import TableSchema
from storage_engine.store.data_files import DataFiles
from storage_engine.store.live_files import Bucket
from storage_engine.store.merge_frames import without_positions

_POSITION = "_POSITION"


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """Rows found (key-value frame) and their 0-based positions by data file name."""

    rows: pl.DataFrame
    positions: Mapping[str, npt.NDArray[np.int64]]


class PointLookup:
    """Looks keys up level by level: the lowest level that has a key answers for it."""

    def __init__(self, schema: TableSchema, files: DataFiles) -> None:
        self._files = files
        self._schema = schema
        self._keys = list(schema.trimmed_primary_keys)
        self._key_types = schema.types_of(self._keys)

    def find(
        self,
        keys: pl.DataFrame,
        metas: Sequence[DataFileMeta],
        bucket: Bucket,
        vectors: Mapping[str, DeletionVector],
        columns: Sequence[str],
    ) -> Found:
        """The record of each of ``keys`` (distinct) in the given files; keys that none has are absent from the
        answer.
        """
        rows: list[pl.DataFrame] = []
        positions: dict[str, npt.NDArray[np.int64]] = {}
        missing = keys
        for meta in sorted(metas, key=lambda file: file.level):
            if missing.is_empty():
                break
            if not self._may_hold(meta, missing):
                continue
            found = self._in_file(missing, meta, bucket, vectors.get(meta.file_name), columns)
            if found.height:
                positions[meta.file_name] = found[_POSITION].to_numpy()
                rows.append(found.drop(_POSITION))
                missing = missing.join(found, on=self._keys, how="anti")
        empty = pl.DataFrame(schema=self._empty_schema(columns))
        return Found(rows=pl.concat([empty, *rows]), positions=positions)

    def _in_file(
        self,
        keys: pl.DataFrame,
        meta: DataFileMeta,
        bucket: Bucket,
        vector: DeletionVector | None,
        columns: Sequence[str],
    ) -> pl.DataFrame:
        frame = self._files.read(meta, bucket.directory, columns)
        frame = frame.with_columns(pl.int_range(pl.len(), dtype=pl.Int64).alias(_POSITION))
        if vector:
            frame = without_positions(frame, vector)
        return frame.join(keys, on=self._keys, how="semi")

    def _may_hold(self, meta: DataFileMeta, keys: pl.DataFrame) -> bool:
        ends = keys.select(self._keys).sort(self._keys)
        low = key_order(deserialize_row(self._key_types, meta.min_key))
        high = key_order(deserialize_row(self._key_types, meta.max_key))
        return not (key_order(ends.row(-1)) < low or key_order(ends.row(0)) > high)

    def _empty_schema(self, columns: Sequence[str]) -> dict[str, pl.DataType]:
        system = {"_SEQUENCE_NUMBER": pl.Int64(), "_VALUE_KIND": pl.Int8()}
        return {name: system.get(name) or self._schema.polars_schema[name] for name in columns}

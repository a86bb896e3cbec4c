"""Rows of several files of a bucket as one frame, with the level that each came from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import polars as pl

from storage_engine.codec.deletion_vector import DeletionVector
from storage_engine.spec.manifest import DataFileMeta
from storage_engine.store.data_files import DataFiles

LEVEL = "_LEVEL"


def read_levels(
    files: DataFiles,
    metas: Iterable[DataFileMeta],
    directory: str,
    columns: Sequence[str],
    *,
    vectors: Mapping[str, DeletionVector] | None = None,
    frames: Mapping[str, pl.DataFrame] | None = None,
    predicate: pl.Expr | None = None,
) -> pl.DataFrame:
    """All rows of some files, minus their deleted positions, with ``_LEVEL`` (Int8) appended.

    ``frames`` are rows already in memory by file name. ``predicate`` only saves reading where no vector hides rows.
    """
    parts = []
    for meta in metas:
        vector = (vectors or {}).get(meta.file_name)
        frame = (frames or {}).get(meta.file_name)
        if frame is None:
            frame = files.read(meta, directory, columns, None if vector else predicate)
        else:
            frame = frame.select(columns)
        if vector:
            frame = without_positions(frame, vector)
        parts.append(frame.with_columns(pl.lit(meta.level, pl.Int8).alias(LEVEL)))
    return pl.concat(parts)


def without_positions(frame: pl.DataFrame, vector: DeletionVector) -> pl.DataFrame:
    """The rows of a whole file that its deletion vector does not hide."""
    keep = np.ones(frame.height, dtype=np.bool_)
    keep[vector.positions()] = False
    return frame.filter(pl.Series(keep))


def lowest_level_only(rows: pl.DataFrame, keys: Sequence[str]) -> pl.DataFrame:
    """Of rows above level 0, the record of each key at its lowest level.

    Under the lookup strategies that record is already merged with everything above it.
    """
    if rows.is_empty() or rows[LEVEL].n_unique() == 1:
        return rows
    return rows.sort(LEVEL, maintain_order=True).unique(keys, keep="first", maintain_order=True)

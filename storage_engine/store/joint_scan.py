"""Several Parquet files as one lazy scan, where their rows are the table's as they are: Polars reads them side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl
from polars.exceptions import PanicException, PolarsError

from storage_engine.codec.deletion_vector import DeletionVector
from storage_engine.store.data_files import DataFiles
from storage_engine.store.merge_frames import POSITION, FilePart

_EXTENSION = ".parquet"
_VISIBLE = "_VISIBLE"


def joint_read(
    files: DataFiles,
    parts: Sequence[FilePart],
    dtypes: Mapping[str, pl.DataType],
    columns: Sequence[str],
    *,
    predicate: pl.Expr | None = None,
    limit: int | None = None,
) -> pl.DataFrame | None:
    """Columns of the rows that a predicate leaves and no deletion vector hides, ``limit`` at most.

    ``dtypes`` are those of all columns that are read. None where the files must be read one by one: they are of another
    format or schema, or not on a disk; or something is wrong with them, which the reader of single files can name.
    """
    paths = files.plain_paths([(part.meta, part.directory) for part in parts], _EXTENSION)
    if (
        not paths
        or not columns
        or any(isinstance(dtype, pl.Datetime) and dtype.time_unit == "ns" for dtype in dtypes.values())
    ):
        return None
    hidden = sum(0 if part.vector is None else len(part.vector.positions()) for part in parts)
    try:
        whole = [path for path, part in zip(paths, parts, strict=True) if part.vector is None]
        scans = [_filtered(_scan(whole), predicate)] if whole else []
        masked = [(path, part) for path, part in zip(paths, parts, strict=True) if part.vector is not None]
        scans += [_visible_rows(path, part, predicate, limit) for path, part in masked]
        stored = scans[0].collect_schema()
        if any(stored.get(name) != dtype for name, dtype in dtypes.items()):
            return None
        lazy = scans[0] if len(scans) == 1 else pl.concat([scan.select(list(dtypes)) for scan in scans])
        found = lazy.select(columns) if limit is None else lazy.head(limit).select(columns)
        frame = found.collect()
    except (PolarsError, PanicException, OSError, IndexError):
        return None
    is_whole = predicate is None and limit is None
    expected = sum(part.meta.row_count for part in parts) - hidden
    return None if is_whole and frame.height != expected else frame


def _scan(paths: list[str], row_index: str | None = None) -> pl.LazyFrame:
    return pl.scan_parquet(paths, glob=False, hive_partitioning=False, row_index_name=row_index)


def _filtered(lazy: pl.LazyFrame, predicate: pl.Expr | None) -> pl.LazyFrame:
    return lazy if predicate is None else lazy.filter(predicate)


def _visible_rows(path: str, part: FilePart, predicate: pl.Expr | None, limit: int | None) -> pl.LazyFrame:
    """A file without the rows that its deletion vector hides.

    Where all is decoded anyway, a mask beside the rows takes half the time of looking each row's place up; were the file
    longer or shorter than its manifest says, it would not fit.
    """
    positions = DeletionVector().positions() if part.vector is None else part.vector.positions()
    if predicate is None and limit is None:
        visible = np.ones(part.meta.row_count, np.bool_)
        visible[positions] = False
        return pl.concat([_scan([path]), pl.LazyFrame({_VISIBLE: visible})], how="horizontal").filter(_VISIBLE)
    hidden = pl.col(POSITION).is_in(pl.Series(positions).cast(pl.get_index_type()).implode())
    return _filtered(_scan([path], POSITION).filter(~hidden), predicate)

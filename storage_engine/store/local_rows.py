"""Rows on the local disk, beside the warehouse: an Arrow file that is mapped into memory, gone with its owner."""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref

import polars as pl
import pyarrow as pa
from polars.exceptions import PolarsError

from storage_engine.errors import StorageUnavailable


class LocalRows:
    """A temporary directory for one frame; removed when this object is no longer referred to, or the process ends."""

    def __init__(self, directory: str | None = None) -> None:
        """``directory``: where to make it, None: the system's temporary directory. Raises StorageUnavailable."""
        try:
            self._folder = tempfile.mkdtemp(prefix="lakehouse-rows-", dir=directory)
        except OSError as error:
            raise StorageUnavailable(f"{directory}: cannot hold a lookup cache there: {error}") from error
        self._removed = weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)

    def keep(self, rows: pl.LazyFrame) -> pl.DataFrame:
        """Write rows piece by piece, and map them. Raises StorageUnavailable if the disk cannot take them."""
        path = os.path.join(self._folder, "rows.arrow")
        try:
            rows.sink_ipc(path, compression="uncompressed")
            with pa.memory_map(path) as file:
                return pl.DataFrame(pa.ipc.open_file(file).read_all())
        except (OSError, PolarsError, pa.ArrowException) as error:
            raise StorageUnavailable(f"{path}: cannot hold a lookup cache there: {error}") from error

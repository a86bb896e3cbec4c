"""Parquet data files, as Java Paimon 1.3.1 reads them.

Field ids are written; decimals up to 18 digits are integers; timestamps above microseconds are INT96; page checksums
are written, and checked wherever pyarrow reads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from io import BytesIO
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from polars.datatypes import DataTypeClass

from storage_engine.errors import CorruptFile, FileMissing
from storage_engine.store.file_io import FileIO
from storage_engine.store.formats.arrow_bridge import from_arrow, to_arrow, with_views
from storage_engine.store.formats.base import DAMAGES, NO_DTYPES, FrameFile, says_damaged

_COMPRESSION = {"uncompressed": "none", "null": "none", "deflate": "gzip", "zlib": "gzip"}
_ROW_GROUP_ROWS = 1 << 16
"""A merge of many runs holds a row group of each."""
_BUFFERED_ROWS = (
    10_000  # a small file is made in memory: each of its many writes would take as long as all of them together
)
_SAMPLE_ROWS, _SAMPLED_FROM = 1024, 4096
_REPETITIVE = 0.25
_REPETITIVE_AMONG_MANY, _MANY_ROWS = 0.8, 1 << 15
"""Share of different values in a sample up to which a dictionary pays: two thousand of them in all do among many rows."""


class ParquetFormat:
    """Reads with Polars where the file is local, else with pyarrow through the file system."""

    def write(self, io: FileIO, target: FrameFile, frame: pl.DataFrame) -> int:
        """Write one file; returns its size in bytes."""
        table = to_arrow(frame, with_views(target.arrow_schema))
        options = writer_options(target, frame)
        if target.ends_are_known and frame.height <= _ROW_GROUP_ROWS:
            options["write_statistics"] = False  # what is said of the file is said of its one row group
        write = partial(pq.write_table, table, row_group_size=_ROW_GROUP_ROWS, **options)
        if frame.height <= _BUFFERED_ROWS:
            buffer = pa.BufferOutputStream()
            write(buffer)
            io.write_new(target.path, data := buffer.getvalue().to_pybytes())
            return len(data)
        with io.open_output(target.path) as sink:
            write(sink)
        return io.size(target.path)

    def read(
        self,
        io: FileIO,
        path: str,
        columns: Sequence[str],
        predicate: pl.Expr | None = None,
        *,
        dtypes: Mapping[str, pl.DataType] = NO_DTYPES,
    ) -> pl.DataFrame:
        """Read some columns; those that the file lacks are left out."""
        local = io.local_path(path)
        try:
            if local is None:
                return self._read_remote(io, path, columns, predicate, dtypes)
            return _scanned(local, columns, predicate, dtypes)
        except FileNotFoundError as cause:
            raise FileMissing(f"{path}: there is no such file") from cause
        except DAMAGES as cause:
            raise CorruptFile(f"{path}: not a readable Parquet file: {cause}") from cause
        except OSError as cause:
            raise _told(cause, path) from cause

    def check_pages(self, io: FileIO, path: str) -> None:
        """Compare every page with its checksum, where it has one. Raises CorruptFile."""
        try:
            with io.open_input(path) as source:
                file = pq.ParquetFile(source, page_checksum_verification=True)
                for number in range(file.num_row_groups):
                    file.read_row_group(number)
        except DAMAGES as cause:
            raise CorruptFile(f"{path}: not a readable Parquet file: {cause}") from cause
        except OSError as cause:
            raise _told(cause, path) from cause

    def _read_remote(
        self,
        io: FileIO,
        path: str,
        columns: Sequence[str],
        predicate: pl.Expr | None,
        dtypes: Mapping[str, pl.DataType],
    ) -> pl.DataFrame:
        with io.open_input(path) as source:
            file = pq.ParquetFile(source, pre_buffer=True, page_checksum_verification=True)
            if holds_int96(file.schema):
                return _scanned(BytesIO(io.read_bytes(path)), columns, predicate, dtypes)
            present = [name for name in columns if name in file.schema_arrow.names]
            frame = from_arrow(file.read(columns=present))
        return frame if predicate is None else frame.filter(predicate)


def _told(error: OSError, path: str) -> OSError | CorruptFile:
    return CorruptFile(f"{path}: not a readable Parquet file: {error}") if says_damaged(error) else error


def writer_options(target: FrameFile, frame: pl.DataFrame) -> dict[str, Any]:
    """How pyarrow writes a file that begins with these rows."""
    compression = _COMPRESSION.get(target.compression, target.compression)
    return {
        "compression": compression,
        "compression_level": target.zstd_level if compression == "zstd" else None,
        "store_schema": False,
        "store_decimal_as_integer": True,
        "write_page_checksum": True,
        "write_statistics": True if target.searched is None else list(target.searched),
        "use_dictionary": repetitive_columns(frame),
        "use_deprecated_int96_timestamps": _has_nanos(target.arrow_schema),
    }


def _scanned(
    source: str | BytesIO, columns: Sequence[str], predicate: pl.Expr | None, dtypes: Mapping[str, pl.DataType]
) -> pl.DataFrame:
    return lazily(source, columns, predicate, dtypes).collect()


def lazily(
    source: str | BytesIO,
    columns: Sequence[str],
    predicate: pl.Expr | None,
    dtypes: Mapping[str, pl.DataType],
    *,
    row_index: str | None = None,
) -> pl.LazyFrame:
    """The columns by Polars' reader, and with ``row_index`` each row's place in the file.

    INT96 does not tell its unit, and years beyond 2262 are no nanoseconds.
    """
    scan = partial(pl.scan_parquet, source, glob=False, hive_partitioning=False, row_index_name=row_index)
    lazy = scan()
    stored = lazy.collect_schema()
    declared = {name: dtypes[name] for name, dtype in stored.items() if name in dtypes and _is_int96(dtype)}
    if declared:
        lazy = scan(schema={name: declared.get(name, dtype) for name, dtype in stored.items() if name != row_index})
    if predicate is not None:
        lazy = lazy.filter(predicate)
    found = [name for name in columns if name in stored]
    return lazy.select(found if row_index is None else [*found, row_index])


def holds_int96(schema: pq.ParquetSchema) -> bool:
    """Whether a file has timestamps in twelve bytes, whose unit and range pyarrow does not know."""
    return any(schema.column(i).physical_type == "INT96" for i in range(len(schema)))


def _is_int96(dtype: pl.DataType | DataTypeClass) -> bool:
    """Whether a dtype that Polars infers for a column comes from INT96, at any depth."""
    match dtype:
        case pl.Datetime():
            return dtype.time_unit == "ns"
        case pl.List():
            return _is_int96(dtype.inner)
        case pl.Struct():
            return any(_is_int96(field.dtype) for field in dtype.fields)
        case _:
            return False


def repetitive_columns(frame: pl.DataFrame) -> list[str] | bool:
    """Columns for which a dictionary pays: few distinct values in a sample spread over the frame.

    A dictionary on other columns doubles the time of a large write and saves nothing; a small frame is not worth the sampling.
    """
    if frame.height <= _SAMPLED_FROM:
        return False
    flat = [name for name, dtype in frame.schema.items() if not dtype.is_nested() and dtype != pl.Boolean]
    sample = frame[flat][np.arange(0, frame.height, frame.height // _SAMPLE_ROWS)]
    most = (_REPETITIVE if frame.height < _MANY_ROWS else _REPETITIVE_AMONG_MANY) * sample.height
    return [column.name for column in sample if column.n_unique() < most]


def _has_nanos(schema: pa.Schema) -> bool:
    return any(pa.types.is_timestamp(field.type) and field.type.unit == "ns" for field in schema)

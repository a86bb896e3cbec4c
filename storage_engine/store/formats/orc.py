"""ORC data files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import polars as pl
import polars.selectors as cs
import pyarrow as pa
from polars.datatypes import DataTypeClass
from pyarrow import orc

from storage_engine.errors import Unsupported
from storage_engine.store.file_io import FileIO
from storage_engine.store.formats.arrow_bridge import from_arrow, to_arrow
from storage_engine.store.formats.base import NO_DTYPES, FrameFile, damages_named

_COMPRESSION = {"none": "uncompressed", "null": "uncompressed", "deflate": "zlib", "gzip": "zlib"}
_FIRST_YEAR, _LAST_YEAR = 1678, 2261
_EPOCH_YEAR = 1970


class OrcFormat:
    """Reads and writes with pyarrow; projection reaches the file, predicates are applied after the read.

    TIME is kept as the milliseconds of the day, in an INT.
    """

    def write(self, io: FileIO, target: FrameFile, frame: pl.DataFrame) -> int:
        """Write one file; returns its size in bytes. Raises Unsupported for what would not be read again as it is."""
        _check_timestamps(frame)
        compression = _COMPRESSION.get(target.compression, target.compression)
        table = to_arrow(frame, target.arrow_schema)
        stored = pa.schema([field.with_type(_without_time(field.type)) for field in table.schema])
        whole = pa.Table.from_arrays([_unsliced(column) for column in table.cast(stored).columns], schema=stored)
        with io.open_output(target.path) as sink:
            orc.write_table(whole, sink, compression=compression)
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
        with damages_named(path, "ORC"):
            frame = _read(io, path, columns, dtypes)
        return frame if predicate is None else frame.filter(predicate)

    def pieces(
        self, io: FileIO, path: str, columns: Sequence[str], dtypes: Mapping[str, pl.DataType]
    ) -> Iterator[pl.DataFrame]:
        """What ``read`` gives, stripe by stripe."""
        with damages_named(path, "ORC"), io.open_input(path) as source:
            file = orc.ORCFile(source)
            present = [name for name in columns if name in file.schema.names]
            for number in range(file.nstripes):
                stripe = pa.Table.from_batches([file.read_stripe(number, columns=present)])
                yield _declared(stripe.select(present), dtypes)


def _read(io: FileIO, path: str, columns: Sequence[str], dtypes: Mapping[str, pl.DataType]) -> pl.DataFrame:
    with io.open_input(path) as source:
        file = orc.ORCFile(source)
        present = [name for name in columns if name in file.schema.names]
        return _declared(file.read(columns=present).select(present), dtypes)


def _declared(table: pa.Table, dtypes: Mapping[str, pl.DataType]) -> pl.DataFrame:
    declared = [
        field.with_type(_with_time(field.type, dtypes[field.name])) if field.name in dtypes else field
        for field in table.schema
    ]
    return from_arrow(table.cast(pa.schema(declared)))


def _unsliced(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """The column in memory of its own: pyarrow's writer takes the fields of a sliced struct from its beginning."""
    return column.take(pa.array(np.arange(len(column)))) if _holds_struct(column.type) else column


def _holds_struct(stored: pa.DataType) -> bool:
    if pa.types.is_map(stored):
        return _holds_struct(stored.key_type) or _holds_struct(stored.item_type)
    if pa.types.is_list(stored) or pa.types.is_large_list(stored):
        return _holds_struct(stored.value_type)
    return bool(pa.types.is_struct(stored))


def _check_timestamps(frame: pl.DataFrame) -> None:
    """Timestamps are read as nanoseconds in 64 bits, and Paimon fails on parts of a millisecond before 1970."""
    stamp = cs.datetime()
    in_range = stamp.dt.year().is_between(_FIRST_YEAR, _LAST_YEAR)
    whole = stamp.dt.truncate("1ms") == stamp
    readable = frame.select((in_range & (whole | (stamp.dt.year() >= _EPOCH_YEAR))).all())
    for column in readable.iter_columns():
        if not column[0]:
            raise Unsupported(
                f"column {column.name!r}: ORC files hold timestamps of the years {_FIRST_YEAR} to {_LAST_YEAR} here,"
                f" whole milliseconds before {_EPOCH_YEAR}; set option 'file.format' to 'parquet'"
            )


def _without_time(stored: pa.DataType) -> pa.DataType:
    """A type with INT in place of TIME, at any depth."""
    if pa.types.is_time32(stored):
        return pa.int32()
    if pa.types.is_map(stored):
        return pa.map_(_without_time(stored.key_type), _without_time(stored.item_type))
    if pa.types.is_large_list(stored) or pa.types.is_list(stored):
        return pa.list_(_without_time(stored.value_type))
    if pa.types.is_struct(stored):
        return pa.struct([field.with_type(_without_time(field.type)) for field in stored])
    return stored


def _with_time(stored: pa.DataType, dtype: pl.DataType | DataTypeClass) -> pa.DataType:
    """The type that a column of the file has once TIME stands where it was declared."""
    match dtype:
        case pl.Time():
            return pa.time32("ms")
        case pl.List(inner=pl.Struct(fields=[key, value])) if pa.types.is_map(stored):
            return pa.map_(_with_time(stored.key_type, key.dtype), _with_time(stored.item_type, value.dtype))
        case pl.List():
            return pa.list_(_with_time(stored.value_type, dtype.inner))
        case pl.Struct() if len(dtype.fields) == stored.num_fields:
            declared = zip(stored, dtype.fields, strict=True)
            return pa.struct([field.with_type(_with_time(field.type, known.dtype)) for field, known in declared])
        case _:
            return stored

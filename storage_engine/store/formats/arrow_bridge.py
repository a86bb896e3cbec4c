"""Polars frames as Arrow tables in a file's physical types, and back."""

from __future__ import annotations

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc


def to_arrow(frame: pl.DataFrame, schema: pa.Schema) -> pa.Table:
    """The frame as an Arrow table of exactly ``schema`` (names, types, field metadata)."""
    table = frame.to_arrow(compat_level=pl.CompatLevel.oldest())
    columns = [_physical(column, field.type) for column, field in zip(table.columns, schema, strict=True)]
    return pa.Table.from_arrays(columns, schema=schema)


def _physical(column: pa.ChunkedArray, target: pa.DataType) -> pa.ChunkedArray:
    if column.type == target:
        return column
    if pa.types.is_time32(target):
        floored = pc.cast(column, pa.int64())
        return pc.cast(pc.cast(pc.divide(floored, _NANOS_PER_MILLI), pa.int32()), target)
    if pa.types.is_map(target):
        return pa.chunked_array([_as_map(chunk, target) for chunk in column.chunks], target)
    return pc.cast(column, target)


_NANOS_PER_MILLI = 1_000_000


def _as_map(chunk: pa.Array, target: pa.MapType) -> pa.Array:
    """A list of key/value structs as an Arrow map; polars keeps maps as such lists."""
    entries = chunk.flatten()
    keys = pc.cast(pc.struct_field(entries, 0), target.key_type)
    items = pc.cast(pc.struct_field(entries, 1), target.item_type)
    lengths = pc.fill_null(pc.list_value_length(chunk), 0)
    offsets = pa.concat_arrays([pa.array([0], pa.int32()), pc.cast(pc.cumulative_sum(lengths), pa.int32())])
    nulls = pc.is_null(chunk) if chunk.null_count else None
    return pa.MapArray.from_arrays(offsets, keys, items, type=target, mask=nulls)


def from_arrow(table: pa.Table) -> pl.DataFrame:
    """An Arrow table read from a file as a Polars frame; maps become lists of key/value structs."""
    frame = pl.from_arrow(table)
    if not isinstance(frame, pl.DataFrame):
        raise TypeError("a table becomes a frame")
    return frame

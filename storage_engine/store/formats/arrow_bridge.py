"""Polars frames as Arrow tables in a file's physical types, and back."""

from __future__ import annotations

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc


def to_arrow(frame: pl.DataFrame, schema: pa.Schema) -> pa.Table:
    """The frame as an Arrow table of exactly ``schema`` (names, types, field metadata).

    A column that the schema says is of string views is handed over as Polars holds it; other texts are copied.
    """
    table = frame.to_arrow(compat_level=pl.CompatLevel.newest())
    columns = [
        pa.chunked_array([_physical(chunk, field.type) for chunk in column.chunks], field.type)
        for column, field in zip(table.columns, schema, strict=True)
    ]
    return pa.Table.from_arrays(columns, schema=schema)


def with_views(schema: pa.Schema) -> pa.Schema:
    """The schema with string views where it has strings, for a writer that takes both for the same."""
    return pa.schema([each.with_type(pa.string_view()) if pa.types.is_string(each.type) else each for each in schema])


def _physical(array: pa.Array, target: pa.DataType) -> pa.Array:
    if array.type == target:
        return array
    if pa.types.is_time32(target):
        floored = pc.cast(array, pa.int64())
        return pc.cast(pc.cast(pc.divide(floored, _NANOS_PER_MILLI), pa.int32()), target)
    nulls = pc.is_null(array) if array.null_count else None
    if pa.types.is_map(target):
        entries = array.flatten()
        keys = _physical(pc.struct_field(entries, 0), target.key_type)
        items = _physical(pc.struct_field(entries, 1), target.item_type)
        return pa.MapArray.from_arrays(_offsets(array), keys, items, type=target, mask=nulls)
    if pa.types.is_list(target):
        elements = _physical(array.flatten(), target.value_type)
        return pa.ListArray.from_arrays(_offsets(array), elements, type=target, mask=nulls)
    if pa.types.is_struct(target):
        parts = [_physical(pc.struct_field(array, at), field.type) for at, field in enumerate(target)]
        return pa.StructArray.from_arrays(parts, fields=list(target), mask=nulls)
    return pc.cast(array, target)


_NANOS_PER_MILLI = 1_000_000


def _offsets(array: pa.Array) -> pa.Array:
    """Where the elements of each list begin once the lists are flattened."""
    lengths = pc.fill_null(pc.list_value_length(array), 0)
    return pa.concat_arrays([pa.array([0], pa.int32()), pc.cast(pc.cumulative_sum(lengths), pa.int32())])


def from_arrow(table: pa.Table) -> pl.DataFrame:
    """An Arrow table read from a file as a Polars frame; maps become lists of key/value structs."""
    frame = pl.from_arrow(table)
    if not isinstance(frame, pl.DataFrame):
        raise TypeError("a table becomes a frame")
    return frame

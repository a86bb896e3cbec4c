"""Columns as Avro records, column by column: no record is ever a Python object.

Spec: "Data files / Avro" of Apache Paimon 1.3.1. Every column becomes an array of encoded values, and Arrow joins the
columns of each row. Names of timestamps are Paimon's: ``timestamp-*`` has no time zone, ``local-timestamp-*`` has.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from storage_engine.errors import Unsupported

_RECORD = "org.apache.paimon.avro.generated.record"
_NAME = re.compile(r"[^\W\d]\w*")
_TIMESTAMP_UNITS = {"ms": "millis", "us": "micros"}
_DECIMAL_BYTES = 16
_SIGN_BIT = 0x80
_LONGEST_VARINT = 10
_END, _NULL, _VALUE = b"\0", b"\0", b"\x02"


def avro_schema(schema: pa.Schema) -> str:
    """The Avro schema of files with these columns. Raises Unsupported for a name or a type that Avro does not have."""
    names = (f"{_RECORD}_{number}" for number in itertools.count())
    fields = [_field_document(field, names) for field in schema]
    return json.dumps({"type": "record", "name": _RECORD, "fields": fields}, separators=(",", ":"), ensure_ascii=False)


def _field_document(field: pa.Field, names: Iterator[str]) -> dict[str, Any]:
    if not _NAME.fullmatch(field.name):
        raise Unsupported(
            f"column {field.name!r}: an Avro field is named by letters, digits and underscores; set option 'file.format'"
            " to 'parquet'"
        )
    try:
        document = {"name": field.name, "type": _document(field.type, field.nullable, names)}
    except Unsupported as cause:
        raise Unsupported(f"column {field.name!r}: {cause}") from cause
    return document | {"default": None} if field.nullable else document


def _document(stored: pa.DataType, nullable: bool, names: Iterator[str]) -> Any:
    plain = _plain_document(stored, names)
    return ["null", plain] if nullable else plain


def _plain_document(stored: pa.DataType, names: Iterator[str]) -> Any:
    if pa.types.is_struct(stored):
        name = next(names)
        return {"type": "record", "name": name, "fields": [_field_document(field, names) for field in stored]}
    if pa.types.is_map(stored):
        value = _document(stored.item_type, stored.item_field.nullable, names)
        if pa.types.is_string(stored.key_type):
            return {"type": "map", "values": value}
        key = {"name": "key", "type": _plain_document(stored.key_type, names)}
        pair = {"type": "record", "name": next(names), "fields": [key, {"name": "value", "type": value}]}
        return {"type": "array", "items": pair, "logicalType": "map"}
    if pa.types.is_list(stored):
        return {"type": "array", "items": _document(stored.value_type, stored.value_field.nullable, names)}
    if pa.types.is_decimal(stored):
        return {"type": "bytes", "logicalType": "decimal", "precision": stored.precision, "scale": stored.scale}
    if pa.types.is_timestamp(stored) and stored.unit in _TIMESTAMP_UNITS:
        zone = "" if stored.tz is None else "local-"
        return {"type": "long", "logicalType": f"{zone}timestamp-{_TIMESTAMP_UNITS[stored.unit]}"}
    for matches, document, _ in _SCALARS:
        if matches(stored):
            return document
    raise Unsupported(
        f"Avro files hold no {stored}; timestamps have 6 digits at most: set option 'file.format' to 'parquet'"
    )


def encode_records(table: pa.Table) -> bytes:
    """The rows of a table in Avro's binary encoding, one after the other; columns as ``avro_schema`` describes them."""
    table = table.combine_chunks()
    encoded = [
        _encoded(_one_chunk(column), field.nullable) for column, field in zip(table.columns, table.schema, strict=True)
    ]
    rows = _joined(*encoded)
    return _content(rows)


def _one_chunk(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks == 1 else pa.concat_arrays(column.chunks)


def _content(rows: pa.LargeBinaryArray) -> bytes:
    _, offsets, data = rows.buffers()
    bounds = np.frombuffer(offsets, np.int64)
    first, last = int(bounds[rows.offset]), int(bounds[rows.offset + len(rows)])
    return data[first:last].to_pybytes() if last > first else b""


@cache
def _constant(text: bytes) -> pa.Scalar:
    return pa.scalar(text, pa.large_binary())


def _joined(*parts: pa.Array | pa.Scalar) -> pa.LargeBinaryArray:
    """The parts of each row put together; null where a part is null."""
    return pc.binary_join_element_wise(*parts, _constant(b""))


def _encoded(array: pa.Array, nullable: bool) -> pa.LargeBinaryArray:
    """Each value encoded, behind the branch of its union if it may be null."""
    if not array.null_count:
        body = _body(array)
        return _joined(_constant(_VALUE), body) if nullable else body
    present = pc.is_valid(array)
    return pc.if_else(present, _joined(_constant(_VALUE), _body(array)), _constant(_NULL))


def _body(array: pa.Array) -> pa.LargeBinaryArray:
    """Each value encoded; anything where it is null."""
    stored = array.type
    if pa.types.is_struct(stored):
        parts = [_encoded(pc.struct_field(array, at), field.nullable) for at, field in enumerate(stored)]
        return _joined(*parts)
    if pa.types.is_map(stored):
        items = _encoded(array.items, stored.item_field.nullable)
        return _blocks(_map_lengths(array), _joined(_body(array.keys), items))
    if pa.types.is_list(stored):
        lengths = pc.fill_null(pc.list_value_length(array), 0).to_numpy()
        return _blocks(lengths, _encoded(array.flatten(), stored.value_field.nullable))
    if pa.types.is_decimal(stored):
        return _decimals(array)
    for matches, _, encode in _SCALARS:
        if matches(stored):
            return encode(array)
    return _varints(_numbers(array))  # timestamps


def _map_lengths(array: pa.MapArray) -> npt.NDArray[np.int64]:
    lengths: npt.NDArray[np.int64] = np.diff(array.offsets.to_numpy()).astype(np.int64)
    return lengths


def _blocks(lengths: npt.NDArray[Any], items: pa.LargeBinaryArray) -> pa.LargeBinaryArray:
    """Arrays and maps: a block of all items, unless there are none, and the end."""
    offsets = np.concatenate(([0], np.cumsum(lengths, dtype=np.int64)))
    contents = pc.binary_join(pa.LargeListArray.from_arrays(offsets, items), _constant(b""))
    return pc.if_else(
        lengths > 0, _joined(_varints(lengths.astype(np.int64)), contents, _constant(_END)), _constant(_END)
    )


def _numbers(array: pa.Array) -> npt.NDArray[np.int64]:
    """Whole numbers, dates and times of day; 0 where there is none."""
    if pa.types.is_date32(array.type) or pa.types.is_time32(array.type):
        array = array.view(pa.int32())
    elif pa.types.is_timestamp(array.type):
        array = array.view(pa.int64())
    numbers: npt.NDArray[np.int64] = pc.fill_null(array.cast(pa.int64()), 0).to_numpy(zero_copy_only=False)
    return numbers


def _varints(values: npt.NDArray[np.int64]) -> pa.LargeBinaryArray:
    zigzag = ((values << 1) ^ (values >> 63)).view(np.uint64)
    sizes = np.ones(values.size, np.int64)
    for sevens in range(1, _LONGEST_VARINT):
        more = zigzag >= np.uint64(1 << 7 * sevens)
        if not more.any():
            break
        sizes += more
    width = int(sizes.max(initial=1))
    shifts = np.arange(width, dtype=np.uint64) * np.uint64(7)
    parts = ((zigzag[:, None] >> shifts) & np.uint64(0x7F)).astype(np.uint8)
    place = np.arange(width)
    parts[place < sizes[:, None] - 1] |= _SIGN_BIT
    return _array(parts[place < sizes[:, None]], sizes)


def _array(data: npt.NDArray[np.uint8], sizes: npt.NDArray[np.int64]) -> pa.LargeBinaryArray:
    offsets = np.concatenate(([0], np.cumsum(sizes))).astype(np.int64)
    return pa.LargeBinaryArray.from_buffers(
        pa.large_binary(), sizes.size, [None, pa.py_buffer(offsets), pa.py_buffer(data)]
    )


def _of_width(values: npt.NDArray[Any]) -> pa.LargeBinaryArray:
    data = np.ascontiguousarray(values).view(np.uint8)
    return _array(data, np.full(values.size, values.dtype.itemsize, np.int64))


def _integers(array: pa.Array) -> pa.LargeBinaryArray:
    return _varints(_numbers(array))


def _booleans(array: pa.Array) -> pa.LargeBinaryArray:
    return _of_width(pc.fill_null(array, False).to_numpy(zero_copy_only=False).astype(np.uint8))


def _floats(array: pa.Array) -> pa.LargeBinaryArray:
    values = pc.fill_null(array, 0.0).to_numpy(zero_copy_only=False)
    return _of_width(values.astype(values.dtype.newbyteorder("<")))


def _bytes(array: pa.Array) -> pa.LargeBinaryArray:
    content = pc.fill_null(array.cast(pa.large_binary()), _constant(b""))
    return _joined(_varints(pc.binary_length(content).to_numpy()), content)


def _decimals(array: pa.Array) -> pa.LargeBinaryArray:
    """The least bytes of the unscaled value in two's complement, big-endian, as Java's BigInteger gives them."""
    if not len(array):
        return array.cast(pa.string()).cast(pa.large_binary())
    whole = np.frombuffer(array.buffers()[1], np.uint8).reshape(-1, _DECIMAL_BYTES)
    values = whole[array.offset : array.offset + len(array), ::-1]
    negative = values[:, :1] >= _SIGN_BIT
    padding = np.where(negative, np.uint8(0xFF), np.uint8(0))
    spare = np.cumprod(values[:, :-1] == padding, axis=1).sum(axis=1)
    first = np.take_along_axis(values, spare[:, None], axis=1)
    spare -= ((first >= _SIGN_BIT) != negative)[:, 0] & (spare > 0)
    sizes = _DECIMAL_BYTES - spare
    data = values[np.arange(_DECIMAL_BYTES) >= spare[:, None]]
    return _joined(_varints(sizes), _array(data, sizes))


_SCALARS: tuple[tuple[Callable[[pa.DataType], bool], Any, Callable[[pa.Array], pa.LargeBinaryArray]], ...] = (
    (pa.types.is_boolean, "boolean", _booleans),
    (lambda stored: pa.types.is_integer(stored) and stored.bit_width <= 32, "int", _integers),
    (pa.types.is_int64, "long", _integers),
    (pa.types.is_float32, "float", _floats),
    (pa.types.is_float64, "double", _floats),
    (pa.types.is_string, "string", _bytes),
    (pa.types.is_binary, "bytes", _bytes),
    (pa.types.is_date32, {"type": "int", "logicalType": "date"}, _integers),
    (pa.types.is_time32, {"type": "int", "logicalType": "time-millis"}, _integers),
)

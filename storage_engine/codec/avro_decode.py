"""Avro records as columns: Polars decodes them in their physical types, Arrow gives them the types that were declared.

Spec: "Data files / Avro" of Apache Paimon 1.3.1. A map is encoded as an array of pairs is, so it is decoded as one. Values
mean what the table says; of the file's logical types only the unit of a timestamp counts.
"""

from __future__ import annotations

import json
import secrets
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from itertools import islice
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
from polars.datatypes import DataTypeClass
from polars.exceptions import PanicException, PolarsError

from storage_engine.codec.avro import Block, container_header, varint
from storage_engine.errors import CorruptFile

_PLAIN = frozenset({"boolean", "int", "long", "float", "double", "string", "bytes"})
_UNITS = {"timestamp-millis": "ms", "timestamp-micros": "us"}
_SYNC = bytes(16)
_PORTION_BYTES = 12 << 20
_AT_ONCE = 2
_DECIMAL_BYTES = 16
_SIGN_BIT = 0x80
_DAY_MILLIS = 86_400_000
_NANOS_PER_MILLI = 1_000_000
_ROWS, _END = "rows", "end"

Dtype = pl.DataType | DataTypeClass


def decode_records(
    document: Mapping[str, Any], blocks: Iterable[Block], columns: Sequence[str], dtypes: Mapping[str, pl.DataType]
) -> pl.DataFrame:
    """Those of the columns that the records have; ``dtypes`` is what they were declared as, for all of them.

    Raises CorruptFile, without the file's name, for bytes that are no such records.
    """
    return pl.concat(decode_portions(document, blocks, columns, dtypes))


def decode_portions(
    document: Mapping[str, Any], blocks: Iterable[Block], columns: Sequence[str], dtypes: Mapping[str, pl.DataType]
) -> Iterator[pl.DataFrame]:
    """The same in portions, of which the first one is empty. Raises CorruptFile while it is iterated."""
    fields = _fields(document)
    present = [name for name in columns if name in fields]
    yield pl.DataFrame(schema={name: dtypes[name] for name in present})
    yield from _side_by_side(lambda portion: _decoded(document, portion, fields, present, dtypes), _portions(blocks))


def _side_by_side(
    decode: Callable[[list[Block]], pl.DataFrame], portions: Iterable[list[Block]]
) -> Iterator[pl.DataFrame]:
    """Portions decoded in order, no more than two at a time: Polars decodes each in one thread."""
    waiting = list(islice(source := iter(portions), _AT_ONCE))
    if len(waiting) == 1:
        yield decode(waiting[0])
        return
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        running = deque(pool.submit(decode, portion) for portion in waiting)
        while running:
            yield running.popleft().result()
            running.extend(pool.submit(decode, portion) for portion in islice(source, 1))


def _portions(blocks: Iterable[Block]) -> Iterable[list[Block]]:
    portion: list[Block] = []
    size = 0
    for block in blocks:
        portion.append(block)
        size += len(block[1])
        if size >= _PORTION_BYTES:
            yield portion
            portion, size = [], 0
    if any(count for count, _ in portion):
        yield portion


def _decoded(
    document: Mapping[str, Any],
    blocks: Sequence[Block],
    fields: Mapping[str, Any],
    columns: Sequence[str],
    dtypes: Mapping[str, pl.DataType],
) -> pl.DataFrame:
    try:
        rows = _read(document, blocks)
        typed = [_typed(_array(rows.struct.field(name)), fields[name], dtypes[name]) for name in columns]
    except (PolarsError, PanicException, pa.ArrowException, OSError, OverflowError, ValueError) as cause:
        raise CorruptFile(f"its records cannot be read: {cause}") from cause
    return pl.DataFrame(
        [pl.Series(name, array).cast(dtypes[name]) for name, array in zip(columns, typed, strict=True)],
        schema={name: dtypes[name] for name in columns},
    )


def _read(document: Mapping[str, Any], blocks: Sequence[Block]) -> pl.Series:
    """The records of some blocks as a struct column.

    They are read as one array with a mark behind it: were the records longer or shorter than the blocks, it would not be met.
    """
    count, mark = sum(count for count, _ in blocks), secrets.token_hex(8)
    record = {"type": "array", "items": _physical(document)}
    outer = {
        "type": "record",
        "name": "outer",
        "fields": [{"name": _ROWS, "type": record}, {"name": _END, "type": "string"}],
    }
    header = container_header({"avro.schema": json.dumps(outer).encode(), "avro.codec": b"null"}, _SYNC)
    content = b"".join(
        [varint(count), *(content for _, content in blocks), varint(0), varint(len(mark)), mark.encode()]
    )
    file = BytesIO(b"".join([header, varint(1), varint(len(content)), content, _SYNC]))
    found = pl.read_avro(file)
    if found[_END].to_list() != [mark]:
        raise CorruptFile("its records do not end where its blocks do")
    rows = found[_ROWS].explode()
    if len(rows) != count:
        raise CorruptFile(f"it holds {len(rows)} records where its blocks say {count}")
    return rows


def _fields(record: Mapping[str, Any]) -> dict[str, Any]:
    return {str(field["name"]): field["type"] for field in record["fields"]}


def _physical(schema: Any) -> Any:
    """The schema without logical types, with arrays of pairs for maps. Raises CorruptFile for a type Paimon does not write."""
    plain, nullable = _without_null(schema)
    if nullable:
        return ["null", _physical(plain)] if schema[0] == "null" else [_physical(plain), "null"]
    kind = plain["type"] if isinstance(plain, dict) else plain
    match kind:
        case "record":
            fields = [{"name": name, "type": _physical(part)} for name, part in _fields(plain).items()]
            return {"type": "record", "name": plain["name"], "fields": fields}
        case "array":
            return {"type": "array", "items": _physical(plain["items"])}
        case "map":
            value = {"name": "value", "type": _physical(plain["values"])}
            pair = {"type": "record", "name": "pair", "fields": [{"name": "key", "type": "string"}, value]}
            return {"type": "array", "items": pair}
        case str() if kind in _PLAIN:
            return kind
        case _:
            raise CorruptFile(f"its schema has the type {kind!r}, which no column is stored as")


def _without_null(schema: Any) -> tuple[Any, bool]:
    if not isinstance(schema, list):
        return schema, False
    parts = [part for part in schema if part != "null"]
    if len(parts) != 1 or len(schema) != 2:
        raise CorruptFile(f"its schema has a union of {len(schema)} types")
    return parts[0], True


def _array(series: pl.Series) -> pa.Array:
    found = series.rechunk().to_arrow(compat_level=pl.CompatLevel.oldest())
    return found.combine_chunks() if isinstance(found, pa.ChunkedArray) else found


def _typed(array: pa.Array, schema: Any, dtype: Dtype) -> pa.Array:
    """A decoded column as what it was declared."""
    plain, _ = _without_null(schema)
    match dtype:
        case pl.List(inner=pl.Struct() as pair) if isinstance(plain, dict) and plain["type"] == "map":
            fields = {"key": "string", "value": plain["values"]}
            return _list(array, _struct(array.flatten(), fields, pair))
        case pl.List():
            return _list(array, _typed(array.flatten(), _part(plain, "array", "items"), dtype.inner))
        case pl.Struct():
            return _struct(array, _fields({"fields": _part(plain, "record", "fields")}), dtype)
        case pl.Decimal():
            return _decimals(array, dtype)
        case pl.Datetime():
            stamps = pc.cast(array, pa.int64()).cast(pa.timestamp(_unit(plain)))
            return stamps.cast(pa.timestamp(dtype.time_unit)).cast(pa.timestamp(dtype.time_unit, dtype.time_zone))
        case pl.Time():
            return _times(array)
        case pl.Date():
            return pc.cast(array, pa.int32()).cast(pa.date32())
        case _:
            return _checked_plain(array, dtype)


def _part(plain: Any, kind: str, part: str) -> Any:
    if not isinstance(plain, dict) or plain["type"] != kind:
        raise CorruptFile(f"its schema has {plain!r} where the table has an {kind}")
    return plain[part]


def _checked_plain(array: pa.Array, dtype: Dtype) -> pa.Array:
    wanted = pl.Series([], dtype=dtype).to_arrow(compat_level=pl.CompatLevel.oldest()).type
    of_kind = next((is_kind for is_kind in _KINDS if is_kind(wanted)), None)
    if of_kind is None or not of_kind(array.type):
        raise CorruptFile(f"a column is stored as {array.type} where the table has {wanted}")
    return pc.cast(array, wanted)


_KINDS = (
    pa.types.is_integer,
    pa.types.is_floating,
    pa.types.is_boolean,
    pa.types.is_large_string,
    pa.types.is_large_binary,
)


def _list(array: pa.Array, elements: pa.Array) -> pa.Array:
    lengths = pc.fill_null(pc.list_value_length(array), 0).to_numpy()
    offsets = np.concatenate(([0], np.cumsum(lengths, dtype=np.int64)))
    return pa.LargeListArray.from_arrays(offsets, elements, mask=pc.is_null(array))


def _struct(array: pa.Array, fields: Mapping[str, Any], dtype: pl.Struct) -> pa.Array:
    missing = [field.name for field in dtype.fields if field.name not in fields]
    if missing:
        raise CorruptFile(f"its records have no field {missing[0]!r}")
    parts = [_typed(pc.struct_field(array, field.name), fields[field.name], field.dtype) for field in dtype.fields]
    return pa.StructArray.from_arrays(parts, names=[field.name for field in dtype.fields], mask=pc.is_null(array))


def _unit(plain: Any) -> str:
    """The unit of the file's timestamps, whichever of the two names they go by."""
    name = str(plain.get("logicalType", "")) if isinstance(plain, dict) else ""
    unit = _UNITS.get(name.removeprefix("local-"))
    if unit is None:
        raise CorruptFile(f"its schema has {plain!r} where the table has a timestamp")
    return unit


def _times(array: pa.Array) -> pa.Array:
    millis = pc.cast(array, pa.int64())
    ends = pc.min_max(millis).as_py()
    if ends["min"] is not None and not 0 <= ends["min"] <= ends["max"] < _DAY_MILLIS:
        raise CorruptFile(f"a time of day is {ends['min'] if ends['min'] < 0 else ends['max']} milliseconds")
    return pc.multiply(millis, _NANOS_PER_MILLI).cast(pa.time64("ns"))


def _decimals(array: pa.Array, dtype: pl.Decimal) -> pa.Array:
    """Unscaled values in two's complement of any length, big-endian."""
    if not pa.types.is_large_binary(array.type):
        raise CorruptFile(f"a column is stored as {array.type} where the table has {dtype}")
    content = pc.fill_null(array, b"\0")
    sizes = pc.binary_length(content).to_numpy()
    if sizes.size and not 1 <= sizes.min() <= sizes.max() <= _DECIMAL_BYTES:
        raise CorruptFile(f"a decimal number has {sizes.max()} bytes")
    _, _, data = content.buffers()
    first = int(np.frombuffer(content.buffers()[1], np.int64)[content.offset])
    packed = np.frombuffer(data, np.uint8)[first : first + int(sizes.sum())]
    used = np.arange(_DECIMAL_BYTES) >= (_DECIMAL_BYTES - sizes)[:, None]
    values = np.zeros((sizes.size, _DECIMAL_BYTES), np.uint8)
    values[used] = packed
    starts = np.take_along_axis(values, (_DECIMAL_BYTES - sizes)[:, None], axis=1)
    values[~used & (starts >= _SIGN_BIT)] = 0xFF
    stored = pa.decimal128(38, dtype.scale)
    buffers = [None, pa.py_buffer(np.ascontiguousarray(values[:, ::-1]))]
    numbers = pa.Array.from_buffers(stored, sizes.size, buffers)
    numbers = pc.if_else(pc.is_valid(array), numbers, pa.scalar(None, stored))
    return numbers.cast(pa.decimal128(dtype.precision, dtype.scale))

"""BinaryRow: the bytes of keys, partitions and statistics, and the hash that gives a row its bucket.

Spec: Paimon's BinaryRow. A body is ``[row kind + null bits][8 bytes per field][variable part]``, little-
endian; the serialized form puts the number of fields before it as a big-endian int32. The hash is over the
body alone.

Values in Python: bool, int, float, str, bytes, Decimal, date, time, None; TIMESTAMP as a naive datetime and
TIMESTAMP_LTZ as an aware one in UTC. A timestamp of more than 6 digits is an int, nanoseconds since
1970-01-01, since a datetime would drop digits. The encoder also takes the physical integers everywhere: days
for DATE, milliseconds for TIME, nanoseconds for timestamps.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Context, Decimal, InvalidOperation
from typing import Any

import polars as pl

from storage_engine.errors import CorruptFile, InvalidRows, Unsupported
from storage_engine.spec.types import (
    BINARY_ROOTS,
    STRING_ROOTS,
    TIMESTAMP_ROOTS,
    DataType,
    TypeRoot,
)

_HEADER_BITS = 8  # byte 0 is the row kind; null bit i is bit 8 + i
_WORD = 8
_INLINE_LENGTH = 7
_INLINE_MARK = 0x80
_COMPACT_DECIMAL_PRECISION = 18
_WIDE_DECIMAL_BYTES = 16
_COMPACT_TIMESTAMP_PRECISION = 3
_DATETIME_PRECISION = 6
_NANOS_PER_MILLI = 1_000_000
_MILLIS_PER_DAY = 86_400_000
_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - TIMESTAMP has no time zone
_EPOCH_DAY = date(1970, 1, 1).toordinal()
_EXACT = Context(prec=80, traps=[InvalidOperation])
_MAX_ARITY = 1 << 20

_INTEGER_FORMATS = {
    TypeRoot.TINYINT: "<b",
    TypeRoot.SMALLINT: "<h",
    TypeRoot.INT: "<i",
    TypeRoot.DATE: "<i",
    TypeRoot.TIME: "<i",
    TypeRoot.BIGINT: "<q",
}
_FIXED_FORMATS = _INTEGER_FORMATS | {TypeRoot.BOOLEAN: "<?", TypeRoot.FLOAT: "<f", TypeRoot.DOUBLE: "<d"}


def encode_row(types: Sequence[DataType], values: Sequence[object]) -> bytes:
    """The body of a row. Raises InvalidRows for a value that its type cannot hold."""
    header = _header_bytes(len(types))
    fixed = bytearray(header + _WORD * len(types))
    variable: list[bytes] = []
    tail = len(fixed)
    for index, (data_type, value) in enumerate(zip(types, values, strict=True)):
        slot = header + _WORD * index
        if value is None:
            bit = index + _HEADER_BITS
            fixed[bit // 8] |= 1 << bit % 8
        content, part = _encode_field(data_type, value, tail)
        fixed[slot : slot + len(content)] = content
        if part:
            variable.append(part)
            tail += len(part)
    return bytes(fixed) + b"".join(variable)


def serialize_row(types: Sequence[DataType], values: Sequence[object]) -> bytes:
    """The serialized form of a row: number of fields (int32, big-endian) and body. Raises InvalidRows."""
    return struct.pack(">i", len(types)) + encode_row(types, values)


def deserialize_row(types: Sequence[DataType], data: bytes) -> tuple[object, ...]:
    """The values of a serialized row. Raises CorruptFile; the caller's message names the file."""
    try:
        (arity,) = struct.unpack_from(">i", data)
        if arity != len(types):
            raise CorruptFile(f"a row of {arity} fields stands where {len(types)} were expected")
        return tuple(_decode_fields(types, memoryview(data)[4:]))
    except (struct.error, ValueError, OverflowError, InvalidOperation) as cause:
        raise CorruptFile(f"not a BinaryRow of {len(types)} fields: {cause}") from cause


def serialize_columns(types: Sequence[DataType], frame: pl.DataFrame) -> list[bytes]:
    """Serialize each row of a small frame (the minima and maxima of files, say).

    Columns in the order of ``types``.
    """
    columns = [_python_values(data_type, column) for data_type, column in zip(types, frame, strict=True)]
    if not columns:
        return [serialize_row((), ())] * frame.height
    return [serialize_row(types, values) for values in zip(*columns, strict=True)]


def murmur_hash(body: bytes) -> int:
    """The hash of a row's body as a signed int32: Murmur3 over little-endian words, seed 42.

    REQUIRES: the length is a multiple of 4, as that of every body is.
    """
    mask = 0xFFFFFFFF
    state = 42
    for (block,) in struct.iter_unpack("<I", body):
        word = block * 0xCC9E2D51 & mask
        word = (word << 15 | word >> 17) & mask
        state ^= word * 0x1B873593 & mask
        state = (state << 13 | state >> 19) & mask
        state = (state * 5 + 0xE6546B64) & mask
    state ^= len(body)
    state = (state ^ state >> 16) * 0x85EBCA6B & mask
    state = (state ^ state >> 13) * 0xC2B2AE35 & mask
    state ^= state >> 16
    return state - (1 << 32) if state >> 31 else state


def _header_bytes(arity: int) -> int:
    return (arity + _HEADER_BITS + 63) // 64 * _WORD


def _python_values(data_type: DataType, column: pl.Series) -> list[Any]:
    """Physical integers where a datetime would not reach, Python objects elsewhere."""
    if data_type.root is TypeRoot.DATE:
        return column.cast(pl.Int32).to_list()
    if data_type.root not in TIMESTAMP_ROOTS:
        return column.to_list()
    nanos = {"ms": _NANOS_PER_MILLI, "us": 1000, "ns": 1}[data_type.time_unit]
    physical = column.cast(data_type.to_polars()).to_physical()
    return [None if value is None else value * nanos for value in physical.to_list()]


# Encoding: a field is the content of its slot and its part of the variable section, which begins at ``tail``.


def _encode_field(data_type: DataType, value: Any, tail: int) -> tuple[bytes, bytes]:
    try:
        if data_type.root is TypeRoot.DECIMAL:
            return _encode_decimal(data_type, value, tail)
        if data_type.root in TIMESTAMP_ROOTS:
            return _encode_timestamp(data_type, value, tail)
        if value is None:
            return b"", b""
        if data_type.root in _FIXED_FORMATS:
            return struct.pack(_FIXED_FORMATS[data_type.root], _physical(data_type.root, value)), b""
        if data_type.root in STRING_ROOTS:
            return _encode_bytes(value.encode(), tail)
        if data_type.root in BINARY_ROOTS:
            return _encode_bytes(bytes(value), tail)
        nested = _encode_nested(data_type, value)
        return _slot(tail, len(nested)), _padded(nested)
    except (struct.error, ValueError, TypeError, AttributeError, OverflowError, InvalidOperation) as cause:
        raise InvalidRows(f"{value!r} is not a value of type {data_type.sql}: {cause}") from cause


def _physical(root: TypeRoot, value: Any) -> Any:
    if isinstance(value, bool) != (root is TypeRoot.BOOLEAN) or isinstance(value, datetime):
        raise TypeError(f"a {type(value).__name__} stands for another type")
    match value:
        case date():
            return value.toordinal() - _EPOCH_DAY
        case time():
            return (value.hour * 3600 + value.minute * 60 + value.second) * 1000 + value.microsecond // 1000
        case _:
            return value


def _encode_bytes(content: bytes, tail: int) -> tuple[bytes, bytes]:
    if len(content) <= _INLINE_LENGTH:
        return content.ljust(_INLINE_LENGTH, b"\0") + bytes([_INLINE_MARK | len(content)]), b""
    return _slot(tail, len(content)), _padded(content)


def _encode_decimal(data_type: DataType, value: Any, tail: int) -> tuple[bytes, bytes]:
    precision, scale = data_type.precision or 10, data_type.scale or 0
    if value is None:
        wide = precision > _COMPACT_DECIMAL_PRECISION
        return (_slot(tail, 0), bytes(_WIDE_DECIMAL_BYTES)) if wide else (b"", b"")
    scaled = Decimal(value).scaleb(scale, _EXACT)
    unscaled = int(scaled)
    if unscaled != scaled or abs(unscaled) >= 10**precision:
        raise ValueError("it has more digits than the type")
    if precision <= _COMPACT_DECIMAL_PRECISION:
        return struct.pack("<q", unscaled), b""
    # Two's complement in as few bytes as Java's BigInteger takes.
    bits = (unscaled if unscaled >= 0 else ~unscaled).bit_length()
    content = unscaled.to_bytes(bits // 8 + 1, "big", signed=True)
    return _slot(tail, len(content)), content.ljust(_WIDE_DECIMAL_BYTES, b"\0")


def _encode_timestamp(data_type: DataType, value: Any, tail: int) -> tuple[bytes, bytes]:
    compact = _timestamp_precision(data_type) <= _COMPACT_TIMESTAMP_PRECISION
    if value is None:
        return (b"", b"") if compact else (_slot(tail, 0), bytes(_WORD))
    nanos = value if isinstance(value, int) else _nanos_of(value)
    millis, nano_of_milli = divmod(nanos, _NANOS_PER_MILLI)
    if compact:
        return struct.pack("<q", millis), b""
    return _slot(tail, nano_of_milli), struct.pack("<q", millis)


def _timestamp_precision(data_type: DataType) -> int:
    return _DATETIME_PRECISION if data_type.precision is None else data_type.precision


def _nanos_of(value: datetime) -> int:
    if value.tzinfo is not None:
        value = value.astimezone(UTC).replace(tzinfo=None)
    return (value - _EPOCH) // timedelta(microseconds=1) * 1000


def _slot(offset: int, length: int) -> bytes:
    return struct.pack("<II", length, offset)


def _padded(content: bytes) -> bytes:
    return content + bytes(-len(content) % _WORD)


def _encode_nested(data_type: DataType, value: Any) -> bytes:
    if data_type.root is TypeRoot.ROW:
        items = list(value.values()) if isinstance(value, dict) else list(value)
        return encode_row([field.type for field in data_type.fields], items)
    if data_type.root is TypeRoot.ARRAY and data_type.element is not None:
        return _encode_array(data_type.element, list(value))
    key, item = data_type.map_parts()
    keys = _encode_array(key, list(value))
    return struct.pack("<i", len(keys)) + keys + _encode_array(item, list(value.values()))


def _encode_array(element: DataType, items: Sequence[Any]) -> bytes:
    width = struct.calcsize(_FIXED_FORMATS.get(element.root, "<q"))
    header = 4 + (len(items) + 31) // 32 * 4
    fixed = bytearray(_padded(bytes(header + width * len(items))))
    struct.pack_into("<i", fixed, 0, len(items))
    variable = b""
    for index, item in enumerate(items):
        if item is None:
            fixed[4 + index // 8] |= 1 << index % 8
        content, part = _encode_field(element, item, len(fixed) + len(variable))
        fixed[header + width * index : header + width * index + len(content)] = content
        variable += part
    return bytes(fixed) + variable


# Decoding.


def _decode_fields(types: Sequence[DataType], body: memoryview) -> Iterator[object]:
    header = _header_bytes(len(types))
    if len(body) < header + _WORD * len(types):
        raise ValueError("it is truncated")
    for index, data_type in enumerate(types):
        bit = index + _HEADER_BITS
        if body[bit // 8] >> bit % 8 & 1:
            yield None
        else:
            yield _decode_field(data_type, body, header + _WORD * index)


def _decode_field(data_type: DataType, body: memoryview, slot: int) -> object:
    root = data_type.root
    if root in _FIXED_FORMATS:
        (value,) = struct.unpack_from(_FIXED_FORMATS[root], body, slot)
        return _FROM_PHYSICAL[root](value) if root in _FROM_PHYSICAL else value
    if root in STRING_ROOTS:
        return _decode_bytes(body, slot).decode()
    if root in BINARY_ROOTS:
        return _decode_bytes(body, slot)
    if root is TypeRoot.DECIMAL:
        return _decode_decimal(data_type, body, slot)
    if root in TIMESTAMP_ROOTS:
        return _decode_timestamp(data_type, body, slot)
    raise Unsupported(f"a value of type {data_type.sql} is not read from a BinaryRow")


def _time_of(millis: int) -> time:
    if not 0 <= millis < _MILLIS_PER_DAY:
        raise ValueError(f"{millis} is not a millisecond of a day")
    return (_EPOCH + timedelta(milliseconds=millis)).time()


_FROM_PHYSICAL: dict[TypeRoot, Callable[[int], object]] = {
    TypeRoot.DATE: lambda days: date.fromordinal(_EPOCH_DAY + days),
    TypeRoot.TIME: _time_of,
}


def _part_at(body: memoryview, slot: int, length: int | None = None) -> bytes:
    size, offset = struct.unpack_from("<II", body, slot)
    size = size if length is None else length
    if offset + size > len(body):
        raise ValueError("a field points behind its end")
    return bytes(body[offset : offset + size])


def _decode_bytes(body: memoryview, slot: int) -> bytes:
    mark = body[slot + _INLINE_LENGTH]
    if mark & _INLINE_MARK:
        length = mark & ~_INLINE_MARK
        if length > _INLINE_LENGTH:
            raise ValueError(f"an inline field has {length} bytes")
        return bytes(body[slot : slot + length])
    return _part_at(body, slot)


def _decode_decimal(data_type: DataType, body: memoryview, slot: int) -> Decimal:
    precision, scale = data_type.precision or 10, data_type.scale or 0
    if precision <= _COMPACT_DECIMAL_PRECISION:
        (unscaled,) = struct.unpack_from("<q", body, slot)
    else:
        unscaled = int.from_bytes(_part_at(body, slot), "big", signed=True)
    if abs(unscaled) >= 10**precision:
        raise ValueError(f"a number has more than {precision} digits")
    return Decimal(unscaled).scaleb(-scale, _EXACT)


def _decode_timestamp(data_type: DataType, body: memoryview, slot: int) -> datetime | int:
    precision = _timestamp_precision(data_type)
    if precision <= _COMPACT_TIMESTAMP_PRECISION:
        (millis,), nano_of_milli = struct.unpack_from("<q", body, slot), 0
    else:
        (millis,) = struct.unpack("<q", _part_at(body, slot, _WORD))
        (nano_of_milli,) = struct.unpack_from("<I", body, slot)
        if nano_of_milli >= _NANOS_PER_MILLI:
            raise ValueError(f"{nano_of_milli} is not a nanosecond of a millisecond")
    if precision > _DATETIME_PRECISION:
        return int(millis * _NANOS_PER_MILLI + nano_of_milli)
    value = _EPOCH + timedelta(milliseconds=millis, microseconds=nano_of_milli // 1000)
    return value.replace(tzinfo=UTC) if data_type.root is TypeRoot.TIMESTAMP_LTZ else value

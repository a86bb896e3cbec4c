"""JSON columns of MySQL as text: from the binary form of the binary log, and from the text of a query, to the same text.

The binary form is MySQL's own (``json_binary.h`` of its source): objects, arrays and values behind tables of offsets. Both
ways end in the text that ``json.dumps`` writes, so a row of a snapshot equals the row that the log tells.
"""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, Final

from pymysqlreplication.constants import FIELD_TYPE
from pymysqlreplication.util.bytes import decode_decimal, decode_variable_length

SMALL_OBJECT: Final = 0
LARGE_OBJECT: Final = 1
SMALL_ARRAY: Final = 2
LARGE_ARRAY: Final = 3
LITERAL: Final = 4
STRING: Final = 12
OPAQUE: Final = 15
NUMBERS: Final[Mapping[int, str]] = {5: "<h", 6: "<H", 7: "<i", 8: "<I", 9: "<q", 10: "<Q", 11: "<d"}
LITERALS: Final = (None, True, False)
SMALL_INLINE: Final = frozenset({LITERAL, 5, 6})
LARGE_INLINE: Final = SMALL_INLINE | {7, 8}
"""Types whose values stand in the table of offsets itself, as they are no longer than an offset."""


def json_text(value: bytes | str) -> str:
    """A document's text, from its binary form or from the server's own text. Raises ValueError for one that is neither."""
    if isinstance(value, str):
        return _text(json.loads(value, parse_float=Decimal))
    try:
        return _text(_value(value[0], value[1:]) if value else None)
    except (IndexError, struct.error) as error:
        raise ValueError(f"a JSON document of {len(value)} bytes ends early") from error


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_text(key)}: {_text(member)}" for key, member in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_text, value)) + "]"
    return _decimal_text(value) if isinstance(value, Decimal) else json.dumps(value, ensure_ascii=False)


def _decimal_text(value: Decimal) -> str:
    """As the float that is the same number, if there is one: a query's text does not tell which of them it was."""
    if value.as_tuple().exponent == 0:
        return str(int(value))
    same = repr(float(value))
    return same if Decimal(same) == value else f"{value:f}"


def _value(kind: int, data: bytes) -> Any:
    if kind in NUMBERS:
        return struct.unpack_from(NUMBERS[kind], data)[0]
    if kind == LITERAL:
        return LITERALS[data[0]]
    if kind == STRING:
        length, start = decode_variable_length(data)
        return data[start : start + length].decode("utf-8")
    if kind == OPAQUE:
        length, start = decode_variable_length(data[1:])
        return _opaque(data[0], data[1 + start : 1 + start + length])
    if kind in (SMALL_OBJECT, LARGE_OBJECT, SMALL_ARRAY, LARGE_ARRAY):
        return _container(kind, data)
    raise ValueError(f"a JSON document has a value of type {kind}, which is not known")


def _container(kind: int, data: bytes) -> Any:
    """An object or array: count and size, the keys' offsets and lengths, the values' types and offsets, then all of them."""
    large = kind in (LARGE_OBJECT, LARGE_ARRAY)
    number, width = ("<I", 4) if large else ("<H", 2)
    inline = LARGE_INLINE if large else SMALL_INLINE
    (count,) = struct.unpack_from(number, data)
    place = 2 * width
    keys = []
    if kind in (SMALL_OBJECT, LARGE_OBJECT):
        for _ in range(count):
            (start,), (length,) = struct.unpack_from(number, data, place), struct.unpack_from("<H", data, place + width)
            keys.append(data[start : start + length].decode("utf-8"))
            place += width + 2
    values = []
    for _ in range(count):
        found = data[place]
        start = place + 1 if found in inline else struct.unpack_from(number, data, place + 1)[0]
        values.append(_value(found, data[start:]))
        place += 1 + width
    return dict(zip(keys, values, strict=True)) if kind in (SMALL_OBJECT, LARGE_OBJECT) else values


def _opaque(kind: int, data: bytes) -> Any:
    """A value of an SQL type, which a query tells as a text."""
    if kind in _OPAQUE:
        return _OPAQUE[kind](data)
    return f"base64:type{kind}:{base64.b64encode(data).decode('ascii')}"


def _date(data: bytes) -> str:
    return _date_and_time(data)[:10]


def _date_and_time(data: bytes) -> str:
    (packed,) = struct.unpack("<q", data)
    day = packed >> 41
    year, month = divmod(day >> 5, 13)
    return f"{year:04d}-{month:02d}-{day & 31:02d} {_clock(packed & (1 << 41) - 1)}"


def _time(data: bytes) -> str:
    (packed,) = struct.unpack("<q", data)
    return ("-" if packed < 0 else "") + _clock(abs(packed))


def _clock(packed: int) -> str:
    whole, micros = packed >> 24, packed & (1 << 24) - 1
    return f"{whole >> 12:02d}:{whole >> 6 & 63:02d}:{whole & 63:02d}.{micros:06d}"


_OPAQUE: Final[Mapping[int, Callable[[bytes], Any]]] = {
    FIELD_TYPE.NEWDECIMAL: decode_decimal,
    FIELD_TYPE.DATE: _date,
    FIELD_TYPE.DATETIME: _date_and_time,
    FIELD_TYPE.TIMESTAMP: _date_and_time,
    FIELD_TYPE.TIME: _time,
}

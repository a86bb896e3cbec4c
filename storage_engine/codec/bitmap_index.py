"""Bitmap indexes: for each value of a column, the rows of the file that have it.

Spec: "File index / Bitmap" of Apache Paimon 1.3.1, versions 1 and 2. Numbers are big-endian; the row of a value that stands
in one row alone is kept in place of an offset, as ``-1 - row``::

    v2    := 2 | rows (4) | values (4) | has null (1) [offset (4) | length (4)] | blocks (4) | (first value | offset (4))*
             | length of the blocks (4) | block* | bitmaps
    block := entries (4) | (value | offset (4) | length (4))*
    v1    := 1 | rows (4) | values (4) | has null (1) [offset (4)] | (value | offset (4))* | bitmaps
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
from pyroaring import BitMap

from storage_engine.codec.roaring import read_bitmap

_VERSION_1, _VERSION_2 = 1, 2
_BLOCK_BYTES = 16 << 10
_INT = struct.Struct(">i")
_TWO = struct.Struct(">ii")
_COUNTS = struct.Struct(">ii?")
_UNKNOWN_LENGTH = -1
_STRUCTS: Mapping[Any, struct.Struct] = {
    pl.Int8: struct.Struct(">b"),
    pl.Int16: struct.Struct(">h"),
    pl.Int32: struct.Struct(">i"),
    pl.Int64: struct.Struct(">q"),
    pl.Float32: struct.Struct(">f"),
    pl.Float64: struct.Struct(">d"),
    pl.Boolean: struct.Struct(">?"),
}
_Entry = tuple[bytes, int, int]


def write_bitmap_index(values: pl.Series) -> bytes:
    """An index of version 2 over the values of a whole file, in its order; numbers, booleans or texts."""
    rows = values.to_frame("value").with_row_index("row").group_by("value").agg("row").sort("value")
    nulls = rows.filter(pl.col("value").is_null())
    present = rows.filter(pl.col("value").is_not_null())
    bitmaps = bytearray()
    null_place = b""
    if nulls.height:
        null_place = _TWO.pack(*_placed(nulls["row"][0].to_numpy(), bitmaps))
    entries = [
        (value, *_placed(found, bitmaps)) for value, found in zip(present["value"], _lists(present["row"]), strict=True)
    ]
    head = bytes([_VERSION_2]) + _COUNTS.pack(len(values), present.height, bool(nulls.height)) + null_place
    return head + _directory(_ordered(entries, values.dtype)) + bytes(bitmaps)


def _lists(rows: pl.Series) -> Iterator[npt.NDArray[np.uint32]]:
    if rows.is_empty():
        return iter(())
    return iter(np.split(rows.explode().to_numpy(), np.cumsum(rows.list.len().to_numpy())[:-1]))


def _placed(rows: npt.NDArray[np.uint32], bitmaps: bytearray) -> tuple[int, int]:
    """Offset and length of the rows of one value, appended to the bitmaps unless it is one row."""
    if rows.size == 1:
        return -1 - int(rows[0]), _UNKNOWN_LENGTH
    bitmap = BitMap(rows)
    bitmap.run_optimize()
    content = bitmap.serialize()
    bitmaps += content
    return len(bitmaps) - len(content), len(content)


def _ordered(entries: list[tuple[Any, int, int]], dtype: pl.DataType) -> list[_Entry]:
    if dtype == pl.String:
        texts = sorted((value.encode(), offset, length) for value, offset, length in entries)
        return [(_INT.pack(len(text)) + text, offset, length) for text, offset, length in texts]
    pack = _STRUCTS[dtype.base_type()].pack
    return [(pack(value), offset, length) for value, offset, length in entries]


def _directory(entries: Iterable[_Entry]) -> bytes:
    """The blocks of entries, of about 16 KB, and before them the first value and the place of each."""
    blocks: list[tuple[bytes, bytearray, int]] = []
    for value, offset, length in entries:
        entry = value + _TWO.pack(offset, length)
        if not blocks or len(blocks[-1][1]) + len(entry) + _INT.size > _BLOCK_BYTES:
            blocks.append((value, bytearray(), 0))
        first, content, count = blocks[-1]
        blocks[-1] = (first, content + entry, count + 1)
    secondary, body = bytearray(_INT.pack(len(blocks))), bytearray()
    for first, content, count in blocks:
        secondary += first + _INT.pack(len(body))
        body += _INT.pack(count) + content
    return bytes(secondary + _INT.pack(len(body)) + body)


@dataclass(frozen=True, slots=True, kw_only=True)
class BitmapIndex:
    """An index that was read: which rows have a value. ``null``: where the rows without one are, None if all have one."""

    body: bytes
    dtype: pl.DataType
    rows: int
    null: tuple[int, int] | None
    firsts: tuple[Any, ...]
    offsets: tuple[int, ...]
    blocks: int
    bitmaps: int

    @staticmethod
    def read(body: bytes, dtype: pl.DataType) -> BitmapIndex:
        """``dtype``: of the values as the index keeps them. Raises ValueError for what is no such index."""
        try:
            return _read(body, dtype)
        except (struct.error, UnicodeDecodeError, IndexError) as cause:
            raise ValueError(f"its bitmap index is cut: {cause}") from cause

    def having(self, value: Any) -> BitMap:
        """The rows that have a value, None for null. Raises ValueError for a damaged index."""
        try:
            place = self.null if value is None else self._place(value)
            return BitMap() if place is None else self._bitmap(*place)
        except (struct.error, UnicodeDecodeError, IndexError) as cause:
            raise ValueError(f"its bitmap index is cut: {cause}") from cause

    def _place(self, value: Any) -> tuple[int, int] | None:
        key = value.encode() if isinstance(value, str) else value
        block = bisect_right(self.firsts, key) - 1
        if block < 0:
            return None
        reader = _Values(self.body, self.dtype, self.blocks + self.offsets[block])
        (count,) = reader.take(_INT)
        for _ in range(reader.counted(count)):
            found = reader.value()
            place = reader.take(_TWO)
            if found == key:
                return place[0], place[1]
        return None

    def _bitmap(self, offset: int, length: int) -> BitMap:
        if offset < 0:
            return BitMap([-1 - offset])
        start = self.bitmaps + offset
        end = len(self.body) if length < 0 else start + length
        if end > len(self.body):
            raise ValueError("its bitmap index is cut")
        return read_bitmap(self.body[start:end])[0]


def _read(body: bytes, dtype: pl.DataType) -> BitmapIndex:
    version = body[0]
    if version not in (_VERSION_1, _VERSION_2):
        raise ValueError(f"its bitmap index is of version {version}, {_VERSION_1} and {_VERSION_2} are known")
    reader = _Values(body, dtype, 1)
    rows, values, has_null = reader.take(_COUNTS)
    null: tuple[int, int] | None = None
    if has_null:
        null = (reader.take(_INT)[0], _UNKNOWN_LENGTH)
        if version == _VERSION_2:
            null = (null[0], reader.take(_INT)[0])
    if version == _VERSION_1:
        return _read_first_version(reader, rows, values, null)
    firsts, offsets = [], []
    (blocks,) = reader.take(_INT)
    for _ in range(reader.counted(blocks)):
        firsts.append(reader.value())
        offsets.append(reader.take(_INT)[0])
    (length,) = reader.take(_INT)
    if length < 0 or any(not 0 <= offset < length for offset in offsets):
        raise ValueError("its bitmap index has blocks outside of its bytes")
    start = reader.position
    return BitmapIndex(
        body=body,
        dtype=dtype,
        rows=rows,
        null=null,
        firsts=tuple(firsts),
        offsets=tuple(offsets),
        blocks=start,
        bitmaps=start + length,
    )


def _read_first_version(reader: _Values, rows: int, values: int, null: tuple[int, int] | None) -> BitmapIndex:
    """Version 1 as one block of version 2."""
    entries = []
    for _ in range(reader.counted(values)):
        start = reader.position
        reader.value()
        value = reader.body[start : reader.position]
        entries.append(value + _TWO.pack(reader.take(_INT)[0], _UNKNOWN_LENGTH))
    block = _INT.pack(len(entries)) + b"".join(entries)
    body = block + reader.body[reader.position :]
    least = b"" if reader.dtype == pl.String else float("-inf")
    return BitmapIndex(
        body=body, dtype=reader.dtype, rows=rows, null=null, firsts=(least,), offsets=(0,), blocks=0, bitmaps=len(block)
    )


class _Values:
    """A position in the bytes of an index whose values are of one type."""

    def __init__(self, body: bytes, dtype: pl.DataType, position: int) -> None:
        self.body = body
        self.dtype = dtype
        self.position = position

    def take(self, part: struct.Struct) -> tuple[Any, ...]:
        values = part.unpack_from(self.body, self.position)
        self.position += part.size
        return values

    def counted(self, count: int) -> int:
        if not 0 <= count <= len(self.body):
            raise ValueError(f"its bitmap index says that it holds {count} parts")
        return count

    def value(self) -> Any:
        if self.dtype != pl.String:
            return self.take(_STRUCTS[self.dtype.base_type()])[0]
        (length,) = self.take(_INT)
        if not 0 <= length <= len(self.body) - self.position:
            raise ValueError("its bitmap index is cut")
        self.position += length
        return self.body[self.position - length : self.position]

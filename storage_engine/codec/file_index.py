"""The container of file indexes: by column and kind of index, some bytes; None for an index that holds no value.

Spec: "File index / file format" of Apache Paimon 1.3.1. Numbers are big-endian::

    file   := magic (8) | version (4) | length of the head (4) | columns (4) | column* | 0 (4) | bodies
    column := name | kinds (4) | (kind | start (4) | length (4))*        names: length (2), modified UTF-8
"""

from __future__ import annotations

import struct
from collections.abc import Mapping

from storage_engine.errors import CorruptFile, InvalidInput

Indexes = Mapping[str, Mapping[str, bytes | None]]

_MAGIC = 1_493_475_289_347_502
_VERSION = 1
_HEAD = struct.Struct(">qiii")
_INT = struct.Struct(">i")
_SHORT = struct.Struct(">H")
_PLACE = struct.Struct(">ii")
_EMPTY = -1


def write_file_index(indexes: Indexes) -> bytes:
    """The bytes of a container."""
    kinds = sum(len(of_column) for of_column in indexes.values())
    names = sum(len(_utf(name)) for column, of_column in indexes.items() for name in (column, *of_column))
    head_length = _HEAD.size + _INT.size * len(indexes) + _PLACE.size * kinds + names + _INT.size
    head, body = bytearray(_HEAD.pack(_MAGIC, _VERSION, head_length, len(indexes))), bytearray()
    for column, of_column in indexes.items():
        head += _utf(column) + _INT.pack(len(of_column))
        for kind, content in of_column.items():
            start = _EMPTY if content is None else head_length + len(body)
            head += _utf(kind) + _PLACE.pack(start, len(content or b""))
            body += content or b""
    return bytes(head + _INT.pack(0) + body)


def read_file_index(data: bytes, *, path: str) -> dict[str, dict[str, bytes | None]]:
    """The indexes of a container. Raises CorruptFile, naming ``path``."""
    try:
        return _Reader(data).indexes()
    except (ValueError, struct.error, UnicodeDecodeError) as cause:
        raise CorruptFile(f"{path}: not a readable file index: {cause}") from cause


def _utf(text: str) -> bytes:
    """Java's modified UTF-8: a NUL in two bytes, code points beyond 16 bits as two surrogates."""
    content = b"".join(_modified(character) for character in text)
    if len(content) > 0xFFFF:
        raise InvalidInput(f"the column name {text[:40]!r}… is too long for a file index")
    return _SHORT.pack(len(content)) + content


def _modified(character: str) -> bytes:
    if character == "\0":
        return b"\xc0\x80"
    units = struct.iter_unpack(">H", character.encode("utf-16-be", "surrogatepass"))
    return b"".join(chr(unit).encode("utf-8", "surrogatepass") for (unit,) in units)


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0

    def indexes(self) -> dict[str, dict[str, bytes | None]]:
        magic, version, head_length, columns = self._take(_HEAD)
        if magic != _MAGIC:
            raise ValueError("it has another magic number")
        if version != _VERSION:
            raise ValueError(f"it is of version {version}, only {_VERSION} is known")
        if not _HEAD.size <= head_length <= len(self._data):
            raise ValueError(f"its head is said to have {head_length} of its {len(self._data)} bytes")
        return {self._text(): self._kinds() for _ in range(self._counted(columns))}

    def _kinds(self) -> dict[str, bytes | None]:
        (count,) = self._take(_INT)
        return {self._text(): self._body(*self._take(_PLACE)) for _ in range(self._counted(count))}

    def _body(self, start: int, length: int) -> bytes | None:
        if start == _EMPTY:
            return None
        if start < _HEAD.size or length < 0 or start + length > len(self._data):
            raise ValueError(f"an index is said to lie at {start}, {length} bytes long")
        return self._data[start : start + length]

    def _counted(self, count: int) -> int:
        if not 0 <= count <= len(self._data):
            raise ValueError(f"it is said to hold {count} parts")
        return count

    def _take(self, part: struct.Struct) -> tuple[int, ...]:
        values = part.unpack_from(self._data, self._position)
        self._position += part.size
        return values

    def _text(self) -> str:
        (length,) = self._take(_SHORT)
        content = self._data[self._position : self._position + length]
        self._position += length
        if len(content) < length:
            raise ValueError("it is cut")
        units = content.replace(b"\xc0\x80", b"\0").decode("utf-8", "surrogatepass")
        return units.encode("utf-16-be", "surrogatepass").decode("utf-16-be")

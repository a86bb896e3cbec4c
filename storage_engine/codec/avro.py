"""Avro object container files: bytes to records and back, safe against damaged and hostile files.

Spec: "Object Container Files" of Apache Avro: a header (magic, metadata, sync marker), then blocks of
``[count][size][compressed records][sync marker]``.

What a file says of itself is checked before it is believed: sizes against the bytes that are there, what a
block unpacks to against a limit, record counts against the bytes they were read from. Files written here
carry a checksum of their schema in the metadata and one of their content in each zstandard frame; other
readers skip the first and verify the second.
"""

from __future__ import annotations

import json
import os
import struct
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO
from typing import Any, NamedTuple, TypeAlias

import fastavro
from fastavro.schema import SchemaParseException

from storage_engine.codec.avro_blocks import PACK, UNPACK, UNPACK_ERRORS, codec_of
from storage_engine.errors import CorruptFile

MAX_UNPACKED_BYTES = 256 << 20

_MAGIC = b"Obj\x01"
_SYNC_BYTES = 16
_BLOCK_BYTES = 1 << 20
_MAX_SCHEMA_BYTES = 1 << 20
_MAX_SCHEMA_DEPTH = 32
_MAX_SCHEMA_PARTS = 10_000
_SCHEMA, _CODEC, _CHECKSUM = "avro.schema", "avro.codec", "lakehouse.schema.crc32"
_SAME_KIND = {"int": "a number", "long": "a number"}
_DECODE_ERRORS: tuple[type[Exception], ...] = (
    EOFError,
    ValueError,
    IndexError,
    KeyError,
    TypeError,
    OverflowError,
    struct.error,
    MemoryError,
    AttributeError,
    RecursionError,
    SchemaParseException,
    *UNPACK_ERRORS,
)


Block: TypeAlias = tuple[int, bytes]
"""A number of records and their bytes, one after the other."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AvroSchema:
    """A schema as it stands in a file, and as records are read and written by it (without logical types)."""

    text: str
    parsed: Any

    @staticmethod
    def of(document: Mapping[str, Any]) -> AvroSchema:
        """The schema of files to be written."""
        return AvroSchema(text=json.dumps(document, separators=(",", ":")), parsed=_parse(document))


def write_container(schema: AvroSchema, records: Iterable[Mapping[str, Any]], *, compression: str = "zstd") -> bytes:
    """A whole container file. Raises Unsupported for a compression that Avro does not have."""
    return write_blocks(schema.text, _record_blocks(schema, records), compression=compression)


def write_blocks(schema: str, blocks: Iterable[Block], *, compression: str = "zstd", zstd_level: int = 1) -> bytes:
    """A whole container file of encoded records. Raises Unsupported for a compression that Avro does not have."""
    codec = codec_of(compression)
    sync = os.urandom(_SYNC_BYTES)
    text = schema.encode()
    out = BytesIO()
    out.write(
        container_header({_SCHEMA: text, _CODEC: codec.encode(), _CHECKSUM: str(zlib.crc32(text)).encode()}, sync)
    )
    for count, content in blocks:
        packed = PACK[codec](content, zstd_level)
        out.write(varint(count) + varint(len(packed)) + packed + sync)
    return out.getvalue()


def container_header(metadata: Mapping[str, bytes], sync: bytes) -> bytes:
    """What stands before the blocks of a container file."""
    pairs = b"".join(varint(len(key)) + key.encode() + varint(len(value)) + value for key, value in metadata.items())
    return _MAGIC + varint(len(metadata)) + pairs + varint(0) + sync


def _record_blocks(schema: AvroSchema, records: Iterable[Mapping[str, Any]]) -> Iterator[Block]:
    block, count = BytesIO(), 0
    for record in records:
        fastavro.schemaless_writer(block, schema.parsed, record)
        count += 1
        if block.tell() >= _BLOCK_BYTES:
            yield count, block.getvalue()
            block, count = BytesIO(), 0
    if count:
        yield count, block.getvalue()


def read_container(
    data: bytes, *, path: str, like: AvroSchema | None = None, max_bytes: int = MAX_UNPACKED_BYTES
) -> Iterator[dict[str, Any]]:
    """The records of a container file, one by one, logical types as their physical values.

    With ``like``, each of its fields must be there with the same type, unless it is nullable and absent;
    fields of the file that it does not name are kept. ``max_bytes`` bounds what the blocks may unpack to.
    Raises CorruptFile, naming ``path``.
    """
    try:
        yield from _read_container(_Cursor(data), like, max_bytes)
    except CorruptFile as cause:
        raise CorruptFile(f"{path}: {cause}") from cause
    except _DECODE_ERRORS as cause:
        raise CorruptFile(f"{path}: not a readable Avro file: {cause!r}") from cause


class _Cursor:
    """A position in bytes that never reads past their end."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.position = 0

    def take(self, size: int) -> bytes:
        if size < 0 or self.position + size > len(self.data):
            raise CorruptFile(f"it is truncated: {size} bytes are said to be at {self.position}")
        taken = self.data[self.position : self.position + size]
        self.position += size
        return taken

    def varint(self) -> int:
        value = shift = 0
        while True:
            byte = self.take(1)[0]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return (value >> 1) ^ -(value & 1)
            shift += 7
            if shift > 63:
                raise CorruptFile(f"a number at {self.position} is longer than 64 bits")

    @property
    def at_end(self) -> bool:
        return self.position == len(self.data)


def read_blocks(
    data: bytes, *, path: str, like: AvroSchema | None = None, max_bytes: int = MAX_UNPACKED_BYTES
) -> tuple[Mapping[str, Any], Iterator[Block]]:
    """The schema of a container file as its JSON, and its blocks of encoded records, unpacked one by one.

    ``like`` as in ``read_container``; ``max_bytes`` bounds what they may unpack to in all. Raises CorruptFile, naming
    ``path``; so does the iterator.
    """
    try:
        container = _Container.open(_Cursor(data))
        if like is not None:
            _check_likeness(like.parsed, container.schema, "the record")
        document = json.loads(container.metadata[_SCHEMA])
    except _DECODE_ERRORS as cause:
        raise CorruptFile(f"{path}: not a readable Avro file: {cause!r}") from cause
    except CorruptFile as cause:
        raise CorruptFile(f"{path}: {cause}") from cause
    return document, _named_blocks(container, path, max_bytes)


def _named_blocks(container: _Container, path: str, max_bytes: int) -> Iterator[Block]:
    try:
        yield from container.blocks(max_bytes)
    except CorruptFile as cause:
        raise CorruptFile(f"{path}: {cause}") from cause
    except _DECODE_ERRORS as cause:
        raise CorruptFile(f"{path}: not a readable Avro file: {cause!r}") from cause


@dataclass(frozen=True, slots=True, kw_only=True)
class _Container:
    """A file whose header was read and found right; the cursor stands before its blocks."""

    cursor: _Cursor
    metadata: Mapping[str, bytes]
    schema: Any
    codec: str
    sync: bytes

    @staticmethod
    def open(cursor: _Cursor) -> _Container:
        if cursor.take(len(_MAGIC)) != _MAGIC:
            raise CorruptFile("it is not an Avro file")
        metadata = _read_metadata(cursor)
        sync = cursor.take(_SYNC_BYTES)
        schema = _schema_of(metadata)
        codec = metadata.get(_CODEC, b"null").decode("ascii")
        if codec not in UNPACK:
            raise CorruptFile(f"its codec {codec!r} is not known; known: {', '.join(UNPACK)}")
        return _Container(cursor=cursor, metadata=metadata, schema=schema, codec=codec, sync=sync)

    def blocks(self, max_bytes: int) -> Iterator[Block]:
        cursor, unpacked_bytes = self.cursor, 0
        while not cursor.at_end:
            count, size = cursor.varint(), cursor.varint()
            packed = cursor.take(size)
            if cursor.take(_SYNC_BYTES) != self.sync:
                raise CorruptFile(f"the sync marker before {cursor.position} is wrong")
            content = UNPACK[self.codec](packed, max_bytes - unpacked_bytes)
            unpacked_bytes += len(content)
            if not 0 <= count <= len(content):
                raise CorruptFile(f"a block of {len(content)} bytes says that it holds {count} records")
            yield count, content


def _read_container(cursor: _Cursor, like: AvroSchema | None, max_bytes: int) -> Iterator[dict[str, Any]]:
    container = _Container.open(cursor)
    if like is not None:
        _check_likeness(like.parsed, container.schema, "the record")
    for count, content in container.blocks(max_bytes):
        yield from _read_records(content, count, container.schema)


def _read_metadata(cursor: _Cursor) -> dict[str, bytes]:
    metadata: dict[str, bytes] = {}
    while count := cursor.varint():
        if count < 0:
            cursor.varint()
        for _ in range(abs(count)):
            key = cursor.take(cursor.varint()).decode()
            if key in metadata:
                raise CorruptFile(f"its header names {key!r} twice")
            metadata[key] = cursor.take(cursor.varint())
    return metadata


def _schema_of(metadata: Mapping[str, bytes]) -> Any:
    text = metadata.get(_SCHEMA)
    if text is None or len(text) > _MAX_SCHEMA_BYTES:
        raise CorruptFile("its header has no schema, or one that is too long")
    checksum = metadata.get(_CHECKSUM)
    if checksum is not None and checksum != str(zlib.crc32(text)).encode():
        raise CorruptFile("the checksum of its schema is wrong")
    return _parse_text(text)


@lru_cache(maxsize=64)
def _parse_text(text: bytes) -> Any:
    return _parse(json.loads(text))


def _parse(document: Any) -> Any:
    plain = _without_logical_types(document, 0)
    if not isinstance(plain, dict) or plain.get("type") != "record":
        raise CorruptFile("its schema is not that of a record")
    parsed = fastavro.parse_schema(plain)
    _shape(parsed, {})
    return parsed


def _without_logical_types(schema: Any, depth: int) -> Any:
    if depth > _MAX_SCHEMA_DEPTH:
        raise CorruptFile("its schema is nested too deeply")
    if isinstance(schema, list):
        return [_without_logical_types(part, depth + 1) for part in schema]
    if isinstance(schema, dict):
        return {
            key: _without_logical_types(part, depth + 1) if isinstance(part, (dict, list)) else part
            for key, part in schema.items()
            if key != "logicalType"
        }
    return schema


class _Shape(NamedTuple):
    """The least bytes of a value and the most values it is made of, arrays and maps counted once."""

    bytes: int
    parts: int


_SCALAR = _Shape(1, 1)
_NULL = _Shape(0, 1)


def _shape(schema: Any, named: dict[str, _Shape | None]) -> _Shape:
    """Refuses what could be repeated without end in no bytes, what holds itself and what unfolds too far."""
    if isinstance(schema, list):
        parts = [_shape(part, named) for part in schema]
        return _Shape(
            1 + min((part.bytes for part in parts), default=0),
            1 + max((part.parts for part in parts), default=0),
        )
    if isinstance(schema, str):
        known = named.get(schema, _NULL if schema == "null" else _SCALAR)
        if known is None:
            raise CorruptFile(f"its schema nests {schema!r} in itself")
        return known
    kind = schema["type"]
    if kind in ("array", "map"):
        part = _shape(schema["items" if kind == "array" else "values"], named)
        if part.bytes == 0 and kind == "array":
            raise CorruptFile("its schema repeats a type that takes no bytes")
        return _Shape(1, 1 + part.parts)
    if kind in ("record", "fixed", "enum"):
        name = str(schema["name"])
        named[name] = None
        named[name] = shape = _named_shape(kind, schema, named)
        return shape
    return _shape(kind, named)


def _named_shape(kind: str, schema: Any, named: dict[str, _Shape | None]) -> _Shape:
    if kind != "record":
        return _Shape(int(schema["size"]) if kind == "fixed" else 1, 1)
    parts = [_shape(field["type"], named) for field in schema["fields"]]
    shape = _Shape(sum(part.bytes for part in parts), 1 + sum(part.parts for part in parts))
    if shape.parts > _MAX_SCHEMA_PARTS:
        raise CorruptFile("its schema unfolds into too many fields")
    return shape


def _check_likeness(expected: Any, found: Any, where: str) -> None:
    """Refuse a schema whose values would not be those that ``expected`` promises."""
    expected_type, expected_nullable = _split_null(expected)
    found_type, found_nullable = _split_null(found)
    if found_nullable and not expected_nullable:
        raise CorruptFile(f"in its schema {where} may be null")
    if _kind(expected_type) != _kind(found_type):
        raise CorruptFile(f"in its schema {where} is {_kind(found_type)}, not {_kind(expected_type)}")
    if _kind(expected_type) == "array":
        items, _ = _split_null(expected_type["items"])
        _check_likeness(["null", items], found_type["items"], f"an item of {where}")
    if _kind(expected_type) == "record":
        present = {field["name"]: field["type"] for field in found_type["fields"]}
        for field in expected_type["fields"]:
            name = field["name"]
            if name in present:
                _check_likeness(field["type"], present[name], name)
            elif not _split_null(field["type"])[1]:
                raise CorruptFile(f"its schema has no {name}")


def _split_null(schema: Any) -> tuple[Any, bool]:
    if not isinstance(schema, list):
        return schema, False
    parts = [part for part in schema if part != "null"]
    return (parts[0] if len(parts) == 1 else schema), len(parts) < len(schema)


def _kind(schema: Any) -> str:
    kind = schema["type"] if isinstance(schema, dict) else schema
    return _SAME_KIND.get(kind, kind) if isinstance(kind, str) else "a union"


def _read_records(content: bytes, count: int, schema: Any) -> Iterator[dict[str, Any]]:
    stream = BytesIO(content)
    for _ in range(count):
        record: Any = fastavro.schemaless_reader(stream, schema, None)
        yield record
    if stream.tell() != len(content):
        raise CorruptFile(f"a block's {count} records end at {stream.tell()} of its {len(content)} bytes")


def varint(value: int) -> bytes:
    """A number as Avro's int and long: zigzag, seven bits a byte."""
    zigzag = value << 1 if value >= 0 else (-value << 1) - 1
    out = bytearray()
    while zigzag > 0x7F:
        out.append(zigzag & 0x7F | 0x80)
        zigzag >>= 7
    out.append(zigzag)
    return bytes(out)

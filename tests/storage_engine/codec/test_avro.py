"""Avro container files: against fastavro as an independent reader and writer, and against damage."""

from __future__ import annotations

import io
import json
import zlib
from contextlib import suppress
from typing import Any

import fastavro
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from storage_engine.codec.avro import AvroSchema, read_container, write_container
from storage_engine.errors import CorruptFile, Unsupported

DOCUMENT = {
    "type": "record",
    "name": "record",
    "fields": [
        {"name": "id", "type": "long"},
        {"name": "name", "type": ["null", "string"], "default": None},
        {"name": "at", "type": ["null", {"type": "long", "logicalType": "timestamp-millis"}], "default": None},
        {"name": "parts", "type": {"type": "array", "items": ["null", "long"]}},
    ],
}
SCHEMA = AvroSchema.of(DOCUMENT)
RECORDS = [{"id": i, "name": f"n{i}" if i % 3 else None, "at": i, "parts": [i, None]} for i in range(50)]
CODECS = ["zstd", "deflate", "snappy", "null"]


def read(data: bytes, **options: Any) -> list[dict[str, Any]]:
    return list(read_container(data, path="the file", **options))


@pytest.mark.parametrize("codec", CODECS)
def test_records_come_back(codec: str) -> None:
    assert read(write_container(SCHEMA, RECORDS, compression=codec)) == RECORDS


@pytest.mark.parametrize("codec", ["deflate", "snappy", "null"])
def test_fastavro_reads_what_is_written(codec: str) -> None:
    found = list(fastavro.reader(io.BytesIO(write_container(SCHEMA, RECORDS, compression=codec))))
    assert [record["id"] for record in found] == [record["id"] for record in RECORDS]
    assert found[1]["at"].timestamp() == 0.001


@pytest.mark.parametrize("codec", ["deflate", "snappy", "null"])
def test_what_fastavro_writes_is_read(codec: str) -> None:
    out = io.BytesIO()
    fastavro.writer(out, DOCUMENT, RECORDS, codec=codec, sync_interval=100)
    assert read(out.getvalue()) == RECORDS


def test_a_zstandard_block_is_one_frame_with_checksum() -> None:
    plain, packed = write_container(SCHEMA, RECORDS, compression="null"), write_container(SCHEMA, RECORDS)
    assert b"\x12zstandard" in packed
    frame = packed[packed.index(zstandard.FRAME_HEADER) : -16]
    assert zstandard.get_frame_parameters(frame).has_checksum
    assert zstandard.ZstdDecompressor().decompress(frame) in plain


def test_zstandard_blocks_without_size_or_checksum_are_read() -> None:
    block = io.BytesIO()
    for record in RECORDS:
        fastavro.schemaless_writer(block, fastavro.parse_schema(DOCUMENT), record)
    packer = zstandard.ZstdCompressor(write_checksum=False, write_content_size=False)
    assert read(container(packer.compress(block.getvalue()), len(RECORDS), codec="zstandard")) == RECORDS


def test_a_large_file_has_several_blocks() -> None:
    records = [{"id": i, "name": "x" * 1000, "at": None, "parts": []} for i in range(3000)]
    data = write_container(SCHEMA, records, compression="null")
    assert len(list(fastavro.block_reader(io.BytesIO(data)))) > 1
    assert read(data) == records


def test_no_records_make_a_file_that_is_read() -> None:
    assert read(write_container(SCHEMA, [])) == []


def test_a_compression_that_avro_lacks_is_refused() -> None:
    with pytest.raises(Unsupported, match="lz4"):
        write_container(SCHEMA, RECORDS, compression="lz4")


@given(st.integers(0, 10_000), st.integers(1, 255))
def test_any_flipped_byte_is_seen(position: int, flip: int) -> None:
    data = bytearray(CONTAINER)
    data[position % len(data)] ^= flip
    with suppress(CorruptFile):
        assert read(bytes(data)) == RECORDS


@given(st.integers(0, 10_000))
def test_any_cut_is_seen(length: int) -> None:
    length %= len(CONTAINER)
    if length == HEADER_LENGTH:
        return  # a header alone is a file of no records: its size in the metadata tells the difference
    with pytest.raises(CorruptFile):
        read(CONTAINER[:length])


@given(st.binary(max_size=200))
def test_garbage_is_a_clear_error(data: bytes) -> None:
    with pytest.raises(CorruptFile, match=r"^the file: "):
        read(b"Obj\x01" + data)


CONTAINER = write_container(SCHEMA, RECORDS)
HEADER_LENGTH = len(write_container(SCHEMA, []))


def container(
    block: bytes, count: int, *, codec: str = "null", schema: Any = DOCUMENT, sync: bytes = bytes(16)
) -> bytes:
    out = io.BytesIO()
    fastavro.writer(out, schema, [], codec="null", sync_marker=sync)
    head = out.getvalue()
    if codec != "null":
        head = head.replace(b"\x08null", bytes([len(codec) * 2]) + codec.encode())
    return head + varint(count) + varint(len(block)) + block + sync


def varint(value: int) -> bytes:
    zigzag, out = value << 1, bytearray()
    while zigzag > 0x7F:
        out.append(zigzag & 0x7F | 0x80)
        zigzag >>= 7
    return bytes([*out, zigzag])


def test_a_bomb_is_not_unpacked() -> None:
    bomb = zstandard.ZstdCompressor().compress(bytes(50 << 20))
    with pytest.raises(CorruptFile, match="unpacks to more"):
        read(container(bomb, 1, codec="zstandard"), max_bytes=1 << 20)
    packer = zlib.compressobj(wbits=-15)
    bomb = packer.compress(bytes(50 << 20)) + packer.flush()
    with pytest.raises(CorruptFile, match="unpacks to more"):
        read(container(bomb, 1, codec="deflate"), max_bytes=1 << 20)


@pytest.mark.parametrize("count", [2**40, 3])
def test_a_lying_record_count_is_seen(count: int) -> None:
    block = io.BytesIO()
    fastavro.schemaless_writer(block, fastavro.parse_schema(DOCUMENT), RECORDS[1])
    with pytest.raises(CorruptFile):
        read(container(block.getvalue(), count))


def test_bytes_after_the_records_are_seen() -> None:
    block = io.BytesIO()
    fastavro.schemaless_writer(block, fastavro.parse_schema(DOCUMENT), RECORDS[1])
    with pytest.raises(CorruptFile, match="of its"):
        read(container(block.getvalue() + b"\0", 1))


def record(*fields: Any, name: str = "r") -> dict[str, Any]:
    return {"type": "record", "name": name, "fields": [{"name": f"f{i}", "type": t} for i, t in enumerate(fields)]}


def doubling() -> dict[str, Any]:
    inner = record("int", name="r0")
    for level in range(1, 20):
        inner = record(inner, f"r{level - 1}", name=f"r{level}")
    return inner


@pytest.mark.parametrize(
    "schema",
    [
        record({"type": "array", "items": "null"}),
        record({"type": "array", "items": record(name="empty")}),
        record("r"),
        record(["null", "r"], "r"),
        doubling(),
        {"type": "string"},
    ],
    ids=["array of nothing", "array of empty records", "itself", "itself in a union too", "doubling", "no record"],
)
def test_a_hostile_schema_is_refused(schema: Any) -> None:
    text = json.dumps(schema).encode()
    header = b"Obj\x01" + varint(1) + varint(11) + b"avro.schema" + varint(len(text)) + text + b"\0" + bytes(16)
    with pytest.raises(CorruptFile):
        read(header + varint(1) + varint(1) + b"\0" + bytes(16))


def test_a_schema_nested_without_end_is_refused() -> None:
    text = b'{"type":' * 100_000
    header = b"Obj\x01" + varint(1) + varint(11) + b"avro.schema" + varint(len(text)) + text + b"\0" + bytes(16)
    with pytest.raises(CorruptFile):
        read(header)


def changed(column: str, **change: Any) -> dict[str, Any]:
    fields = [{**field, **change} if field["name"] == column else field for field in DOCUMENT["fields"]]
    return {**DOCUMENT, "fields": fields}


@pytest.mark.parametrize(
    ("schema", "found"),
    [
        (changed("id", type="string"), "id is string"),
        (changed("id", type=["null", "long"]), "id may be null"),
        (changed("id", name="di"), "has no id"),
        (changed("parts", type={"type": "array", "items": "string"}), "an item of parts"),
    ],
)
def test_a_schema_that_is_not_alike_is_refused(schema: Any, found: str) -> None:
    with pytest.raises(CorruptFile, match=found):
        read(container(b"", 0, schema=schema), like=SCHEMA)


def test_a_nullable_field_may_be_absent_and_another_may_be_there() -> None:
    out = io.BytesIO()
    document = record("string")
    document["fields"] += [DOCUMENT["fields"][0], {"name": "parts", "type": {"type": "array", "items": "long"}}]
    fastavro.writer(out, document, [{"f0": "extra", "id": 5, "parts": [1]}])
    assert read(out.getvalue(), like=SCHEMA) == [{"f0": "extra", "id": 5, "parts": [1]}]

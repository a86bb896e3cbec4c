"""Manifests against the Avro schemas and records of Paimon 1.3.1."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import fastavro
import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage_engine.codec.avro import AvroSchema, read_container, write_container
from storage_engine.codec.manifest_avro import (
    INDEX_MANIFEST_SCHEMA,
    MANIFEST_LIST_SCHEMA,
    MANIFEST_SCHEMA,
    decode_index_manifest,
    decode_manifest,
    decode_manifest_list,
    encode_index_manifest,
    encode_manifest,
    encode_manifest_list,
)
from storage_engine.errors import CorruptFile
from storage_engine.spec.manifest import FileKind, FileSource

GOLDEN = Path(__file__).parents[2] / "golden"
SCHEMAS = json.loads((GOLDEN / "manifest_avro_schemas.json").read_text())


def plain(value: Any) -> Any:
    """A golden record with its bytes and times as Avro has them."""
    if isinstance(value, dict):
        if set(value) == {"epoch_millis"}:
            return value["epoch_millis"]
        return {key: plain(part) for key, part in value.items()}
    if isinstance(value, list):
        return [plain(part) for part in value]
    if isinstance(value, str) and value.startswith("hex:"):
        return bytes.fromhex(value.removeprefix("hex:"))
    return value


DECODED = {
    name: plain(records) for name, records in json.loads((GOLDEN / "decoded_manifests.json").read_text()).items()
}
CASES: list[tuple[str, list[Any], AvroSchema, Callable[..., Any], Callable[..., bytes]]] = [
    ("manifest", DECODED["manifest_entries"], MANIFEST_SCHEMA, decode_manifest, encode_manifest),
    ("manifest", DECODED["postpone_entries"], MANIFEST_SCHEMA, decode_manifest, encode_manifest),
    ("manifest_list", DECODED["manifest_list"], MANIFEST_LIST_SCHEMA, decode_manifest_list, encode_manifest_list),
    *(
        ("index_manifest", records, INDEX_MANIFEST_SCHEMA, decode_index_manifest, encode_index_manifest)
        for records in DECODED["index_manifest_dv"] + DECODED["index_manifest_hash"]
    ),
]
IDS = [f"{index} {case[0]}" for index, case in enumerate(CASES)]


@pytest.mark.parametrize("name", ["manifest", "manifest_list", "index_manifest"])
def test_the_schemas_are_those_of_paimon(name: str) -> None:
    ours = {"manifest": MANIFEST_SCHEMA, "manifest_list": MANIFEST_LIST_SCHEMA, "index_manifest": INDEX_MANIFEST_SCHEMA}
    assert json.loads(ours[name].text) == SCHEMAS[name]


@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_records_of_paimon_survive_reading_and_writing(case: Any) -> None:
    name, records, _, decode, encode = case
    out = io.BytesIO()
    fastavro.writer(out, SCHEMAS[name], records, codec="snappy")
    values = decode(out.getvalue(), path="the manifest")
    assert len(values) == len(records) > 0
    written = encode(values, "zstd")
    assert list(read_container(written, path="x")) == records
    assert decode(written, path="x") == values


def test_an_entry_is_read_field_by_field() -> None:
    entry = decode_manifest(bytes_of(DECODED["manifest_entries"][:1]), path="x")[0]
    expected = DECODED["manifest_entries"][0]
    assert (entry.kind, entry.bucket, entry.total_buckets) == (FileKind.DELETE, 0, 4)
    assert entry.file.file_name == "data-480e82bd-9a21-40e2-bcd4-d90cc15dfb8c-0.parquet"
    assert (entry.file.file_size, entry.file.row_count, entry.file.level) == (1689, 1, 5)
    assert entry.file.file_source is FileSource.APPEND
    assert entry.file.creation_time_millis == expected["_FILE"]["_CREATION_TIME"]
    assert entry.file.value_stats.null_counts == (0, 0, 0, 0)


def bytes_of(records: list[dict[str, Any]]) -> bytes:
    return write_container(MANIFEST_SCHEMA, records)


@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_another_version_is_refused(case: Any) -> None:
    _, records, schema, decode, _ = case
    data = write_container(schema, [{**record, "_VERSION": 99} for record in records])
    with pytest.raises(CorruptFile, match="version 99"):
        decode(data, path="x")


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(CorruptFile, match="an entry cannot be read"):
        decode_manifest(bytes_of([{**DECODED["manifest_entries"][0], "_KIND": 7}]), path="x")


def test_a_file_of_another_kind_is_refused() -> None:
    data = write_container(MANIFEST_LIST_SCHEMA, DECODED["manifest_list"])
    with pytest.raises(CorruptFile, match="has no _KIND"):
        decode_manifest(data, path="x")


def test_fields_that_later_versions_add_are_skipped_and_nullable_ones_may_be_absent() -> None:
    document = json.loads(MANIFEST_LIST_SCHEMA.text)
    nullable = {"_MIN_BUCKET", "_MAX_BUCKET", "_MIN_LEVEL", "_MAX_LEVEL"}
    document["fields"] = [field for field in document["fields"] if field["name"] not in nullable]
    document["fields"].append({"name": "_MIN_ROW_ID", "type": ["null", "long"], "default": None})
    out = io.BytesIO()
    fastavro.writer(out, document, DECODED["manifest_list"])
    meta = decode_manifest_list(out.getvalue(), path="x")[0]
    assert meta.min_bucket is None
    assert meta.file_name == DECODED["manifest_list"][0]["_FILE_NAME"]


MANIFEST = bytes_of(DECODED["manifest_entries"])
ENTRIES = decode_manifest(MANIFEST, path="x")


@given(st.integers(0, 10_000), st.integers(1, 255))
def test_a_flipped_byte_never_changes_what_is_read(position: int, flip: int) -> None:
    data = bytearray(MANIFEST)
    data[position % len(data)] ^= flip
    with suppress(CorruptFile):
        assert decode_manifest(bytes(data), path="x") == ENTRIES


@pytest.mark.parametrize("file_format", ["parquet", "orc"])
@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_other_formats_hold_the_same(case: Any, file_format: str) -> None:
    name, records, _, decode, encode = case
    out = io.BytesIO()
    fastavro.writer(out, SCHEMAS[name], records, codec="snappy")
    values = decode(out.getvalue(), path="the manifest")
    for compression in ("zstd", "snappy", "none"):
        written = encode(values, compression, file_format)
        assert decode(written, path="x") == values
    assert decode(encode([], "zstd", file_format), path="x") == []
    for damaged in (written[:-9], written[: len(written) // 2], written[:4] + bytes(40)):
        with pytest.raises(CorruptFile, match="the manifest: not a readable manifest"):
            decode(damaged, path="the manifest")

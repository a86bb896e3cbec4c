"""A manifest decoded by columns has the entries that it has record by record, and damage is told as there."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage_engine.codec import avro, manifest_columns
from storage_engine.codec.manifest_avro import decode_manifest, encode_manifest
from storage_engine.codec.manifest_columns import EntryColumns, decode_columns, decode_part
from storage_engine.errors import CorruptFile
from storage_engine.spec.manifest import DataFileMeta, FileKind, FileSource, ManifestEntry, SimpleStats, live_entries
from tests.effort import examples

numbers = st.integers(0, 2**62)
stats = st.builds(
    SimpleStats,
    min_values=st.binary(max_size=20),
    max_values=st.binary(max_size=20),
    null_counts=st.lists(st.none() | numbers, max_size=3).map(tuple),
)
names = st.none() | st.lists(st.text(max_size=5), max_size=3).map(tuple)
files = st.builds(
    DataFileMeta,
    file_name=st.text(min_size=1, max_size=10),
    file_size=numbers,
    row_count=numbers,
    min_key=st.binary(max_size=20),
    max_key=st.binary(max_size=20),
    key_stats=stats,
    value_stats=stats,
    min_sequence_number=numbers,
    max_sequence_number=numbers,
    schema_id=numbers,
    level=st.integers(0, 5),
    extra_files=st.lists(st.text(max_size=5), max_size=2).map(tuple),
    creation_time_millis=st.none() | st.integers(0, 2**42),  # what ORC can hold as nanoseconds
    delete_row_count=st.none() | numbers,
    embedded_index=st.none() | st.binary(max_size=5),
    file_source=st.none() | st.sampled_from(FileSource),
    value_stats_cols=names,
    external_path=st.none() | st.text(max_size=5),
    first_row_id=st.none() | numbers,
    write_cols=names,
)
entries = st.builds(
    ManifestEntry,
    kind=st.sampled_from(FileKind),
    partition=st.sampled_from([b"a", b"b", b"c"]),
    bucket=st.integers(-2, 5),
    total_buckets=st.integers(-2, 5),
    file=files,
)


@pytest.fixture(autouse=True)
def _always_by_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifest_columns, "_SMALL_BYTES", 0)


def decoded(data: bytes) -> EntryColumns:
    found = decode_columns(data, path="x")
    assert isinstance(found, EntryColumns)
    return found


@given(
    st.lists(entries, min_size=1, max_size=5),
    st.sampled_from(["null", "zstd"]),
    st.sampled_from(["avro", "parquet", "orc"]),
)
@settings(max_examples=examples(90), deadline=None)
def test_columns_hold_what_records_hold(listed: list[ManifestEntry], compression: str, file_format: str) -> None:
    data = encode_manifest(listed, compression, file_format)
    columns = decoded(data)
    assert columns.entries() == decode_manifest(data, path="x") == listed
    assert columns.deleted == sum(entry.kind is FileKind.DELETE for entry in listed)
    assert set(columns.partitions()) == {entry.partition for entry in listed}
    some = columns.of([b"a", b"c"], [0, 1, 2]).entries()
    assert some == [entry for entry in listed if entry.partition in (b"a", b"c") and entry.bucket in (0, 1, 2)]


@given(st.data())
@settings(max_examples=examples(60), deadline=None)
def test_columns_of_values_and_what_is_live_of_them(data: st.DataObject) -> None:
    added = data.draw(st.lists(entries, max_size=6))
    added = [
        replace(entry, kind=FileKind.ADD, file=replace(entry.file, extra_files=("x", "y")[: n % 3]))
        for n, entry in enumerate(added)
    ]
    removed = data.draw(st.lists(st.sampled_from(added).map(ManifestEntry.as_delete), max_size=3)) if added else []
    other = [replace(entry, file=entry.file.upgraded(entry.file.level + 1)) for entry in removed[:1]]
    listed = data.draw(st.permutations([*added, *removed, *other]))
    columns = EntryColumns.of_entries(listed)
    assert columns.entries() == listed
    assert columns.live().entries() == live_entries(listed)


def test_a_part_of_a_manifest_is_the_blocks_that_can_be_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(avro, "_BLOCK_BYTES", 500)
    listed = [replace(PLAIN, partition=f"partition {number:03}".encode(), bucket=number) for number in range(100)]
    data = encode_manifest(listed, "zstd")
    part = decode_part(data, [{b"partition 042", b"partition 043"}], path="x")
    assert part is not None
    found = part.entries.entries()
    assert part.count == len(listed)
    assert len(found) < 20
    assert [entry for entry in found if entry.bucket in (42, 43)] == listed[42:44]
    nothing = decode_part(data, [{b"partition 042"}, {b"partition 001"}], path="x")
    assert nothing is not None
    assert len(nothing.entries) == 0
    assert decode_part(data, [{b"partition"}], path="x") is None, "it would save nothing"
    assert decode_part(data[:-9], [{b"partition 042"}], path="x") is None, "all of it is read, to say what is wrong"


PLAIN = ManifestEntry(
    kind=FileKind.ADD,
    partition=b"a",
    bucket=0,
    total_buckets=1,
    file=DataFileMeta(
        file_name="data-1", file_size=1, row_count=1, min_sequence_number=0, max_sequence_number=0, schema_id=0, level=0
    ),
)
LISTED = [replace(PLAIN, bucket=bucket) for bucket in range(4)]
DATA = encode_manifest(LISTED, "zstd")


@given(st.integers(0, 10_000), st.integers(1, 255))
@settings(max_examples=examples(60), deadline=None)
def test_a_flipped_byte_never_changes_what_is_read(position: int, flip: int) -> None:
    data = bytearray(DATA)
    data[position % len(data)] ^= flip
    with suppress(CorruptFile):
        found = decode_columns(bytes(data), path="x")
        assert (found.entries() if isinstance(found, EntryColumns) else found) == LISTED


def test_a_truncated_file_is_named() -> None:
    with pytest.raises(CorruptFile, match="the file"):
        decode_columns(DATA[:-20], path="the file")

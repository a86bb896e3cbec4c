"""Every decoder on bytes that were damaged: a read, or an error of the engine that names the file. Nothing else, ever.

``LAKEHOUSE_SEARCH`` multiplies the number of damages that each decoder gets.
"""

from __future__ import annotations

import datetime as dt
import json
import struct
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyroaring import BitMap64

from storage_engine import Catalog, Table
from storage_engine.codec.binary_row import deserialize_row
from storage_engine.codec.bitmap_index import BitmapIndex
from storage_engine.codec.bloom_filter import may_contain
from storage_engine.codec.deletion_vector import read_deletion_vectors
from storage_engine.codec.file_index import read_file_index
from storage_engine.codec.hash_index import decode_hash_index
from storage_engine.codec.manifest_avro import decode_index_manifest, decode_manifest, decode_manifest_list
from storage_engine.errors import CorruptFile, StorageEngineError
from storage_engine.kernel.fast_hash import fast_hashes
from storage_engine.kernel.roaring_tree import read_bitmap64, write_bitmap64
from storage_engine.spec.schema import TableSchema
from storage_engine.spec.snapshot import Snapshot
from storage_engine.spec.types import parse_type
from storage_engine.store.file_io import FileIO
from storage_engine.store.formats import FORMATS
from storage_engine.store.live_files import LiveFiles
from storage_engine.store.manifests import ManifestStore
from tests.effort import examples

EXAMPLES = examples(40)
PATH = "the/file"
EXTREMES = (0, 1, -1, 0x7F, 0x80, 2**31 - 1, -(2**31), 2**63 - 1)


def damages(content: bytes) -> st.SearchStrategy[bytes]:
    """The bytes with some of them flipped, overwritten by extreme numbers, cut off, doubled or left out."""
    place = st.integers(0, max(0, len(content) - 1))

    def flipped(places: list[tuple[int, int]]) -> bytes:
        damaged = bytearray(content)
        for at, mask in places:
            damaged[at] ^= mask
        return bytes(damaged)

    def overwritten(at: int, number: int, code: str) -> bytes:
        part = struct.pack(code, number & (2 ** (8 * struct.calcsize(code)) - 1))
        return content[:at] + part + content[at + len(part) :]

    spans = st.tuples(place, st.integers(1, 64))
    return st.one_of(
        st.lists(st.tuples(place, st.integers(1, 255)), min_size=1, max_size=4).map(flipped),
        st.builds(overwritten, place, st.sampled_from(EXTREMES), st.sampled_from(["B", "<I", ">I", "<Q", ">Q"])),
        place.map(lambda at: content[:at]),
        spans.map(lambda span: content[: span[0]] + content[sum(span) :]),
        spans.map(lambda span: content[: sum(span)] + content[span[0] :]),
        st.binary(max_size=64).map(lambda tail: content + tail),
    )


# -- tables whose files are damaged ----------------------------------------------------------------------------------

COLUMNS = {
    "id": "INT",
    "n": "BIGINT",
    "text": "STRING",
    "price": "DECIMAL(20, 4)",
    "at": "TIMESTAMP(3)",
    "tags": "ARRAY<STRING>",
    "rec": "ROW<a INT, b STRING>",
}
OPTIONS = {
    "bucket": "1",
    "deletion-vectors.enabled": "true",
    "file-index.bloom-filter.columns": "n",
    "file-index.bloom-filter.n.items": "10",
    "file-index.bitmap.columns": "text",
    "file-index.in-manifest-threshold": "1 mb",
}


@cache
def a_table(format_: str, folder: str) -> Table:
    """A table of every part: data files, deletion vectors, indexes, a hash index."""
    catalog = Catalog(folder)
    catalog.create_database("db", ignore_if_exists=True)
    name, options = f"db.t_{format_}", {**OPTIONS, "file.format": format_}
    table = catalog.create_table(name, COLUMNS, primary_key=["id"], options=options)
    for ids in (range(2000), range(40, 60)):
        rows = {
            "id": ids,
            "n": [None if number % 7 == 0 else number * 10**9 for number in ids],
            "text": [f"text {number % 5}" * (number % 3) for number in ids],
            "price": [Decimal(number).scaleb(-4) for number in ids],
            "at": [dt.datetime(2024, 1, 1) + dt.timedelta(hours=number) for number in ids],
            "tags": [["x", None, "y"][: number % 4] for number in ids],
            "rec": [{"a": number, "b": None} for number in ids],
        }
        table.write(pl.DataFrame(rows, schema=dict(table.schema.polars_schema), strict=False))
    assert table.latest_snapshot().index_manifest is not None
    return table


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tmp_path_factory.mktemp("warehouse"))


def content_of(table: Table, path: str) -> bytes:
    return table.store.io.read_bytes(path)


def read_or_told(decode: Callable[[bytes], object], damaged: bytes) -> None:
    """Only an error of the engine may come of damaged bytes."""
    with named_by(PATH):
        decode(damaged)


@contextmanager
def named_by(path: str) -> Iterator[None]:
    """An error of the engine must name the file."""
    error = None
    try:
        yield
    except StorageEngineError as raised:
        error = raised
    assert error is None or path in str(error), error


@dataclass(frozen=True)
class Decoder:
    """What is decoded, and the file of a table that it is found in."""

    decode: Callable[[bytes], object]
    golden: Callable[[Table], bytes]


def manifest_of(table: Table, part: str) -> bytes:
    snapshot, paths = table.latest_snapshot(), table.store.paths
    if part == "list":
        return content_of(table, paths.manifest_file(snapshot.base_manifest_list))
    if part == "index":
        return content_of(table, paths.manifest_file(snapshot.index_manifest))
    (first, *_) = LiveFiles(table.store, table.schema).manifest_metas(snapshot)
    return content_of(table, paths.manifest_file(first.file_name))


def ranges_of(table: Table) -> tuple[bytes, list]:
    (entry,) = ManifestStore.read_index(table.store.manifests(table.schema), table.latest_snapshot().index_manifest)
    path = table.store.paths.index_file(entry.index_file.file_name)
    return content_of(table, path), list(entry.index_file.deletion_vector_ranges)


def file_index_of(table: Table) -> bytes:
    entries = LiveFiles(table.store, table.schema).entries(table.latest_snapshot())
    return next(entry.file.embedded_index for entry in entries if entry.file.embedded_index)


def asked(container: bytes) -> None:
    """A file index, asked for values of both of its columns."""
    indexes = read_file_index(container, path=PATH)
    try:
        if body := indexes.get("n", {}).get("bloom-filter"):
            may_contain(body, fast_hashes(pl.Series([5]), parse_type("BIGINT")))
        if body := indexes.get("text", {}).get("bitmap"):
            bitmap = BitmapIndex.read(body, pl.String())
            for value in ("", "text 1", None):
                bitmap.having(value)
    except ValueError as cause:  # the caller knows the file
        raise CorruptFile(f"{PATH}: {cause}") from cause


def bitmap_of(data: bytes) -> object:
    """The caller of this decoder knows the column."""
    try:
        return read_bitmap64(data)
    except ValueError as cause:
        raise CorruptFile(f"{PATH}: {cause}") from cause


def row_of(data: bytes) -> object:
    """The caller of this decoder knows the file."""
    try:
        return deserialize_row(TYPES, data)
    except CorruptFile as cause:
        raise CorruptFile(f"{PATH}: {cause}") from cause


TYPES = [parse_type(name) for name in ("INT", "BIGINT", "STRING", "DECIMAL(20, 4)", "TIMESTAMP(3)")]
A_BITMAP = BitMap64([*range(0, 40 << 20, 1 << 17), *range(2**40, 2**40 + 9000, 2), *range(2**63, 2**63 + 100_000)])
DECODERS = {
    "manifest": Decoder(lambda data: decode_manifest(data, path=PATH), lambda table: manifest_of(table, "one")),
    "manifest list": Decoder(
        lambda data: decode_manifest_list(data, path=PATH), lambda table: manifest_of(table, "list")
    ),
    "index manifest": Decoder(
        lambda data: decode_index_manifest(data, path=PATH), lambda table: manifest_of(table, "index")
    ),
    "file index": Decoder(asked, file_index_of),
    "hash index": Decoder(lambda data: decode_hash_index(data, path=PATH), lambda _: bytes(range(40))),
    "bitmap of 64 bits": Decoder(bitmap_of, lambda _: write_bitmap64(A_BITMAP)),
    "schema": Decoder(
        lambda data: TableSchema.from_json(data, path=PATH).table_options, lambda table: table.schema.to_json().encode()
    ),
    "snapshot": Decoder(
        lambda data: Snapshot.from_json(data, path=PATH), lambda table: table.latest_snapshot().to_json().encode()
    ),
    "row": Decoder(
        row_of,
        lambda table: (
            LiveFiles(table.store, table.schema).entries(table.latest_snapshot())[0].file.value_stats.max_values
        ),
    ),
}


@pytest.mark.parametrize("name", DECODERS)
def test_damaged_metadata_is_read_or_told(name: str, folder: str) -> None:
    decoder = DECODERS[name]
    golden = decoder.golden(a_table("parquet", folder))
    decoder.decode(golden)

    @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(damages(golden))
    def damaged(content: bytes) -> None:
        read_or_told(decoder.decode, content)

    damaged()


@pytest.mark.parametrize("bitmap64", [False, True])
def test_a_damaged_deletion_vector_is_told(bitmap64: bool, folder: str) -> None:
    """Its checksum covers every byte, so that no damage within its ranges goes unnoticed."""
    content, ranges = ranges_of(a_table("parquet", folder))
    right = read_deletion_vectors(content, ranges, path=PATH)

    @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(damages(content))
    def damaged(changed: bytes) -> None:
        with suppress(CorruptFile):
            assert read_deletion_vectors(changed, ranges, path=PATH) == right

    damaged()


@pytest.mark.parametrize("remote", [False, True], ids=["local", "remote"])
@pytest.mark.parametrize("format_", sorted(FORMATS))
def test_a_damaged_data_file_is_read_or_told(format_: str, remote: bool, folder: str) -> None:
    table = a_table(format_, folder)
    path = table.files()["file_path"][0]
    content = content_of(table, path)
    dtypes = {"_SEQUENCE_NUMBER": pl.Int64(), "_VALUE_KIND": pl.Int8(), **table.schema.polars_schema}
    io, root = FileIO.from_url(f"memory://{uuid.uuid4()}" if remote else folder)
    copy = f"{root}/{uuid.uuid4()}.{format_}"

    @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(damages(content))
    def damaged(changed: bytes) -> None:
        io.overwrite(copy, changed)
        with named_by(copy):
            FORMATS[format_].read(io, copy, list(dtypes), dtypes=dtypes)

    damaged()


@pytest.mark.parametrize("format_", sorted(FORMATS))
def test_damage_inside_of_a_table_is_read_or_told(format_: str, tmp_path: Path) -> None:
    """Any file of a table, found by the scan itself."""
    table = a_table(format_, str(tmp_path))
    files = sorted(path for path in tmp_path.rglob("*") if path.is_file() and "t_" + format_ in str(path))

    @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(st.data())
    def damaged(data: st.DataObject) -> None:
        path = data.draw(st.sampled_from(files))
        content = path.read_bytes()
        path.write_bytes(data.draw(damages(content) if content else st.just(b"x")))
        try:
            again = Catalog(str(tmp_path)).table(table.name)
            again.scan().filter(pl.col("n") == 5 * 10**9).collect()
            again.scan().collect()
            again.changes(0).collect()
        except StorageEngineError:
            pass
        finally:
            path.write_bytes(content)

    damaged()
    assert table.scan().collect().height == 2000


@pytest.mark.parametrize("name", ["../../etc/passwd", "..", "/etc/passwd", "a/b", "a\\b", ""])
def test_a_path_in_metadata_is_refused(name: str, tmp_path: Path) -> None:
    table = a_table("parquet", str(tmp_path))
    snapshot = table.store.paths.snapshot_file(table.latest_snapshot().id)
    document = json.loads(content_of(table, snapshot))
    for key in ("baseManifestList", "indexManifest"):
        changed = {**document, key: name}
        Path(snapshot).write_text(json.dumps(changed))
        with pytest.raises(StorageEngineError, match="is not a file name"):
            Catalog(str(tmp_path)).table(table.name).scan().collect()


@pytest.mark.parametrize(("part", "decoder"), [("schema", "schema"), ("snapshot", "snapshot")])
def test_a_later_version_is_refused(part: str, decoder: str, folder: str) -> None:
    document = json.loads(DECODERS[decoder].golden(a_table("parquet", folder)))
    with pytest.raises(CorruptFile, match=f"{part} version 99 is not known"):
        DECODERS[decoder].decode(json.dumps({**document, "version": 99}).encode())

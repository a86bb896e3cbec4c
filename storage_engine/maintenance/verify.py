"""Reads everything that a snapshot needs and tells what is damaged or missing.

Every live data file is read whole and compared with its manifest, its pages with their checksums (Parquet) and its blocks
with theirs (Avro); so are deletion vectors, hash indexes and file indexes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import polars as pl

from storage_engine.codec.deletion_vector import read_deletion_vectors
from storage_engine.codec.file_index import read_file_index
from storage_engine.codec.hash_index import decode_hash_index
from storage_engine.errors import CorruptFile, FileMissing
from storage_engine.spec.manifest import DELETION_VECTORS_INDEX, HASH_INDEX, IndexManifestEntry, ManifestEntry
from storage_engine.spec.schema import SEQUENCE_NUMBER, VALUE_KIND, TableSchema
from storage_engine.spec.snapshot import Snapshot
from storage_engine.store.data_files import DataFiles
from storage_engine.store.formats.parquet import ParquetFormat
from storage_engine.store.live_files import LiveFiles
from storage_engine.store.manifest_cache import ManifestCache
from storage_engine.store.table_store import TableStore

_READER_THREADS = 4
_PROBLEMS = {"file_path": pl.String, "problem": pl.String}
_Check = tuple[str, Callable[[], object]]


def damaged_files(store: TableStore, schema: TableSchema, snapshot: Snapshot | None) -> pl.DataFrame:
    """The files of a snapshot that cannot be read as they should: ``file_path``, ``problem``; sorted, empty if all is well."""
    store = replace(store, manifest_cache=ManifestCache())  # what was read before may be damaged now
    live, files = LiveFiles(store, schema), DataFiles(store.io, schema, store.schemas)
    try:
        checks = [*_data_checks(store, schema, live, files, snapshot), *_index_checks(store, live, snapshot)]
    except (CorruptFile, FileMissing) as damage:
        return pl.DataFrame([(store.paths.manifests, str(damage))], schema=_PROBLEMS, orient="row")
    with ThreadPoolExecutor(_READER_THREADS) as pool:
        problems = list(pool.map(_problem, checks))
    found = [(path, problem) for (path, _), problem in zip(checks, problems, strict=True) if problem is not None]
    return pl.DataFrame(sorted(found), schema=_PROBLEMS, orient="row")


def _problem(check: _Check) -> str | None:
    try:
        check[1]()
    except (CorruptFile, FileMissing) as damage:
        return str(damage)
    return None


def _data_checks(
    store: TableStore, schema: TableSchema, live: LiveFiles, files: DataFiles, snapshot: Snapshot | None
) -> Iterator[_Check]:
    for entry in live.entries(snapshot):
        directory = live.empty_bucket(entry.partition, entry.bucket, entry.total_buckets).directory
        path = files.path_of(entry.file, directory)
        yield path, _reading(store, schema, files, entry, directory)
        beside = [f"{path.rpartition('/')[0]}/{name}" for name in entry.file.extra_files if name.endswith(".index")]
        for index in beside:
            yield index, _indexing(store, index)
        if entry.file.embedded_index is not None:
            yield path, _embedded(entry.file.embedded_index, path)


def _reading(
    store: TableStore, schema: TableSchema, files: DataFiles, entry: ManifestEntry, directory: str
) -> Callable[[], object]:
    def read() -> None:
        path = files.path_of(entry.file, directory)
        if path.endswith(".parquet"):
            ParquetFormat().check_pages(store.io, path)
        files.read(entry.file, directory, [SEQUENCE_NUMBER, VALUE_KIND, *schema.column_names])

    return read


def _indexing(store: TableStore, path: str) -> Callable[[], object]:
    return lambda: read_file_index(store.io.read_bytes(path), path=path)


def _embedded(content: bytes, path: str) -> Callable[[], object]:
    return lambda: read_file_index(content, path=f"{path} (its index in the manifest)")


def _index_checks(store: TableStore, live: LiveFiles, snapshot: Snapshot | None) -> Iterator[_Check]:
    if snapshot is None or snapshot.index_manifest is None:
        return
    for entry in live.manifests.read_index(snapshot.index_manifest):
        path = live.layout.index_file(entry.partition, entry.bucket, entry.index_file)
        yield path, _index_reading(store, entry, path)


def _index_reading(store: TableStore, entry: IndexManifestEntry, path: str) -> Callable[[], object]:
    def read() -> None:
        content, said = store.io.read_bytes(path), entry.index_file
        if len(content) != said.file_size:
            raise CorruptFile(f"{path}: has {len(content)} bytes where its manifest says {said.file_size}")
        if said.index_type == DELETION_VECTORS_INDEX:
            read_deletion_vectors(content, said.deletion_vector_ranges or (), path=path)
        elif said.index_type == HASH_INDEX and decode_hash_index(content, path=path).size != said.row_count:
            raise CorruptFile(f"{path}: holds another number of hashes than the {said.row_count} its manifest says")

    return read

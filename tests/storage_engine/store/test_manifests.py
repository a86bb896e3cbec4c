"""Manifests on a store: exact counts and ranges, rolling, merging, and files that lie."""

from __future__ import annotations

import uuid
from collections import Counter
from dataclasses import replace
from datetime import date
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage_engine.codec.binary_row import deserialize_row, serialize_row
from storage_engine.codec.deletion_vector import DeletionVector
from storage_engine.codec.manifest_avro import encode_index_manifest, encode_manifest, encode_manifest_list
from storage_engine.errors import CorruptFile, FileMissing
from storage_engine.options import TableOptions
from storage_engine.spec.manifest import (
    EMPTY_ROW,
    EMPTY_STATS,
    DataFileMeta,
    DeletionVectorRange,
    FileKind,
    IndexFileMeta,
    IndexManifestEntry,
    ManifestEntry,
    ManifestFileMeta,
    live_entries,
)
from storage_engine.spec.types import parse_type
from storage_engine.store.file_io import FileIO
from storage_engine.store.manifest_cache import ManifestCache
from storage_engine.store.manifests import ManifestStore, fold_entries
from storage_engine.store.paths import TablePaths
from tests.effort import examples

TYPES = [parse_type("STRING"), parse_type("DATE")]


def entry(
    name: str,
    *,
    kind: FileKind = FileKind.ADD,
    partition: bytes = EMPTY_ROW,
    bucket: int = 0,
    level: int = 0,
    schema: int = 0,
) -> ManifestEntry:
    file = DataFileMeta(
        file_name=name,
        file_size=100,
        row_count=10,
        min_sequence_number=0,
        max_sequence_number=9,
        schema_id=schema,
        level=level,
    )
    return ManifestEntry(kind=kind, partition=partition, bucket=bucket, total_buckets=4, file=file)


def row(text: str | None, day: date | None) -> bytes:
    return serialize_row(TYPES, [text, day])


def store(*, types: Any = (), cache: ManifestCache | None = None, **options: int) -> ManifestStore:
    io, root = FileIO.from_url(f"memory://{uuid.uuid4()}")
    return ManifestStore(io, TablePaths(root), TableOptions(**options), types, cache=cache)


def test_entries_and_lists_come_back() -> None:
    ours = store()
    entries = [entry("a"), entry("b", bucket=3, level=5, schema=2), entry("a", kind=FileKind.DELETE)]
    metas = ours.write(entries)
    name, size = ours.write_list(metas)
    theirs = ManifestStore(ours._io, ours._paths, TableOptions(), ())
    assert theirs.read_list(name, size) == metas
    assert theirs.read_all(theirs.read_list(name)) == entries
    assert theirs.read(metas[0].file_name) == entries
    assert size == ours._io.size(ours._paths.manifest_file(name))
    assert metas[0].file_size == ours._io.size(ours._paths.manifest_file(metas[0].file_name))


def test_a_meta_says_exactly_what_its_manifest_holds() -> None:
    (meta,) = store().write(
        [entry("a", bucket=1), entry("b", bucket=3, level=5, schema=2), entry("a", kind=FileKind.DELETE)]
    )
    assert (meta.num_added_files, meta.num_deleted_files, meta.schema_id) == (2, 1, 2)
    assert (meta.min_bucket, meta.max_bucket, meta.min_level, meta.max_level) == (0, 3, 0, 5)
    assert meta.partition_stats == EMPTY_STATS


def test_partition_ranges_are_exact() -> None:
    long = "x" * 300
    partitions = [
        row("b", date(2024, 1, 1)),
        row(long, date(2023, 1, 1)),
        row(None, date(2025, 1, 1)),
        row("b", date(2024, 1, 1)),
    ]
    (meta,) = store(types=TYPES).write([entry(str(i), partition=partition) for i, partition in enumerate(partitions)])
    stats = meta.partition_stats
    assert deserialize_row(TYPES, stats.min_values) == ("b", date(2023, 1, 1))
    assert deserialize_row(TYPES, stats.max_values) == (long, date(2025, 1, 1))
    assert stats.null_counts == (1, 0)


def test_a_column_of_nulls_has_no_range() -> None:
    (meta,) = store(types=TYPES).write([entry("a", partition=row(None, None)), entry("b", partition=row(None, None))])
    assert deserialize_row(TYPES, meta.partition_stats.min_values) == (None, None)
    assert meta.partition_stats.null_counts == (2, 2)


def test_nothing_makes_no_manifest_but_an_empty_list() -> None:
    ours = store()
    assert ours.write([]) == []
    name, size = ours.write_list([])
    assert ours.read_list(name, size) == []


def test_large_manifests_roll() -> None:
    ours = store(manifest_target_file_size=4000)
    entries = [entry(f"data-{uuid.uuid4()}-{i}") for i in range(500)]
    metas = ours.write(entries)
    assert len(metas) > 3
    assert all(meta.file_size < 8000 for meta in metas)
    assert ours.read_all(metas) == entries


def test_index_manifests_come_back() -> None:
    ours = store()
    entries = [
        IndexManifestEntry(
            kind=FileKind.ADD,
            partition=EMPTY_ROW,
            bucket=1,
            index_file=IndexFileMeta(
                index_type="DELETION_VECTORS",
                file_name="index-1",
                file_size=33,
                row_count=1,
                deletion_vector_ranges=(DeletionVectorRange(data_file_name="d", offset=1, length=24, cardinality=2),),
            ),
        )
    ]
    assert ours.read_index(ours.write_index(entries)) == entries


# What lies.


def put(ours: ManifestStore, name: str, data: bytes) -> None:
    ours._io.write_new(ours._paths.manifest_file(name), data)


@pytest.mark.parametrize("name", ["../../../etc/passwd", "/etc/passwd", "a/b", "..", ""])
def test_names_that_are_paths_are_refused(name: str) -> None:
    ours = store()
    meta = replace(ours.write([entry("a")])[0], file_name=name)
    put(ours, "list", encode_manifest_list([meta], "zstd"))
    put(ours, "manifest-1", encode_manifest([entry(name)], "zstd"))
    file = IndexFileMeta(index_type="HASH", file_name=name, file_size=1, row_count=1)
    index = IndexManifestEntry(kind=FileKind.ADD, partition=EMPTY_ROW, bucket=0, index_file=file)
    put(ours, "index", encode_index_manifest([index], "zstd"))
    for call in (
        lambda: ours.read_list(name),
        lambda: ours.read_index(name),
        lambda: ours.read(name),
        lambda: ours.read_list("list"),
        lambda: ours.read("manifest-1"),
        lambda: ours.read_index("index"),
    ):
        with pytest.raises(CorruptFile, match="is not a file name"):
            call()


def test_a_list_that_was_cut_between_blocks_is_seen() -> None:
    ours = store()
    name, size = ours.write_list(ours.write([entry("a")]))
    path = ours._paths.manifest_file(name)
    empty, _ = ours.write_list([])
    ours._io.overwrite(path, ours._io.read_bytes(ours._paths.manifest_file(empty)))
    theirs = ManifestStore(ours._io, ours._paths, TableOptions(), ())
    with pytest.raises(CorruptFile, match="truncated"):
        theirs.read_list(name, size)


@pytest.mark.parametrize("change", [{"num_added_files": 0}, {"num_added_files": 3}, {"num_deleted_files": 1}], ids=str)
def test_lying_counts_are_seen(change: dict[str, int]) -> None:
    ours = store()
    (meta,) = ours.write([entry("a"), entry("b")])
    with pytest.raises(CorruptFile, match="its manifest list says"):
        ours.read(replace(meta, **change))


def test_a_manifest_that_is_not_there_is_named() -> None:
    with pytest.raises(FileMissing, match="manifest-x"):
        store().read("manifest-x")


def test_the_cache_is_bounded_and_keeps_the_recent() -> None:
    cache = ManifestCache(max_entries=25)
    ours = store(cache=cache)
    metas = [ours.write([entry(f"{i}-{j}") for j in range(10)])[0] for i in range(4)]
    kept = [cache.get(ours._paths.manifest_file(meta.file_name)) is not None for meta in metas]
    assert kept == [False, False, True, True]
    assert ours.read(metas[0])[0].file.file_name == "0-0", "what left is read again"


def test_vectors_are_kept_as_their_index_manifest_describes_them() -> None:
    cache = ManifestCache()
    file = IndexFileMeta(index_type="DELETION_VECTORS", file_name="index-1", file_size=33, row_count=1)
    cache.put_vectors("index/index-1", file, {"d": DeletionVector([1])})
    assert cache.vectors_of("index/index-1", file) == {"d": DeletionVector([1])}
    assert cache.vectors_of("index/index-1", replace(file, file_size=34)) is None
    assert cache.vectors_of("index/index-2", file) is None


# Merging.

PARTITIONS = [row("a", date(2024, 1, day)) for day in range(1, 5)]


@st.composite
def histories(draw: st.DrawFn) -> list[list[ManifestEntry]]:
    """Commits that add files and remove live ones, an upgrade being both at once."""
    live: list[ManifestEntry] = []
    commits = []
    for number in range(draw(st.integers(1, 12))):
        added = [
            entry(f"data-{number}-{i}", partition=draw(st.sampled_from(PARTITIONS)), bucket=draw(st.integers(0, 1)))
            for i in range(draw(st.integers(0, 3)))
        ]
        removed = draw(st.lists(st.sampled_from(live), unique_by=lambda e: e.identity, max_size=3)) if live else []
        upgraded = [replace(e, file=e.file.upgraded(e.file.level + 1)) for e in removed if draw(st.booleans())]
        commits.append([*(e.as_delete() for e in removed), *upgraded, *added])
        live = [e for e in live if e not in removed] + upgraded + added
    return commits


def live_files(entries: list[ManifestEntry]) -> Counter[Any]:
    return Counter(found.identity for found in live_entries(entries))


@settings(max_examples=examples(60), deadline=None)
@given(histories(), st.sampled_from([1, 500, 10**6]), st.sampled_from([1, 3, 30]), st.sampled_from([1, 3000, 10**7]))
def test_merging_at_each_commit_never_changes_what_is_live(
    commits: list[list[ManifestEntry]], target: int, min_count: int, full: int
) -> None:
    ours = store(
        types=TYPES,
        manifest_target_file_size=target,
        manifest_merge_min_count=min_count,
        manifest_full_compaction_size=full,
    )
    metas: list[ManifestFileMeta] = []
    history: list[ManifestEntry] = []
    for commit in commits:
        metas = ours.merge(metas) + ours.write(commit)
        history += commit
        assert live_files(ours.read_all(metas)) == live_files(history)
        for meta in metas:
            kinds = Counter(found.kind for found in ours.read(meta))
            assert (kinds[FileKind.ADD], kinds[FileKind.DELETE]) == (meta.num_added_files, meta.num_deleted_files)


def test_few_small_manifests_stay_as_they_are() -> None:
    ours = store()
    metas = [ours.write([entry(str(i))])[0] for i in range(29)]
    assert ours.merge(metas) == metas


def test_many_small_manifests_become_one() -> None:
    ours = store()
    metas = [ours.write([entry(str(i))])[0] for i in range(30)]
    merged = ours.merge(metas)
    assert len(merged) == 1
    assert len(ours.read(merged[0])) == 30


def test_a_full_merge_drops_what_was_removed_and_keeps_large_manifests_of_other_partitions() -> None:
    ours = store(types=TYPES, manifest_target_file_size=3000, manifest_full_compaction_size=1)
    first, second = ([entry(f"data-{uuid.uuid4()}", partition=PARTITIONS[part]) for _ in range(80)] for part in (0, 3))
    large = [meta for part in (first, second) for meta in ours.write(part)]
    large = [meta for meta in large if meta.file_size >= 3000]
    removal = ours.write([first[0].as_delete()])
    merged = ours.merge([*large, *removal])
    untouched = [meta for meta in large if meta.partition_stats.min_values == PARTITIONS[3]]
    assert [meta for meta in merged if meta in large] == untouched
    assert sum(meta.num_deleted_files for meta in merged) == 0
    before = live_files(ours.read_all([*large, *removal]))
    assert live_files(ours.read_all(merged)) == before


def test_a_file_that_was_added_twice_is_seen() -> None:
    with pytest.raises(CorruptFile, match="twice"):
        fold_entries([entry("a"), entry("a")])


def test_folding_keeps_removals_of_older_files() -> None:
    removal = entry("old", kind=FileKind.DELETE)
    entries = [entry("a"), removal, entry("a", kind=FileKind.DELETE), entry("b")]
    assert fold_entries(entries) == [removal, entry("b")]

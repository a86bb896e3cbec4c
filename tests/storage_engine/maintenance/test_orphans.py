"""Removal of orphans: only what is old, in its place, and needed by nobody."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from storage_engine.errors import CorruptFile, FileMissing, InvalidInput, StorageEngineError
from storage_engine.maintenance import branches, tags
from storage_engine.maintenance.orphans import remove_orphan_files
from storage_engine.store.file_io import FileIO
from storage_engine.store.table_store import TableStore
from tests.storage_engine.maintenance.metadata_table import MetadataTable

FAR_FUTURE = 4_000_000_000_000
STRAY = (
    "bucket-0/data-stray-0.parquet",
    "dt=2024-01-01/bucket-0/changelog-stray-0.parquet",
    "dt=2024-01-01/bucket-postpone/data-stray-0.avro",
    "manifest/manifest-stray-0",
    "manifest/manifest-list-stray-0",
    "manifest/index-manifest-stray-0",
    "index/index-stray-0",
    "statistics/stat-stray-0",
    "snapshot/.snapshot-9.stray.tmp",
    "schema/.schema-9.stray.tmp",
    "branch/branch-b/snapshot/.snapshot-9.stray.tmp",
)
FOREIGN = (
    "README.md",
    "notes/bucket-0/data-1.parquet",
    "dt=2024-01-01/notes.txt",
    "manifest/deeper/manifest-1",
    "snapshot/snapshot-x",
    "snapshot/LATEST",
    "schema/schema-7",
    "consumer/consumer-c",
    "branch/branch-b/bucket-0/data-1.parquet",
    "branch/branch-b/consumer/consumer-c",
)


def history(io: FileIO, root: str) -> MetadataTable:
    table = MetadataTable(io, root)
    for _ in range(3):
        table.append(table.store, changelog=True, index=True)
    tags.create_tag(table.store, "t", 2)
    branch = branches.create_branch(table.store, "b", tag="t")
    table.append(branch)
    return table


@pytest.fixture
def table(tmp_path: Path) -> MetadataTable:
    return history(*FileIO.from_url(str(tmp_path)))


def remove(table: MetadataTable, **options: bool) -> list[str]:
    found = remove_orphan_files(table.store, older_than_millis=FAR_FUTURE, now_millis=FAR_FUTURE, **options)
    return [path.removeprefix(table.root + "/") for path in found]


def put(table: MetadataTable, *names: str) -> None:
    for name in names:
        table.io.overwrite(f"{table.root}/{name}", b"{}")


def test_strays_go_and_nothing_else(table: MetadataTable) -> None:
    table.io.delete(f"{table.root}/snapshot/LATEST")
    before = table.contents()
    put(table, *STRAY, *FOREIGN[:5], "consumer/consumer-c", "branch/branch-b/consumer/consumer-c")
    assert remove(table, dry_run=True) == sorted(STRAY)
    assert remove(table) == sorted(STRAY)
    assert remove(table) == []
    for name in FOREIGN[:5]:
        assert table.io.exists(f"{table.root}/{name}")
    assert table.contents() == before
    table.check()


def test_young_files_stay(table: MetadataTable) -> None:
    put(table, "bucket-0/data-young.parquet", "bucket-0/data-old.parquet")
    os.utime(f"{table.root}/bucket-0/data-old.parquet", (1_000_000, 1_000_000))
    assert remove_orphan_files(table.store) == [f"{table.root}/bucket-0/data-old.parquet"]
    with pytest.raises(InvalidInput, match="future"):
        remove_orphan_files(table.store, older_than_millis=FAR_FUTURE)


def test_files_of_long_lived_changelogs_stay(table: MetadataTable) -> None:
    old = table.store.snapshots.get(1)
    put(table, "changelog/LATEST", "changelog/EARLIEST")
    table.io.overwrite(table.store.paths.changelog_file(1), old.to_json().encode())
    table.store.snapshots.delete(1)
    removed = remove(table)
    assert not [name for name in removed if "changelog" in name]
    assert table.store.manifests(table.store.schemas.get(0)).read_list(old.changelog_manifest_list or "")


@pytest.mark.parametrize("kind", ["base_manifest_list", "index_manifest"])
@pytest.mark.parametrize("damage", ["gone", "garbage"])
def test_nothing_goes_if_something_that_is_retained_cannot_be_read(
    table: MetadataTable, kind: str, damage: str
) -> None:
    put(table, *STRAY)
    snapshot = table.store.of_branch("b").snapshots.latest()
    path = table.store.paths.manifest_file(getattr(snapshot, kind))
    table.io.delete(path)
    if damage == "garbage":
        table.io.overwrite(path, b"garbage")
    table.store = TableStore.open(table.io, table.root)  # which has kept nothing of what it wrote
    with pytest.raises(FileMissing if damage == "gone" else CorruptFile):
        remove(table)
    assert all(table.io.exists(f"{table.root}/{name}") for name in STRAY)


def test_nothing_goes_if_a_branch_is_half_made(table: MetadataTable) -> None:
    put(table, *STRAY)
    table.io.delete_directory(table.store.of_branch("b").paths.schemas)
    with pytest.raises(FileMissing, match="branch-b"):
        remove(table)
    branches.delete_branch(table.store, "b")
    assert set(STRAY[:-1]) <= set(remove(table))


class CommitsMeanwhile(FileIO):
    """Lets a commit happen when the listing of files is done."""

    commit = staticmethod(lambda: None)

    def list_files(self, directory: str, *, recursive: bool = False) -> list:
        found = super().list_files(directory, recursive=recursive)
        if recursive:
            self.commit()
        return found


def test_a_commit_meanwhile_is_seen(tmp_path: Path) -> None:
    table = history(*CommitsMeanwhile.from_url(str(tmp_path)))
    other = MetadataTable(*FileIO.from_url(str(tmp_path)))
    stale = table.files()
    CommitsMeanwhile.commit = staticmethod(lambda: other.append(other.store))
    try:
        remove(table)
    finally:
        CommitsMeanwhile.commit = staticmethod(lambda: None)
    assert len(table.files() - stale) > 0
    table.check()


def test_a_writer_that_never_pauses_ends_it(table: MetadataTable, monkeypatch: pytest.MonkeyPatch) -> None:
    put(table, *STRAY)
    ids = iter(range(10_000))
    monkeypatch.setattr(type(table.store.snapshots), "latest_id", lambda self: next(ids))
    with pytest.raises(StorageEngineError, match="too fast"):
        remove(table)

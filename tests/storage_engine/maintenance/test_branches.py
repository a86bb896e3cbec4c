"""Branches, rollback and tags: names, refusals, and the states they lead to."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

import pytest

from storage_engine.errors import (
    AlreadyExists,
    BranchNotFound,
    CommitConflict,
    InvalidInput,
    SnapshotExpired,
    SnapshotNotFound,
    StorageUnavailable,
    TagNotFound,
    Unsupported,
)
from storage_engine.maintenance import branches, expire, rollback, tags
from storage_engine.store.file_io import FileIO
from storage_engine.store.table_store import TableStore
from tests.storage_engine.maintenance.metadata_table import SCHEMA, MetadataTable


@pytest.fixture
def table() -> MetadataTable:
    table = MetadataTable.in_memory()
    for _ in range(4):
        table.append(table.store)
    tags.create_tag(table.store, "two", 2)
    return table


def test_a_branch_from_a_tag_begins_there(table: MetadataTable) -> None:
    branch = branches.create_branch(table.store, "b", tag="two")
    assert branch.snapshots.ids() == [2]
    assert branch.snapshots.latest() == table.store.snapshots.get(2)
    assert branch.tags.names() == ["two"]
    assert branch.schemas.ids() == [0]
    assert table.store.branch_names() == ["b"]


def test_an_empty_branch_has_the_schemas_alone(table: MetadataTable) -> None:
    table.store.schemas.try_create(replace(SCHEMA, id=1))
    branch = branches.create_branch(table.store, "b")
    assert branch.snapshots.latest() is None
    assert branch.schemas.ids() == [0, 1]


def test_a_branch_from_a_tag_has_the_schemas_of_its_time(table: MetadataTable) -> None:
    table.store.schemas.try_create(replace(SCHEMA, id=1))
    assert branches.create_branch(table.store, "b", tag="two").schemas.ids() == [0]


@pytest.mark.parametrize("name", ["main", "", " ", "123", "a/b", "../x"])
def test_names_that_no_branch_can_have(table: MetadataTable, name: str) -> None:
    with pytest.raises(InvalidInput):
        branches.create_branch(table.store, name)
    assert table.store.branch_names() == []


def test_refusals(table: MetadataTable) -> None:
    branch = branches.create_branch(table.store, "b")
    with pytest.raises(AlreadyExists, match="'b'"):
        branches.create_branch(table.store, "b")
    with pytest.raises(TagNotFound):
        branches.create_branch(table.store, "c", tag="none")
    for call in (branches.delete_branch, branches.fast_forward):
        with pytest.raises(BranchNotFound, match="branches: b"):
            call(table.store, "c")
        with pytest.raises(InvalidInput, match="main"):
            call(table.store, "main")
    with pytest.raises(InvalidInput, match="no snapshot"):
        branches.fast_forward(table.store, "b")
    with pytest.raises(Unsupported):
        branches.create_branch(branch, "c")


class FullDisk(FileIO):
    """Has no room for schemas of branches."""

    def overwrite(self, path: str, data: bytes) -> None:
        if "/branch/" in path and "schema" in path:
            raise StorageUnavailable(f"no space for {path}")
        super().overwrite(path, data)


def test_a_branch_that_cannot_be_made_leaves_nothing() -> None:
    table = MetadataTable.in_memory(FullDisk)
    table.append(table.store)
    tags.create_tag(table.store, "one")
    with pytest.raises(StorageUnavailable):
        branches.create_branch(table.store, "b", tag="one")
    assert table.store.branch_names() == []


def test_main_becomes_the_branch(table: MetadataTable) -> None:
    branch = branches.create_branch(table.store, "b", tag="two")
    branch.schemas.try_create(replace(SCHEMA, id=1, comment="of the branch"))
    table.store.schemas.try_create(replace(SCHEMA, id=1, comment="of main"))
    table.store.schemas.try_create(replace(SCHEMA, id=2))
    tags.create_tag(table.store, "four", 4)
    table.append(branch)
    tags.create_tag(branch, "three of the branch", 3)
    branches.fast_forward(table.store, "b")
    fresh = TableStore.open(table.io, table.root)
    assert [fresh.snapshots.get(i) for i in fresh.snapshots.ids()] == [
        table.store.snapshots.get(1),
        branch.snapshots.get(2),
        branch.snapshots.get(3),
    ]
    assert fresh.tags.names() == ["three of the branch", "two"]
    assert fresh.schemas.ids() == [0, 1]
    assert fresh.schemas.get(1).comment == "of the branch"
    assert table.store.schemas.latest() == fresh.schemas.latest()
    assert fresh.snapshots.latest_id() == table.store.snapshots.latest_id() == 3
    table.append(fresh)
    table.check()


def test_rolling_back_to_a_snapshot(table: MetadataTable) -> None:
    tags.create_tag(table.store, "three", 3)
    table.io.overwrite(table.store.paths.changelog_file(4), b"{}")
    other = TableStore.open(table.io, table.root)
    assert rollback.rollback_to(other, 2) == table.store.snapshots.get(2)
    assert table.store.snapshots.latest_id() == 2
    assert table.store.tags.names() == ["two"]
    assert table.store.snapshots.changelog_ids() == []
    again = table.append(table.store)
    assert again.id == 3
    assert other.snapshots.latest() == again


def test_rolling_back_to_the_tag_of_an_expired_snapshot(table: MetadataTable) -> None:
    before = table.contents()["main"]["tag two"]
    expire.expire_snapshots(table.store, SCHEMA, retain_min=1, retain_max=1)
    with pytest.raises(SnapshotExpired):
        rollback.rollback_to(table.store, 2)
    rollback.rollback_to(table.store, "two")
    assert table.store.snapshots.ids() == [2]
    assert table.contents()["main"]["2"] == before
    table.append(table.store)
    assert (table.store.snapshots.earliest_id(), table.store.snapshots.latest_id()) == (2, 3)
    table.check()


def test_what_cannot_be_rolled_back_to(table: MetadataTable) -> None:
    with pytest.raises(SnapshotNotFound):
        rollback.rollback_to(table.store, 9)
    with pytest.raises(TagNotFound):
        rollback.rollback_to(table.store, "none")
    other = replace(table.store.snapshots.get(2), commit_user="other")
    table.store.tags.create("strange", other)
    with pytest.raises(CommitConflict, match="not the one that was tagged"):
        rollback.rollback_to(table.store, "strange")
    assert table.store.snapshots.latest_id() == 4


def test_tags_are_of_the_latest_snapshot_unless_told(table: MetadataTable) -> None:
    assert tags.create_tag(table.store, "t").snapshot.id == 4
    with pytest.raises(SnapshotNotFound):
        tags.create_tag(table.store, "u", 9)
    with pytest.raises(AlreadyExists):
        tags.create_tag(table.store, "t", 1)
    with pytest.raises(SnapshotNotFound, match="yet"):
        tags.create_tag(MetadataTable.in_memory().store, "t")


def test_tags_end_with_their_time(table: MetadataTable) -> None:
    noon = datetime(2024, 1, 1, 12)
    tags.create_tag(table.store, "hour", 1, time_retained_ms=3_600_000, now=noon)
    assert tags.expire_tags(table.store, SCHEMA, now=noon.replace(minute=59)) == []
    assert tags.expire_tags(table.store, SCHEMA, now=noon.replace(hour=14)) == ["hour"]
    assert table.store.tags.names() == ["two"]

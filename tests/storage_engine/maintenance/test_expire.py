"""Expiry: which snapshots go, what tags, branches and consumers keep, and that the checks would see a mistake."""

from __future__ import annotations

import pytest

from storage_engine.errors import FileMissing, InvalidInput, SnapshotExpired
from storage_engine.maintenance import branches, expire, tags
from storage_engine.maintenance.after_commit import AfterCommit
from storage_engine.maintenance.expire import expire_snapshots
from storage_engine.store.file_io import FileIO
from tests.storage_engine.maintenance.metadata_table import FIRST_MILLIS, SCHEMA, MetadataTable

NOW = FIRST_MILLIS + 10_000


def table_of(count: int) -> MetadataTable:
    table = MetadataTable.in_memory()
    for _ in range(count):
        table.append(table.store)
    return table


def left(table: MetadataTable) -> list[int]:
    return table.store.snapshots.ids()


@pytest.mark.parametrize(
    ("least", "most", "older_than", "deletes", "expected"),
    [
        (1, 1, 0, 50, [12]),  # more than the most always goes
        (5, 100, NOW, 50, [8, 9, 10, 11, 12]),  # fewer than the least never
        (1, 100, FIRST_MILLIS + 4, 50, [4, 5, 6, 7, 8, 9, 10, 11, 12]),  # in between by age: 4 is not older
        (1, 6, FIRST_MILLIS + 4, 50, [7, 8, 9, 10, 11, 12]),
        (1, 1, NOW, 3, [4, 5, 6, 7, 8, 9, 10, 11, 12]),  # so many in one run
        (20, 30, NOW, 50, list(range(1, 13))),
    ],
)
def test_which_snapshots_go(least: int, most: int, older_than: int, deletes: int, expected: list[int]) -> None:
    table = table_of(12)
    gone = expire_snapshots(
        table.store, SCHEMA, retain_min=least, retain_max=most, older_than_millis=older_than, max_deletes=deletes
    )
    assert left(table) == expected
    assert gone == 12 - len(expected)
    table.check_no_leftovers()
    if gone:
        assert table.io.read_bytes(table.store.paths.snapshot_hint_file("EARLIEST")) == str(expected[0]).encode()
        with pytest.raises(SnapshotExpired, match=f"earliest is {expected[0]}"):
            table.store.snapshots.get(1)


def test_the_options_of_the_table_decide() -> None:
    table = table_of(12)
    assert AfterCommit(table.store).run(SCHEMA, now_millis=NOW) == 0, "an hour has not passed"
    assert AfterCommit(table.store).run(SCHEMA, now_millis=NOW + 3_600_000) == 2, "ten are kept"
    assert left(table) == list(range(3, 13))


def test_consumers_are_waited_for() -> None:
    table = table_of(8)
    table.store.consumers.write("slow", 4)
    table.store.consumers.write("fast", 8)
    expire_snapshots(table.store, SCHEMA, retain_min=1, retain_max=1)
    assert left(table) == [4, 5, 6, 7, 8]
    table.store.consumers.write("slow", 2)
    assert expire_snapshots(table.store, SCHEMA, retain_min=1, retain_max=1) == 0


def compacted(*, io_type: type[FileIO] = FileIO) -> MetadataTable:
    """Three files, replaced by one in snapshot 4; the tag ``old`` and the branch ``b`` are of snapshot 3."""
    table = MetadataTable.in_memory(io_type)
    for number in range(3):
        table.append(table.store, changelog=number == 1)
    tags.create_tag(table.store, "old", 3)
    branches.create_branch(table.store, "b", tag="old")
    table.compact(table.store, table.live(table.store))
    table.append(table.store)
    return table


def expire_to_one(table: MetadataTable) -> None:
    expire_snapshots(table.store, SCHEMA, retain_min=1, retain_max=1)
    assert left(table) == [5]


def test_tags_and_branches_keep_their_files() -> None:
    table = compacted()
    before = table.contents()
    expire_to_one(table)
    after = table.contents()
    assert after["main"]["tag old"] == before["main"]["tag old"]
    assert after["b"] == before["b"]
    table.check()


def test_a_branch_keeps_its_files_without_the_tag() -> None:
    table = compacted()
    before = table.contents()
    tags.delete_tag(table.store, SCHEMA, "old")
    expire_to_one(table)
    assert table.contents()["b"] == before["b"]
    table.check()


def test_deleting_the_last_that_kept_them_removes_the_files() -> None:
    table = compacted()
    branches.delete_branch(table.store, "b")
    expire_to_one(table)
    with_tag = table.files()
    tags.delete_tag(table.store, SCHEMA, "old")
    assert len(table.files()) < len(with_tag)
    table.check_no_leftovers()


def test_a_file_that_moved_to_another_level_stays() -> None:
    table = table_of(3)
    live = table.live(table.store)
    table.compact(table.store, live, upgrade=True)
    expire_snapshots(table.store, SCHEMA, retain_min=1, retain_max=1)
    assert {entry.file.file_name for entry in table.live(table.store)} == {entry.file.file_name for entry in live}
    table.check_no_leftovers()


@pytest.mark.parametrize("mistake", ["tags are overlooked", "branches are overlooked", "upgrades count as removals"])
def test_the_check_would_see_a_mistake(mistake: str, monkeypatch: pytest.MonkeyPatch) -> None:
    table = compacted()
    if mistake == "tags are overlooked":
        branches.delete_branch(table.store, "b")
        monkeypatch.setattr(expire, "nearest_below", lambda *_: None)
    elif mistake == "branches are overlooked":
        tags.delete_tag(table.store, SCHEMA, "old")
        monkeypatch.setattr(expire, "names_needed_by_other_branches", lambda *_: set())
    else:
        table.compact(table.store, table.live(table.store), upgrade=True)
        table.append(table.store)
        monkeypatch.setattr(expire, "file_names", lambda _: set())
    expire_snapshots(table.store, SCHEMA, retain_min=1, retain_max=1)
    with pytest.raises((AssertionError, FileMissing), match=r"lack|no such file"):
        table.check()


class TagsMeanwhile(FileIO):
    """Lets somebody else act right before the first snapshot file of an expiry is deleted, or right after the last."""

    act = staticmethod(lambda: None)
    when = ""

    def before_operation(self, operation: str, path: str) -> None:
        if f"{operation} {path.rsplit('/', 1)[-1]}" == self.when:
            type(self).when = ""
            self.act()


@pytest.mark.parametrize("when", ["delete snapshot-1", "delete snapshot-3", "write EARLIEST"])
def test_a_tag_that_is_created_meanwhile_is_whole_or_refused(when: str) -> None:
    table = compacted(io_type=TagsMeanwhile)
    branches.delete_branch(table.store, "b")
    tags.delete_tag(table.store, SCHEMA, "old")
    refused = []

    def tag_snapshot_two() -> None:
        try:
            tags.create_tag(MetadataTable(table.io, table.root).store, "meanwhile", 2)
        except SnapshotExpired:
            refused.append(when)

    TagsMeanwhile.act, TagsMeanwhile.when = staticmethod(tag_snapshot_two), when
    expire_to_one(table)
    assert bool(refused) == (table.store.tags.names() == [])
    assert bool(refused) == (when != "delete snapshot-1")
    table.check()


def test_trouble_after_a_commit_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    table = table_of(12)
    table.io.overwrite(table.store.paths.consumer_file("c"), b"damaged")
    assert AfterCommit(table.store).run(SCHEMA, now_millis=NOW + 3_600_000) == 0
    assert "consumer-c" in caplog.text


def test_what_cannot_be_meant_is_refused() -> None:
    table = table_of(2)
    for least, most in ((0, 5), (3, 2)):
        with pytest.raises(InvalidInput, match="retain_min"):
            expire_snapshots(table.store, SCHEMA, retain_min=least, retain_max=most)

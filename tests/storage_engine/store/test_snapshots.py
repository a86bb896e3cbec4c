"""Snapshots: hints that lie, ids that come again, files that are damaged."""

from __future__ import annotations

import uuid
from dataclasses import replace
from pathlib import Path

import pytest

from storage_engine.errors import CorruptFile, SnapshotExpired, SnapshotNotFound, StorageUnavailable
from storage_engine.spec.snapshot import CommitKind, Snapshot
from storage_engine.store.file_io import FileIO
from storage_engine.store.paths import TablePaths
from storage_engine.store.snapshots import SnapshotStore


def snapshot(snapshot_id: int, user: str = "u") -> Snapshot:
    return Snapshot(
        id=snapshot_id,
        schema_id=0,
        base_manifest_list=f"manifest-list-{uuid.uuid4()}-0",
        delta_manifest_list=f"manifest-list-{uuid.uuid4()}-1",
        commit_user=user,
        commit_identifier=snapshot_id,
        commit_kind=CommitKind.APPEND,
        time_millis=1_700_000_000_000 + snapshot_id,
        total_record_count=1,
        delta_record_count=1,
    )


@pytest.fixture
def place() -> tuple[FileIO, TablePaths]:
    io, root = FileIO.from_url(f"memory://{uuid.uuid4()}")
    return io, TablePaths(root)


def with_snapshots(place: tuple[FileIO, TablePaths], count: int) -> SnapshotStore:
    store = SnapshotStore(*place)
    for snapshot_id in range(1, count + 1):
        assert store.try_create(snapshot(snapshot_id))
    return store


def test_a_new_table_has_none(place: tuple[FileIO, TablePaths]) -> None:
    store = SnapshotStore(*place)
    assert (store.latest(), store.latest_id(), store.earliest_id(), store.ids()) == (None, None, None, [])
    assert list(store.backwards()) == []
    with pytest.raises(SnapshotNotFound, match="none yet"):
        store.get(1)


def test_what_is_created_is_seen_by_others(place: tuple[FileIO, TablePaths]) -> None:
    first = snapshot(1)
    assert SnapshotStore(*place).try_create(first)
    other = SnapshotStore(*place)
    assert other.latest() == first
    assert other.get(1) == first
    assert not other.try_create(snapshot(1, "loser"))
    assert other.latest() == first


@pytest.mark.parametrize("hint", [b"", b"x", b"-1", b"0", b"2", b"999", b"9" * 5000, b"\xff\xfe", b"7\n"])
def test_hints_may_lie(place: tuple[FileIO, TablePaths], hint: bytes) -> None:
    store = with_snapshots(place, 7)
    io, paths = place
    for name in ("LATEST", "EARLIEST"):
        io.overwrite(paths.snapshot_hint_file(name), hint)
    assert store.latest_id() == 7
    assert store.earliest_id() == 1
    for name in ("LATEST", "EARLIEST"):
        io.delete(paths.snapshot_hint_file(name))
    assert store.latest_id() == 7
    assert store.earliest_id() == 1


def test_the_earliest_of_many_snapshots_is_known_without_a_list_of_them(place: tuple[FileIO, TablePaths]) -> None:
    with_snapshots(place, 7)

    class NoLists(FileIO):
        def list_names(self, path: str) -> list[str]:
            raise AssertionError(path)

    io, paths = place
    store = SnapshotStore(NoLists(io._fs), paths)
    assert store.latest_id() == 7
    assert store.earliest_id() == 1, "nothing has expired, so there is no hint"


def test_a_stale_hint_below_the_earliest_snapshot_is_not_believed(place: tuple[FileIO, TablePaths]) -> None:
    store = with_snapshots(place, 7)
    for snapshot_id in range(1, 5):
        store.delete(snapshot_id)
    store.write_latest_hint(2)
    assert store.latest_id() == 7


def test_a_hint_that_cannot_be_written_does_not_fail_the_commit() -> None:
    class NoHints(FileIO):
        def overwrite(self, path: str, data: bytes) -> None:
            raise StorageUnavailable(path)

    io, root = NoHints.from_url(f"memory://{uuid.uuid4()}")
    store = SnapshotStore(io, TablePaths(root))
    assert store.try_create(snapshot(1))
    assert store.latest_id() == 1


def test_ranges(place: tuple[FileIO, TablePaths]) -> None:
    store = with_snapshots(place, 5)
    assert [found.id for found in store.range(1, 4)] == [2, 3, 4]
    assert [found.id for found in store.backwards()] == [5, 4, 3, 2, 1]
    store.delete(1)
    store.delete(2)
    assert [found.id for found in store.backwards()] == [5, 4, 3]
    with pytest.raises(SnapshotExpired, match="earliest is 3"):
        list(store.range(1, 4))
    with pytest.raises(SnapshotNotFound, match="3 to 5") as error:
        store.get(6)
    assert not isinstance(error.value, SnapshotExpired)


def test_a_rollback_by_others_is_noticed(place: tuple[FileIO, TablePaths]) -> None:
    ours, theirs = with_snapshots(place, 6), SnapshotStore(*place)
    assert ours.latest().commit_user == "u"  # type: ignore[union-attr]
    theirs.write_latest_hint(3)
    for snapshot_id in (6, 5, 4):
        theirs.delete(snapshot_id)
    for snapshot_id in range(4, 9):
        assert theirs.try_create(snapshot(snapshot_id, "after"))
    assert ours.latest() == theirs.latest()
    assert [found.commit_user for found in ours.range(0, 8)] == ["u"] * 3 + ["after"] * 5


def test_a_snapshot_that_was_overwritten_is_told(
    place: tuple[FileIO, TablePaths], caplog: pytest.LogCaptureFixture
) -> None:
    io, paths = place
    ours = with_snapshots(place, 2)
    ours.latest()
    assert caplog.text == ""
    io.overwrite(paths.snapshot_file(2), snapshot(2, "without a lock").to_json().encode())
    assert ours.latest().commit_user == "without a lock"  # type: ignore[union-attr]
    assert "snapshot-2 changed" in caplog.text


def test_a_rollback_to_nothing_new_is_noticed(place: tuple[FileIO, TablePaths]) -> None:
    ours, theirs = with_snapshots(place, 6), SnapshotStore(*place)
    for snapshot_id in (6, 5):
        theirs.delete(snapshot_id)
    theirs.write_latest_hint(4)
    assert ours.latest().id == 4  # type: ignore[union-attr]
    with pytest.raises(SnapshotNotFound):
        ours.get(5)


@pytest.mark.parametrize(
    "text",
    [b"", b"{", b"[]", b'"x"', b"null", b"\xff", b'{"id": 1}', b"[" * 100_000],
    ids=["empty", "cut", "list", "string", "null", "bytes", "lacking", "deep"],
)
def test_a_damaged_snapshot_is_a_clear_error(place: tuple[FileIO, TablePaths], text: bytes) -> None:
    io, paths = place
    io.write_new(paths.snapshot_file(1), text)
    with pytest.raises(CorruptFile, match="snapshot-1"):
        SnapshotStore(*place).latest()


@pytest.mark.parametrize("change", [('"id": 1', '"id": 2'), ('"version": 3', '"version": 99')])
def test_a_snapshot_of_another_id_or_version_is_refused(
    place: tuple[FileIO, TablePaths], change: tuple[str, str]
) -> None:
    io, paths = place
    io.write_new(paths.snapshot_file(1), snapshot(1).to_json().replace(*change).encode())
    with pytest.raises(CorruptFile, match="snapshot-1"):
        SnapshotStore(*place).get(1)


def test_a_name_that_is_listed_but_never_readable_ends(tmp_path: Path) -> None:
    io, root = FileIO.from_url(str(tmp_path))
    (tmp_path / "snapshot").mkdir()
    (tmp_path / "snapshot" / "snapshot-1").symlink_to(tmp_path / "nowhere")
    with pytest.raises(StorageUnavailable, match="listed"):
        SnapshotStore(io, TablePaths(root)).latest()


def test_long_lived_changelogs(place: tuple[FileIO, TablePaths]) -> None:
    io, paths = place
    store, kept = SnapshotStore(*place), snapshot(4)
    io.write_new(paths.changelog_file(4), kept.to_json().encode())
    assert store.changelog_ids() == [4]
    assert store.changelog(4) == kept
    with pytest.raises(SnapshotExpired):
        store.changelog(3)


def test_restoring_takes_no_id_that_is_taken(place: tuple[FileIO, TablePaths]) -> None:
    store = with_snapshots(place, 2)
    assert not store.restore(replace(snapshot(2), commit_user="other"))
    assert store.get(2).commit_user == "u"

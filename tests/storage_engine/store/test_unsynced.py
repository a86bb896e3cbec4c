"""What is not durable yet: synced in one go, and never trusted once that failed."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from storage_engine.errors import StorageUnavailable
from storage_engine.store.file_io import FileIO
from storage_engine.store.unsynced import LARGE_BYTES


class Disk:
    """Notes which files and directories are synced; refuses those whose name it is told."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.synced: list[str] = []
        self.refused: set[str] = set()
        real = os.fsync

        def fsync(descriptor: int) -> None:
            name = os.path.basename(os.readlink(f"/proc/self/fd/{descriptor}"))
            if name in self.refused:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            self.synced.append(name)
            real(descriptor)

        monkeypatch.setattr(os, "fsync", fsync)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch)


def test_small_files_are_synced_together_and_once(tmp_path: Path, disk: Disk) -> None:
    io, root = FileIO.from_url(str(tmp_path))
    for name in ("a", "b"):
        io.write_new(f"{root}/data/{name}", b"rows")
    assert disk.synced == []
    io.sync()
    assert sorted(disk.synced) == sorted(["a", "b", "data", tmp_path.name])
    io.sync()
    assert len(disk.synced) == 4


def test_a_large_file_is_synced_by_its_writer(tmp_path: Path, disk: Disk) -> None:
    io, root = FileIO.from_url(str(tmp_path))
    io.write_new(f"{root}/large", bytes(LARGE_BYTES))
    assert disk.synced == ["large"]


def test_very_many_files_are_not_all_kept_open(tmp_path: Path, disk: Disk) -> None:
    io, root = FileIO.from_url(str(tmp_path))
    for number in range(300):
        io.write_new(f"{root}/data-{number}", b"rows")
    assert sum(name.startswith("data-") for name in disk.synced) >= 150


def test_a_removed_file_is_not_synced(tmp_path: Path, disk: Disk) -> None:
    io, root = FileIO.from_url(str(tmp_path))
    io.write_new(f"{root}/a", b"rows")
    io.delete(f"{root}/a")
    io.sync(["a"])
    assert "a" not in disk.synced


def test_what_could_not_be_synced_is_never_shown(tmp_path: Path, disk: Disk) -> None:
    io, root = FileIO.from_url(str(tmp_path))
    io.write_new(f"{root}/data/mine", b"rows")
    disk.refused = {"mine"}
    with pytest.raises(StorageUnavailable, match="mine could not be made durable"):
        io.create_exclusive(f"{root}/snapshot/snapshot-1", b"{}", needs=["mine"])
    disk.refused = set()  # a second sync would say that all is well
    with pytest.raises(StorageUnavailable, match="write again"):
        io.create_exclusive(f"{root}/snapshot/snapshot-1", b"{}", needs=["mine"])
    assert os.listdir(tmp_path / "snapshot") == []


def test_who_does_not_need_a_lost_file_goes_on_and_who_does_is_told(tmp_path: Path, disk: Disk) -> None:
    """Two writers share a ``FileIO``: one's commit syncs the other's files, too."""
    io, root = FileIO.from_url(str(tmp_path))
    io.write_new(f"{root}/data/mine", b"rows")
    io.write_new(f"{root}/data/yours", b"rows")
    disk.refused = {"yours"}
    assert io.create_exclusive(f"{root}/snapshot/snapshot-1", b"{}", needs=["mine"])
    disk.refused = set()
    with pytest.raises(StorageUnavailable, match="yours"):
        io.sync(["yours"])
    io.delete(f"{root}/data/yours")
    io.write_new(f"{root}/data/yours", b"once more")
    assert io.create_exclusive(f"{root}/snapshot/snapshot-2", b"{}", needs=["yours"])


def test_a_directory_that_could_not_be_synced_is_tried_again(tmp_path: Path, disk: Disk) -> None:
    io, root = FileIO.from_url(str(tmp_path))
    io.write_new(f"{root}/data/mine", b"rows")
    disk.refused = {"data"}
    with pytest.raises(StorageUnavailable, match="data"):
        io.sync()
    disk.refused = set()
    io.sync(["mine"])
    assert "data" in disk.synced


def test_a_snapshot_that_is_not_durable_is_not_shown(tmp_path: Path, disk: Disk) -> None:
    io, root = FileIO.from_url(str(tmp_path))
    assert io.create_exclusive(f"{root}/snapshot/snapshot-1", b"{}")
    temporary = [name for name in disk.synced if name.startswith(".snapshot-1.")]
    assert len(temporary) == 1

"""FileIO on a local disk and in memory."""

from __future__ import annotations

import os
import uuid
from pathlib import Path

import pytest

from storage_engine.errors import FileMissing, InvalidInput, StorageUnavailable, Unsupported
from storage_engine.store.file_io import FileIO


@pytest.fixture(params=["local", "memory"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[FileIO, str]:
    return FileIO.from_url(str(tmp_path) if request.param == "local" else f"memory://{uuid.uuid4()}")


def test_what_is_written_is_read(place: tuple[FileIO, str]) -> None:
    io, root = place
    io.write_new(f"{root}/a/b/file", b"content")
    assert io.read_bytes(f"{root}/a/b/file") == b"content"
    assert io.size(f"{root}/a/b/file") == 7
    assert io.exists(f"{root}/a/b/file")
    with io.open_input(f"{root}/a/b/file") as file:
        file.seek(3)
        assert file.read() == b"tent"


def test_readers_of_one_file_do_not_disturb_each_other(place: tuple[FileIO, str]) -> None:
    io, root = place
    io.write_new(f"{root}/file", b"content")
    with io.open_input(f"{root}/file") as first, io.open_input(f"{root}/file") as second:
        assert first.read(3) == b"con"
        assert second.read(3) == b"con"


def test_hints_are_replaced(place: tuple[FileIO, str]) -> None:
    io, root = place
    io.overwrite(f"{root}/snapshot/LATEST", b"12")
    io.overwrite(f"{root}/snapshot/LATEST", b"3")
    assert io.read_bytes(f"{root}/snapshot/LATEST") == b"3"
    assert io.list_names(f"{root}/snapshot") == ["LATEST"]


def test_exclusive_creation_has_one_winner(place: tuple[FileIO, str]) -> None:
    io, root = place
    assert io.create_exclusive(f"{root}/snapshot/snapshot-1", b"first")
    assert not io.create_exclusive(f"{root}/snapshot/snapshot-1", b"second")
    assert io.read_bytes(f"{root}/snapshot/snapshot-1") == b"first"
    assert io.list_names(f"{root}/snapshot") == ["snapshot-1"], "no temporary file stays"


def test_listings(place: tuple[FileIO, str]) -> None:
    io, root = place
    for name in ("b/2", "b/1", "b/c/3", "d"):
        io.write_new(f"{root}/{name}", name.encode())
    assert io.list_names(f"{root}/b") == ["1", "2", "c"]
    assert [info.path for info in io.list_files(f"{root}/b")] == [f"{root}/b/1", f"{root}/b/2"]
    found = io.list_files(root, recursive=True)
    assert [info.path.removeprefix(root) for info in found] == ["/b/1", "/b/2", "/b/c/3", "/d"]
    assert [info.size for info in found] == [3, 3, 5, 1]
    assert all(info.modified_millis > 1_600_000_000_000 for info in found)


def test_what_is_not_there(place: tuple[FileIO, str]) -> None:
    io, root = place
    path = f"{root}/nowhere/file"
    assert not io.exists(path)
    assert io.list_names(f"{root}/nowhere") == []
    assert io.list_files(f"{root}/nowhere", recursive=True) == []
    io.delete(path)
    io.delete_directory(f"{root}/nowhere")
    for read in (io.read_bytes, io.size, io.open_input):
        with pytest.raises(FileMissing, match=path):
            read(path)


def test_files_and_directories_are_deleted(place: tuple[FileIO, str]) -> None:
    io, root = place
    for name in ("a/1", "a/b/2", "c"):
        io.write_new(f"{root}/{name}", b"x")
    io.delete(f"{root}/c")
    io.delete_directory(f"{root}/a")
    assert io.list_files(root, recursive=True) == []


def test_a_writer_that_fails_leaves_nothing(place: tuple[FileIO, str]) -> None:
    io, root = place
    with pytest.raises(ZeroDivisionError), io.open_output(f"{root}/half") as file:  # noqa: PT012
        file.write(b"half")
        file.write(bytes([1 // 0]))
    assert not io.exists(f"{root}/half")


def test_a_name_is_never_written_twice_on_disk(tmp_path: Path) -> None:
    io, root = FileIO.from_url(str(tmp_path))
    io.write_new(f"{root}/data-1", b"first")
    with pytest.raises(StorageUnavailable, match="data-1"):
        io.write_new(f"{root}/data-1", b"second")
    assert io.read_bytes(f"{root}/data-1") == b"first"


def test_refusals_of_the_disk_are_storage_unavailable(tmp_path: Path) -> None:
    io, root = FileIO.from_url(str(tmp_path))
    io.write_new(f"{root}/file", b"")
    name = "x" * 300
    for call in (
        lambda: io.write_new(f"{root}/file/below", b""),
        lambda: io.write_new(f"{root}/{name}", b""),
        lambda: io.create_exclusive(f"{root}/file/below", b""),
        lambda: io.overwrite(f"{root}/file/below", b""),
        lambda: io.list_names(f"{root}/file"),
        lambda: io.read_bytes(root),
    ):
        with pytest.raises(StorageUnavailable, match=f"cannot .* {root}"):
            call()


@pytest.mark.parametrize("url", ["{}", "file://{}", "local://{}", "{}/"])
def test_forms_of_a_local_address(url: str, tmp_path: Path) -> None:
    io, root = FileIO.from_url(url.format(tmp_path))
    assert root == str(tmp_path)
    assert io.local_path(f"{root}/x") == f"{root}/x"


def test_a_relative_path_becomes_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert FileIO.from_url("warehouse")[1] == f"{tmp_path}/warehouse"


def test_memory_has_no_local_path() -> None:
    io, root = FileIO.from_url("memory://somewhere")
    assert io.local_path(f"{root}/x") is None


def test_an_unknown_scheme_is_an_error_of_the_caller() -> None:
    with pytest.raises(InvalidInput, match="nonsense"):
        FileIO.from_url("nonsense://x")


def test_a_store_without_exclusive_creation_is_refused(tmp_path: Path) -> None:
    io, root = FileIO.from_url(f"dir://{tmp_path}", {"target_protocol": "file", "path": str(tmp_path)})
    with pytest.raises(Unsupported, match="exclusively"):
        io.create_exclusive(f"{root}/x", b"")


def test_credentials_are_in_no_repr_and_no_message() -> None:
    secret = "wJalrXUtnFEMIK7MDENG"
    options = {"key": "AKIDEXAMPLE", "secret": secret, "client_kwargs": {"aws_session_token": "token-of-mine"}}
    pytest.importorskip("s3fs")
    io, _ = FileIO.from_url("s3://bucket/warehouse", options)
    assert repr(io) == "FileIO('s3')"
    text = io._without_secrets(OSError(f"denied for AKIDEXAMPLE with {secret} and token-of-mine"))
    assert text == "denied for *** with *** and ***"


class Recorder(FileIO):
    """Notes each step before it is done."""

    steps: list[str]

    def before_operation(self, operation: str, path: str) -> None:
        self.steps = [*getattr(self, "steps", []), f"{operation} {os.path.basename(path)}"]


def test_data_is_durable_before_a_snapshot_shows_it(tmp_path: Path) -> None:
    io, root = Recorder.from_url(str(tmp_path))
    io.write_new(f"{root}/bucket-0/data-1", b"rows")
    io.steps = []
    io.create_exclusive(f"{root}/snapshot/snapshot-1", b"{}")
    link = io.steps.index("link snapshot-1")
    assert io.steps.index("sync directory bucket-0") < link
    assert io.steps.index(f"sync directory {tmp_path.name}") < link, "the directory that holds bucket-0"
    assert io.steps.index("sync directory snapshot") > -1
    assert "sync directory snapshot" in io.steps[link:]


def test_without_fsync_nothing_is_synced(tmp_path: Path) -> None:
    io, root = Recorder.from_url(str(tmp_path), fsync=False)
    io.write_new(f"{root}/bucket-0/data-1", b"rows")
    io.create_exclusive(f"{root}/snapshot/snapshot-1", b"{}")
    assert not [step for step in io.steps if step.startswith("sync")]

"""Exclusive creation: processes that race, and stores that lose their answers."""

from __future__ import annotations

import errno
import multiprocessing
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from storage_engine.errors import CommitStateUnknown, StorageUnavailable, Unsupported
from storage_engine.store import exclusive_create
from storage_engine.store.exclusive_create import create_conditionally, create_in_memory, create_local
from storage_engine.store.file_io import FileIO

PROCESSES, COMMITS = 8, 25


def no_hook(operation: str, path: str) -> None:
    """Nothing happens between the steps."""


def synced(path: str, descriptor: int) -> None:
    """The new file alone is made durable."""
    os.fsync(descriptor)


def commit_many(directory: str, me: int, acknowledged: Any) -> None:
    """Create ``COMMITS`` snapshots, each with the next free number, and tell which ones."""
    number, mine = 1, []
    while len(mine) < COMMITS:
        if create_local(f"{directory}/snapshot-{number}", f"{me} {len(mine)}".encode(), sync=None, before=no_hook):
            mine.append(number)
        number += 1
    acknowledged.put((me, mine))


def test_of_eight_processes_one_wins_each_number(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    acknowledged = context.Queue()
    processes = [context.Process(target=commit_many, args=(str(tmp_path), me, acknowledged)) for me in range(PROCESSES)]
    for process in processes:
        process.start()
    found = dict(acknowledged.get(timeout=60) for _ in processes)
    for process in processes:
        process.join()
    numbers = sorted(number for mine in found.values() for number in mine)
    assert numbers == list(range(1, PROCESSES * COMMITS + 1)), "every number was acknowledged once"
    for me, mine in found.items():
        for count, number in enumerate(mine):
            assert (tmp_path / f"snapshot-{number}").read_bytes() == f"{me} {count}".encode()
    assert len(os.listdir(tmp_path)) == PROCESSES * COMMITS, "no temporary file stays"


def test_of_many_threads_one_wins_in_memory() -> None:
    io, root = FileIO.from_url("memory://race-in-memory")
    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(lambda me: create_in_memory(io._fs, f"{root}/x", str(me).encode()), range(200)))
    assert won.count(True) == 1
    assert io.read_bytes(f"{root}/x") == str(won.index(True)).encode()


def test_a_link_whose_answer_was_lost_is_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.link

    def link_and_lose_the_answer(source: str, target: str) -> None:
        real(source, target)
        raise FileExistsError(errno.EEXIST, "a second try of the network file system found the first one's file")

    monkeypatch.setattr(os, "link", link_and_lose_the_answer)
    assert create_local(str(tmp_path / "x"), b"mine", sync=synced, before=no_hook)


def without_links(code: int) -> Callable[[str, str], None]:
    def link(source: str, target: str) -> None:
        raise OSError(code, os.strerror(code), target)

    return link


@pytest.mark.parametrize("code", [errno.EPERM, errno.ENOTSUP])
def test_without_hard_links_a_rename_that_never_replaces_serves(
    code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "link", without_links(code))
    path = str(tmp_path / "x")
    assert create_local(path, b"first", sync=synced, before=no_hook)
    assert not create_local(path, b"second", sync=synced, before=no_hook)
    assert (tmp_path / "x").read_bytes() == b"first"
    assert os.listdir(tmp_path) == ["x"]


def test_a_disk_that_has_neither_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "link", without_links(errno.EPERM))
    monkeypatch.setattr(exclusive_create.ctypes, "CDLL", lambda *_, **__: object())
    with pytest.raises(Unsupported, match="hard links"):
        create_local(str(tmp_path / "x"), b"", sync=synced, before=no_hook)
    assert os.listdir(tmp_path) == []


def test_a_full_disk_is_storage_unavailable_and_nothing_is_created(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    io, root = FileIO.from_url(str(tmp_path))
    monkeypatch.setattr(os, "link", without_links(errno.ENOSPC))
    with pytest.raises(StorageUnavailable, match="No space left"):
        io.create_exclusive(f"{root}/x", b"")
    assert os.listdir(tmp_path) == []


def test_a_created_file_that_may_not_be_durable_is_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_sync(path: str) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO), path)

    monkeypatch.setattr(exclusive_create, "sync_local_directory", no_sync)
    with pytest.raises(CommitStateUnknown, match="synced"):
        create_local(str(tmp_path / "x"), b"", sync=synced, before=no_hook)


class ClientError(Exception):
    """An error of a store's client that is no OSError."""

    def __init__(self, status: int) -> None:
        super().__init__(f"HTTP {status}")
        self.response = {"ResponseMetadata": {"HTTPStatusCode": status}}


class ObjectStore:
    """Objects with a conditional PUT. ``before`` and ``after`` are errors of the next PUT, ``away`` of each GET."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.before: Exception | None = None
        self.after: Exception | None = None
        self.away: Exception | None = None

    def pipe_file(self, path: str, data: bytes, mode: str) -> None:
        assert mode == "create"
        if self.before is not None:
            raise self.before
        if path in self.objects:
            raise FileExistsError(path)
        self.objects[path] = data
        if self.after is not None:
            raise self.after

    def cat_file(self, path: str) -> bytes:
        if self.away is not None:
            raise self.away
        if path not in self.objects:
            raise FileNotFoundError(path)
        return self.objects[path]

    def invalidate_cache(self) -> None:
        """Nothing is cached."""


def create(store: ObjectStore, data: bytes = b"mine") -> bool:
    return create_conditionally(store, "x", data, foreign_errors=(ClientError,))


def test_an_object_is_created_once() -> None:
    store = ObjectStore()
    assert create(store)
    assert not create(store, b"other")
    assert store.objects == {"x": b"mine"}


LOST = [TimeoutError("no answer"), OSError("cut"), ClientError(500), ClientError(409), FileExistsError("own first PUT")]


@pytest.mark.parametrize("error", LOST, ids=repr)
def test_a_put_whose_answer_was_lost_is_ours(error: Exception) -> None:
    store = ObjectStore()
    store.after = error
    assert create(store)


@pytest.mark.parametrize("error", [ClientError(412), TimeoutError(), ClientError(503)], ids=repr)
def test_a_put_that_failed_where_another_object_stands_has_lost(error: Exception) -> None:
    store = ObjectStore()
    store.objects["x"] = b"other"
    store.before = error
    assert not create(store)


@pytest.mark.parametrize("error", [ClientError(503), TimeoutError()], ids=repr)
def test_a_put_that_may_still_arrive_is_unknown(error: Exception) -> None:
    store = ObjectStore()
    store.before = error
    with pytest.raises(CommitStateUnknown, match="did not tell"):
        create(store)


@pytest.mark.parametrize("error", [ClientError(412), TimeoutError()], ids=repr)
def test_what_cannot_be_read_back_is_unknown(error: Exception) -> None:
    store = ObjectStore()
    store.before, store.away = error, ClientError(500)
    with pytest.raises(CommitStateUnknown, match="could not be read back"):
        create(store)


def caused_by(cause: Exception) -> OSError:
    error = OSError("not implemented")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize("error", [ClientError(501), caused_by(ClientError(501)), NotImplementedError()], ids=repr)
def test_a_store_without_conditional_put_is_refused(error: Exception) -> None:
    store = ObjectStore()
    store.before = error
    with pytest.raises(Unsupported, match="conditional PUT"):
        create(store)


def test_a_refusal_is_an_answer() -> None:
    store = ObjectStore()
    store.before = PermissionError("Forbidden")
    with pytest.raises(PermissionError):
        create(store)

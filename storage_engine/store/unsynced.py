"""What was written to a local disk and is not durable yet: synced together, right before something makes it visible.

To sync many files at once takes a disk about as long as to sync one; one by one, each waits for the one before.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from typing import Final

from storage_engine.errors import FileMissing, StorageUnavailable
from storage_engine.store.exclusive_create import sync_local_directory
from storage_engine.store.threads import side_by_side

LARGE_BYTES: Final = 4 << 20
"""A file of this size is synced by its writer, beside what others do, so that the disk does not get all of it at the end."""
_MOST_FILES = 128
_THREADS = 16

Translated = Callable[[str, str], AbstractContextManager[None]]
"""In it, errors of an operation on a path become the engine's."""


@dataclass(frozen=True, slots=True)
class _Pending:
    """A file (None: a directory), open under a descriptor. ``lasts``: its failure is noted, not raised."""

    path: str
    descriptor: int | None = None
    lasts: bool = True


class Unsynced:
    """Files and directories of one ``FileIO``. Safe between threads.

    A file whose sync failed is never trusted, although the system may say of a second sync that it succeeded: it stays noted
    until it is removed.
    """

    def __init__(self, translated: Translated) -> None:
        self._translated = translated
        self._pending: dict[str, _Pending] = {}
        self._failed: dict[str, StorageUnavailable] = {}
        self._lock = threading.Lock()
        self._syncing = threading.Lock()

    def add(self, path: str, descriptor: int) -> None:
        """A file that was written whole. It is kept open, since the disk tells its errors to who has it open."""
        with self._lock:
            self._pending[path] = _Pending(path, os.dup(descriptor))
            are_many = len(self._pending) > _MOST_FILES
        if are_many:
            self.sync()

    def add_directory(self, path: str) -> None:
        """A directory that got a new name."""
        with self._lock:
            self._pending.setdefault(path, _Pending(path))

    def forget(self, path: str) -> None:
        """A file that was removed."""
        with self._lock:
            self._failed.pop(path, None)
            pending = self._pending.pop(path, None)
        if pending is not None and pending.descriptor is not None:
            os.close(pending.descriptor)

    def sync(self, names: Iterable[str] = (), *, temporary: tuple[str, int] | None = None) -> None:
        """Make all durable, and with it a ``temporary`` file (path and descriptor).

        Raises StorageUnavailable if that, a directory, or a file of one of ``names`` is not durable, whoever synced it.
        """
        with self._syncing:  # who finds nothing left to sync must not overtake who is still syncing it
            with self._lock:
                pending, self._pending = self._pending, {}
            done: set[str] = set()

            def sync(each: _Pending) -> None:
                self._sync(each)
                done.add(each.path)

            work = [pending[path] for path in sorted(pending)]
            if temporary is not None:
                work.append(_Pending(*temporary, lasts=False))
            try:
                side_by_side(sync, work, threads=_THREADS)
            finally:
                with self._lock:
                    self._pending = {path: each for path, each in pending.items() if path not in done} | self._pending
        self._check(names)

    def _sync(self, pending: _Pending) -> None:
        if pending.descriptor is None:
            with suppress(FileMissing), self._translated("sync directory", pending.path):
                sync_local_directory(pending.path)
        elif not pending.lasts:
            os.fsync(pending.descriptor)
        else:
            try:
                with self._translated("sync", pending.path):
                    os.fsync(pending.descriptor)
            except StorageUnavailable as cause:
                with self._lock:
                    self._failed[pending.path] = cause
            os.close(pending.descriptor)

    def _check(self, names: Iterable[str]) -> None:
        if not self._failed:
            return
        wanted = frozenset(names)
        with self._lock:
            failed = {path: cause for path, cause in self._failed.items() if os.path.basename(path) in wanted}
        for path, cause in failed.items():
            raise StorageUnavailable(
                f"{path} could not be made durable, so nothing may show it; write again"
            ) from cause

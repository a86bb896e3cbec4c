"""A file system that fails, dies, loses power or is interrupted at a chosen step."""

from __future__ import annotations

import os
import random
import shutil
import threading
from collections.abc import Callable
from enum import StrEnum
from typing import Any

from storage_engine.errors import StorageUnavailable
from storage_engine.store.file_io import FileIO

CHANGES = frozenset(
    {"write", "sync", "create", "write temporary", "link", "after link", "sync directory", "replace", "delete"}
    | {"make directory", "rename"}
)
"""Steps that change the store, or stand right behind one that did."""


class Killed(BaseException):
    """The process ends here."""


class Fault(StrEnum):
    """What happens at the chosen step."""

    FAILS = "the disk refuses this step"
    IS_AWAY = "the disk refuses this step and all that follow"
    DIES = "the process ends; what it was writing stays in part"
    LOSES_POWER = "the process ends; of what was not synced the disk forgets some"
    IS_INTERRUPTED = "somebody else does something; the step then works"


_FOR_GOOD = frozenset({Fault.IS_AWAY, Fault.DIES, Fault.LOSES_POWER})
_DEADLY = frozenset({Fault.DIES, Fault.LOSES_POWER})


class FaultyFileIO(FileIO):
    """Meets one fault, at step ``at`` since it was armed, counted from 1. Leftovers are made on local disks only."""

    def __init__(self, filesystem: Any, *, fsync: bool = True) -> None:
        super().__init__(filesystem, fsync=fsync)
        self._steps_lock = threading.Lock()
        self.arm(None)

    def arm(self, fault: Fault | None, *, at: int = 0, interrupt: Callable[[], None] | None = None) -> None:
        """Count anew, and meet this fault (None: no fault)."""
        self._fault, self._at, self._interrupt = fault, at, interrupt
        self.steps: list[tuple[str, str]] = []
        self.struck: str | None = None

    def before_operation(self, operation: str, path: str) -> None:
        with self._steps_lock:
            self.steps.append((operation, path))
            is_first = len(self.steps) == self._at and self._fault is not None
            if is_first:
                self.struck = operation
            elif self.struck is None or self._fault not in _FOR_GOOD:
                return
        if is_first:
            self._prepare(operation, path)
        if self._fault in _DEADLY:
            raise Killed(f"{operation} {path}")
        if self._fault is not Fault.IS_INTERRUPTED:
            raise StorageUnavailable(f"cannot {operation} {path}: a fault was injected")

    def _prepare(self, operation: str, path: str) -> None:
        if self._fault is Fault.IS_INTERRUPTED and self._interrupt is not None:
            self._interrupt()
        elif self._fault is Fault.DIES and self.local_path(path) is not None:
            _leave_behind(operation, path)
        elif self._fault is Fault.LOSES_POWER and self.local_path(path) is not None:
            _forget_unsynced(self.steps[: self._at - 1], self._fsync, random.Random(self._at))


def _leave_behind(operation: str, path: str) -> None:
    """What a process leaves that ends within a step: half a file, or a temporary one."""
    directory, name = os.path.split(path)
    if operation == "write" and "-" in name and not os.path.exists(path):
        os.makedirs(directory, exist_ok=True)
        _write(path, b"torn")
    elif operation == "write temporary":
        _write(path, b"torn")
    elif operation == "sync":
        os.truncate(path, os.path.getsize(path) // 2)
    elif operation in ("link", "after link", "replace"):
        temporary = next(found for found in os.listdir(directory) if found.startswith(f".{name}."))
        os.link(f"{directory}/{temporary}", f"{directory}/.{name}.left.tmp")


def _write(path: str, data: bytes) -> None:
    with open(path, "xb") as file:
        file.write(data)


def _forget_unsynced(steps: list[tuple[str, str]], links_synced_files: bool, chance: random.Random) -> None:
    contents: set[str] = set()
    names: set[str] = set()
    for operation, path in steps:
        if operation in ("write", "replace") or (operation == "link" and not links_synced_files):
            contents.add(path)
        if operation in ("write", "replace", "link", "make directory"):
            names.add(path)
        elif operation == "sync":
            contents.discard(path)
        elif operation == "sync directory":
            names -= {name for name in names if os.path.dirname(name) == path}
    for path in sorted(contents):
        if os.path.isfile(path) and chance.random() < 0.5:
            os.truncate(path, os.path.getsize(path) // 2)
    for path in sorted(names):
        if chance.random() < 0.5:
            shutil.rmtree(path, ignore_errors=True) if os.path.isdir(path) else _unlink(path)


def _unlink(path: str) -> None:
    if os.path.exists(path):
        os.unlink(path)

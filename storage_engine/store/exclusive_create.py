"""Creating a file so that of any number of writers at most one wins, for each kind of store.

The law: the answer is *created* (True), *somebody else's stands there* (False), or *unknown*
(CommitStateUnknown). What a store cannot do atomically is refused (Unsupported), never emulated by a look and
a write.

A store may lose its answer after it did the work, and a client that retries by itself may then meet its own
first write. So no refusal is believed before the bytes that stand there were compared with those that were
sent; the bytes must therefore differ between any two attempts.
"""

from __future__ import annotations

import ctypes
import errno
import os
import threading
import uuid
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from storage_engine.errors import CommitStateUnknown, Unsupported

BeforeOperation = Callable[[str, str], None]
Sync = Callable[[str, int], None]
"""Takes the path and the descriptor of a file."""

_MEMORY_LOCK = threading.Lock()
_AT_FDCWD = -100
_RENAME_NOREPLACE = 1
_NO_HARD_LINKS = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})
_HTTP_NOT_IMPLEMENTED = 501


def create_local(path: str, data: bytes, *, sync: Sync | None, before: BeforeOperation) -> bool:
    """Create a file on a local or mounted disk by linking a finished temporary file to its name.

    ``sync`` makes that file durable, and whatever it needs; without it nothing is.
    """
    directory, name = os.path.split(path)
    temporary = os.path.join(directory, f".{name}.{uuid.uuid4()}.tmp")
    try:
        before("write temporary", temporary)
        with open(temporary, "xb") as file:
            file.write(data)
            if sync is not None:
                file.flush()
                sync(temporary, file.fileno())
        before("link", path)
        created = _link(temporary, path)
        before("after link", path)
    finally:
        # A temporary file that stays is an orphan; a created file is not a failure because of it.
        with suppress(OSError):
            os.unlink(temporary)
    if created and sync is not None:
        try:
            before("sync directory", directory)
            sync_local_directory(directory)
        except OSError as cause:
            raise CommitStateUnknown(f"{path} was created, but its directory could not be synced: {cause}") from cause
    return created


def _link(temporary: str, path: str) -> bool:
    try:
        os.link(temporary, path)
    except OSError as cause:
        # A network file system may have linked and lost the answer.
        if _is_same_file(temporary, path):
            return True
        if cause.errno == errno.EEXIST:
            return False
        if cause.errno in _NO_HARD_LINKS:
            return _rename_without_replacing(temporary, path)
        raise
    return True


def _is_same_file(first: str, second: str) -> bool:
    try:
        return os.path.samefile(first, second)
    except FileNotFoundError:
        return False
    except OSError as cause:
        raise CommitStateUnknown(f"the file system did not tell whether {second} was created: {cause}") from cause


def _rename_without_replacing(temporary: str, path: str) -> bool:
    library = ctypes.CDLL(None, use_errno=True)
    try:
        rename = library.renameat2
    except AttributeError as cause:
        raise Unsupported(_no_exclusive_create(path)) from cause
    if rename(_AT_FDCWD, os.fsencode(temporary), _AT_FDCWD, os.fsencode(path), _RENAME_NOREPLACE) == 0:
        return True
    code = ctypes.get_errno()
    if code == errno.EEXIST:
        return False
    if code in (errno.EINVAL, errno.ENOSYS):
        raise Unsupported(_no_exclusive_create(path))
    raise OSError(code, os.strerror(code), path)


def _no_exclusive_create(path: str) -> str:
    return (
        f"{path}: this file system has neither hard links nor a rename that never replaces, so two commits"
        " could overwrite each other; put the warehouse on another file system or an object store"
    )


def sync_local_directory(path: str) -> None:
    """Make the names in a directory durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def create_in_memory(filesystem: Any, path: str, data: bytes) -> bool:
    """Create a file of fsspec's memory file system, which is one per process: one lock serves."""
    with _MEMORY_LOCK:
        if filesystem.exists(path):
            return False
        filesystem.pipe_file(path, data)
    return True


def create_conditionally(
    filesystem: Any, path: str, data: bytes, *, foreign_errors: tuple[type[Exception], ...]
) -> bool:
    """Create an object by a conditional PUT (S3 ``If-None-Match: *``, GCS generation 0, Azure likewise)."""
    errors: tuple[type[Exception], ...] = (OSError, *foreign_errors)
    try:
        filesystem.pipe_file(path, data, mode="create")
    except (NotImplementedError, TypeError) as cause:
        raise Unsupported(f"{path}: this store has no conditional PUT: {cause}") from cause
    except PermissionError:
        raise  # a refusal is an answer: nothing was created
    except errors as cause:
        if http_status(cause) == _HTTP_NOT_IMPLEMENTED:
            raise Unsupported(f"{path}: this store has no conditional PUT: {cause}") from cause
        return _read_back(filesystem, path, data, cause, errors)
    return True


def _read_back(
    filesystem: Any,
    path: str,
    data: bytes,
    cause: Exception,
    errors: tuple[type[Exception], ...],
) -> bool:
    try:
        filesystem.invalidate_cache()
        return bool(filesystem.cat_file(path) == data)
    except errors as second:
        raise CommitStateUnknown(
            f"the store did not tell whether {path} was created ({type(cause).__name__}), "
            f"and it could not be read back ({type(second).__name__})"
        ) from cause


def http_status(error: BaseException | None) -> int | None:
    """The HTTP status that an error of a store's client, or one of its causes, carries."""
    while error is not None:
        response = getattr(error, "response", None)
        if isinstance(response, dict):
            status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
            if isinstance(status, int):
                return status
        error = error.__cause__
    return None

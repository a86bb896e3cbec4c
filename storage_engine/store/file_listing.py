"""Files in a listing: of a local directory, or as a file system of fsspec tells them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

_MODIFIED_KEYS = ("mtime", "LastModified", "last_modified", "updated", "modified", "created")


@dataclass(frozen=True, slots=True, kw_only=True)
class FileInfo:
    """A file in a listing. ``modified_millis``: epoch milliseconds, 0 where the store does not tell."""

    path: str
    size: int
    modified_millis: int


def local_files(directory: str, *, recursive: bool) -> Iterator[FileInfo]:
    """Files below a local directory; those that go meanwhile are left out."""
    for folder, _, names in os.walk(directory, onerror=_raise_unless_gone):
        for name in names:
            path = os.path.join(folder, name)
            with suppress(FileNotFoundError):
                found = os.stat(path)
                yield FileInfo(path=path, size=found.st_size, modified_millis=int(found.st_mtime * 1000))
        if not recursive:
            return


def _raise_unless_gone(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error


def file_info(path: str, info: Mapping[str, Any]) -> FileInfo:
    """What fsspec says of a file."""
    modified = next((info[key] for key in _MODIFIED_KEYS if info.get(key) is not None), 0)
    if isinstance(modified, str):
        modified = datetime.fromisoformat(modified)
    if isinstance(modified, datetime):
        modified = (modified if modified.tzinfo else modified.replace(tzinfo=UTC)).timestamp()
    return FileInfo(path=path, size=int(info.get("size") or 0), modified_millis=int(modified * 1000))

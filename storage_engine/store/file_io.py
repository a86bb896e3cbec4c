"""``FileIO``: every byte that the engine reads or writes goes through here, over any fsspec file system.

Paths are paths inside the file system, as ``FileIO.from_url`` gives the first one. Errors of the stores
become the engine's own: a missing file is FileMissing, everything else that a store refuses is
StorageUnavailable. Credentials stay inside the fsspec object: they are in no repr and in no message.
"""

from __future__ import annotations

import importlib
import os
import shutil
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from io import BytesIO
from typing import IO, Any, Self, cast

from storage_engine.errors import FileMissing, InvalidInput, StorageUnavailable, Unsupported
from storage_engine.store.exclusive_create import (
    create_conditionally,
    create_in_memory,
    create_local,
    sync_local_directory,
)
from storage_engine.store.file_listing import FileInfo, file_info, local_files
from storage_engine.store.unsynced import LARGE_BYTES, Unsynced

_LOCAL_PROTOCOLS = frozenset({"file", "local"})
_MEMORY_PROTOCOLS = frozenset({"memory"})
_CONDITIONAL_PUT_PROTOCOLS = frozenset({"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az"})
# Errors of the stores' clients that are not OSErrors. They are looked up only once their file system is in
# use.
_CLIENT_ERRORS: Mapping[str, tuple[str, ...]] = {
    "s3": ("botocore.exceptions.BotoCoreError", "botocore.exceptions.ClientError", "aiohttp.ClientError"),
    "gs": ("gcsfs.retry.HttpError", "aiohttp.ClientError", "google.auth.exceptions.GoogleAuthError"),
    "abfs": ("azure.core.exceptions.AzureError", "aiohttp.ClientError"),
}
_CLIENT_OF = {"s3": "s3", "s3a": "s3", "gs": "gs", "gcs": "gs", "abfs": "abfs", "abfss": "abfs", "az": "abfs"}
_LEAST_SECRET_LENGTH = 4
_HARMLESS_OPTIONS = frozenset({"endpoint_url", "endpoint", "region_name", "region", "use_ssl"})


class _LocalDisk:
    """The file system of local paths, as much of it as is not done here by the system's own calls: its name."""

    protocol = "file"


class FileIO:
    """Files of one file system.

    ``fsync``: whether local files and directories are made durable before a commit shows them (turning it off
    trades safety at power loss for speed). A subclass may override ``before_operation`` to fail or stop at a
    chosen step.
    """

    def __init__(self, filesystem: Any, *, fsync: bool = True) -> None:
        self._fs = filesystem
        self._fsync = fsync
        protocol = filesystem.protocol
        self.protocol: str = protocol if isinstance(protocol, str) else protocol[0]
        self._is_local = self.protocol in _LOCAL_PROTOCOLS
        self._client_errors = _client_errors(self.protocol)
        self._store_errors: tuple[type[Exception], ...] = (OSError, *self._client_errors)
        self._secrets = _secrets_of(getattr(filesystem, "storage_options", {}))
        self._unsynced = Unsynced(self._translated)

    @classmethod
    def from_url(
        cls, url: str, storage_options: Mapping[str, Any] | None = None, *, fsync: bool = True
    ) -> tuple[Self, str]:
        """Open the file system of a URL or plain path; returns it and the path inside it.

        ``storage_options`` go to fsspec. Raises InvalidInput for a URL that no file system answers to.
        """
        protocol = url.split("://", 1)[0] if "://" in url else "file"
        options = dict(storage_options or {})
        if protocol in _LOCAL_PROTOCOLS:
            path = os.path.abspath(os.path.expanduser(url.removeprefix(f"{protocol}://")))
            return cls(_LocalDisk(), fsync=fsync), path.rstrip("/")
        from fsspec.core import url_to_fs  # noqa: PLC0415 - brings asyncio and ssl, which tables on a disk do not need

        if protocol not in _MEMORY_PROTOCOLS:
            # A listing kept in memory would hide the commits of others.
            options.setdefault("use_listings_cache", False)
        try:
            filesystem, path = url_to_fs(url, **options)
        except (ValueError, ImportError) as cause:
            raise InvalidInput(f"no file system for {protocol}:// is available: {cause}") from cause
        return cls(filesystem, fsync=fsync), str(path).rstrip("/")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.protocol!r})"

    def __reduce__(self) -> tuple[object, ...]:
        """As in another process: the same file system, opened with the same credentials."""
        return partial(type(self), fsync=self._fsync), (self._fs,)

    @property
    def is_of_this_process(self) -> bool:
        """Whether no other process sees these files: they are in memory."""
        return self.protocol in _MEMORY_PROTOCOLS

    def before_operation(self, operation: str, path: str) -> None:
        """Called before each step that touches the store. Does nothing; tests fail or stop here."""

    def read_bytes(self, path: str) -> bytes:
        """The whole file. Raises FileMissing or StorageUnavailable."""
        with self._translated("read", path):
            if self._is_local:
                with open(path, "rb") as file:
                    return file.read()
            return cast(bytes, self._fs.cat_file(path))

    def write_new(self, path: str, data: bytes) -> None:
        """Write a file whose name nobody else uses (data, manifests). Directories are made as needed."""
        with self.open_output(path) as file:
            file.write(data)

    @contextmanager
    def open_output(self, path: str) -> Iterator[IO[bytes]]:
        """A file to write: complete at the end of the block, removed if that fails.

        On a local disk it is durable after ``sync``, or when an exclusive creation shows it.
        """
        with self._translated("write", path):
            if self._is_local:
                self.make_directory(os.path.dirname(path))
                file: IO[bytes] = open(path, "xb")  # noqa: SIM115 - closed by the block below
                self._mark_unsynced(os.path.dirname(path))
            else:
                file = self._fs.open(path, "wb")
            complete = False
            try:
                with file:
                    yield file
                    if self._is_local and self._fsync:
                        self._keep_unsynced(path, file)
                complete = True
            finally:
                if not complete:
                    with suppress(StorageUnavailable):
                        self.delete(path)

    def create_exclusive(self, path: str, data: bytes, *, needs: Iterable[str] = ()) -> bool:
        """Create a file if nobody did: True if it is ours, False if somebody else's stands there.

        ``data`` must differ between any two attempts. Everything written before through this object is
        durable first; ``needs`` are the names of files without which this one must not be seen. Raises
        CommitStateUnknown if the store did not tell, Unsupported where it cannot be done atomically.
        """
        with self._translated("create", path):
            if self._is_local:
                self.make_directory(os.path.dirname(path))
                sync = partial(self._sync_with, needs=needs) if self._fsync else None
                return create_local(path, data, sync=sync, before=self.before_operation)
            if self.protocol in _MEMORY_PROTOCOLS:
                return create_in_memory(self._fs, path, data)
            if self.protocol in _CONDITIONAL_PUT_PROTOCOLS:
                return create_conditionally(self._fs, path, data, foreign_errors=self._client_errors)
        raise Unsupported(
            f"{self.protocol}:// cannot create a file exclusively, so two commits could overwrite each other;"
            " use a local disk, S3, Google Cloud Storage or Azure"
        )

    def overwrite(self, path: str, data: bytes) -> None:
        """Write or replace a file (hints, consumers). Readers see the old or the new one, never a part."""
        with self._translated("write", path):
            if not self._is_local:
                self._fs.pipe_file(path, data)
                return
            directory, name = os.path.split(path)
            self.make_directory(directory)
            temporary = os.path.join(directory, f".{name}.{uuid.uuid4()}.tmp")
            try:
                with open(temporary, "xb") as file:
                    file.write(data)
                self.before_operation("replace", path)
                os.replace(temporary, path)
            finally:
                with suppress(OSError):
                    os.unlink(temporary)

    def exists(self, path: str) -> bool:
        """Whether a file or directory stands there."""
        with self._translated("look at", path):
            if self._is_local:
                return os.path.exists(path)
            self._fs.invalidate_cache()
            return bool(self._fs.exists(path))

    def size(self, path: str) -> int:
        """Size of a file in bytes. Raises FileMissing."""
        with self._translated("look at", path):
            if self._is_local:
                return os.path.getsize(path)
            self._fs.invalidate_cache()
            return int(self._fs.size(path))

    def list_names(self, directory: str) -> list[str]:
        """Names of the files and directories right below a directory, sorted.

        [] if there is no such directory.
        """
        with self._translated("list", directory):
            try:
                if self._is_local:
                    return sorted(os.listdir(directory))
                self._fs.invalidate_cache()
                listed = self._fs.ls(directory, detail=False)
            except FileNotFoundError:
                return []
        below = directory.rstrip("/") + "/"
        names = {str(path).rstrip("/").rsplit("/", 1)[-1] for path in listed if str(path).startswith(below)}
        return sorted(names - {""})

    def list_directories(self, directory: str) -> list[str]:
        """Names of the directories right below a directory, sorted; [] if there is no such directory."""
        with self._translated("list", directory):
            try:
                if self._is_local:
                    with os.scandir(directory) as entries:
                        return sorted(entry.name for entry in entries if entry.is_dir())
                self._fs.invalidate_cache()
                listed = self._fs.ls(directory, detail=True)
            except FileNotFoundError:
                return []
        return sorted(
            str(info["name"]).rstrip("/").rsplit("/", 1)[-1] for info in listed if info.get("type") == "directory"
        )

    def list_files(self, directory: str, *, recursive: bool = False) -> list[FileInfo]:
        """Files below a directory, sorted by path; [] if there is no such directory."""
        with self._translated("list", directory):
            if self._is_local:
                return sorted(local_files(directory, recursive=recursive), key=lambda info: info.path)
            try:
                self._fs.invalidate_cache()
                found = self._fs.find(directory, maxdepth=None if recursive else 1, detail=True)
            except FileNotFoundError:
                return []
        return sorted(
            (file_info(path, info) for path, info in found.items() if info.get("type") == "file"),
            key=lambda info: info.path,
        )

    def delete(self, path: str) -> None:
        """Remove a file; one that is not there is fine."""
        with self._translated("delete", path), suppress(FileNotFoundError):
            if self._is_local:
                self._unsynced.forget(path)
                os.unlink(path)
            else:
                self._fs.rm_file(path)

    def delete_directory(self, path: str) -> None:
        """Remove a directory and all that is in it; one that is not there is fine."""
        with self._translated("delete", path), suppress(FileNotFoundError):
            if self._is_local:
                shutil.rmtree(path)
            else:
                self._fs.rm(path, recursive=True)

    def remove_empty_directory(self, path: str) -> bool:
        """Remove a directory that is empty; False if it is not, or where directories are only parts of names."""
        if not self._is_local:
            return False
        try:
            os.rmdir(path)
        except OSError:
            return False
        return True

    def rename_directory(self, source: str, target: str) -> None:
        """Give a directory another name: atomically on a local disk, by copying file after file elsewhere.

        Raises FileMissing, or StorageUnavailable if the target stands there and is not empty.
        """
        with self._translated("rename", source):
            if self._is_local:
                os.rename(source, target)
                self._mark_unsynced(os.path.dirname(target))
            else:
                self._fs.mv(source, target, recursive=True)

    def make_directory(self, path: str) -> None:
        """Make a directory and its parents. Object stores have none: nothing happens there."""
        if not self._is_local or os.path.isdir(path):
            return
        with self._translated("make directory", path):
            parent = os.path.dirname(path)
            if parent != path:
                self.make_directory(parent)
            with suppress(FileExistsError):
                os.mkdir(path)
            self._mark_unsynced(parent)

    @property
    def is_local(self) -> bool:
        """Whether the files lie on a disk of this machine, or one that is mounted."""
        return self._is_local

    def local_path(self, path: str) -> str | None:
        """The path for programs that read local files by themselves; None if the file is not local."""
        return path if self._is_local else None

    def open_input(self, path: str) -> IO[bytes]:
        """A file to read, seekable. Raises FileMissing."""
        with self._translated("read", path):
            if self._is_local:
                return open(path, "rb")
            if self.protocol in _MEMORY_PROTOCOLS:
                # fsspec hands out one shared object with one position.
                return BytesIO(self._fs.cat_file(path))
            return cast(IO[bytes], self._fs.open(path, "rb"))

    def sync_directory(self, path: str) -> None:
        """Make the names in a local directory durable (nothing to do elsewhere, or with ``fsync=False``)."""
        if self._is_local and self._fsync:
            with self._translated("sync directory", path):
                sync_local_directory(path)

    def sync(self, names: Iterable[str] = ()) -> None:
        """Make all that was written through this object durable (nothing to do elsewhere, or with ``fsync=False``).

        A writer that another process commits for calls it. Raises StorageUnavailable if a file of one of ``names`` is
        not durable.
        """
        self._unsynced.sync(names)

    def _sync_with(self, temporary: str, descriptor: int, *, needs: Iterable[str]) -> None:
        self._unsynced.sync(needs, temporary=(temporary, descriptor))

    def _keep_unsynced(self, path: str, file: IO[bytes]) -> None:
        """What is small is synced later, many files at once."""
        file.flush()
        if file.tell() < LARGE_BYTES:
            self._unsynced.add(path, file.fileno())
            return
        self.before_operation("sync", path)
        os.fsync(file.fileno())

    def _mark_unsynced(self, directory: str) -> None:
        if self._fsync:
            self._unsynced.add_directory(directory)

    @contextmanager
    def _translated(self, operation: str, path: str) -> Iterator[None]:
        self.before_operation(operation, path)
        try:
            yield
        except (FileMissing, StorageUnavailable):
            raise
        except FileNotFoundError as cause:
            raise FileMissing(f"cannot {operation} {path}: there is no such file") from cause
        except self._store_errors as cause:
            raise StorageUnavailable(f"cannot {operation} {path}: {self._without_secrets(cause)}") from cause

    def _without_secrets(self, error: BaseException) -> str:
        text = str(error) or type(error).__name__
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text


def _client_errors(protocol: str) -> tuple[type[Exception], ...]:
    found: list[type[Exception]] = []
    for dotted in _CLIENT_ERRORS.get(_CLIENT_OF.get(protocol, ""), ()):
        module, _, name = dotted.rpartition(".")
        with suppress(ImportError, AttributeError):
            found.append(getattr(importlib.import_module(module), name))
    return tuple(found)


def _secrets_of(options: Mapping[str, Any]) -> tuple[str, ...]:
    texts: list[str] = []
    for key, value in options.items():
        if key in _HARMLESS_OPTIONS:
            continue
        if isinstance(value, Mapping):
            texts += _secrets_of(value)
        elif isinstance(value, str) and len(value) >= _LEAST_SECRET_LENGTH:
            texts.append(value)
    return tuple(sorted(texts, key=len, reverse=True))

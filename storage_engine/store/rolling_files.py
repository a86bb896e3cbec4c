"""Sorted rows that come frame by frame become files of the target size; no more than a frame or two is held.

Spec: "Data files" of Apache Paimon, options ``target-file-size`` and ``async-file-write``.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Self

import polars as pl

from storage_engine.spec.manifest import DataFileMeta
from storage_engine.store.data_files import DataFiles, FileRole, encoded_row_bytes
from storage_engine.store.file_contents import FileContents
from storage_engine.store.formats.sinks import FrameSink

_FIRST_SHARE, _FULL_SHARE = 0.25, 0.97
_LEAST_ROWS = 1000


class RollingFiles:
    """Writes files of one bucket. A context: what it wrote is removed if the block fails.

    In the ``background``, a frame is written by a thread of its own while the next one is being made.
    """

    def __init__(self, files: DataFiles, directory: str, role: FileRole, *, background: bool) -> None:
        self._files = files
        self._directory = directory
        self._role = role
        self._pool = ThreadPoolExecutor(1) if background else None
        self._running: Future[None] | None = None
        self._written: list[DataFileMeta] = []
        self._open: _OpenFile | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True)
        if error is not None:
            self._remove()

    def write(self, frame: pl.DataFrame) -> None:
        """Add rows whose keys come after all that were added before. Raises what writing an earlier frame raised."""
        if frame.is_empty():
            return
        if self._pool is None:
            self._append(frame)
            return
        self._wait()
        self._running = self._pool.submit(self._append, frame)

    def close(self) -> list[DataFileMeta]:
        """Complete the last file; returns all of them, in order of their keys."""
        self._wait()
        self._complete()
        return self._written

    def _wait(self) -> None:
        running, self._running = self._running, None
        if running is not None:
            running.result()

    def _append(self, frame: pl.DataFrame) -> None:
        while not frame.is_empty():
            if self._open is None:
                name = self._files.new_name(self._role)
                self._open = _OpenFile(
                    name=name, role=self._role, sink=self._files.open_sink(self._directory, name, self._role)
                )
            rows = self._open.room(frame, self._files.target_size)
            part, frame = frame.head(rows), frame.slice(rows)
            self._open.write(part, self._files)
            if self._open.is_full(self._files.target_size):
                self._complete()

    def _complete(self) -> None:
        done = self._open
        if done is None or done.contents is None:
            return
        size = done.sink.close()
        self._open = None
        self._written.append(self._files.meta(done.contents, self._directory, done.name, size, self._role))

    def _remove(self) -> None:
        if self._open is not None:
            self._open.sink.abort()
        for file in self._written:
            self._files.remove(file, self._directory)


class _OpenFile:
    """A file that is being written, and what stands in it so far."""

    def __init__(self, *, name: str, role: FileRole, sink: FrameSink) -> None:
        self.name = name
        self._role = role
        self.sink = sink
        self.contents: FileContents | None = None
        self._expected = 0.0

    def room(self, frame: pl.DataFrame, target: int) -> int:
        """How many rows of a frame to write next: by what rows took so far, else by a guess that is not trusted far."""
        size = self._size()
        if self.contents is None or not size:
            return max(_LEAST_ROWS, int(target * _FIRST_SHARE / encoded_row_bytes(frame)))
        return max(_LEAST_ROWS, int((target - size) * self.contents.rows / size))

    def is_full(self, target: int) -> bool:
        """Whether a new file should begin."""
        return self._size() >= target * _FULL_SHARE

    def write(self, frame: pl.DataFrame, files: DataFiles) -> None:
        """Add rows."""
        contents = files.contents(frame, self._role)
        self.sink.write(files.physical(frame))
        self._expected += frame.height * encoded_row_bytes(frame)
        self.contents = contents if self.contents is None else self.contents.followed_by(contents)

    def _size(self) -> float:
        size = self.sink.size()
        return self._expected if size is None else float(size)

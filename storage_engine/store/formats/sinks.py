"""Data files that are written frame by frame, so that no more than a frame of them is held."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack, suppress
from typing import IO, Protocol

import polars as pl
import pyarrow.parquet as pq

from storage_engine.store.file_io import FileIO
from storage_engine.store.formats import FORMATS
from storage_engine.store.formats.arrow_bridge import to_arrow, with_views
from storage_engine.store.formats.base import FrameFile
from storage_engine.store.formats.parquet import writer_options


class FrameSink(Protocol):
    """A file that is being written. REQUIRES: ``close`` or ``abort`` comes last."""

    def write(self, frame: pl.DataFrame) -> None:
        """Add rows, whose columns are those of the file's schema, in order."""

    def size(self) -> int | None:
        """Bytes written so far; None where nothing is written before the end."""

    def close(self) -> int:
        """Complete the file; returns its size in bytes."""

    def abort(self) -> None:
        """Give the file up: it is removed."""


class _GivenUp(Exception):
    """The file is not wanted any more."""


class ParquetSink:
    """Parquet: each frame is a row group."""

    def __init__(self, io: FileIO, target: FrameFile) -> None:
        self._io = io
        self._target = target
        self._schema = with_views(target.arrow_schema)
        self._opened = ExitStack()
        self._file: IO[bytes] | None = None
        self._writer: pq.ParquetWriter | None = None

    def write(self, frame: pl.DataFrame) -> None:
        """Write a row group."""
        if self._writer is None:
            self._file = self._opened.enter_context(self._io.open_output(self._target.path))
            options = writer_options(self._target, frame)
            self._writer = pq.ParquetWriter(self._file, self._schema, **options)
        self._writer.write_table(to_arrow(frame, self._schema), row_group_size=frame.height)

    def size(self) -> int | None:
        """Bytes of the row groups that are written."""
        return 0 if self._file is None else self._file.tell()

    def close(self) -> int:
        """Write the footer."""
        if self._writer is not None:
            self._writer.close()
        self._opened.close()
        return self._io.size(self._target.path)

    def abort(self) -> None:
        """Close and remove the file."""
        given_up = _GivenUp()
        with suppress(_GivenUp):
            self._opened.__exit__(type(given_up), given_up, None)
        self._io.delete(self._target.path)


class GatheringSink:
    """A format that writes whole files: the rows of one are held until it is complete."""

    def __init__(self, io: FileIO, target: FrameFile, file_format: str) -> None:
        self._io = io
        self._target = target
        self._format = FORMATS[file_format]
        self._frames: list[pl.DataFrame] = []

    def write(self, frame: pl.DataFrame) -> None:
        """Hold the rows."""
        self._frames.append(frame)

    def size(self) -> int | None:
        """Not known before the end."""
        return None

    def close(self) -> int:
        """Write the file."""
        return self._format.write(self._io, self._target, pl.concat(self._frames))

    def abort(self) -> None:
        """Nothing is written yet, or it could not be."""
        self._io.delete(self._target.path)


_SINKS: dict[str, Callable[[FileIO, FrameFile], FrameSink]] = {"parquet": ParquetSink}


def open_sink(file_format: str, io: FileIO, target: FrameFile) -> FrameSink:
    """A new file of a format that can be written."""
    sink = _SINKS.get(file_format)
    return GatheringSink(io, target, file_format) if sink is None else sink(io, target)

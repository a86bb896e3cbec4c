"""A landing folder as a source of changes: ``<folder>/<table>/<file>.jsonl``, read in the order of names.

Files appear as a whole (renamed into place) under names that grow; the position is the name of the last file
that was read. A file that appears later under a smaller name is not seen: whoever lands files must let names
grow.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import fsspec
import polars as pl
from fsspec.implementations.local import LocalFileSystem

from lakehouse_assets.sources.change_source import SourceBatch, SourceTable
from lakehouse_assets.sources.debezium import LINE, RAW, parse
from lakehouse_assets.sources.errors import SourceUnavailable

FILE_SUFFIX: Final = ".jsonl"


class LandingSource:
    """Debezium's JSON lines in a folder on any fsspec URL."""

    def __init__(self, url: str) -> None:
        self._files, self._folder = fsspec.core.url_to_fs(url)

    @property
    def name(self) -> str:
        """The folder, without credentials."""
        return f"landing folder {self._folder}"

    def read(self, tables: Sequence[tuple[SourceTable, str | None]], *, max_rows: int) -> Mapping[str, SourceBatch]:
        """The next files of some tables. Raises SourceUnavailable if a file cannot be read."""
        found = {table.name: self._next(table, after, max_rows=max_rows) for table, after in tables}
        return {name: batch for name, batch in found.items() if batch is not None}

    def everything(self, table: SourceTable) -> SourceBatch:
        """The rows of all files of a table that are there now."""
        names = self.file_names(table)
        lines = [self._lines(table, name) for name in names]
        return _batch(table, lines, position=names[-1] if names else "")

    def file_names(self, table: SourceTable, *, after: str | None = None) -> list[str]:
        """Names of the table's files after a position, in order. Raises SourceUnavailable."""
        folder = f"{self._folder}/{table.name}"
        try:
            paths = self._files.ls(folder, detail=False) if self._files.exists(folder) else []
        except OSError as error:
            raise SourceUnavailable(f"{folder} cannot be listed: {error}") from error
        names = (path.rpartition("/")[2] for path in paths)
        landed = (name for name in names if name.endswith(FILE_SUFFIX) and not name.startswith("."))
        return sorted(name for name in landed if after is None or name > after)

    def look(self, tables: Sequence[str]) -> object:
        """When something last appeared in the tables' folders; for folders elsewhere, nothing that would ever be equal."""
        if not isinstance(self._files, LocalFileSystem):
            return object()
        return [_changed_ns(f"{self._folder}/{table}") for table in tables]

    def _next(self, table: SourceTable, after: str | None, *, max_rows: int) -> SourceBatch | None:
        names = self.file_names(table, after=after)
        lines: list[pl.DataFrame] = []
        for name in names:
            lines.append(self._lines(table, name))
            if sum(frame.height for frame in lines) >= max_rows:
                break
        if not lines:
            return None
        read = len(lines)
        return _batch(table, lines, position=names[read - 1], at_end=read == len(names))

    def _lines(self, table: SourceTable, name: str) -> pl.DataFrame:
        """A file's lines, numbered from 1. Bytes that are no UTF-8 become escapes that no JSON has."""
        try:
            content: bytes = self._files.cat_file(f"{self._folder}/{table.name}/{name}")
        except OSError as error:
            raise SourceUnavailable(f"{self._folder}/{table.name}/{name} cannot be read: {error}") from error
        texts = content.decode("utf-8", errors="backslashreplace").removesuffix("\n").split("\n")
        return pl.DataFrame({RAW: texts}, schema={RAW: pl.String()}).select(
            pl.lit(f"{table.name}/{name}").alias("source_file"),
            pl.int_range(1, pl.len() + 1, dtype=pl.Int64).alias(LINE),
            RAW,
        )


def _batch(table: SourceTable, lines: Iterable[pl.DataFrame], *, position: str, at_end: bool = True) -> SourceBatch:
    empty = pl.DataFrame(schema={"source_file": pl.String(), LINE: pl.Int64(), RAW: pl.String()})
    rows, rejected = parse(pl.concat([empty, *lines]), table)
    return SourceBatch(position=position, rows=rows, rejected=rejected, at_end=at_end)


def _changed_ns(folder: str) -> int | None:
    try:
        return os.stat(folder).st_mtime_ns
    except OSError:
        return None

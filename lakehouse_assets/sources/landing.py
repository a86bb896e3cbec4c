"""A landing folder as a source of changes: ``<folder>/<table>/<path>``, read in the order of paths.

| file | what is in it |
|---|---|
| ``*.jsonl`` | Debezium's events, one a line |
| ``*.parquet`` | rows of the table (``landing_columns``), perhaps with ``op`` (``c``, ``u``, ``d``); all are upserts without |

Files appear as a whole (renamed into place) under paths that grow; the position is the path of the last file that was read. A
file that appears later under a smaller path is not seen: whoever lands files must let paths grow.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from io import BytesIO
from itertools import groupby
from typing import Any, Final, Literal

import polars as pl

from lakehouse_assets.sources.change_source import OP, OPERATIONS, REJECTED_SCHEMA, SourceBatch, SourceTable
from lakehouse_assets.sources.debezium import LINE, RAW, REASON, parse
from lakehouse_assets.sources.errors import SourceColumnsDiffer
from lakehouse_assets.sources.landing_columns import columns_told, fitted
from lakehouse_assets.sources.landing_files import LandingFiles
from lakehouse_assets.sources.typed_rows import LINE as ROW
from lakehouse_assets.sources.typed_rows import REASON as REFUSED
from lakehouse_assets.sources.typed_rows import SOURCE_FILE, check_columns, typed_batch

FILE_SUFFIX: Final = ".jsonl"
SUFFIXES: Final = (FILE_SUFFIX, ".parquet")
FILES_AT_ONCE: Final = 1000
"""Files of a batch at most: a page of an S3 listing."""

Frames = tuple[pl.DataFrame, pl.DataFrame]
"""Good rows and refused ones."""


class LandingSource:
    """Change files in a folder on any fsspec URL. ``options``: of fsspec; their values are never shown."""

    def __init__(self, url: str, options: dict[str, Any] | None = None) -> None:
        self._files = LandingFiles(url, options)

    @property
    def name(self) -> str:
        """The folder, without credentials."""
        return f"landing folder {self._files.folder}"

    @property
    def tables_are_apart(self) -> Literal[True]:
        """A table is a folder of its own."""
        return True

    def read(self, tables: Sequence[tuple[SourceTable, str | None]], *, max_rows: int) -> Mapping[str, SourceBatch]:
        """The next files of some tables. Raises SourceUnavailable, SourceAccessDenied and SourceColumnsDiffer.

        A file whose columns differ begins a batch of its own: those before it have the columns that the table has now.
        """
        found = {table.name: self._next(table, after, max_rows=max_rows) for table, after in tables}
        return {name: batch for name, batch in found.items() if batch is not None}

    def everything(self, table: SourceTable) -> SourceBatch:
        """The rows of all files of a table that are there now. Raises like ``read``.

        A column that later files of rows have, and an earlier one does not, was added in between: it is null there.
        """
        paths = self._files.following(table.name, after=None, suffixes=SUFFIXES, most=None)
        files: list[tuple[str, pl.DataFrame]] = []
        later: set[str] = set()
        for path in reversed(paths):
            rows = self._content(table, path)
            if OP in rows.columns:
                known = set(rows.columns)
                rows = _with_added(table, rows, later)
                later |= known
            files.append((path, _placed(table, path, rows)))
        return _batch(table, files[::-1], position=paths[-1] if paths else "", at_end=True)

    def _next(self, table: SourceTable, after: str | None, *, max_rows: int) -> SourceBatch | None:
        paths = self._files.following(table.name, after=after, suffixes=SUFFIXES, most=FILES_AT_ONCE)
        files: list[tuple[str, pl.DataFrame]] = []
        rows, at_end = 0, len(paths) < FILES_AT_ONCE
        for path in paths:
            if rows >= max_rows and files:
                at_end = False
                break
            try:
                frame = _placed(table, path, self._content(table, path))
            except SourceColumnsDiffer:
                if not files:
                    raise
                at_end = False
                break
            files.append((path, frame))
            rows += frame.height
        return _batch(table, files, position=files[-1][0], at_end=at_end) if files else None

    def _content(self, table: SourceTable, path: str) -> pl.DataFrame:
        content = self._files.content(table.name, path)
        return _lines(content).alias(RAW).to_frame() if path.endswith(FILE_SUFFIX) else _parquet(table, content)


def _lines(content: bytes) -> pl.Series:
    """The texts between line feeds; bytes that are no UTF-8 become escapes that no JSON has.

    Polars does it fast, but takes carriage returns away, and refuses what is no UTF-8.
    """
    if content and b"\r" not in content:
        try:
            return pl.scan_lines(BytesIO(content)).collect().to_series()
        except pl.exceptions.ComputeError:
            pass
    texts = content.decode("utf-8", errors="backslashreplace").removesuffix("\n").split("\n")
    return pl.Series(texts, dtype=pl.String())


def _parquet(table: SourceTable, content: bytes) -> pl.DataFrame:
    """A file's rows, with ``OP``; one that is no Parquet is a single refused row."""
    try:
        rows = pl.read_parquet(BytesIO(content), hive_partitioning=False)
    except (pl.exceptions.PolarsError, OSError) as error:
        reason = str(error).partition("\n")[0]
        return pl.DataFrame({RAW: [""], REASON: [f"the file is no Parquet: {reason}"]})
    return _with_op(table, rows)


def _with_op(table: SourceTable, rows: pl.DataFrame) -> pl.DataFrame:
    """Rows with ``OP`` from their column ``op``, unless the table has such a column: then, and without one, all are upserts."""
    if "op" in table.columns or "op" not in rows.columns:
        return rows.with_columns(pl.lit("u").alias(OP))
    given = rows.schema["op"]
    text = pl.lit(str(given)) if given.is_nested() else pl.col("op").cast(pl.String, strict=False)
    return rows.with_columns(text.alias(OP)).drop("op")


def _with_added(table: SourceTable, rows: pl.DataFrame, later: Collection[str]) -> pl.DataFrame:
    """Rows with the columns that the table got from later files; those that have others are left to be told."""
    if not table.columns.keys() >= set(rows.columns) - {OP}:
        return rows
    added = [name for name in table.columns if name not in rows.columns and name in later]
    return rows.with_columns(pl.lit(None, table.columns[name]).alias(name) for name in added)


def _typed(table: SourceTable, path: str, rows: pl.DataFrame) -> pl.DataFrame:
    """A file's rows in the table's types; some are refused. Raises SourceColumnsDiffer."""
    check_columns(table, columns_told(table, rows.schema), file=f"{table.name}/{path}")
    found = fitted(table, rows)
    wrong = ~pl.col(OP).is_in(OPERATIONS).fill_null(value=False)
    if not found.select(wrong.any()).item():
        return found
    unknown = pl.when(wrong).then(pl.format("op is {}", pl.col(OP).fill_null("missing")))
    known = [pl.col(REFUSED)] if REFUSED in found.columns else []
    return found.with_columns(pl.coalesce(unknown, *known).alias(REFUSED))


def _placed(table: SourceTable, path: str, rows: pl.DataFrame) -> pl.DataFrame:
    """A file's lines or rows, numbered from 1. Raises SourceColumnsDiffer."""
    file, number = "source_file", LINE
    if OP in rows.columns:
        file, number = SOURCE_FILE, ROW
        rows = _typed(table, path, rows)
    return rows.select(
        pl.lit(f"{table.name}/{path}").alias(file),
        pl.int_range(1, pl.len() + 1, dtype=pl.Int64).alias(number),
        pl.all(),
    )


def _batch(
    table: SourceTable, files: Sequence[tuple[str, pl.DataFrame]], *, position: str, at_end: bool
) -> SourceBatch:
    """Files as one batch; those of one kind that follow each other are judged together."""
    found = [_nothing(table)]
    for columns, group in groupby(files, key=lambda file: tuple(file[1].columns)):
        found.append(_judged(table, columns, pl.concat(frame for _, frame in group)))
    rows, rejected = (pl.concat(frames) for frames in zip(*found, strict=True))
    return SourceBatch(position=position, rows=rows, rejected=rejected, at_end=at_end)


def _nothing(table: SourceTable) -> Frames:
    empty = pl.DataFrame(schema={SOURCE_FILE: pl.String(), ROW: pl.Int64(), OP: pl.String(), **table.columns})
    batch = typed_batch(table, empty, position="")
    return batch.rows, batch.rejected


def _judged(table: SourceTable, columns: Sequence[str], rows: pl.DataFrame) -> Frames:
    if OP in columns:
        batch = typed_batch(table, rows, position="")
        return batch.rows, batch.rejected
    if REASON in columns:
        return _nothing(table)[0], rows.select(REJECTED_SCHEMA.names())
    return parse(rows, table)

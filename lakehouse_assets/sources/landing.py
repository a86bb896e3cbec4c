"""A landing folder as a source of changes: ``<folder>/<table>/<path>``, read in the order of paths.

| file | what is in it |
|---|---|
| ``*.jsonl`` | Debezium's events, one a line |
| ``*.json``, ``*.ndjson`` | rows of the table, a flat JSON object a line; all are upserts |
| ``*.parquet``, ``*.csv`` | rows of the table (``landing_columns``), upserts unless a column ``op`` (``c``, ``u``, ``d``) tells |

All but Parquet may be packed (``landing_formats``).

Files appear as a whole (renamed into place) under paths that grow; the position is the path of the last file that was read. A
file that appears later under a smaller path is not seen: whoever lands files must let paths grow.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import groupby
from typing import Any, Final, Literal

import polars as pl

from lakehouse_assets.sources.change_source import OP, REJECTED_SCHEMA, SourceBatch, SourceTable
from lakehouse_assets.sources.debezium import RAW, REASON, parse
from lakehouse_assets.sources.errors import SourceColumnsDiffer
from lakehouse_assets.sources.json_rows import IS_ROW, upsert
from lakehouse_assets.sources.landing_columns import columns_told, fitted
from lakehouse_assets.sources.landing_files import LandingFiles
from lakehouse_assets.sources.landing_formats import JSON_ROWS, SUFFIXES, frames_of, unpacked_name
from lakehouse_assets.sources.lenient_json import rows_of_events, rows_of_objects
from lakehouse_assets.sources.typed_rows import LINE as ROW
from lakehouse_assets.sources.typed_rows import REASON as REFUSED
from lakehouse_assets.sources.typed_rows import SOURCE_FILE, check_columns, typed_batch, unknown_operation

FILES_AT_ONCE: Final = 1000
"""Files of a batch at most: a page of an S3 listing."""

NO_ROW: Final = "no flat JSON object in UTF-8; files of Debezium's events are named .jsonl"

Placed = tuple[str, pl.DataFrame]
"""A file, and some of what is in it."""
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
        placed: list[Placed] = []
        later: set[str] = set()
        for path in reversed(paths):
            frames = self._frames(table, path)
            placed += reversed([(path, _placed(table, path, _with_added(table, frame, later))) for frame in frames])
            later |= {name for frame in frames if ROW in frame.columns for name in frame.columns}
        return _batch(table, placed[::-1], position=paths[-1] if paths else "", at_end=True)

    def _next(self, table: SourceTable, after: str | None, *, max_rows: int) -> SourceBatch | None:
        paths = self._files.following(table.name, after=after, suffixes=SUFFIXES, most=FILES_AT_ONCE)
        placed: list[Placed] = []
        position, rows, at_end = after, 0, len(paths) < FILES_AT_ONCE
        for path in paths:
            if rows >= max_rows:
                at_end = False
                break
            try:
                found = [(path, _placed(table, path, frame)) for frame in self._frames(table, path)]
            except SourceColumnsDiffer:
                if position == after:
                    raise
                at_end = False
                break
            position = path
            placed += found
            rows += sum(frame.height for _, frame in found)
        return (
            None if position is None or position == after else _batch(table, placed, position=position, at_end=at_end)
        )

    def _frames(self, table: SourceTable, path: str) -> list[pl.DataFrame]:
        """A file's lines that are events or refused, or its rows."""
        frames = frames_of(path, self._files.content(table.name, path))
        if _are_objects(path) and not table.lenient:
            return [part for frame in frames for part in _as_events(table, frame)]
        return [_with_op(table, frame) if ROW in frame.columns else frame for frame in frames]


def _as_events(table: SourceTable, lines: pl.DataFrame) -> list[pl.DataFrame]:
    """Lines that are rows of JSON as events, and those that are none; blank ones are nothing."""
    if REASON in lines.columns:
        return [lines]
    told = lines.filter(pl.col(RAW).str.contains(r"\S"))
    is_row = pl.col(RAW).str.contains(IS_ROW)
    strange = told.filter(~is_row).with_columns(pl.lit(NO_ROW).alias(REASON))
    events = told.filter(is_row).with_columns(upsert(table, pl.col(RAW), pl.lit(0)).alias(RAW))
    return [events, strange] if len(strange) else [events]


def _with_op(table: SourceTable, rows: pl.DataFrame) -> pl.DataFrame:
    """Rows with ``OP`` from their column ``op``, unless the table has such a column: then, and without one, all are upserts."""
    if "op" in table.columns or "op" not in rows.columns:
        return rows.with_columns(pl.lit("u").alias(OP))
    given = rows.schema["op"]
    text = pl.lit(str(given)) if given.is_nested() else pl.col("op").cast(pl.String, strict=False)
    return rows.with_columns(text.alias(OP)).drop("op")


def _with_added(table: SourceTable, rows: pl.DataFrame, later: Collection[str]) -> pl.DataFrame:
    """Rows with the columns that the table got from later files; those that have others are left to be told."""
    if ROW not in rows.columns or not table.columns.keys() >= set(rows.columns) - {OP, ROW}:
        return rows
    added = [name for name in table.columns if name not in rows.columns and name in later]
    return rows.with_columns(pl.lit(None, table.columns[name]).alias(name) for name in added)


def _typed(table: SourceTable, path: str, rows: pl.DataFrame) -> pl.DataFrame:
    """A file's rows in the table's types; some are refused. Raises SourceColumnsDiffer."""
    given = rows.drop(ROW)
    check_columns(table, columns_told(table, given.schema), file=f"{table.name}/{path}")
    found = fitted(table, given).insert_column(0, rows.get_column(ROW))
    unknown = found.select(unknown_operation().alias(REFUSED)).to_series()
    if unknown.null_count() == len(unknown):
        return found
    known = [pl.col(REFUSED)] if REFUSED in found.columns else []
    return found.with_columns(pl.coalesce(unknown, *known).alias(REFUSED))


def _placed(table: SourceTable, path: str, rows: pl.DataFrame) -> pl.DataFrame:
    """A file's lines or rows, and where they stood. Raises SourceColumnsDiffer."""
    is_typed = ROW in rows.columns
    place = pl.lit(f"{table.name}/{path}").alias(SOURCE_FILE if is_typed else "source_file")
    placed = (_typed(table, path, rows) if is_typed else rows).select(place, pl.all())
    if is_typed or not table.lenient or REASON in rows.columns:
        return placed
    placed = placed.filter(pl.col(RAW).str.contains(r"\S"))
    return rows_of_objects(placed, table) if _are_objects(path) else rows_of_events(placed, table)


def _are_objects(path: str) -> bool:
    """Whether the lines of a file are rows, not events."""
    return unpacked_name(path).endswith(JSON_ROWS)


def _batch(table: SourceTable, files: Sequence[Placed], *, position: str, at_end: bool) -> SourceBatch:
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

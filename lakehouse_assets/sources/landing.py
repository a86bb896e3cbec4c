"""A landing folder as a source of changes: ``<folder>/<table>/<path>``, read in the order of paths.

| file | what is in it |
|---|---|
| ``*.jsonl`` | Debezium's events, one a line |
| ``*.parquet`` | rows of the table, perhaps with ``op`` (``c``, ``u``, ``d``); all are upserts without |

Files appear as a whole (renamed into place) under paths that grow; the position is the path of the last file that was read. A
file that appears later under a smaller path is not seen: whoever lands files must let paths grow.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from io import BytesIO
from itertools import groupby
from typing import Any, Final

import polars as pl

from lakehouse_assets.sources.change_source import OP, OPERATIONS, REJECTED_SCHEMA, SourceBatch, SourceTable
from lakehouse_assets.sources.debezium import LINE, RAW, REASON, parse
from lakehouse_assets.sources.landing_files import LandingFiles
from lakehouse_assets.sources.typed_rows import REASON as REFUSED
from lakehouse_assets.sources.typed_rows import check_columns, typed_batch

FILE_SUFFIX: Final = ".jsonl"
PARQUET_SUFFIX: Final = ".parquet"

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

    def read(self, tables: Sequence[tuple[SourceTable, str | None]], *, max_rows: int) -> Mapping[str, SourceBatch]:
        """The next files of some tables. Raises SourceUnavailable, SourceAccessDenied and SourceColumnsDiffer."""
        found = {table.name: self._next(table, after, max_rows=max_rows) for table, after in tables}
        return {name: batch for name, batch in found.items() if batch is not None}

    def everything(self, table: SourceTable) -> SourceBatch:
        """The rows of all files of a table that are there now."""
        return self._next(table, None, max_rows=2**62) or _batch(table, [], position="", at_end=True)

    def _next(self, table: SourceTable, after: str | None, *, max_rows: int) -> SourceBatch | None:
        paths = self._files.paths(table.name, after=after, suffixes=(FILE_SUFFIX, PARQUET_SUFFIX))
        files: list[tuple[str, pl.DataFrame]] = []
        rows, at_end = 0, True
        for path in paths:
            if rows >= max_rows and files:
                at_end = False
                break
            content = self._files.content(table.name, path)
            frame = _lines(table, path, content) if path.endswith(FILE_SUFFIX) else _parquet(table, path, content)
            files.append((path, frame))
            rows += frame.height
        return _batch(table, files, position=files[-1][0], at_end=at_end) if files else None


def _lines(table: SourceTable, path: str, content: bytes) -> pl.DataFrame:
    """A file's lines, numbered from 1. Bytes that are no UTF-8 become escapes that no JSON has."""
    return _placed(table, path, _split(content).alias(RAW).to_frame())


def _split(content: bytes) -> pl.Series:
    """The texts between line feeds. Polars does it fast, but takes carriage returns away, and refuses what is no UTF-8."""
    if content and b"\r" not in content:
        try:
            return pl.scan_lines(BytesIO(content)).collect().to_series()
        except pl.exceptions.ComputeError:
            pass
    texts = content.decode("utf-8", errors="backslashreplace").removesuffix("\n").split("\n")
    return pl.Series(texts, dtype=pl.String())


def _parquet(table: SourceTable, path: str, content: bytes) -> pl.DataFrame:
    """A file's rows, numbered from 1; one that is no Parquet is a single refused row. Raises SourceColumnsDiffer."""
    try:
        rows = pl.read_parquet(BytesIO(content), hive_partitioning=False)
    except (pl.exceptions.PolarsError, OSError) as error:
        reason = str(error).partition("\n")[0]
        return _placed(table, path, pl.DataFrame({RAW: [""], REASON: [f"the file is no Parquet: {reason}"]}))
    check_columns(table, {name: dtype for name, dtype in rows.schema.items() if name != OP})
    if OP not in rows.columns:
        return _placed(table, path, rows.with_columns(pl.lit("u").alias(OP)))
    wrong = ~pl.col(OP).is_in(OPERATIONS).fill_null(value=False)
    unknown = pl.when(wrong).then(pl.format("op is {}", pl.col(OP).cast(pl.String).fill_null("missing")))
    return _placed(table, path, rows.with_columns(unknown.alias(REFUSED)))


def _placed(table: SourceTable, path: str, rows: pl.DataFrame) -> pl.DataFrame:
    return rows.select(
        pl.lit(f"{table.name}/{path}").alias("source_file"),
        pl.int_range(1, pl.len() + 1, dtype=pl.Int64).alias(LINE),
        pl.all(),
    )


def _batch(
    table: SourceTable, files: Sequence[tuple[str, pl.DataFrame]], *, position: str, at_end: bool
) -> SourceBatch:
    """Files as one batch; those of one kind that follow each other are judged together."""
    empty = pl.DataFrame(schema={"source_file": pl.String(), LINE: pl.Int64(), RAW: pl.String()})
    found = [parse(empty, table)]
    for columns, group in groupby(files, key=lambda file: tuple(file[1].columns)):
        found.append(_judged(table, columns, pl.concat(frame for _, frame in group)))
    rows, rejected = (pl.concat(frames) for frames in zip(*found, strict=True))
    return SourceBatch(position=position, rows=rows, rejected=rejected, at_end=at_end)


def _judged(table: SourceTable, columns: Sequence[str], rows: pl.DataFrame) -> Frames:
    if OP in columns:
        batch = typed_batch(table, rows, position="")
        return batch.rows, batch.rejected
    if REASON in columns:
        return parse(rows.clear().select("source_file", LINE, RAW), table)[0], rows.select(REJECTED_SCHEMA.names())
    return parse(rows, table)

"""What a query asks of a table, and how much of it need not be read: for EXPLAIN.

The query runs over a source that reads no rows: what reaches it is exactly what would reach the files. Where it has a
predicate, the footers of the files that are left tell how many row groups can match.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import polars as pl
from polars.io.plugins import register_io_source

from storage_engine.read.plan import Plan
from storage_engine.read.row_groups import RowGroups, row_groups
from storage_engine.spec.schema import TableSchema
from storage_engine.store.file_io import FileIO

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")
_UNIT = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanReport:
    """One scan of a table: what was asked, and the plans with and without the predicate."""

    table: str
    columns: tuple[str, ...]
    all_columns: int
    predicate: str | None
    limit: int | None
    planned: Plan
    whole: Plan
    groups: RowGroups | None = None

    def lines(self) -> list[str]:
        """The report as text."""
        snapshot = self.planned.snapshot
        some, whole = self.planned.totals, self.whole.totals
        merged, merged_files = some.splits - some.raw_splits, some.files - some.raw_files
        limited = [] if self.limit is None else [f"  limit: {self.limit}"]
        return [
            f"{self.table} at {'no snapshot' if snapshot is None else f'snapshot {snapshot.id}'}",
            f"  columns: {len(self.columns)} of {self.all_columns}: {', '.join(self.columns)}",
            f"  predicate: {self.predicate or 'none'}",
            *limited,
            f"  partitions: {some.partitions} of {whole.partitions}",
            f"  buckets: {some.buckets} of {whole.buckets}",
            f"  files: {some.files} of {whole.files}",
            f"  rows in them: {some.rows} of {whole.rows}",
            f"  bytes of them: {_size(some.bytes)} of {_size(whole.bytes)}",
            f"  splits: {some.raw_splits} raw ({some.raw_files} files), {merged} merged ({merged_files} files)",
            *([] if self.groups is None else [f"  row groups: {self.groups.line()}"]),
        ]


def explained_scan(
    io: FileIO,
    schema: TableSchema,
    planner: Callable[[pl.Expr | None], Plan],
    reports: list[ScanReport],
    *,
    table: str,
) -> pl.LazyFrame:
    """A scan that reports what is asked of it when it is collected, and has no rows."""
    full = dict(schema.polars_schema)

    def read(
        with_columns: list[str] | None,
        predicate: pl.Expr | None,
        n_rows: int | None,
        batch_size: int | None,  # noqa: ARG001 - a hint that Polars always passes
    ) -> Iterator[pl.DataFrame]:
        columns = list(full) if with_columns is None else with_columns
        planned = planner(predicate)
        reports.append(
            ScanReport(
                table=table,
                columns=tuple(columns),
                all_columns=len(full),
                predicate=None if predicate is None else str(predicate),
                limit=n_rows,
                planned=planned,
                whole=planner(None),
                groups=None if predicate is None else row_groups(io, schema, planned, predicate),
            )
        )
        yield pl.DataFrame(schema={name: full[name] for name in columns})

    return register_io_source(read, schema=full, explain_name=f"paimon {table}")


def _size(count: int) -> str:
    shown, unit = float(count), 0
    while shown >= _UNIT and unit < len(_UNITS) - 1:
        shown, unit = shown / _UNIT, unit + 1
    return f"{count} B" if unit == 0 else f"{shown:.1f} {_UNITS[unit]}"

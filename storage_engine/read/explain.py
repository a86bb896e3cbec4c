"""What a query asks of a table, and how much of it need not be read: for EXPLAIN.

The query runs over a source that reads no rows: what reaches it is exactly what would reach the files. Where it has a
predicate, the footers of the files that are left tell how many row groups can match.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import polars as pl
from polars.io.plugins import register_io_source

from storage_engine.read.plan import Plan
from storage_engine.read.row_groups import RowGroups, row_groups
from storage_engine.read.split_rules import Split
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
        raw = [split for split in self.planned.splits if split.raw]
        merged = [split for split in self.planned.splits if not split.raw]
        limited = [] if self.limit is None else [f"  limit: {self.limit}"]
        return [
            f"{self.table} at {'no snapshot' if snapshot is None else f'snapshot {snapshot.id}'}",
            f"  columns: {len(self.columns)} of {self.all_columns}: {', '.join(self.columns)}",
            f"  predicate: {self.predicate or 'none'}",
            *limited,
            "  partitions: " + self._share(lambda split: split.bucket.partition),
            "  buckets: " + self._share(lambda split: split.bucket.key),
            f"  files: {_files(self.planned.splits)} of {_files(self.whole.splits)}",
            f"  rows in them: {_rows(self.planned.splits)} of {_rows(self.whole.splits)}",
            f"  bytes of them: {_size(_bytes(self.planned.splits))} of {_size(_bytes(self.whole.splits))}",
            f"  splits: {len(raw)} raw ({_files(raw)} files), {len(merged)} merged ({_files(merged)} files)",
            *([] if self.groups is None else [f"  row groups: {self.groups.line()}"]),
        ]

    def _share(self, part: Callable[[Split], object]) -> str:
        read, whole = ({part(split) for split in plan.splits} for plan in (self.planned, self.whole))
        return f"{len(read)} of {len(whole)}"


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


def _files(splits: Sequence[Split]) -> int:
    return sum(len(split.files) for split in splits)


def _rows(splits: Sequence[Split]) -> int:
    return sum(file.row_count for split in splits for file in split.files)


def _bytes(splits: Sequence[Split]) -> int:
    return sum(file.file_size for split in splits for file in split.files)


def _size(count: int) -> str:
    shown, unit = float(count), 0
    while shown >= _UNIT and unit < len(_UNITS) - 1:
        shown, unit = shown / _UNIT, unit + 1
    return f"{count} B" if unit == 0 else f"{shown:.1f} {_UNITS[unit]}"

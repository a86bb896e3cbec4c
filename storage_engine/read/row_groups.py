"""For EXPLAIN: how many row groups of a plan's files can hold what a predicate allows, by the statistics in their footers."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from storage_engine.kernel.predicate import part_over
from storage_engine.read.plan import Plan
from storage_engine.read.split_rules import Split
from storage_engine.spec.manifest import DataFileMeta
from storage_engine.spec.schema import TableSchema
from storage_engine.store.file_io import FileIO
from storage_engine.store.formats.portions import count_groups
from storage_engine.store.threads import side_by_side

_MOST_FILES = 1_000
_THREADS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class RowGroups:
    """Row groups that can match, and all, of so many Parquet files; ``passed_over`` are files beyond those."""

    matching: int
    all: int
    files: int
    passed_over: int

    def line(self) -> str:
        """The same as text."""
        rest = f"; {self.passed_over} more were not looked at" if self.passed_over else ""
        return f"{self.matching} of {self.all} in {self.files} Parquet files{rest}"


def row_groups(io: FileIO, schema: TableSchema, plan: Plan, predicate: pl.Expr) -> RowGroups | None:
    """Read the footers of a plan's Parquet files, of the first thousand at most; None if there is none.

    Where rows are merged only keys rule out, and a file of another version of the table is read whole. Raises FileMissing,
    CorruptFile.
    """
    of_keys = part_over(predicate, schema.trimmed_primary_keys)

    def counted(item: tuple[Split, DataFileMeta]) -> tuple[int, int]:
        split, file = item
        path = file.external_path or f"{split.bucket.directory}/{file.file_name}"
        asked = predicate if split.raw else of_keys
        return count_groups(io, path, asked if file.schema_id == schema.id else None, schema.polars_schema)

    items = [(split, file) for split in plan.splits for file in split.files if file.file_name.endswith(".parquet")]
    if not items:
        return None
    counts = side_by_side(counted, items[:_MOST_FILES], threads=min(_THREADS, len(items)))
    return RowGroups(
        matching=sum(matching for matching, _ in counts),
        all=sum(of_file for _, of_file in counts),
        files=len(counts),
        passed_over=len(items) - len(counts),
    )

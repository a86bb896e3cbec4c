"""One split of a plan as frames: read, mask, merge, drop retractions, filter, project."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import polars as pl

from storage_engine.codec.binary_row import deserialize_row
from storage_engine.kernel.merge import MergePlan, drop_retracts, merge
from storage_engine.kernel.predicate import part_over
from storage_engine.lsm.levels import stacked_runs
from storage_engine.options import MergeEngine
from storage_engine.read.split_rules import Split
from storage_engine.spec.manifest import DataFileMeta
from storage_engine.spec.schema import SEQUENCE_NUMBER, VALUE_KIND, TableSchema
from storage_engine.store.data_files import DataFiles
from storage_engine.store.joint_scan import joint_read
from storage_engine.store.key_ranges import key_ranges
from storage_engine.store.memory_budget import MemoryBudget
from storage_engine.store.merge_frames import (
    FILE,
    GROUP,
    LEVEL,
    POSITION,
    FilePart,
    lowest_level_only,
    open_run,
    read_parts,
)

BUCKET_COLUMN, FILE_PATH_COLUMN, ROW_INDEX_COLUMN = "__bucket", "__file_path", "__row_index"
_LEAST_PORTION = 1 << 16
METADATA_TYPES: dict[str, pl.DataType] = {
    BUCKET_COLUMN: pl.Int32(),
    FILE_PATH_COLUMN: pl.String(),
    ROW_INDEX_COLUMN: pl.Int64(),
}
_OF_FILES = (FILE_PATH_COLUMN, ROW_INDEX_COLUMN)


class SplitReader:
    """Reads splits of one table version, projected and filtered."""

    def __init__(
        self,
        schema: TableSchema,
        files: DataFiles,
        *,
        columns: Sequence[str],
        predicate: pl.Expr | None = None,
    ) -> None:
        """``columns``: table columns and metadata columns, in the order wanted; ``predicate`` speaks of any of them."""
        self._schema = schema
        self._files = files
        self._columns = list(columns)
        self._predicate = predicate
        named = [] if predicate is None else predicate.meta.root_names()
        self._needed = list(dict.fromkeys([*self._columns, *named]))
        self._table_columns = [name for name in self._needed if name not in METADATA_TYPES]
        self._places_needed = [name for name in _OF_FILES if name in self._needed]
        self._pushed = part_over(predicate, schema.column_names)
        self._key_types = schema.types_of(schema.trimmed_primary_keys)
        self._budget = MemoryBudget.of(schema, self._table_columns)

    def read(self, split: Split, *, limit: int | None = None) -> Iterator[pl.DataFrame]:
        """The rows of a split, frame by frame; all at once unless that would take too much memory.

        Of no more than ``limit`` rows that are wanted, no more than needed is read at once. Raises CorruptFile.
        """
        frames = self._raw(split, limit) if split.raw else self._merged(split, limit)
        return (self._shaped(frame, split) for frame in frames)

    def portions(self, splits: Sequence[Split]) -> Iterator[list[Split]]:
        """Splits as they are read together: neighbours without merging, as many as fit in memory."""
        some: list[Split] = []
        size = 0
        for split in splits:
            bytes_held = self._budget.bytes_of(split.files)
            if some and (not split.raw or not some[0].raw or size + bytes_held > self._budget.total):
                yield some
                some, size = [], 0
            some.append(split)
            size += bytes_held
        if some:
            yield some

    def read_together(self, splits: Sequence[Split], *, limit: int | None = None) -> Iterator[pl.DataFrame]:
        """The rows of one of ``portions``; see ``read``."""
        frame = self._jointly(splits, limit)
        if frame is not None:
            yield frame
            return
        for split in splits:
            yield from self.read(split, limit=limit)

    def _jointly(self, splits: Sequence[Split], limit: int | None) -> pl.DataFrame | None:
        """Splits that are read raw as one scan; None where that cannot be."""
        files = [file for split in splits for file in split.files]
        is_large = limit is None and self._budget.bytes_of(files) > self._budget.total
        if not splits[0].raw or is_large or len(self._table_columns) < len(self._needed):
            return None
        parts = [part for split in splits for part in _parts(split, split.files)]
        dtypes = {name: self._schema.polars_schema[name] for name in self._table_columns}
        return joint_read(self._files, parts, dtypes, self._columns, predicate=self._predicate, limit=limit)

    def _shaped(self, frame: pl.DataFrame, split: Split) -> pl.DataFrame:
        if BUCKET_COLUMN in self._needed:
            frame = frame.with_columns(pl.lit(split.bucket.bucket, pl.Int32).alias(BUCKET_COLUMN))
        if self._predicate is not None:
            frame = frame.filter(self._predicate)
        return frame.select(self._columns)

    def _raw(self, split: Split, limit: int | None) -> Iterator[pl.DataFrame]:
        """Rows as they are stored: of a large split, one file at a time."""
        if limit is None and not self._places_needed and self._budget.bytes_of(split.files) <= self._budget.total:
            rows = read_parts(self._files, _parts(split, split.files), self._table_columns, predicate=self._pushed)
            yield rows.drop(LEVEL, GROUP)
            return
        for file in split.files:
            part = _parts(split, [file])
            path = pl.lit(self._files.path_of(file, split.bucket.directory)).alias(FILE_PATH_COLUMN)
            for rows in self._of_file(part[0], limit):
                yield (
                    rows.drop(LEVEL, GROUP, FILE, strict=False)
                    .with_columns(path)
                    .rename({POSITION: ROW_INDEX_COLUMN}, strict=False)
                )

    def _of_file(self, part: FilePart, limit: int | None) -> Iterator[pl.DataFrame]:
        numbered = ROW_INDEX_COLUMN in self._needed
        if limit is None or part.meta.row_count <= limit:
            yield read_parts(self._files, [part], self._table_columns, predicate=self._pushed, positions=numbered)
            return
        opened = open_run(self._files, [(0, part)], self._table_columns, predicate=self._pushed, positions=numbered)
        yield from opened(self._portion_bytes(limit))

    def _portion_bytes(self, limit: int | None) -> int:
        """Bytes to read at once."""
        most = self._budget.range_bytes
        return most if limit is None else min(most, max(_LEAST_PORTION, limit * self._budget.row_bytes))

    def _merged(self, split: Split, limit: int | None) -> Iterator[pl.DataFrame]:
        keys = self._schema.trimmed_primary_keys
        plan = MergePlan.of(self._schema).restricted(self._table_columns)
        columns = [*plan.columns_needed(self._table_columns), SEQUENCE_NUMBER, VALUE_KIND]
        on_keys = part_over(self._predicate, keys)
        if self._fits(split, on_keys):
            yield self._merge(read_parts(self._files, _parts(split, split.files), columns, predicate=on_keys), plan)
            return
        runs = [
            open_run(self._files, list(enumerate(_parts(split, run))), columns, predicate=on_keys)
            for run in stacked_runs(split.files, lambda key: deserialize_row(self._key_types, key))
        ]
        for rows in key_ranges(runs, keys, self._portion_bytes(limit)):
            yield self._merge(rows, plan)

    def _fits(self, split: Split, on_keys: pl.Expr | None) -> bool:
        """Whether the rows that a predicate leaves can be merged as one frame: for a selective one, they are counted."""
        if self._budget.can_read_whole(split.files):
            return True
        if on_keys is None or split.bucket.vectors:
            return False
        rows = 0
        for file in split.files:
            found = self._files.count(file, split.bucket.directory, on_keys)
            rows += file.row_count if found is None else found
            if not self._budget.can_read_rows(rows):
                return False
        return True

    def _merge(self, rows: pl.DataFrame, plan: MergePlan) -> pl.DataFrame:
        """Rows of whole keys, merged."""
        options = self._schema.table_options
        if options.needs_lookup and options.merge_engine is not MergeEngine.DEDUPLICATE:
            level0 = rows.filter(pl.col(LEVEL) == 0)
            lower = lowest_level_only(rows.filter(pl.col(LEVEL) > 0), self._schema.trimmed_primary_keys)
            rows = pl.concat([level0, lower])
        frame = drop_retracts(merge(rows.drop(LEVEL, GROUP), plan))
        return frame.with_columns(pl.lit(None, METADATA_TYPES[name]).alias(name) for name in self._places_needed)


def _parts(split: Split, files: Sequence[DataFileMeta]) -> list[FilePart]:
    directory, vectors = split.bucket.directory, split.bucket.vectors
    return [FilePart(meta=file, directory=directory, vector=vectors.get(file.file_name)) for file in files]

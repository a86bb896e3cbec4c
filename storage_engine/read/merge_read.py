"""One split of a plan as a frame: read, mask, merge, drop retractions, filter, project."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from storage_engine.kernel.merge import MergePlan, drop_retracts, merge
from storage_engine.kernel.predicate import part_over
from storage_engine.options import MergeEngine
from storage_engine.read.plan import Split
from storage_engine.spec.manifest import DataFileMeta
from storage_engine.spec.schema import SEQUENCE_NUMBER, VALUE_KIND, TableSchema
from storage_engine.store.data_files import DataFiles
from storage_engine.store.merge_frames import GROUP, LEVEL, FilePart, lowest_level_only, read_parts

BUCKET_COLUMN, FILE_PATH_COLUMN = "__bucket", "__file_path"
METADATA_TYPES: dict[str, pl.DataType] = {BUCKET_COLUMN: pl.Int32(), FILE_PATH_COLUMN: pl.String()}


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
        self._pushed = part_over(predicate, schema.column_names)

    def read(self, split: Split) -> pl.DataFrame:
        """The rows of a split. Raises CorruptFile."""
        frame = self._raw(split) if split.raw else self._merged(split)
        if BUCKET_COLUMN in self._needed:
            frame = frame.with_columns(pl.lit(split.bucket.bucket, pl.Int32).alias(BUCKET_COLUMN))
        if self._predicate is not None:
            frame = frame.filter(self._predicate)
        return frame.select(self._columns)

    def _raw(self, split: Split) -> pl.DataFrame:
        if FILE_PATH_COLUMN not in self._needed:
            return self._rows(split, split.files, self._table_columns, self._pushed).drop(LEVEL, GROUP)
        parts = []
        for file in split.files:
            path = self._files.path_of(file, split.bucket.directory)
            rows = self._rows(split, [file], self._table_columns, self._pushed).drop(LEVEL, GROUP)
            parts.append(rows.with_columns(pl.lit(path).alias(FILE_PATH_COLUMN)))
        return pl.concat(parts)

    def _rows(
        self, split: Split, files: Sequence[DataFileMeta], columns: Sequence[str], predicate: pl.Expr | None
    ) -> pl.DataFrame:
        directory, vectors = split.bucket.directory, split.bucket.vectors
        parts = [FilePart(meta=file, directory=directory, vector=vectors.get(file.file_name)) for file in files]
        return read_parts(self._files, parts, columns, predicate=predicate)

    def _merged(self, split: Split) -> pl.DataFrame:
        keys = self._schema.trimmed_primary_keys
        plan = MergePlan.of(self._schema).restricted(self._table_columns)
        columns = [*plan.columns_needed(self._table_columns), SEQUENCE_NUMBER, VALUE_KIND]
        rows = self._rows(split, split.files, columns, part_over(self._predicate, keys)).drop(GROUP)
        options = self._schema.table_options
        if options.needs_lookup and options.merge_engine is not MergeEngine.DEDUPLICATE:
            level0 = rows.filter(pl.col(LEVEL) == 0)
            rows = pl.concat([level0, lowest_level_only(rows.filter(pl.col(LEVEL) > 0), keys)])
        frame = drop_retracts(merge(rows.drop(LEVEL), plan))
        if FILE_PATH_COLUMN in self._needed:
            frame = frame.with_columns(pl.lit(None, pl.String).alias(FILE_PATH_COLUMN))
        return frame

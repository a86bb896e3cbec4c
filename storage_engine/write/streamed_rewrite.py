"""Rewrites a group of files that is larger than the memory budget, one range of keys after the other.

Spec: "Compaction" of Apache Paimon 1.3.1, options ``write-buffer-size``, ``target-file-size`` and ``async-file-write``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial

import polars as pl

from storage_engine.codec.binary_row import deserialize_row
from storage_engine.kernel.merge import drop_retracts
from storage_engine.lsm.levels import stacked_runs
from storage_engine.spec.manifest import DataFileMeta, FileSource
from storage_engine.spec.schema import SEQUENCE_NUMBER, VALUE_KIND, TableSchema
from storage_engine.store.data_files import DataFiles, FileRole
from storage_engine.store.key_ranges import key_ranges
from storage_engine.store.memory_budget import MemoryBudget
from storage_engine.store.merge_frames import FILE, FILE_NAME, GROUP, POSITION, lowest_level_only, open_run
from storage_engine.store.rolling_files import RollingFiles
from storage_engine.write.compaction_task import Group
from storage_engine.write.merge_pass import Merged, MergePass
from storage_engine.write.point_lookup import Found


class StreamedRewrite:
    """Rewrites groups of one table version in bounded memory."""

    def __init__(self, schema: TableSchema, files: DataFiles, merge_pass: MergePass, budget: MemoryBudget) -> None:
        self._options = schema.table_options
        self._files = files
        self._pass = merge_pass
        self._budget = budget
        self._keys = list(schema.trimmed_primary_keys)
        self._key_types = schema.types_of(self._keys)
        self._columns = [*schema.column_names, SEQUENCE_NUMBER, VALUE_KIND]

    def run(self, group: Group, frames: Mapping[str, pl.DataFrame], *, looks_up: bool) -> None:
        """Merge the files of a group into files of the output level; with changelog and deletion vectors."""
        task = group.task
        level = task.unit.output_level
        with (
            self._rolling(group, self._files.data_role(level, FileSource.COMPACT)) as data,
            self._rolling(group, self._files.changelog_role(level)) as changelog,
        ):
            for done in self._merged(group, frames, looks_up=looks_up):
                merged = drop_retracts(done.merged) if task.unit.drop_delete else done.merged
                data.write(merged.drop(GROUP))
                changelog.write(done.changes.drop(GROUP))
                del merged, done
            task.changelog += changelog.close()
            task.replace(group.files, data.close())

    def _rolling(self, group: Group, role: FileRole) -> RollingFiles:
        return RollingFiles(self._files, group.task.bucket.directory, role, background=self._options.async_file_write)

    def _merged(self, group: Group, frames: Mapping[str, pl.DataFrame], *, looks_up: bool) -> Iterator[Merged]:
        if not looks_up:
            ranges = self._ranges(group, group.files, frames, positions=False)
            yield from (self._pass.plain([group], rows) for rows in ranges)
            return
        files = [*group.files, *group.task.beyond()]
        for rows in self._ranges(group, files, frames, positions=True):
            inside = rows.get_column(FILE) < len(group.files)
            find = partial(self._found, [file.file_name for file in files], rows.filter(~inside))
            yield self._pass.lookup([group], rows.filter(inside).drop(FILE, POSITION), find)

    def _found(self, names: Sequence[str], beyond: pl.DataFrame, keys: pl.DataFrame) -> Found:
        """The record of each key among the rows of a range that lie beyond the output level."""
        on = [GROUP, *self._keys]
        rows = lowest_level_only(beyond.join(keys, on=on, how="semi"), on)
        names_of_rows = pl.Series(FILE_NAME, names).gather(rows.get_column(FILE))
        places = rows.select(GROUP, POSITION).with_columns(names_of_rows)
        return Found(rows=rows.select(*self._columns, GROUP), places=places)

    def _ranges(
        self, group: Group, files: Sequence[DataFileMeta], frames: Mapping[str, pl.DataFrame], *, positions: bool
    ) -> Iterator[pl.DataFrame]:
        numbers = {file.file_name: number for number, file in enumerate(files)}
        runs = [
            open_run(
                self._files,
                [(numbers[part.meta.file_name], part) for part in group.task.parts(run)],
                self._columns,
                frames=frames,
                positions=positions,
            )
            for run in stacked_runs(files, lambda key: deserialize_row(self._key_types, key))
        ]
        return key_ranges(runs, self._keys, self._budget.range_bytes)

"""Compacts buckets: rewrites or upgrades the files that were picked, with changelog and deletion vectors.

Spec: "Compaction" and "Changelog producer" of Apache Paimon 1.3.1. What to compact is decided bucket by bucket; the rows of
many buckets are then read, looked up and merged in one vectorised pass, with ``_GROUP`` as the leading key. What is too large for
the memory budget is merged in ranges of its keys.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import polars as pl

from storage_engine.codec.binary_row import deserialize_row
from storage_engine.kernel.merge import drop_retracts
from storage_engine.lsm.levels import Levels, sections
from storage_engine.lsm.universal_compaction import pick
from storage_engine.options import ChangelogProducer
from storage_engine.spec.manifest import CommitMessage, DataFileMeta, FileSource
from storage_engine.spec.schema import SEQUENCE_NUMBER, VALUE_KIND, TableSchema
from storage_engine.store.data_files import DataFiles, local_wall_clock_millis
from storage_engine.store.index_files import IndexFiles
from storage_engine.store.live_files import Bucket
from storage_engine.store.memory_budget import MemoryBudget
from storage_engine.store.merge_frames import GROUP, FilePart, read_parts
from storage_engine.store.threads import side_by_side
from storage_engine.write.bucket_router import by_group
from storage_engine.write.compaction_task import Group, Task
from storage_engine.write.expired_records import ExpiredRecords
from storage_engine.write.merge_pass import Merged, MergePass
from storage_engine.write.point_lookup import PointLookup
from storage_engine.write.streamed_rewrite import StreamedRewrite

_SMALL_FILE_SHARE = 0.7
_WRITER_THREADS = 4
_PASS_THREADS = 2
_SHARED_ROWS = 200_000


class Compactor:
    """Compacts buckets of one table version."""

    def __init__(
        self, schema: TableSchema, files: DataFiles, index_files: IndexFiles, *, changelog: bool = True
    ) -> None:
        """``changelog=False``: nobody is told of the changes."""
        self._options = schema.table_options
        self._files = files
        self._index_files = index_files
        self._pass = MergePass(schema, changelog=changelog)
        self._columns = (*schema.column_names, SEQUENCE_NUMBER, VALUE_KIND)
        self._key_types = schema.types_of(schema.trimmed_primary_keys)
        self._lookup = PointLookup(schema, files)
        self._expired = ExpiredRecords(schema)
        self._budget = MemoryBudget.of(schema)
        self._streamed = StreamedRewrite(schema, files, self._pass, self._budget)

    def compact(
        self, buckets: Sequence[Bucket], *, full: bool = False, frames: Mapping[str, pl.DataFrame] | None = None
    ) -> list[CommitMessage]:
        """Compact the buckets whose shape asks for it (``full``: all, into one run at the top level).

        ``frames`` are rows of just-written files by name, which need no second reading.
        """
        tasks = [task for bucket in buckets if (task := self._task(bucket, full=full)) is not None]
        groups = [group for task in tasks for group in self._groups(task)]
        rewritten = [group for group in groups if not self._upgraded_at_once(group)]
        held = [group for group in rewritten if self._budget.can_hold(group.files)]
        for some in self._budget.passes(held, lambda group: group.files):
            side_by_side(lambda part: self._run(part, frames or {}), _shares(some), threads=_PASS_THREADS)
        for group in rewritten:
            if not self._budget.can_hold(group.files):
                self._streamed.run(group, frames or {}, looks_up=self._looks_up(group))
        return [message for task in tasks if (message := self._message(task)) is not None]

    def is_due(self, bucket: Bucket, *, full: bool) -> bool:
        """Whether ``compact`` would find something to do."""
        return self._task(bucket, full=full) is not None

    def _task(self, bucket: Bucket, *, full: bool) -> Task | None:
        options = self._options
        levels = Levels.of(bucket.files, num_levels=options.num_levels, trigger=options.compaction_trigger)
        expired = [file.file_name for file in bucket.files if self._holds_expired(file)]
        rewrite = frozenset([*bucket.vectors, *expired])
        unit = pick(
            levels,
            options,
            force_level0=options.needs_lookup,
            full=full,
            rewrite=rewrite,
            now_millis=local_wall_clock_millis(),
        )
        if unit is None:
            return None
        return Task(bucket=bucket, unit=unit, levels=levels, vectors=dict(bucket.vectors))

    def _groups(self, task: Task) -> Iterator[Group]:
        """Files that must be rewritten together; a group of one file may be upgraded instead."""
        if task.unit.file_rewrite:
            yield from (Group(task=task, files=(file,)) for file in task.unit.files)
            return
        limit = _SMALL_FILE_SHARE * self._options.target_file_size_bytes(has_primary_key=True)
        candidates: list[DataFileMeta] = []
        for section in sections(task.unit.files, lambda key: deserialize_row(self._key_types, key)):
            members = [file for run in section for file in run.files]
            if len(section) > 1 or all(file.file_size < limit for file in members):
                candidates += members
                continue
            if candidates:
                yield Group(task=task, files=tuple(candidates))
                candidates = []
            yield from (Group(task=task, files=(file,)) for file in members)
        if candidates:
            yield Group(task=task, files=tuple(candidates))

    def _looks_up(self, group: Group) -> bool:
        return self._options.needs_lookup and any(file.level == 0 for file in group.files)

    def _upgraded_at_once(self, group: Group) -> bool:
        """Move a file to the output level by metadata alone, where nothing has to be looked up or dropped."""
        file, task = group.files[0], group.task
        if len(group.files) > 1 or self._looks_up(group) or file.file_name in task.vectors:
            return False
        full_changelog = self._options.changelog_producer is ChangelogProducer.FULL_COMPACTION and task.to_top
        if full_changelog and file.level != task.levels.max_level:
            return False
        if (task.unit.drop_delete and file.delete_row_count != 0) or self._holds_expired(file):
            return False
        task.upgrade(file)
        return True

    def _holds_expired(self, file: DataFileMeta) -> bool:
        return self._expired.are_dropped and self._expired.are_in(file, self._files.schema_of(file))

    def _run(self, groups: Sequence[Group], frames: Mapping[str, pl.DataFrame]) -> None:
        looking = [group for group in groups if self._looks_up(group)]
        plain = [group for group in groups if not self._looks_up(group)]
        if looking:
            beyond = _parts(looking, lambda group: group.task.beyond())
            rows = self._read(looking, frames)
            done = self._pass.lookup(looking, rows, lambda keys: self._lookup.find(keys, beyond))
            self._finish(looking, done)
        if plain:
            self._finish(plain, self._pass.plain(plain, self._read(plain, frames)))

    def _read(self, groups: Sequence[Group], frames: Mapping[str, pl.DataFrame]) -> pl.DataFrame:
        return read_parts(self._files, _parts(groups, lambda group: group.files), self._columns, frames=frames)

    def _finish(self, groups: Sequence[Group], done: Merged) -> None:
        """Write what a pass gave, group by group."""
        merged, rows, changes = by_group(done.merged), by_group(done.rows), by_group(done.changes)

        def finish(item: tuple[int, Group]) -> None:
            number, group = item
            mine = merged[number] if number in merged else done.merged.clear().drop(GROUP)
            self._replace(group, rows.get(number), mine, is_input=done.is_input)
            if number in changes:
                role = self._files.changelog_role(group.task.unit.output_level)
                group.task.changelog += self._files.write(changes[number], group.task.bucket.directory, role)

        threads = self._files.threads(done.merged.height + done.changes.height, _WRITER_THREADS)
        side_by_side(finish, list(enumerate(groups)), threads=threads)

    def _replace(self, group: Group, rows: pl.DataFrame | None, merged: pl.DataFrame, *, is_input: bool) -> None:
        task, file = group.task, group.files[0]
        alone = len(group.files) == 1 and file.file_name not in task.vectors
        drops = task.unit.drop_delete and file.delete_row_count != 0
        if alone and not drops and rows is not None and rows.height == file.row_count:
            unchanged = is_input or self._pass.plan.keeps_input(rows, merged)
            if unchanged:
                task.upgrade(file)
                return
        kept = drop_retracts(merged) if task.unit.drop_delete else merged
        role = self._files.data_role(task.unit.output_level, FileSource.COMPACT)
        task.replace(group.files, self._files.write(kept, task.bucket.directory, role))

    def _message(self, task: Task) -> CommitMessage | None:
        if not task.before and not task.changelog:
            return None
        written = self._index_files.write_deletion_vectors
        vectors = (written(task.bucket.key, task.vectors),) if task.vectors_changed else ()
        return CommitMessage(
            partition=task.bucket.partition,
            bucket=task.bucket.bucket,
            total_buckets=task.bucket.total_buckets,
            compact_before=tuple(task.before),
            compact_after=tuple(task.after),
            compact_changelog_files=tuple(task.changelog),
            compact_new_index_files=vectors,
        )


def _shares(groups: Sequence[Group]) -> list[Sequence[Group]]:
    """The groups of a pass in two halves, if each has so many rows that it pays to merge them side by side."""
    rows = np.cumsum([sum(file.row_count for file in group.files) for group in groups])
    if rows[-1] < _SHARED_ROWS:
        return [groups]
    half = int(np.searchsorted(rows, rows[-1] / 2)) + 1
    return [share for share in (groups[:half], groups[half:]) if share]


def _parts(groups: Sequence[Group], files: Callable[[Group], Sequence[DataFileMeta]]) -> list[FilePart]:
    """Files of several groups to be read, each with the number of its group."""
    return [part for number, group in enumerate(groups) for part in group.task.parts(files(group), number)]

"""Compacts buckets: rewrites or upgrades the files that were picked, with changelog and deletion vectors.

Spec: "Compaction" and "Changelog producer" of Apache Paimon 1.3.1. What to compact is decided bucket by bucket; the rows of
many buckets are then read, looked up and merged in one vectorised pass, with ``_GROUP`` as the leading key.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import polars as pl

from storage_engine.codec.binary_row import deserialize_row
from storage_engine.codec.deletion_vector import DeletionVector
from storage_engine.kernel.changelog import full_compaction_changelog, lookup_changelog
from storage_engine.kernel.merge import MergePlan, drop_retracts, merge
from storage_engine.lsm.levels import Levels, sections
from storage_engine.lsm.universal_compaction import CompactUnit, pick
from storage_engine.options import ChangelogProducer, MergeEngine
from storage_engine.spec.manifest import CommitMessage, DataFileMeta, FileSource
from storage_engine.spec.schema import SEQUENCE_NUMBER, VALUE_KIND, TableSchema
from storage_engine.store.data_files import DataFiles
from storage_engine.store.index_files import IndexFiles
from storage_engine.store.live_files import Bucket
from storage_engine.store.merge_frames import GROUP, LEVEL, POSITION, FilePart, lowest_level_only, read_parts
from storage_engine.write.bucket_router import by_group
from storage_engine.write.point_lookup import Found, PointLookup

_SMALL_FILE_SHARE = 0.7
_PASS_BYTES = 64 << 20  # files merged in one pass, as stored; a larger group is a pass of its own
_WRITER_THREADS = 4


@dataclass(slots=True, kw_only=True)
class _Task:
    """One pick of one bucket, and what has come of it so far."""

    bucket: Bucket
    unit: CompactUnit
    levels: Levels
    vectors: dict[str, DeletionVector]
    vectors_changed: bool = False
    before: list[DataFileMeta] = field(default_factory=list)
    after: list[DataFileMeta] = field(default_factory=list)
    changelog: list[DataFileMeta] = field(default_factory=list)

    @property
    def to_top(self) -> bool:
        return self.unit.output_level == self.levels.max_level


@dataclass(frozen=True, slots=True, kw_only=True)
class _Group:
    """Files of one task that are rewritten together."""

    task: _Task
    files: tuple[DataFileMeta, ...]

    @property
    def total_size(self) -> int:
        return sum(file.file_size for file in self.files)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Merged:
    """A pass over many groups: rows read, rows merged, changes; all led by ``_GROUP``, sorted by it."""

    rows: pl.DataFrame
    merged: pl.DataFrame
    changes: pl.DataFrame


class Compactor:
    """Compacts buckets of one table version."""

    def __init__(self, schema: TableSchema, files: DataFiles, index_files: IndexFiles) -> None:
        self._options = schema.table_options
        self._files = files
        self._index_files = index_files
        self._plan = MergePlan.of(schema)
        self._keys = [GROUP, *schema.trimmed_primary_keys]
        self._columns = (*schema.column_names, SEQUENCE_NUMBER, VALUE_KIND)
        self._key_types = schema.types_of(schema.trimmed_primary_keys)
        self._merged_above_level0 = (
            self._options.needs_lookup and self._options.merge_engine is not MergeEngine.FIRST_ROW
        )
        self._lookup = PointLookup(schema, files)

    def compact(
        self, buckets: Sequence[Bucket], *, full: bool = False, frames: Mapping[str, pl.DataFrame] | None = None
    ) -> list[CommitMessage]:
        """Compact the buckets whose shape asks for it (``full``: all, into one run at the top level).

        ``frames`` are rows of just-written files by name, which need no second reading.
        """
        tasks = [task for bucket in buckets if (task := self._task(bucket, full=full)) is not None]
        groups = [group for task in tasks for group in self._groups(task)]
        rewritten = [group for group in groups if not self._upgraded_at_once(group)]
        for some in _passes(rewritten):
            self._run(some, frames or {})
        return [message for task in tasks if (message := self._message(task)) is not None]

    def _task(self, bucket: Bucket, *, full: bool) -> _Task | None:
        options = self._options
        levels = Levels.of(bucket.files, num_levels=options.num_levels, trigger=options.compaction_trigger)
        unit = pick(levels, options, force_level0=options.needs_lookup, full=full, rewrite=frozenset(bucket.vectors))
        if unit is None:
            return None
        return _Task(bucket=bucket, unit=unit, levels=levels, vectors=dict(bucket.vectors))

    def _groups(self, task: _Task) -> Iterator[_Group]:
        """Files that must be rewritten together; a group of one file may be upgraded instead."""
        if task.unit.file_rewrite:
            yield from (_Group(task=task, files=(file,)) for file in task.unit.files)
            return
        limit = _SMALL_FILE_SHARE * self._options.target_file_size_bytes(has_primary_key=True)
        candidates: list[DataFileMeta] = []
        for section in sections(task.unit.files, lambda key: deserialize_row(self._key_types, key)):
            members = [file for run in section for file in run.files]
            if len(section) > 1 or all(file.file_size < limit for file in members):
                candidates += members
                continue
            if candidates:
                yield _Group(task=task, files=tuple(candidates))
                candidates = []
            yield from (_Group(task=task, files=(file,)) for file in members)
        if candidates:
            yield _Group(task=task, files=tuple(candidates))

    def _looks_up(self, group: _Group) -> bool:
        return self._options.needs_lookup and any(file.level == 0 for file in group.files)

    def _upgraded_at_once(self, group: _Group) -> bool:
        """Move a file to the output level by metadata alone, where nothing has to be looked up or dropped."""
        file, task = group.files[0], group.task
        if len(group.files) > 1 or self._looks_up(group) or file.file_name in task.vectors:
            return False
        full_changelog = self._options.changelog_producer is ChangelogProducer.FULL_COMPACTION and task.to_top
        if full_changelog and file.level != task.levels.max_level:
            return False
        if task.unit.drop_delete and file.delete_row_count != 0:
            return False
        _upgrade(task, file)
        return True

    def _run(self, groups: Sequence[_Group], frames: Mapping[str, pl.DataFrame]) -> None:
        looking = [group for group in groups if self._looks_up(group)]
        plain = [group for group in groups if not self._looks_up(group)]
        for some, merge_pass in ((looking, self._lookup_pass), (plain, self._plain_pass)):
            if some:
                self._finish(some, merge_pass(some, self._read(some, frames)))

    def _read(self, groups: Sequence[_Group], frames: Mapping[str, pl.DataFrame]) -> pl.DataFrame:
        parts = [part for number, group in enumerate(groups) for part in _parts(number, group.task, group.files)]
        return read_parts(self._files, parts, self._columns, frames=frames)

    def _plain_pass(self, groups: Sequence[_Group], rows: pl.DataFrame) -> _Merged:
        current = lowest_level_only(rows, self._keys) if self._merged_above_level0 else rows
        merged = merge(current.drop(LEVEL), self._plan, group=(GROUP,))
        changes = merged.clear()
        if self._options.changelog_producer is ChangelogProducer.FULL_COMPACTION:
            top = pl.Series(
                [group.task.levels.max_level if group.task.to_top else -1 for group in groups], dtype=pl.Int8
            )
            of_row = top.gather(rows[GROUP])
            to_top = rows.filter(of_row >= 0)
            before = rows.filter(rows[LEVEL] == of_row).drop(LEVEL)
            after = merged.join(to_top.select(GROUP).unique(), on=GROUP, how="semi", maintain_order="left")
            changes = full_compaction_changelog(before, after, to_top.drop(LEVEL), self._plan, group=(GROUP,))
        return _Merged(rows=rows, merged=merged, changes=changes)

    def _lookup_pass(self, groups: Sequence[_Group], rows: pl.DataFrame) -> _Merged:
        """Merge groups that hold level 0 with the record of each key below it.

        The record below is the one at the lowest level above 0, in the group itself or else beyond the output level.
        """
        level0 = rows.filter(pl.col(LEVEL) == 0).drop(LEVEL)
        inside = lowest_level_only(rows.filter(pl.col(LEVEL) > 0), self._keys).drop(LEVEL)
        fresh = level0.select(self._keys).unique()
        missing = fresh.join(inside, on=self._keys, how="anti")
        beyond = [part for number, group in enumerate(groups) for part in _beyond(number, group)]
        found = self._lookup.find(missing, beyond)
        if self._options.deletion_vectors:
            _mask(groups, found)
        if self._options.merge_engine is MergeEngine.FIRST_ROW:
            return self._first_rows(rows, level0.join(found.rows, on=self._keys, how="anti"), inside)
        below = pl.concat([inside.select(level0.columns), found.rows.select(level0.columns)])
        merged = merge(pl.concat([level0, below]), self._plan, group=(GROUP,), pass_through=False)
        changes = merged.clear()
        if self._options.changelog_producer is ChangelogProducer.LOOKUP:
            before = below.join(fresh, on=self._keys, how="semi")
            after = merged.join(fresh, on=self._keys, how="semi", maintain_order="left")
            changes = lookup_changelog(before, after, self._plan, group=(GROUP,))
        return _Merged(rows=rows, merged=merged, changes=changes)

    def _first_rows(self, rows: pl.DataFrame, unseen: pl.DataFrame, inside: pl.DataFrame) -> _Merged:
        """What is left of level 0 once the keys that lie beyond are gone: a reader of first-row merges no levels."""
        merged = merge(pl.concat([unseen, inside.select(unseen.columns)]), self._plan, group=(GROUP,))
        changes = merged.clear()
        if self._options.changelog_producer is ChangelogProducer.LOOKUP:
            came = merged.join(inside, on=self._keys, how="anti", maintain_order="left")
            changes = lookup_changelog(changes, came, self._plan, group=(GROUP,))
        return _Merged(rows=rows, merged=merged, changes=changes)

    def _finish(self, groups: Sequence[_Group], done: _Merged) -> None:
        """Write what a pass gave, group by group."""
        merged, rows, changes = by_group(done.merged), by_group(done.rows), by_group(done.changes)

        def finish(item: tuple[int, _Group]) -> None:
            number, group = item
            mine = merged.get(number, done.merged.clear().drop(GROUP))
            self._replace(group, rows.get(number), mine)
            if number in changes:
                role = self._files.changelog_role(group.task.unit.output_level)
                group.task.changelog += self._files.write(changes[number], group.task.bucket.directory, role)

        with ThreadPoolExecutor(_WRITER_THREADS) as pool:
            list(pool.map(finish, enumerate(groups)))

    def _replace(self, group: _Group, rows: pl.DataFrame | None, merged: pl.DataFrame) -> None:
        task, file = group.task, group.files[0]
        alone = len(group.files) == 1 and file.file_name not in task.vectors
        drops = task.unit.drop_delete and file.delete_row_count != 0
        if alone and not drops and rows is not None and self._plan.keeps_input(rows, merged):
            _upgrade(task, file)
            return
        kept = drop_retracts(merged) if task.unit.drop_delete else merged
        role = self._files.data_role(task.unit.output_level, FileSource.COMPACT)
        task.before += group.files
        task.after += self._files.write(kept, task.bucket.directory, role)
        for member in group.files:
            task.vectors_changed |= task.vectors.pop(member.file_name, None) is not None

    def _message(self, task: _Task) -> CommitMessage | None:
        if not task.before and not task.changelog:
            return None
        vectors = (self._index_files.write_deletion_vectors(task.vectors),) if task.vectors_changed else ()
        return CommitMessage(
            partition=task.bucket.partition,
            bucket=task.bucket.bucket,
            total_buckets=task.bucket.total_buckets,
            compact_before=tuple(task.before),
            compact_after=tuple(task.after),
            compact_changelog_files=tuple(task.changelog),
            compact_new_index_files=vectors,
        )


def _passes(groups: Sequence[_Group]) -> Iterator[list[_Group]]:
    """Groups in portions that fit one pass."""
    some: list[_Group] = []
    size = 0
    for group in groups:
        if some and size + group.total_size > _PASS_BYTES:
            yield some
            some, size = [], 0
        some.append(group)
        size += group.total_size
    if some:
        yield some


def _upgrade(task: _Task, file: DataFileMeta) -> None:
    if file.level != task.unit.output_level:
        task.before.append(file)
        task.after.append(file.upgraded(task.unit.output_level))


def _parts(number: int, task: _Task, files: Sequence[DataFileMeta]) -> list[FilePart]:
    return [
        FilePart(meta=file, directory=task.bucket.directory, vector=task.vectors.get(file.file_name), group=number)
        for file in files
    ]


def _beyond(number: int, group: _Group) -> list[FilePart]:
    """The files of a bucket above the output level, which keys of level 0 are looked up in."""
    task = group.task
    unit = {file.file_name for file in task.unit.files}
    files = [file for file in task.bucket.files if file.level > task.unit.output_level and file.file_name not in unit]
    return _parts(number, task, files)


def _mask(groups: Sequence[_Group], found: Found) -> None:
    """Hide the found rows behind deletion vectors: newer ones replace them."""
    for (number, name), places in found.places.partition_by([GROUP, "file_name"], as_dict=True).items():
        task = groups[int(str(number))].task
        old = task.vectors.get(str(name), DeletionVector())
        task.vectors[str(name)] = old.with_positions(places[POSITION].to_numpy())
        task.vectors_changed = True

"""Compacts one bucket: rewrites or upgrades the files that were picked, with changelog and deletion vectors.

Spec: "Compaction" and "Changelog producer" of Apache Paimon 1.3.1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import polars as pl

from storage_engine.codec.binary_row import deserialize_row
from storage_engine.codec.deletion_vector import DeletionVector
from storage_engine.kernel.changelog import full_compaction_changelog, lookup_changelog
from storage_engine.kernel.merge import MergePlan, drop_retracts, merge
from storage_engine.lsm.levels import Levels, sections
from storage_engine.lsm.universal_compaction import CompactUnit, pick
from storage_engine.options import ChangelogProducer
from storage_engine.spec.manifest import CommitMessage, DataFileMeta, FileSource
from storage_engine.spec.schema import SEQUENCE_NUMBER, VALUE_KIND, TableSchema
from storage_engine.store.data_files import DataFiles
from storage_engine.store.index_files import IndexFiles
from storage_engine.store.live_files import Bucket
from storage_engine.store.merge_frames import LEVEL, lowest_level_only, read_levels
from storage_engine.write.point_lookup import PointLookup

_SMALL_FILE_SHARE = 0.7


@dataclass(slots=True)
class _Result:
    """What a compaction has produced so far; grows section by section."""

    before: list[DataFileMeta] = field(default_factory=list)
    after: list[DataFileMeta] = field(default_factory=list)
    changelog: list[DataFileMeta] = field(default_factory=list)
    vectors: dict[str, DeletionVector] = field(default_factory=dict)
    vectors_changed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class _Task:
    """One pick of one bucket, with what is needed to carry it out."""

    bucket: Bucket
    unit: CompactUnit
    levels: Levels
    frames: Mapping[str, pl.DataFrame]

    @property
    def to_top(self) -> bool:
        return self.unit.output_level == self.levels.max_level


class Compactor:
    """Compacts buckets of one table version."""

    def __init__(self, schema: TableSchema, files: DataFiles, index_files: IndexFiles) -> None:
        self._schema = schema
        self._options = schema.table_options
        self._files = files
        self._index_files = index_files
        self._plan = MergePlan.of(schema)
        self._columns = (*schema.column_names, SEQUENCE_NUMBER, VALUE_KIND)
        self._key_types = schema.types_of(schema.trimmed_primary_keys)
        self._lookup = PointLookup(schema, files)

    def key_of(self, key: bytes) -> tuple[object, ...]:
        """A serialized key as comparable Python values."""
        return deserialize_row(self._key_types, key)

    def compact(
        self, bucket: Bucket, *, full: bool = False, frames: Mapping[str, pl.DataFrame] | None = None
    ) -> CommitMessage | None:
        """Compact a bucket if its shape asks for it (``full``: into one run at the top level); None if nothing is to
        be done.

        ``frames`` are rows of just-written files by name, which need no second reading.
        """
        levels = Levels.of(bucket.files, num_levels=self._options.num_levels, trigger=self._options.compaction_trigger)
        unit = pick(
            levels,
            self._options,
            force_level0=self._options.needs_lookup,
            full=full,
            rewrite=frozenset(bucket.vectors),
        )
        if unit is None:
            return None
        task = _Task(bucket=bucket, unit=unit, levels=levels, frames=frames or {})
        result = _Result(vectors=dict(bucket.vectors))
        groups = [[file] for file in unit.files] if unit.file_rewrite else self._groups(unit.files)
        for group in groups:
            self._compact_group(task, group, result)
        return self._message(task, result)

    def _groups(self, files: Sequence[DataFileMeta]) -> list[list[DataFileMeta]]:
        """Files that must be rewritten together; a group of one file may be upgraded instead."""
        limit = _SMALL_FILE_SHARE * self._options.target_file_size_bytes(has_primary_key=True)
        groups: list[list[DataFileMeta]] = []
        candidates: list[DataFileMeta] = []
        for section in sections(files, self.key_of):
            members = [file for run in section for file in run.files]
            if len(section) == 1 and any(file.file_size >= limit for file in members):
                if candidates:
                    groups.append(candidates)
                    candidates = []
                groups += [[file] for file in members]
            else:
                candidates += members
        return [*groups, candidates] if candidates else groups

    def _compact_group(self, task: _Task, group: Sequence[DataFileMeta], result: _Result) -> None:
        lookups = self._options.needs_lookup and any(file.level == 0 for file in group)
        single = group[0] if len(group) == 1 else None
        if single is not None and not lookups and self._may_upgrade(task, single):
            self._upgrade(task, single, result)
            return
        rows = self._read(task, group, result.vectors)
        merged, before = (
            self._merge(task, group, rows, result) if lookups else (merge(rows.drop(LEVEL), self._plan), None)
        )
        if single is not None and lookups and self._unchanged(task, single, rows, merged):
            self._upgrade(task, single, result)
        else:
            self._rewrite(task, group, merged, result)
        self._write_changelog(task, rows, merged, before, result)

    def _may_upgrade(self, task: _Task, file: DataFileMeta) -> bool:
        if self._options.changelog_producer is ChangelogProducer.FULL_COMPACTION and task.to_top:
            return file.level == task.levels.max_level
        if file.file_name in task.bucket.vectors:
            return False
        return not (task.unit.drop_delete and file.delete_row_count != 0)

    def _upgrade(self, task: _Task, file: DataFileMeta, result: _Result) -> None:
        if file.level == task.unit.output_level:
            return
        result.before.append(file)
        result.after.append(file.upgraded(task.unit.output_level))

    def _unchanged(self, task: _Task, file: DataFileMeta, rows: pl.DataFrame, merged: pl.DataFrame) -> bool:
        """Whether the level-0 file already holds the merged rows, so that moving it up is enough."""
        if file.delete_row_count != 0 and task.unit.drop_delete:
            return False
        return merged.height == rows.height and self._plan.keeps_input(rows, merged)

    def _read(self, task: _Task, group: Sequence[DataFileMeta], vectors: Mapping[str, DeletionVector]) -> pl.DataFrame:
        return read_levels(
            self._files, group, task.bucket.directory, self._columns, vectors=vectors, frames=task.frames
        )

    def _merge(
        self, task: _Task, group: Sequence[DataFileMeta], rows: pl.DataFrame, result: _Result
    ) -> tuple[pl.DataFrame, pl.DataFrame]:
        """Merge a group that holds level 0 with the record of each key below it: merged rows, and those records.

        The record below is the one at the lowest level above 0, in the group itself or else beyond the output level.
        """
        keys = list(self._schema.trimmed_primary_keys)
        level0 = rows.filter(pl.col(LEVEL) == 0)
        inside = lowest_level_only(rows.filter(pl.col(LEVEL) > 0), keys)
        fresh = level0.select(keys).unique()
        missing = fresh.join(inside.select(keys), on=keys, how="anti") if inside.height else fresh
        beyond = [file for file in task.bucket.files if file.level > task.unit.output_level and file not in group]
        beyond = [file for file in beyond if file not in task.unit.files]
        found = self._lookup.find(missing, beyond, task.bucket, result.vectors, self._columns)
        if self._options.deletion_vectors and found.positions:
            for name, positions in found.positions.items():
                result.vectors[name] = result.vectors.get(name, DeletionVector()).with_positions(positions)
            result.vectors_changed = True
        before = pl.concat([inside.drop(LEVEL).join(fresh, on=keys, how="semi"), found.rows])
        records = pl.concat([level0.drop(LEVEL), inside.drop(LEVEL), found.rows])
        merged = merge(records, self._plan, pass_through=False)
        return merged, before

    def _rewrite(self, task: _Task, group: Sequence[DataFileMeta], merged: pl.DataFrame, result: _Result) -> None:
        kept = drop_retracts(merged) if task.unit.drop_delete else merged
        role = self._files.data_role(task.unit.output_level, FileSource.COMPACT)
        result.before += group
        result.after += self._files.write(kept, task.bucket.directory, role)
        for file in group:
            if result.vectors.pop(file.file_name, None) is not None:
                result.vectors_changed = True

    def _write_changelog(
        self,
        task: _Task,
        rows: pl.DataFrame,
        merged: pl.DataFrame,
        before: pl.DataFrame | None,
        result: _Result,
    ) -> None:
        producer = self._options.changelog_producer
        changes = None
        if producer is ChangelogProducer.LOOKUP and before is not None:
            keys = list(self._schema.trimmed_primary_keys)
            fresh = rows.filter(pl.col(LEVEL) == 0).select(keys).unique()
            changes = lookup_changelog(before, merged.join(fresh, on=keys, how="semi"), self._plan)
        elif producer is ChangelogProducer.FULL_COMPACTION and task.to_top:
            top = rows.filter(pl.col(LEVEL) == task.levels.max_level).drop(LEVEL)
            changes = full_compaction_changelog(top, merged, rows.drop(LEVEL), self._plan)
        if changes is not None and changes.height:
            role = self._files.changelog_role(task.unit.output_level)
            result.changelog += self._files.write(changes, task.bucket.directory, role)

    def _message(self, task: _Task, result: _Result) -> CommitMessage | None:
        bucket = task.bucket
        if not result.before and not result.changelog:
            return None
        added = (self._index_files.write_deletion_vectors(result.vectors),) if result.vectors_changed else ()
        return CommitMessage(
            partition=bucket.partition,
            bucket=bucket.bucket,
            total_buckets=bucket.total_buckets,
            compact_before=tuple(result.before),
            compact_after=tuple(result.after),
            compact_changelog_files=tuple(result.changelog),
            compact_new_index_files=added,
        )

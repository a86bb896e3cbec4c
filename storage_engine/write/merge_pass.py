"""Rows of files that are compacted together become the rows and the changes that are written. Frames in, frames out.

Spec: "Compaction" and "Changelog producer" of Apache Paimon 1.3.1. ``_GROUP`` is the leading key, so that the files of many
buckets go through one vectorised pass; keys are independent of each other, so that a pass may be given a range of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import polars as pl

from storage_engine.kernel.changelog import full_compaction_changelog, lookup_changelog
from storage_engine.kernel.key_match import match
from storage_engine.kernel.merge import MergePlan, merge
from storage_engine.options import ChangelogProducer, MergeEngine
from storage_engine.spec.schema import TableSchema
from storage_engine.store.merge_frames import GROUP, LEVEL, lowest_level_only
from storage_engine.write.compaction_task import Group, mask
from storage_engine.write.expired_records import ExpiredRecords
from storage_engine.write.point_lookup import Found

Find = Callable[[pl.DataFrame], Found]
"""The record of each of some keys in the files beyond the output level."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Merged:
    """Rows read, rows merged, changes; all led by ``_GROUP``, sorted by it. ``is_input``: merged are the rows of level 0."""

    rows: pl.DataFrame
    merged: pl.DataFrame
    changes: pl.DataFrame
    is_input: bool = False


class MergePass:
    """Merges rows of groups of one table version. ``changelog=False``: nobody is told of the changes."""

    def __init__(self, schema: TableSchema, *, changelog: bool = True) -> None:
        self._options = schema.table_options
        self._producer = self._options.changelog_producer if changelog else ChangelogProducer.NONE
        self.plan = MergePlan.of(schema)
        self._keys = [GROUP, *schema.trimmed_primary_keys]
        self._expired = ExpiredRecords(schema)
        self._merged_above_level0 = (
            self._options.needs_lookup and self._options.merge_engine is not MergeEngine.FIRST_ROW
        )

    def plain(self, groups: Sequence[Group], rows: pl.DataFrame) -> Merged:
        """Merge groups for which nothing has to be looked up."""
        rows = self._expired.without(rows)
        current = lowest_level_only(rows, self._keys) if self._merged_above_level0 else rows
        merged = merge(current.drop(LEVEL), self.plan, group=(GROUP,))
        changes = merged.clear()
        if self._producer is ChangelogProducer.FULL_COMPACTION:
            top = pl.Series(
                [group.task.levels.max_level if group.task.to_top else -1 for group in groups], dtype=pl.Int8
            )
            of_row = top.gather(rows[GROUP])
            to_top = rows.filter(of_row >= 0)
            before = rows.filter(rows[LEVEL] == of_row).drop(LEVEL)
            after = merged.join(to_top.select(GROUP).unique(), on=GROUP, how="semi", maintain_order="left")
            changes = full_compaction_changelog(before, after, to_top.drop(LEVEL), self.plan, group=(GROUP,))
        return Merged(rows=rows, merged=merged, changes=changes)

    def lookup(self, groups: Sequence[Group], rows: pl.DataFrame, find: Find) -> Merged:
        """Merge groups that hold level 0 with the record of each key below it.

        The record below is the one at the lowest level above 0, in the group itself or else beyond the output level.
        """
        rows = self._expired.without(rows)
        level0, inside = self._by_level(rows)
        fresh = level0[self._keys]
        missing = fresh if inside.is_empty() else fresh.join(inside, on=self._keys, how="anti")
        found = find(missing)
        if self._options.deletion_vectors:
            mask(groups, found.places)
        if self._options.merge_engine is MergeEngine.FIRST_ROW:
            return self._first_rows(rows, level0.join(found.rows, on=self._keys, how="anti"), inside)
        beyond = self._expired.without(found.rows)[level0.columns]
        below = beyond if inside.is_empty() else pl.concat([inside, beyond])
        matched = match(level0, below, self.plan, group=(GROUP,))
        if matched is not None:
            told = self._producer is ChangelogProducer.LOOKUP
            return Merged(
                rows=rows,
                merged=matched.merged(),
                changes=matched.changes(self.plan) if told else level0.clear(),
                is_input=matched.is_fresh_alone,
            )
        merged = merge(pl.concat([level0, below]), self.plan, group=(GROUP,), pass_through=False)
        changes = merged.clear()
        if self._producer is ChangelogProducer.LOOKUP:
            before, after = below, merged
            if not inside.is_empty():  # of these, some keys are not in level 0
                before = below.join(fresh, on=self._keys, how="semi")
                after = merged.join(fresh, on=self._keys, how="semi", maintain_order="left")
            changes = lookup_changelog(before, after, self.plan, group=(GROUP,))
        return Merged(rows=rows, merged=merged, changes=changes)

    def _by_level(self, rows: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
        """The rows of level 0, and the record of each key above it."""
        is_above = rows.get_column(LEVEL) > 0
        plain = rows[[name for name in rows.columns if name != LEVEL]]
        if not is_above.any():
            return plain, plain.clear()
        inside = lowest_level_only(rows.filter(is_above), self._keys)[plain.columns]
        return plain.filter(~is_above), inside

    def _first_rows(self, rows: pl.DataFrame, unseen: pl.DataFrame, inside: pl.DataFrame) -> Merged:
        """What is left of level 0 once the keys that lie beyond are gone: a reader of first-row merges no levels."""
        merged = merge(pl.concat([unseen, inside.select(unseen.columns)]), self.plan, group=(GROUP,))
        changes = merged.clear()
        if self._producer is ChangelogProducer.LOOKUP:
            came = merged.join(inside, on=self._keys, how="anti", maintain_order="left")
            changes = lookup_changelog(changes, came, self.plan, group=(GROUP,))
        return Merged(rows=rows, merged=merged, changes=changes)

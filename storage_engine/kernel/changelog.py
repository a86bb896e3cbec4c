"""Changelogs: what became of each key, as rows of kind +I, -U, +U and -D.

Spec: "Changelog Producer" of Apache Paimon 1.3.1. All frames are key-value frames.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import polars as pl

from storage_engine.kernel.merge import drop_retracts
from storage_engine.kernel.merge_plan import MergePlan
from storage_engine.spec.schema import VALUE_KIND

Rows = npt.NDArray[np.int64]

_BEFORE, _AFTER = "_BEFORE", "_AFTER"
_INSERT, _UPDATE_BEFORE, _UPDATE_AFTER, _DELETE = range(4)


def lookup_changelog(
    before: pl.DataFrame, after: pl.DataFrame, plan: MergePlan, *, group: Sequence[str] = ()
) -> pl.DataFrame:
    """The changes that turn ``before`` into ``after``, in the order of ``after``, each -U right before its +U.

    ``before``: the stored record of each key below level 0 (retracts count as absent; keys without ``after`` are unchanged).
    ``after``: the merged row of each key that has a level-0 record, with its kind. Rows of a key keep the sequence number
    of the side they come from. Equal rows still give a pair, unless the option ``changelog-producer.row-deduplicate`` is on.
    """
    place = _places(before, after, [*group, *plan.keys])
    rows = pl.concat([after, before[after.columns]], rechunk=True)
    return changes_between(rows, np.where(place < 0, -1, place + after.height), np.arange(after.height), plan)


def changes_between(rows: pl.DataFrame, before: Rows, after: Rows, plan: MergePlan) -> pl.DataFrame:
    """The same of one frame, in which the two rows of each key have the numbers ``before`` (-1: none) and ``after``."""
    takes_back = (rows.get_column(VALUE_KIND).to_numpy() & 1) == 1  # -U is 1, -D is 3
    existed, stays = (before >= 0) & ~takes_back[before], ~takes_back[after]
    if plan.row_deduplicate:
        updated = np.flatnonzero(existed & stays)
        same = updated[_equal(rows, before[updated], after[updated], plan)]
        existed[same] = stays[same] = False
    ends = np.cumsum(existed.astype(np.int64) + stays)
    minus, plus = np.flatnonzero(existed), np.flatnonzero(stays)
    places = ends[minus] - np.where(stays[minus], 2, 1), ends[plus] - 1
    gathered, kinds = np.empty(len(minus) + len(plus), np.int64), np.empty(len(minus) + len(plus), np.int8)
    gathered[places[0]], gathered[places[1]] = before[minus], after[plus]
    kinds[places[0]] = np.where(stays[minus], _UPDATE_BEFORE, _DELETE)
    kinds[places[1]] = np.where(existed[plus], _UPDATE_AFTER, _INSERT)
    return rows[gathered].with_columns(pl.Series(VALUE_KIND, kinds))


def _places(stored: pl.DataFrame, after: pl.DataFrame, keys: list[str]) -> Rows:
    """For each row of ``after`` the row of ``stored`` with the same key, -1 if there is none."""
    if stored.is_empty():
        return np.full(after.height, -1, np.int64)
    numbered = stored[keys].hstack([pl.Series(_BEFORE, np.arange(stored.height, dtype=np.int64))])
    found = after[keys].join(numbered, on=keys, how="left", maintain_order="left").get_column(_BEFORE)
    return found.fill_null(-1).to_numpy()


def _equal(rows: pl.DataFrame, before: Rows, after: Rows, plan: MergePlan) -> Rows:
    """Of some pairs of rows those (by place) in which all value columns are equal.

    A column is looked at only where all columns before it are equal; those of fixed width, which cost least, come first.
    """
    names = [name for name in plan.columns if name not in plan.row_deduplicate_ignore and name not in plan.keys]
    equal = np.flatnonzero(before != after)
    for name in sorted(
        names, key=lambda name: not rows.schema[name].is_numeric() and not rows.schema[name].is_temporal()
    ):
        if not len(equal):
            break
        column = rows.get_column(name)
        pair = pl.DataFrame([column[before[equal]].alias(_BEFORE), column[after[equal]].alias(_AFTER)])
        equal = equal[pair.select(pl.col(_BEFORE).eq_missing(pl.col(_AFTER))).to_series().to_numpy()]
    return np.concatenate([np.flatnonzero(before == after), equal])


def full_compaction_changelog(
    before: pl.DataFrame, after: pl.DataFrame, records: pl.DataFrame, plan: MergePlan, *, group: Sequence[str] = ()
) -> pl.DataFrame:
    """The changes of a compaction to the top level, sorted by key.

    ``before``: rows that were at the top level; ``records``: all that were merged, those included; ``after``: the merged rows.
    A key whose only record was at the top level is unchanged.
    """
    keys = [*group, *plan.keys]
    alone = records.group_by(keys).len().filter(pl.col("len") == 1)
    unchanged = before.select(keys).join(alone, on=keys, how="semi")
    changed = after.join(unchanged, on=keys, how="anti", maintain_order="left")
    return lookup_changelog(before, changed, plan, group=group)


def replay(changelog: pl.DataFrame, plan: MergePlan, group: Sequence[str] = ()) -> pl.DataFrame:
    """The state that a changelog, in row order, leads to from nothing: the last row of each (group, key), if it is an add."""
    key = [*group, *plan.keys]
    return drop_retracts(changelog.unique(key, keep="last", maintain_order=True)).sort(key)

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

_BEFORE = "_BEFORE"
_INSERT, _UPDATE_BEFORE, _UPDATE_AFTER, _DELETE = range(4)


def lookup_changelog(
    before: pl.DataFrame, after: pl.DataFrame, plan: MergePlan, *, group: Sequence[str] = ()
) -> pl.DataFrame:
    """The changes that turn ``before`` into ``after``, in the order of ``after``, each -U right before its +U.

    ``before``: the stored record of each key below level 0 (retracts count as absent; keys without ``after`` are unchanged).
    ``after``: the merged row of each key that has a level-0 record, with its kind. Rows of a key keep the sequence number
    of the side they come from. Equal rows still give a pair, unless the option ``changelog-producer.row-deduplicate`` is on.
    """
    stored = drop_retracts(before)
    place = _places(stored, after, [*group, *plan.keys])
    existed, gone = place >= 0, (after.get_column(VALUE_KIND).to_numpy() & 1) == 1
    if plan.row_deduplicate:
        differs = _differs(place, existed & ~gone, stored, after, plan)
        existed, gone = existed & differs, gone | ~differs
    minus, plus = np.flatnonzero(existed), np.flatnonzero(~gone)
    kinds = np.concatenate(
        [np.where(gone[minus], _DELETE, _UPDATE_BEFORE), np.where(existed[plus], _UPDATE_AFTER, _INSERT)]
    )
    order = np.argsort(np.concatenate([minus * 2, plus * 2 + 1]))
    sides = np.concatenate([place[minus], stored.height + plus])
    rows = pl.concat([stored[after.columns], after])[sides[order]]
    return rows.with_columns(pl.Series(VALUE_KIND, kinds[order].astype(np.int8)))


def _places(stored: pl.DataFrame, after: pl.DataFrame, keys: list[str]) -> npt.NDArray[np.int64]:
    """For each row of ``after`` the row of ``stored`` with the same key, -1 if there is none."""
    if stored.is_empty():
        return np.full(after.height, -1, np.int64)
    numbered = stored[keys].hstack([pl.Series(_BEFORE, np.arange(stored.height, dtype=np.int64))])
    found = after[keys].join(numbered, on=keys, how="left", maintain_order="left").get_column(_BEFORE)
    return found.fill_null(-1).to_numpy()


def _differs(
    place: npt.NDArray[np.int64],
    updated: npt.NDArray[np.bool_],
    stored: pl.DataFrame,
    after: pl.DataFrame,
    plan: MergePlan,
) -> npt.NDArray[np.bool_]:
    """For each row of ``after`` whether it is no update, or one that changes a value column."""
    names = [name for name in plan.columns if name not in plan.row_deduplicate_ignore and name not in plan.keys]
    if not names:
        return ~updated
    rows = np.flatnonzero(updated)
    old = stored[names][place[rows]].select(pl.all().name.prefix(_BEFORE))
    equal = pl.concat([old, after[names][rows]], how="horizontal").select(
        pl.all_horizontal(pl.lit(True), *(pl.col(f"{_BEFORE}{name}").eq_missing(pl.col(name)) for name in names)).alias(
            _BEFORE
        )
    )
    differs = np.ones(len(place), np.bool_)
    differs[rows[equal.get_column(_BEFORE).to_numpy()]] = False
    return differs


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

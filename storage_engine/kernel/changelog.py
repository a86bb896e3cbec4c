"""Changelogs: what became of each key, as rows of kind +I, -U, +U and -D.

Spec: "Changelog Producer" of Apache Paimon 1.3.1. All frames are key-value frames.
"""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from storage_engine.kernel.merge import drop_retracts, is_retract
from storage_engine.kernel.merge_plan import MergePlan
from storage_engine.spec.schema import VALUE_KIND

_BEFORE, _AFTER, _PLACE = "_BEFORE", "_AFTER", "_PLACE"
_INSERT, _UPDATE_BEFORE, _UPDATE_AFTER, _DELETE = (pl.lit(kind, pl.Int8) for kind in range(4))


def lookup_changelog(
    before: pl.DataFrame, after: pl.DataFrame, plan: MergePlan, *, group: Sequence[str] = ()
) -> pl.DataFrame:
    """The changes that turn ``before`` into ``after``, in the order of ``after``, each -U right before its +U.

    ``before``: the stored record of each key below level 0 (retracts count as absent; keys without ``after`` are unchanged).
    ``after``: the merged row of each key that has a level-0 record, with its kind. Rows of a key keep the sequence number
    of the side they come from. Equal rows still give a pair, unless the option ``changelog-producer.row-deduplicate`` is on.
    """
    stored = drop_retracts(before)
    keys = [*group, *plan.keys]
    pairs = (
        after.select(*keys, is_retract().alias(VALUE_KIND))
        .with_row_index(_AFTER)
        .join(stored.select(keys).with_row_index(_BEFORE), on=keys, how="left", maintain_order="left")
        .select(_BEFORE, _AFTER, VALUE_KIND)
    )
    if plan.row_deduplicate:
        pairs = _without_equal(pairs, stored, after, plan)
    gone, existed = pl.col(VALUE_KIND), pl.col(_BEFORE).is_not_null()
    minus = pairs.filter(existed)
    plus = pairs.filter(~gone)
    minus_rows = stored[minus.get_column(_BEFORE)].with_columns(
        minus.select(
            pl.when(gone).then(_DELETE).otherwise(_UPDATE_BEFORE).alias(VALUE_KIND),
            (pl.col(_AFTER).cast(pl.Int64) * 2).alias(_PLACE),
        )
    )
    plus_rows = after[plus.get_column(_AFTER)].with_columns(
        plus.select(
            pl.when(existed).then(_UPDATE_AFTER).otherwise(_INSERT).alias(VALUE_KIND),
            (pl.col(_AFTER).cast(pl.Int64) * 2 + 1).alias(_PLACE),
        )
    )
    return pl.concat([minus_rows.select(plus_rows.columns), plus_rows]).sort(_PLACE).drop(_PLACE)


def _without_equal(pairs: pl.DataFrame, before: pl.DataFrame, after: pl.DataFrame, plan: MergePlan) -> pl.DataFrame:
    """Leave out pairs whose value columns are all equal."""
    names = [name for name in plan.columns if name not in plan.row_deduplicate_ignore and name not in plan.keys]
    both = pairs.filter(pl.col(_BEFORE).is_not_null() & ~pl.col(VALUE_KIND))
    old = before[both.get_column(_BEFORE)].select(pl.col(names).name.prefix(_BEFORE))
    new = after[both.get_column(_AFTER)].select(pl.col(names).name.prefix(_AFTER))
    equal = pl.all_horizontal(
        pl.lit(True), *(pl.col(f"{_BEFORE}{name}").eq_missing(pl.col(f"{_AFTER}{name}")) for name in names)
    )
    compared = pl.concat([both.select(_AFTER), old, new], how="horizontal")
    return pairs.join(compared.filter(equal).select(_AFTER), on=_AFTER, how="anti", maintain_order="left")


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

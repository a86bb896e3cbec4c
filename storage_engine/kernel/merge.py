"""Merging: the records of one key become one row. Frames in, frames out.

Spec: "Merge Engine" of Apache Paimon 1.3.1. Records of a key merge in the order (sequence fields, sequence number), nulls
lowest. A key that is there once passes through as it is stored, whatever its kind.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import polars as pl

from storage_engine.errors import InvalidRows
from storage_engine.kernel.aggregation import aggregate
from storage_engine.kernel.column_rule import KEY_INDEX, RETRACT
from storage_engine.kernel.key_sort import merge_order, newest, sort_keys
from storage_engine.kernel.merge_plan import MergePlan
from storage_engine.kernel.partial_update import update_partially
from storage_engine.options import MergeEngine
from storage_engine.spec.schema import SEQUENCE_NUMBER, VALUE_KIND

RETRACT_KINDS = (1, 3)
_WORTH_GATHERING, _SAMPLED = 20_000, 10_000

__all__ = ["MergePlan", "drop_retracts", "gathered", "is_retract", "merge", "sort_by_key", "within_key"]


def is_retract() -> pl.Expr:
    """Whether a row of a key-value frame takes something back (kind -U or -D)."""
    return pl.col(VALUE_KIND).is_in(RETRACT_KINDS)


def drop_retracts(frame: pl.DataFrame) -> pl.DataFrame:
    """The rows of kind +I and +U: what a reader sees of a merged frame."""
    adds = (frame.get_column(VALUE_KIND).to_numpy() & 1) == 0  # -U is 1, -D is 3
    return frame if adds.all() else frame.filter(pl.Series(adds))


def sort_by_key(frame: pl.DataFrame, plan: MergePlan, group: Sequence[str] = ()) -> pl.DataFrame:
    """All rows in the order (group, key, sequence fields, sequence number), unmerged."""
    if frame.is_empty():
        return frame
    whole = frame.rechunk()
    keys = sort_keys(whole, [*group, *plan.keys])
    return whole[_sorted_rows(whole, plan, group) if keys is None else merge_order(whole, keys, within_key(plan))]


def _sorted_rows(frame: pl.DataFrame, plan: MergePlan, group: Sequence[str]) -> pl.Series:
    """The row numbers in merge order. The stable sort is the fast one here: it makes use of runs that are sorted already."""
    order = pl.arg_sort_by([*group, *plan.keys, *within_key(plan)], nulls_last=False, maintain_order=True)
    return frame.select(order).to_series()


def merge(
    frame: pl.DataFrame,
    plan: MergePlan,
    *,
    group: Sequence[str] = (),
    presorted: bool = False,
    pass_through: bool = True,
) -> pl.DataFrame:
    """Merge a key-value frame to one row for each (group, key), sorted by them.

    ``frame`` holds rows of any number of runs in any order; ``group`` names further leading columns (partition, bucket).
    Retract rows that win are kept with their kind. ``presorted``: the rows are already in the order of ``sort_by_key``.
    ``pass_through=False``: the engine merges single records too (Paimon's lookup compaction does so).

    Raises InvalidRows if the engine meets a record that it cannot merge, such as a -D without an option that handles it.
    """
    if frame.is_empty():
        return frame
    if plan.engine in _WINNER_TAKES_ALL:
        return _winners(frame, plan, group, presorted)
    ordered = frame if presorted else sort_by_key(frame, plan, group)
    first = _first_of_key(ordered, [*group, *plan.keys])
    single = first & first.shift(-1, fill_value=True)
    if pass_through and single.all():
        return ordered
    records = ordered.with_columns(
        (first.cum_sum() - 1).cast(pl.UInt32).alias(KEY_INDEX).set_sorted(),
        is_retract().alias(RETRACT),
    )
    engine = _ENGINES[plan.engine]
    if not pass_through or not single.any():
        return engine(records, plan, keep_lone_kinds=False).select(frame.columns)
    if plan.keeps_lone_adds and not records.get_column(RETRACT).any():
        return engine(records, plan, keep_lone_kinds=True).select(frame.columns)
    merged = engine(records.filter(~single), plan, keep_lone_kinds=False)
    passed = records.filter(single).select(merged.columns)
    return pl.concat([passed, merged]).sort(KEY_INDEX).select(frame.columns)


def gathered(frame: pl.DataFrame, plan: MergePlan, key: Sequence[str]) -> pl.DataFrame:
    """Rows of an aggregation (with their kinds) merged by key, in the order in which the keys first come.

    So that few are left to be hashed and sorted, where many add to the same keys; else they are left as they are. ``merge``
    of the result gives what it gives of the rows. REQUIRES: the order of the rows is that of their sequence.
    """
    if frame.height < _WORTH_GATHERING:
        return frame
    sample = frame[list(key)][np.arange(0, frame.height, frame.height // _SAMPLED)]
    if sample.n_unique() * 2 > sample.height:
        return frame
    frame = frame.rechunk()  # rows are gathered from one chunk several times faster than from two
    places = frame.select(*key, pl.int_range(pl.len()).alias(KEY_INDEX)).group_by(key, maintain_order=True)
    order = places.agg(KEY_INDEX).get_column(KEY_INDEX).explode()
    others = [name for name in key if name not in plan.keys]
    return merge(frame[order], plan, group=others, presorted=True)


def within_key(plan: MergePlan) -> list[str]:
    """The columns by which the records of a key are ordered."""
    return [*(name for name in plan.sequence if name not in plan.keys), SEQUENCE_NUMBER]


def _first_of_key(ordered: pl.DataFrame, key: Sequence[str]) -> pl.Series:
    """Whether a row of a frame sorted by key is the first of its key."""
    changed = pl.any_horizontal(pl.col(name).ne_missing(pl.col(name).shift(1)) for name in key)
    return ordered.select((changed | (pl.int_range(pl.len()) == 0)).alias("first")).to_series()


def _winners(frame: pl.DataFrame, plan: MergePlan, group: Sequence[str], presorted: bool) -> pl.DataFrame:
    """The one record of each key that wins; only keys and sequence are sorted, and the winners' payload is gathered."""
    key = [*group, *plan.keys]
    if plan.engine is MergeEngine.DEDUPLICATE and not plan.ignore_delete and not presorted:
        frame = frame.rechunk()
        keys = sort_keys(frame, key)
        winners = None if keys is None else newest(frame, keys, within_key(plan))
        if winners is not None:
            return frame[winners]
    if presorted:
        rows = pl.int_range(frame.height, dtype=pl.get_index_type(), eager=True)
    else:
        frame = frame.rechunk()
        rows = _sorted_rows(frame, plan, group)
    ordered = frame.select(*key, VALUE_KIND)[rows]
    first = _first_of_key(ordered, key)
    if plan.engine is MergeEngine.FIRST_ROW or plan.ignore_delete:
        rows, first = _without_retracts(ordered, rows, first, plan)
    wins = first if plan.engine is MergeEngine.FIRST_ROW else first.shift(-1, fill_value=True)
    return frame if presorted and wins.sum() == frame.height else frame[rows.filter(wins)]


def _without_retracts(
    ordered: pl.DataFrame, rows: pl.Series, first: pl.Series, plan: MergePlan
) -> tuple[pl.Series, pl.Series]:
    """Leave out retracts that meet another record of their key (a lone one passes through)."""
    single = first & first.shift(-1, fill_value=True)
    met = ordered.get_column(VALUE_KIND).is_in(RETRACT_KINDS) & ~single
    if not met.any():
        return rows, first
    if not plan.ignore_delete:
        raise InvalidRows(
            f"merge engine first-row cannot merge the -U or -D of key {ordered.filter(met).row(0)[:-1]};"
            " set option 'ignore-delete' to skip such rows"
        )
    # The key numbers of the rows that stay tell where a key begins, now that its first row may be gone.
    number = first.cum_sum().filter(~met)
    return rows.filter(~met), (number != number.shift(1)).fill_null(True)


class Engine(Protocol):
    """Merges records (sorted, with ``_KEY_INDEX`` and ``_RETRACT``) to one row for each key index."""

    def __call__(self, records: pl.DataFrame, plan: MergePlan, *, keep_lone_kinds: bool) -> pl.DataFrame:
        """``keep_lone_kinds``: a key's only record keeps its kind. REQUIRES then: no retracts."""


_WINNER_TAKES_ALL = frozenset({MergeEngine.DEDUPLICATE, MergeEngine.FIRST_ROW})
_ENGINES: dict[MergeEngine, Engine] = {
    MergeEngine.AGGREGATION: aggregate,
    MergeEngine.PARTIAL_UPDATE: update_partially,
}

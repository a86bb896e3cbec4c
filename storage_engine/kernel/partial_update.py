"""Merge engine ``partial-update``: columns arrive piece by piece; with sequence groups, each in its own order.

Spec: "Merge Engine / Partial Update" of Apache Paimon 1.3.1. Records come sorted by key and merge order, with ``_KEY_INDEX``
(UInt32, ascending) and ``_RETRACT``; results have one row for each key index.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from storage_engine.errors import InvalidRows
from storage_engine.kernel.aggregation import (
    DELETE_KIND,
    HELPERS,
    KEPT_ORDER,
    ORDER,
    ROW,
    Take,
    after_last_delete,
    assemble,
    numbered,
    renumbered,
    result_kind,
)
from storage_engine.kernel.column_rule import KEY_INDEX, RETRACT, Column
from storage_engine.kernel.merge_plan import MergePlan, SequenceGroup
from storage_engine.spec.schema import VALUE_KIND

_MET_INSERT = "_MET_INSERT"
_CLEARS = "_CLEARS"
_HIT = "_HIT"
_STANDING = "_STANDING"
_COUNTS = "_COUNTS"
_HELPERS = HELPERS | {_MET_INSERT, _CLEARS, _HIT, VALUE_KIND}


def update_partially(records: pl.DataFrame, plan: MergePlan, *, keep_lone_kinds: bool) -> pl.DataFrame:
    """Columns filled from the records that carry them; kind +I, or -D if the row was removed or never inserted.

    Raises InvalidRows for a retract that no option handles.
    """
    with_retracts = bool(records.get_column(RETRACT).any())
    records = _prepared(records, plan) if with_retracts else _numbered(records)
    records = records.with_columns(
        _group_order(records, sequence_group).alias(_order_of(index))
        for index, sequence_group in enumerate(plan.groups)
    )
    columns = [
        Column(rule=plan.rules[name], order=_order_of(index), with_retracts=with_retracts, with_older=True)
        for index, sequence_group in enumerate(plan.groups)
        for name in sequence_group.columns
        if name in plan.rules and name in records.columns
    ]
    takes = [*_group_takes(records, plan), *_plain_takes(records, plan)]
    deleted = None
    if with_retracts:
        records = _without_retracted_values(records, plan)
        deleted = ~pl.col(_MET_INSERT).any() | pl.col(ORDER).last().is_null()
    kind = result_kind(deleted=deleted, keep_lone=keep_lone_kinds)
    return assemble(records, plan, columns=columns, takes=takes, kind=kind)


def _order_of(index: int) -> str:
    return f"{ORDER}{index}"


def _prepared(records: pl.DataFrame, plan: MergePlan) -> pl.DataFrame:
    """Records with numbers, after what retracts do to whole rows."""
    met = records.with_columns((~pl.col(RETRACT)).any().over(KEY_INDEX).alias(_MET_INSERT))
    if plan.ignore_delete:
        return _numbered(met.filter(~pl.col(RETRACT) | ~pl.col(_MET_INSERT)))
    if plan.groups:
        return _after_last_removal(met, plan)
    if plan.remove_on_delete:
        return after_last_delete(met)
    key = records.filter(pl.col(RETRACT)).select(plan.keys).row(0)
    reason = plan.refusal(DELETE_KIND) or "cannot be merged"
    raise InvalidRows(f"the -U or -D of key {key} {reason}")


def _numbered(records: pl.DataFrame) -> pl.DataFrame:
    return numbered(records).with_columns(pl.col(ORDER).alias(KEPT_ORDER))


def _after_last_removal(records: pl.DataFrame, plan: MergePlan) -> pl.DataFrame:
    """The records of each key from the last -D on that removed its row through a sequence group."""
    records = numbered(records).with_columns(pl.lit(False).alias(_CLEARS))
    removing = [group for group in plan.groups if group.removes_record]
    # Each round finds the first removal of each key since the one before: a removal also forgets the sequences.
    while removing:
        orders = [_group_order(records, group).alias(_order_of(index)) for index, group in enumerate(removing)]
        removes = pl.any_horizontal(pl.col(order.name) > 0 for order in orders) & ~pl.col(_CLEARS)
        hit = pl.when(removes & (pl.col(VALUE_KIND) == DELETE_KIND)).then(pl.col(ROW))
        records = records.with_columns(orders).with_columns(hit.min().over(KEY_INDEX).alias(_HIT))
        if records.get_column(_HIT).null_count() == records.height:
            break
        records = records.filter(pl.col(_HIT).is_null() | (pl.col(ROW) >= pl.col(_HIT)))
        clears = pl.when(pl.col(_HIT).is_null()).then(pl.col(_CLEARS)).otherwise(pl.col(ROW) == pl.col(_HIT))
        records = records.with_columns(clears.alias(_CLEARS), pl.when(~clears).then(pl.col(ROW)).alias(ORDER))
    return renumbered(records, clears=pl.col(_CLEARS))


def _group_order(records: pl.DataFrame, group: SequenceGroup) -> pl.Series:
    """The order of each record in a sequence group (see ``column_rule``): negative if older than what came before it.

    Null for a record whose sequence columns are all null: it leaves the group alone.
    """
    counts = pl.any_horizontal(pl.col(group.sequence).is_not_null()) & pl.col(ORDER).is_not_null()
    standing = records.select(_standing(records, group.sequence), ORDER, counts.alias(_COUNTS)).with_columns(
        pl.when(_COUNTS).then(_STANDING).alias(_STANDING)
    )
    newer = pl.col(_STANDING) == pl.col(_STANDING).cum_max()
    return standing.select(pl.when(_COUNTS).then(pl.when(newer).then(ORDER).otherwise(-pl.col(ORDER)))).to_series()


def _standing(records: pl.DataFrame, sequence: Sequence[str]) -> pl.Series:
    """The place of each record by (key, sequence columns), equal ones alike: a maximum so far never looks across keys."""
    by = [KEY_INDEX, *sequence]
    order = records.select(pl.arg_sort_by(by, nulls_last=False, maintain_order=True)).to_series()
    changed = pl.any_horizontal(pl.col(name).ne_missing(pl.col(name).shift(1)) for name in by)
    places = records.select(by)[order].select(changed.cast(pl.Int64).cum_sum()).to_series()
    standing = np.empty(records.height, dtype=np.int64)
    standing[order.to_numpy()] = places.to_numpy()
    return pl.Series(_STANDING, standing)


def _group_takes(records: pl.DataFrame, plan: MergePlan) -> list[Take]:
    """Sequence columns and columns without a function: from the newest record of their group."""
    takes = []
    for index, group in enumerate(plan.groups):
        names = [*group.sequence, *(name for name in group.columns if name not in plan.rules)]
        names = [name for name in names if name in records.columns and name not in plan.keys]
        order = pl.col(_order_of(index))
        takes.append(Take(row=pl.when(order > 0).then(order).last(ignore_nulls=True), columns=names))
    return takes


def _plain_takes(records: pl.DataFrame, plan: MergePlan) -> list[Take]:
    """Keys and system columns from the last record; every other column from the last add that has it."""
    grouped = {name for sequence_group in plan.groups for name in (*sequence_group.sequence, *sequence_group.columns)}
    whole = [
        name
        for name in records.columns
        if name in plan.keys or (name not in plan.columns and name not in _HELPERS and not name.startswith(ORDER))
    ]
    takes = [Take(row=pl.col(ROW).last(), columns=whole)]
    skipped = {*whole, *grouped}
    for name in plan.columns:
        if name not in skipped and name in records.columns:
            order = pl.col(KEPT_ORDER if name in plan.not_null else ORDER)
            row = pl.when(~pl.col(RETRACT) & pl.col(name).is_not_null()).then(order).last(ignore_nulls=True)
            if name in plan.not_null:
                row = pl.coalesce(row, pl.col(ROW).first())
            takes.append(Take(row=row, columns=[name]))
    return takes


def _without_retracted_values(records: pl.DataFrame, plan: MergePlan) -> pl.DataFrame:
    """Columns of sequence groups without a function are null where a retract is the newest record."""
    cleared = [
        name
        for group in plan.groups
        for name in group.columns
        if name not in plan.rules and name not in plan.keys and name in records.columns
    ]
    return records.with_columns(pl.when(~pl.col(RETRACT)).then(pl.col(name)).alias(name) for name in cleared)

"""Merge engine ``aggregation``: each value column by its aggregate function; and the assembly that partial-update shares.

Spec: "Merge Engine / Aggregation" of Apache Paimon 1.3.1. Records come sorted by key and merge order, with ``_KEY_INDEX``
(UInt32, ascending) and ``_RETRACT``; results have one row for each key index.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import polars as pl

from storage_engine.errors import InvalidRows
from storage_engine.kernel.aggregators import AGGREGATORS, can_retract
from storage_engine.kernel.column_rule import KEY_INDEX, RETRACT, Column
from storage_engine.kernel.merge_plan import MergePlan
from storage_engine.spec.schema import VALUE_KIND

ROW = "_ROW"
ORDER = "_ORDER"
KEPT_ORDER = "_KEPT_ORDER"
HELPERS = frozenset({KEY_INDEX, RETRACT, ROW, ORDER, KEPT_ORDER})
DELETE_KIND = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Take:
    """Columns whose values come from one record of the key: ``row`` aggregates to its (signed) row number, null for none."""

    row: pl.Expr
    columns: Sequence[str]


def aggregate(records: pl.DataFrame, plan: MergePlan, *, keep_lone_kinds: bool) -> pl.DataFrame:
    """Aggregated values; kind +I, or -D if the last record removed the row.

    ``keep_lone_kinds``: a key's only record keeps its kind.
    """
    with_reset = plan.remove_on_delete and bool((records.get_column(VALUE_KIND) == DELETE_KIND).any())
    records = after_last_delete(records) if with_reset else numbered(records)
    with_retracts = bool(records.get_column(RETRACT).any())
    columns = [
        Column(
            rule=plan.rules[name],
            order=KEPT_ORDER if with_reset and name in plan.not_null else ORDER,
            with_retracts=with_retracts,
        )
        for name in records.columns
        if name in plan.rules
    ]
    rest = [name for name in records.columns if name not in plan.rules and name not in HELPERS]
    take = Take(row=pl.col(ROW).last(), columns=[name for name in rest if name != VALUE_KIND])
    deleted = pl.col(ORDER).last().is_null() if with_reset else None
    kind = result_kind(deleted=deleted, keep_lone=keep_lone_kinds)
    return assemble(records, plan, columns=columns, takes=[take], kind=kind)


def numbered(records: pl.DataFrame) -> pl.DataFrame:
    """The records with ``_ROW`` (1-based, Int64) and ``_ORDER``, the same."""
    row = pl.int_range(1, pl.len() + 1, dtype=pl.Int64)
    return records.with_columns(row.alias(ROW), row.alias(ORDER))


def after_last_delete(records: pl.DataFrame) -> pl.DataFrame:
    """The records of each key from its last -D on, numbered.

    ``_ORDER`` is null for that -D: it clears the row. ``_KEPT_ORDER`` is not: a NOT NULL column keeps the deleted value.
    """
    last = pl.when(pl.col(VALUE_KIND) == DELETE_KIND).then(pl.col(ROW)).max().over(KEY_INDEX).fill_null(0)
    since = numbered(records).with_columns((pl.col(ROW) - last).alias(ROW)).filter(pl.col(ROW) >= 0)
    return renumbered(since, clears=pl.col(ROW) == 0)


def renumbered(records: pl.DataFrame, *, clears: pl.Expr) -> pl.DataFrame:
    """The records with new numbers; those that clear their row are no retracts and have no ``_ORDER``."""
    row = pl.int_range(1, pl.len() + 1, dtype=pl.Int64)
    return records.with_columns(
        row.alias(ROW),
        row.alias(KEPT_ORDER),
        pl.when(~clears).then(row).alias(ORDER),
        (pl.col(RETRACT) & ~clears).alias(RETRACT),
    )


def result_kind(*, deleted: pl.Expr | None, keep_lone: bool) -> pl.Expr:
    """The kind of a merged row: +I, or -D where ``deleted`` aggregates to true."""
    insert = pl.lit(0, pl.Int8)
    if keep_lone:
        return pl.when(pl.len() == 1).then(pl.col(VALUE_KIND).last()).otherwise(insert)
    return insert.first() if deleted is None else pl.when(deleted).then(pl.lit(DELETE_KIND, pl.Int8)).otherwise(insert)


def assemble(
    records: pl.DataFrame, plan: MergePlan, *, columns: Sequence[Column], takes: Iterable[Take], kind: pl.Expr
) -> pl.DataFrame:
    """One row for each key index: aggregated columns, taken columns, the kind, and ``_KEY_INDEX``.

    Raises InvalidRows if a retract meets a function that cannot take it back.
    """
    _check_retractable(records, plan, columns)
    taken = [*takes]
    reduced: list[pl.Series] = []
    folds: list[pl.DataFrame] = []
    ends = _ends(records)
    for column in columns:
        aggregator = AGGREGATORS[column.rule.function]
        if aggregator.pick is not None:
            taken.append(Take(row=aggregator.pick(column), columns=[column.rule.name]))
        elif aggregator.reduce is not None:
            reduced.append(aggregator.reduce(records, column, ends).alias(column.rule.name))
        elif aggregator.fold is not None:
            folds.append(aggregator.fold(records, column))
    rows = [take.row.alias(f"{ROW}{index}") for index, take in enumerate(taken)]
    result = records.group_by(KEY_INDEX, maintain_order=True).agg(kind.alias(VALUE_KIND), *rows)
    parts = [result.select(KEY_INDEX, VALUE_KIND).with_columns(reduced)]
    for index, take in enumerate(taken):
        numbers = result.get_column(f"{ROW}{index}").abs() - 1
        parts.append(records.select(pl.col(take.columns).gather(numbers)))
    merged = pl.concat(parts, how="horizontal")
    for fold in folds:
        merged = merged.join(fold, on=KEY_INDEX, how="left", maintain_order="left")
    return merged


def _ends(records: pl.DataFrame) -> pl.Series:
    """The row numbers (from 0) of the last record of each key."""
    key = pl.col(KEY_INDEX)
    return records.select((key != key.shift(-1)).fill_null(value=True).arg_true().cast(pl.Int64)).to_series()


def _check_retractable(records: pl.DataFrame, plan: MergePlan, columns: Sequence[Column]) -> None:
    for column in columns:
        rule = column.rule
        if column.with_retracts and not can_retract(rule):
            key = records.filter(pl.col(RETRACT)).select(plan.keys).row(0)
            raise InvalidRows(
                f"column {rule.name!r}: aggregate function {rule.function!r} cannot take back the -U or -D of key {key};"
                f" set option 'fields.{rule.name}.ignore-retract' to 'true' to leave the value as it is"
            )

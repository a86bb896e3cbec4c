"""Batch statements: INSERTs that run once over a source as it is now, for repair."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import polars as pl
from sqlglot import exp

from lakehouse_assets.batch_insert import BatchInsert, Query
from lakehouse_assets.flink_sql.dialect import parsed_query
from lakehouse_assets.flink_sql.lookups import conjuncts
from lakehouse_assets.flink_sql.plans import Plan, plans_of
from lakehouse_assets.flink_sql.relation import Relations
from lakehouse_assets.flink_sql.script import DeclaredInsert
from lakehouse_assets.flink_sql.shared_targets import streams_of
from lakehouse_assets.flink_sql.unions import branches
from storage_engine.options import MergeEngine

_BOUNDS: Final = (exp.Between, exp.EQ, exp.In)


def is_batch(insert: DeclaredInsert, relations: Relations) -> bool:
    """Whether an INSERT runs once: OVERWRITE, batch mode, or partitions that are named by constants."""
    if insert.batch or insert.overwrite:
        return True
    if insert.target not in relations.tables:
        return False
    partitions = relations.tables[insert.target].schema.partition_keys
    found = branches(parsed_query(insert.query.text, insert.query.place))
    return all(_names_partitions(branch, partitions) for branch in found)


def _names_partitions(query: exp.Expr, partitions: Sequence[str]) -> bool:
    where = query.args.get("where")
    return where is not None and any(_bounds(part, partitions) for part in conjuncts(where.this))


def batch_of(insert: DeclaredInsert, relations: Relations) -> BatchInsert:
    """The batch statement of an INSERT. Raises SqlError and NotIncremental."""
    plans = plans_of(insert, relations)
    for plan in plans:
        _check(plan)
    column = next((name for name in plans[0].target.partition_keys if all(_told(plan, name) for plan in plans)), None)
    values = [None if column is None else plan.values[column].expr for plan in plans]
    split = [_split(plan, value) for plan, value in zip(plans, values, strict=True)]
    streams = streams_of([inner for inner, _ in split])
    first, *others = (
        Query(stream=stream, source=value, bound=bound)
        for stream, value, (_, bound) in zip(streams, values, split, strict=True)
    )
    return BatchInsert(
        stream=first.stream,
        overwrite=insert.overwrite,
        column=column,
        source=first.source,
        bound=first.bound,
        others=tuple(others),
    )


def _check(plan: Plan) -> None:
    if plan.engine is MergeEngine.AGGREGATION and not plan.insert.overwrite:
        raise plan.place.refusal(
            f"{plan.insert.target} adds rows up: what is inserted again counts twice; write INSERT OVERWRITE, or repair the"
            " stream"
        )
    if plan.relation.join is not None and plan.relation.join.how == "full":
        raise plan.place.refusal(
            "a FULL JOIN is no batch statement: rows without a left side are in no partition of it"
        )


def _told(plan: Plan, name: str) -> bool:
    """Whether the source tells the value of a partition column."""
    value = plan.values.get(name)
    return value is not None and bool(value.reads) and plan.from_source(value)


def _split(plan: Plan, value: pl.Expr | None) -> tuple[Plan, pl.Expr | None]:
    """The plan without the bounds of the partitions, and these."""
    is_bound = [_bounds_value(condition.expr, value) for condition in plan.relation.conditions]
    bounds = [each.expr for each, found in zip(plan.relation.conditions, is_bound, strict=True) if found]
    rest = tuple(each for each, found in zip(plan.relation.conditions, is_bound, strict=True) if not found)
    inner = replace(plan, relation=replace(plan.relation, conditions=rest))
    return inner, pl.all_horizontal(bounds) if bounds else None


def _bounds_value(condition: pl.Expr, value: pl.Expr | None) -> bool:
    """Whether a condition looks at nothing but the column that names the partition."""
    return value is not None and set(condition.meta.root_names()) == set(value.meta.root_names())


def _bounds(node: exp.Expr, partitions: Sequence[str]) -> bool:
    if not isinstance(node, _BOUNDS) or not isinstance(node.this, exp.Column) or node.this.name not in partitions:
        return False
    others = list(node.iter_expressions())[1:]
    return bool(others) and all(isinstance(each, exp.Literal) for each in others)

"""Several INSERTs that fill one table: a stream each, or the reason why the table would depend on which comes first.

Streams move on by themselves, so nothing orders the rows of one beside those of another. A table is the same in any order where
its own rules say what counts: a sequence field, what is added up, columns that one INSERT alone fills, or keys that differ.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Final

import polars as pl

from lakehouse_assets.flink_sql.aggregates import table_function
from lakehouse_assets.flink_sql.inserts import repairs_of, stream_of
from lakehouse_assets.flink_sql.plans import Plan
from lakehouse_assets.stream.declaration import Repair, Stream, by_target
from storage_engine.kernel.merge_plan import MergePlan
from storage_engine.options import MergeEngine

IN_ANY_ORDER: Final = frozenset(
    ("sum", "product", "count", "min", "max", "bool_and", "bool_or", "hll_sketch", "theta_sketch", "rbm32", "rbm64")
)
"""Aggregate functions that give the same in whatever order rows come."""


def streams_of(plans: Sequence[Plan]) -> list[Stream]:
    """The stream of each INSERT, in their order. Raises NotIncremental with the reason."""
    targets: dict[str, list[Plan]] = {}
    for plan in plans:
        targets.setdefault(plan.insert.target, []).append(plan)
    made = {
        id(plan): stream
        for target, own in targets.items()
        for plan, stream in zip(own, by_target(_filling(own))[target], strict=True)
    }
    return [made[id(plan)] for plan in plans]


def _filling(plans: Sequence[Plan]) -> list[Stream]:
    """The streams of one target."""
    streams = [stream_of(plan) for plan in plans]
    if len(plans) == 1:
        return streams
    for first, second in combinations(plans, 2):
        _check_pair(first, second)
    repairs = _common_repairs(plans)
    return [
        replace(stream, part=part, repair=repair)
        for stream, part, repair in zip(streams, _parts(plans), repairs, strict=True)
    ]


def _parts(plans: Sequence[Plan]) -> list[str]:
    """Names of streams within their target, that stay when others come and go: the source, and a number if it is read again."""
    found: list[str] = []
    for plan in plans:
        before = sum(part.partition("#")[0] == plan.relation.source for part in found)
        found.append(f"{plan.relation.source}#{before + 1}" if before else plan.relation.source)
    return found


def _common_repairs(plans: Sequence[Plan]) -> list[Repair | None]:
    """How each is repaired, all by the same column; none if they have none in common."""
    known = [{repair.column: repair for repair in repairs_of(plan)} for plan in plans]
    column = next((column for column in known[0] if all(column in each for each in known)), None)
    return [None if column is None else each[column] for each in known]


def _check_pair(first: Plan, second: Plan) -> None:
    """Raises NotIncremental if rows of two INSERTs can meet in one key, and nothing says which of them counts."""
    if not second.target.primary_keys or _told_apart(first, second):
        return
    reason = _REASONS[second.engine](first, second)
    if reason is not None:
        raise second.place.refusal(
            f"{second.insert.target} is filled by {first.place} as well, and rows of both may have one key: {reason}, or tell"
            " them apart by a column of the primary key that is another constant in each INSERT"
        )


def _told_apart(first: Plan, second: Plan) -> bool:
    """Whether a key column is one constant here and another there."""
    pairs = [(_constant(first, name), _constant(second, name)) for name in second.target.primary_keys]
    return any(left is not None and right is not None and left != right for left, right in pairs)


def _constant(plan: Plan, name: str) -> object:
    expression = plan.key[name].expr
    return None if expression.meta.root_names() else pl.select(expression).item()


def _newest_counts(first: Plan, second: Plan) -> str | None:
    target, columns = second.target, second.target.column_names
    if not target.table_options.sequence_field:
        return "which counts depends on which stream is ahead; set 'sequence.field'"
    if first.given != set(columns) or second.given != set(columns):
        return (
            "a row of one would clear the columns that the other fills; let the table have merge engine partial-update"
        )
    if first.relation.source == second.relation.source:
        return (
            f"both read {second.relation.source}, so a row that leaves one for the other is deleted and written at the same"
            " time; write one INSERT (CASE WHEN …)"
        )
    return None


def _columns_meet(first: Plan, second: Plan) -> str | None:
    merging = MergePlan.of(second.target)
    ordered = {name for group in merging.groups for name in (*group.sequence, *group.columns)}
    if merging.sequence:
        ordered |= set(second.target.column_names)
    both = [name for name in second.target.column_names if name in first.given & second.given]
    loose = [name for name in both if name not in ordered and name not in second.target.primary_keys]
    if not loose:
        return None
    return (
        f"both give column {loose[0]}, and which value counts depends on which stream is ahead; name the columns that each fills"
        f" (INSERT INTO t (a, b) SELECT …), or set 'fields.<sequence column>.sequence-group' = '{loose[0]}'"
    )


def _added_up(first: Plan, second: Plan) -> str | None:
    if second.target.table_options.sequence_field:
        return None
    for name in second.target.column_names:
        if name in second.target.primary_keys or name not in first.given & second.given:
            continue
        function = table_function(second.target, name)
        if function not in IN_ANY_ORDER:
            return f"{function} of column {name} depends on which stream is ahead; set 'sequence.field'"
    return None


def _first_counts(_first: Plan, _second: Plan) -> str | None:
    return "which is the first depends on which stream is ahead; take merge engine deduplicate and a 'sequence.field'"


_REASONS: Final[Mapping[MergeEngine, Callable[[Plan, Plan], str | None]]] = {
    MergeEngine.DEDUPLICATE: _newest_counts,
    MergeEngine.PARTIAL_UPDATE: _columns_meet,
    MergeEngine.AGGREGATION: _added_up,
    MergeEngine.FIRST_ROW: _first_counts,
}

"""Which kind of stream keeps a target exact, or the reason why none does."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final, Literal

import polars as pl

from lakehouse_assets.flink_sql.aggregates import keeps_exact, table_function
from lakehouse_assets.flink_sql.joins import tells_pair
from lakehouse_assets.flink_sql.plans import Plan
from lakehouse_assets.flink_sql.present import NOW
from lakehouse_assets.flink_sql.transforms import Additions, Contributions, EachRow
from lakehouse_assets.flink_sql.values import Value
from lakehouse_assets.stream.declaration import Join, Lookup, Repair, Stream, Transform
from storage_engine.kernel.merge_plan import MergePlan
from storage_engine.options import MergeEngine
from storage_engine.spec.schema import TableSchema

Reads = Literal["latest", "changelog"]
RETRIED: Final = (
    "have rows counted again when it changes, by the hint /*+ LOOKUP('table'='…', 'retry-predicate'='lookup_miss') */ for each"
    " lookup; or "
)

_EMPTY: Final[Mapping[type[pl.DataType], object]] = {pl.String: "", pl.Binary: b"", pl.List: [], pl.Struct: {}}


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """How a target is kept: what becomes of rows, and which of them are read."""

    transform: Transform
    reads: Reads


def stream_of(plan: Plan) -> Stream:
    """The stream of an INSERT. Raises NotIncremental with the reason."""
    _check_deduplication(plan)
    lookups = _used_lookups(plan)
    if plan.relation.join is not None and plan.joined is not None:
        kept = _joined(plan, plan.relation.join, plan.joined)
    elif plan.engine is MergeEngine.AGGREGATION:
        kept = _counted(plan, recounts=bool(lookups) and all(lookup.reemit for lookup in lookups))
    elif not plan.retracts:
        kept = Kept(transform=_additions(plan), reads="changelog")
    else:
        kept = _stored(plan)
    if (
        plan.engine is not MergeEngine.AGGREGATION
        and kept.reads == "changelog"
        and any(each.reemit for each in lookups)
    ):
        raise plan.place.refusal(
            f"rows that missed a dimension row cannot be sent again into {plan.insert.target}: its key is not the one of"
            f" {plan.relation.source}, so the old row would not be known; join into a table with the source's key first"
        )
    return Stream(
        source=plan.relation.source,
        target=plan.insert.target,
        transform=kept.transform,
        columns=_columns(plan),
        reads=kept.reads,
        lookups=lookups,
        join=plan.relation.join,
        repair=next(repairs_of(plan), None),
        computed={name: tuple(sorted(value.reads - {NOW})) for name, value in plan.values.items()},
        description=_description(plan),
        declared_at=str(plan.place),
    )


def _columns(plan: Plan) -> tuple[str, ...] | None:
    """What a row is computed from, of the source's columns; both sides of a join are looked up whole."""
    return None if plan.relation.join else tuple(name for name in plan.source.column_names if name in plan.reads)


def _description(plan: Plan) -> str:
    head = f"INSERT INTO {plan.insert.target}"
    return f"Declared in {plan.place.file}, line {plan.place.line}:\n\n```sql\n{head}\n{plan.insert.query.text}\n```\n"


def _check_deduplication(plan: Plan) -> None:
    """``ROW_NUMBER() … = 1`` is what a primary key with a sequence field does; they must say the same."""
    newest = plan.relation.deduplicated
    if newest is None:
        return
    keys = {str(value.expr) for value in newest.keys}
    own = {str(value.expr) for value in plan.key.values()}
    sequence = plan.target.table_options.sequence_field
    ordered = [str(plan.values[name].expr) for name in sequence if name in plan.values]
    if keys != own or plan.engine is not MergeEngine.DEDUPLICATE or str(newest.order.expr) not in ordered[:1]:
        raise plan.place.refusal(
            f"ROW_NUMBER() = 1 is kept by the table itself: the primary key of {plan.insert.target} must be what is"
            " partitioned by, its 'sequence.field' the column that is ordered by, and both must be selected as they stand"
        )


def _counted(plan: Plan, *, recounts: bool) -> Kept:
    """``recounts``: what a row adds is taken back and added anew when its dimension rows change."""
    if plan.retracts or recounts:
        for name in plan.target.column_names:
            if name not in plan.given or name in plan.target.primary_keys or keeps_exact(plan.target, name):
                continue
            if plan.grouped or table_function(plan.target, name) in ("min", "max"):
                raise plan.place.refusal(
                    f"column {name} ({table_function(plan.target, name)}): rows of {plan.relation.source} are updated and"
                    " deleted, and which value comes next when this one goes is not told by changes; set"
                    f" 'fields.{name}.ignore-retract' = 'true' if old values may stay, or read a table without primary key"
                )
        conditions = {f"condition {number} of WHERE": each for number, each in enumerate(plan.relation.conditions, 1)}
        _require_steady(plan, {**plan.values, **conditions}, looked_up=recounts)
    return Kept(transform=Contributions(query=plan.query), reads="changelog")


def _joined(plan: Plan, join: Join, right: TableSchema) -> Kept:
    """Both sides drive the stream, and what a pair of rows gives must be told by the target's key, or added up."""
    for schema, name in ((plan.source, plan.relation.source), (right, join.table)):
        if not schema.primary_keys:
            raise plan.place.refusal(f"a join needs to know which rows of {name} an old row was: give it a primary key")
    if plan.engine is MergeEngine.AGGREGATION:
        return _counted(plan, recounts=True)
    if plan.engine is not MergeEngine.DEDUPLICATE or not plan.target.primary_keys:
        raise plan.place.refusal(
            f"{plan.insert.target}: pairs of rows come and go, so the joined rows are kept by a primary key with merge engine"
            " deduplicate, or added up with aggregation"
        )
    named = frozenset(value.column for value in plan.key.values() if value.column is not None)
    if not tells_pair(join, plan.source, right, named):
        sides = [f"{plan.relation.source}.{key}" for key in plan.source.primary_keys]
        sides += [f"{join.table}.{key}" for key in right.primary_keys]
        raise plan.place.refusal(
            f"several pairs of rows may have one key in {plan.insert.target} ({', '.join(plan.key)}): let its primary key hold"
            f" the keys of both sides as they stand ({', '.join(sides)}), or those that tell the others"
        )
    conditions = {f"condition {number} of WHERE": each for number, each in enumerate(plan.relation.conditions, 1)}
    _require_steady(plan, {**plan.values, **conditions}, looked_up=True)
    return Kept(transform=Contributions(query=plan.query), reads="latest")


def _require_steady(plan: Plan, values: Mapping[str, Value], *, looked_up: bool = False) -> None:
    """``looked_up``: what was looked up may be used, the present time may not."""
    for name, value in values.items():
        of_now = NOW in value.expr.meta.root_names()
        if of_now or not (value.steady or looked_up):
            raise plan.place.refusal(
                f"{name} depends on {'the present time' if of_now else 'a lookup'}: when the row is taken back, it may not be"
                f" what it was, and the sums go wrong; {'' if of_now else RETRIED}join into a table with the key of"
                f" {plan.relation.source} first ('changelog-producer' = 'lookup'), and read that one"
            )


def _stored(plan: Plan) -> Kept:
    key, source_key = plan.key, set(plan.source.primary_keys)
    named = {value.column for value in key.values()}
    tells_row = bool(key) and source_key <= named
    if tells_row and all(plan.from_source(value) and value.reads <= source_key for value in key.values()):
        return Kept(transform=_each_row(plan, latest=True), reads="latest")
    if tells_row:
        _require_steady(plan, key)
        return Kept(transform=_each_row(plan, latest=False), reads="changelog")
    if not key:
        raise plan.place.refusal(
            f"{plan.insert.target} has no primary key, and rows of {plan.relation.source} are updated and deleted: give it one"
        )
    ordered = plan.target.table_options.sequence_field
    if plan.engine is MergeEngine.DEDUPLICATE and not ordered:
        raise plan.place.refusal(
            f"several rows of {plan.relation.source} may have one key in {plan.insert.target} ({', '.join(key)}): which of them"
            f" counts? Set 'sequence.field', or include {', '.join(sorted(source_key))} in the key"
        )
    return Kept(transform=_additions(plan), reads="changelog")


def _additions(plan: Plan) -> Additions:
    return Additions(
        query=plan.query,
        target=plan.insert.target,
        key={name: value.expr for name, value in plan.key.items()},
        source_key=tuple(plan.source.primary_keys),
    )


def _each_row(plan: Plan, *, latest: bool) -> EachRow:
    return EachRow(query=plan.query, identity=_identity(plan), key=plan.target.primary_keys, latest=latest)


def _identity(plan: Plan) -> dict[str, pl.Expr]:
    """What a delete needs: the key, what orders its versions, and something in columns that may not be null."""
    needed = {*plan.target.primary_keys, *plan.target.table_options.sequence_field}
    needed |= {name for group in MergePlan.of(plan.target).groups for name in group.sequence}
    found = {name: value.expr for name, value in plan.values.items() if name in needed}
    required = {field.name for field in plan.target.fields if not field.type.nullable} - needed
    return found | {name: _something(value) for name, value in plan.values.items() if name in required}


def _something(value: Value) -> pl.Expr:
    """A value, or one that is not null: a row that is deleted may be so because it has none."""
    empty = _EMPTY.get(value.dtype.base_type())
    instead = pl.lit(0).cast(value.dtype) if empty is None else pl.lit(pl.Series([empty], dtype=value.dtype)).first()
    return value.expr.fill_null(instead)


def _used_lookups(plan: Plan) -> tuple[Lookup, ...]:
    """The lookups that something is taken from, each with what is taken."""
    used, found = set(plan.reads), []
    for lookup in reversed(plan.relation.lookups):
        columns = {name: alias for name, alias in lookup.columns.items() if alias in used}
        if columns or lookup.found in used:
            found.append(replace(lookup, columns=columns))
            used.add(lookup.left_on)
    return tuple(reversed(found))


def repairs_of(plan: Plan) -> Iterator[Repair]:
    """How the target may be repaired: by the partition column if there is one, then by the keys that the source tells."""
    if plan.relation.join is not None and plan.relation.join.how == "full":
        return
    candidates = dict.fromkeys((*plan.target.partition_keys, *plan.target.primary_keys))
    for name in candidates:
        value: Value | None = plan.values.get(name)
        if value is None or not plan.from_source(value) or not value.reads:
            continue
        if plan.engine is MergeEngine.AGGREGATION and not _differs(plan):
            if name in plan.target.partition_keys:
                yield Repair(column=name, source=value.expr, mode="overwrite")
        else:
            yield Repair(column=name, source=value.expr)


def _differs(plan: Plan) -> bool:
    """Whether every column of the target can be corrected by a difference."""
    columns = [name for name in plan.target.column_names if name not in plan.target.primary_keys]
    return all(table_function(plan.target, name) == "sum" for name in columns)

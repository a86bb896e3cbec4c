"""INSERT INTO … SELECT …: the values of the target's columns, row by row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import reduce
from operator import and_
from typing import Final

import polars as pl
from sqlglot import exp

from lakehouse_assets.flink_sql.aggregates import contribution, has_aggregate, is_aggregate
from lakehouse_assets.flink_sql.assignments import assigned, constants, target_columns
from lakehouse_assets.flink_sql.clauses import KEY_SETS
from lakehouse_assets.flink_sql.errors import Place, known_names
from lakehouse_assets.flink_sql.lookups import Relation
from lakehouse_assets.flink_sql.relation import Relations, Selected, is_row_number, items
from lakehouse_assets.flink_sql.script import DeclaredInsert
from lakehouse_assets.flink_sql.settings import NULL_ENFORCER
from lakehouse_assets.flink_sql.transforms import Query
from lakehouse_assets.flink_sql.values import Value
from storage_engine.options import MergeEngine
from storage_engine.spec.schema import TableSchema

_TRUE: Final = pl.lit(value=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A query that fills a target: the value of each of its columns, and what is known of both tables.

    ``given``: the columns that the statement fills; the others are null. ``joined``: the second table of a regular join.
    """

    insert: DeclaredInsert
    relation: Relation
    target: TableSchema
    source: TableSchema
    joined: TableSchema | None
    values: Mapping[str, Value]
    given: frozenset[str]
    grouped: bool

    @property
    def place(self) -> Place:
        """Where the statement stands."""
        return self.insert.place

    @property
    def query(self) -> Query:
        """What becomes of a row."""
        where = reduce(and_, (condition.expr for condition in self.relation.conditions), _TRUE)
        return Query(columns={name: value.expr for name, value in self.values.items()}, where=where)

    @property
    def key(self) -> dict[str, Value]:
        """The values of the target's primary key."""
        return {name: self.values[name] for name in self.target.primary_keys}

    @property
    def engine(self) -> MergeEngine:
        """The merge engine of the target."""
        return self.target.table_options.merge_engine

    @property
    def retracts(self) -> bool:
        """Whether rows of the source may be taken back."""
        first_row = self.source.table_options.merge_engine is MergeEngine.FIRST_ROW
        return bool(self.source.primary_keys) and not first_row

    @property
    def reads(self) -> frozenset[str]:
        """Columns of the frame that the values and conditions are computed from."""
        return frozenset().union(*(value.reads for value in (*self.values.values(), *self.relation.conditions)))

    def from_source(self, value: Value) -> bool:
        """Whether a value is computed from the source's own columns alone."""
        return value.steady and value.reads <= set(self.source.column_names)


def plans_of(insert: DeclaredInsert, relations: Relations) -> list[Plan]:
    """The plan of an INSERT, or of each branch that UNION ALL puts together. Raises SqlError and NotIncremental, with file
    and line.
    """
    if insert.target not in relations.tables:
        raise insert.place.error(f"there is no table {insert.target}; {known_names(insert.target, relations.tables)}")
    found = relations.selected(insert.query)
    return [_plan(replace(insert, place=each.branch or insert.place), each, relations) for each in found]


def _plan(insert: DeclaredInsert, selected: Selected, relations: Relations) -> Plan:
    target = relations.tables[insert.target].schema
    listed = list(items(selected))
    names = target_columns(insert, target, len(listed))
    grouped = bool(selected.select.args.get("group")) or any(has_aggregate(node) for _, node, _ in listed)
    if grouped:
        _check_grouping(selected, target, insert, dict(zip(names, listed, strict=True)))
    values = constants(insert, target)
    for column, (_, node, known) in zip(names, listed, strict=True):
        values[column] = _value(selected, node, known, column, target)
    relation, join = selected.relation, selected.relation.join
    if insert.drops_nulls:
        source = relations.tables[relation.source].schema
        told = _not_null({name: values[name] for name in names}, target, source, grouped=grouped)
        held = {str(condition.expr) for condition in relation.conditions}
        for column, condition in told.items():
            if str(condition.expr) not in held:
                node, text = listed[names.index(column)][1], f"{column} IS NOT NULL, for {NULL_ENFORCER!r} = 'DROP',"
                relation = relation.filtered(condition, selected.place, node, text)
    return Plan(
        insert=insert,
        relation=relation,
        target=target,
        source=relations.tables[relation.source].schema,
        joined=None if join is None else relations.tables[join.table].schema,
        values={name: values[name] for name in target.column_names if name in values},
        given=frozenset((*names, *insert.partition)),
        grouped=grouped,
    )


def _not_null(
    values: Mapping[str, Value], target: TableSchema, source: TableSchema, *, grouped: bool
) -> dict[str, Value]:
    """What a row fulfils that is not left out for a NULL, by column that may be NULL, each as ``IS NOT NULL`` is compiled.

    Of a group, a row tells its key alone.
    """
    required = [field.name for field in target.fields if not field.type.nullable and field.default_value is None]
    never_null = {field.name for field in source.fields if not field.type.nullable}
    return {
        name: Value(expr=~value.expr.is_null(), dtype=pl.Boolean(), reads=value.reads, steady=value.steady)
        for name, value in values.items()
        if name in required and value.column not in never_null and (name in target.primary_keys or not grouped)
    }


def _value(selected: Selected, node: exp.Expr, known: Value | None, column: str, target: TableSchema) -> Value:
    at, place = selected.expressions, selected.place
    if known is not None:
        value = known
    elif is_aggregate(node):
        value = contribution(at, node, column, target, place)
    elif is_row_number(node):
        raise place.refusal("ROW_NUMBER() is known in a query within FROM, of whose rows number 1 is kept", node)
    else:
        value = at.value(node)
    return assigned(value, column, target, place, node)


def _check_grouping(
    selected: Selected,
    target: TableSchema,
    insert: DeclaredInsert,
    listed: Mapping[str, tuple[str, exp.Expr, Value | None]],
) -> None:
    """The groups are the target's keys, and everything else is one aggregate."""
    place, group = selected.place, selected.select.args.get("group")
    if target.table_options.merge_engine is not MergeEngine.AGGREGATION:
        raise place.refusal(
            f"GROUP BY into {insert.target}, which keeps the newest row: a group would have to be computed from all its rows"
            " again with every change; give the table 'merge-engine' = 'aggregation' and"
            " 'fields.<column>.aggregate-function' = 'sum' (min, max, …)",
            group,
        )
    if group is None:
        raise place.refusal("an aggregate without GROUP BY has no key: GROUP BY the columns of the primary key")
    if any(isinstance(each, (exp.Rollup, exp.Cube, exp.GroupingSets)) for each in group.expressions):
        raise place.refusal(KEY_SETS, group)
    grouped = _group_texts(selected, group)
    for column, (name, node, _) in listed.items():
        in_group = node.sql() in grouped or name in grouped
        if column in target.primary_keys and not in_group:
            raise place.error(
                f"column {column} is in the primary key of {insert.target}, but {node.sql()} is not in GROUP BY", node
            )
        if column not in target.primary_keys and not is_aggregate(node):
            raise place.refusal(
                f"column {column}: {node.sql()} is no single aggregate; keep its parts in columns of their own, and combine"
                " them where you read (LAST_VALUE(…) keeps what is the same in a group)",
                node,
            )
    kept = {node.sql() for column, (_, node, _) in listed.items() if column in target.primary_keys}
    kept |= {name for column, (name, _, _) in listed.items() if column in target.primary_keys}
    lost = [text for text in grouped if text not in kept]
    if lost:
        raise place.error(
            f"GROUP BY {lost[0]}, which is no column of the primary key of {insert.target}: add it", group
        )


def _group_texts(selected: Selected, group: exp.Group) -> list[str]:
    """What is grouped by, as text; a number stands for a column of the list. Raises SqlError if there is none of that number."""
    listed, texts = selected.select.expressions, []
    for each in group.expressions:
        if isinstance(each, exp.Literal) and not each.is_string:
            if not each.this.isdecimal() or not 1 <= int(each.this) <= len(listed):
                raise selected.place.error(f"GROUP BY {each.this}: SELECT lists columns 1 to {len(listed)}", group)
            texts.append(listed[int(each.this) - 1].unalias().sql())
        else:
            texts.append(each.sql())
    return texts

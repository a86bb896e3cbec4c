"""A regular join of two tables: both sides drive the stream, and each is read by the other's join keys."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

import polars as pl
from sqlglot import exp

from lakehouse_assets.flink_sql.errors import Place
from lakehouse_assets.flink_sql.expressions import Expressions
from lakehouse_assets.flink_sql.lookups import Relation, conjuncts
from lakehouse_assets.flink_sql.values import Frame, Names, Value
from lakehouse_assets.stream.declaration import Join
from storage_engine.spec.schema import TableSchema

_SIDES: Final = ("", "LEFT", "RIGHT", "FULL")


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One side of a join, by the name that the query gives it."""

    alias: str
    relation: Relation
    names: Names


@dataclass(frozen=True, slots=True, kw_only=True)
class RegularJoin:
    """``first [LEFT | RIGHT | FULL] JOIN second ON …``."""

    first: Side
    second: Side
    node: exp.Join
    place: Place

    def run(self) -> tuple[Relation, Names]:
        """The joined relation, and what it offers. Raises SqlError and NotIncremental."""
        side, kind = (self.node.side or "").upper(), (self.node.kind or "").upper()
        if side not in _SIDES or kind not in ("", "INNER", "OUTER"):
            raise self.place.refusal(f"{side} {kind} JOIN: a join is INNER, LEFT, RIGHT or FULL", self.node)
        if self.node.args.get("using") or self.node.args.get("on") is None:
            raise self.place.refusal("a join needs ON, with a column of each side that must be equal", self.node)
        left, right = (self.second, self.first) if side == "RIGHT" else (self.first, self.second)
        self._check(left, right, is_full=side == "FULL")
        columns = {column: f"{right.alias}.{column}" for column in _plain(right)}
        schema = self._schema(left, right, columns)
        offered = {left.alias: dict(left.names.all()), right.alias: _aliased(right, columns, schema)}
        at = Expressions(frame=Frame(schema=schema, place=self.place), names=self._names(offered))
        pairs, rest = self._pairs(at, left, columns)
        if rest and side:
            raise self.place.refusal(
                f"{rest[0].sql()}: ON of a {side} JOIN takes columns of both sides that must be equal; which rows are left over"
                " by other conditions is not told by one row: filter in WHERE, or join a table of the filtered rows",
                rest[0],
            )
        conditions = (*left.relation.conditions, *(at.condition(each) for each in rest))
        left_found = f"{left.alias}:found" if side == "FULL" else None
        if left_found is not None:
            offered[left.alias] = _where(offered[left.alias], left_found)
            schema[left_found] = pl.Boolean()
        join = Join(
            table=right.relation.source,
            left_on=tuple(pairs.values()),
            right_on=tuple(pairs),
            columns=columns,
            how="full" if side == "FULL" else "left" if side else "inner",
            left_found=left_found,
        )
        return replace(left.relation, schema=schema, join=join, conditions=conditions), self._names(offered)

    def _names(self, offered: Mapping[str, Mapping[str, Value]]) -> Names:
        """What both sides offer, in the query's order."""
        databases = {**self.first.names.databases, **self.second.names.databases}
        return Names({each.alias: offered[each.alias] for each in (self.first, self.second)}, databases)

    def _check(self, left: Side, right: Side, *, is_full: bool) -> None:
        for side in (left, right):
            relation = side.relation
            if relation.lookups or relation.join is not None or relation.newest:
                raise self.place.refusal(
                    f"{side.alias} is itself a join: give it a table of its own ('changelog-producer' = 'lookup'), and join"
                    " that one",
                    self.node,
                )
        filtered = [each for each in ((left, right) if is_full else (right,)) if each.relation.conditions]
        if filtered:
            raise self.place.refusal(
                f"{filtered[0].alias} is filtered before the join: write the condition into WHERE of the join, or give the"
                " filtered rows a table of their own",
                self.node,
            )

    def _schema(self, left: Side, right: Side, columns: Mapping[str, str]) -> dict[str, pl.DataType]:
        if left.alias == right.alias:
            raise self.place.error(f"both sides are called {left.alias}: give one an alias", self.node)
        added = {alias: right.relation.schema[column] for column, alias in columns.items()}
        return {**left.relation.schema, **added}

    def _pairs(self, at: Expressions, left: Side, columns: Mapping[str, str]) -> tuple[dict[str, str], list[exp.Expr]]:
        """Column of the right table → column of the left that it equals; and the other conditions."""
        of_right = {alias: column for column, alias in columns.items()}
        pairs: dict[str, str] = {}
        rest: list[exp.Expr] = []
        for part in conjuncts(self.node.args["on"]):
            sides = [at.value(each) for each in (part.left, part.right)] if isinstance(part, exp.EQ) else []
            mine = [each for each in sides if each.reads and not of_right.keys() & each.reads]
            theirs = [each for each in sides if each.reads and of_right.keys() >= each.reads]
            if len(mine) != 1 or len(theirs) != 1:
                rest.append(part)
                continue
            column, other = mine[0].column, theirs[0].column
            if other is None or column is None or column not in left.relation.schema:
                raise self.place.refusal(f"{part.sql()}: a join is ON columns as they stand", part)
            if mine[0].dtype != theirs[0].dtype:
                raise self.place.error(
                    f"{part.sql()} compares {mine[0].dtype} with {theirs[0].dtype}: give both one type", part
                )
            pairs[of_right[other]] = column
        if not pairs:
            raise self.place.refusal("a join needs ON, with a column of each side that must be equal", self.node)
        return pairs, rest


def _plain(side: Side) -> dict[str, str]:
    """The columns of the right table by themselves; computed ones are not there."""
    named = (value.column for _, value in side.names.all())
    return {column: column for column in named if column is not None}


def _aliased(side: Side, columns: Mapping[str, str], schema: Mapping[str, pl.DataType]) -> dict[str, Value]:
    """What the right side offers, as columns of the joined frame."""
    return {
        name: Value(expr=pl.col(columns[column]), dtype=schema[columns[column]], reads=frozenset((columns[column],)))
        for name, value in side.names.all()
        if (column := value.column) is not None
    }


def _where(columns: Mapping[str, Value], found: str) -> dict[str, Value]:
    """Columns that are null where the left side has no row."""
    return {
        name: replace(value, expr=pl.when(pl.col(found)).then(value.expr), reads=value.reads | {found})
        for name, value in columns.items()
    }


def tells_pair(join: Join, left: TableSchema, right: TableSchema, known: frozenset[str]) -> bool:
    """Whether some columns of the joined frame tell which row of either side it is."""
    names = {column: join.columns[column] for column in right.column_names if column in join.columns}
    sides = (
        (set(left.primary_keys), set(left.column_names)),
        ({names[key] for key in right.primary_keys if key in names}, set(names.values())),
    )
    equal = [(mine, names[theirs]) for mine, theirs in zip(join.left_on, join.right_on, strict=True)]
    told, before = set(known), set[str]()
    while told != before:
        before = set(told)
        for key, columns in sides:
            told |= columns if key and key <= told else set()
        for mine, theirs in equal:
            told |= {theirs} if mine in told else set()
            told |= {mine} if theirs in told and join.how == "inner" else set()
    return all(key <= told for key, _ in sides)

"""What a query's FROM gives, and a lookup join as one more dimension of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import polars as pl
from sqlglot import exp

from lakehouse_assets.flink_sql.errors import Place
from lakehouse_assets.flink_sql.expressions import Expressions
from lakehouse_assets.flink_sql.hints import LookupHint
from lakehouse_assets.flink_sql.script import DeclaredTable
from lakehouse_assets.flink_sql.values import Frame, Names, Value
from lakehouse_assets.stream.declaration import Join, Lookup


@dataclass(frozen=True, slots=True, kw_only=True)
class Newest:
    """``ROW_NUMBER() OVER (PARTITION BY … ORDER BY x DESC)``: a number that is only good for ``= 1``."""

    keys: tuple[Value, ...]
    order: Value

    def check(self, condition: Value, place: Place, node: exp.Expr, text: str = "") -> None:
        """Refuse a condition on row 1 that may hold of one row of a key and not of another; ``text`` says it."""
        plain = {name for key in self.keys for name in key.reads if str(key.expr) == str(pl.col(name))}
        if not condition.steady or not condition.reads <= plain:
            raise place.refusal(
                f"{text or node.sql()} judges the newest row of a key, beside ROW_NUMBER(): where that one fails, no older row"
                " may stand for it, and changes alone do not tell of the newest. Keep the newest rows in a table of their own"
                " ('changelog-producer' = 'lookup') and choose among them in a next INSERT, or put the condition within the"
                " query that is numbered, if it is to choose which rows count",
                node,
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Relation:
    """Rows of ``source``, widened by ``lookups`` or joined with a second table, of which ``conditions`` hold.

    ``schema``: the columns of the frame; ``columns``: what it offers by name. ``newest``: columns that number the rows
    of a key; ``deduplicated``: the one of them that was asked to be 1.
    """

    source: str
    schema: Mapping[str, pl.DataType]
    columns: Mapping[str, Value]
    lookups: tuple[Lookup, ...] = ()
    join: Join | None = None
    conditions: tuple[Value, ...] = ()
    newest: Mapping[str, Newest] = field(default_factory=dict)
    deduplicated: Newest | None = None

    def filtered(self, condition: Value, place: Place, node: exp.Expr, text: str = "") -> Relation:
        """The relation of which one more condition holds. Raises NotIncremental for one on the newest rows of keys."""
        for numbered in self.newest.values():
            numbered.check(condition, place, node, text)
        return replace(self, conditions=(*self.conditions, condition))


@dataclass(frozen=True, slots=True, kw_only=True)
class LookupJoin:
    """``JOIN dimension FOR SYSTEM_TIME AS OF t.proc_time AS alias ON …`` behind a relation."""

    relation: Relation
    names: Names
    join: exp.Join
    table: str
    dimension: DeclaredTable
    alias: str
    place: Place

    def run(self, hint: LookupHint) -> tuple[Relation, Names]:
        """The widened relation, and what it offers. Raises SqlError and NotIncremental."""
        if self.relation.join is not None:
            raise self.place.refusal(
                "a lookup behind a join of two tables: give the join a table of its own ('changelog-producer' = 'lookup'), and"
                " look up in a next INSERT",
                self.join,
            )
        is_left = self._is_left()
        self._check_moment()
        right_on, left_on, rest = self._keys()
        lookup, schema = self._lookup(right_on, left_on, hint)
        columns = self._columns(lookup)
        databases = {**self.names.databases, **self._database()}
        names = Names({**self.names.by_table, self.alias: columns}, databases)
        at = Expressions(frame=Frame(schema=schema, place=self.place), names=names)
        matched = at.of(pl.col(str(lookup.found)).fill_null(value=False), _column(str(lookup.found), pl.Boolean()))
        for condition in rest:
            held = at.condition(condition)
            matched = at.of(matched.expr & held.expr.fill_null(value=False), matched, held)
        if rest:
            names = Names({**self.names.by_table, self.alias: _where(columns, matched)}, databases)
        relation = self.relation if is_left else self.relation.filtered(matched, self.place, self.join)
        lookups = (*self.relation.lookups, lookup)
        return replace(relation, schema=schema, lookups=lookups), names

    def _database(self) -> dict[str, str]:
        """The dimension's database, if it goes by its own name."""
        return {} if self.join.this.alias else {self.alias: self.table.partition(".")[0]}

    def _is_left(self) -> bool:
        side, kind = (self.join.side or "").upper(), (self.join.kind or "INNER").upper()
        if side not in ("LEFT", "") or kind not in ("INNER", "OUTER"):
            raise self.place.refusal(f"{side} {kind} JOIN: a lookup join is LEFT or INNER", self.join)
        return side == "LEFT"

    def _check_moment(self) -> None:
        version = self.join.this.args["version"]
        if version.name != "TIMESTAMP" or not self._outer().value(version.expression).moment:
            raise self.place.refusal(
                "FOR SYSTEM_TIME AS OF takes a processing time (PROCTIME() AS proc_time): the versions of a dimension at"
                " the time of the event are not kept",
                version,
            )

    def _outer(self) -> Expressions:
        return Expressions(frame=Frame(schema=self.relation.schema, place=self.place), names=self.names)

    def _keys(self) -> tuple[str, str, list[exp.Expr]]:
        """The dimension's key, the column of the frame that it equals, and what else must hold."""
        on = self.join.args.get("on")
        if on is None:
            raise self.place.error("a lookup join needs ON", self.join)
        pairs: dict[str, str] = {}
        rest: list[exp.Expr] = []
        for part in conjuncts(on):
            pair = self._pair(part)
            if pair is None:
                rest.append(part)
            else:
                pairs[pair[0]] = pair[1]
        schema = self.dimension.schema
        if len(pairs) != 1 or tuple(pairs) != schema.primary_keys:
            raise self.place.refusal(
                f"a lookup join is ON the dimension's primary key, {self.alias}.({', '.join(schema.primary_keys) or 'none'}),"
                f" of one column; found {', '.join(pairs) or 'no equality with a column'}",
                self.join,
            )
        right_on, left_on = next(iter(pairs.items()))
        ours, theirs = self.relation.schema[left_on], schema.polars_schema[right_on]
        if ours != theirs:
            raise self.place.error(
                f"{left_on} is {ours}, but {self.alias}.{right_on} is {theirs}: give both one type", on
            )
        return right_on, left_on, rest

    def _pair(self, part: exp.Expr) -> tuple[str, str] | None:
        """A column of the dimension and the column of the frame that must equal it; None for other conditions."""
        if not isinstance(part, exp.EQ):
            return None
        sides = (part.left, part.right)
        mine = [number for number, side in enumerate(sides) if self._is_own(side)]
        if len(mine) != 1 or isinstance(sides[1 - mine[0]], exp.Literal):
            return None
        other = self._outer().value(sides[1 - mine[0]])
        if other.column is None:
            raise self.place.refusal(
                f"{part.sql()}: a lookup join is ON a column as it stands; compute the key in a table before", part
            )
        return sides[mine[0]].name, other.column

    def _is_own(self, node: exp.Expr) -> bool:
        if not isinstance(node, exp.Column) or node.name not in self.dimension.schema.column_names:
            return False
        return node.table == self.alias or (not node.table and not self.names.find("", node.name))

    def _lookup(self, right_on: str, left_on: str, hint: LookupHint) -> tuple[Lookup, dict[str, pl.DataType]]:
        """The lookup, and the columns of the frame with those that it adds."""
        taken = any(column.startswith(f"{self.alias}.") for column in self.relation.schema)
        prefix = f"{self.alias}{len(self.relation.schema)}" if taken else self.alias
        dtypes = self.dimension.schema.polars_schema
        lookup = Lookup(
            table=self.table,
            left_on=left_on,
            right_on=right_on,
            columns={column: f"{prefix}.{column}" for column in dtypes if column != right_on},
            found=f"{prefix}:found",
            reemit=hint.reemit,
            strategy=hint.strategy,
            workers=hint.workers,
        )
        added = {alias: dtypes[column] for column, alias in lookup.columns.items()}
        return lookup, {**self.relation.schema, **added, str(lookup.found): pl.Boolean()}

    def _columns(self, lookup: Lookup) -> dict[str, Value]:
        """The dimension's columns; its key is the stream's, where there was a match."""
        dtypes, found = self.dimension.schema.polars_schema, str(lookup.found)
        key = Value(
            expr=pl.when(pl.col(found)).then(pl.col(lookup.left_on)),
            dtype=dtypes[lookup.right_on],
            reads=frozenset((found, lookup.left_on)),
            steady=False,
        )
        columns = lookup.columns
        return {name: _column(columns[name], dtype) if name in columns else key for name, dtype in dtypes.items()}


def _column(name: str, dtype: pl.DataType) -> Value:
    return Value(expr=pl.col(name), dtype=dtype, reads=frozenset((name,)), steady=False)


def _where(columns: Mapping[str, Value], matched: Value) -> dict[str, Value]:
    """The dimension's columns where more than the key matches."""
    return {
        name: replace(value, expr=pl.when(matched.expr).then(value.expr), reads=value.reads | matched.reads)
        for name, value in columns.items()
    }


def conjuncts(node: exp.Expr) -> list[exp.Expr]:
    """The parts of a condition that must all hold."""
    if isinstance(node, exp.Paren):
        return conjuncts(node.this)
    return [*conjuncts(node.left), *conjuncts(node.right)] if isinstance(node, exp.And) else [node]

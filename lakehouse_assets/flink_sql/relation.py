"""FROM: which table drives a query, which dimensions widen its rows, and which columns that gives."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import polars as pl
from sqlglot import exp

from lakehouse_assets.flink_sql.clauses import MOMENT
from lakehouse_assets.flink_sql.dialect import parsed_query
from lakehouse_assets.flink_sql.errors import Place, known_names
from lakehouse_assets.flink_sql.expressions import Expressions
from lakehouse_assets.flink_sql.hints import Hints, check_hints, hint_of, lookup_hints
from lakehouse_assets.flink_sql.joins import RegularJoin, Side
from lakehouse_assets.flink_sql.lookups import LookupJoin, Newest, Relation, conjuncts
from lakehouse_assets.flink_sql.present import NOW, NOW_TYPE
from lakehouse_assets.flink_sql.script import DeclaredQuery, DeclaredTable, Script
from lakehouse_assets.flink_sql.unions import branches, united
from lakehouse_assets.flink_sql.values import Frame, Names, Value

MAX_DEPTH: Final = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Selected:
    """A SELECT over a relation, its list and grouping not yet looked at.

    ``place``: where its query stands; ``branch``: where itself does, if it is one of several that UNION ALL puts together.
    """

    select: exp.Select
    relation: Relation
    names: Names
    place: Place
    branch: Place | None = None

    @property
    def expressions(self) -> Expressions:
        """The compiler of its expressions."""
        return Expressions(frame=Frame(schema=self.relation.schema, place=self.place), names=self.names)


@dataclass(frozen=True, slots=True, kw_only=True)
class Relations:
    """Reads queries over a project's tables and views."""

    script: Script
    tables: Mapping[str, DeclaredTable]

    def check_all(self) -> None:
        """Read every table's computed columns and every view, whether something uses them or not. Raises like ``selected``."""
        for name, table in self.tables.items():
            self.table(name, table)
        for name in self.script.views:
            self.view(name)

    def selected(self, query: DeclaredQuery, depth: int = 0) -> list[Selected]:
        """The outermost SELECT of a query over what its FROM gives; one for each branch of UNION ALL in either.

        Raises SqlError and NotIncremental.
        """
        tree = parsed_query(query.text, query.place)
        return self._select(tree, query, lookup_hints(tree, query), depth)

    def _select(self, tree: exp.Expr, query: DeclaredQuery, hints: Hints, depth: int) -> list[Selected]:
        place = query.place
        if depth > MAX_DEPTH:
            raise place.error(f"views and queries stand in each other deeper than {MAX_DEPTH}")
        found = branches(tree)
        selected = [each for branch in found for each in self._one(branch, query, hints, depth)]
        if len(found) == 1:
            return selected
        return [each if each.branch else replace(each, branch=place.of(each.select)) for each in selected]

    def _one(self, tree: exp.Expr, query: DeclaredQuery, hints: Hints, depth: int) -> list[Selected]:
        """A SELECT without its set operations."""
        place = query.place
        if not isinstance(tree, exp.Select):
            raise place.refusal(_SET_OPERATION if isinstance(tree, exp.SetOperation) else "expected a SELECT", tree)
        from_ = tree.args.get("from_") or tree.args.get("from")
        if from_ is None:
            raise place.error("a stream needs a table: SELECT … FROM table", tree)
        offered = self._from_item(from_.this, query, hints, depth)
        joins = tree.args.get("joins") or ()
        outer = next((join for join in joins if (join.side or "").upper() in ("RIGHT", "FULL")), None)
        if len(offered) > 1 and outer is not None:
            raise place.refusal(
                f"{outer.side} JOIN of a UNION ALL: whether a row has no partner is told by all branches together; {_OWN_TABLE}",
                outer,
            )
        check_hints(hints.get(id(tree), ()), _dimensions(joins, query.database), place.of(tree))
        found = []
        for relation, names in offered:
            for join in joins:
                relation, names = self._joined(relation, names, join, query, hints)  # noqa: PLW2901 - step by step
            found.append(_filtered(Selected(select=tree, relation=relation, names=names, place=place)))
        return found

    def _from_item(
        self, item: exp.Expr, query: DeclaredQuery, hints: Hints, depth: int
    ) -> list[tuple[Relation, Names]]:
        place = query.place
        if isinstance(item, exp.Subquery):
            inner = self._select(item.this, query, hints, depth + 1)
            return [(relation, Names({item.alias: relation.columns})) for relation in _relations(inner)]
        if not isinstance(item, exp.Table) or not isinstance(item.this, exp.Identifier):
            raise place.refusal(f"{item.sql()} cannot be read as a stream: name a table, a view or a query", item)
        if item.args.get("version"):
            raise place.refusal(
                f"{item.sql()}: {MOMENT}; FOR SYSTEM_TIME AS OF stands behind JOIN, for a lookup",
                item,
            )
        name = _table_name(item, query.database)
        alias = item.alias or item.name
        databases = {} if item.alias else {alias: name.partition(".")[0]}
        if name in self.script.views:
            relations = self.view(name, depth + 1)
        else:
            relations = [self.table(name, self._declared(name, place, item))]
        return [(relation, Names({alias: relation.columns}, databases)) for relation in relations]

    def view(self, name: str, depth: int = 0) -> list[Relation]:
        """What a view gives, one for each branch of UNION ALL. Raises SqlError and NotIncremental."""
        view = self.script.views[name]
        relations = _relations(self.selected(view, depth))
        if not view.columns:
            return relations
        if len(view.columns) != (given := len(relations[0].columns)):
            raise view.place.error(f"view {name} names {len(view.columns)} columns, its query gives {given}")
        named = [dict(zip(view.columns, each.columns.values(), strict=True)) for each in relations]
        return [replace(each, columns=columns) for each, columns in zip(relations, named, strict=True)]

    def _declared(self, name: str, place: Place, node: exp.Expr) -> DeclaredTable:
        if name not in self.tables:
            known = (*self.tables, *self.script.views)
            raise place.error(f"there is no table or view {name}; {known_names(name, known)}", node)
        return self.tables[name]

    def table(self, name: str, table: DeclaredTable) -> Relation:
        """A table with the columns that its CREATE TABLE computes. Raises SqlError for one that cannot be."""
        schema = {**table.schema.polars_schema, NOW: NOW_TYPE}
        columns = {
            column: Value(expr=pl.col(column), dtype=dtype, reads=frozenset((column,)))
            for column, dtype in table.schema.polars_schema.items()
        }
        for column, text in table.computed.items():
            if column in columns:
                raise table.place.error(f"column {column} is named twice")
            columns[column] = _computed(Frame(schema=schema, place=table.place), Names({name: columns}), column, text)
        if table.watermark is not None:
            _check_watermark(Frame(schema=schema, place=table.place), Names({name: columns}), *table.watermark)
        return Relation(source=name, schema=schema, columns=columns)

    def _joined(
        self, relation: Relation, names: Names, join: exp.Join, query: DeclaredQuery, hints: Hints
    ) -> tuple[Relation, Names]:
        place, item = query.place, join.this
        version = item.args.get("version") if isinstance(item, exp.Table) else None
        if version is None:
            (second, offered), *others = self._from_item(item, query, hints, 0)
            if others:
                raise place.refusal(f"JOIN with a UNION ALL: the branches stand behind FROM, or {_OWN_TABLE}", join)
            first = Side(alias=next(iter(names.by_table)), relation=relation, names=names)
            joined = Side(alias=item.alias or item.name, relation=second, names=offered)
            return RegularJoin(first=first, second=joined, node=join, place=place).run()
        name = _table_name(item, query.database)
        alias = item.alias or item.name
        lookup = LookupJoin(
            relation=relation,
            names=names,
            join=join,
            table=name,
            dimension=self._declared(name, place, item),
            alias=alias,
            place=place,
        )
        return lookup.run(hint_of(hints.get(id(join.parent), ()), alias, name))


def _computed(frame: Frame, names: Names, column: str, text: str) -> Value:
    """The value of ``column AS text``."""
    tree = parsed_query(f"SELECT {text}", frame.place)
    if len(tree.expressions) != 1 or any(value for key, value in tree.args.items() if key != "expressions"):
        raise frame.place.error(f"column {column} AS {text}: expected an expression")
    return Expressions(frame=frame, names=names).value(tree.expressions[0])


def _check_watermark(frame: Frame, names: Names, column: str, text: str) -> None:
    """A watermark has no effect; what it names must be there, and be times."""
    found = names.find("", column)
    if not found:
        raise frame.place.error(
            f"WATERMARK FOR {column}: there is no such column; {known_names(column, (name for name, _ in names.all()))}"
        )
    for what, value in ((column, found[0]), (text, _computed(frame, names, column, text))):
        if not isinstance(value.dtype, pl.Datetime):
            raise frame.place.error(f"WATERMARK FOR {column} AS {text}: {what} is {value.dtype}, and no TIMESTAMP")


_OWN_TABLE: Final = "give what it puts together a table of its own ('changelog-producer' = 'lookup'), and join that one"
_SET_OPERATION: Final = (
    "UNION, INTERSECT and EXCEPT compare a row with all others: write UNION ALL into a table whose primary key makes rows one;"
    " a FULL JOIN by the key brings the columns of both"
)


def _relations(selected: Sequence[Selected]) -> list[Relation]:
    """What an outer query reads of SELECTs that are put together."""
    return united([projected(each) for each in selected], [each.branch or each.place for each in selected])


def projected(selected: Selected) -> Relation:
    """A SELECT as a relation that an outer query reads. Raises NotIncremental for one that groups."""
    place, select = selected.place, selected.select
    if select.args.get("group"):
        raise place.refusal(
            "GROUP BY within FROM: give the groups a table of their own (merge engine aggregation, 'changelog-producer' ="
            " 'lookup') and read that one",
            select.args["group"],
        )
    columns: dict[str, Value] = {}
    newest = dict(selected.relation.newest)
    for name, node, value in items(selected):
        if name in columns:
            raise place.error(f"column {name} is selected twice: give one another name", node)
        if value is None and is_row_number(node):
            newest[name] = _numbered(selected, node)
        else:
            columns[name] = value or selected.expressions.value(node)
    return replace(selected.relation, columns=columns, newest=newest)


def items(selected: Selected) -> Iterator[tuple[str, exp.Expr, Value | None]]:
    """The SELECT list: name, expression, and the value of what a star stands for (else None)."""
    for position, item in enumerate(selected.select.expressions):
        if isinstance(item, exp.Star) or (isinstance(item, exp.Column) and isinstance(item.this, exp.Star)):
            table = item.table if isinstance(item, exp.Column) else ""
            yield from ((name, item, value) for name, value in selected.names.all(table))
            continue
        inner = item.unalias()
        name = item.alias or (inner.name if isinstance(inner, exp.Column) else f"EXPR${position}")
        yield name, inner, None


def is_row_number(node: exp.Expr) -> bool:
    """Whether an expression is ``ROW_NUMBER() OVER (…)``."""
    return isinstance(node, exp.Window) and str(getattr(node.this, "this", "")).upper() == "ROW_NUMBER"


def _numbered(selected: Selected, node: exp.Expr) -> Newest:
    at, order = selected.expressions, node.args.get("order")
    ordered = [] if order is None else order.expressions
    if len(ordered) != 1 or not ordered[0].args.get("desc") or not node.args.get("partition_by"):
        raise selected.place.refusal(
            "ROW_NUMBER() is known as PARTITION BY key ORDER BY time DESC, of which row 1 is kept", node
        )
    if node.this.expressions or ordered[0].args.get("nulls_first"):
        raise selected.place.refusal(f"{node.sql()}: ROW_NUMBER() takes nothing, and NULL comes last", node)
    keys = tuple(at.value(each) for each in node.args["partition_by"])
    return Newest(keys=keys, order=at.value(ordered[0].this))


def _filtered(selected: Selected) -> Selected:
    """The relation with the conditions of WHERE."""
    where = selected.select.args.get("where")
    if where is None:
        return selected
    relation, at = selected.relation, selected.expressions
    for part in conjuncts(where.this):
        numbered = _row_number_one(part, relation.newest)
        if numbered is not None:
            relation = replace(relation, deduplicated=numbered)
        else:
            relation = relation.filtered(at.condition(part), selected.place, part)
    return replace(selected, relation=relation)


def _row_number_one(node: exp.Expr, newest: Mapping[str, Newest]) -> Newest | None:
    """The row number that a condition asks to be 1."""
    if not isinstance(node, (exp.EQ, exp.LTE)) or not isinstance(node.left, exp.Column):
        return None
    is_one = isinstance(node.right, exp.Literal) and node.right.this == "1"
    return newest.get(node.left.name) if is_one else None


def _dimensions(joins: Sequence[exp.Join], database: str) -> list[tuple[str, str]]:
    """The alias and the name of each table that is looked up."""
    items = [join.this for join in joins]
    looked_up = [item for item in items if isinstance(item, exp.Table) and item.args.get("version")]
    return [(item.alias or item.name, _table_name(item, database)) for item in looked_up]


def _table_name(item: exp.Table, database: str) -> str:
    return f"{item.db or database}.{item.name}"

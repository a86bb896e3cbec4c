"""Aggregates of a GROUP BY as what one change contributes to a table of merge engine aggregation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import polars as pl
from sqlglot import exp

from lakehouse_assets.flink_sql.errors import Place
from lakehouse_assets.flink_sql.expressions import Expressions
from lakehouse_assets.flink_sql.functions import AGGREGATES
from lakehouse_assets.flink_sql.values import Value
from storage_engine.spec.schema import TableSchema

FUNCTIONS: Final[Mapping[str, tuple[str, ...]]] = {
    "SUM": ("sum",),
    "COUNT": ("sum",),
    "MIN": ("min",),
    "MAX": ("max",),
    "LAST_VALUE": ("last_non_null_value", "last_value"),
    "FIRST_VALUE": ("first_non_null_value", "first_value"),
    "LISTAGG": ("listagg",),
    "COLLECT": ("collect",),
}
"""Aggregate of SQL → functions of a table's column that keep it."""
RETRACTABLE: Final = frozenset(("sum", "product", "count", "collect", "primary-key"))
"""Functions that can take a row back exactly."""
_DEFAULT: Final = "last_non_null_value"


def is_aggregate(node: exp.Expr) -> bool:
    """Whether an expression is one aggregate, perhaps with FILTER."""
    inner = node.this if isinstance(node, exp.Filter) else node
    return isinstance(inner, exp.Anonymous) and str(inner.this).upper() in AGGREGATES


def has_aggregate(node: exp.Expr) -> bool:
    """Whether an aggregate is anywhere in an expression; windows and queries within it are something else."""
    if is_aggregate(node):
        return True
    apart = isinstance(node, (exp.Window, exp.Query))
    return not apart and any(has_aggregate(part) for part in node.iter_expressions())


def table_function(target: TableSchema, column: str) -> str:
    """The aggregate function of a table's column."""
    options = target.options
    default = options.get("fields.default-aggregate-function", _DEFAULT)
    return options.get(f"fields.{column}.aggregate-function", default)


def keeps_exact(target: TableSchema, column: str) -> bool:
    """Whether a column can take rows back, or was told to ignore it."""
    ignored = target.options.get(f"fields.{column}.ignore-retract", "false").strip().lower() == "true"
    return ignored or table_function(target, column) in RETRACTABLE


def contribution(at: Expressions, node: exp.Expr, column: str, target: TableSchema, place: Place) -> Value:
    """What one row adds to a column. Raises SqlError and NotIncremental."""
    condition = None
    if isinstance(node, exp.Filter):
        condition = at.condition(node.expression.this)
        node = node.this
    name, arguments = str(node.this).upper(), node.expressions
    wanted = FUNCTIONS.get(name)
    if wanted is None:
        raise place.refusal(
            f"{name} cannot be added up: keep SUM and COUNT in two columns, and divide where you read them", node
        )
    if any(isinstance(each, exp.Distinct) for each in arguments):
        raise place.refusal(
            f"{name}(DISTINCT …) would have to remember every value: give the values a table of their own, keyed by them, and"
            " count its rows",
            node,
        )
    least, most = 0 if name == "COUNT" else 1, 2 if name == "LISTAGG" else 1
    if not least <= len(arguments) <= most:
        raise place.error(f"{node.sql()}: {name} takes {least} to {most} arguments", node)
    found = table_function(target, column)
    if found not in wanted:
        raise place.error(
            f"{name} into column {column}, whose aggregate function is {found!r}: declare"
            f" 'fields.{column}.aggregate-function' = '{wanted[0]}'",
            node,
        )
    separator = target.options.get(f"fields.{column}.list-agg-delimiter", ",")
    if name == "LISTAGG" and len(arguments) > 1 and arguments[1] != exp.Literal.string(separator):
        raise place.error(
            f"LISTAGG(…, {arguments[1].sql()}) into column {column}, whose texts have {separator!r} between them: declare"
            f" 'fields.{column}.list-agg-delimiter'",
            node,
        )
    value = _counted(at, arguments) if name == "COUNT" else at.value(arguments[0])
    if condition is None:
        return value
    nothing = pl.lit(0, pl.Int64) if name == "COUNT" else pl.lit(None)
    return at.of(pl.when(condition.expr).then(value.expr).otherwise(nothing), condition, value)


def _counted(at: Expressions, arguments: list[exp.Expr]) -> Value:
    if not arguments or isinstance(arguments[0], exp.Star):
        return at.literal(1, pl.Int64())
    value = at.value(arguments[0])
    return at.of(value.expr.is_not_null().cast(pl.Int64), value)

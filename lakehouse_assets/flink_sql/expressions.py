"""Scalar expressions: sqlglot's tree → values over a frame, by Flink's rules. One table of node types."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

import polars as pl
from sqlglot import exp

from lakehouse_assets.flink_sql.calls import CALLS
from lakehouse_assets.flink_sql.functions import (
    CannotCompute,
)
from lakehouse_assets.flink_sql.operators import OPERATORS
from lakehouse_assets.flink_sql.present import NOW_CALLS, present
from lakehouse_assets.flink_sql.values import Compiler, Computed, Frame, Names, Value

MAX_DIGITS: Final = 38


@dataclass(frozen=True, slots=True)
class Expressions:
    """Compiles the expressions of one query; ``names`` is what its FROM offers."""

    frame: Frame
    names: Names

    def value(self, node: exp.Expr) -> Value:
        """The value of an expression. Raises SqlError with file and line."""
        compute = COMPUTED.get(type(node))
        if compute is None:
            raise self._unknown(node)
        try:
            return compute(self, node)
        except (CannotCompute, pl.exceptions.PolarsError) as cause:
            reason = str(cause).partition("\n")[0]
            raise self.frame.place.error(f"{node.sql()} cannot be computed: {reason}", node) from cause

    def condition(self, node: exp.Expr) -> Value:
        """A value that must be true or false."""
        found = self.value(node)
        if found.dtype not in (pl.Boolean, pl.Null):
            raise self.frame.place.error(f"{node.sql()} is {found.dtype}, where a condition is expected", node)
        return found

    def of(self, expr: pl.Expr, *parts: Value) -> Value:
        """A value from others."""
        return self.frame.value(expr, *parts)

    def literal(self, value: object, dtype: pl.DataType) -> Value:
        """A constant."""
        return Value(expr=pl.lit(value, dtype=dtype), dtype=dtype)

    def _unknown(self, node: exp.Expr) -> Exception:
        place, text = self.frame.place, node.sql()
        if isinstance(node, exp.Window):
            return place.refusal(
                f"{text}: a window looks at other rows, which changes alone do not tell; keep the newest row of a key with"
                " a primary key and 'sequence.field', running sums with merge engine aggregation",
                node,
            )
        if isinstance(node, (exp.Subquery, exp.Exists, exp.Select)):
            return place.refusal(
                f"{text}: a query within an expression would have to run again for old rows when its table changes; write a"
                " lookup join (LEFT JOIN … FOR SYSTEM_TIME AS OF)",
                node,
            )
        return place.error(f"{text} ({type(node).__name__}) is not known here", node)


def _column(at: Compiler, node: exp.Column) -> Value:
    if not isinstance(node.this, exp.Identifier):
        raise at.frame.place.error(f"{node.sql()} is no column", node)
    name = node.this.name
    if name.upper() in NOW_CALLS and not node.table and not node.this.args.get("quoted"):
        return present(name)
    is_known = not node.table or at.names.holds(node.table, node.db)
    found = at.names.find(node.table, name) if is_known else []
    if len(found) == 1:
        return found[0]
    if len(found) > 1:
        raise at.frame.place.error(f"column {name} is ambiguous: write table.{name}", node)
    is_row = not is_known and (not node.db or node.db in at.names.by_table)
    rows = at.names.find(node.db, node.table) if is_row else []
    if len(rows) == 1:
        return at.of(rows[0].expr.struct.field(name), rows[0])
    known = ", ".join(dict.fromkeys(column for column, _ in at.names.all(node.table))) or "none"
    raise at.frame.place.error(f"there is no column {node.sql()}; there are {known}", node)


def _literal(at: Compiler, node: exp.Literal) -> Value:
    if node.is_string:
        return at.literal(node.this, pl.String())
    text = str(node.this)
    if text.isdecimal():
        number = int(text)
        if number >= 2**63:
            raise CannotCompute("it is larger than a BIGINT")
        return at.literal(number, pl.Int32() if number < 2**31 else pl.Int64())
    if "e" in text.lower():
        return at.literal(float(text), pl.Float64())
    digits = text.partition(".")[2]
    precision = max(len(digits), len(text.replace(".", "").lstrip("0")), 1)
    if precision > MAX_DIGITS:
        raise CannotCompute(f"a DECIMAL has {MAX_DIGITS} digits at most")
    return at.literal(Decimal(text), pl.Decimal(precision, len(digits)))


def _constant(value: object, dtype: pl.DataType) -> Computed:
    return lambda at, _: at.literal(value, dtype)


COMPUTED: Final[Mapping[type[exp.Expr], Computed]] = {
    **OPERATORS,
    **CALLS,
    exp.Column: _column,
    exp.Literal: _literal,
    exp.Null: _constant(None, pl.Null()),
    exp.Boolean: lambda at, node: at.literal(bool(node.this), pl.Boolean()),
    exp.Paren: lambda at, node: at.value(node.this),
    exp.CurrentTimestamp: lambda _, __: present("CURRENT_TIMESTAMP"),
    exp.CurrentDate: lambda _, __: present("CURRENT_DATE"),
}

"""Calls, casts and choices in expressions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import polars as pl
from sqlglot import exp

from lakehouse_assets.flink_sql.casts import cast, fitted, timestamp_of, type_of
from lakehouse_assets.flink_sql.decimals import edge
from lakehouse_assets.flink_sql.functions import (
    AGGREGATES,
    FUNCTIONS,
    CannotCompute,
    field_of,
    floored,
    literal_text,
    shifted,
    substring,
)
from lakehouse_assets.flink_sql.operators import comparable
from lakehouse_assets.flink_sql.present import NOW_CALLS, present
from lakehouse_assets.flink_sql.values import Compiler, Computed, Value


def _case(at: Compiler, node: exp.Case) -> Value:
    subject = None if node.this is None else at.value(node.this)
    branches = [(_when(at, each.this, subject), at.value(each.args["true"])) for each in node.args["ifs"]]
    default = node.args.get("default")
    otherwise = at.literal(None, pl.Null()) if default is None else at.value(default)
    return _chosen(at, branches, otherwise)


def _when(at: Compiler, node: exp.Expr, subject: Value | None) -> Value:
    if subject is None:
        return at.condition(node)
    left, right = comparable(at, subject, at.value(node))
    return at.of(left.expr == right.expr, left, right)


def _if(at: Compiler, node: exp.If) -> Value:
    otherwise = node.args.get("false")
    default = at.literal(None, pl.Null()) if otherwise is None else at.value(otherwise)
    return _chosen(at, [(at.condition(node.this), at.value(node.args["true"]))], default)


def _chosen(at: Compiler, branches: list[tuple[Value, Value]], otherwise: Value) -> Value:
    chosen = otherwise.expr
    for condition, result in reversed(branches):
        chosen = pl.when(condition.expr).then(result.expr).otherwise(chosen)
    return at.of(chosen, *(value for branch in branches for value in branch), otherwise)


def _cast(at: Compiler, node: exp.Cast) -> Value:
    target = type_of(node.to, at.frame.place)
    strict = not isinstance(node, exp.TryCast)
    if isinstance(node.this, exp.Literal) and node.this.is_string and isinstance(target, pl.Datetime):
        return _constant(
            at.of(fitted(timestamp_of(pl.lit(node.this.this), target, strict=strict), node.to)), strict=strict
        )
    found = at.value(node.this)
    made = at.of(fitted(cast(found.expr, found.dtype, target, strict=strict), node.to), found)
    _constant(made, strict=strict)
    return Value(expr=made.expr, dtype=target, reads=made.reads, steady=made.steady)


def _constant(value: Value, *, strict: bool) -> Value:
    """A cast of a constant that cannot be made is told at once. Raises PolarsError."""
    if strict and value.steady and not value.reads:
        pl.select(value.expr)
    return value


def _joined_texts(at: Compiler, node: exp.DPipe) -> Value:
    left, right = at.value(node.left), at.value(node.right)
    return at.of(FUNCTIONS["CONCAT"].compute(left, right), left, right)


def _extract(at: Compiler, node: exp.Extract) -> Value:
    time = at.value(node.expression)
    return at.of(field_of(node.this.name, time), time)


def _trim(at: Compiler, node: exp.Trim) -> Value:
    text = at.value(node.this)
    letters = " " if node.expression is None else literal_text(at.value(node.expression))
    strip = {"LEADING": "strip_chars_start", "TRAILING": "strip_chars_end"}
    method = strip.get(str(node.args.get("position") or "").upper(), "strip_chars")
    return at.of(getattr(text.expr.str, method)(letters), text)


def _substring(at: Compiler, node: exp.Substring) -> Value:
    given = (node.this, node.args.get("start"), node.args.get("length"))
    parts = [at.value(each) for each in given if each is not None]
    if len(parts) < 2:
        raise CannotCompute("SUBSTRING takes a text and where to start")
    return at.of(substring(*parts), *parts)


def _position(at: Compiler, node: exp.StrPosition) -> Value:
    text, part = at.value(node.this), at.value(node.args["substr"])
    before = text.expr.str.split(literal_text(part)).list.first().str.len_chars()
    if not literal_text(part):
        return at.of(pl.when(text.expr.is_not_null()).then(1).cast(pl.Int32), text, part)
    found = pl.when(text.expr.str.contains(part.expr, literal=True)).then(before + 1).otherwise(0).cast(pl.Int32)
    return at.of(pl.when(text.expr.is_not_null()).then(found), text, part)


def _edge(at: Compiler, node: exp.Floor | exp.Ceil) -> Value:
    found = at.value(node.this)
    unit = node.args.get("to")
    if unit is not None:
        if isinstance(node, exp.Ceil):
            raise CannotCompute("CEIL to a unit of time is not known here")
        return at.of(floored(found.expr, str(unit)), found)
    if found.dtype.is_integer():
        return found
    if isinstance(found.dtype, pl.Decimal):
        return at.of(edge(found, up=isinstance(node, exp.Ceil)), found)
    return at.of(found.expr.floor() if isinstance(node, exp.Floor) else found.expr.ceil(), found)


def _call(at: Compiler, node: exp.Anonymous) -> Value:
    name = str(node.this).upper()
    if name in NOW_CALLS:
        if node.expressions:
            raise CannotCompute(f"{name} takes no arguments")
        return present(name)
    if name in AGGREGATES:
        raise at.frame.place.error(f"{node.sql()} stands where a value of each row is expected", node)
    if name in ("TIMESTAMPADD", "TIMESTAMPDIFF"):
        return _between_times(at, node, name)
    function = FUNCTIONS.get(name)
    if function is None:
        raise at.frame.place.error(
            f"function {name} is not known here; known: {', '.join(sorted(FUNCTIONS))}; others go into a Python stream",
            node,
        )
    if not function.least <= len(node.expressions) <= function.most:
        raise at.frame.place.error(f"{node.sql()}: {name} takes {function.least} to {function.most} arguments", node)
    arguments = [at.value(each) for each in node.expressions]
    return at.of(function.compute(*arguments), *arguments)


def _between_times(at: Compiler, node: exp.Anonymous, name: str) -> Value:
    if len(node.expressions) != 3:
        raise CannotCompute(f"{name} takes a unit and two arguments")
    unit, first, second = node.expressions
    left, right = at.value(first), at.value(second)
    if name == "TIMESTAMPADD":
        return at.of(shifted(right.expr, unit.name, left.expr.cast(pl.Int64)), left, right)
    whole = {
        "SECOND": "total_seconds", "MINUTE": "total_minutes", "HOUR": "total_hours", "DAY": "total_days",
    }.get(unit.name.upper())  # fmt: skip
    if whole is None:
        raise CannotCompute("TIMESTAMPDIFF knows SECOND, MINUTE, HOUR and DAY")
    moments = [value.expr.cast(pl.Datetime("us")) for value in (left, right)]
    return at.of(getattr((moments[1] - moments[0]).dt, whole)().cast(pl.Int32), left, right)


CALLS: Final[Mapping[type[exp.Expr], Computed]] = {
    exp.Case: _case,
    exp.If: _if,
    exp.Cast: _cast,
    exp.TryCast: _cast,
    exp.DPipe: _joined_texts,
    exp.Extract: _extract,
    exp.Trim: _trim,
    exp.Substring: _substring,
    exp.StrPosition: _position,
    exp.Floor: _edge,
    exp.Ceil: _edge,
    exp.Anonymous: _call,
}

"""Operators of expressions: arithmetic, comparison, logic, by Flink's rules."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import polars as pl
from sqlglot import exp

from lakehouse_assets.flink_sql.casts import cast
from lakehouse_assets.flink_sql.decimals import product, total
from lakehouse_assets.flink_sql.functions import (
    divided,
    literal_text,
    remainder,
    shifted,
)
from lakehouse_assets.flink_sql.values import Compiler, Computed, Value


def _arithmetic(combine: Callable[[pl.Expr, pl.Expr], pl.Expr]) -> Computed:
    def compute(at: Compiler, node: exp.Binary) -> Value:
        if isinstance(node.right, exp.Interval):
            return moved(at, node)
        left, right = at.value(node.left), at.value(node.right)
        _require_numbers(at, node, left, right)
        floats, decimals = (any(test(side.dtype) for side in (left, right)) for test in (_is_float, _is_decimal))
        if decimals and not floats:
            exact = (
                product(left, right)
                if isinstance(node, exp.Mul)
                else total(left, right, combine(left.expr, right.expr))
            )
            return at.of(exact, left, right)
        pair = [side.expr.cast(pl.Float64) if decimals else side.expr for side in (left, right)]
        return at.of(combine(*pair), left, right)

    return compute


def _require_numbers(at: Compiler, node: exp.Expr, *values: Value) -> None:
    wrong = [value for value in values if not (value.dtype.is_numeric() or value.dtype == pl.Null)]
    if wrong:
        raise at.frame.place.error(f"{node.sql()}: {wrong[0].dtype} is no number; CAST it", node)


def _is_float(dtype: pl.DataType) -> bool:
    return dtype.is_float()


def _is_decimal(dtype: pl.DataType) -> bool:
    return isinstance(dtype, pl.Decimal)


def moved(at: Compiler, node: exp.Binary) -> Value:
    """``time + INTERVAL '1' DAY``."""
    time, interval = at.value(node.left), node.right
    count = at.value(interval.this)
    number = count.expr.cast(pl.Int64) * (-1 if isinstance(node, exp.Sub) else 1)
    return at.of(shifted(time.expr, str(interval.args["unit"]), number), time, count)


def _compared(combine: Callable[[pl.Expr, pl.Expr], pl.Expr]) -> Computed:
    def compute(at: Compiler, node: exp.Binary) -> Value:
        left, right = comparable(at, at.value(node.left), at.value(node.right))
        return at.of(combine(left.expr, right.expr), left, right)

    return compute


def comparable(at: Compiler, left: Value, right: Value) -> tuple[Value, Value]:
    """A text beside a number or a time is read as one."""
    if left.dtype == pl.String and not _is_text(right.dtype):
        return at.of(cast(left.expr, left.dtype, right.dtype), left), right
    if right.dtype == pl.String and not _is_text(left.dtype):
        return left, at.of(cast(right.expr, right.dtype, left.dtype), right)
    return left, right


def _is_text(dtype: pl.DataType) -> bool:
    return dtype in (pl.String, pl.Null)


def _negatable(compute: Computed) -> Computed:
    """For ``NOT LIKE``, ``NOT IN`` and the like."""

    def negated(at: Compiler, node: exp.Expr) -> Value:
        found = compute(at, node)
        return at.of(~found.expr, found) if node.args.get("negate") else found

    return negated


def _logic(combine: Callable[[pl.Expr, pl.Expr], pl.Expr]) -> Computed:
    def compute(at: Compiler, node: exp.Binary) -> Value:
        left, right = at.condition(node.left), at.condition(node.right)
        return at.of(combine(left.expr, right.expr), left, right)

    return compute


def _not(at: Compiler, node: exp.Not) -> Value:
    found = at.condition(node.this)
    return at.of(~found.expr, found)


def _negative(at: Compiler, node: exp.Neg) -> Value:
    found = at.value(node.this)
    return at.of(-found.expr, found)


def _division(at: Compiler, node: exp.Binary) -> Value:
    left, right = at.value(node.left), at.value(node.right)
    _require_numbers(at, node, left, right)
    return at.of((remainder if isinstance(node, exp.Mod) else divided)(left, right), left, right)


def _is(at: Compiler, node: exp.Is) -> Value:
    found = at.value(node.this)
    wanted = node.expression
    if isinstance(wanted, exp.Null):
        return at.of(found.expr.is_null(), found)
    if isinstance(wanted, exp.Boolean):
        return at.of(found.expr.eq_missing(pl.lit(value=bool(wanted.this))), found)
    raise at.frame.place.error(f"{node.sql()} is not known here", node)


def _distinct_from(*, same: bool) -> Computed:
    def compute(at: Compiler, node: exp.Binary) -> Value:
        left, right = comparable(at, at.value(node.left), at.value(node.right))
        equal = left.expr.eq_missing(right.expr)
        return at.of(equal if same else ~equal, left, right)

    return compute


def _between(at: Compiler, node: exp.Between) -> Value:
    this = at.value(node.this)
    this_low, low = comparable(at, this, at.value(node.args["low"]))
    this_high, high = comparable(at, this, at.value(node.args["high"]))
    return at.of((this_low.expr >= low.expr) & (this_high.expr <= high.expr), this_low, low, high)


def _in(at: Compiler, node: exp.In) -> Value:
    if node.args.get("query") is not None:
        raise at.frame.place.refusal(
            f"{node.sql()}: rows would have to be judged again when the inner table changes; write a lookup join", node
        )
    this = at.value(node.this)
    pairs = [comparable(at, this, at.value(each)) for each in node.expressions]
    equal = [left.expr == right.expr for left, right in pairs]
    return at.of(pl.any_horizontal(equal), *(value for pair in pairs for value in pair))


def _like(at: Compiler, node: exp.Like) -> Value:
    text, rule = at.value(node.this), at.value(node.expression)
    return at.of(text.expr.str.contains(like_pattern(literal_text(rule), None)), text)


def _escaped(at: Compiler, node: exp.Escape) -> Value:
    like = node.this
    if not isinstance(like, exp.Like):
        raise at.frame.place.error(f"{node.sql()} is not known here", node)
    text, rule = at.value(like.this), literal_text(at.value(like.expression))
    matched = text.expr.str.contains(like_pattern(rule, literal_text(at.value(node.expression))))
    return at.of(~matched if like.args.get("negate") else matched, text)


def like_pattern(rule: str, escape: str | None) -> str:
    """A LIKE pattern as a regular expression."""
    pieces, literal = [], False
    for letter in rule:
        if literal or letter not in ("%", "_", escape):
            pieces.append("\\" + letter if not letter.isalnum() and letter.isascii() else letter)
            literal = False
        elif letter == escape:
            literal = True
        else:
            pieces.append(".*" if letter == "%" else ".")
    return f"(?s)^{''.join(pieces)}$"


OPERATORS: Final[Mapping[type[exp.Expr], Computed]] = {
    exp.Add: _arithmetic(lambda a, b: a + b),
    exp.Sub: _arithmetic(lambda a, b: a - b),
    exp.Mul: _arithmetic(lambda a, b: a * b),
    exp.Div: _division,
    exp.Mod: _division,
    exp.Neg: _negative,
    exp.EQ: _compared(lambda a, b: a == b),
    exp.NEQ: _compared(lambda a, b: a != b),
    exp.LT: _compared(lambda a, b: a < b),
    exp.LTE: _compared(lambda a, b: a <= b),
    exp.GT: _compared(lambda a, b: a > b),
    exp.GTE: _compared(lambda a, b: a >= b),
    exp.And: _logic(lambda a, b: a & b),
    exp.Or: _logic(lambda a, b: a | b),
    exp.Not: _not,
    exp.Is: _negatable(_is),
    exp.NullSafeEQ: _distinct_from(same=True),
    exp.NullSafeNEQ: _distinct_from(same=False),
    exp.Between: _negatable(_between),
    exp.In: _negatable(_in),
    exp.Like: _negatable(_like),
    exp.Escape: _escaped,
}

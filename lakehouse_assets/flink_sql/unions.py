"""``UNION ALL``: each branch is a query of its own; beneath an outer query, their columns go by place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import polars as pl
from sqlglot import exp

from lakehouse_assets.flink_sql.casts import cast
from lakehouse_assets.flink_sql.errors import Place
from lakehouse_assets.flink_sql.lookups import Relation
from lakehouse_assets.flink_sql.values import Value


def branches(tree: exp.Expr) -> list[exp.Expr]:
    """The queries that ``UNION ALL`` puts together, from left to right; one that does not is its only branch."""
    found, left = [], [tree]
    while left:
        node = left.pop()
        while isinstance(node, exp.Subquery) and not node.alias:
            node = node.this
        if isinstance(node, exp.Union) and not node.args.get("distinct") and not node.args.get("by_name"):
            left += [node.expression, node.this]
        else:
            found.append(node)
    return found


def united(relations: Sequence[Relation], places: Sequence[Place]) -> list[Relation]:
    """Branches as an outer query sees them: by the names of the first, each column of one type. Raises SqlError."""
    first = relations[0]
    if len(relations) == 1:
        return list(relations)
    for relation, place in zip(relations, places, strict=True):
        if len(relation.columns) != len(first.columns):
            raise place.error(
                f"UNION ALL: this branch gives {len(relation.columns)} columns, the first {len(first.columns)}"
            )
    values = [list(relation.columns.values()) for relation in relations]
    for number, name in enumerate(first.columns):
        column = [own[number] for own in values]
        dtype = _common([value.dtype for value in column])
        for own, value, place in zip(values, column, places, strict=True):
            if dtype is None:
                of_first = column[0].dtype
                if value.dtype != of_first:
                    raise place.error(
                        f"UNION ALL: column {name} is {value.dtype} here, {of_first} in the first: CAST it"
                    )
            else:
                own[number] = _as(value, dtype)
    return [
        replace(relation, columns=dict(zip(first.columns, own, strict=True)), newest={})
        for relation, own in zip(relations, values, strict=True)
    ]


def _common(dtypes: Sequence[pl.DataType]) -> pl.DataType | None:
    """The type that all have, nulls aside, or the widest of whole numbers; None: there is none."""
    known = list(dict.fromkeys(dtype for dtype in dtypes if dtype != pl.Null)) or [pl.Null()]
    if len(known) == 1:
        return known[0]
    whole = [dtype for dtype in known if dtype.is_signed_integer()]
    return max(whole, key=_bits) if len(whole) == len(known) else None


def _bits(dtype: pl.DataType) -> int:
    return int(str(dtype).removeprefix("Int"))


def _as(value: Value, dtype: pl.DataType) -> Value:
    return value if value.dtype == dtype else replace(value, expr=cast(value.expr, value.dtype, dtype), dtype=dtype)

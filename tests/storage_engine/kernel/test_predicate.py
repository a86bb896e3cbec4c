"""Predicates taken apart, and told from those that ask other rows."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl
import pytest

from storage_engine.kernel.predicate import conjuncts, is_row_separable, part_over

SCHEMA: Mapping[str, pl.DataType] = {"v": pl.Int64(), "w": pl.Int64(), "s": pl.String()}
FRAME = pl.DataFrame({"v": [3, 1, None, 2, 5], "w": [1, 1, 2, 2, 2], "s": ["a", "B", None, "a", ""]}, schema=SCHEMA)
V = pl.col("v")
OWN_ROW = [
    V * 5,
    V > 5,
    V.is_in([1, 2]),
    pl.col("s").str.to_uppercase(),
    pl.when(V > 1).then(2).otherwise(V),
    pl.lit(5),
    pl.struct("v", "w").struct.field("v") + 1,
    *map(
        pl.sql_expr, ["v * 5", "v / 2 > 1", "v IN (1, 2)", "v BETWEEN 1 AND 3", "s LIKE 'a%'", "coalesce(v, 0)", "-v"]
    ),
]
OTHER_ROWS = [
    V.sum(),
    V.sum() < V,
    V.sum() + 1,
    V.fill_null(V.mean()),
    pl.when(V.sum() > 1).then(1).otherwise(2),
    V.shift(1) + 1,
    V.sum().over("w"),
    V.is_duplicated(),
    V.cum_sum(),
    pl.len() + V,
    *map(pl.sql_expr, ["v * 5 > sum(v)", "sum(v) OVER (PARTITION BY w)", "v = max(v)"]),
]


@pytest.mark.parametrize("expression", OWN_ROW, ids=str)
def test_an_expression_over_one_row(expression: pl.Expr) -> None:
    assert is_row_separable(expression, SCHEMA)
    alone = pl.concat(row.select(expression.alias("x")) for row in FRAME.iter_slices(1))
    assert FRAME.select(pl.col("v"), expression.alias("x")).select("x").equals(alone)


@pytest.mark.parametrize("expression", OTHER_ROWS, ids=str)
def test_an_expression_that_asks_other_rows(expression: pl.Expr) -> None:
    assert not is_row_separable(expression, SCHEMA)


def test_conjuncts_by_the_columns_that_they_speak_of() -> None:
    predicate = (V > 1) & ((pl.col("w") == 2) | (pl.col("w") == V)) & (pl.col("w") < 9)
    assert [str(part) for part in conjuncts(predicate)] == [
        str(pl.col("w") < 9),
        str((pl.col("w") == 2) | (pl.col("w") == V)),
        str(V > 1),
    ]
    of_w = part_over(predicate, ["w"])
    assert of_w is not None
    assert str(of_w) == str(pl.col("w") < 9)
    assert part_over(predicate, ["s"]) is None
    assert part_over(None, ["s"]) is None

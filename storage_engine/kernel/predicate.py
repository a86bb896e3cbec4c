"""Predicates taken apart: conjuncts by the columns they speak of, and what minimum, maximum and null counts rule out."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import reduce
from operator import and_

import polars as pl


def conjuncts(predicate: pl.Expr) -> Iterator[pl.Expr]:
    """The parts of ``a & b & c``."""
    document = json.loads(predicate.meta.serialize(format="json"))
    binary = document.get("BinaryExpr") if isinstance(document, dict) else None
    if binary is None or binary.get("op") not in ("And", "LogicalAnd"):
        yield predicate
        return
    for part in predicate.meta.pop():
        yield from conjuncts(part)


def part_over(predicate: pl.Expr | None, columns: Collection[str]) -> pl.Expr | None:
    """The conjuncts that speak of nothing but ``columns``, as one predicate; None if there is none.

    REQUIRES: each row is asked by itself (``is_row_separable``), as of any predicate that Polars hands to a source.
    """
    if predicate is None:
        return None
    names = frozenset(columns)
    parts = [part for part in conjuncts(predicate) if (roots := part.meta.root_names()) and names.issuperset(roots)]
    return reduce(and_, parts) if parts else None


def is_row_separable(expression: pl.Expr, schema: Mapping[str, pl.DataType]) -> bool:
    """Whether the value of an expression in a row depends on that row alone, however deep a window or aggregate stands.

    Polars' own answer: where it holds, its optimizer slices rows before it computes. Raises what Polars raises for an
    expression that the columns do not bear.
    """
    return not pl.LazyFrame(schema=schema).select(expression).slice(1, 2).explain().startswith("SLICE")


def stats_columns(name: str) -> tuple[str, str, str]:
    """Names of minimum, maximum and null count of a column in a statistics frame."""
    return f"{name}_min", f"{name}_max", f"{name}_nc"


def ruled_out(predicate: pl.Expr, schema: Mapping[str, pl.DataType], stats: pl.DataFrame) -> pl.Series:
    """For each row of a statistics frame, whether no row that it describes can satisfy the predicate.

    ``stats`` has ``len`` (UInt32 row count) and, for each column of the predicate, the columns of ``stats_columns`` (null =
    unknown). What cannot be decided is not ruled out.
    """
    skip = predicate._skip_batch_predicate(dict(schema))  # noqa: SLF001 - Polars' own pruning, the one its scans use
    if skip is None:
        return pl.repeat(value=False, n=stats.height, dtype=pl.Boolean, eager=True)
    return stats.select(skip.alias("skip").fill_null(value=False))["skip"]


def stats_frame(
    schema: Mapping[str, pl.DataType],
    names: Sequence[str],
    mins: Sequence[Sequence[object] | pl.Series],
    maxs: Sequence[Sequence[object] | pl.Series],
    null_counts: Sequence[Sequence[int | None] | pl.Series],
    lengths: Sequence[int] | pl.Series,
) -> pl.DataFrame:
    """A statistics frame from one sequence of values for each name of ``names``."""
    columns = [pl.Series("len", lengths, pl.UInt32)]
    for name, low, high, nulls in zip(names, mins, maxs, null_counts, strict=True):
        low_name, high_name, null_name = stats_columns(name)
        columns += [
            pl.Series(low_name, low, schema[name], strict=False),
            pl.Series(high_name, high, schema[name], strict=False),
            pl.Series(null_name, nulls, pl.UInt32),
        ]
    return pl.DataFrame(columns)

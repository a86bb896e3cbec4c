"""A value that a statement computes for each row, as a Polars expression that knows its type and what it reads."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

import polars as pl
from sqlglot import exp

from lakehouse_assets.flink_sql.errors import Place


@dataclass(frozen=True, slots=True, kw_only=True)
class Value:
    """``reads``: columns of the frame that it is computed from; ``steady``: the same row gives the same value later.

    ``moment``: it is the time at which a row is processed, ``PROCTIME()``.
    """

    expr: pl.Expr
    dtype: pl.DataType
    reads: frozenset[str] = frozenset()
    steady: bool = True
    moment: bool = False

    @property
    def column(self) -> str | None:
        """The column of the frame that it is, if it is one as it stands."""
        is_column = self.expr.meta.is_column() and len(self.reads) == 1
        return next(iter(self.reads)) if is_column else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """The columns of the frame that expressions run on, and how a piece of it is said to be wrong."""

    schema: Mapping[str, pl.DataType]
    place: Place

    def value(self, expr: pl.Expr, *parts: Value) -> Value:
        """A value computed from others; its type is what Polars gives it."""
        return Value(
            expr=expr,
            dtype=self.dtype(expr),
            reads=frozenset().union(*(part.reads for part in parts)),
            steady=all(part.steady for part in parts),
        )

    def dtype(self, expr: pl.Expr) -> pl.DataType:
        """The type of an expression. Raises PolarsError for one that cannot be."""
        return pl.LazyFrame(schema=self.schema).select(expr.alias("_")).collect_schema()["_"]


@dataclass(frozen=True, slots=True)
class Names:
    """The columns that a query's FROM offers: by qualifier, in order. ``databases``: of qualifiers that are tables' own names."""

    by_table: Mapping[str, Mapping[str, Value]] = field(default_factory=dict)
    databases: Mapping[str, str] = field(default_factory=dict)

    def holds(self, table: str, database: str) -> bool:
        """Whether there is such a qualifier (with its database, if that is given)."""
        return table in self.by_table and (not database or self.databases.get(table) == database)

    def find(self, table: str, column: str) -> list[Value]:
        """Every column of that name (of one table, if it is given)."""
        tables = [self.by_table.get(table, {})] if table else list(self.by_table.values())
        return [columns[column] for columns in tables if column in columns]

    def all(self, table: str = "") -> list[tuple[str, Value]]:
        """What ``*`` or ``table.*`` stands for."""
        tables = [self.by_table.get(table, {})] if table else list(self.by_table.values())
        return [pair for columns in tables for pair in columns.items()]


class Compiler(Protocol):
    """What compiles the parts of an expression."""

    @property
    def frame(self) -> Frame:
        """The columns that it runs on."""

    @property
    def names(self) -> Names:
        """What FROM offers."""

    def value(self, node: exp.Expr) -> Value:
        """The value of an expression."""

    def condition(self, node: exp.Expr) -> Value:
        """A value that must be true or false."""

    def of(self, expr: pl.Expr, *parts: Value) -> Value:
        """A value computed from others."""

    def literal(self, value: object, dtype: pl.DataType) -> Value:
        """A constant."""


Computed: TypeAlias = Callable[[Any, Any], Value]
"""(compiler, node) → value."""

"""A column of sorted records: its aggregate function, and which records count for it.

The records lie sorted by key and merge order. A column's *order* (``Int64``, 1-based row number) says which of them count:

- null: the record does not count;
- positive: it is merged as the newer one (``agg(accumulator, value)``);
- negative: it is older than what was merged before it (``agg(value, accumulator)``; sequence groups only).

So an add with a larger order stands behind one with a smaller order. A retract always counts at its absolute order.
"""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from storage_engine.spec.types import DataType

KEY_INDEX = "_KEY_INDEX"
RETRACT = "_RETRACT"


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnRule:
    """The aggregate function of a column with its options."""

    name: str
    type: DataType
    function: str
    ignore_retract: bool = False
    delimiter: str = ","
    distinct: bool = False
    nested_key: tuple[str, ...] = ()
    count_limit: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column in the sorted records: its rule and its order column.

    ``with_retracts``: some records retract. ``with_older``: some orders are negative.
    """

    rule: ColumnRule
    order: str
    with_retracts: bool
    with_older: bool = False

    @property
    def value(self) -> pl.Expr:
        """The values."""
        return pl.col(self.rule.name)

    @property
    def position(self) -> pl.Expr:
        """The order of adds; null for records that do not count and for retracts."""
        order = pl.col(self.order)
        return pl.when(~pl.col(RETRACT)).then(order) if self.with_retracts else order

    @property
    def retract_position(self) -> pl.Expr:
        """The order of retracts; null for adds and for records that do not count."""
        return pl.when(pl.col(RETRACT)).then(pl.col(self.order).abs())

    @property
    def retracts(self) -> bool:
        """Whether retracts must be looked at."""
        return self.with_retracts and not self.rule.ignore_retract

    @property
    def added(self) -> pl.Expr:
        """The values of adds that count; null for all else."""
        return pl.when(self.position.is_not_null()).then(self.value)

    def newest(self, order: pl.Expr) -> pl.Expr:
        """The largest of the orders of a key. Orders ascend, but for negative ones: no maximum need be looked for."""
        if not self.with_older:
            return order.last(ignore_nulls=True)
        older = pl.when(order < 0).then(order).first(ignore_nulls=True)
        return pl.coalesce(self.newest_merged(order), older)

    def newest_merged(self, order: pl.Expr) -> pl.Expr:
        """The largest positive order of a key."""
        return pl.when(order > 0).then(order).last(ignore_nulls=True)

    def oldest(self, order: pl.Expr) -> pl.Expr:
        """The smallest of the orders of a key."""
        if not self.with_older:
            return order.first(ignore_nulls=True)
        older = pl.when(order < 0).then(order).last(ignore_nulls=True)
        return pl.coalesce(older, pl.when(order > 0).then(order).first(ignore_nulls=True))

"""Aggregate functions by name: how the values of one column, over the records of one key, become one value.

Spec: "Merge Engine / Aggregation" of Apache Paimon 1.3.1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import polars as pl

from storage_engine.errors import InvalidOption
from storage_engine.kernel.column_rule import Column, ColumnRule
from storage_engine.kernel.nested_aggregators import collect, merge_map, nested_update
from storage_engine.kernel.reductions import largest, listing, product, smallest, total
from storage_engine.kernel.sketches import check_datasketches, hll_sketch, rbm32, rbm64, theta_sketch
from storage_engine.spec.types import FLOAT_ROOTS, INTEGER_ROOTS, NESTED_ROOTS, TypeRoot

Pick = Callable[[Column], pl.Expr]
Reduce = Callable[[pl.DataFrame, Column, pl.Series], pl.Series]
Fold = Callable[[pl.DataFrame, Column], pl.DataFrame]
Check = Callable[[ColumnRule], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Aggregator:
    """One function; exactly one of ``pick``, ``reduce`` and ``fold`` is given.

    ``pick``: an aggregation that yields the order of the record whose value is taken (null: none). ``reduce``: from the records
    and the last row of each key to a value for each key. ``fold``: from the records to a frame ``(_KEY_INDEX, value)``, keys
    without a value left out. ``roots``: accepted types, None for any. ``needs_state``: reversed merging is not a matter of
    order alone.
    """

    pick: Pick | None = None
    reduce: Reduce | None = None
    fold: Fold | None = None
    retracts: bool = False
    roots: frozenset[TypeRoot] | None = None
    needs_state: bool = False
    check: Check | None = None


def can_retract(rule: ColumnRule) -> bool:
    """Whether a -U or -D can be merged into the column."""
    return rule.ignore_retract or (AGGREGATORS[rule.function].retracts and rule.count_limit is None)


def _last_value(column: Column) -> pl.Expr:
    last = column.newest_merged(column.position)
    if not column.retracts:
        return last
    return _unless_cleared(last, column.retract_position.last(ignore_nulls=True))


def _last_non_null_value(column: Column) -> pl.Expr:
    present = column.value.is_not_null()
    position = pl.when(present).then(column.position)
    if not column.retracts:
        return column.newest(position)
    cleared = pl.when(present).then(column.retract_position).last(ignore_nulls=True)
    if not column.with_older:
        return _unless_cleared(column.newest(position), cleared)
    return column.newest(position.filter(position.abs() > cleared.fill_null(0)))


def _unless_cleared(last: pl.Expr, cleared: pl.Expr) -> pl.Expr:
    return pl.when(~(cleared > last).fill_null(value=False)).then(last)


def _first_value(column: Column) -> pl.Expr:
    return column.oldest(column.position)


def _first_non_null_value(column: Column) -> pl.Expr:
    return column.oldest(pl.when(column.value.is_not_null()).then(column.position))


def _check_collect(rule: ColumnRule) -> None:
    if rule.type.root is not TypeRoot.ARRAY:
        raise InvalidOption(f"column {rule.name!r}: aggregate function 'collect' needs an ARRAY")


def _check_nested_update(rule: ColumnRule) -> None:
    element = rule.type.element
    if rule.type.root is not TypeRoot.ARRAY or element is None or element.root is not TypeRoot.ROW:
        raise InvalidOption(f"column {rule.name!r}: aggregate function 'nested_update' needs an ARRAY of ROW")
    names = {field.name for field in element.fields}
    unknown = [name for name in rule.nested_key if name not in names]
    if unknown:
        raise InvalidOption(f"option 'fields.{rule.name}.nested-key' names {unknown[0]!r}, which is no field")


_NUMERIC = INTEGER_ROOTS | FLOAT_ROOTS | {TypeRoot.DECIMAL}
_COMPARABLE = frozenset(TypeRoot) - NESTED_ROOTS
LAST_VALUE = "last_value"
LAST_NON_NULL_VALUE = "last_non_null_value"
ALIASES = {"first_not_null_value": "first_non_null_value", "last_non_null": LAST_NON_NULL_VALUE}
_BYTES = frozenset({TypeRoot.VARBINARY})
AGGREGATORS: dict[str, Aggregator] = {
    "sum": Aggregator(reduce=total, retracts=True, roots=_NUMERIC),
    "product": Aggregator(reduce=product, roots=_NUMERIC),
    "max": Aggregator(reduce=largest, roots=_COMPARABLE),
    "min": Aggregator(reduce=smallest, roots=_COMPARABLE),
    LAST_VALUE: Aggregator(pick=_last_value, retracts=True),
    LAST_NON_NULL_VALUE: Aggregator(pick=_last_non_null_value, retracts=True),
    "first_value": Aggregator(pick=_first_value),
    "first_non_null_value": Aggregator(pick=_first_non_null_value, needs_state=True),
    "listagg": Aggregator(reduce=listing, roots=frozenset({TypeRoot.CHAR, TypeRoot.VARCHAR})),
    "bool_and": Aggregator(reduce=smallest, roots=frozenset({TypeRoot.BOOLEAN})),
    "bool_or": Aggregator(reduce=largest, roots=frozenset({TypeRoot.BOOLEAN})),
    "collect": Aggregator(fold=collect, retracts=True, check=_check_collect),
    "hll_sketch": Aggregator(fold=hll_sketch, roots=_BYTES, check=check_datasketches),
    "theta_sketch": Aggregator(fold=theta_sketch, roots=_BYTES, check=check_datasketches),
    "rbm32": Aggregator(fold=rbm32, roots=_BYTES),
    "rbm64": Aggregator(fold=rbm64, roots=_BYTES),
    "merge_map": Aggregator(fold=merge_map, retracts=True, roots=frozenset({TypeRoot.MAP})),
    "nested_update": Aggregator(fold=nested_update, retracts=True, check=_check_nested_update),
}

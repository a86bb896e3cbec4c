"""Aggregate functions by name: how the values of one column, over the records of one key, become one value.

Spec: "Merge Engine / Aggregation" of Apache Paimon 1.3.1. The records lie sorted by key and merge order; a column's *order*
(``Int64``, 1-based row number) says which records count for it:

- null: the record does not count;
- positive: it is merged as the newer one (``agg(accumulator, value)``);
- negative: it is older than what was merged before it (``agg(value, accumulator)``; sequence groups only).

So an add with a larger order stands behind one with a smaller order. A retract always counts at its absolute order.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import polars as pl

from storage_engine.errors import InvalidOption
from storage_engine.spec.types import FLOAT_ROOTS, INTEGER_ROOTS, NESTED_ROOTS, DataType, TypeRoot

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

    @property
    def can_retract(self) -> bool:
        """Whether a -U or -D can be merged into the column."""
        if self.ignore_retract:
            return True
        return AGGREGATORS[self.function].retracts and self.count_limit is None


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column in the sorted records: its rule, its order column, and whether any record retracts."""

    rule: ColumnRule
    order: str
    with_retracts: bool

    @property
    def value(self) -> pl.Expr:
        """The values."""
        return pl.col(self.rule.name)

    @property
    def position(self) -> pl.Expr:
        """The order of adds; null for records that do not count and for retracts."""
        order = pl.col(self.order)
        return pl.when(pl.col(RETRACT)).then(None).otherwise(order) if self.with_retracts else order

    @property
    def retract_position(self) -> pl.Expr:
        """The order of retracts; null for adds and for records that do not count."""
        return pl.when(pl.col(RETRACT)).then(pl.col(self.order).abs())

    @property
    def retracts(self) -> bool:
        """Whether retracts must be looked at."""
        return self.with_retracts and not self.rule.ignore_retract


Pick = Callable[[Column], pl.Expr]
Reduce = Callable[[Column], pl.Expr]
Fold = Callable[[pl.DataFrame, Column], pl.DataFrame]
Check = Callable[[ColumnRule], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Aggregator:
    """One function; exactly one of ``pick``, ``reduce`` and ``fold`` is given.

    ``pick``: an aggregation that yields the order of the record whose value is taken (null: none). ``reduce``: an aggregation
    that yields the value. ``fold``: from all records to a frame ``(_KEY_INDEX, value)``, keys without a value left out.
    ``roots``: accepted types, None for any. ``needs_state``: reversed merging is not a matter of order alone.
    """

    pick: Pick | None = None
    reduce: Reduce | None = None
    fold: Fold | None = None
    retracts: bool = False
    roots: frozenset[TypeRoot] | None = None
    needs_state: bool = False
    check: Check | None = None


def _or_null_if_none(reduced: pl.Expr, counted: pl.Expr) -> pl.Expr:
    return pl.when(counted.count() > 0).then(reduced)


def _last_value(column: Column) -> pl.Expr:
    last = pl.when(column.position > 0).then(column.position).max()
    if not column.retracts:
        return last
    return pl.when((column.retract_position.max() > last).fill_null(False)).then(None).otherwise(last)


def _last_non_null_value(column: Column) -> pl.Expr:
    present = column.value.is_not_null()
    position = pl.when(present).then(column.position)
    if not column.retracts:
        return position.max()
    cleared = pl.when(present).then(column.retract_position).max().fill_null(0)
    return position.filter(position.abs() > cleared).max()


def _first_value(column: Column) -> pl.Expr:
    return column.position.min()


def _first_non_null_value(column: Column) -> pl.Expr:
    return pl.when(column.value.is_not_null()).then(column.position).min()


def _counted(column: Column) -> pl.Expr:
    """Values of adds that count; null otherwise."""
    return pl.when(column.position.is_not_null()).then(column.value)


def _sum(column: Column) -> pl.Expr:
    value = column.value
    if column.rule.type.root in INTEGER_ROOTS:
        value = value.cast(pl.Int64)
    if column.retracts:
        counts = pl.col(column.order).is_not_null()
        signed: pl.Expr = pl.when(counts & pl.col(RETRACT)).then(-value).when(counts).then(value)
    else:
        signed = pl.when(column.position.is_not_null()).then(value)
    return _or_null_if_none(_checked_sum(signed, column.rule.type), signed)


def _checked_sum(values: pl.Expr, data_type: DataType) -> pl.Expr:
    """A sum, null where 128 bits do not hold it: a grouped sum of decimals wraps around without a word."""
    if data_type.root is not TypeRoot.DECIMAL or (data_type.precision or 0) <= _SAFE_PRECISION:
        return values.sum()
    limit = _LARGEST_UNSCALED / 10 ** (data_type.scale or 0)
    return pl.when(values.cast(pl.Float64).sum().abs() < limit).then(values.sum())


def _product(column: Column) -> pl.Expr:
    value = _counted(column)
    return _or_null_if_none(value.product(), value)


def _max(column: Column) -> pl.Expr:
    value = _counted(column)
    return value.nan_max() if column.rule.type.root in FLOAT_ROOTS else value.max()


def _min(column: Column) -> pl.Expr:
    return _counted(column).min()


def _listagg(column: Column) -> pl.Expr:
    value = _counted(column)
    kept = value.sort_by(column.position).drop_nulls()
    return _or_null_if_none(kept.str.join(column.rule.delimiter), value)


_ELEMENT, _POSITION, _PLACE, _REMOVES, _IDENTITY = "_ELEMENT", "_POSITION", "_PLACE", "_REMOVES", "_IDENTITY"
_FIRST, _LONE = "_FIRST", "_LONE"


def _elements(rows: pl.DataFrame, column: Column) -> pl.DataFrame:
    """The elements of a list column, one a row: key index, order, place in its list, whether it is retracted."""
    counts = pl.col(column.order).is_not_null() & column.value.is_not_null()
    if column.with_retracts and not column.retracts:
        counts &= ~pl.col(RETRACT)
    position = pl.col(column.order)
    if column.retracts:
        position = pl.when(pl.col(RETRACT)).then(position.abs()).otherwise(position)
    return (
        rows.filter(counts)
        .select(
            KEY_INDEX,
            position.alias(_POSITION),
            pl.col(RETRACT).alias(_REMOVES),
            column.value.alias(_ELEMENT),
            pl.int_ranges(column.value.list.len()).alias(_PLACE),
        )
        .explode(_ELEMENT, _PLACE, empty_as_null=False)
    )


def _lists(elements: pl.DataFrame, rows: pl.DataFrame, column: Column) -> pl.DataFrame:
    """Elements back to a list for each key; a key whose adds were all empty, or all retracted, gets an empty list."""
    name = column.rule.name
    added = rows.filter(column.position.is_not_null() & column.value.is_not_null()).select(KEY_INDEX).unique()
    lists = elements.group_by(KEY_INDEX).agg(pl.col(_ELEMENT).sort_by(_POSITION, _PLACE).alias(name))
    empty = pl.lit([], dtype=column.rule.type.to_polars())
    return added.join(lists, on=KEY_INDEX, how="left").with_columns(pl.col(name).fill_null(empty))


def _collect(rows: pl.DataFrame, column: Column) -> pl.DataFrame:
    # All orders are taken as absolute: Paimon's collect appends, whichever record is newer.
    elements = _elements(rows, column).with_columns(pl.col(_POSITION).abs())
    if column.rule.distinct:
        kept = _last_word(elements, [_ELEMENT], first_place=True)
    elif column.retracts:
        kept = _surviving_occurrences(elements)
    else:
        kept = elements
    return _lists(kept, rows, column)


def _last_word(elements: pl.DataFrame, identity: list[str], *, first_place: bool = False) -> pl.DataFrame:
    """Of the elements of equal identity, the one that counts after the last retract of that identity: the newest.

    ``first_place``: it stands where the first of them stood.
    """
    same = [KEY_INDEX, *identity]
    removed = pl.when(pl.col(_REMOVES)).then(pl.col(_POSITION)).max().over(same).fill_null(0)
    alive = elements.filter(~pl.col(_REMOVES) & (pl.col(_POSITION).abs() > removed))
    ordered = alive.sort(_POSITION, _PLACE)
    if first_place:
        return ordered.unique(same, keep="first", maintain_order=True)
    return ordered.unique(same, keep="last", maintain_order=True)


def _surviving_occurrences(elements: pl.DataFrame) -> pl.DataFrame:
    """Elements that no retract took: each retract takes the oldest equal element there is, if there is one.

    The number left is the final balance above its lowest point, and those left are the newest.
    """
    same = [KEY_INDEX, _ELEMENT]
    ordered = elements.sort(_POSITION, _PLACE, maintain_order=True)
    balance = pl.when(pl.col(_REMOVES)).then(-1).otherwise(1).cum_sum()
    left = (balance.last() - pl.min_horizontal(balance.min(), 0)).over(same)
    newer = (~pl.col(_REMOVES)).cast(pl.Int64).cum_sum(reverse=True).over(same)
    return ordered.filter(~pl.col(_REMOVES) & (newer <= left))


def _merge_map(rows: pl.DataFrame, column: Column) -> pl.DataFrame:
    elements = _elements(rows, column).with_columns(pl.col(_ELEMENT).struct.field("key").alias(_IDENTITY))
    return _lists(_last_word(elements, [_IDENTITY]), rows, column)


def _nested_update(rows: pl.DataFrame, column: Column) -> pl.DataFrame:
    lists = _lists(_updated_elements(rows, column), rows, column)
    name = column.rule.name
    both = lists.join(_lone_lists(rows, column), on=KEY_INDEX, how="left", suffix=_LONE)
    return both.select(KEY_INDEX, pl.coalesce(f"{name}{_LONE}", name).alias(name))


def _updated_elements(rows: pl.DataFrame, column: Column) -> pl.DataFrame:
    """Elements that are left: the newest of each nested key, or all that no equal one was retracted after."""
    elements = _elements(rows, column).filter(pl.col(_ELEMENT).is_not_null())
    if column.rule.nested_key:
        parts = [
            pl.col(_ELEMENT).struct.field(name).alias(f"{_IDENTITY}{index}")
            for index, name in enumerate(column.rule.nested_key)
        ]
        return _last_word(elements.with_columns(parts), [f"{_IDENTITY}{index}" for index in range(len(parts))])
    if column.rule.count_limit is not None:
        return _limited(elements, rows, column, column.rule.count_limit)
    removed = pl.when(pl.col(_REMOVES)).then(pl.col(_POSITION)).max().over(KEY_INDEX, _ELEMENT).fill_null(0)
    return elements.filter(~pl.col(_REMOVES) & (pl.col(_POSITION).abs() > removed))


def _lone_lists(rows: pl.DataFrame, column: Column) -> pl.DataFrame:
    """The list of each key that nothing was merged into: it stays as it was given."""
    counts = pl.col(column.order).is_not_null() & column.value.is_not_null()
    if column.with_retracts and not column.retracts:
        counts &= ~pl.col(RETRACT)
    events = rows.filter(counts)
    first_add = pl.when(~pl.col(RETRACT)).then(pl.col(column.order).abs()).min().over(KEY_INDEX)
    return (
        events.filter(pl.col(column.order).abs() >= first_add)
        .group_by(KEY_INDEX)
        .agg(column.value.first(), pl.len().alias(_PLACE))
        .filter(pl.col(_PLACE) == 1)
        .drop(_PLACE)
    )


def _limited(elements: pl.DataFrame, rows: pl.DataFrame, column: Column, count_limit: int) -> pl.DataFrame:
    """The first list as it is, then more elements up to the limit."""
    first = (
        rows.filter(column.position.is_not_null() & column.value.is_not_null())
        .group_by(KEY_INDEX)
        .agg(pl.col(column.order).min().alias(_FIRST))
    )
    ordered = elements.filter(~pl.col(_REMOVES)).sort(KEY_INDEX, _POSITION, _PLACE).join(first, on=KEY_INDEX)
    rank = pl.int_range(pl.len()).over(KEY_INDEX)
    return ordered.filter((pl.col(_POSITION) == pl.col(_FIRST)) | (rank < count_limit))


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


_SAFE_PRECISION = 28  # as many rows as a frame can have still fit 128 bits
_LARGEST_UNSCALED = 1.5e38
_NUMERIC = INTEGER_ROOTS | FLOAT_ROOTS | {TypeRoot.DECIMAL}
_COMPARABLE = frozenset(TypeRoot) - NESTED_ROOTS
LAST_VALUE = "last_value"
LAST_NON_NULL_VALUE = "last_non_null_value"
ALIASES = {"first_not_null_value": "first_non_null_value", "last_non_null": LAST_NON_NULL_VALUE}
SKETCHES = frozenset({"hll_sketch", "theta_sketch", "rbm32", "rbm64"})
AGGREGATORS: dict[str, Aggregator] = {
    "sum": Aggregator(reduce=_sum, retracts=True, roots=_NUMERIC),
    "product": Aggregator(reduce=_product, roots=INTEGER_ROOTS | FLOAT_ROOTS),
    "max": Aggregator(reduce=_max, roots=_COMPARABLE),
    "min": Aggregator(reduce=_min, roots=_COMPARABLE),
    LAST_VALUE: Aggregator(pick=_last_value, retracts=True),
    LAST_NON_NULL_VALUE: Aggregator(pick=_last_non_null_value, retracts=True),
    "first_value": Aggregator(pick=_first_value),
    "first_non_null_value": Aggregator(pick=_first_non_null_value, needs_state=True),
    "listagg": Aggregator(reduce=_listagg, roots=frozenset({TypeRoot.CHAR, TypeRoot.VARCHAR})),
    "bool_and": Aggregator(reduce=_min, roots=frozenset({TypeRoot.BOOLEAN})),
    "bool_or": Aggregator(reduce=_max, roots=frozenset({TypeRoot.BOOLEAN})),
    "collect": Aggregator(fold=_collect, retracts=True, check=_check_collect),
    "merge_map": Aggregator(fold=_merge_map, retracts=True, roots=frozenset({TypeRoot.MAP})),
    "nested_update": Aggregator(fold=_nested_update, retracts=True, check=_check_nested_update),
}

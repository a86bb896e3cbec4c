"""Aggregate functions of nested columns: collect, merge_map and nested_update, on the elements of all records at once.

Spec: "Merge Engine / Aggregation" of Apache Paimon 1.3.1. Each function makes a frame ``(_KEY_INDEX, column)`` from the sorted
records; keys without a value are left out.
"""

from __future__ import annotations

import polars as pl

from storage_engine.kernel.column_rule import KEY_INDEX, RETRACT, Column

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


def collect(rows: pl.DataFrame, column: Column) -> pl.DataFrame:
    """Elements of all adds in arrival order, minus retracted ones; with ``distinct``, each once."""
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


def merge_map(rows: pl.DataFrame, column: Column) -> pl.DataFrame:
    """Entries of all maps, the newest of each map key, minus retracted keys."""
    elements = _elements(rows, column).with_columns(pl.col(_ELEMENT).struct.field("key").alias(_IDENTITY))
    return _lists(_last_word(elements, [_IDENTITY]), rows, column)


def nested_update(rows: pl.DataFrame, column: Column) -> pl.DataFrame:
    """Rows of all lists; with ``nested_key`` the newest of each key; minus retracted ones."""
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

"""Lookups of a stream: its rows widened by dimensions, and the rows that a changed dimension concerns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from operator import or_

import polars as pl

from lakehouse_assets.stream.declaration import Lookup, Stream
from lakehouse_assets.stream.source import DELETE, RETRACTIONS, ROW_KIND, Pending, read_changes, read_state
from storage_engine import Catalog, LookupTable, Table
from storage_engine.lookup import LookupStats

_SUFFIX, _FOUND = "\x1flookup", "\x1ffound"


@dataclass(slots=True)
class Widening:
    """The lookups of one stream, with caches that live from batch to batch."""

    stream: Stream
    catalog: Catalog
    _caches: dict[int, LookupTable] = field(default_factory=dict)

    def join(self, rows: pl.DataFrame, snapshots: Mapping[str, int]) -> pl.DataFrame:
        """The rows with the columns of every lookup, each dimension as of its snapshot, in the rows' order."""
        for number, lookup in enumerate(self.stream.lookups):
            rows = self._join(rows, number, lookup, snapshots[lookup.table])
        return rows

    def stats(self) -> dict[str, LookupStats]:
        """What the last join did, by dimension table and left column."""
        return {
            f"{lookup.table} by {lookup.left_on}": self._caches[number].stats
            for number, lookup in enumerate(self.stream.lookups)
            if number in self._caches
        }

    def _join(self, rows: pl.DataFrame, number: int, lookup: Lookup, snapshot: int) -> pl.DataFrame:
        if snapshot == 0:
            nulls = _without_match(self.catalog.table(lookup.table), lookup)
            return _held_back(rows, lookup, found=pl.lit(value=False)).with_columns(nulls)
        joined = self._cache(number, lookup).join(
            rows, left_on=[lookup.left_on], suffix=_SUFFIX, snapshot=snapshot, found=_FOUND
        )
        named = {name: f"{name}{_SUFFIX}" if name in rows.columns else name for name in lookup.taken}
        found = pl.col(_FOUND)
        if lookup.deleted is not None:
            found = found & ~pl.col(named[lookup.deleted]).fill_null(value=False)
        return _held_back(joined, lookup, found=found).select(
            *rows.columns,
            *(pl.when(found).then(pl.col(named[name])).alias(alias) for name, alias in lookup.columns.items()),
            *([] if lookup.found is None else [found.alias(lookup.found)]),
        )

    def _cache(self, number: int, lookup: Lookup) -> LookupTable:
        if number not in self._caches:
            self._caches[number] = LookupTable(
                self.catalog.table(lookup.table),
                on=[lookup.right_on],
                columns=list(lookup.taken),
                strategy=lookup.strategy,
                workers=lookup.workers,
            )
        return self._caches[number]


def _held_back(rows: pl.DataFrame, lookup: Lookup, *, found: pl.Expr) -> pl.DataFrame:
    """Rows that find nothing become deletes, if the lookup holds them back."""
    if not lookup.hold:
        return rows
    return rows.with_columns(pl.when(found).then(pl.col(ROW_KIND)).otherwise(pl.lit(DELETE)).alias(ROW_KIND))


def _without_match(table: Table, lookup: Lookup) -> list[pl.Expr]:
    dtypes = table.schema.polars_schema
    nulls = [pl.lit(None, dtypes[name]).alias(alias) for name, alias in lookup.columns.items()]
    return nulls if lookup.found is None else [*nulls, pl.lit(value=False).alias(lookup.found)]


def concerned(stream: Stream, tables: Mapping[str, Table], pending: Mapping[str, Pending]) -> pl.Expr | None:
    """Which rows of the source were, or are to be, joined with dimension rows that have changed; None: no row.

    A change counts if it concerns a column that the stream takes. Lookups are walked backwards, so that a change
    reaches the rows through the lookups in between (team → agent → order).
    """
    provided = {alias: lookup for lookup in stream.lookups for alias in lookup.provided}
    keys: dict[str, pl.Series] = {}
    for lookup in reversed([lookup for lookup in stream.lookups if lookup.reemit]):
        found = [changed_keys(tables[lookup.table], lookup, pending[lookup.table])]
        found += [
            _keys_of(tables[lookup.table], lookup, column, keys.pop(alias), pending[lookup.table].until)
            for column, alias in lookup.columns.items()
            if alias in keys
        ]
        changed = pl.concat(found).unique()
        if changed.len():
            known = keys.get(lookup.left_on)
            keys[lookup.left_on] = changed if known is None else pl.concat([known, changed]).unique()
    direct = [pl.col(column).is_in(values.implode()) for column, values in keys.items() if column not in provided]
    return reduce(or_, direct) if direct else None


def changed_keys(table: Table, lookup: Lookup, pending: Pending) -> pl.Series:
    """Values of ``right_on`` whose rows differ, in a column that the lookup takes, before and after a range."""
    if not pending:
        return pl.Series(lookup.right_on, [], dtype=table.schema.polars_schema[lookup.right_on])
    changes = read_changes(table, pending)
    key = list(table.schema.primary_keys)
    taken = list(dict.fromkeys([*key, lookup.right_on, *lookup.taken]))
    retracted = pl.col(ROW_KIND).is_in(RETRACTIONS)
    before = changes.unique(key, keep="first", maintain_order=True).filter(retracted).select(taken)
    after = changes.unique(key, keep="last", maintain_order=True).filter(~retracted).select(taken)
    return _differing(before, after, taken)[lookup.right_on].unique()


def _differing(before: pl.DataFrame, after: pl.DataFrame, columns: Sequence[str]) -> pl.DataFrame:
    gone = before.join(after, on=columns, how="anti", nulls_equal=True)
    came = after.join(before, on=columns, how="anti", nulls_equal=True)
    return pl.concat([gone, came])


def _keys_of(table: Table, lookup: Lookup, column: str, values: pl.Series, snapshot: int) -> pl.Series:
    """Keys of the dimension rows that refer to some values of a later lookup."""
    rows = read_state(table, snapshot, pl.col(column).is_in(values.implode()))
    return rows[lookup.right_on].unique()

"""Looks up dimensions for the rows of a stream, as of given snapshots, and finds rows that a changed dimension touches."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from lakehouse_assets.stream.declaration import Lookup, Stream
from storage_engine import Catalog, LookupTable


class Widener:
    """Keeps the dimensions of one stream from batch to batch."""

    def __init__(self, catalog: Catalog, stream: Stream) -> None:
        self._catalog = catalog
        self._stream = stream
        self._tables = [self._open(lookup) for lookup in stream.lookups]

    def _open(self, lookup: Lookup) -> LookupTable:
        marker = [] if lookup.deleted is None else [lookup.deleted]
        columns = list(dict.fromkeys([*lookup.take.values(), *marker]))
        return LookupTable(
            self._catalog.table(lookup.table), on=[lookup.key], columns=columns, strategy=lookup.strategy
        )

    def widen(self, rows: pl.DataFrame, snapshots: Mapping[str, int]) -> pl.DataFrame:
        """The rows with the columns of all lookups, dimensions as of ``snapshots`` (a table that is not named: empty)."""
        for lookup, table in zip(self._stream.lookups, self._tables, strict=True):
            rows = self._looked_up(rows, lookup, table, snapshots.get(lookup.table))
        return rows

    def _looked_up(self, rows: pl.DataFrame, lookup: Lookup, table: LookupTable, snapshot: int | None) -> pl.DataFrame:
        schema = self._catalog.table(lookup.table).schema.polars_schema
        if snapshot is None:
            return rows.with_columns(pl.lit(None, schema[old]).alias(new) for new, old in lookup.take.items())
        joined = table.join(
            rows.select(pl.col(lookup.on).alias(_KEY)), left_on=[_KEY], snapshot=snapshot, suffix=_SUFFIX
        )
        present = pl.lit(value=True)
        if lookup.deleted is not None:
            present = pl.col(lookup.deleted).fill_null(value=False).not_()
        taken = joined.select(pl.when(present).then(pl.col(old)).alias(new) for new, old in lookup.take.items())
        return rows.with_columns(taken.get_columns())

    def stats(self) -> dict[str, float]:
        """Hit rate of each lookup in the last batch, by dimension table and column."""
        return {
            f"{lookup.table}.{lookup.on}": table.stats.hit_rate
            for lookup, table in zip(self._stream.lookups, self._tables, strict=True)
        }

    def touched(self, consumed: Mapping[str, int], upto: Mapping[str, int]) -> pl.DataFrame:
        """Primary keys of target rows that use a dimension row which changed in ``(consumed, upto]``."""
        target = self._catalog.table(self._stream.target)
        keys = list(target.schema.primary_keys)
        parts = [pl.DataFrame(schema={key: target.schema.polars_schema[key] for key in keys})]
        for lookup in self._stream.lookups:
            changed = self._changed_keys(lookup, consumed.get(lookup.table), upto.get(lookup.table))
            if changed is not None and changed.len():
                parts.append(target.scan().filter(pl.col(lookup.on).is_in(changed.implode())).select(keys).collect())
        return pl.concat(parts).unique()

    def _changed_keys(self, lookup: Lookup, consumed: int | None, upto: int | None) -> pl.Series | None:
        if upto is None or consumed == upto:
            return None
        table = self._catalog.table(lookup.table)
        rows = table.scan(snapshot=upto) if consumed is None else table.changes(consumed, upto)
        return rows.select(pl.col(lookup.key).unique()).collect().to_series()


_KEY, _SUFFIX = "_lookup_key", "_dimension"

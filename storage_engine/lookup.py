"""Lookup joins: a stream of rows widened by the current rows of a dimension table.

Three strategies, named as in Paimon's lookup join:

- ``full-cache``: the whole dimension is held in memory and kept fresh by its changelog
- ``partial-cache``: only the keys asked for are read and kept, misses too, up to a bound
- ``bucket-shuffle``: the stream is split by the dimension's buckets; each part reads its own bucket and nothing is kept
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import polars as pl

from storage_engine.errors import InvalidInput
from storage_engine.kernel.bucket import fixed_bucket
from storage_engine.options import ChangelogProducer
from storage_engine.read.changes import ROW_KIND
from storage_engine.table import Table

Strategy = Literal["auto", "full-cache", "partial-cache", "bucket-shuffle"]
STRATEGIES: tuple[Strategy, ...] = ("auto", "full-cache", "partial-cache", "bucket-shuffle")
FULL_CACHE_ROWS = 20_000_000
PARTIAL_CACHE_ROWS = 2_000_000
_FOUND = "_FOUND"


@dataclass(frozen=True, slots=True, kw_only=True)
class LookupStats:
    """What the last join of a lookup table did."""

    strategy: Strategy
    reason: str
    rows: int
    matched: int
    cached_rows: int
    cached_bytes: int
    snapshot: int | None

    @property
    def hit_rate(self) -> float:
        """Share of the stream's rows that found a dimension row (1.0 for an empty stream)."""
        return self.matched / self.rows if self.rows else 1.0


class LookupTable:
    """A dimension table that a stream is joined with, batch after batch."""

    def __init__(
        self,
        table: Table,
        *,
        on: Sequence[str],
        columns: Sequence[str] | None = None,
        strategy: Strategy = "auto",
    ) -> None:
        """``on``: the dimension's columns that are matched (its primary key or any others); ``columns``: those to add.

        Raises InvalidInput for an unknown strategy or column.
        """
        names = table.schema.column_names
        unknown = [name for name in (*on, *(columns or ())) if name not in names]
        if unknown:
            raise InvalidInput(f"table {table.name} has no column {unknown[0]!r}; columns: {', '.join(names)}")
        if strategy not in STRATEGIES:
            raise InvalidInput(f"strategy {strategy!r} is not known; expected one of {', '.join(STRATEGIES)}")
        self._table = table
        self._on = list(on)
        wanted = names if columns is None else columns
        self._columns = list(dict.fromkeys([*self._on, *wanted]))
        self.strategy, self._reason = self._choose(strategy)
        self._snapshot: int | None = None
        self._cache = pl.DataFrame(schema={name: table.schema.polars_schema[name] for name in self._columns})
        self._asked = self._cache.select(self._on)
        self.stats = LookupStats(
            strategy=self.strategy,
            reason=self._reason,
            rows=0,
            matched=0,
            cached_rows=0,
            cached_bytes=0,
            snapshot=None,
        )

    def join(
        self,
        stream: pl.DataFrame,
        *,
        left_on: Sequence[str],
        how: Literal["left", "inner"] = "left",
        suffix: str = "_right",
        snapshot: int | None = None,
        found: str | None = None,
    ) -> pl.DataFrame:
        """The stream with the dimension's columns as of ``snapshot`` (default: the latest), in the stream's order.

        ``found`` names an added Boolean column: whether there was a dimension row.
        """
        latest = self._table.latest_snapshot()
        target = snapshot if snapshot is not None else None if latest is None else latest.id
        keys = stream.select(
            pl.col(left).cast(self._table.schema.polars_schema[right]).alias(right)
            for left, right in zip(left_on, self._on, strict=True)
        ).unique()
        dimension = self._rows_for(keys.drop_nulls(), target).with_columns(pl.lit(value=True).alias(_FOUND))
        joined = stream.join(
            dimension,
            left_on=list(left_on),
            right_on=self._on,
            how="left",
            suffix=suffix,
            maintain_order="left",
            coalesce=True,
        )
        self._note(stream, joined)
        if how == "inner":
            joined = joined.filter(pl.col(_FOUND))
        if found is None:
            return joined.drop(_FOUND)
        return joined.with_columns(pl.col(_FOUND).fill_null(value=False)).rename({_FOUND: found})

    def _rows_for(self, keys: pl.DataFrame, target: int | None) -> pl.DataFrame:
        if target is None:
            return self._cache.clear()
        match self.strategy:
            case "bucket-shuffle":
                return self._from_buckets(keys, target)
            case "partial-cache":
                return self._from_partial(keys, target)
            case _:
                self._refresh_full(target)
                return self._cache

    def _choose(self, strategy: Strategy) -> tuple[Strategy, str]:
        if strategy != "auto":
            return strategy, "chosen by the caller"
        latest = self._table.latest_snapshot()
        rows = 0 if latest is None else latest.total_record_count
        if rows <= FULL_CACHE_ROWS:
            return "full-cache", f"{rows} physical rows fit the full cache"
        if set(self._on) >= set(self._table.schema.bucket_keys) and self._table.schema.table_options.bucket > 0:
            return (
                "bucket-shuffle",
                f"{rows} physical rows are too many for one cache, and the key gives the bucket",
            )
        return (
            "partial-cache",
            f"{rows} physical rows are too many for one cache, and the key does not give the bucket",
        )

    def _refresh_full(self, target: int) -> None:
        if target == self._snapshot:
            return
        if self._snapshot is None or target < self._snapshot or not self._has_changelog():
            self._cache = self._table.scan(snapshot=target).select(self._columns).collect()
        else:
            changes = self._table.changes(self._snapshot, target).collect()
            self._cache = self._applied(self._cache, changes)
        self._snapshot = target

    def _applied(self, cache: pl.DataFrame, changes: pl.DataFrame) -> pl.DataFrame:
        """A cache after a changelog: the last change of each primary key counts."""
        keys = list(self._table.schema.primary_keys)
        if not set(keys) <= set(self._columns):
            return self._table.scan().select(self._columns).collect()
        last = changes.unique(keys, keep="last", maintain_order=True)
        fresh = last.filter(pl.col(ROW_KIND).is_in(["+I", "+U"])).select(self._columns)
        return pl.concat([cache.join(last, on=keys, how="anti"), fresh])

    def _from_partial(self, keys: pl.DataFrame, target: int) -> pl.DataFrame:
        if target != self._snapshot:
            self._drop_changed(target)
        missing = keys.join(self._asked, on=self._on, how="anti", nulls_equal=True)
        if missing.height:
            if self._asked.height + missing.height > PARTIAL_CACHE_ROWS:
                self._cache, self._asked, missing = self._cache.clear(), self._asked.clear(), keys
            self._cache = pl.concat([self._cache, self._read(missing, target)])
            self._asked = pl.concat([self._asked, missing])
        return self._cache

    def _drop_changed(self, target: int) -> None:
        known, self._snapshot = self._snapshot, target
        if known is None or target < known or not self._has_changelog():
            self._cache, self._asked = self._cache.clear(), self._asked.clear()
            return
        changed = self._table.changes(known, target).select(self._on).unique().collect()
        self._cache = self._cache.join(changed, on=self._on, how="anti", nulls_equal=True)
        self._asked = self._asked.join(changed, on=self._on, how="anti", nulls_equal=True)

    def _from_buckets(self, keys: pl.DataFrame, target: int) -> pl.DataFrame:
        self._snapshot = target
        schema = self._table.schema
        if not set(self._on) >= set(schema.bucket_keys) or schema.table_options.bucket < 1:
            raise InvalidInput(
                f"table {self._table.name}: bucket-shuffle needs a fixed number of buckets and a join on the bucket key"
                f" {list(schema.bucket_keys)}; use full-cache or partial-cache"
            )
        if keys.is_empty():
            return self._cache
        routed = keys.with_columns(fixed_bucket(keys, schema).alias("__bucket"))
        parts = [
            self._table.scan(snapshot=target, buckets=[int(str(bucket[0]))])
            .select(self._columns)
            .collect()
            .join(part, on=self._on, how="semi")
            for bucket, part in routed.partition_by("__bucket", as_dict=True).items()
        ]
        return pl.concat(parts)

    def _read(self, keys: pl.DataFrame, target: int) -> pl.DataFrame:
        schema = self._table.schema
        buckets = None
        if set(self._on) >= set(schema.bucket_keys) and schema.table_options.bucket > 0:
            buckets = set(fixed_bucket(keys, schema))
        lazy = self._table.scan(snapshot=target, buckets=buckets)
        for name in self._on:
            lazy = lazy.filter(pl.col(name).is_in(keys[name].implode()))
        return lazy.select(self._columns).collect().join(keys, on=self._on, how="semi")

    def _has_changelog(self) -> bool:
        return self._table.schema.table_options.changelog_producer is not ChangelogProducer.NONE

    def _note(self, stream: pl.DataFrame, joined: pl.DataFrame) -> None:
        self.stats = LookupStats(
            strategy=self.strategy,
            reason=self._reason,
            rows=stream.height,
            matched=int(joined[_FOUND].is_not_null().sum()),
            cached_rows=self._cache.height,
            cached_bytes=int(self._cache.estimated_size()),
            snapshot=self._snapshot,
        )


def lookup_join(
    stream: pl.DataFrame | pl.LazyFrame,
    table: Table,
    *,
    left_on: str | Sequence[str],
    right_on: str | Sequence[str] | None = None,
    how: Literal["left", "inner"] = "left",
    strategy: Strategy = "auto",
    columns: Sequence[str] | None = None,
    suffix: str = "_right",
    snapshot: int | None = None,
) -> pl.DataFrame:
    """Join a batch of a stream with a dimension table, once. For batch after batch keep a ``LookupTable``.

    ``right_on`` defaults to the dimension's primary key. Raises InvalidInput for an unknown column or strategy.
    """
    frame = stream.collect() if isinstance(stream, pl.LazyFrame) else stream
    left = [left_on] if isinstance(left_on, str) else list(left_on)
    right = list(table.schema.primary_keys) if right_on is None else right_on
    on = [right] if isinstance(right, str) else list(right)
    dimension = LookupTable(table, on=on, columns=columns, strategy=strategy)
    return dimension.join(frame, left_on=left, how=how, suffix=suffix, snapshot=snapshot)

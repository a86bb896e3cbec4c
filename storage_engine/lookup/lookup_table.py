"""``LookupTable``: a dimension that a stream is joined with, batch after batch; ``lookup_join``: one join.

Semantics are those of Flink's ``JOIN … FOR SYSTEM_TIME AS OF proc_time``: each row sees the dimension as it is when the
row is processed, here at one snapshot a batch. A row whose key matches several dimension rows (a secondary key) comes out
once for each; a null key matches nothing.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, Protocol

import polars as pl

from storage_engine.errors import InvalidInput
from storage_engine.lookup.bucket_shuffle import BucketShuffle, Share
from storage_engine.lookup.full_cache import FullCache
from storage_engine.lookup.partial_cache import PartialCache
from storage_engine.lookup.shuffle_workers import ShuffleWorkers
from storage_engine.lookup.strategy import STRATEGIES, CacheBounds, LookupStats, Strategy, choose
from storage_engine.table import Table

_FOUND = "\x1fFOUND"
_PLACE = "\x1fPLACE"


class Cache(Protocol):
    """What a strategy holds of a dimension."""

    @property
    def rows(self) -> int:
        """Rows held."""

    @property
    def nbytes(self) -> int:
        """Bytes held."""

    @property
    def on_disk(self) -> bool:
        """Whether the rows lie in a local file."""

    def find(self, keys: pl.DataFrame, snapshot: int) -> tuple[pl.DataFrame, int]:
        """The rows of distinct keys without nulls at a snapshot; and how many of the keys needed no read."""


class LookupTable:
    """A dimension table that a stream is joined with, batch after batch. Not safe between threads."""

    def __init__(
        self,
        table: Table,
        *,
        on: Sequence[str],
        columns: Sequence[str] | None = None,
        strategy: Strategy = "auto",
        bounds: CacheBounds | None = None,
        share: Share | None = None,
        workers: int = 1,
    ) -> None:
        """``on``: the dimension's columns that are matched (its primary key or any others); ``columns``: those to add.

        ``bounds``: of the cache, default: what the table's ``lookup.*`` options say. A bucket shuffle is over ``workers``
        processes that this object starts, or this process is itself a worker, with its ``share``. Raises InvalidInput for an
        unknown strategy or column, and where a bucket shuffle cannot be.
        """
        names = table.schema.column_names
        unknown = [name for name in (*on, *(columns or ())) if name not in names]
        if unknown:
            raise InvalidInput(f"table {table.name} has no column {unknown[0]!r}; columns: {', '.join(names)}")
        if strategy not in STRATEGIES:
            raise InvalidInput(f"strategy {strategy!r} is not known; expected one of {', '.join(STRATEGIES)}")
        if share is not None and strategy != "bucket-shuffle":
            raise InvalidInput(f"a share of the buckets needs strategy 'bucket-shuffle', not {strategy!r}")
        if workers < 1 or (workers > 1 and (share is not None or strategy != "bucket-shuffle")):
            raise InvalidInput(
                f"{workers} workers: they share the buckets of strategy 'bucket-shuffle', and have no share"
            )
        self.table = table
        self._on = list(on)
        self._columns = list(dict.fromkeys([*self._on, *(names if columns is None else columns)]))
        bounds = CacheBounds.of(table.schema) if bounds is None else bounds
        self.strategy, reason = strategy, "chosen by the caller"
        if strategy == "auto":
            latest = table.latest_snapshot()
            size = 0 if latest is None else table.file_bytes(latest.id)
            self.strategy, reason = choose(table.schema, self._on, file_bytes=size, bounds=bounds)
        self._cache = _cache(
            self.strategy, table, on=self._on, columns=self._columns, bounds=bounds, share=share, workers=workers
        )
        self.stats = LookupStats(strategy=self.strategy, reason=reason, workers=workers)

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
        keys = self._keys(stream, left_on)
        rows = self.rows(keys, snapshot)
        joined = _one_each(stream, keys, rows, suffix)
        if joined is None:
            joined = stream.join(
                rows.with_columns(pl.lit(value=True).alias(_FOUND)),
                left_on=list(left_on),
                right_on=self._on,
                how="left",
                suffix=suffix,
                maintain_order="left",
                coalesce=True,
            )
        joined = joined.with_columns(pl.col(_FOUND).fill_null(value=False))
        without = joined.height - int(joined[_FOUND].sum())
        self.stats = replace(self.stats, rows=stream.height, matched=stream.height - without)
        if how == "inner":
            joined = joined.filter(pl.col(_FOUND))
        if found is None:
            return joined.drop(_FOUND)
        return joined.rename({_FOUND: found})

    def rows(self, keys: pl.DataFrame, snapshot: int | None = None) -> pl.DataFrame:
        """All dimension rows of some keys (a frame of the columns ``on``) as of a snapshot (default: the latest)."""
        latest = self.table.store.snapshots.latest_id()
        target = latest if snapshot is None else snapshot
        wanted = keys.drop_nulls().unique()
        if target is None:
            schema = self.table.schema.polars_schema
            return pl.DataFrame(schema={name: schema[name] for name in self._columns})
        started = time.perf_counter()
        rows, cached = self._cache.find(wanted, target)
        self.stats = replace(
            self.stats,
            cached_rows=self._cache.rows,
            cached_bytes=self._cache.nbytes,
            snapshot=target,
            keys_asked=wanted.height,
            keys_cached=cached,
            refresh_ms=round((time.perf_counter() - started) * 1000),
            snapshots_behind=max(0, (latest or target) - target),
            on_disk=self._cache.on_disk,
        )
        return rows

    def _keys(self, stream: pl.DataFrame, left_on: Sequence[str]) -> pl.DataFrame:
        dtypes = self.table.schema.polars_schema
        return stream.select(
            pl.col(left).cast(dtypes[right]).alias(right) for left, right in zip(left_on, self._on, strict=True)
        )


def _one_each(stream: pl.DataFrame, keys: pl.DataFrame, rows: pl.DataFrame, suffix: str) -> pl.DataFrame | None:
    """The stream beside the row of each key, and whether there is one; None if several rows have one key.

    Only keys are joined: the stream's own columns, which may be many, stay as they are.
    """
    places = keys.join(
        rows.select(keys.columns).with_row_index(_PLACE), on=keys.columns, how="left", maintain_order="left"
    )
    if places.height > stream.height:
        return None
    place = places.get_column(_PLACE)
    found = rows.select(pl.all().exclude(keys.columns).gather(place))
    named = found.rename({name: f"{name}{suffix}" for name in found.columns if name in stream.columns})
    return stream.hstack([*named.get_columns(), place.is_not_null().alias(_FOUND)])


def _cache(
    strategy: Strategy,
    table: Table,
    *,
    on: Sequence[str],
    columns: Sequence[str],
    bounds: CacheBounds,
    share: Share | None,
    workers: int,
) -> Cache:
    match strategy:
        case "bucket-shuffle" if workers > 1:
            return ShuffleWorkers(table, on=on, columns=columns, bounds=bounds, workers=workers)
        case "bucket-shuffle":
            return BucketShuffle(table, on=on, columns=columns, bounds=bounds, share=share)
        case "partial-cache":
            return PartialCache(table, on=on, columns=columns, bounds=bounds)
        case _:
            return FullCache(table, on=on, columns=columns, bounds=bounds)


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
    bounds: CacheBounds | None = None,
) -> pl.DataFrame:
    """Join a batch of a stream with a dimension table, once. For batch after batch keep a ``LookupTable``.

    ``right_on`` defaults to the dimension's primary key. Raises InvalidInput for an unknown column or strategy.
    """
    frame = stream.collect() if isinstance(stream, pl.LazyFrame) else stream
    left = [left_on] if isinstance(left_on, str) else list(left_on)
    right = list(table.schema.primary_keys) if right_on is None else right_on
    on = [right] if isinstance(right, str) else list(right)
    dimension = LookupTable(table, on=on, columns=columns, strategy=strategy, bounds=bounds)
    return dimension.join(frame, left_on=left, how=how, suffix=suffix, snapshot=snapshot)

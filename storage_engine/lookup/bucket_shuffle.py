"""``bucket-shuffle``: the stream is split by the dimension's buckets, over workers or one after the other.

Row and dimension row of a key have the same bucket, so a worker that is given the rows of its buckets needs no others of
the dimension. A single worker goes through the buckets in turn and holds one at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from storage_engine.errors import InvalidInput
from storage_engine.kernel.bucket import fixed_bucket
from storage_engine.lookup.full_cache import FullCache
from storage_engine.lookup.strategy import CacheBounds, gives_bucket
from storage_engine.table import Table


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """Worker ``worker`` of ``workers``, counted from 0: its buckets are those that leave it as a remainder."""

    worker: int
    workers: int

    def __post_init__(self) -> None:
        """Raises InvalidInput for a worker that there is not."""
        if not 0 <= self.worker < self.workers:
            raise InvalidInput(f"worker {self.worker} of {self.workers}: expected 0 to {self.workers - 1}")

    def buckets(self, total: int) -> list[int]:
        """The buckets of this worker."""
        return list(range(self.worker, total, self.workers))


def bucket_share(
    stream: pl.DataFrame, table: Table, *, left_on: Sequence[str], on: Sequence[str], share: Share
) -> pl.DataFrame:
    """The rows of a stream that a worker looks up: every row goes to exactly one worker, rows without a key to the first.

    Raises InvalidInput if the key does not give the bucket.
    """
    check_shuffle(table, on)
    schema = table.schema
    keys = stream.select(
        pl.col(left).cast(schema.polars_schema[right]).alias(right) for left, right in zip(left_on, on, strict=True)
    )
    known = pl.all_horizontal(pl.all().is_not_null())
    complete = keys.select(known.alias("known"))["known"]
    numbered = keys.with_row_index("\x1fat").filter(complete)
    bucket = fixed_bucket(numbered.select(on), schema)
    workers = pl.DataFrame({"\x1fat": numbered["\x1fat"], "worker": bucket % share.workers})
    rows = stream.with_row_index("\x1fat").join(workers, on="\x1fat", how="left", maintain_order="left")
    return rows.filter(pl.col("worker").fill_null(0) == share.worker).drop("\x1fat", "worker")


def check_shuffle(table: Table, on: Sequence[str]) -> None:
    """Raise InvalidInput unless a join on some columns tells the bucket."""
    if not gives_bucket(table.schema, on):
        raise InvalidInput(
            f"table {table.name}: bucket-shuffle needs a fixed number of buckets and a join on the bucket key"
            f" {list(table.schema.bucket_keys)}; use full-cache or partial-cache"
        )


class BucketShuffle:
    """Rows of the keys asked for, bucket by bucket, or from the cached buckets of a worker's share."""

    def __init__(
        self,
        table: Table,
        *,
        on: Sequence[str],
        columns: Sequence[str],
        bounds: CacheBounds,
        share: Share | None = None,
    ) -> None:
        """Raises InvalidInput if the key does not give the bucket."""
        check_shuffle(table, on)
        self._table = table
        self._columns = list(columns)
        self._own: FullCache | None = None
        if share is not None:
            buckets = share.buckets(table.schema.table_options.bucket)
            self._own = FullCache(table, on=on, columns=columns, bounds=bounds, buckets=buckets)

    @property
    def rows(self) -> int:
        """Number of rows held."""
        return 0 if self._own is None else self._own.rows

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return 0 if self._own is None else self._own.nbytes

    @property
    def on_disk(self) -> bool:
        """Whether they lie in a local file."""
        return self._own is not None and self._own.on_disk

    def find(self, keys: pl.DataFrame, snapshot: int) -> tuple[pl.DataFrame, int]:
        """The rows of some keys at a snapshot, all columns; and how many of the keys needed no read."""
        if self._own is not None:
            return self._own.find(keys, snapshot)
        empty = pl.DataFrame(schema={name: self._table.schema.polars_schema[name] for name in self._columns})
        if keys.is_empty():
            return empty, 0
        routed = keys.with_columns(fixed_bucket(keys, self._table.schema).alias("\x1fbucket"))
        parts = [
            self._table.lookup(part.drop("\x1fbucket"), columns=self._columns, snapshot=snapshot)
            for part in routed.partition_by("\x1fbucket")
        ]
        return pl.concat([empty, *parts]), 0

"""``full-cache``: the whole dimension (or some of its buckets) as one indexed frame, and the rows changed since.

A refresh masks the old rows of changed keys and holds the new ones in a small frame on top; now and then both become
one again. What does not fit into memory lies in a local file that is mapped.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import numpy.typing as npt
import polars as pl

from storage_engine.kernel.bucket import fixed_bucket
from storage_engine.lookup.changed_rows import ChangedRows, as_it_is, can_follow, changed_rows
from storage_engine.lookup.indexed_rows import IndexedRows
from storage_engine.lookup.strategy import IN_MEMORY, CacheBounds
from storage_engine.spec.snapshot import Snapshot
from storage_engine.store.local_rows import LocalRows
from storage_engine.table import Table

_TOP_SHARE = 4
_TOP_ROWS_MIN = 50_000


class FullCache:
    """All rows of a dimension at a snapshot, found by ``on``."""

    def __init__(
        self,
        table: Table,
        *,
        on: Sequence[str],
        columns: Sequence[str],
        bounds: CacheBounds,
        buckets: Collection[int] | None = None,
    ) -> None:
        """``columns``: those that are wanted, ``on`` among them; ``buckets``: hold these alone."""
        self._known: Snapshot | None = None
        self._table = table
        self._on, self._wanted = list(on), list(columns)
        self._columns = list(dict.fromkeys([*columns, *table.schema.primary_keys]))
        self._bounds = bounds
        self._buckets = buckets
        self._files: LocalRows | None = None
        self._base: IndexedRows
        self._top: IndexedRows
        self._by_key: IndexedRows | None
        self._alive: npt.NDArray[np.bool_]
        self._empty = pl.DataFrame(schema={name: table.schema.polars_schema[name] for name in self._columns})
        self._hold(self._empty)

    @property
    def rows(self) -> int:
        """Number of rows held."""
        return int(self._alive.sum()) + self._top.frame.height

    @property
    def nbytes(self) -> int:
        """Bytes held, in memory and on disk."""
        frames = (self._base.frame.estimated_size() + self._top.frame.estimated_size()) if self._columns else 0
        by_key = 0 if self._by_key is None else self._by_key.nbytes
        return int(frames + self._base.nbytes + self._top.nbytes + by_key + self._alive.nbytes)

    @property
    def on_disk(self) -> bool:
        """Whether the rows lie in a local file."""
        return self._files is not None

    def find(self, keys: pl.DataFrame, snapshot: int) -> tuple[pl.DataFrame, int]:
        """The rows of some keys at a snapshot, all columns wanted; and how many of the keys needed no read."""
        known = self._known
        self.refresh(snapshot)
        low = self._base.positions(keys)
        rows = pl.concat([self._base.frame[low[self._alive[low]]], self._top.frame[self._top.positions(keys)]])
        return rows.select(self._wanted), 0 if known is None else keys.height

    def refresh(self, snapshot: int) -> None:
        """Become the dimension's state at a snapshot."""
        known, target = self._known, as_it_is(self._table, snapshot)
        if known == target:
            return
        changed = None
        if known is not None and can_follow(self._table, known, target):
            changed = changed_rows(self._table, known.id, snapshot, self._columns)
        if changed is None:
            self._load(snapshot)
        else:
            self._apply(changed)
        self._known = target

    def _load(self, snapshot: int) -> None:
        lazy = self._table.scan(snapshot=snapshot, fallback=False, buckets=self._buckets).select(self._columns)
        if self._table.file_bytes(snapshot, buckets=self._buckets) * IN_MEMORY > self._bounds.memory_bytes:
            self._hold_on_disk(lazy)
        else:
            self._files = None
            self._hold(lazy.collect().rechunk())

    def _apply(self, changed: ChangedRows) -> None:
        rows = self._own(changed.rows)
        if changed.keys.is_empty():
            return
        keys = changed.keys.columns
        if self._by_key is None:
            self._by_key = self._base if keys == self._on else IndexedRows(self._base.frame, keys)
        self._alive[self._by_key.positions(changed.keys)] = False
        top = pl.concat([self._top.frame.join(changed.keys, on=keys, how="anti"), rows])
        self._top = IndexedRows(top, self._on)
        if top.height > max(_TOP_ROWS_MIN, self._base.frame.height // _TOP_SHARE):
            whole = pl.concat([self._base.frame.lazy().filter(pl.Series(self._alive)), top.lazy()])
            if self._files is None:
                self._hold(whole.collect().rechunk())
            else:
                self._hold_on_disk(whole)

    def _own(self, rows: pl.DataFrame) -> pl.DataFrame:
        if self._buckets is None or rows.is_empty():
            return rows
        return rows.filter(fixed_bucket(rows, self._table.schema).is_in(list(self._buckets)))

    def _hold_on_disk(self, rows: pl.LazyFrame) -> None:
        files = LocalRows(self._bounds.directory)
        self._hold(files.keep(rows))
        self._files = files  # the file before is removed once nothing refers to it

    def _hold(self, frame: pl.DataFrame) -> None:
        self._base, self._top = IndexedRows(frame, self._on), IndexedRows(self._empty, self._on)
        self._by_key = None
        self._alive = np.ones(frame.height, np.bool_)

"""``partial-cache``: the keys that were asked for, with their rows or without any, in two generations.

A key that is asked for again moves to the young generation. When that is half the bound, it becomes the old one and what
was old is forgotten: so what stays is what was used last.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import polars as pl

from storage_engine.lookup.changed_rows import as_it_is, can_follow, changed_keys
from storage_engine.lookup.indexed_rows import IndexedRows
from storage_engine.lookup.strategy import CacheBounds
from storage_engine.spec.snapshot import Snapshot
from storage_engine.table import Table

_PARTS_MAX = 8


@dataclass(slots=True)
class _Part:
    """Keys that were asked for, and the rows that they have."""

    asked: IndexedRows
    rows: IndexedRows

    @property
    def nbytes(self) -> int:
        frames = self.asked.frame.estimated_size() + self.rows.frame.estimated_size()
        return int(frames) + self.asked.nbytes + self.rows.nbytes

    def without(self, keys: pl.DataFrame, on: Sequence[str]) -> _Part:
        """What is left when some keys are forgotten."""
        if not self.asked.positions(keys).size:
            return self
        asked, rows = (each.frame.join(keys, on=on, how="anti") for each in (self.asked, self.rows))
        return part_of(asked, rows, on)


@dataclass(slots=True)
class _Generation:
    """Parts whose keys differ; small ones are merged, so that there are few."""

    on: list[str]
    parts: list[_Part] = field(default_factory=list)
    used_s: float = 0.0

    @property
    def keys(self) -> int:
        return sum(part.asked.frame.height for part in self.parts)

    @property
    def nbytes(self) -> int:
        return sum(part.nbytes for part in self.parts)

    def find(self, keys: pl.DataFrame) -> tuple[pl.DataFrame, list[pl.DataFrame]]:
        """Which of the keys it knows, and their rows."""
        known = [keys.clear(), *(part.asked.frame[part.asked.positions(keys)] for part in self.parts)]
        rows = [part.rows.frame[part.rows.positions(keys)] for part in self.parts]
        return pl.concat(known), rows

    def add(self, asked: pl.DataFrame, rows: pl.DataFrame) -> None:
        if asked.is_empty():
            return
        self.parts.append(part_of(asked, rows, self.on))
        if len(self.parts) > _PARTS_MAX:
            self.parts.sort(key=lambda part: part.asked.frame.height)
            small, self.parts = self.parts[: _PARTS_MAX // 2], self.parts[_PARTS_MAX // 2 :]
            asked = pl.concat([part.asked.frame for part in small])
            self.parts.append(part_of(asked, pl.concat([part.rows.frame for part in small]), self.on))

    def forget(self, keys: pl.DataFrame) -> None:
        self.parts = [part.without(keys, self.on) for part in self.parts]


class PartialCache:
    """Rows of the keys that a stream has asked for, at a snapshot."""

    def __init__(
        self,
        table: Table,
        *,
        on: Sequence[str],
        columns: Sequence[str],
        bounds: CacheBounds,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """``columns``: those that are wanted, ``on`` among them."""
        self._known: Snapshot | None = None
        self._table = table
        self._on, self._columns = list(on), list(columns)
        self._bounds = bounds
        self._clock_s = clock_s
        self._young, self._old = _Generation(self._on), _Generation(self._on)

    @property
    def rows(self) -> int:
        """Number of rows held."""
        return sum(part.rows.frame.height for part in (*self._young.parts, *self._old.parts))

    @property
    def on_disk(self) -> bool:
        """Never: it is bounded by memory."""
        return False

    @property
    def keys(self) -> int:
        """Number of keys held, those without a row too."""
        return self._young.keys + self._old.keys

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return self._young.nbytes + self._old.nbytes

    def find(self, keys: pl.DataFrame, snapshot: int) -> tuple[pl.DataFrame, int]:
        """The rows of some keys at a snapshot, all columns; and how many of the keys needed no read."""
        self.refresh(snapshot)
        self._forget_unused()
        young, rows = self._young.find(keys)
        left = keys.join(young, on=self._on, how="anti")
        old, promoted = self._old.find(left)
        missing = left.join(old, on=self._on, how="anti")
        if not old.is_empty():
            self._old.forget(old)
            self._young.add(old, pl.concat(promoted))
        read = [] if missing.is_empty() else [self._table.lookup(missing, columns=self._columns, snapshot=snapshot)]
        if read:
            self._young.add(missing, read[0])
        self._young.used_s = self._clock_s()
        self._bound()
        found = [*rows, *promoted, *read]
        empty = pl.DataFrame(schema={name: self._table.schema.polars_schema[name] for name in self._columns})
        return pl.concat([empty, *found]), keys.height - missing.height

    def refresh(self, snapshot: int) -> None:
        """Forget what has changed up to a snapshot; all of it where nothing tells what has."""
        known, self._known = self._known, as_it_is(self._table, snapshot)
        if known is None or known == self._known:
            return
        follows = can_follow(self._table, known, self._known)
        changed = changed_keys(self._table, known.id, snapshot, self._on) if follows else None
        if changed is None:
            self._young, self._old = _Generation(self._on), _Generation(self._on)
            return
        for generation in (self._young, self._old):
            generation.forget(changed.drop_nulls())

    def _forget_unused(self) -> None:
        limit = self._clock_s() - self._bounds.retention_ms / 1000
        if self._old.parts and self._old.used_s < limit:
            self._old = _Generation(self._on)
        if self._young.parts and self._young.used_s < limit:
            self._young = _Generation(self._on)

    def _bound(self) -> None:
        bounds = self._bounds
        if self._young.keys > bounds.rows // 2 or self._young.nbytes > bounds.memory_bytes // 2:
            self._old, self._young = self._young, _Generation(self._on)
        if self.keys > bounds.rows or self.nbytes > bounds.memory_bytes:
            self._old = _Generation(self._on)


def part_of(asked: pl.DataFrame, rows: pl.DataFrame, on: Sequence[str]) -> _Part:
    """Keys and rows, indexed."""
    return _Part(asked=IndexedRows(asked, on), rows=IndexedRows(rows, on))

"""Rows that are found by the hash of a key: one sorted array beside a frame that never changes.

The frame may be mapped from a file: a search touches the pages of the rows that it finds, and no others.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import polars as pl

Positions = npt.NDArray[np.int64]


class IndexedRows:
    """A frame with an index over some of its columns. Rows with equal keys are all found."""

    def __init__(self, frame: pl.DataFrame, on: Sequence[str]) -> None:
        self.frame = frame
        self._on = list(on)
        hashes = _hashes(frame, self._on)
        self._order = np.argsort(hashes, kind="stable").astype(np.uint32 if frame.height < 2**32 else np.int64)
        self._hashes = hashes[self._order]

    @property
    def nbytes(self) -> int:
        """Size of the index; the frame's own is not in it."""
        return int(self._hashes.nbytes + self._order.nbytes)

    def positions(self, keys: pl.DataFrame) -> Positions:
        """Positions of all rows whose key is among ``keys`` (frame of the key columns, distinct, without nulls)."""
        if keys.is_empty() or self.frame.is_empty():
            return np.empty(0, np.int64)
        wanted = np.sort(_hashes(keys, self._on))
        wanted = wanted[np.concatenate(([True], wanted[1:] != wanted[:-1]))]  # np.unique hashes, which is slower
        low = np.searchsorted(self._hashes, wanted, "left")
        count = np.searchsorted(self._hashes, wanted, "right") - low
        offsets = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
        candidates = self._order[np.repeat(low, count) + offsets].astype(np.int64)
        found = self.frame.select(self._on)[candidates].with_columns(pl.Series("\x1fat", candidates))
        at: Positions = found.join(keys, on=self._on, how="semi")["\x1fat"].to_numpy()
        return at


def _hashes(frame: pl.DataFrame, on: Sequence[str]) -> npt.NDArray[np.uint64]:
    hashes: npt.NDArray[np.uint64] = frame.select(on).hash_rows(seed=7).to_numpy()
    return hashes

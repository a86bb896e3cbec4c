"""Fresh rows and the stored record of each of their keys, found by one sort: who wins, and what was there before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from storage_engine.kernel.changelog import changes_between
from storage_engine.kernel.key_sort import newest, sort_keys
from storage_engine.kernel.merge import within_key
from storage_engine.kernel.merge_plan import MergePlan
from storage_engine.options import MergeEngine

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Matched:
    """``rows``: all fresh rows, then the stored ones. By key, in key order, row numbers in it.

    ``winners``: the merged row; ``before``: the stored one, -1 if there is none; ``is_touched``: whether a fresh row has the key.
    """

    rows: pl.DataFrame
    fresh: int
    winners: Rows
    before: Rows
    is_touched: npt.NDArray[np.bool_]

    @property
    def is_fresh_alone(self) -> bool:
        """Whether the fresh rows win as they stand: each key once, in order."""
        return len(self.winners) == self.fresh and bool((self.winners == np.arange(self.fresh)).all())

    def merged(self) -> pl.DataFrame:
        """The merged row of each key."""
        return self.rows.head(self.fresh) if self.is_fresh_alone else self.rows[self.winners]

    def changes(self, plan: MergePlan) -> pl.DataFrame:
        """What became of the keys that have a fresh row, as ``lookup_changelog`` tells it."""
        return changes_between(self.rows, self.before[self.is_touched], self.winners[self.is_touched], plan)


def match(fresh: pl.DataFrame, stored: pl.DataFrame, plan: MergePlan, *, group: Sequence[str] = ()) -> Matched | None:
    """Match key-value frames of the same columns; None where rows do not merge by one of them winning, or have no packed keys.

    REQUIRES: ``stored`` has each (group, key) once at most.
    """
    if plan.engine is not MergeEngine.DEDUPLICATE or plan.ignore_delete or fresh.is_empty():
        return None
    rows = pl.concat([fresh, stored], rechunk=True) if stored.height else fresh.rechunk()
    keys = sort_keys(rows, [*group, *plan.keys])
    winners = None if keys is None else newest(rows, keys, within_key(plan))
    if keys is None or winners is None:
        return None
    starts = np.flatnonzero(keys.first)
    last = np.maximum.reduceat(keys.rows, starts)
    return Matched(
        rows=rows,
        fresh=fresh.height,
        winners=winners,
        before=np.where(last >= fresh.height, last, -1),
        is_touched=np.minimum.reduceat(keys.rows, starts) < fresh.height,
    )

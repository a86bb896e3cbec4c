"""What one stream reads of its source where that is more than a batch may read: a portion a batch.

The portions follow from the files of the snapshots, so they are the same at any time; how many were consumed stands in the
target. Dimensions stay as they are until the last portion.

What differs after an overwrite tells of rows that went away and of rows that came, and the transformation may have given both to
one key of the target. So its portions are walked twice, first for what goes away, then for what comes, as a batch of all of them
would have it; once is enough where the target adds up. So are portions of changes, where the states of keys are read and the
key of the target does not have that of the source.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

import polars as pl

from lakehouse_assets.stream.declaration import Stream
from lakehouse_assets.stream.offsets import Consumed
from lakehouse_assets.stream.place import Place
from lakehouse_assets.stream.plan import Plan
from lakehouse_assets.stream.source import INSERT, RETRACTIONS, ROW_KIND, UPDATE_AFTER, Pending, portions_of
from storage_engine import Table
from storage_engine.options import MergeEngine
from storage_engine.read.portions import Portion

_WALKS: Final = (RETRACTIONS, (INSERT, UPDATE_AFTER))


@dataclass(slots=True)
class Portioning:
    """Deals out the driving source of one stream. ``only_adds_up``: the target does nothing else with what it is given.

    What was dealt is kept from batch to batch. Not safe between threads.
    """

    stream: Stream
    source: Table
    target: Table
    only_adds_up: bool
    _dealt: tuple[object, list[Portion]] | None = None

    def first(self, plan: Plan, columns: list[str] | None, dimensions: Mapping[str, Pending]) -> Plan | None:
        """The first portion of what a plan reads; None if that is one portion. ``dimensions``: as they are meanwhile.

        Raises ChangesExpired.
        """
        found, bounds = plan.pending[self.source.name], self.stream.bounds
        if not (plan.start or found.overwritten or found.exceeds(bounds)):
            return None
        place = Place(
            source=self.source.name,
            after=found.after,
            until=found.until,
            start=plan.start,
            max_rows=bounds.max_rows,
            max_bytes=bounds.max_bytes,
            ranges=True,
            compared=(self.source.name,) if found.overwritten and not plan.start else (),
        )
        return self.at(plan.offsets, place, columns, dimensions)

    def at(
        self, offsets: Consumed, place: Place, columns: list[str] | None, dimensions: Mapping[str, Pending]
    ) -> Plan | None:
        """The portion that comes next; None if all is one portion. Raises ChangesExpired."""
        portions = self._portions(place, columns)
        if len(portions) < 2:
            return None
        walks = _WALKS if self._walks_twice(place) else (None,)
        walk, number = divmod(place.done, len(portions))
        done, still = place.done + 1, len(walks) - 1 - walk
        left = sum(each.rows for each in portions[number + 1 :]) + still * sum(each.rows for each in portions)
        found = Pending(
            after=place.after,
            until=place.until,
            rows=portions[number].rows,
            overwritten=bool(place.compared),
            committed_ms=None if place.start else self.source.store.snapshots.get(place.until).time_millis,
            portion=portions[number],
        )
        return Plan(
            offsets=offsets,
            pending={**dimensions, place.source: found},
            start=place.start,
            within=None if done == len(walks) * len(portions) else replace(place, done=done, left=left),
            kinds=walks[walk],
        )

    def written(self, plan: Plan, rows: pl.DataFrame) -> pl.DataFrame:
        """What a plan writes of the target's rows that it gives. A row that is replaced does not go away in between, where the
        target keeps the newest one.
        """
        if plan.kinds is None:
            return rows
        if ROW_KIND not in rows.columns:
            return rows if INSERT in plan.kinds else rows.clear()
        is_chosen = pl.col(ROW_KIND).is_in(plan.kinds)
        chosen, key = rows.filter(is_chosen), list(self.target.schema.primary_keys)
        if (
            INSERT in plan.kinds
            or self.target.schema.table_options.merge_engine is not MergeEngine.DEDUPLICATE
            or not key
        ):
            return chosen
        return chosen.join(rows.filter(~is_chosen), on=key, how="anti")

    def _walks_twice(self, place: Place) -> bool:
        """Whether a key of the target may go from one portion to another. What versions without ranges began is walked once."""
        if place.start or self.only_adds_up:
            return False
        return bool(place.compared) or (place.ranges and self.stream.reads == "latest" and not self._keeps_keys())

    def _keeps_keys(self) -> bool:
        """Whether the target's key has that of the source, as the declaration tells."""
        columns = self.source.schema.column_names
        origins = {self.stream.origins(name, columns) for name in self.target.schema.primary_keys}
        return all(((self.source.name, name),) in origins for name in self.source.schema.primary_keys)

    def _portions(self, place: Place, columns: list[str] | None) -> list[Portion]:
        asked = (replace(place, done=0, left=0), columns, self.source.schema.id)
        if self._dealt is None or self._dealt[0] != asked:
            self._dealt = asked, portions_of(self.source, place, columns)
        return self._dealt[1]

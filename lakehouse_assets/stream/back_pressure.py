"""Back-pressure between runs: who writes a table waits for the streams that another run moves on from it.

Movers of one loop wait for each other by themselves, since they go in rounds. Runs know nothing of each other; how far a stream
has come stands beside its source, as a consumer.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from lakehouse_assets.stream.declaration import Stream
from lakehouse_assets.stream.lanes import Mover
from lakehouse_assets.stream.runner import BatchResult
from storage_engine import Table

MOST_AHEAD: Final = 8
"""Snapshots; a batch makes two where a compaction brings the changelog."""
PATIENCE_S: Final = 30.0
"""A stream that has not moved for so long is not waited for: it may have failed, or nobody moves it."""


@dataclass(slots=True)
class Follower:
    """A stream that reads a table: where it stands, as far as seen, and since when."""

    table: Table
    stream: Stream
    position: int | None = None
    since: float = 0.0

    def is_behind(self) -> bool:
        """Whether it moves, but has more snapshots before it than ``MOST_AHEAD``. Raises CorruptFile."""
        position = self.table.store.consumers.next_snapshot(self.stream.name)
        now = time.monotonic()
        if position != self.position:
            self.position, self.since = position, now
        if position is None or now - self.since > PATIENCE_S:
            return False
        return (self.table.store.snapshots.latest_id() or 0) - position > MOST_AHEAD


class HeldBack:
    """A mover that does not move while a follower of its targets is behind."""

    def __init__(self, mover: Mover, followers: Iterable[Follower]) -> None:
        self._mover = mover
        self._followers = tuple(followers)
        self._was_held = False

    @property
    def name(self) -> str:
        """The mover's."""
        return self._mover.name

    @property
    def targets(self) -> frozenset[str]:
        """The mover's."""
        return self._mover.targets

    @property
    def poll_s(self) -> float:
        """The mover's."""
        return self._mover.poll_s

    def stirred(self) -> bool:
        """Whether it is time for a move that was held back, or for a new one."""
        if self._was_held:
            return not self._is_held()
        return self._mover.stirred()

    def note_seen(self) -> None:
        """As the mover does."""
        self._mover.note_seen()

    def move(self) -> Iterable[BatchResult]:
        """The mover's next batch; nothing while it is held back. Raises what the mover raises."""
        self._was_held = self._is_held()
        return [] if self._was_held else self._mover.move()

    def _is_held(self) -> bool:
        return any(follower.is_behind() for follower in self._followers)


def held_back(mover: Mover, followers: Iterable[Follower]) -> Mover:
    """The mover, held back by its followers if it has some."""
    found = tuple(followers)
    return HeldBack(mover, found) if found else mover

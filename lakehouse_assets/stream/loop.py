"""Moves several streams on in one process until time is over, batch after batch, as soon as something is there.

Nothing here keeps a position: whoever is killed in the middle has lost nothing, and two loops over the same streams
only take work from each other.

Work goes in rounds: in each, every mover that is due moves once. They move one after the other, or several abreast: then a
stream works on one batch while ingestion takes the next, and since a round waits for all of its movers, nobody gets further
ahead of those behind him than that.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from lakehouse_assets.stream.lanes import Lanes, Mover
from lakehouse_assets.stream.runner import BatchResult, StreamRunner
from storage_engine import Table
from storage_engine.errors import StorageEngineError

LOCAL_POLL_S: Final = 0.02
REMOTE_POLL_S: Final = 0.5
"""A look costs a request there."""
LOOK_CLOSELY_S: Final = 1.0
"""Whatever the cheap look says, a stream looks closely as often."""
FIRST_PAUSE_S: Final = 1.0
LONGEST_PAUSE_S: Final = 60.0


class StreamMover:
    """A stream between tables."""

    def __init__(self, runner: StreamRunner, *, upto: int | None = None) -> None:
        self._runner = runner
        self._upto = upto
        self._seen: dict[str, int] = {}

    @property
    def name(self) -> str:
        """The stream's name."""
        return self._runner.stream.name

    @property
    def targets(self) -> frozenset[str]:
        """The stream's target."""
        return frozenset((self._runner.stream.target,))

    @property
    def poll_s(self) -> float:
        """As its slowest source allows."""
        return max(poll_s(table) for table in self._runner.tables.values())

    def stirred(self) -> bool:
        """Whether a source has the snapshot that comes next."""
        tables = self._runner.tables
        return any(tables[name].store.snapshots.exists(seen + 1) for name, seen in self._seen.items())

    def note_seen(self) -> None:
        """Take the sources' snapshots of this moment as seen."""
        self._seen = {name: table.store.snapshots.latest_id() or 0 for name, table in self._runner.tables.items()}

    def move(self) -> list[BatchResult]:
        """The next batch. Raises what ``StreamRunner.run_batch`` raises."""
        self.note_seen()
        result = self._runner.run_batch(upto=self._upto)
        return [] if result is None else [result]


def poll_s(table: Table) -> float:
    """How often a look at a table is cheap."""
    return REMOTE_POLL_S if table.store.io.local_path(table.store.paths.snapshots) is None else LOCAL_POLL_S


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """When a loop ends: after ``seconds`` at the earliest, when nothing was there for ``linger_s``; after ``window_s`` in
    any case; after ``max_batches``; or when ``make_way`` says so, which is asked every ``make_way_every_s``.
    """

    seconds: float = 0.0
    linger_s: float = 0.0
    window_s: float | None = None
    max_batches: int | None = None
    make_way: Callable[[], bool] = lambda: False
    make_way_every_s: float = 1.0


@dataclass(slots=True)
class Troubles:
    """What went wrong with whom, how often in a row, and when it may try again.

    ``until``: None if only a part of what it moves is stopped. Then it moves on, and tries that part again by itself.
    """

    error: Exception
    times: int
    until: float | None


@dataclass(slots=True)
class Loop:
    """One process's loop over movers, in the order in which data flows.

    ``tolerant``: one that fails is tried again, ever later, while the others go on; else the first error ends it, and one that
    stops only a part of a mover is raised when the loop ends.
    ``abreast``: so many move at a time, each in a thread; one at a time where batches are counted (``max_batches``).
    ``on_error`` and ``on_idle`` are called by the thread that asks for results.
    """

    movers: Sequence[Mover]
    limits: Limits
    tolerant: bool = False
    on_error: Callable[[Mover, Exception], None] = lambda _mover, _error: None
    on_idle: Callable[[], None] = lambda: None
    abreast: int = 1
    troubles: dict[str, Troubles] = field(default_factory=dict)
    _looked: dict[str, float] = field(default_factory=dict)

    def results(self) -> Iterator[BatchResult]:
        """Every batch once it is committed. Raises an error unless tolerant; troubles that last are in ``troubles``."""
        yield from self._results()
        if not self.tolerant and (error := lasting(self.troubles.values())) is not None:
            raise error

    def _results(self) -> Iterator[BatchResult]:
        limits, started = self.limits, time.monotonic()
        last_news, asked, batches = started, started, 0
        with Lanes(self._lanes) as lanes:
            while True:
                moved = False
                for result in self._round(lanes):
                    moved, batches = True, batches + 1
                    yield result
                    if limits.max_batches is not None and batches >= limits.max_batches:
                        return
                now = time.monotonic()
                last_news = now if moved else last_news
                if limits.window_s is not None and now - started >= limits.window_s:
                    return
                if not moved and now - started >= limits.seconds and now - last_news >= limits.linger_s:
                    return
                if now - asked >= limits.make_way_every_s:
                    asked = now
                    if limits.make_way():
                        return
                if not moved:
                    self.on_idle()
                    self._wait()

    @property
    def _lanes(self) -> int:
        return 1 if self.limits.max_batches is not None else max(1, min(self.abreast, len(self.movers)))

    def _round(self, lanes: Lanes) -> Iterator[BatchResult]:
        failures: list[Exception] = []
        for moved in lanes.round(self.movers, lambda mover: not failures and self._due(mover)):
            name = moved.mover.name
            if moved.trouble is None:
                self.troubles.pop(name, None)
            elif self.tolerant or moved.in_part:
                self._note(moved.mover, moved.trouble, in_part=moved.in_part)
            else:
                failures.append(moved.trouble)
            if moved.results:
                self._looked.pop(name, None)  # there may be more than one batch takes
            yield from moved.results
        for failure in failures:
            raise failure

    def _due(self, mover: Mover) -> bool:
        """Whether a mover is to look closely now; that it does is noted."""
        now = time.monotonic()
        trouble = self.troubles.get(mover.name)
        if trouble is not None and trouble.until is not None:
            is_due = now >= trouble.until
        else:
            looked = self._looked.get(mover.name)
            is_due = looked is None or now - looked >= LOOK_CLOSELY_S or _stirred(mover)
        if is_due:
            self._looked[mover.name] = now
        return is_due

    def _note(self, mover: Mover, error: Exception, *, in_part: bool) -> None:
        """Note a trouble. The same one of a part is not told again and again."""
        known = self.troubles.get(mover.name)
        times = 1 if known is None else known.times + 1
        until = None if in_part else time.monotonic() + pause_s(times)
        self.troubles[mover.name] = Troubles(error=error, times=times, until=until)
        if known is None or not in_part or str(known.error) != str(error):
            self.on_error(mover, error)

    def _wait(self) -> None:
        time.sleep(min((mover.poll_s for mover in self.movers), default=LOCAL_POLL_S))


def pause_s(times: int) -> float:
    """How long to wait after so many failures in a row."""
    return min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(times - 1, 10))


def _stirred(mover: Mover) -> bool:
    try:
        return mover.stirred()
    except StorageEngineError:
        return True  # the close look says what is wrong


def lasting(troubles: Iterable[Troubles]) -> Exception | None:
    """The error that a loop should end with, if somebody is in trouble at its end."""
    return next((trouble.error for trouble in troubles), None)

"""Movers that move at the same time, each in a thread; Polars and Arrow compute without Python's lock."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final, Protocol, Self

from polars.exceptions import PolarsError

from lakehouse_assets.stream.runner import BatchResult
from storage_engine.errors import StorageEngineError

TROUBLE: Final = (StorageEngineError, PolarsError)
"""What a mover may run into: all else is a mistake in the code."""


class PartStopped(Exception):
    """A part of what a mover moves is stopped by ``error``; the rest has moved, and goes on."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


class Mover(Protocol):
    """Something that can be moved on: a stream, or an ingestion of several tables."""

    @property
    def name(self) -> str:
        """What it is called in messages."""

    @property
    def targets(self) -> frozenset[str]:
        """The tables that it writes to: movers that share one do not move at the same time."""

    @property
    def poll_s(self) -> float:
        """How often it should look."""

    def stirred(self) -> bool:
        """A cheap look: whether something may have happened since the last move."""

    def note_seen(self) -> None:
        """Take what there is at this moment as seen, before a close look at it."""

    def move(self) -> Iterable[BatchResult]:
        """One batch, as far as there is something to do; of each target, where there are several. May raise PartStopped."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """What came of a move: the batches that were committed, and the trouble that it met. ``in_part``: the rest goes on."""

    mover: Mover
    results: Sequence[BatchResult] = ()
    trouble: Exception | None = None
    in_part: bool = False

    @classmethod
    def of(cls, mover: Mover) -> Moved:
        """Move. Raises what is none of ``TROUBLE``."""
        results: list[BatchResult] = []
        try:
            for result in mover.move():
                results.append(result)  # noqa: PERF402 - what was there before a trouble stays
        except PartStopped as part:
            return cls(mover=mover, results=results, trouble=part.error, in_part=True)
        except TROUBLE as error:
            return cls(mover=mover, results=results, trouble=error)
        return cls(mover=mover, results=results)


class Lanes:
    """``count`` movers move at a time. A single lane is the caller's own thread. To be left with ``with``."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._pool = ThreadPoolExecutor(count, thread_name_prefix="movers") if count > 1 else None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Wait until nobody moves any more."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def round(self, movers: Sequence[Mover], is_due: Callable[[Mover], bool]) -> Iterator[Moved]:
        """Every mover that is due moves once, begun in their order; what came of it, in the order in which they ended.

        Who had something to move and finds a free lane moves again for as long as one before him is at his first move: what a
        long move brings may be more than one of the next takes. ``is_due`` is asked right before a move begins. While the
        caller looks at what came of one, others move.
        """
        if self._pool is None:
            yield from (Moved.of(mover) for mover in movers if is_due(mover))
            return
        going = _Round(movers=movers, is_due=is_due, pool=self._pool, lanes=self._count)
        going.fill()
        while going.moving:
            done = wait(going.moving, return_when=FIRST_COMPLETED).done
            ended = {each: place for each, place in going.moving.items() if each in done}
            for each in ended:
                del going.moving[each]
            going.fill()
            for each, place in ended.items():
                moved = each.result()
                yield moved
                if moved.results:
                    going.ask_again(place)


@dataclass(slots=True, kw_only=True)
class _Round:
    """A round as it goes. Movers are named by their places; ``again``: those that are done with their first move."""

    movers: Sequence[Mover]
    is_due: Callable[[Mover], bool]
    pool: ThreadPoolExecutor
    lanes: int
    moving: dict[Future[Moved], int] = field(default_factory=dict)
    again: set[int] = field(default_factory=set)
    to_come: list[int] = field(init=False)

    def __post_init__(self) -> None:
        self.to_come = list(range(len(self.movers)))

    def fill(self) -> None:
        """Fill the free lanes; who shares a target with one that is moving lets others go first."""
        for place in tuple(self.to_come):
            if len(self.moving) == self.lanes:
                return
            mover = self.movers[place]
            if any(mover.targets & self.movers[other].targets for other in self.moving.values()):
                continue
            self.to_come.remove(place)
            if (place not in self.again or self._is_one_before(place)) and self.is_due(mover):
                self.moving[self.pool.submit(Moved.of, mover)] = place

    def ask_again(self, place: int) -> None:
        """Let one that has moved move once more, behind those that have not."""
        self.again.add(place)
        self.to_come.append(place)
        self.fill()

    def _is_one_before(self, place: int) -> bool:
        return any(other < place and other not in self.again for other in self.moving.values())

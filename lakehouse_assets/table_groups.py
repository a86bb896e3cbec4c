"""Which tables of a source are read at a time, so that one that cannot be read stops no other.

Tables of a database are read together, since one log tells of all of them. One that cannot be read is read alone from then on,
behind the others, until it has caught up; so the others wait neither for it nor for what it missed.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from lakehouse_assets.sources.errors import SourceError, SourceUnavailable
from lakehouse_assets.stream.loop import pause_s

T = TypeVar("T")


class Mirrored(Protocol):
    """A table of a source, and the one that mirrors it."""

    @property
    def source_table(self) -> str:
        """The source's name."""

    @property
    def target(self) -> str:
        """The mirror's name."""


M = TypeVar("M", bound=Mirrored)


@dataclass(frozen=True, slots=True)
class Stopped:
    """What stopped a table, how often in a row, and when it may be tried again."""

    error: SourceError
    times: int
    until: float

    @classmethod
    def by(cls, error: SourceError, before: Stopped | None) -> Stopped:
        """Stopped once more."""
        times = 1 if before is None else before.times + 1
        return cls(error, times, time.monotonic() + pause_s(times))


class TableGroups(Generic[M]):
    """The tables of a source in groups; ``apart``: each is a group of its own, whatever happens."""

    def __init__(self, tables: Sequence[M], *, apart: bool) -> None:
        self._tables = tuple(tables)
        self._apart = apart
        self._alone: dict[str, Stopped | None] = {}

    def of_each(self, read: Callable[[Sequence[M]], Iterable[T]], *, patiently: bool = False) -> Iterator[T]:
        """What comes of all groups; what stops a table is raised at the end, what stops the source at once.

        ``patiently``: a table that was stopped a moment ago is not tried again yet; its error is raised all the same.
        """
        groups, troubles = deque(self._groups()), list[SourceError]()
        while groups:
            group = groups.popleft()
            known = self._alone.get(group[0].target)
            if patiently and known is not None and time.monotonic() < known.until:
                troubles.append(known.error.with_traceback(None))  # or it would grow each time
                continue
            try:
                yield from read(group)
            except SourceError as error:
                stopped = self._stopped_by(error, group)
                if not stopped:
                    raise
                for each in stopped:
                    self._alone[each.target] = Stopped.by(error, self._alone.get(each.target))
                troubles.append(error)
                if rest := tuple(each for each in group if each not in stopped):
                    groups.appendleft(rest)
        if troubles:
            raise troubles[0]

    def note_read(self, tables: Sequence[M], *, at_end: bool) -> None:
        """Tables were read without trouble; at the end, one that was read alone is with the others again."""
        for each in tables:
            if at_end:
                self._alone.pop(each.target, None)
            elif each.target in self._alone:
                self._alone[each.target] = None

    def go_on_beside(self, error: SourceError) -> bool:
        """Whether an error that was raised stops some tables, but not all."""
        stopped = [self._alone.get(each.target) for each in self._tables]
        return None in stopped and any(each is not None and each.error is error for each in stopped)

    def _groups(self) -> Iterator[tuple[M, ...]]:
        alone = [each for each in self._tables if self._apart or each.target in self._alone]
        if together := tuple(each for each in self._tables if each not in alone):
            yield together
        yield from ((each,) for each in alone)

    def _stopped_by(self, error: SourceError, group: Sequence[M]) -> Sequence[M]:
        """Those of a group that an error stops; none, if it stops all of the source."""
        if isinstance(error, SourceUnavailable):
            return ()
        return group if self._apart else [each for each in group if each.source_table == error.table]

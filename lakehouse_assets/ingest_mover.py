"""Ingestion as one of the movers of a loop."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from lakehouse_assets.ingest import Ingester
from lakehouse_assets.sources.change_source import Watchable
from lakehouse_assets.sources.errors import SourceError
from lakehouse_assets.stream.lanes import PartStopped
from lakehouse_assets.stream.loop import poll_s
from lakehouse_assets.stream.runner import BatchResult

UNWATCHED_POLL_S: Final = 0.2


class IngestMover:
    """Moves all tables of an ingester on, a batch at a time."""

    def __init__(self, ingester: Ingester) -> None:
        self._ingester = ingester
        self._seen: object = None

    @property
    def name(self) -> str:
        """The source's name."""
        return self._ingester.source.name

    @property
    def targets(self) -> frozenset[str]:
        """The tables that mirror the source, and that of refused lines."""
        return frozenset((*self._ingester.tables, self._ingester.quarantine.name))

    @property
    def poll_s(self) -> float:
        """As the source and the tables allow."""
        if not isinstance(self._ingester.source, Watchable):
            return UNWATCHED_POLL_S
        return max((poll_s(table) for table in self._ingester.tables.values()), default=UNWATCHED_POLL_S)

    def stirred(self) -> bool:
        """Whether the source looks different; one that cannot be watched always may."""
        source = self._ingester.source
        return not isinstance(source, Watchable) or source.look(self._names) != self._seen

    def note_seen(self) -> None:
        """Take what the source looks like at this moment as seen."""
        source = self._ingester.source
        if isinstance(source, Watchable):
            self._seen = source.look(self._names)

    def move(self) -> Iterator[BatchResult]:
        """The next batch of every table. Raises PartStopped, and what ``Ingester.landed`` raises if it stops all tables."""
        self.note_seen()
        try:
            yield from self._ingester.landed(patiently=True)
        except SourceError as error:
            if not self._ingester.groups.go_on_beside(error):
                raise
            raise PartStopped(error) from error

    @property
    def _names(self) -> list[str]:
        return [each.source_table for each in self._ingester.ingestions]

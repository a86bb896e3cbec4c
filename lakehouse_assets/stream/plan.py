"""What the next batch of a stream reads, and where the stream is afterwards."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lakehouse_assets.stream.offsets import Consumed
from lakehouse_assets.stream.place import Place
from lakehouse_assets.stream.source import Pending


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The range of every source that a batch reads; ``start``: the driving source's rows are read, not its changes.

    ``within``: where the stream is inside the driving source's snapshot afterwards, None: it is done with it.
    """

    offsets: Consumed
    pending: Mapping[str, Pending]
    start: bool
    within: Place | None = None

    @property
    def positions(self) -> dict[str, int | str]:
        """Where the stream is afterwards."""
        behind = {} if self.within is None else {self.within.source: self.within.after}
        return {**self.snapshots, **behind}

    @property
    def needed(self) -> dict[str, int]:
        """The oldest snapshot of each source that is read afterwards."""
        return {**self.snapshots, **({} if self.within is None else {self.within.source: self.within.needed})}

    @property
    def consumed(self) -> dict[str, tuple[int | str | None, int | str]]:
        """The position in each source before and after."""
        until: dict[str, int | str] = dict(self.snapshots)
        if self.within is not None:
            until[self.within.source] = f"{self.within.until}, {self.within.left} rows left"
        return {name: (self.offsets.snapshot(name), until[name]) for name in self.pending}

    @property
    def snapshots(self) -> dict[str, int]:
        """The snapshot that is read of each source."""
        return {source: found.until for source, found in self.pending.items()}

"""What the next batch of a stream reads, and where the stream is afterwards."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lakehouse_assets.stream.key_share import KeyShare
from lakehouse_assets.stream.offsets import Consumed
from lakehouse_assets.stream.place import Place
from lakehouse_assets.stream.source import Pending


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The range of every source that a batch reads; ``start``: the driving source's rows are read, not its changes.

    ``within``: where the stream is inside the driving source's snapshot afterwards, None: it is done with it. ``share``: of the
    keys of a join that is read in shares. ``kinds``: the only row kinds that are written, None: all.
    """

    offsets: Consumed
    pending: Mapping[str, Pending]
    start: bool
    within: Place | None = None
    share: KeyShare | None = None
    kinds: tuple[str, ...] | None = None

    @property
    def positions(self) -> dict[str, int | str]:
        """Where the stream is afterwards."""
        return {**self.snapshots, **({} if self.within is None else self._before(self.within))}

    @property
    def needed(self) -> dict[str, int]:
        """The oldest snapshot of each source that is read afterwards."""
        if self.within is None:
            return self.snapshots
        before = self._before(self.within)
        return {
            **self.snapshots,
            **{name: self.snapshots[name] if self.within.start else max(after, 1) for name, after in before.items()},
        }

    @property
    def consumed(self) -> dict[str, tuple[int | str | None, int | str]]:
        """The position in each source before and after."""
        until: dict[str, int | str] = dict(self.snapshots)
        if self.within is not None:
            inside = {self.within.source: self.within.until, **self.within.beside}
            until |= {name: f"{snapshot}, {self.within.left} rows left" for name, snapshot in inside.items()}
        return {name: (self.offsets.snapshot(name), until[name]) for name in self.pending}

    def _before(self, place: Place) -> dict[str, int]:
        """Where the stream still is in the tables that it reads a part of."""
        others = {name: 0 if place.start else self.offsets.snapshot(name) or 0 for name in place.beside}
        return {place.source: place.after, **others}

    @property
    def snapshots(self) -> dict[str, int]:
        """The snapshot that is read of each source."""
        return {source: found.until for source, found in self.pending.items()}

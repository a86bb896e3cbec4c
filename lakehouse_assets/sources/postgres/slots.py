"""The slot that the tables of a source are read through, and a second one for those that were stopped far behind the others.

A slot is always read from where it stands. So a stopped table would keep the others from moving on: all that they have read since
would be read again each time. Instead, the slot is copied where the table stands, and moved on without it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Final

from lakehouse_assets.sources.errors import SourcePositionLost
from lakehouse_assets.sources.postgres.slot import Slot, lsn_text

ASIDE: Final = "_aside"
"""What the second slot's name has behind the first one's."""
ASIDE_BYTES: Final = 1024 * 1024
"""So much of the log is rather read again than kept by a slot of its own."""


@dataclass(frozen=True, slots=True)
class Slots:
    """The slot of a source's tables, and that of those that were stopped, which never stands before it."""

    main: Slot
    aside: Slot

    @classmethod
    def of(cls, main: Slot) -> Slots:
        """A slot, and the one beside it."""
        return cls(main, replace(main, name=f"{main.name}{ASIDE}"))

    def holding(self, positions: Mapping[str, int]) -> list[tuple[Slot, list[str]]]:
        """Which slot has the next changes of which tables. Raises SourcePositionLost."""
        confirmed = self.main.confirmed()
        behind = [table for table, position in positions.items() if position < confirmed]
        kept = self.aside.kept() if behind else None
        for table in behind:
            if kept is None or positions[table] < kept:
                raise SourcePositionLost(
                    f"table {table} was read up to {lsn_text(positions[table])}, but replication slot {self.main.name} has"
                    f" forgotten all before {lsn_text(confirmed)} (it was made again, or moved by somebody else): take a new"
                    " snapshot of the table (materialize it with whole: true)",
                    table=table,
                )
        held = [(self.main, [table for table in positions if table not in behind]), (self.aside, behind)]
        return [(slot, tables) for slot, tables in held if tables]

    def move_on(self, positions: Mapping[str, int], stopped: Collection[str]) -> None:
        """Let the server forget what all tables have read, given the positions of all, and those that are stopped."""
        confirmed = self.main.confirmed()
        here = {table: position for table, position in positions.items() if position >= confirmed}
        last = min(here.values(), default=confirmed)
        last_moving = min((position for table, position in here.items() if table not in stopped), default=last)
        leaves = last_moving - last > ASIDE_BYTES and self._has_aside()
        self.main.advance(last_moving if leaves else last)
        self._move_aside([position for position in positions.values() if position < self.main.confirmed()])

    def reserve(self, position: int) -> None:
        """Keep the changes from now on for a table that is read anew, unless they are kept for its position."""
        if position < self.main.confirmed():
            self._has_aside()

    def _has_aside(self) -> bool:
        """See that there is a slot beside the first, which stands before it; whether the server has room for it."""
        return self.aside.kept() is not None or self.aside.copy(self.main)

    def _move_aside(self, behind: Collection[int]) -> None:
        """One that is before the slot has lost its changes: a new snapshot, which may be under way, goes on from the slot."""
        if not behind:
            self.aside.drop()
            return
        kept = self.aside.kept()
        if kept is not None and min(behind) > kept:
            self.aside.advance(min(behind))

"""The place of a stream inside a snapshot that is too large for one batch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Self

_SINCE_RANGES: Final = ("ranges", "compared")
"""Left out where they say nothing, so that a snapshot that an older version has begun can be finished by it too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """``done`` portions were consumed of the driving source's changes ``(after, until]``, or, at its ``start``, of its rows at
    ``until``.

    ``max_rows`` and ``max_bytes`` are the bounds by which the portions were dealt: they stay, whatever the stream's become.
    ``left``: rows that are to come. Of a join, its keys are dealt into ``shares``, and ``beside`` has the snapshot up to which
    the other table is read. ``ranges``: how the portions were dealt (``TablePortions``); versions that know no other way than
    without write no such member, and fail at it. ``compared``: tables that were overwritten, whose states at both snapshots
    tell what is read.
    """

    source: str
    after: int
    until: int
    start: bool
    max_rows: int
    max_bytes: int | None
    done: int = 0
    left: int = 0
    shares: int = 0
    beside: Mapping[str, int] = field(default_factory=dict)
    ranges: bool = False
    compared: tuple[str, ...] = ()

    def until_in(self, table: str) -> int | None:
        """The snapshot of a table that is being read, None: it is none of those."""
        return self.until if table == self.source else self.beside.get(table)

    def document(self) -> dict[str, Any]:
        """As JSON has it."""
        return {name: value for name, value in asdict(self).items() if value or name not in _SINCE_RANGES}

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Self | None:
        """From ``document``; None if there is none. Raises TypeError for one of an unknown form."""
        return cls(**{**document, "compared": tuple(document.get("compared", ()))}) if document else None

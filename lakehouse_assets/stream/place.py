"""The place of a stream inside a snapshot that is too large for one batch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """``done`` portions were consumed of the driving source's changes ``(after, until]``, or, at its ``start``, of its rows at
    ``until``.

    ``max_rows`` and ``max_bytes`` are the bounds by which the portions were dealt: they stay, whatever the stream's become.
    ``left``: rows that are to come.
    """

    source: str
    after: int
    until: int
    start: bool
    max_rows: int
    max_bytes: int | None
    done: int = 0
    left: int = 0

    @property
    def needed(self) -> int:
        """The oldest snapshot of the source that is still read."""
        return self.until if self.start else max(self.after, 1)

    def document(self) -> dict[str, Any]:
        """As JSON has it."""
        return asdict(self)

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Self | None:
        """From ``document``; None if there is none."""
        return cls(**document) if document else None

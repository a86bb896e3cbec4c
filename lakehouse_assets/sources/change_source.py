"""What every source of changes looks like to the tables that it lands in.

A source knows tables by its own names, hands out rows as frames, and says how far it has read: the
*position*, a text that only the source understands. The reader keeps the position in the target's own
snapshot, together with the rows, and gives it back to go on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, Protocol, runtime_checkable

import polars as pl

OP: Final = "_change.op"
DELETED: Final = "_change.deleted"
"""What is told of a change stands beside its row under such names, so that the row's own columns may have any other."""
EVENT_TIME: Final = "event_time"
BOOKKEEPING: Final[Mapping[str, str]] = {"op": OP, "deleted": DELETED}
"""A mirror's columns, if it has them beside the row's own, and what they keep."""

DELETE_OP: Final = "d"
SNAPSHOT_OP: Final = "r"
OPERATIONS: Final = ("c", "u", "d", "r")
"""Insert, update, delete, row of a snapshot."""

REJECTED_SCHEMA: Final = pl.Schema(
    {"source_file": pl.String(), "line": pl.Int64(), "raw": pl.String(), "reason": pl.String()}
)
"""A line that is no event, where it stood, and why it was refused."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceTable:
    """A table of a source, as its target wants it.

    ``columns``: name → dtype of the row images. ``required``: columns that are never null. ``key``:
    the primary key. ``days``: String columns that must hold a day of the calendar, ``yyyy-mm-dd``. ``follows``: types of the
    target are widened to those of the source. ``lenient``: of a row of JSON, other members are passed over, missing ones null.
    """

    name: str
    target: str
    columns: Mapping[str, pl.DataType]
    required: frozenset[str]
    key: tuple[str, ...] = ()
    days: frozenset[str] = frozenset()
    follows: bool = True
    lenient: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceBatch:
    """Changes of one table up to ``position``.

    ``rows``: the table's columns and ``OP``, ``DELETED``, ``EVENT_TIME`` (null where the source does not tell
    when), in the order of the source. ``rejected``: of ``REJECTED_SCHEMA``. ``at_end``: nothing more was
    there. ``emptied``: all rows that the table had before are gone, and ``rows`` are what it has had since (a
    snapshot, or what came after a TRUNCATE).
    """

    position: str
    rows: pl.DataFrame
    rejected: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=REJECTED_SCHEMA))
    at_end: bool = True
    emptied: bool = False

    def __bool__(self) -> bool:
        """Whether it tells of anything but the position."""
        return self.emptied or not (self.rows.is_empty() and self.rejected.is_empty())


class ChangeSource(Protocol):
    """Where changes come from."""

    @property
    def name(self) -> str:
        """What it is called in messages and metadata; holds no secret."""

    def read(self, tables: Sequence[tuple[SourceTable, str | None]], *, max_rows: int) -> Mapping[str, SourceBatch]:
        """The next changes of some tables, each after its own position (None: from the beginning).

        The result is by the table's name; one without news is left out, or has a batch without rows whose position is
        to be kept. A table's batch has about ``max_rows`` rows at most (whole files, whole transactions). Reading again
        from the same position gives the same rows.
        """

    def everything(self, table: SourceTable) -> SourceBatch:
        """All rows of a table that the source has now, for repair."""


@runtime_checkable
class Apart(Protocol):
    """A source that keeps nothing for some of its tables together: one that cannot be read may be left behind the others."""

    @property
    def tables_are_apart(self) -> Literal[True]:
        """That it is so."""


@runtime_checkable
class Keeping(Protocol):
    """A source that keeps what the slowest of its tables has not read, so it must know of those that are not asked for."""

    def keep(self, positions: Callable[[], Sequence[tuple[str, str | None]]]) -> None:
        """Have the names and positions of all tables told, as they are whenever it calls."""


@runtime_checkable
class Watchable(Protocol):
    """A source that can be asked often whether it has changed, because that costs next to nothing."""

    def look(self, tables: Sequence[str]) -> object:
        """What some tables look like from outside: a value that differs once something new is there. Never raises."""

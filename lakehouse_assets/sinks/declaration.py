"""What a sink is: a table of the warehouse, and the place that gets all that becomes of it.

::

    Sink(table="app.member_growth", to=PostgresSink(host="db", database="bi", user="writer", password_variable="BI_PASSWORD"))
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Protocol

import polars as pl

from lakehouse_assets.stream.declaration import Bounds
from storage_engine import Table


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivered:
    """A snapshot of the table that a place has: its id, and when it was committed (epoch milliseconds)."""

    snapshot: int
    committed_ms: int


class SinkSession(Protocol):
    """One transaction at the place: all of it becomes visible, and is remembered, when ``finish`` returns; or nothing."""

    def delivered(self) -> Delivered | None:
        """What the place has; None: nothing yet. Others wait until the session has ended."""

    def load(self, portions: Iterable[pl.DataFrame], rows: pl.LazyFrame) -> int:
        """Make the place's rows equal to the table's at a snapshot; the number of rows.

        ``portions``: they, a part at a time, all of a key in one; ``rows``: the same, for places that replace whole files.
        """

    def apply(self, portions: Iterable[pl.DataFrame], rows: pl.LazyFrame) -> None:
        """Bring the last change of each key: the table's columns and ``_row_kind``, a part at a time.

        ``rows``: the table as it is behind them, for places that replace whole files.
        """

    def finish(self, delivered: Delivered) -> None:
        """Commit, together with what was delivered."""


class SinkTarget(Protocol):
    """A place for tables. Holds no secret: names of environment variables stand for them."""

    @property
    def kind(self) -> str:
        """What it is, in one word."""

    @property
    def place(self) -> str:
        """Where it is, for messages and metadata."""

    def session(self, sink: Sink, table: Table) -> AbstractContextManager[SinkSession]:
        """A transaction; it is rolled back unless it is finished. Raises SourceError and InvalidInput."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sink:
    """A table and the place it is served from. ``name`` tells two sinks of one table apart.

    The name is also what the place remembers the sink by: it must stay the same for as long as the place has the rows.
    ``bounds``: of one delivery; what is larger, the table at first or one huge commit, is read in portions of so many rows and
    bytes, and is one transaction there.
    """

    table: str
    to: SinkTarget
    name: str = ""
    bounds: Bounds = field(default_factory=Bounds)

    @property
    def title(self) -> str:
        """The sink's name, or the kind of its place and its table."""
        return self.name or f"{self.to.kind}-{self.table}"

    @property
    def consumer(self) -> str:
        """The name under which the table keeps what the sink has not read."""
        return f"sink-{self.title}"


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryResult:
    """What one delivery brought: ``rows`` by what was done with them; ``whole``: all of the table was loaded.

    ``rows_behind``: changes that wait; ``lag_ms``: from the snapshot's commit to the end of the delivery.
    """

    sink: str
    place: str
    delivered: Delivered
    rows: Mapping[str, int]
    whole: bool
    duration_ms: int
    lag_ms: int
    rows_behind: int = 0

"""What feeds the main job: a source of changes that moves on step by step, and knows what its figures must be."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

import polars as pl

from lakehouse_assets.resources import ChangesResource
from lakehouse_demo.app_tables import AppTable, Rows, compare
from storage_engine import Catalog


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was compared, and how it differs (not at all, if all is well)."""

    name: str
    differences: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedFacts:
    """What a feed is, in words for the terminal; ``steps``: how many it takes from its beginning to its end.

    ``identity``: what a warehouse that is filled from it belongs to. ``truth``: what its figures are compared with.
    """

    name: str
    description: str
    truth: str
    steps: int
    identity: Mapping[str, object]


class Feed(Protocol):
    """A source of changes that moves in steps. As a context manager it holds what it needs meanwhile."""

    @property
    def facts(self) -> FeedFacts:
        """What it is."""

    def __enter__(self) -> Self:
        """Make the source ready."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Leave it so that the next process can go on."""

    def changes(self) -> ChangesResource:
        """The source as the assets see it."""

    def advance(self) -> Iterator[int]:
        """Take the steps that are left, each when it is asked for; yields the number of steps that are done."""

    def compare(self, catalog: Catalog) -> list[Finding]:
        """What the tables hold, held against what they should."""


def app_finding(catalog: Catalog, table: AppTable, expected: Rows) -> Finding:
    """An APP table, held against the rows that it should have."""
    rows: pl.DataFrame = catalog.table(table.name).scan().collect()
    return Finding(name=f"{table.name} ({rows.height:,} rows)", differences=compare(table, expected, rows))

"""The embedded stream as a feed: files that land in a folder, slice by slice."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Final, Self

import polars as pl

from lakehouse_assets.ingest import QUARANTINE
from lakehouse_assets.resources import ChangesResource, LandingResource
from lakehouse_demo.app_tables import MEMBER_GROWTH, SPRINT_PERFORMANCE
from lakehouse_demo.claims import only_writer
from lakehouse_demo.events import StreamConfig
from lakehouse_demo.feeds import FeedFacts, Finding, app_finding
from lakehouse_demo.landing import land
from lakehouse_demo.truth import Truth, recompute
from storage_engine import Catalog

FILES: Final = "files"
SLICES_MIN: Final = 12
EVENTS_PER_SLICE_MAX: Final = 50_000
REPORTED_MAX: Final = 20


def embedded_stream(events: int, seed: int) -> StreamConfig:
    """The stream of so many events: half-day slices, or smaller ones where that would be much at a time.

    Raises ValueError for a number of events that no stream can have.
    """
    return StreamConfig(events=events, seed=seed, slices=max(SLICES_MIN, -(-events // EVENTS_PER_SLICE_MAX)))


class FileFeed:
    """The embedded stream in a landing folder, of which it is the only writer while it is entered."""

    def __init__(self, config: StreamConfig, landing: Path) -> None:
        self._config = config
        self._landing = landing
        self._held = ExitStack()

    @property
    def facts(self) -> FeedFacts:
        """The stream in words."""
        return stream_facts(FILES, self._config, place=f"landing in {self._landing}", raw="files")

    def __enter__(self) -> Self:
        """Raises LandingBusy."""
        self._held.enter_context(only_writer(self._landing))
        return self

    def __exit__(self, *_: object) -> None:
        self._held.close()

    def changes(self) -> ChangesResource:
        """The folder as a source."""
        return LandingResource(folder=str(self._landing.absolute()))

    def advance(self) -> Iterator[int]:
        """Land slice after slice. Raises ValueError if the folder holds another stream."""
        for part in land(self._config, self._landing):
            yield part.index + 1

    def compare(self, catalog: Catalog) -> list[Finding]:
        """The APP tables and the quarantine, held against a recomputation of the raw files."""
        truth = recompute(self._landing)
        refused = {(f"{line.table}/{line.file}", line.line) for line in truth.quarantined}
        return [*app_findings(catalog, truth), quarantine_finding(catalog, refused)]


def stream_facts(source: str, config: StreamConfig, *, place: str, raw: str) -> FeedFacts:
    """The embedded stream in words: what it is, where it goes, and what of it is computed again."""
    return FeedFacts(
        name=source,
        description=f"{config.events:,} change events of {config.days} days (seed {config.seed}), {place}",
        truth=f"the recomputation of the raw {raw}",
        steps=config.slices,
        identity={"source": source, **asdict(config)},
    )


def app_findings(catalog: Catalog, truth: Truth) -> list[Finding]:
    """The APP tables, held against a recomputation."""
    return [
        app_finding(catalog, SPRINT_PERFORMANCE, truth.sprint_performance),
        app_finding(catalog, MEMBER_GROWTH, truth.member_growth),
    ]


def quarantine_finding(catalog: Catalog, refused: Collection[tuple[str, int]]) -> Finding:
    """The quarantine, held against the lines that are no events, as (file, line)."""
    kept: pl.DataFrame = catalog.table(QUARANTINE).scan().select("source_file", "line").collect()
    found = set(zip(kept["source_file"].to_list(), kept["line"].to_list(), strict=True))
    differences = [
        f"{file}, line {line}: no event, but not in quarantine" for file, line in sorted(set(refused) - found)
    ]
    differences += [f"{file}, line {line}: an event, but in quarantine" for file, line in sorted(found - set(refused))]
    if len(differences) > REPORTED_MAX:
        differences[REPORTED_MAX:] = [f"and {len(differences) - REPORTED_MAX} more lines"]
    return Finding(name=f"{QUARANTINE} ({kept.height:,} malformed lines)", differences=differences)

"""Where the main job's changes come from, piece by piece, and what its figures must be in the end."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Protocol, Self

import polars as pl

from lakehouse_assets.ingest import QUARANTINE
from lakehouse_assets.resources import ChangesResource, LandingResource, MariaDbResource
from lakehouse_demo import mariadb_workload
from lakehouse_demo.app_tables import MEMBER_GROWTH, SPRINT_PERFORMANCE, AppTable, Rows, compare
from lakehouse_demo.events import StreamConfig
from lakehouse_demo.landing import land
from lakehouse_demo.mariadb import MariaDbServer, install
from lakehouse_demo.mariadb_truth import expected_app
from lakehouse_demo.truth import recompute
from storage_engine import Catalog

PASSWORD_VARIABLE: Final = "LAKEHOUSE_MARIADB_PASSWORD"  # noqa: S105 - its name, not its value
EVENTS_PER_TRANSACTION: Final = 20
WORKLOAD_STEPS: Final = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was compared, and how it differs (not at all, if all is well)."""

    name: str
    differences: list[str]


class Story(Protocol):
    """A source of changes that moves in steps. As a context manager it holds what it needs meanwhile."""

    name: str
    description: str
    steps: int

    def __enter__(self) -> Self:
        """Make the source ready."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Leave it so that the next process can go on."""

    def changes(self) -> ChangesResource:
        """The source as the assets see it."""

    def advance(self) -> Iterator[int]:
        """Make the next piece of the story happen, again and again; yields the number of steps that are done."""

    def compare(self, catalog: Catalog) -> list[Finding]:
        """What the tables hold, held against what they should."""


class FileStory:
    """The embedded stream, as files that land in a folder."""

    def __init__(self, events: int, seed: int, landing: str) -> None:
        self._config = StreamConfig(events=events, seed=seed)
        self._landing = Path(landing)
        self.name = "files"
        self.description = f"files landing in [bold]{landing}[/] ({events:,} events, seed {seed})"
        self.steps = self._config.slices

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None

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
        kept = catalog.table(QUARANTINE).scan().select("source_file", "line").collect()
        found = set(zip(kept["source_file"].to_list(), kept["line"].to_list(), strict=True))
        quarantine = [f"{file}, line {line}: not in quarantine" for file, line in sorted(refused - found)]
        quarantine += [f"{file}, line {line}: wrongly in quarantine" for file, line in sorted(found - refused)]
        return [
            _app_finding(catalog, SPRINT_PERFORMANCE, truth.sprint_performance),
            _app_finding(catalog, MEMBER_GROWTH, truth.member_growth),
            Finding(name=f"{QUARANTINE} ({len(refused)} malformed lines)", differences=quarantine),
        ]


class MariaDbStory:
    """Transactions on a private MariaDB server, which is stopped and started again in the middle."""

    def __init__(self, events: int, seed: int, landing: str) -> None:
        transactions = max(120, min(events // EVENTS_PER_TRANSACTION, 2_000))
        self._config = mariadb_workload.WorkloadConfig(seed=seed, transactions=transactions)
        self._server = MariaDbServer(Path(landing) / "mariadb")
        self.name = "mariadb"
        self.description = f"binary log of a MariaDB server ({transactions:,} transactions, seed {seed})"
        self.steps = WORKLOAD_STEPS

    def __enter__(self) -> Self:
        install()
        self._server.start()
        with self._server.app.connect() as connection:
            mariadb_workload.prepare(connection, self._config)
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop()

    def changes(self) -> ChangesResource:
        """The server as a source; its password goes through the environment of this process."""
        login = self._server.reader
        os.environ[PASSWORD_VARIABLE] = login.password
        return MariaDbResource(
            host=login.host,
            port=str(login.port),
            user=login.user,
            database="sales",
            password_variable=PASSWORD_VARIABLE,
        )

    def advance(self) -> Iterator[int]:
        """Run a twelfth of the transactions at a time; the server restarts in the middle."""
        size = -(-self._config.transactions // self.steps)
        while (done := self._done()) < self._config.transactions:
            if done // size == self.steps // 2:
                self._server.stop()
                self._server.start()
            with self._server.app.connect() as connection:
                progress = mariadb_workload.run(connection, self._config, transactions=size - done % size)
            yield -(-progress.transactions // size)

    def compare(self, catalog: Catalog) -> list[Finding]:
        """The APP tables, held against plain SQL on the source database."""
        with self._server.app.connect() as connection:
            expected = expected_app(connection)
        return [
            _app_finding(catalog, SPRINT_PERFORMANCE, expected.sprint_performance),
            _app_finding(catalog, MEMBER_GROWTH, expected.member_growth),
        ]

    def _done(self) -> int:
        with self._server.app.connect() as connection:
            return mariadb_workload.progress_of(connection).transactions


def _app_finding(catalog: Catalog, table: AppTable, expected: Rows) -> Finding:
    rows: pl.DataFrame = catalog.table(table.name).scan().collect()
    return Finding(name=f"{table.name} ({rows.height:,} rows)", differences=compare(table, expected, rows))

"""A real database as a feed: transactions on a private server of MariaDB, MySQL or PostgreSQL, read from its log."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Final, Self

from lakehouse_assets.resources import ChangesResource
from lakehouse_assets.sources.change_source import ChangeSource
from lakehouse_demo import sql_workload
from lakehouse_demo.app_tables import MEMBER_GROWTH, SPRINT_PERFORMANCE
from lakehouse_demo.feeds import FeedFacts, Finding, app_finding
from lakehouse_demo.mariadb import MariaDbServer
from lakehouse_demo.mysql import MySqlServer
from lakehouse_demo.postgres import PostgresServer
from lakehouse_demo.private_server import PrivateServer
from lakehouse_demo.sql_truth import expected_app
from lakehouse_demo.sql_workload import WorkloadConfig
from storage_engine import Catalog

SERVERS: Final[Mapping[str, type[PrivateServer]]] = {
    "mariadb": MariaDbServer,
    "mysql": MySqlServer,
    "postgres": PostgresServer,
}
STEPS: Final = 12
EVENTS_PER_TRANSACTION: Final = 10
TRANSACTIONS_MIN: Final = 2 * STEPS


class ServerChanges(ChangesResource):
    """A private server's log; who may read it, and where, stands in the server's folder."""

    kind: str
    folder: str

    def source(self) -> ChangeSource:
        """The server as a source."""
        return SERVERS[self.kind](self.folder).source()


def workload(events: int, seed: int) -> WorkloadConfig:
    """A workload with about so many changed rows."""
    return WorkloadConfig(seed=seed, transactions=max(TRANSACTIONS_MIN, events // EVENTS_PER_TRANSACTION))


class ServerFeed:
    """A workload on the server of a folder, which is stopped and started again in the middle; ``kind``: of ``SERVERS``."""

    def __init__(self, kind: str, config: WorkloadConfig, folder: Path, *, steps: int = STEPS) -> None:
        self._kind = kind
        self._config = config
        self._steps = steps
        self._server = SERVERS[kind](folder)

    @property
    def facts(self) -> FeedFacts:
        """The workload in words."""
        config = self._config
        transactions = f"{config.transactions:,} transactions (seed {config.seed})"
        return FeedFacts(
            name=self._kind,
            description=f"{transactions} on a {self._server.title} server in {self._server.folder}",
            truth="plain SQL on the source database",
            steps=self._steps,
            identity={"source": self._kind, **asdict(config)},
        )

    def __enter__(self) -> Self:
        """Install the server where it is absent, start it, fill it. Raises ServerMissing and ServerFailed."""
        self._server.install()
        self._server.start()
        with self._server.app.connect() as connection:
            sql_workload.prepare(connection, self._config, self._server.dialect)
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop()

    def changes(self) -> ChangesResource:
        """The server as a source."""
        return ServerChanges(kind=self._kind, folder=str(self._server.folder))

    def advance(self) -> Iterator[int]:
        """Read what stands there, then run part after part of the workload.

        In the middle the server goes and comes back while a part that nobody has read yet is in its log alone.
        """
        if self._done() == 0:
            yield 0
        for step in range(1, self._steps + 1):
            missing = self._config.transactions * step // self._steps - self._done()
            if missing <= 0:
                continue
            with self._server.app.connect() as connection:
                sql_workload.run(connection, self._config, self._server.dialect, transactions=missing)
            if step == self._steps // 2:
                self._server.stop()
                self._server.start()
            yield step

    def compare(self, catalog: Catalog) -> list[Finding]:
        """The APP tables, held against plain SQL on the source database."""
        with self._server.app.connect() as connection:
            expected = expected_app(connection, self._server.dialect)
        return [
            app_finding(catalog, SPRINT_PERFORMANCE, expected.sprint_performance),
            app_finding(catalog, MEMBER_GROWTH, expected.member_growth),
        ]

    def _done(self) -> int:
        with self._server.app.connect() as connection:
            return sql_workload.progress_of(connection).transactions

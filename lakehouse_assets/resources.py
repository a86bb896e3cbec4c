"""Resources: the warehouse, and where its changes come from. Plain strings; secrets stay in environment variables."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from typing import Any, Final

import dagster as dg
from pydantic import Field

from lakehouse_assets.ingest import Ingester, Ingestion
from lakehouse_assets.sources.change_source import ChangeSource
from lakehouse_assets.sources.landing import LandingSource
from lakehouse_assets.sources.mariadb_changes import MariaDbChanges
from lakehouse_assets.sources.mariadb_connection import MariaDbConnection
from lakehouse_assets.stream.declaration import Stream
from lakehouse_assets.stream.runner import StreamRunner
from storage_engine import Catalog, Table
from storage_engine.errors import InvalidInput

_lock: Final = threading.Lock()
_catalogs: Final[dict[tuple[str, str, tuple[tuple[str, str], ...]], Catalog]] = {}
_runners: Final[dict[tuple[int, str, int], StreamRunner]] = {}


class LakehouseResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """A warehouse: any fsspec URL.

    Holds no handle and no secret: options whose values are secret are named in ``secret_options`` (option → name of
    the environment variable that holds its value) and looked up when the warehouse is opened. One process opens a
    warehouse once.
    """

    warehouse: str = Field(description="URL of the warehouse, such as s3://bucket/prefix or a folder")
    options: dict[str, str] = Field(default={}, description="Options for fsspec that are no secrets")
    secret_options: dict[str, str] = Field(
        default={}, description="Options for fsspec: option → environment variable that holds its value"
    )
    ddl: str = Field(
        default="", description="CREATE … IF NOT EXISTS statements, run when a process opens the warehouse"
    )

    def catalog(self) -> Catalog:
        """The warehouse's catalog. Raises InvalidInput if an environment variable is not set, and what ``ddl`` raises."""
        options = tuple(sorted({**self.options, **self.secret_options}.items()))
        key = (self.warehouse, self.ddl, options)
        with _lock:
            if key not in _catalogs:
                catalog = Catalog(self.warehouse, {**self.options, **_values_of(self.secret_options)})
                if self.ddl:
                    catalog.execute(self.ddl)
                _catalogs[key] = catalog
            return _catalogs[key]

    def table(self, name: str) -> Table:
        """A table, ``layer.name``. Raises TableNotFound."""
        return self.catalog().table(name)

    def runner(self, stream: Stream) -> StreamRunner:
        """The stream's runner, with the lookup caches that this thread of the process already has."""
        catalog = self.catalog()
        key = (id(catalog), stream.name, threading.get_ident())
        with _lock:
            known = _runners.get(key)
        if known is None or known.stream is not stream:
            known = StreamRunner(catalog, stream)
            with _lock:
                _runners[key] = known
        return known


class ChangesResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """Where the changes of the source tables come from."""

    def source(self) -> ChangeSource:
        """The source, opened."""
        raise NotImplementedError

    def ingester(self, lakehouse: LakehouseResource, ingestions: tuple[Ingestion, ...]) -> Ingester:
        """Lands the source's changes in the warehouse."""
        return Ingester(lakehouse.catalog(), self.source(), ingestions)


class LandingResource(ChangesResource):
    """A folder in which change files land."""

    folder: str = Field(description="URL of the landing folder")

    def source(self) -> ChangeSource:
        """The folder as a source."""
        return LandingSource(self.folder)


class MariaDbResource(ChangesResource):
    """A MariaDB server whose binary log is read."""

    host: str = "127.0.0.1"
    port: str = "3306"
    user: str = "reader"
    database: str = "sales"
    password_variable: str = Field(
        default="LAKEHOUSE_MARIADB_PASSWORD", description="Environment variable that holds the password"
    )

    def source(self) -> ChangeSource:
        """The server as a source. Raises InvalidInput if the password's variable is not set."""
        connection = MariaDbConnection(
            host=self.host,
            port=int(self.port),
            user=self.user,
            password=_values_of({"password": self.password_variable})["password"],
            database=self.database,
        )
        return MariaDbChanges(connection)


def _values_of(variables: Mapping[str, str]) -> dict[str, Any]:
    missing = [variable for variable in variables.values() if variable not in os.environ]
    if missing:
        raise InvalidInput(f"environment variable {missing[0]} is not set")
    return {option: os.environ[variable] for option, variable in variables.items()}

"""Resources: the warehouse, and where its changes come from. Plain strings; secrets stay in environment variables."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, ClassVar, Final, cast

import dagster as dg
from pydantic import Field

from lakehouse_assets.ingest import BlamingIngestions, Ingester, Ingestion
from lakehouse_assets.sources.change_source import ChangeSource
from lakehouse_assets.sources.kafka.avro_values import AvroFormat
from lakehouse_assets.sources.kafka.changes import JsonFormat, KafkaChanges, Start
from lakehouse_assets.sources.kafka.connection import KafkaConnection, SchemaRegistry
from lakehouse_assets.sources.landing import LandingSource
from lakehouse_assets.sources.mysql.changes import MySqlChanges
from lakehouse_assets.sources.mysql.connection import MySqlConnection
from lakehouse_assets.sources.postgres.changes import PostgresChanges
from lakehouse_assets.sources.postgres.connection import PostgresConnection
from lakehouse_assets.stream.declaration import Stream
from lakehouse_assets.stream.runner import StreamRunner
from storage_engine import Catalog, Table
from storage_engine.errors import InvalidInput

KAFKA_FORMATS: Final = ("json", "debezium-json", "avro", "debezium-avro")

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
        with BlamingIngestions(*ingestions):
            source = self.source()
        return Ingester(lakehouse.catalog(), source, ingestions)


class LandingResource(ChangesResource):
    """A folder in which change files land."""

    folder: str = Field(description="URL of the landing folder")
    options: dict[str, str] = Field(default={}, description="Options for fsspec that are no secrets")
    secret_options: dict[str, str] = Field(
        default={}, description="Options for fsspec: option → environment variable that holds its value"
    )

    def source(self) -> ChangeSource:
        """The folder as a source. Raises InvalidInput if an environment variable is not set."""
        return LandingSource(self.folder, {**self.options, **_values_of(self.secret_options)})


class KafkaResource(ChangesResource):
    """A Kafka cluster whose topics are tables."""

    servers: str = Field(default="127.0.0.1:9092", description="host:port, several separated by commas")
    format: str = Field(default="debezium-json", description=f"One of {', '.join(KAFKA_FORMATS)}")
    prefix: str = Field(default="", description="What topics' names have before the tables' names")
    start: str = Field(default="earliest", description="Where new tables begin: earliest, latest, or an ISO time (UTC)")
    settings: dict[str, str] = Field(default={}, description="librdkafka properties that are no secrets")
    secret_settings: dict[str, str] = Field(
        default={}, description="librdkafka properties: property → environment variable that holds its value"
    )
    registry: str = Field(default="", description="URL of a schema registry, for Avro")
    registry_user: str = ""
    registry_password_variable: str = Field(default="", description="Environment variable of the registry's password")
    avro_schemas: dict[str, str] = Field(
        default={}, description="Without a registry: table of the source → its Avro schema as JSON"
    )

    def source(self) -> ChangeSource:
        """The cluster as a source. Raises InvalidInput if a variable is not set, or a field has no such value."""
        if self.format not in KAFKA_FORMATS:
            raise InvalidInput(f"Kafka format {self.format!r} is unknown; known: {', '.join(KAFKA_FORMATS)}")
        connection = KafkaConnection(
            servers=self.servers, settings=self.settings, secrets=_values_of(self.secret_settings)
        )
        chosen = self._avro() if self.format.endswith("avro") else cast("JsonFormat", self.format)
        return KafkaChanges(connection, format=chosen, prefix=self.prefix, start=_start(self.start))

    def _avro(self) -> AvroFormat:
        registry = None
        if self.registry:
            variable = self.registry_password_variable
            password = _values_of({"password": variable})["password"] if variable else None
            registry = SchemaRegistry(url=self.registry, user=self.registry_user or None, password=password)
        return AvroFormat(
            registry=registry,
            schemas={topic: json.loads(schema) for topic, schema in self.avro_schemas.items()},
            envelope=self.format.startswith("debezium"),
        )


def _start(text: str) -> Start:
    if text in ("earliest", "latest"):
        return cast("Start", text)
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise InvalidInput(f"start {text!r} is neither earliest, latest nor an ISO time") from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


class MySqlResource(ChangesResource):
    """A MySQL server whose binary log is read, or a MariaDB server: which of them it is, it tells itself."""

    host: str = "127.0.0.1"
    port: str = "3306"
    user: str = "reader"
    database: str = "sales"
    password_variable: str = Field(
        default="LAKEHOUSE_MYSQL_PASSWORD", description="Environment variable that holds the password"
    )
    _server: ClassVar[str] = "MySQL"

    def source(self) -> ChangeSource:
        """The server as a source. Raises InvalidInput if the password's variable is not set."""
        connection = MySqlConnection(
            host=self.host,
            port=int(self.port),
            user=self.user,
            password=_values_of({"password": self.password_variable})["password"],
            database=self.database,
            server=self._server,
        )
        return MySqlChanges(connection)


class MariaDbResource(MySqlResource):
    """A MariaDB server whose binary log is read."""

    password_variable: str = Field(
        default="LAKEHOUSE_MARIADB_PASSWORD", description="Environment variable that holds the password"
    )
    _server: ClassVar[str] = "MariaDB"


class PostgresResource(ChangesResource):
    """A PostgreSQL server whose logical replication is read."""

    host: str = "127.0.0.1"
    port: str = "5432"
    user: str = "reader"
    database: str = "sales"
    sslmode: str = "prefer"
    slot: str = Field(default="lakehouse", description="The replication slot; it is made if it is not there")
    publication: str = Field(default="lakehouse", description="The publication of exactly the tables that are read")
    password_variable: str = Field(
        default="LAKEHOUSE_POSTGRES_PASSWORD", description="Environment variable that holds the password"
    )

    def source(self) -> ChangeSource:
        """The server as a source. Raises InvalidInput if the password's variable is not set."""
        connection = PostgresConnection(
            host=self.host,
            port=int(self.port),
            user=self.user,
            password=_values_of({"password": self.password_variable})["password"],
            database=self.database,
            sslmode=self.sslmode,
        )
        return PostgresChanges(connection, slot=self.slot, publication=self.publication)


def _values_of(variables: Mapping[str, str]) -> dict[str, Any]:
    missing = [variable for variable in variables.values() if variable not in os.environ]
    if missing:
        raise InvalidInput(f"environment variable {missing[0]} is not set")
    return {option: os.environ[variable] for option, variable in variables.items()}

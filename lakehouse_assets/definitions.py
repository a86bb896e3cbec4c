"""The code location: binds assets, resources, sensors and schedules, and nothing else.

| environment variable | default | |
|---|---|---|
| ``LAKEHOUSE_WAREHOUSE`` | ``./warehouse`` | URL of the warehouse |
| ``LAKEHOUSE_SOURCE`` | ``files`` | ``files``, ``kafka``, ``mariadb``, ``mysql`` or ``postgres`` |
| ``LAKEHOUSE_LANDING`` | ``./landing`` | folder in which change files land |
| ``LAKEHOUSE_KAFKA_SERVERS``, ``_FORMAT``, ``_PREFIX``, ``_START``, ``_REGISTRY`` | | the cluster, if changes come from it |
| ``LAKEHOUSE_KAFKA_SECURITY``, ``_MECHANISM``, ``_USER``, ``_PASSWORD`` | | how it is reached |
| ``LAKEHOUSE_MARIADB_HOST``, ``_PORT``, ``_USER``, ``_DATABASE`` | | the server, if changes come from it |
| ``LAKEHOUSE_MARIADB_PASSWORD`` | | its password |
| ``LAKEHOUSE_MYSQL_HOST``, ``_PORT``, ``_USER``, ``_DATABASE``, ``_PASSWORD`` | | likewise |
| ``LAKEHOUSE_STREAM_MODE`` | ``micro-batch`` | how streams run: ``batch``, ``micro-batch`` or ``continuous`` |
| ``LAKEHOUSE_POSTGRES_HOST``, ``_PORT``, ``_USER``, ``_DATABASE``, ``_SSLMODE``, ``_SLOT``, ``_PUBLICATION`` | | likewise |
| ``LAKEHOUSE_POSTGRES_PASSWORD`` | | its password |
| ``LAKEHOUSE_START_DATE`` | ``2024-01-01`` | first day with a partition |
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

import dagster as dg

from lakehouse_assets.resources import (
    ChangesResource,
    KafkaResource,
    LakehouseResource,
    LandingResource,
    MariaDbResource,
    MySqlResource,
    PostgresResource,
)
from lakehouse_assets.sprint.assets import SPRINT, SprintLakehouse
from lakehouse_assets.stream.modes import MODES, Mode
from storage_engine.errors import InvalidInput


def build_definitions(
    lakehouse: LakehouseResource, changes: ChangesResource, *, mode: Mode = "micro-batch"
) -> dg.Definitions:
    """The project on a warehouse and a source of changes."""
    return replace(SPRINT, mode=mode).definitions(lakehouse, changes)


def _mode(environment: Mapping[str, str]) -> Mode:
    """Raises InvalidInput for a mode that there is not."""
    name = environment.get("LAKEHOUSE_STREAM_MODE", "micro-batch")
    found: Mode | None = next((mode for mode in MODES if mode == name), None)
    if found is None:
        raise InvalidInput(f"LAKEHOUSE_STREAM_MODE is {name!r}; expected one of {', '.join(MODES)}")
    return found


def _kafka(environment: Mapping[str, str]) -> ChangesResource:
    user = environment.get("LAKEHOUSE_KAFKA_USER", "")
    login = {"sasl.username": user, "sasl.mechanism": environment.get("LAKEHOUSE_KAFKA_MECHANISM", "PLAIN")}
    return KafkaResource(
        servers=environment.get("LAKEHOUSE_KAFKA_SERVERS", "127.0.0.1:9092"),
        format=environment.get("LAKEHOUSE_KAFKA_FORMAT", "debezium-json"),
        prefix=environment.get("LAKEHOUSE_KAFKA_PREFIX", ""),
        start=environment.get("LAKEHOUSE_KAFKA_START", "earliest"),
        registry=environment.get("LAKEHOUSE_KAFKA_REGISTRY", ""),
        settings={
            "security.protocol": environment.get("LAKEHOUSE_KAFKA_SECURITY", "PLAINTEXT"),
            **(login if user else {}),
        },
        secret_settings={"sasl.password": "LAKEHOUSE_KAFKA_PASSWORD"} if user else {},
    )


def _landing(environment: Mapping[str, str]) -> ChangesResource:
    return LandingResource(folder=environment.get("LAKEHOUSE_LANDING", "./landing"))


def _mariadb(environment: Mapping[str, str]) -> ChangesResource:
    return MariaDbResource(**_log_settings(environment, "LAKEHOUSE_MARIADB"))


def _mysql(environment: Mapping[str, str]) -> ChangesResource:
    return MySqlResource(**_log_settings(environment, "LAKEHOUSE_MYSQL"))


def _log_settings(environment: Mapping[str, str], prefix: str) -> dict[str, Any]:
    return {
        "host": environment.get(f"{prefix}_HOST", "127.0.0.1"),
        "port": environment.get(f"{prefix}_PORT", "3306"),
        "user": environment.get(f"{prefix}_USER", "reader"),
        "database": environment.get(f"{prefix}_DATABASE", "sales"),
    }


def _postgres(environment: Mapping[str, str]) -> ChangesResource:
    return PostgresResource(
        host=environment.get("LAKEHOUSE_POSTGRES_HOST", "127.0.0.1"),
        port=environment.get("LAKEHOUSE_POSTGRES_PORT", "5432"),
        user=environment.get("LAKEHOUSE_POSTGRES_USER", "reader"),
        database=environment.get("LAKEHOUSE_POSTGRES_DATABASE", "sales"),
        sslmode=environment.get("LAKEHOUSE_POSTGRES_SSLMODE", "prefer"),
        slot=environment.get("LAKEHOUSE_POSTGRES_SLOT", "lakehouse"),
        publication=environment.get("LAKEHOUSE_POSTGRES_PUBLICATION", "lakehouse"),
    )


SOURCES: Final[Mapping[str, Callable[[Mapping[str, str]], ChangesResource]]] = {
    "files": _landing,
    "kafka": _kafka,
    "mariadb": _mariadb,
    "mysql": _mysql,
    "postgres": _postgres,
}


def changes_of(environment: Mapping[str, str]) -> ChangesResource:
    """The source of changes that an environment names. Raises InvalidInput for one that is not known."""
    chosen = environment.get("LAKEHOUSE_SOURCE", "files")
    if chosen not in SOURCES:
        raise InvalidInput(f"LAKEHOUSE_SOURCE is {chosen!r}; known: {', '.join(SOURCES)}")
    return SOURCES[chosen](environment)


def definitions_of(environment: Mapping[str, str]) -> dg.Definitions:
    """The project as an environment's variables describe it. Raises InvalidInput for a source or mode there is not."""
    return build_definitions(
        SprintLakehouse(warehouse=environment.get("LAKEHOUSE_WAREHOUSE", "./warehouse")),
        changes_of(environment),
        mode=_mode(environment),
    )


defs = definitions_of(os.environ)

"""The code location: binds assets, resources, sensors and schedules, and nothing else.

| environment variable | default | |
|---|---|---|
| ``LAKEHOUSE_WAREHOUSE`` | ``./warehouse`` | URL of the warehouse |
| ``LAKEHOUSE_SOURCE`` | ``files`` | ``files`` or ``mariadb`` |
| ``LAKEHOUSE_LANDING`` | ``./landing`` | folder in which change files land |
| ``LAKEHOUSE_MARIADB_HOST``, ``_PORT``, ``_USER``, ``_DATABASE`` | | the server, if changes come from it |
| ``LAKEHOUSE_MARIADB_PASSWORD`` | | its password |
| ``LAKEHOUSE_START_DATE`` | ``2024-01-01`` | first day with a partition |
"""

from __future__ import annotations

import os
from collections.abc import Mapping

import dagster as dg

from lakehouse_assets.resources import ChangesResource, LakehouseResource, LandingResource, MariaDbResource
from lakehouse_assets.sprint.assets import SPRINT, SprintLakehouse


def build_definitions(lakehouse: LakehouseResource, changes: ChangesResource) -> dg.Definitions:
    """The project on a warehouse and a source of changes."""
    return SPRINT.definitions(lakehouse, changes)


def _changes(environment: Mapping[str, str]) -> ChangesResource:
    if environment.get("LAKEHOUSE_SOURCE", "files") == "mariadb":
        return MariaDbResource(
            host=environment.get("LAKEHOUSE_MARIADB_HOST", "127.0.0.1"),
            port=environment.get("LAKEHOUSE_MARIADB_PORT", "3306"),
            user=environment.get("LAKEHOUSE_MARIADB_USER", "reader"),
            database=environment.get("LAKEHOUSE_MARIADB_DATABASE", "sales"),
        )
    return LandingResource(folder=environment.get("LAKEHOUSE_LANDING", "./landing"))


defs = build_definitions(
    SprintLakehouse(warehouse=os.environ.get("LAKEHOUSE_WAREHOUSE", "./warehouse")), _changes(os.environ)
)

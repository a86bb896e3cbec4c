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

import dagster as dg

from lakehouse_assets.automation import ingest_sensor, sensors_of
from lakehouse_assets.io_manager import LakehouseIOManager
from lakehouse_assets.maintenance import UPKEEP, upkeep_asset, upkeep_schedule
from lakehouse_assets.resources import ChangesResource, LakehouseResource, LandingResource, MariaDbResource
from lakehouse_assets.schedules import audit_schedule, repair_schedule
from lakehouse_assets.sprint.assets import ASSET_CHECKS, ASSETS, DAYS, SprintLakehouse
from lakehouse_assets.sprint.ods import INGESTIONS
from lakehouse_assets.sprint.tables import STREAMS, TABLES

_ENV = os.environ


def build_definitions(lakehouse: LakehouseResource, changes: ChangesResource) -> dg.Definitions:
    """All assets, sensors and schedules on a warehouse and a source of changes."""
    return dg.Definitions(
        assets=[*ASSETS, *(upkeep_asset(upkeep, list(TABLES)) for upkeep in UPKEEP)],
        asset_checks=ASSET_CHECKS,
        sensors=[ingest_sensor("sales", INGESTIONS), *sensors_of(STREAMS)],
        schedules=[
            *(upkeep_schedule(upkeep) for upkeep in UPKEEP),
            repair_schedule(["dwd.member_order", "app.sprint_performance"], DAYS),
            audit_schedule(list(TABLES)),
        ],
        resources={
            "lakehouse": lakehouse,
            "changes": changes,
            "io_manager": LakehouseIOManager(lakehouse=lakehouse),
        },
        executor=dg.in_process_executor,
    )


def _changes() -> ChangesResource:
    if _ENV.get("LAKEHOUSE_SOURCE", "files") == "mariadb":
        return MariaDbResource(
            host=_ENV.get("LAKEHOUSE_MARIADB_HOST", "127.0.0.1"),
            port=_ENV.get("LAKEHOUSE_MARIADB_PORT", "3306"),
            user=_ENV.get("LAKEHOUSE_MARIADB_USER", "reader"),
            database=_ENV.get("LAKEHOUSE_MARIADB_DATABASE", "sales"),
        )
    return LandingResource(folder=_ENV.get("LAKEHOUSE_LANDING", "./landing"))


defs = build_definitions(SprintLakehouse(warehouse=_ENV.get("LAKEHOUSE_WAREHOUSE", "./warehouse")), _changes())

"""The project's tables and streams as Dagster sees them."""

from __future__ import annotations

import os
from typing import Final

import dagster as dg

from lakehouse_assets.ingest import QUARANTINE
from lakehouse_assets.metadata import asset_key, definition_metadata
from lakehouse_assets.reporting import TableAsset
from lakehouse_assets.resources import LakehouseResource
from lakehouse_assets.sprint.checks import CHECKS
from lakehouse_assets.sprint.ods import INGESTIONS
from lakehouse_assets.sprint.tables import STREAMS, TABLES, create_tables
from lakehouse_assets.stream_assets import ingest_asset, stream_asset
from lakehouse_assets.table_assets import landed_table_asset, table_asset, table_check
from storage_engine import Catalog

START_VARIABLE: Final = "LAKEHOUSE_START_DATE"
START: Final = os.environ.get(START_VARIABLE, "2024-01-01")
"""The first day that has a partition."""

DAYS: Final = dg.DailyPartitionsDefinition(start_date=START, end_offset=1)
MONTHS: Final = dg.MonthlyPartitionsDefinition(start_date=START[:7], fmt="%Y-%m", end_offset=1)
"""Both include the running day and month, which streams write."""

_PARTITIONS: Final = {"v_date": DAYS, "v_month": MONTHS}


class SprintLakehouse(LakehouseResource):
    """The warehouse with the project's tables, which are created where they are missing."""

    def prepare(self, catalog: Catalog) -> None:
        """Create the tables that are missing."""
        create_tables(catalog)


def _table(name: str) -> TableAsset:
    schema = TABLES[name]
    column = next((column for column in schema.primary_keys if column in _PARTITIONS), None)
    return TableAsset(
        name=name,
        schema=schema,
        partitions=None if column is None else _PARTITIONS[column],
        partition_column=column,
        checks=CHECKS[name],
    )


TABLE_ASSETS: Final = {name: _table(name) for name in TABLES}

QUARANTINE_SPEC: Final = dg.AssetSpec(
    key=asset_key(QUARANTINE),
    group_name="ods",
    kinds={"paimon", "polars"},
    owners=["team:lakehouse"],
    description=f"{TABLES[QUARANTINE].comment}. Every ingestion writes what it refuses here.",
    metadata=definition_metadata(QUARANTINE, TABLES[QUARANTINE], partition_column=None),
)

ASSETS: Final[tuple[dg.AssetsDefinition | dg.AssetSpec, ...]] = (
    ingest_asset(INGESTIONS, TABLE_ASSETS),
    *(stream_asset(stream, TABLE_ASSETS[stream.target]) for stream in STREAMS),
    *(landed_table_asset(ingestion, TABLE_ASSETS) for ingestion in INGESTIONS),
    *(table_asset(stream, TABLE_ASSETS) for stream in STREAMS),
    QUARANTINE_SPEC,
)

ASSET_CHECKS: Final = tuple(
    table_check(table, name, check) for table in TABLE_ASSETS.values() for name, check in table.checks.items()
)

"""What runs tell Dagster about tables: which partitions they touched, the table's state, its checks.

A stream's run is not a run of the table's asset, so it writes the table's events itself.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import dagster as dg

from lakehouse_assets.checks import Check, Outcome
from lakehouse_assets.metadata import Metadata, asset_key, partition_row_counts, table_metadata
from lakehouse_assets.resources import LakehouseResource
from storage_engine import Snapshot
from storage_engine.spec.schema import TableSchema

PARTITION_EVENTS_MAX: Final = 62
"""Events that one report writes at most for touched partitions, the newest partitions first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TableAsset:
    """A table as Dagster sees it: its definition, its partitions if it has any, its checks.

    ``partitions`` are those of the asset; ``partition_column`` holds their keys. ``freshness``: how old its newest event
    may be.
    """

    name: str
    schema: TableSchema
    partitions: dg.TimeWindowPartitionsDefinition | None = None
    partition_column: str | None = None
    checks: Mapping[str, Check] = field(default_factory=dict)
    freshness: dg.FreshnessPolicy | None = None

    @property
    def key(self) -> dg.AssetKey:
        """The key of the table's asset."""
        return asset_key(self.name)

    @property
    def layer(self) -> str:
        """The layer: group of the asset, and database of the table."""
        return self.name.partition(".")[0]


def data_version(snapshot: Snapshot) -> dict[str, str]:
    """The tag that makes a snapshot's id the data version of an event."""
    return {"dagster/data_version": str(snapshot.id)}


def report_table(
    context: dg.AssetExecutionContext,
    lakehouse: LakehouseResource,
    table: TableAsset,
    *,
    snapshot: Snapshot,
    touched: tuple[Mapping[str, object], ...],
    numbers: Metadata,
) -> None:
    """Write a materialization of a table's asset for each partition that a commit touched."""
    opened = lakehouse.table(table.name)
    keys = _partition_keys(table, touched)
    counts = partition_row_counts(opened, table.partition_column) if keys and table.partition_column else {}
    rows = sum(counts.values()) if counts else None
    metadata = {**table_metadata(opened, warehouse=lakehouse.warehouse, rows=rows), **numbers}
    for key in keys or (None,):
        own = {} if key is None else {"dagster/partition_row_count": counts.get(key, 0)}
        context.log_event(
            dg.AssetMaterialization(table.key, partition=key, metadata={**metadata, **own}, tags=data_version(snapshot))
        )


def report_checks(context: dg.AssetExecutionContext, lakehouse: LakehouseResource, table: TableAsset) -> None:
    """Evaluate a table's checks, and write what came out."""
    for name, check in table.checks.items():
        outcome = check.run(lakehouse.catalog())
        context.log_event(
            dg.AssetCheckEvaluation(
                asset_key=table.key,
                check_name=name,
                passed=outcome.passed,
                description=outcome.description,
                metadata=dict(outcome.numbers),
                severity=dg.AssetCheckSeverity.WARN if outcome.warning else dg.AssetCheckSeverity.ERROR,
            )
        )


def check_result(outcome: Outcome) -> dg.AssetCheckResult:
    """An outcome as the result of an asset check."""
    return dg.AssetCheckResult(
        passed=outcome.passed,
        description=outcome.description,
        metadata=dict(outcome.numbers),
        severity=dg.AssetCheckSeverity.WARN if outcome.warning else dg.AssetCheckSeverity.ERROR,
    )


def _partition_keys(table: TableAsset, touched: tuple[Mapping[str, object], ...]) -> list[str]:
    """The keys of touched partitions that the asset knows, the newest ones."""
    if table.partitions is None or table.partition_column is None:
        return []
    keys = {str(partition[table.partition_column]) for partition in touched if table.partition_column in partition}
    known = [key for key in keys if table.partitions.has_partition_key(key)]
    return sorted(known)[-PARTITION_EVENTS_MAX:]

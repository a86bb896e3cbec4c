"""Table assets: ``<layer>/<table>`` is the table itself; materializing it is a repair.

The stream's runs report to it which partitions they touched. Materializing some of its partitions recomputes them, in
one run and one commit, while the stream goes on.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import dagster as dg
import polars as pl
from pydantic import Field

from lakehouse_assets.checks import Check
from lakehouse_assets.ingest import Ingestion
from lakehouse_assets.metadata import (
    Metadata,
    asset_key,
    audit_metadata,
    batch_metadata,
    column_lineage,
    column_origins,
    definition_metadata,
    lineage_markdown,
    repair_metadata,
)
from lakehouse_assets.reporting import TableAsset, check_result, data_version, report_table
from lakehouse_assets.resources import ChangesResource, LakehouseResource
from lakehouse_assets.stream.audit import audited_repair
from lakehouse_assets.stream.declaration import Stream, of_one_target, sources_of
from lakehouse_assets.stream.repair import repair
from storage_engine import Snapshot

KINDS: Final = {"paimon", "polars"}
OWNERS: Final = ("team:lakehouse",)

DIRECT: Final = "direct"
AUDITED: Final = "audited"


class RepairConfig(dg.Config):
    """``whole``: recompute the whole table from its source as it is now, and let the stream go on from there.

    The way back when changes have expired, or were removed at the source, before the stream has read them; rows that the
    source no longer has are deleted. The run's partitions do not matter then.
    """

    whole: bool = False


class AuditedRepairConfig(RepairConfig):
    """``publish``: "direct", or "audited": write to a branch, run the table's checks there, publish if they pass."""

    publish: str = Field(default=DIRECT, pattern=f"^({DIRECT}|{AUDITED})$")


def table_asset(stream: Stream | Sequence[Stream], tables: Mapping[str, TableAsset]) -> dg.AssetsDefinition:
    """A table that a stream fills, or several."""
    streams = of_one_target(stream)
    table = tables[streams[0].target]
    driving = [each.source for each in streams]
    origins = column_origins(
        streams, table.schema.column_names, {source: tables[source].schema.column_names for source in driving}
    )

    @dg.asset(
        key=table.key,
        deps=[asset_key(source) for source in sources_of(streams)],
        group_name=table.layer,
        kinds=KINDS,
        owners=OWNERS,
        pool=table.name,
        partitions_def=table.partitions,
        freshness_policy=table.freshness,
        backfill_policy=_single_run(table),
        description=(
            f"{table.schema.comment}. {' '.join(each.description for each in streams)}\n\nFilled by"
            f" `stream/{table.name.replace('.', '/')}`. Materializing recomputes it from"
            f" {', '.join(f'`{source}`' for source in dict.fromkeys(driving))}, in one commit and while the stream goes on."
        ),
        metadata={
            **definition_metadata(table.name, table.schema, partition_column=table.partition_column),
            "dagster/column_lineage": column_lineage(origins),
            "lineage": dg.MetadataValue.md(lineage_markdown(origins)),
        },
    )
    def repaired(
        context: dg.AssetExecutionContext, config: AuditedRepairConfig, lakehouse: LakehouseResource
    ) -> Iterator[dg.MaterializeResult[Any]]:
        whole = config.whole or table.partitions is None
        values = None if whole else list(context.partition_keys)
        if config.publish == AUDITED:
            yield from _audited(context, lakehouse, table, streams, values)
            return
        result = repair(lakehouse.catalog(), streams, values)
        yield from _materialized(context, lakehouse, table, result.snapshot, repair_metadata(result))

    return repaired


def landed_table_asset(ingestion: Ingestion, tables: Mapping[str, TableAsset]) -> dg.AssetsDefinition:
    """A table that mirrors one of the source."""
    table = tables[ingestion.target]

    @dg.asset(
        key=table.key,
        group_name=table.layer,
        kinds=KINDS,
        owners=OWNERS,
        pool=table.name,
        partitions_def=table.partitions,
        freshness_policy=table.freshness,
        backfill_policy=_single_run(table),
        description=(
            f"{table.schema.comment}.\n\nFilled by `stream/{table.name.replace('.', '/')}`. Materializing upserts all that"
            " the source still has; the order of events decides which row of a key stays. With `whole: true` it takes a"
            " new snapshot: rows that the source no longer has are deleted, and the stream goes on from there."
        ),
        metadata=definition_metadata(table.name, table.schema, partition_column=table.partition_column),
    )
    def reloaded(
        context: dg.AssetExecutionContext, config: RepairConfig, lakehouse: LakehouseResource, changes: ChangesResource
    ) -> Iterator[dg.MaterializeResult[Any]]:
        ingester = changes.ingester(lakehouse, (ingestion,))
        if config.whole:
            whole = ingester.resnapshot(ingestion)
            yield from _materialized(context, lakehouse, table, whole.snapshot, batch_metadata(whole))
            return
        predicate = None
        if table.partitions is not None and table.partition_column is not None:
            predicate = pl.col(table.partition_column).is_in(list(context.partition_keys))
        ingester.run_batch()
        result = ingester.reload(ingestion, predicate)
        numbers = {} if result is None else batch_metadata(result)
        yield from _materialized(context, lakehouse, table, None if result is None else result.snapshot, numbers)

    return reloaded


def table_check(table: TableAsset, name: str, check: Check) -> dg.AssetChecksDefinition:
    """A check of a table, to be run from its page or by a schedule; the streams' runs evaluate the same."""

    @dg.asset_check(asset=table.key, name=name, description=check.description)
    def checked(lakehouse: LakehouseResource) -> dg.AssetCheckResult:
        return check_result(check.run(lakehouse.catalog()))

    return checked


def _audited(
    context: dg.AssetExecutionContext,
    lakehouse: LakehouseResource,
    table: TableAsset,
    streams: Sequence[Stream],
    values: list[str] | None,
) -> Iterator[dg.MaterializeResult[Any]]:
    """A repair by write, audit and publish. Raises Failure, which shows the difference, if a check failed."""
    result = audited_repair(lakehouse.catalog(), streams, table.checks, values)
    metadata = audit_metadata(result)
    if result.repaired is None:
        raise dg.Failure(
            f"{table.name}: {', '.join(result.failed)} failed on branch {result.branch}; main is as it was",
            metadata=metadata,
            allow_retries=False,
        )
    yield from _materialized(context, lakehouse, table, result.repaired.snapshot, metadata)


def _single_run(table: TableAsset) -> dg.BackfillPolicy | None:
    return None if table.partitions is None else dg.BackfillPolicy.single_run()


def _materialized(
    context: dg.AssetExecutionContext,
    lakehouse: LakehouseResource,
    table: TableAsset,
    snapshot: Snapshot | None,
    numbers: Metadata,
) -> Iterator[dg.MaterializeResult[Any]]:
    """The run's result first, then each partition's own numbers: the last event of a partition counts."""
    latest = snapshot or lakehouse.table(table.name).latest_snapshot()
    if latest is None:
        yield dg.MaterializeResult(asset_key=table.key, metadata=numbers)
        return
    yield dg.MaterializeResult(asset_key=table.key, metadata=numbers, tags=data_version(latest))
    keys = context.partition_keys if table.partitions is not None else ()
    touched = tuple({table.partition_column or "": key} for key in keys)
    report_table(context, lakehouse, table, snapshot=latest, touched=touched, numbers=numbers)

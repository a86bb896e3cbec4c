"""Batch statements as assets: ``repair/<layer>/<table>`` writes the rows of some partitions once, beside the stream."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

import dagster as dg

from lakehouse_assets.batch_insert import BatchInsert
from lakehouse_assets.metadata import asset_key, repair_metadata
from lakehouse_assets.reporting import TableAsset, data_version, report_table
from lakehouse_assets.resources import LakehouseResource

GROUP: Final = "repair"


def batch_key(batch: BatchInsert) -> dg.AssetKey:
    """The key of a batch statement's asset."""
    return dg.AssetKey([GROUP, *batch.target.split(".")])


def batch_asset(batch: BatchInsert, tables: Mapping[str, TableAsset]) -> dg.AssetsDefinition:
    """The asset of a batch statement: a range of its partitions is one run and one commit.

    Where the asset has partitions, the run's take the place of those that the statement names.
    """
    table = tables[batch.target]
    key = batch_key(batch)
    named = ", ".join(f"`{source}`" for source in dict.fromkeys(query.stream.source for query in batch.queries))
    partitions = table.partitions if table.partition_column == batch.column else None

    @dg.asset(
        key=key,
        deps=[asset_key(source) for source in batch.sources],
        group_name=GROUP,
        kinds={"paimon", "polars"},
        owners=("team:lakehouse",),
        pool=table.name,
        partitions_def=partitions,
        backfill_policy=None if partitions is None else dg.BackfillPolicy.single_run(),
        description=(
            f"Writes rows of {named} into `{batch.target}`, once and in one commit,"
            f" {'in place of whole partitions' if batch.overwrite else 'as upserts'}. {batch.stream.description}"
        ),
        metadata={"dagster/table_name": batch.target},
    )
    def written(context: dg.AssetExecutionContext, lakehouse: LakehouseResource) -> Iterator[dg.MaterializeResult[Any]]:
        result = batch.run(lakehouse.catalog(), None if partitions is None else list(context.partition_keys))
        numbers = repair_metadata(result)
        if result.snapshot is not None:
            report_table(
                context, lakehouse, table, snapshot=result.snapshot, touched=result.partitions, numbers=numbers
            )
        tags = None if result.snapshot is None else data_version(result.snapshot)
        yield dg.MaterializeResult(asset_key=key, metadata=numbers, tags=tags)

    return written

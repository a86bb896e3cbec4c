"""Stream assets: ``stream/<layer>/<table>`` moves a table on by micro-batches, exactly once.

They have no partitions; their pages plot every batch. The offsets stand in the tables, so a run may be retried,
repeated, launched twice or killed at any moment.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import dagster as dg

from lakehouse_assets.ingest import Ingestion
from lakehouse_assets.metadata import batch_metadata
from lakehouse_assets.reporting import TableAsset, data_version, report_checks, report_table
from lakehouse_assets.resources import ChangesResource, LakehouseResource
from lakehouse_assets.stream.declaration import Stream
from lakehouse_assets.stream.runner import BatchResult, StreamRunner

GROUP: Final = "stream"
KINDS: Final = {"paimon", "polars"}
OWNERS: Final = ("team:lakehouse",)
POLL_S: Final = 0.05


class StreamConfig(dg.Config):
    """How long a stream's run goes on.

    ``max_batches``: batches of one run at most. ``seconds``: look for changes for as long, and end when it is over (0:
    end as soon as there are none). ``upto``: last snapshot of the driving source to read. ``report_idle``: report a
    materialization even if there was nothing to do, so that steps below run in the same run. ``evaluate_checks``:
    evaluate the table's checks at the end.
    """

    max_batches: int = 1_000
    seconds: float = 0.0
    upto: int | None = None
    report_idle: bool = False
    evaluate_checks: bool = True


def stream_key(table: str) -> dg.AssetKey:
    """The key of the stream asset that fills a table."""
    return dg.AssetKey(["stream", *table.split(".")])


def stream_asset(
    stream: Stream, table: TableAsset, *, automation_condition: dg.AutomationCondition[Any] | None = None
) -> dg.AssetsDefinition:
    """The asset that moves a stream on: each run takes what is there, batch by batch."""
    key = stream_key(stream.target)

    @dg.asset(
        key=key,
        deps=[stream_key(source) for source in stream.sources],
        group_name=GROUP,
        kinds=KINDS,
        owners=OWNERS,
        pool=stream.target,
        output_required=False,
        automation_condition=automation_condition,
        description=f"Micro-batches `{stream.source}` → `{stream.target}`. {stream.description}",
        metadata={"dagster/table_name": stream.target, "reads": stream.reads},
    )
    def moved(
        context: dg.AssetExecutionContext, config: StreamConfig, lakehouse: LakehouseResource
    ) -> Iterator[dg.MaterializeResult[Any]]:
        last: BatchResult | None = None
        for result in _batches(lakehouse.runner(stream), config):
            if last is not None:
                context.log_event(
                    dg.AssetMaterialization(key, metadata=batch_metadata(last), tags=data_version(last.snapshot))
                )
            _report(context, lakehouse, table, result)
            last = result
        if last is not None and config.evaluate_checks:
            report_checks(context, lakehouse, table)
        if last is not None or config.report_idle:
            yield _materialized(key, last)

    return moved


def ingest_asset(
    ingestions: Sequence[Ingestion],
    tables: Mapping[str, TableAsset],
    *,
    automation_condition: dg.AutomationCondition[Any] | None = None,
) -> dg.AssetsDefinition:
    """One step that lands the source's changes in all its tables, each with its own commit and position."""
    by_key = {stream_key(each.target): each for each in ingestions}

    @dg.multi_asset(
        name="ingest",
        specs=[
            dg.AssetSpec(
                key=key,
                group_name=GROUP,
                kinds=KINDS,
                owners=OWNERS,
                skippable=True,
                automation_condition=automation_condition,
                description=f"Micro-batches of the source's table `{each.source_table}` → `{each.target}`.",
                metadata={"dagster/table_name": each.target},
            )
            for key, each in by_key.items()
        ],
        can_subset=True,
        pool="ingest",
    )
    def ingest(
        context: dg.AssetExecutionContext, config: StreamConfig, lakehouse: LakehouseResource, changes: ChangesResource
    ) -> Iterator[dg.MaterializeResult[Any]]:
        chosen = {key: each for key, each in by_key.items() if key in context.selected_asset_keys}
        ingester = changes.ingester(lakehouse, tuple(chosen.values()))
        last: dict[str, BatchResult] = {}
        for _ in range(config.max_batches):
            results = ingester.run_batch()
            for result in results:
                _report(context, lakehouse, tables[result.target], result)
                last[result.target] = result
            if not results:
                break
        for key, each in chosen.items():
            if each.target in last and config.evaluate_checks:
                report_checks(context, lakehouse, tables[each.target])
            if each.target in last or config.report_idle:
                yield _materialized(key, last.get(each.target))

    return ingest


def _batches(runner: StreamRunner, config: StreamConfig) -> Iterator[BatchResult]:
    """Batches until there is nothing to do, the time is over, or there were enough."""
    until = time.monotonic() + config.seconds
    batches = 0
    while batches < config.max_batches:
        result = runner.run_batch(upto=config.upto)
        if result is not None:
            batches += 1
            yield result
        elif time.monotonic() < until:
            time.sleep(POLL_S)
        else:
            return


def _report(
    context: dg.AssetExecutionContext, lakehouse: LakehouseResource, table: TableAsset, result: BatchResult
) -> None:
    numbers = {"rows_read": result.rows_read, "rows_rejected": result.rows_rejected, "commit_ms": result.commit_ms}
    report_table(context, lakehouse, table, snapshot=result.snapshot, touched=result.partitions, numbers=numbers)


def _materialized(key: dg.AssetKey, result: BatchResult | None) -> dg.MaterializeResult[Any]:
    if result is None:
        return dg.MaterializeResult(asset_key=key)
    return dg.MaterializeResult(asset_key=key, metadata=batch_metadata(result), tags=data_version(result.snapshot))

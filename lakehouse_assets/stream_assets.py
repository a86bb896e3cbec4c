"""Stream assets: ``stream/<layer>/<table>`` moves a table on by micro-batches, exactly once.

They have no partitions; their pages plot every batch. The offsets stand in the tables, so a run may be retried,
repeated, launched twice or killed at any moment.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import dagster as dg

from lakehouse_assets.batch_reports import BatchReports
from lakehouse_assets.ingest import Ingestion
from lakehouse_assets.ingest_mover import IngestMover
from lakehouse_assets.reporting import TableAsset
from lakehouse_assets.resources import ChangesResource, LakehouseResource
from lakehouse_assets.stream.declaration import Stream, of_one_target, sources_of
from lakehouse_assets.stream.lanes import TROUBLE, Mover
from lakehouse_assets.stream.loop import Limits, Loop, StreamMover, lasting
from storage_engine.errors import InvalidInput, told

GROUP: Final = "stream"
KINDS: Final = {"paimon", "polars"}
OWNERS: Final = ("team:lakehouse",)


class StreamConfig(dg.Config):
    """How long a stream's run goes on.

    ``max_batches``: batches of one run at most. ``seconds``: look for changes for as long, and end when it is over (0:
    end as soon as there are none). ``linger_seconds``: end only when there were none for as long; a run that lingers
    makes way for any run that is queued. ``window_seconds``: end then in any case. ``upto``: last snapshot of the driving
    source to read. ``report_seconds``: batches that follow each other more quickly share an event. ``report_idle``: report
    a materialization even if there was nothing to do, so that steps below run in the same run. ``evaluate_checks``:
    evaluate the table's checks at the end.
    """

    max_batches: int = 1_000
    seconds: float = 0.0
    linger_seconds: float = 0.0
    window_seconds: float | None = None
    upto: int | None = None
    report_seconds: float = 0.0
    report_idle: bool = False
    evaluate_checks: bool = True


def stream_key(table: str) -> dg.AssetKey:
    """The key of the stream asset that fills a table."""
    return dg.AssetKey(["stream", *table.split(".")])


def stream_asset(
    stream: Stream | Sequence[Stream],
    table: TableAsset,
    *,
    automation_condition: dg.AutomationCondition[Any] | None = None,
) -> dg.AssetsDefinition:
    """The asset that moves a stream, or all streams of a target, on: each run takes what is there, batch by batch."""
    streams = of_one_target(stream)
    target = streams[0].target
    key = stream_key(target)

    @dg.asset(
        key=key,
        deps=[stream_key(source) for source in sources_of(streams)],
        group_name=GROUP,
        kinds=KINDS,
        owners=OWNERS,
        pool=target,
        output_required=False,
        automation_condition=automation_condition,
        description="\n\n".join(f"Micro-batches `{each.source}` → `{target}`. {each.description}" for each in streams),
        metadata={"dagster/table_name": target, "reads": ", ".join(dict.fromkeys(each.reads for each in streams))},
    )
    def moved(
        context: dg.AssetExecutionContext, config: StreamConfig, lakehouse: LakehouseResource
    ) -> Iterator[dg.MaterializeResult[Any]]:
        if config.upto is not None and len(streams) > 1:
            raise InvalidInput(f"upto is a snapshot of one source, and {len(streams)} streams fill {target}")
        movers = [StreamMover(lakehouse.runner(each), upto=config.upto) for each in streams]
        reports = BatchReports(context, lakehouse, {table.name: table}, stream_key, every_s=config.report_seconds)
        yield from _moved(context, config, movers, reports, [target])

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
        reports = BatchReports(context, lakehouse, tables, stream_key, every_s=config.report_seconds)
        mover = IngestMover(ingester)
        yield from _moved(context, config, [mover], reports, [each.target for each in chosen.values()])

    return ingest


def _moved(
    context: dg.AssetExecutionContext,
    config: StreamConfig,
    movers: Sequence[Mover],
    reports: BatchReports,
    targets: Sequence[str],
) -> Iterator[dg.MaterializeResult[Any]]:
    """Move on as far and as long as the configuration says, and tell Dagster. Of several, one that fails stops no other."""
    limits = Limits(
        seconds=config.seconds,
        linger_s=config.linger_seconds,
        window_s=config.window_seconds,
        max_batches=config.max_batches,
        make_way=(lambda: others_wait(context.instance)) if config.linger_seconds else (lambda: False),
    )
    loop = Loop(
        movers,
        limits,
        tolerant=len(movers) > 1,
        on_error=lambda mover, error: context.log.error(f"{mover.name}: {told(error)}"),
        on_idle=reports.idle,
    )
    error: Exception | None = None
    try:
        for result in loop.results():
            reports.note(result)
    except TROUBLE as trouble:
        error = trouble
    error = error or lasting(loop.troubles.values())
    yield from reports.ended(targets, checks=config.evaluate_checks and error is None, report_idle=config.report_idle)
    if error is not None:
        raise error


def others_wait(instance: dg.DagsterInstance) -> bool:
    """Whether a run is queued that a lingering one may be keeping from its slot or its pool."""
    return bool(instance.get_runs_count(dg.RunsFilter(statuses=[dg.DagsterRunStatus.QUEUED])))

"""Continuous streams: a run that moves ingestion and streams on all the time, and the sensor that keeps it alive.

The run holds the continuous streams of a project in one process, in the order in which data flows, so that a change
passes the layers within milliseconds; a project may give some of them a run of their own. It ends after a window and its
successor takes over while it is still alive: offsets stand in the tables, so runs that overlap, or are killed, change nothing
twice. A stream that fails is tried again, ever later, while the others go on.
"""

import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import dagster as dg

from lakehouse_assets.automation import ACTIVE, STREAM_TAG, hindrance
from lakehouse_assets.batch_reports import BatchReports
from lakehouse_assets.ingest import Ingestion
from lakehouse_assets.ingest_mover import IngestMover
from lakehouse_assets.reporting import TableAsset
from lakehouse_assets.resources import ChangesResource, LakehouseResource
from lakehouse_assets.stream.back_pressure import Follower, held_back
from lakehouse_assets.stream.declaration import Stream, by_target, sources_of
from lakehouse_assets.stream.lanes import Mover
from lakehouse_assets.stream.loop import Limits, Loop, StreamMover, lasting
from lakehouse_assets.stream_assets import GROUP, KINDS, OWNERS, stream_key
from storage_engine.errors import told

STEP: Final = "continuous"
WINDOW_S: Final = 600.0
HANDOVER_S: Final = 30.0
"""A successor is asked for so long before a window ends: a run needs some seconds to come up."""
GRACE_S: Final = 300
SETTLED_S: Final = 3.0
"""A run that has been started for so long is moving streams."""
LOOK_FOR_SUCCESSOR_S: Final = 2.0
LOADED_TAG: Final = "lakehouse/loaded"
LOADED: Final = uuid.uuid4().hex[:12]
"""The code that this process has loaded: a run of other code is followed by a successor at once."""


class ContinuousConfig(dg.Config):
    """``window_seconds``: how long the run lives. ``report_seconds``: batches of a table that follow each other more quickly
    share an event. ``checks_seconds``: how often the tables' checks are evaluated meanwhile. ``abreast``: so many of ingestion
    and streams move at a time, each with a batch in memory.
    """

    window_seconds: float = WINDOW_S
    report_seconds: float = 1.0
    checks_seconds: float = 60.0
    abreast: int = 2


@dataclass(frozen=True, kw_only=True)
class Continuous:
    """What one continuous run moves: ``name`` is that of the project, ``part`` the run's own if it has several.

    ``followers``: streams that read this run's targets, and that other runs move on.
    """

    name: str
    tables: Mapping[str, TableAsset]
    ingestions: Sequence[Ingestion] = ()
    streams: Sequence[Stream] = ()
    part: str = ""
    followers: Sequence[Stream] = ()

    @property
    def targets(self) -> list[str]:
        """The tables that are filled, in the order in which data flows."""
        return [*(each.target for each in self.ingestions), *by_target(self.streams)]

    @property
    def keys(self) -> list[dg.AssetKey]:
        """The stream assets of ``targets``."""
        return [stream_key(target) for target in self.targets]

    @property
    def full_name(self) -> str:
        """The project's name, with the part's."""
        return f"{self.name}_{self.part}" if self.part else self.name

    @property
    def step(self) -> str:
        """The name of the step that its run executes."""
        return f"{STEP}_{self.part}" if self.part else STEP

    @property
    def tag(self) -> str:
        """What marks its runs."""
        return f"continuous-{self.full_name}"

    def specs(self) -> list[dg.AssetSpec]:
        """The specs of its assets."""
        descriptions = {
            each.target: f"Lands the source's table `{each.source_table}` in `{each.target}`, continuously."
            for each in self.ingestions
        }
        filling = by_target(self.streams)
        descriptions |= {
            target: "\n\n".join(
                f"Moves `{each.source}` → `{target}`, continuously. {each.description}" for each in streams
            )
            for target, streams in filling.items()
        }
        deps = {target: [stream_key(each) for each in sources_of(streams)] for target, streams in filling.items()}
        return [
            dg.AssetSpec(
                key=stream_key(target),
                deps=deps.get(target, []),
                group_name=GROUP,
                kinds=KINDS,
                owners=OWNERS,
                skippable=True,
                description=description,
                metadata={"dagster/table_name": target, "mode": "continuous"},
            )
            for target, description in descriptions.items()
        ]


def continuous_asset(continuous: Continuous) -> dg.AssetsDefinition:
    """The step that moves all continuous streams; any of them may be run alone, too.

    It is in no pool: a repair of one of its tables need not wait for the window's end.
    """

    def run(
        context: dg.AssetExecutionContext,
        config: ContinuousConfig,
        lakehouse: LakehouseResource,
        changes: ChangesResource | None,
    ) -> Iterator[dg.MaterializeResult[Any]]:
        chosen = context.selected_asset_keys
        targets = [target for target in continuous.targets if stream_key(target) in chosen]
        reports = BatchReports(
            context,
            lakehouse,
            continuous.tables,
            stream_key,
            every_s=config.report_seconds,
            checks_every_s=config.checks_seconds,
        )
        limits = Limits(
            seconds=config.window_seconds,
            window_s=config.window_seconds,
            make_way=lambda: has_successor(context.instance, continuous.tag, context.run.run_id),
            make_way_every_s=LOOK_FOR_SUCCESSOR_S,
        )
        loop = Loop(
            movers_of(continuous, targets, lakehouse, changes),
            limits,
            tolerant=True,
            on_error=lambda mover, error: context.log.error(f"{mover.name}: {told(error)}"),
            on_idle=reports.idle,
            abreast=config.abreast,
        )
        for result in loop.results():
            reports.note(result)
        yield from reports.ended(targets, checks=False, report_idle=False)
        if (error := lasting(loop.troubles.values())) is not None:
            raise error

    return _step(continuous, run)


def _step(continuous: Continuous, run: Callable[..., Iterator[dg.MaterializeResult[Any]]]) -> dg.AssetsDefinition:
    """The step with the resources that it needs: a project without ingestion needs no source of changes."""
    decorate = dg.multi_asset(name=continuous.step, specs=continuous.specs(), can_subset=True)
    if not continuous.ingestions:

        @decorate
        def between_tables(
            context: dg.AssetExecutionContext, config: ContinuousConfig, lakehouse: LakehouseResource
        ) -> Iterator[dg.MaterializeResult[Any]]:
            yield from run(context, config, lakehouse, None)

        return between_tables

    @decorate
    def from_source(
        context: dg.AssetExecutionContext,
        config: ContinuousConfig,
        lakehouse: LakehouseResource,
        changes: ChangesResource,
    ) -> Iterator[dg.MaterializeResult[Any]]:
        yield from run(context, config, lakehouse, changes)

    return from_source


def movers_of(
    continuous: Continuous, targets: Sequence[str], lakehouse: LakehouseResource, changes: ChangesResource | None
) -> list[Mover]:
    """What fills some of a run's targets, in the order in which data flows. Raises TableNotFound and InvalidStream."""
    movers: list[Mover] = []
    ingestions = tuple(each for each in continuous.ingestions if each.target in targets)
    if ingestions and changes is not None:
        movers.append(IngestMover(changes.ingester(lakehouse, ingestions)))
    movers += [StreamMover(lakehouse.runner(stream)) for stream in continuous.streams if stream.target in targets]
    return [held_back(mover, _followers(continuous, mover, lakehouse)) for mover in movers]


def _followers(continuous: Continuous, mover: Mover, lakehouse: LakehouseResource) -> Iterator[Follower]:
    """Those that another run moves on from a mover's targets."""
    for stream in continuous.followers:
        for source in mover.targets & set(stream.driving):
            yield Follower(table=lakehouse.table(source), stream=stream)


def continuous_sensor(
    continuous: Continuous,
    *,
    status: dg.DefaultSensorStatus = dg.DefaultSensorStatus.RUNNING,
    window_s: float = WINDOW_S,
    interval_seconds: int = 5,
) -> dg.SensorDefinition:
    """Keeps exactly one continuous run alive: asks for one if there is none, and for a successor in time."""

    @dg.sensor(
        name=f"{continuous.full_name}_continuous",
        asset_selection=continuous.keys,
        default_status=status,
        minimum_interval_seconds=interval_seconds,
        description=f"Keeps one run alive that moves {len(continuous.keys)} streams continuously.",
    )
    def alive(context: dg.SensorEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        reason = why_not(context.instance, continuous.tag, window_s=window_s)
        if reason is not None:
            return dg.SkipReason(reason)
        return dg.RunRequest(
            asset_selection=continuous.keys,
            run_config={"ops": {continuous.step: {"config": {"window_seconds": window_s}}}},
            tags={
                STREAM_TAG: continuous.tag,
                LOADED_TAG: LOADED,
                "dagster/max_runtime": str(round(window_s) + GRACE_S),
            },
        )

    return alive


def why_not(instance: dg.DagsterInstance, tag: str, *, window_s: float) -> str | None:
    """Why no run is to be asked for; None if there is none, or the only one is about to end or runs other code."""
    records = instance.get_run_records(dg.RunsFilter(tags={STREAM_TAG: tag}, statuses=list(ACTIVE)))
    if not records:
        return hindrance(instance, tag)
    if len(records) > 1:
        return f"{len(records)} runs are alive; the older one is handing over"
    (record,) = records
    run, started = record.dagster_run, record.start_time
    if started is None:
        return f"run {run.run_id[:8]} is {run.status.value.lower()}"
    left_s = started + window_s - time.time()
    if run.tags.get(LOADED_TAG, LOADED) != LOADED or left_s <= HANDOVER_S:
        return None
    return f"run {run.run_id[:8]} is alive for {left_s:.0f} s more"


def has_successor(instance: dg.DagsterInstance, tag: str, run_id: str) -> bool:
    """Whether a run that was created later is moving the same streams."""
    started = instance.get_run_records(
        dg.RunsFilter(tags={STREAM_TAG: tag}, statuses=[dg.DagsterRunStatus.STARTED]), limit=10
    )
    mine = next((record for record in started if record.dagster_run.run_id == run_id), None)
    if mine is None:
        return False
    return any(
        record.create_timestamp > mine.create_timestamp
        and record.start_time is not None
        and time.time() - record.start_time >= SETTLED_S
        for record in started
    )

"""What starts the streams: level-triggered sensors, and the same as an automation condition.

A sensor asks whether there *is* something to do, not whether something happened: the source is ahead of what the
target's own snapshot says, and no run is on it. So no cursor and no run key can be lost or used up, a failed run is
asked for again (ever later), and a commit of any other engine counts as well.
"""

import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import dagster as dg

from lakehouse_assets.ingest import Ingestion
from lakehouse_assets.ingest_mover import IngestMover
from lakehouse_assets.look_out import LOOK_OUT_S, POLL_S, look_out
from lakehouse_assets.resources import ChangesResource, LakehouseResource
from lakehouse_assets.sources.errors import SourceUnavailable
from lakehouse_assets.stream.declaration import Stream, by_target, of_one_target, sources_of
from lakehouse_assets.stream.lanes import Mover
from lakehouse_assets.stream.loop import StreamMover
from lakehouse_assets.stream_assets import stream_key

T = TypeVar("T")

STREAM_TAG: Final = "lakehouse/stream"
SLICE_TAG: Final = "lakehouse/slice"
LINGER_S: Final = 30.0
"""A micro-batch's run stays as long after the last change: what follows soon is landed within milliseconds."""
WINDOW_S: Final = 600.0
RUN_TAGS: Final = {"dagster/max_runtime": "900"}
"""Run monitoring ends runs whose process has died, so that the next one can start."""
ACTIVE: Final = (
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
)
FIRST_PAUSE_S: Final = 10.0
LONGEST_PAUSE_S: Final = 600.0
LONGEST_PAUSE_AFTER_DEATH_S: Final = 20.0
"""Where runs did not fail by what they do, but lost their process, there is less reason to wait."""
_REASON_TAG: Final = "dagster/failure_reason"
_DEATHS: Final = (None, "UNEXPECTED_TERMINATION", "START_TIMEOUT", "RUN_WORKER_RESTART")
RUNS_LOOKED_AT: Final = 10
INGEST_POLL_S: Final = 0.5
"""A look at a source may cost a connection."""
INTERVAL_S: Final = 1
"""Dagster's daemon asks every five seconds at most; a longer interval here would now and then miss one of them."""


def stream_sensor(
    stream: Stream | Sequence[Stream],
    *,
    status: dg.DefaultSensorStatus = dg.DefaultSensorStatus.RUNNING,
    interval_seconds: int = INTERVAL_S,
    linger_seconds: float = LINGER_S,
    look_out_seconds: float = LOOK_OUT_S,
) -> dg.SensorDefinition:
    """Asks for a run of a target's streams whenever a source is ahead of what the target has consumed.

    The run goes on until there were no changes for ``linger_seconds``, or another run is queued. A tick that finds
    nothing looks out for ``look_out_seconds``.
    """
    streams = of_one_target(stream)
    target, name, sources = streams[0].target, streams[0].only_name, ", ".join(sources_of(streams))
    key = stream_key(target)

    @dg.sensor(
        name=f"{target.replace('.', '_')}_stream",
        asset_selection=[key],
        default_status=status,
        minimum_interval_seconds=interval_seconds,
        description=f"Runs {key.to_user_string()} when {sources} has changes that it has not read.",
    )
    def ahead(context: dg.SensorEvaluationContext, lakehouse: LakehouseResource) -> dg.RunRequest | dg.SkipReason:
        if (busy := hindrance(context.instance, name)) is not None:
            return dg.SkipReason(busy)
        movers = [StreamMover(lakehouse.runner(each)) for each in streams]
        look = watched(movers, lambda: what_waits(lakehouse, streams))
        found = look_out(look, seconds=look_out_seconds, poll_s=max(POLL_S, *(mover.poll_s for mover in movers)))
        if not found:
            return dg.SkipReason(f"{target} has consumed all changes of {sources}")
        return dg.RunRequest(
            asset_selection=[key],
            run_config=lingering("__".join(key.path), linger_seconds),
            tags={STREAM_TAG: name, SLICE_TAG: found, **RUN_TAGS},
        )

    return ahead


def ingest_sensor(
    name: str,
    ingestions: Sequence[Ingestion],
    *,
    status: dg.DefaultSensorStatus = dg.DefaultSensorStatus.RUNNING,
    interval_seconds: int = INTERVAL_S,
    linger_seconds: float = LINGER_S,
    look_out_seconds: float = LOOK_OUT_S,
) -> dg.SensorDefinition:
    """Asks for a run of the ingestion whenever the source has something that its tables do not have."""
    keys = [stream_key(each.target) for each in ingestions]

    @dg.sensor(
        name=f"{name}_ingestion",
        asset_selection=keys,
        default_status=status,
        minimum_interval_seconds=interval_seconds,
        description="Lands changes when the source has some that its tables do not have.",
    )
    def landed(
        context: dg.SensorEvaluationContext, lakehouse: LakehouseResource, changes: ChangesResource
    ) -> dg.RunRequest | dg.SkipReason:
        if (busy := hindrance(context.instance, name)) is not None:
            return dg.SkipReason(busy)
        ingester = changes.ingester(lakehouse, tuple(ingestions))
        try:
            mover = IngestMover(ingester)
            look = watched([mover], ingester.waiting)
            waiting = look_out(look, seconds=look_out_seconds, poll_s=max(INGEST_POLL_S, mover.poll_s))
        except SourceUnavailable as error:
            return dg.SkipReason(f"{ingester.source.name} is away: {error}")
        if not waiting:
            return dg.SkipReason(f"{ingester.source.name} has nothing new")
        return dg.RunRequest(
            asset_selection=keys,
            run_config=lingering("ingest", linger_seconds),
            tags={STREAM_TAG: name, SLICE_TAG: ", ".join(waiting), **RUN_TAGS},
        )

    return landed


def lingering(step: str, linger_seconds: float) -> dict[str, Any]:
    """The configuration of a run that goes on while changes keep coming."""
    config = {"linger_seconds": linger_seconds, "window_seconds": WINDOW_S, "report_seconds": 1.0}
    return {"ops": {step: {"config": config}}}


def what_waits(lakehouse: LakehouseResource, stream: Stream | Sequence[Stream]) -> str:
    """What a target's streams have to do, in words; empty if nothing."""
    runners = [lakehouse.runner(each) for each in of_one_target(stream)]
    slices = [f"{name} ({news.after},{news.until}]" for runner in runners for name, news in runner.waiting().items()]
    if not slices and any(runner.is_unfinished() for runner in runners):
        return f"{runners[0].stream.target} has a commit without a changelog"
    return ", ".join(slices)


def watched(movers: Sequence[Mover], closely: Callable[[], T]) -> Callable[[], T | None]:
    """Looks closely at first, and then only when a mover's sources have stirred."""
    looked = False

    def look() -> T | None:
        nonlocal looked
        if looked and not any(mover.stirred() for mover in movers):
            return None
        looked = True
        for mover in movers:
            mover.note_seen()
        return closely()

    return look


def hindrance(instance: dg.DagsterInstance, name: str) -> str | None:
    """Why no run of a stream should be asked for now: one is on it, or the last ones failed a moment ago."""
    records = instance.get_run_records(dg.RunsFilter(tags={STREAM_TAG: name}), limit=RUNS_LOOKED_AT)
    for record in records:
        if record.dagster_run.status in ACTIVE:
            return f"run {record.dagster_run.run_id[:8]} is {record.dagster_run.status.value.lower()}"
    failed = [record.dagster_run for record in itertools.takewhile(_has_failed, records)]
    if not failed:
        return None
    pause = pause_s(len(failed), deaths=sum(run.tags.get(_REASON_TAG) in _DEATHS for run in failed))
    wait_s = (records[0].end_time or records[0].update_timestamp.timestamp()) + pause - time.time()
    # A clock that was set back must not make a pause longer.
    return f"{len(failed)} runs failed; trying again in {wait_s:.0f} s" if 0 < wait_s <= pause else None


def _has_failed(record: dg.RunRecord) -> bool:
    return record.dagster_run.status is dg.DagsterRunStatus.FAILURE


def pause_s(failures: int, *, deaths: int = 0) -> float:
    """How long to wait after some runs have failed in a row, of which so many were killed."""
    after_all = min(LONGEST_PAUSE_AFTER_DEATH_S, FIRST_PAUSE_S * 2.0 ** (failures - 1))
    if failures == deaths:
        return after_all
    return max(after_all, min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** (failures - deaths - 1)))


@dataclass(frozen=True)
class SourceAhead(dg.AutomationCondition[dg.AssetKey]):
    """True while the sources of a stream are ahead of its target, whatever has happened between two evaluations.

    For those who automate by conditions rather than by sensors. ``probe`` tells whether there is something to do; it
    runs where the code is, so the automation sensor needs ``use_user_code_server=True``.
    """

    stream: str
    probe: Callable[[], bool]

    @property
    def name(self) -> str:
        """What the automation page calls it."""
        return f"source_ahead({self.stream})"

    def evaluate(self, context: Any) -> dg.AutomationResult[dg.AssetKey]:
        """All of the asset, or nothing."""
        subset = context.candidate_subset if self.probe() else context.get_empty_subset()
        return dg.AutomationResult(context, subset)


def source_ahead(
    stream: Stream | Sequence[Stream], lakehouse: LakehouseResource
) -> dg.AutomationCondition[dg.AssetKey]:
    """``SourceAhead`` of a target's streams, unless they are running already."""
    streams = of_one_target(stream)
    condition = SourceAhead(stream=streams[0].only_name, probe=lambda: bool(what_waits(lakehouse, streams)))
    return condition & ~dg.AutomationCondition.in_progress()


def sensors_of(streams: Sequence[Stream], **settings: Any) -> list[dg.SensorDefinition]:
    """A sensor for each target."""
    return [stream_sensor(each, **settings) for each in by_target(streams).values()]

"""Runs the project's streams through Dagster in this process, as runs of an instance that remembers them."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import dagster as dg

from lakehouse_assets.definitions import build_definitions
from lakehouse_assets.resources import ChangesResource, LakehouseResource
from lakehouse_demo.errors import MicroBatchFailed

CONFIGURATION: Final = "dagster.yaml"
STATE_FOLDER: Final = ".dagster"
DEMO_TAG: Final = "lakehouse/demo"
STREAMS: Final = "stream"
ACTIVE: Final = [
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]
QUIET: Final = {"console": {"config": {"log_level": "CRITICAL"}}}
"""The runs' events stand in the instance; on the terminal they would hide the progress."""
RUN_MAX_S: Final = 900


@dataclass(frozen=True, slots=True, kw_only=True)
class TableNews:
    """What one run did to a table; ``rows_behind``: changes that still wait in its source."""

    rows_read: int = 0
    rows_written: int = 0
    rows_rejected: int = 0
    rows_behind: int = 0
    snapshot: int = 0

    def then(self, later: TableNews) -> TableNews:
        """Both together: what was done since the first began."""
        return TableNews(
            rows_read=self.rows_read + later.rows_read,
            rows_written=self.rows_written + later.rows_written,
            rows_rejected=self.rows_rejected + later.rows_rejected,
            rows_behind=later.rows_behind,
            snapshot=later.snapshot,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class MicroBatch:
    """What one run did, by table (``layer.name``) with news."""

    tables: Mapping[str, TableNews]
    duration_s: float

    @property
    def events(self) -> int:
        """Changes of the source that were read."""
        return self.rows_read("ods") + self.rows_read("dim")

    @property
    def rows_behind(self) -> int:
        """Changes that still wait anywhere."""
        return sum(news.rows_behind for news in self.tables.values())

    def rows_read(self, layer: str) -> int:
        """Changes that the tables of a layer have read."""
        return sum(news.rows_read for name, news in self.tables.items() if name.startswith(f"{layer}."))


@contextmanager
def open_instance() -> Iterator[dg.DagsterInstance]:
    """The instance that ``make ui`` opens in this folder, so that its pages show these runs.

    It is that of ``dagster.yaml`` here; where there is none, its state stands in ``.dagster``.
    """
    home = Path() if Path(CONFIGURATION).exists() else Path(STATE_FOLDER)
    home.mkdir(parents=True, exist_ok=True)
    with dg.DagsterInstance.from_config(str(home.absolute())) as instance:
        yield instance


def end_abandoned_runs(instance: dg.DagsterInstance, label: str) -> None:
    """Tell the instance that runs whose process was killed have ended. REQUIRES: no other process runs such runs."""
    for run in instance.get_runs(dg.RunsFilter(statuses=ACTIVE, tags={DEMO_TAG: label})):
        instance.report_run_canceled(
            run, message="The process of this run was killed; the next run goes on from there."
        )


class MicroBatches:
    """One Dagster run a micro-batch: ingestion and all streams, in the order of the layers."""

    def __init__(
        self, instance: dg.DagsterInstance, lakehouse: LakehouseResource, changes: ChangesResource, *, label: str
    ) -> None:
        """``label``: value of the tag that marks the runs."""
        definitions = build_definitions(lakehouse, changes)
        graph = definitions.resolve_asset_graph()
        self._streams = sorted((key for key in graph.get_all_asset_keys() if key.path[0] == STREAMS), key=str)
        steps = {graph.get(key).assets_def.node_def.name for key in self._streams}
        self._steps = sorted(steps)
        self._instance = instance
        self._tags = {DEMO_TAG: label, "dagster/max_runtime": str(RUN_MAX_S)}
        self._job = definitions.resolve_implicit_global_asset_job_def()

    def run(self, *, evaluate_checks: bool) -> MicroBatch:
        """Take all changes that are there through all layers. Raises MicroBatchFailed."""
        started = time.perf_counter()
        # A step that reports nothing would keep those below it from running.
        config = {"report_idle": True, "evaluate_checks": evaluate_checks}
        result = self._job.execute_in_process(
            run_config={"ops": {step: {"config": config} for step in self._steps}, "loggers": QUIET},
            instance=self._instance,
            asset_selection=self._streams,
            tags=self._tags,
            raise_on_error=False,
        )
        if not result.success:
            raise MicroBatchFailed(_failure(result))
        return MicroBatch(tables=_news(result), duration_s=time.perf_counter() - started)


def _news(result: dg.ExecuteInProcessResult) -> dict[str, TableNews]:
    tables: dict[str, TableNews] = {}
    for event in result.get_asset_materialization_events():
        key, metadata = event.asset_key, event.materialization.metadata
        if key is not None and key.path[0] == STREAMS and "rows_read" in metadata:
            table = ".".join(key.path[1:])
            tables[table] = tables.get(table, TableNews()).then(_one_news(metadata))
    return tables


def _one_news(metadata: Mapping[str, dg.MetadataValue[Any]]) -> TableNews:
    return TableNews(
        **{name: int(str(metadata[name].value)) for name in TableNews.__dataclass_fields__ if name in metadata}
    )


def _failure(result: dg.ExecuteInProcessResult) -> str:
    """The first error of a run, without Dagster's frames around it; what caused it, it has told itself."""
    for event in result.filter_events(lambda event: event.is_step_failure):
        error = event.step_failure_data.error
        while error is not None and error.cause is not None and (error.cls_name or "").startswith("Dagster"):
            error = error.cause
        return f"step {event.step_key}: {'' if error is None else error.message.strip()}"
    return f"run {result.run_id} failed before its first step"

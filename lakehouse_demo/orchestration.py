"""Runs the project's streams through Dagster in this process, as the runs of an instance that remembers them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import dagster as dg

from lakehouse_assets.definitions import build_definitions
from lakehouse_assets.resources import ChangesResource, LakehouseResource

STATE_FOLDER: Final = ".dagster"
DEMO_TAG: Final = "lakehouse/demo"
ACTIVE: Final = [
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


QUIET: Final = {"console": {"config": {"log_level": "CRITICAL"}}}
"""The runs' events stand in the instance; on the terminal they would hide the progress."""


class MicroBatchFailed(RuntimeError):
    """A run failed; the message names its step and its error."""


@contextmanager
def open_instance() -> Iterator[dg.DagsterInstance]:
    """The instance that ``dagster dev`` uses when it is started in this folder: ``DAGSTER_HOME``, else ``./dagster.yaml``.

    Without either, its state stands in ``./.dagster``.
    """
    home = Path(os.environ.get("DAGSTER_HOME") or ("." if Path("dagster.yaml").exists() else STATE_FOLDER)).absolute()
    home.mkdir(parents=True, exist_ok=True)
    with dg.DagsterInstance.from_config(str(home)) as instance:
        yield instance


def end_abandoned_runs(instance: dg.DagsterInstance, *, tags: dict[str, str] | None = None) -> int:
    """Tell the instance that runs whose process was killed have ended; how many there were.

    REQUIRES: no other process runs such runs.
    """
    runs = instance.get_runs(dg.RunsFilter(statuses=ACTIVE, tags=tags or {}))
    for run in runs:
        instance.report_run_canceled(run, message="The process of this run was killed.")
    return len(runs)


class MicroBatches:
    """One Dagster run a micro-batch: ingestion and all streams, in the order of the layers."""

    def __init__(
        self, instance: dg.DagsterInstance, lakehouse: LakehouseResource, changes: ChangesResource, *, label: str
    ) -> None:
        """``label``: value of the tag that marks the runs."""
        definitions = build_definitions(lakehouse, changes)
        self._instance = instance
        self._tags = {DEMO_TAG: label, "dagster/max_runtime": "900"}
        self._job = definitions.resolve_implicit_global_asset_job_def()
        keys = definitions.resolve_asset_graph().get_all_asset_keys()
        self._streams = sorted((key for key in keys if key.path[0] == "stream"), key=str)
        steps = {"ingest", *("__".join(key.path) for key in self._streams if key.path[1] in ("dwd", "app"))}
        # Steps below run in the same run even if a table above had no news.
        self._steps = sorted(steps)

    def run(self, *, evaluate_checks: bool) -> dict[str, int]:
        """Run one micro-batch; rows read by table. Raises MicroBatchFailed."""
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
        return {
            "/".join(event.asset_key.path[1:]): int(str(event.materialization.metadata["rows_read"].value))
            for event in result.get_asset_materialization_events()
            if event.asset_key is not None
            and event.asset_key.path[0] == "stream"
            and "rows_read" in event.materialization.metadata
        }


def _failure(result: dg.ExecuteInProcessResult) -> str:
    for event in result.filter_events(lambda event: event.is_step_failure):
        error = event.step_failure_data.error
        while error is not None and error.cause is not None:
            error = error.cause
        return f"step {event.step_key}: {'' if error is None else error.message.strip()}"
    return "the run failed before its first step"

"""The continuous mode on a real instance: one run alive, a successor in time, overlapping runs, killed ones."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from lakehouse_assets.automation import STREAM_TAG
from lakehouse_assets.continuous import LOADED, LOADED_TAG, STEP, Continuous, continuous_asset, has_successor, why_not
from lakehouse_assets.definitions import build_definitions
from lakehouse_assets.reporting import TableAsset
from lakehouse_assets.resources import LakehouseResource, LandingResource
from lakehouse_assets.sprint.assets import SPRINT, SprintLakehouse
from lakehouse_assets.stream.declaration import Bounds, Stream
from lakehouse_assets.stream.loop import Limits, Loop, StreamMover
from lakehouse_assets.stream.runner import StreamRunner
from lakehouse_demo.events import StreamConfig
from lakehouse_demo.feeds import app_finding
from lakehouse_demo.file_feed import MEMBER_GROWTH, SPRINT_PERFORMANCE
from lakehouse_demo.landing import land
from lakehouse_demo.truth import recompute
from storage_engine import Catalog


def copied(rows: pl.DataFrame) -> pl.DataFrame:
    return rows


def broken(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.select("no_such_column")


A_TO_B = Stream(source="db.a", target="db.b", transform=copied, bounds=Bounds(max_snapshots=2))
B_TO_C = Stream(source="db.b", target="db.c", transform=copied)
A_TO_D = Stream(source="db.a", target="db.d", transform=broken)


@pytest.fixture
def lakehouse(tmp_path: Path) -> LakehouseResource:
    resource = LakehouseResource(warehouse=str(tmp_path / "warehouse"))
    resource.catalog().create_database("db")
    for name in ("db.a", "db.b", "db.c", "db.d"):
        resource.catalog().create_table(
            name, {"id": "BIGINT"}, primary_key=["id"], options={"bucket": "1", "changelog-producer": "lookup"}
        )
    return resource


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.instance_for_test() as instance:
        yield instance


def continuous(lakehouse: LakehouseResource, *streams: Stream) -> dg.Definitions:
    tables = {name: TableAsset(name=name, schema=lakehouse.table(name).schema) for name in ("db.b", "db.c", "db.d")}
    asset = continuous_asset(Continuous(name="test", tables=tables, streams=streams))
    return dg.Definitions(assets=[asset], resources={"lakehouse": lakehouse})


def run(definitions: dg.Definitions, instance: dg.DagsterInstance, seconds: float) -> dg.ExecuteInProcessResult:
    """The continuous run, until its window ends or a successor has taken over."""
    return definitions.resolve_implicit_global_asset_job_def().execute_in_process(
        instance=instance,
        tags={STREAM_TAG: "continuous-test"},
        run_config={"ops": {STEP: {"config": {"window_seconds": seconds, "report_seconds": 0.2}}}},
        raise_on_error=False,
    )


def put(lakehouse: LakehouseResource, *ids: int) -> None:
    lakehouse.table("db.a").write(pl.DataFrame({"id": ids}))


def ids(lakehouse: LakehouseResource, table: str) -> list[int]:
    return lakehouse.table(table).scan().collect()["id"].sort().to_list()


def wait_for(lakehouse: LakehouseResource, table: str, count: int) -> None:
    deadline = time.monotonic() + 60
    while len(ids(lakehouse, table)) < count:
        assert time.monotonic() < deadline, f"{table} has {ids(lakehouse, table)}"
        threading.Event().wait(0.02)


def test_one_run_takes_changes_through_all_layers_as_they_come(
    lakehouse: LakehouseResource, instance: dg.DagsterInstance
) -> None:
    results: list[dg.ExecuteInProcessResult] = []
    definitions = continuous(lakehouse, A_TO_B, B_TO_C)
    worker = threading.Thread(target=lambda: results.append(run(definitions, instance, 600.0)))
    worker.start()
    for number in range(5):
        put(lakehouse, number)
        wait_for(lakehouse, "db.c", number + 1)
    assert worker.is_alive()
    started(instance, seconds_ago=10)
    worker.join()
    assert results[0].success
    events = [event.materialization for event in results[0].get_asset_materialization_events()]
    for name in ("b", "c"):
        told = [event for event in events if event.asset_key == dg.AssetKey(["stream", "db", name])]
        assert sum(int(str(event.metadata["rows_read"].value)) for event in told) == 5
        assert dg.AssetKey(["db", name]) in {event.asset_key for event in events}


def test_overlapping_loops_change_nothing_twice(lakehouse: LakehouseResource) -> None:
    """As a run and its successor do it, each with its own handles on the warehouse."""

    def loop() -> None:
        catalog = Catalog(lakehouse.warehouse)
        movers = [StreamMover(StreamRunner(catalog, stream)) for stream in (A_TO_B, B_TO_C)]
        moved.append(sum(result.rows_read for result in Loop(movers, Limits(linger_s=2.0)).results()))

    moved: list[int] = []
    workers = [threading.Thread(target=loop) for _ in range(2)]
    for worker in workers:
        worker.start()
    for number in range(8):
        put(lakehouse, number)
    for worker in workers:
        worker.join()
    assert ids(lakehouse, "db.c") == list(range(8))
    assert sum(moved) == 16, "each change was moved once through each of two streams"
    assert lakehouse.table("db.c").changes(0).collect().height == 8, "no change came twice"


def test_a_stream_that_fails_does_not_hold_the_others_up(
    lakehouse: LakehouseResource, instance: dg.DagsterInstance
) -> None:
    put(lakehouse, 1)
    result = run(continuous(lakehouse, A_TO_B, A_TO_D, B_TO_C), instance, 3.0)
    assert not result.success
    (failure,) = result.filter_events(lambda event: event.is_step_failure)
    assert "no_such_column" in str(failure.step_failure_data.error)
    assert (ids(lakehouse, "db.c"), ids(lakehouse, "db.d")) == ([1], [])


def started(instance: dg.DagsterInstance, *, loaded: str = LOADED, seconds_ago: float = 0) -> str:
    """A run that is alive as far as the instance knows."""

    @dg.job
    def nothing() -> None:
        pass

    run = instance.create_run_for_job(nothing, tags={STREAM_TAG: "continuous-test", LOADED_TAG: loaded})
    instance.handle_new_event(
        dg.EventLogEntry(
            error_info=None,
            user_message="",
            level="debug",
            run_id=run.run_id,
            timestamp=time.time() - seconds_ago,
            dagster_event=dg.DagsterEvent(event_type_value="PIPELINE_START", job_name="nothing"),
        )
    )
    return run.run_id


def test_exactly_one_run_is_asked_for(instance: dg.DagsterInstance) -> None:
    assert why_not(instance, "continuous-test", window_s=600) is None
    first = started(instance)
    assert "alive" in str(why_not(instance, "continuous-test", window_s=600))
    assert not has_successor(instance, "continuous-test", first)


def test_a_successor_is_asked_for_before_the_window_ends(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = started(instance)
    assert why_not(instance, "continuous-test", window_s=20) is None
    second = started(instance)
    assert "handing over" in str(why_not(instance, "continuous-test", window_s=20))
    now = time.time() + 10
    monkeypatch.setattr("lakehouse_assets.continuous.time.time", lambda: now)
    assert has_successor(instance, "continuous-test", first)
    assert not has_successor(instance, "continuous-test", second)


def test_a_run_of_code_from_before_is_followed_at_once(instance: dg.DagsterInstance) -> None:
    started(instance, loaded="other code")
    assert why_not(instance, "continuous-test", window_s=600) is None


def test_the_whole_project_runs_continuously(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    landing = tmp_path / "landing"
    lakehouse = SprintLakehouse(warehouse=str(tmp_path / "warehouse"))
    changes = LandingResource(folder=str(landing))
    definitions = build_definitions(lakehouse, changes, mode="continuous")
    assert [sensor.name for sensor in definitions.sensors or ()] == ["sales_ingestion_continuous", "sales_continuous"]
    for _ in land(StreamConfig(events=300, slices=2, malformed=4), landing):
        pass
    for each in replace(SPRINT, mode="continuous").continuous_runs():
        result = definitions.resolve_implicit_global_asset_job_def().execute_in_process(
            instance=instance,
            asset_selection=each.keys,
            run_config={"ops": {each.step: {"config": {"window_seconds": 8.0}}}},
        )
        assert result.success
    truth = recompute(landing)
    findings = [
        app_finding(lakehouse.catalog(), SPRINT_PERFORMANCE, truth.sprint_performance),
        app_finding(lakehouse.catalog(), MEMBER_GROWTH, truth.member_growth),
    ]
    assert not any(finding.differences for finding in findings), findings


def test_a_project_in_batches_has_a_schedule_and_no_sensor(tmp_path: Path) -> None:
    lakehouse = SprintLakehouse(warehouse=str(tmp_path))
    definitions = build_definitions(lakehouse, LandingResource(folder=str(tmp_path)), mode="batch")
    assert not list(definitions.sensors or ())
    assert "sales_streams" in {schedule.name for schedule in definitions.schedules or ()}

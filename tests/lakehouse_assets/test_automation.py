"""Sensors and the automation condition, tick by tick: they fire while the source is ahead, and only then."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from lakehouse_assets.automation import (
    FIRST_PAUSE_S,
    LONGEST_PAUSE_AFTER_DEATH_S,
    LONGEST_PAUSE_S,
    STREAM_TAG,
    hindrance,
    ingest_sensor,
    pause_s,
    source_ahead,
    stream_sensor,
)
from lakehouse_assets.definitions import build_definitions
from lakehouse_assets.reporting import TableAsset
from lakehouse_assets.resources import LakehouseResource, LandingResource
from lakehouse_assets.sprint.assets import SPRINT, SprintLakehouse
from lakehouse_assets.stream.declaration import Stream
from lakehouse_assets.stream.runner import run_batch
from lakehouse_assets.stream_assets import stream_asset
from storage_engine import Catalog
from storage_engine.write.table_write import TableWrite
from tests.fakes.faulty_file_io import Killed


def copied(rows: pl.DataFrame) -> pl.DataFrame:
    return rows


STREAM = Stream(source="db.a", target="db.b", transform=copied)
KEY = dg.AssetKey(["stream", "db", "b"])


@pytest.fixture
def lakehouse(tmp_path: Path) -> LakehouseResource:
    resource = LakehouseResource(warehouse=str(tmp_path / "warehouse"))
    resource.catalog().create_database("db")
    for name in ("db.a", "db.b"):
        resource.catalog().create_table(
            name, {"id": "STRING"}, primary_key=["id"], options={"bucket": "1", "changelog-producer": "lookup"}
        )
    return resource


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


def put(lakehouse: LakehouseResource, key: str) -> None:
    lakehouse.table("db.a").write(pl.DataFrame({"id": [key]}))


def tick(
    lakehouse: LakehouseResource, instance: dg.DagsterInstance, *, look_out_seconds: float = 0
) -> dg.RunRequest | str:
    """What a tick of the stream's sensor asks for, or why it does not."""
    asset = stream_asset(STREAM, TableAsset(name="db.b", schema=lakehouse.table("db.b").schema))
    sensor = stream_sensor(STREAM, look_out_seconds=look_out_seconds)
    definitions = dg.Definitions(assets=[asset], sensors=[sensor], resources={"lakehouse": lakehouse})
    with dg.build_sensor_context(
        instance=instance, definitions=definitions, resources={"lakehouse": lakehouse}
    ) as context:
        result = sensor.evaluate_tick(context)
    if result.run_requests:
        (request,) = result.run_requests
        return request
    return str(result.skip_message)


def test_a_sensor_fires_while_the_source_is_ahead(lakehouse: LakehouseResource, instance: dg.DagsterInstance) -> None:
    assert "has consumed all changes" in str(tick(lakehouse, instance))
    put(lakehouse, "1")
    for _ in range(2):
        request = tick(lakehouse, instance)
        assert isinstance(request, dg.RunRequest)
        assert request.asset_selection == [KEY]
        assert request.run_key is None
        assert request.tags[STREAM_TAG] == STREAM.name
        assert request.tags["lakehouse/slice"] == "db.a (0,2]"
    run_batch(lakehouse.catalog(), STREAM)
    assert "has consumed all changes" in str(tick(lakehouse, instance))
    put(lakehouse, "2")
    assert isinstance(tick(lakehouse, instance), dg.RunRequest)


def test_a_commit_without_its_changelog_is_asked_to_be_finished(
    lakehouse: LakehouseResource, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object, **__: object) -> None:
        raise Killed

    put(lakehouse, "1")
    monkeypatch.setattr(TableWrite, "compact", killed)
    with pytest.raises(Killed):
        run_batch(lakehouse.catalog(), STREAM)
    monkeypatch.undo()
    request = tick(lakehouse, instance)
    assert isinstance(request, dg.RunRequest)
    assert "without a changelog" in request.tags["lakehouse/slice"]
    run_batch(lakehouse.catalog(), STREAM)
    assert "has consumed all changes" in str(tick(lakehouse, instance))


def job_run(instance: dg.DagsterInstance, status: dg.DagsterRunStatus, *, reason: str | None = "STEP_FAILURE") -> None:
    @dg.job
    def nothing() -> None:
        pass

    tags = {STREAM_TAG: STREAM.name}
    if status is dg.DagsterRunStatus.FAILURE and reason is not None:
        tags |= {"dagster/failure_reason": reason}
    instance.create_run_for_job(nothing, status=status, tags=tags)


def test_a_run_that_is_on_it_holds_the_sensor_back(lakehouse: LakehouseResource, instance: dg.DagsterInstance) -> None:
    put(lakehouse, "1")
    job_run(instance, dg.DagsterRunStatus.STARTED)
    assert "is started" in str(tick(lakehouse, instance))


def test_failed_runs_are_asked_for_again_ever_later(
    lakehouse: LakehouseResource, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(lakehouse, "1")
    job_run(instance, dg.DagsterRunStatus.FAILURE)
    job_run(instance, dg.DagsterRunStatus.FAILURE)
    assert "2 runs failed" in str(tick(lakehouse, instance))
    ended = instance.get_run_records()[0].update_timestamp.timestamp()
    for now in (ended + pause_s(2) + 1, ended - 3600):  # a clock that was set back makes no pause longer
        monkeypatch.setattr("lakehouse_assets.automation.time.time", lambda now=now: now)
        assert isinstance(tick(lakehouse, instance), dg.RunRequest)


def test_runs_that_were_killed_are_soon_asked_for_again(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    for reason in (None, "START_TIMEOUT", "UNEXPECTED_TERMINATION", "RUN_WORKER_RESTART") * 2:
        job_run(instance, dg.DagsterRunStatus.FAILURE, reason=reason)
    ended = instance.get_run_records()[0].update_timestamp.timestamp()
    monkeypatch.setattr("lakehouse_assets.automation.time.time", lambda: ended + LONGEST_PAUSE_AFTER_DEATH_S - 1)
    assert "8 runs failed" in str(hindrance(instance, STREAM.name))
    monkeypatch.setattr("lakehouse_assets.automation.time.time", lambda: ended + LONGEST_PAUSE_AFTER_DEATH_S + 1)
    assert hindrance(instance, STREAM.name) is None


def test_a_success_ends_the_waiting(instance: dg.DagsterInstance) -> None:
    job_run(instance, dg.DagsterRunStatus.FAILURE)
    job_run(instance, dg.DagsterRunStatus.SUCCESS)
    assert hindrance(instance, STREAM.name) is None


def test_pauses_grow_up_to_a_bound() -> None:
    assert [pause_s(failures) for failures in (1, 2, 3)] == [FIRST_PAUSE_S, 2 * FIRST_PAUSE_S, 4 * FIRST_PAUSE_S]
    assert pause_s(50) == LONGEST_PAUSE_S
    assert pause_s(50, deaths=50) == LONGEST_PAUSE_AFTER_DEATH_S
    assert pause_s(6, deaths=2) == pause_s(4)
    assert pause_s(6, deaths=5) == LONGEST_PAUSE_AFTER_DEATH_S


def test_the_condition_is_true_while_the_source_is_ahead(
    lakehouse: LakehouseResource, instance: dg.DagsterInstance
) -> None:
    table = TableAsset(name="db.b", schema=lakehouse.table("db.b").schema)
    asset = stream_asset(STREAM, table, automation_condition=source_ahead(STREAM, lakehouse))
    definitions = dg.Definitions(assets=[asset], resources={"lakehouse": lakehouse})
    cursor = None

    def requested() -> int:
        nonlocal cursor
        result = dg.evaluate_automation_conditions(defs=definitions, instance=instance, cursor=cursor)
        cursor = result.cursor
        return result.total_requested

    assert requested() == 0
    put(lakehouse, "1")
    assert requested() == 1
    put(lakehouse, "2")
    assert requested() == 1
    assert dg.materialize([asset], resources={"lakehouse": lakehouse}, instance=instance).success
    assert requested() == 0


def test_the_ingestion_sensor_fires_when_a_table_has_files(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    landing = tmp_path / "landing"
    lakehouse = SprintLakehouse(warehouse=str(tmp_path / "warehouse"))
    changes = LandingResource(folder=str(landing))
    definitions = build_definitions(lakehouse, changes)
    resources = {"lakehouse": lakehouse, "changes": changes}

    def evaluate() -> dg.SensorExecutionData:
        with dg.build_sensor_context(instance=instance, definitions=definitions, resources=resources) as context:
            return ingest_sensor("sales", SPRINT.ingestions, look_out_seconds=0).evaluate_tick(context)

    assert "has nothing new" in str(evaluate().skip_message)
    (landing / "city").mkdir(parents=True)
    (landing / "city" / "000001.jsonl").write_text("broken\n")
    (request,) = evaluate().run_requests or ()
    assert dg.AssetKey(["stream", "dim", "city"]) in (request.asset_selection or ())
    assert request.tags["lakehouse/slice"] == "dim.city"


def test_commits_of_others_are_seen(lakehouse: LakehouseResource, instance: dg.DagsterInstance) -> None:
    run_batch(lakehouse.catalog(), STREAM)
    Catalog(lakehouse.warehouse).table("db.a").write(pl.DataFrame({"id": ["elsewhere"]}))
    assert isinstance(tick(lakehouse, instance), dg.RunRequest)


def test_a_tick_looks_out_for_what_comes_while_it_lasts(
    lakehouse: LakehouseResource, instance: dg.DagsterInstance
) -> None:
    run_batch(lakehouse.catalog(), STREAM)
    put(lakehouse, "1")
    run_batch(lakehouse.catalog(), STREAM)
    later = threading.Timer(0.3, put, (lakehouse, "2"))
    later.start()
    request = tick(lakehouse, instance, look_out_seconds=30)
    later.join()
    assert isinstance(request, dg.RunRequest)

"""Projects with several continuous runs: who moves what, and that none gets far ahead of those behind it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from lakehouse_assets.continuous import Continuous, movers_of
from lakehouse_assets.ingest import Ingestion
from lakehouse_assets.project import Project
from lakehouse_assets.resources import LakehouseResource
from lakehouse_assets.sprint.assets import SPRINT
from lakehouse_assets.stream import back_pressure
from lakehouse_assets.stream.back_pressure import MOST_AHEAD, HeldBack
from lakehouse_assets.stream.declaration import Stream
from lakehouse_assets.stream.errors import InvalidStream
from lakehouse_assets.stream.loop import Limits, Loop


def copied(rows: pl.DataFrame) -> pl.DataFrame:
    return rows


A_TO_B = Stream(source="db.a", target="db.b", transform=copied)
B_TO_C = Stream(source="db.b", target="db.c", transform=copied)
DDL = "CREATE DATABASE IF NOT EXISTS db;" + "".join(
    f"CREATE TABLE IF NOT EXISTS db.{name} (id BIGINT, PRIMARY KEY (id) NOT ENFORCED)"
    " WITH ('bucket' = '1', 'changelog-producer' = 'lookup');"
    for name in "abc"
)
CHAIN = Project(name="chain", ddl=DDL, streams=(A_TO_B, B_TO_C), mode="continuous")


@pytest.fixture
def lakehouse(tmp_path: Path) -> LakehouseResource:
    return LakehouseResource(warehouse=str(tmp_path / "warehouse"), ddl=DDL)


def put(lakehouse: LakehouseResource, ids: Sequence[int]) -> None:
    lakehouse.table("db.a").write(pl.DataFrame({"id": ids}, schema={"id": pl.Int64}))


def ids(lakehouse: LakehouseResource, table: str) -> list[int]:
    return lakehouse.table(table).scan().collect()["id"].sort().to_list()


def run_of(lakehouse: LakehouseResource, run: Continuous) -> Loop:
    return Loop(movers_of(run, run.targets, lakehouse, None), Limits())


def test_one_run_moves_all_of_a_project_that_says_nothing() -> None:
    (run,) = CHAIN.continuous_runs()
    assert (run.targets, run.tag, run.step, run.followers) == (["db.b", "db.c"], "continuous-chain", "continuous", [])


def test_a_part_has_a_run_and_a_sensor_of_its_own(lakehouse: LakehouseResource) -> None:
    chain = replace(CHAIN, apart={"first": ["db.b"]})
    first, rest = chain.continuous_runs()
    assert (first.targets, first.tag, first.step) == (["db.b"], "continuous-chain_first", "continuous_first")
    assert (rest.targets, rest.tag, rest.step) == (["db.c"], "continuous-chain", "continuous")
    assert [stream.target for stream in first.followers] == ["db.c"]
    sensors = {sensor.name for sensor in chain.definitions(lakehouse).sensors or ()}
    assert sensors == {"chain_first_continuous", "chain_continuous"}


def test_a_part_in_another_mode_has_no_run() -> None:
    micro = replace(A_TO_B, mode="micro-batch")
    (run,) = replace(CHAIN, streams=(micro, B_TO_C), apart={"first": ["db.b"]}).continuous_runs()
    assert run.targets == ["db.c"]


def test_the_sprint_project_ingests_apart_from_its_streams() -> None:
    ingestion, streams = replace(SPRINT, mode="continuous").continuous_runs()
    assert (len(ingestion.ingestions), len(ingestion.streams)) == (len(SPRINT.ingestions), 0)
    assert (len(streams.ingestions), len(streams.streams)) == (0, len(SPRINT.streams))


@pytest.mark.parametrize(
    ("apart", "why"),
    [
        ({"first": ["db.x"]}, "nothing here fills db.x"),
        ({"first": ["db.b"], "second": ["db.b"]}, "db.b can be in one run only"),
        ({"not a name": ["db.b"]}, "'not a name' names a step"),
    ],
)
def test_parts_that_cannot_be_are_refused(apart: dict[str, list[str]], why: str) -> None:
    with pytest.raises(InvalidStream, match=why):
        replace(CHAIN, apart=apart)


def test_what_is_ingested_stays_together() -> None:
    ingestions = [Ingestion(source_table=name, target=f"db.{name}") for name in "ab"]
    with pytest.raises(InvalidStream, match=r"a source is read by one run: add db\.b"):
        Project(name="x", ddl=DDL, ingestions=ingestions, apart={"first": ["db.a"]})


def test_a_run_waits_for_the_streams_of_another_one(lakehouse: LakehouseResource) -> None:
    first, rest = (run_of(lakehouse, run) for run in replace(CHAIN, apart={"first": ["db.b"]}).continuous_runs())
    put(lakehouse, [0])
    for loop in (first, rest):
        assert len(list(loop.results())) == 1
    for number in range(1, 2 * MOST_AHEAD):
        put(lakehouse, [number])
        list(first.results())
    (mover,) = first.movers
    assert isinstance(mover, HeldBack)
    ahead = len(ids(lakehouse, "db.b"))
    assert ahead < 2 * MOST_AHEAD, "it went on for ever"
    assert ahead > MOST_AHEAD // 2, "it waited for nothing"
    assert not mover.stirred()
    list(rest.results())
    assert ids(lakehouse, "db.c") == list(range(ahead))
    assert mover.stirred(), "what was held back is due once the other has caught up"
    list(first.results())
    list(rest.results())
    assert ids(lakehouse, "db.c") == list(range(2 * MOST_AHEAD))


def test_a_stream_that_does_not_move_holds_nobody_up(
    lakehouse: LakehouseResource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(back_pressure, "PATIENCE_S", 0.0)
    first, rest = (run_of(lakehouse, run) for run in replace(CHAIN, apart={"first": ["db.b"]}).continuous_runs())
    for number in range(2 * MOST_AHEAD):
        put(lakehouse, [number])
        list(first.results())
        if not number:
            list(rest.results())
    assert ids(lakehouse, "db.b") == list(range(2 * MOST_AHEAD))


def test_a_stream_that_never_ran_holds_nobody_up(lakehouse: LakehouseResource) -> None:
    first, _ = (run_of(lakehouse, run) for run in replace(CHAIN, apart={"first": ["db.b"]}).continuous_runs())
    for number in range(2 * MOST_AHEAD):
        put(lakehouse, [number])
        list(first.results())
    assert ids(lakehouse, "db.b") == list(range(2 * MOST_AHEAD))

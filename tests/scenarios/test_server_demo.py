"""The main job on a real database server: APP equals SQL on the source, across a restart and a second run."""

from __future__ import annotations

import io
import json
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import dagster as dg
import polars as pl
import pytest
from rich.console import Console

from lakehouse_assets.sources.postgres.changes import Position
from lakehouse_demo.claims import claim_warehouse
from lakehouse_demo.errors import AlreadyClaimed
from lakehouse_demo.main import run_feed
from lakehouse_demo.server_feed import ServerFeed
from lakehouse_demo.sql_workload import WorkloadConfig
from storage_engine import Catalog
from tests.servers.sql import POSTGRES, SERVERS, obtained

pytestmark = pytest.mark.slow

WORKLOAD = WorkloadConfig(members=150, agents=10, transactions=80)
STEPS = 4


class Job:
    """The job on one server; may run into several warehouses."""

    def __init__(self, kind: str, folder: Path) -> None:
        self.kind, self.folder = kind, folder

    def run(self, warehouse: str) -> tuple[int, str]:
        """Its exit code, and what it said."""
        said = io.StringIO()
        with (
            self.feed() as feed,
            dg.DagsterInstance.ephemeral() as instance,
        ):
            code = run_feed(feed, self.url(warehouse), instance, Console(file=said, width=120))
        return code, said.getvalue()

    def feed(self, config: WorkloadConfig = WORKLOAD) -> ServerFeed:
        return ServerFeed(self.kind, config, self.folder / "server", steps=STEPS)

    def url(self, warehouse: str) -> str:
        return str(self.folder / warehouse)

    def position(self, table: str) -> int:
        """Where the table's own newest snapshot says that the log was read to."""
        carried = Catalog(self.url("warehouse")).table(table).committed_properties(f"stream-{table}")
        position = json.loads(carried["lakehouse.sources"])["source"]
        return Position.of(position).lsn if self.kind == "postgres" else int(position)

    def starts(self) -> int:
        """How often the server was started."""
        if self.kind == "postgres":
            log = (self.folder / "server/log/server.log").read_text()
            return log.count("database system is ready to accept connections")
        return len(list((self.folder / "server/data").glob(f"{self.kind}-bin.0*")))


@pytest.fixture(scope="module", params=[*SERVERS, POSTGRES])
def job(request: pytest.FixtureRequest) -> Iterator[Job]:
    """The job, run to its end once, in a folder that PostgreSQL's user may enter."""
    obtained(request.param)
    with tempfile.TemporaryDirectory(prefix="lakehouse-job-") as folder:
        Path(folder).chmod(0o755)
        yield _done(Job(request.param, Path(folder)))


def _done(job: Job) -> Job:
    code, said = job.run("warehouse")
    assert code == 0, said
    for table in ("app.sprint_performance", "app.member_growth"):
        assert f"✓ {table}" in said
    assert said.count("equals plain SQL on the source database") == 2
    return job


def test_the_server_was_started_twice_and_read_on(job: Job) -> None:
    assert job.starts() >= 2
    assert job.position("ods.member_order") >= job.position("dim.city") > 0


def test_a_second_run_reads_nothing_and_compares(job: Job) -> None:
    before = job.position("ods.member_order")
    code, said = job.run("warehouse")
    assert (code, "0 events in 0 micro-batches" in said) == (0, True), said
    assert said.count("equals plain SQL on the source database") == 2
    assert job.position("ods.member_order") == before


def test_a_table_that_is_wrong_is_told(job: Job) -> None:
    shutil.copytree(job.url("warehouse"), job.url("wrong"))
    table = Catalog(job.url("wrong")).table("app.sprint_performance")
    table.write(table.scan().filter(pl.col("orders") > 0).head(1).collect())
    code, said = job.run("wrong")
    assert code == 1
    assert "✗ app.sprint_performance" in said
    assert "✓ app.member_growth" in said


def test_another_workload_does_not_go_into_its_warehouse(job: Job) -> None:
    other = replace(WORKLOAD, seed=WORKLOAD.seed + 1)
    with pytest.raises(AlreadyClaimed, match=r"seed 7 \(now 8\)"):
        claim_warehouse(job.url("warehouse"), job.feed(other).facts.identity)

"""The main job on a real Kafka broker: APP and quarantine equal the recomputation, across a restart and a second run."""

from __future__ import annotations

import io
import os
from pathlib import Path

import dagster as dg
import pytest
from rich.console import Console

from lakehouse_assets.quarantine import counts
from lakehouse_demo.events import StreamConfig
from lakehouse_demo.kafka import broker_command
from lakehouse_demo.kafka_feed import KafkaFeed
from lakehouse_demo.landing import land
from lakehouse_demo.main import run_feed
from lakehouse_demo.private_server import ServerMissing
from storage_engine import Catalog
from tests.servers.kafka import installed

pytestmark = [
    pytest.mark.slow,
    pytest.mark.kafka,
    pytest.mark.skipif(not installed(), reason="no Java: a Kafka broker cannot run"),
    pytest.mark.skipif("LAKEHOUSE_KAFKA_DEMO" not in os.environ, reason="wants the machine alone: make scenarios"),
    pytest.mark.xdist_group("kafka"),
]
CONFIG = StreamConfig(events=1_200, slices=2)


def run(folder: Path) -> tuple[int, str]:
    """The job's exit code, and what it said."""
    said = io.StringIO()
    with KafkaFeed(CONFIG, folder / "broker") as feed, dg.DagsterInstance.ephemeral() as instance:
        code = run_feed(feed, str(folder / "warehouse"), instance, Console(file=said, width=120))
    return code, said.getvalue()


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int, str]:
    """The job, run to its end once; the first slice was landed, and not sent, by one that was killed."""
    folder = tmp_path_factory.mktemp("job")
    next(iter(land(CONFIG, folder / "broker" / "lines")))
    return folder, *run(folder)


def test_the_figures_are_right_across_a_restart(done: tuple[Path, int, str]) -> None:
    folder, code, said = done
    assert code == 0, said
    assert said.count("equals the recomputation of the raw messages") == 3
    assert sum(counts(Catalog(str(folder / "warehouse")).table("ods.quarantine")).values()) > 0


def test_a_second_run_sends_and_reads_nothing(done: tuple[Path, int, str]) -> None:
    code, said = run(done[0])
    assert (code, "0 events in 0 micro-batches" in said) == (0, True), said


def test_without_java_one_line_says_what_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    with pytest.raises(ServerMissing, match=r"^Kafka needs Java 17.*openjdk-17-jre-headless"):
        broker_command()

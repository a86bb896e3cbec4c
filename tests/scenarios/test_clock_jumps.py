"""The clock jumps by hours and weeks, back and forth, between commits and within them: the figures stay right."""

from __future__ import annotations

import time
from pathlib import Path
from random import Random

import pytest

from lakehouse_assets.ingest import Ingester
from lakehouse_assets.ingest_mover import IngestMover
from lakehouse_assets.sources.landing import LandingSource
from lakehouse_assets.sprint.ods import INGESTIONS
from lakehouse_assets.sprint.tables import STREAMS, create_tables
from lakehouse_assets.stream.loop import Limits, Loop, StreamMover
from lakehouse_assets.stream.runner import StreamRunner
from lakehouse_demo.events import StreamConfig
from lakehouse_demo.file_feed import FileFeed
from storage_engine import Catalog

HOUR_S = 3_600
JUMPS_S = (-60 * 24 * HOUR_S, -HOUR_S, -1, 0, 1, HOUR_S, 60 * 24 * HOUR_S)
CONFIG = StreamConfig(events=800, slices=14, malformed=6)
JUMPS_MIN = 100


class JumpingClock:
    """The system's clock, except that it now and then stands somewhere else."""

    def __init__(self) -> None:
        self._time_ns = time.time_ns
        self._random = Random(20240129)
        self._off_s = 0
        self.jumps = 0

    def time_ns(self) -> int:
        if self._random.random() < 0.1:
            self._off_s = self._random.choice(JUMPS_S)
            self.jumps += 1
        return self._time_ns() + self._off_s * 1_000_000_000

    def time(self) -> float:
        return self.time_ns() / 1e9


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> JumpingClock:
    clock = JumpingClock()
    monkeypatch.setattr(time, "time", clock.time)
    monkeypatch.setattr(time, "time_ns", clock.time_ns)
    return clock


def test_nothing_is_lost_or_doubled(clock: JumpingClock, tmp_path: Path) -> None:
    catalog = Catalog(str(tmp_path / "warehouse"))
    create_tables(catalog)
    ingest = IngestMover(Ingester(catalog, LandingSource(str(tmp_path / "landing")), INGESTIONS))
    streams = [StreamMover(StreamRunner(catalog, stream)) for stream in STREAMS]
    with FileFeed(CONFIG, tmp_path / "landing") as feed:
        for slice_ in feed.advance():
            list(ingest.move())
            if slice_ % 3 == 0:  # so that snapshots wait to be read while the clock says that they are old
                for stream in streams:
                    list(stream.move())
        for _ in Loop([ingest, *streams], Limits()).results():
            pass
        assert [finding for finding in feed.compare(catalog) if finding.differences] == []
    assert clock.jumps >= JUMPS_MIN, "the clock was asked, and jumped"
    for stream in STREAMS:
        snapshots = catalog.table(stream.target).snapshots().sort("snapshot_id")
        assert snapshots["commit_time"].is_sorted(), "time travel by timestamp finds one state for each moment"

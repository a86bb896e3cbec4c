"""Workers, sources and their folder vanish at random while the embedded stream lands: the figures are right in the end.

``LAKEHOUSE_CHAOS_SECONDS=1200 pytest tests/scenarios/test_chaos.py`` for twenty minutes of it; the seed is printed.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from random import Random

import polars as pl
import pytest

from lakehouse_assets.sprint.tables import STREAMS
from lakehouse_assets.stream.loop import Limits
from lakehouse_assets.stream.source import compaction_brings_changelog, is_complete
from lakehouse_demo.events import StreamConfig
from lakehouse_demo.file_feed import FileFeed
from storage_engine import Catalog
from storage_engine.errors import StorageEngineError
from tests.scenarios.chaos_processes import movers

ROOT = Path(__file__).resolve().parents[2]
SECONDS = float(os.environ.get("LAKEHOUSE_CHAOS_SECONDS", "25"))
SEED = int(os.environ.get("LAKEHOUSE_CHAOS_SEED", "20240129"))
WORKERS = 2
OPERATIONS_MAX = 800
"""A worker dies at one of its first operations: within commits, compactions, manifests, hints."""


class Chaos:
    """The zygote, its children, and what has happened to them."""

    def __init__(self, folder: Path, zygote: subprocess.Popen[str]) -> None:
        self.seen: Counter[str] = Counter()
        self.warehouse, self.landing = folder / "warehouse", folder / "landing"
        self._zygote = zygote
        self._random = Random(SEED)
        days = max(6, round(SECONDS / 20))
        self.config = StreamConfig(events=round(SECONDS * 60), days=days, slices=round(SECONDS * 6), malformed=20)
        self._workers: list[int] = []
        self._source: int | None = None

    def run(self) -> None:
        """One disaster after the other until time is over, from when the first rows have come through."""
        self._keep_alive()
        deadline = time.monotonic() + 120
        while not self._came_through():
            assert time.monotonic() < deadline, "nothing has come through the layers"
            threading.Event().wait(0.2)
            self._keep_alive()
        self.seen.clear()
        disasters = [self._kill_a_worker, self._kill_the_source, self._move_the_folder]
        planned = list(disasters)  # each at least once
        until = time.monotonic() + SECONDS
        while time.monotonic() < until:
            self._keep_alive()
            threading.Event().wait(self._random.uniform(0.1, 1.5))
            disaster = planned.pop() if planned else self._random.choices(disasters, [6, 2, 1])[0]
            disaster()
            self._look()

    def end(self) -> None:
        for child in [*self._workers, *([] if self._source is None else [self._source])]:
            kill(child)

    def _keep_alive(self) -> None:
        dead = [child for child in self._workers if not alive(child)]
        self.seen["worker died in an operation"] += len(dead)
        self._workers = [child for child in self._workers if child not in dead]
        while len(self._workers) < WORKERS:
            dies_at = self._random.choice([None, *[self._random.randrange(1, OPERATIONS_MAX)] * 2])
            self._workers.append(self._start("worker", str(self.warehouse), str(self.landing), dies_at))
        if self._source is None or not alive(self._source):
            values = {name: getattr(self.config, name) for name in ("events", "days", "slices", "malformed")}
            self._source = self._start("source", str(self.landing), values)

    def _kill_a_worker(self) -> None:
        worker = self._random.choice(self._workers)
        self._workers.remove(worker)
        kill(worker)
        self.seen["worker killed"] += 1

    def _kill_the_source(self) -> None:
        if self._source is not None and alive(self._source):
            kill(self._source)
            self.seen["source killed"] += 1

    def _move_the_folder(self) -> None:
        """The folder is away for a moment; who writes to it is dead meanwhile."""
        self._kill_the_source()
        away = self.landing.with_suffix(".away")
        if self.landing.exists():
            self.landing.rename(away)
            threading.Event().wait(self._random.uniform(0.1, 0.6))
            away.rename(self.landing)
            self.seen["source away"] += 1

    def _look(self) -> None:
        """Which of the states that matter the disaster has left behind."""
        with contextlib.suppress(StorageEngineError):  # files that workers remove meanwhile
            catalog = Catalog(str(self.warehouse))
            for stream in STREAMS:
                target = catalog.table(stream.target)
                latest = target.latest_snapshot()
                if latest is None:
                    continue
                if compaction_brings_changelog(target) and not is_complete(latest, by_compaction=True):
                    self.seen["commit without its changelog"] += 1
                source = catalog.table(stream.source).latest_snapshot()
                consumed = target.committed_properties(stream.name).get("lakehouse.sources")
                if consumed and source is not None and json.loads(consumed)[stream.source] < source.id:
                    self.seen["target behind its source"] += 1

    def _came_through(self) -> bool:
        with contextlib.suppress(StorageEngineError):
            return Catalog(str(self.warehouse)).table(STREAMS[-1].target).latest_snapshot() is not None
        return False

    def _start(self, *order: object) -> int:
        assert self._zygote.stdin is not None
        assert self._zygote.stdout is not None
        self._zygote.stdin.write(json.dumps(order) + "\n")
        self._zygote.stdin.flush()
        return int(self._zygote.stdout.readline())


def alive(child: int) -> bool:
    try:
        os.kill(child, 0)
    except ProcessLookupError:
        return False
    return True


def kill(child: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(child, signal.SIGKILL)


def appended_by(user: str) -> pl.Expr:
    return (pl.col("commit_user") == user) & (pl.col("commit_kind") == "APPEND")


@pytest.fixture
def chaos(tmp_path: Path) -> Iterator[Chaos]:
    command = [sys.executable, "-W", "ignore", "-m", "tests.scenarios.chaos_processes"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "POLARS_MAX_THREADS": "2"}
    with (
        (tmp_path / "stderr").open("w") as errors,
        subprocess.Popen(
            command, cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True
        ) as zygote,
    ):
        chaos = Chaos(tmp_path, zygote)
        try:
            yield chaos
        finally:
            chaos.end()
            assert zygote.stdin is not None
            zygote.stdin.close()


@pytest.mark.slow
@pytest.mark.xdist_group("chaos")
def test_the_figures_are_right_after_chaos(chaos: Chaos, tmp_path: Path) -> None:
    chaos.run()
    chaos.end()
    with FileFeed(chaos.config, chaos.landing) as feed:
        for _ in feed.advance():
            pass
        movers(str(chaos.warehouse), str(chaos.landing), Limits(linger_s=1.5))
        findings = feed.compare(Catalog(str(chaos.warehouse)))
    said = (tmp_path / "stderr").read_text()[-3000:]
    assert [finding for finding in findings if finding.differences] == [], said
    print(f"seed {SEED}, {SECONDS:.0f} s: {dict(chaos.seen)}")
    kinds = ("worker killed", "source killed", "source away")
    assert {kind for kind in kinds if not chaos.seen[kind]} == set(), chaos.seen
    states = ("commit without its changelog", "target behind its source")
    assert sum(chaos.seen[state] for state in states), chaos.seen
    for stream in STREAMS:
        target = Catalog(str(chaos.warehouse)).table(stream.target)
        identifiers = target.snapshots().filter(appended_by(stream.name))["commit_identifier"]
        assert identifiers.is_sorted()
        assert identifiers.is_unique().all(), "no batch was committed twice"

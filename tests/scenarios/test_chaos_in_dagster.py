"""Dagster under fire: its daemon, code servers and runs are killed at random, and the source too, while the stream lands.

The daemon is the real one, with this repository's ``dagster.yaml``. ``LAKEHOUSE_CHAOS_SECONDS=1200 pytest
tests/scenarios/test_chaos_in_dagster.py`` for twenty minutes of each mode; the seed is printed.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from random import Random

import dagster as dg
import pytest

from lakehouse_assets.automation import ACTIVE
from lakehouse_assets.launching.worker import WORKER_TAG, Worker
from lakehouse_assets.sprint.tables import STREAMS
from lakehouse_demo.events import StreamConfig
from lakehouse_demo.file_feed import FileFeed
from storage_engine import Catalog
from storage_engine.errors import StorageEngineError
from tests.scenarios.test_chaos import appended_by

ROOT = Path(__file__).resolve().parents[2]
SECONDS = float(os.environ.get("LAKEHOUSE_CHAOS_SECONDS", "0"))
SEED = int(os.environ.get("LAKEHOUSE_CHAOS_SEED", "20240129"))
PATIENCE_S = 600
PAUSE_S = (1.0, 14.0)
"""Some disasters come before the one before is over, some find everything well."""
SLICE_EVERY_S = 0.5


class Server:
    """The daemon with its children, in a folder of its own, and the source beside it."""

    def __init__(self, folder: Path, mode: str) -> None:
        self.folder = folder
        self.config = StreamConfig(
            events=max(600, round(SECONDS * 20)), slices=max(6, round(SECONDS / SLICE_EVERY_S * 0.8)), malformed=6
        )
        self._environment = {name: value for name, value in os.environ.items() if not name.startswith("DAGSTER")} | {
            "PYTHONPATH": str(ROOT),
            "DAGSTER_HOME": str(folder),
            "LAKEHOUSE_STREAM_MODE": mode,
            "LAKEHOUSE_WAREHOUSE": str(folder / "warehouse"),
            "LAKEHOUSE_LANDING": str(folder / "landing"),
            "POLARS_MAX_THREADS": "2",
        }
        self._daemon: subprocess.Popen[bytes] | None = None
        self._source: subprocess.Popen[bytes] | None = None

    def keep_alive(self) -> None:
        """Start the daemon and the source where they are dead. The daemon starts the code server, and that the runs."""
        if self._daemon is None or self._daemon.poll() is not None:
            self._daemon = self._start("-m", "dagster._daemon", "run", "-m", "lakehouse_assets.definitions")
        if self._source is None or self._source.poll() not in (None, 0):
            stream = json.dumps(asdict(self.config), default=str)
            self._source = self._start("-m", "tests.scenarios.slow_source", "landing", str(SLICE_EVERY_S), stream)

    def _start(self, *arguments: str) -> subprocess.Popen[bytes]:
        with (self.folder / "log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-W", "ignore", *arguments],
                cwd=self.folder,
                env=self._environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def runs(self) -> list[dg.DagsterRun]:
        """Every run that has not ended, as Dagster sees it."""
        with dg.DagsterInstance.from_config(str(self.folder)) as instance:
            return list(instance.get_runs(dg.RunsFilter(statuses=list(ACTIVE))))

    def workers(self) -> list[Worker]:
        """The living processes of runs."""
        found = [Worker.parse(run.tags.get(WORKER_TAG)) for run in self.runs()]
        return [worker for worker in found if worker is not None and worker.is_alive]

    def children(self, command: str) -> list[int]:
        """Living processes of this folder with some word in their command line."""
        found = []
        home = f"DAGSTER_HOME={self.folder}".encode()
        for path in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if command.encode() in (path / "cmdline").read_bytes() and home in (path / "environ").read_bytes():
                    found.append(int(path.name))
        return found

    def kill_run(self) -> bool:
        """SIGKILL the processes of all runs; whether there was one."""
        return killed(worker.process for worker in self.workers())

    def kill_zygote(self) -> bool:
        """SIGKILL what forks the runs, not the runs."""
        runs = {worker.process for worker in self.workers()}
        return killed(child for child in self.children("launching.zygote") if child not in runs)

    def kill_code_server(self) -> bool:
        """SIGKILL the code servers."""
        return killed(self.children("grpc"))

    def kill_daemon(self) -> bool:
        """SIGKILL the daemon; its children notice, or live on."""
        return self._daemon is not None and kill(self._daemon.pid) and self._daemon.wait() is not None

    def kill_everything(self) -> bool:
        """SIGKILL all at once, as if the machine had gone down."""
        self.kill_source()
        found = killed(self.children(""))
        if self._daemon is not None:
            self._daemon.wait()
        return found

    def kill_source(self) -> bool:
        """SIGKILL the source."""
        return (
            self._source is not None
            and self._source.poll() is None
            and kill(self._source.pid)
            and self._source.wait() is not None
        )


def kill(child: int) -> bool:
    with contextlib.suppress(ProcessLookupError):
        os.kill(child, signal.SIGKILL)
        return True
    return False


def killed(children: Iterable[int]) -> bool:
    """Kill all of them; whether there was one."""
    return bool([child for child in children if kill(child)])


@pytest.fixture(params=["continuous", "micro-batch"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    text = (ROOT / "dagster.yaml").read_text().replace("base_dir: .dagster", f"base_dir: {tmp_path}/.dagster")
    text += "\nrun_launcher: {module: lakehouse_assets.launching.launcher, class: WarmRunLauncher}\n"
    (tmp_path / "dagster.yaml").write_text(text)
    server = Server(tmp_path, request.param)
    try:
        yield server
    finally:
        server.kill_everything()
        shutil.rmtree(tmp_path / ".dagster", ignore_errors=True)


def wait_until(holds: Callable[[], bool], what: str, server: Server) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        log = (server.folder / "log").read_text()[-3000:]
        assert time.monotonic() < deadline, f"{what} did not come about:\n{log}"
        server.keep_alive()
        threading.Event().wait(0.5)


def disasters(server: Server) -> Counter[str]:
    """One after the other until time is over, each kind at least once; how often which struck."""
    random, seen = Random(SEED), Counter[str]()
    kinds = {
        server.kill_run: 4,
        server.kill_source: 3,
        server.kill_daemon: 2,
        server.kill_code_server: 2,
        server.kill_zygote: 1,
        server.kill_everything: 1,
    }
    planned = list(kinds)
    until = time.monotonic() + SECONDS
    while time.monotonic() < until or planned:
        threading.Event().wait(random.uniform(*PAUSE_S))
        server.keep_alive()
        kind = planned[-1] if planned else random.choices(list(kinds), list(kinds.values()))[0]
        if kind():
            seen[kind.__name__] += 1
            planned = [each for each in planned if each != kind]
    return seen


def committed(catalog: Catalog) -> int:
    """How many batches the table at the end of the chain has."""
    with contextlib.suppress(StorageEngineError):
        return catalog.table(STREAMS[-1].target).last_committed(STREAMS[-1].name) or 0
    return 0


@pytest.mark.slow
@pytest.mark.skipif(not SECONDS, reason="minutes of Dagster: set LAKEHOUSE_CHAOS_SECONDS")
def test_the_figures_are_right_after_chaos(server: Server) -> None:
    catalog = Catalog(str(server.folder / "warehouse"))
    server.keep_alive()
    wait_until(lambda: committed(catalog) > 0, "a commit at the end of the chain", server)
    before = committed(catalog)
    seen = disasters(server)
    server.kill_source()
    with FileFeed(server.config, server.folder / "landing") as feed:
        for _ in feed.advance():
            pass

        def is_right() -> bool:
            return not any(finding.differences for finding in feed.compare(catalog))

        wait_until(is_right, "the same figures as the recomputation", server)
    print(f"seed {SEED}, {SECONDS:.0f} s: {dict(seen)}, {committed(catalog) - before} batches at the end of the chain")
    for stream in STREAMS:
        identifiers = catalog.table(stream.target).snapshots().filter(appended_by(stream.name))["commit_identifier"]
        assert identifiers.is_sorted()
        assert identifiers.is_unique().all(), "no batch was committed twice"

    def none_is_stuck() -> bool:
        found = [Worker.parse(run.tags.get(WORKER_TAG)) for run in server.runs()]
        return all(worker is not None and worker.is_alive for worker in found)

    wait_until(none_is_stuck, "the end of every run whose process was killed", server)

"""Dagster's own daemon keeps the continuous run alive: its run process, the daemon and the code server are killed.

The daemon is the real one, as ``dagster dev`` starts it, with this repository's ``dagster.yaml``.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import dagster as dg
import pytest

from lakehouse_demo.events import StreamConfig
from lakehouse_demo.file_feed import FileFeed
from storage_engine import Catalog

ROOT = Path(__file__).resolve().parents[2]
CONFIG = StreamConfig(events=600, slices=6, malformed=6)
PATIENCE_S = 300


class Server:
    """The daemon with its children, in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.starts = 0
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the daemon; it starts the code server, and that the runs."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("DAGSTER")}
        environment |= {
            "PYTHONPATH": str(ROOT),
            "DAGSTER_HOME": str(self.folder),
            "LAKEHOUSE_STREAM_MODE": "continuous",
            "LAKEHOUSE_WAREHOUSE": str(self.folder / "warehouse"),
            "LAKEHOUSE_LANDING": str(self.folder / "landing"),
            "POLARS_MAX_THREADS": "2",
        }
        command = [sys.executable, "-W", "ignore", "-m", "dagster._daemon", "run", "-m", "lakehouse_assets.definitions"]
        with (self.folder / "daemon.log").open("ab") as log:
            self._process = subprocess.Popen(
                command, cwd=self.folder, env=environment, stdout=log, stderr=log, start_new_session=True
            )
        self.starts += 1

    def children(self) -> dict[int, str]:
        """Every living process that was started with this folder, by its id, with its command line."""
        found = {}
        home = f"DAGSTER_HOME={self.folder}".encode()
        for path in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if home in (path / "environ").read_bytes().split(b"\0"):
                    found[int(path.name)] = (path / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        return found

    def kill_run(self) -> None:
        """SIGKILL the process of every run."""
        for child, command in self.children().items():
            if "execute_run" in command or "multiprocessing" in command:
                kill(child)

    def kill_daemon(self) -> None:
        """SIGKILL the daemon; its children notice, or live on."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def end(self) -> None:
        for child in self.children():
            kill(child)
        if self._process is not None:
            self._process.wait()


def kill(child: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(child, signal.SIGKILL)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    text = (ROOT / "dagster.yaml").read_text().replace("base_dir: .dagster", f"base_dir: {tmp_path}/.dagster")
    (tmp_path / "dagster.yaml").write_text(text)
    server = Server(tmp_path)
    try:
        yield server
    finally:
        server.end()
        shutil.rmtree(tmp_path / ".dagster", ignore_errors=True)


def wait_until(holds: Callable[[], bool], what: str, server: Server) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        log = (server.folder / "daemon.log").read_text()[-3000:]
        assert time.monotonic() < deadline, f"{what} did not come about:\n{log}"
        threading.Event().wait(0.3)


@pytest.mark.slow
@pytest.mark.skipif(
    "LAKEHOUSE_CHAOS_SECONDS" not in os.environ, reason="minutes of Dagster: set LAKEHOUSE_CHAOS_SECONDS"
)
def test_the_continuous_run_comes_back_after_every_death(server: Server) -> None:
    catalog = Catalog(str(server.folder / "warehouse"))

    def identifiers() -> int:
        known = catalog.list_databases()
        orders = catalog.table("app.member_growth") if "app" in known else None
        return 0 if orders is None else orders.last_committed("stream-app.member_growth") or 0

    with FileFeed(CONFIG, server.folder / "landing") as feed:
        slices = feed.advance()
        disasters = [lambda: None, server.kill_run, server.kill_daemon]
        server.start()
        for disaster in disasters:
            disaster()
            if disaster == server.kill_daemon:
                server.kill_run()
                server.start()
            before = identifiers()
            next(slices)
            next(slices)
            wait_until(lambda before=before: identifiers() > before, "a commit at the end of the chain", server)
        for _ in slices:
            pass

        def is_right() -> bool:
            return not any(finding.differences for finding in feed.compare(catalog))

        wait_until(is_right, "the same figures as the recomputation", server)
    with dg.DagsterInstance.from_config(str(server.folder)) as instance:
        runs = instance.get_runs()
    assert len(runs) >= 3, "each death was followed by a new run"
    assert server.starts == 2

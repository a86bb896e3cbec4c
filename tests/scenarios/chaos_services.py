"""Dagster's services and a source under a supervisor that starts them again, each of which can be killed."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Final, Literal

import dagster as dg
from sqlalchemy.exc import OperationalError

from lakehouse_assets.automation import ACTIVE
from lakehouse_assets.launching.worker import WORKER_TAG, Worker
from lakehouse_demo.events import StreamConfig

ROOT = Path(__file__).resolve().parents[2]
CODE: Final = "lakehouse_assets.definitions"
SOURCE: Final = "source"
SLICE_EVERY_S: Final = 0.5

Deployment = Literal["dagster dev", "services"]


class Services:
    """What runs in a folder: all of ``dagster dev``, or a code server and a daemon; and the source beside it."""

    def __init__(self, folder: Path, *, deployment: Deployment, mode: str, stream: StreamConfig) -> None:
        self.folder = folder
        self._environment = {name: value for name, value in os.environ.items() if not name.startswith("DAGSTER")} | {
            "PYTHONPATH": str(ROOT),
            "DAGSTER_HOME": str(folder),
            "LAKEHOUSE_STREAM_MODE": mode,
            "LAKEHOUSE_WAREHOUSE": str(folder / "warehouse"),
            "LAKEHOUSE_LANDING": str(folder / "landing"),
            "POLARS_MAX_THREADS": "2",
        }
        source = ["tests.scenarios.slow_source", "landing", str(SLICE_EVERY_S), json.dumps(asdict(stream), default=str)]
        self._commands = {SOURCE: source} | (_dev() if deployment == "dagster dev" else _services(folder))
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def keep_alive(self) -> None:
        """Start what is dead. Dagster starts the processes of runs."""
        for name, command in self._commands.items():
            process = self._processes.get(name)
            is_dead = process is None or process.poll() is not None
            if is_dead and not (name == SOURCE and self.is_landed):
                self._processes[name] = self._start(command)

    @property
    def is_landed(self) -> bool:
        """Whether the source has landed all, and ended."""
        process = self._processes.get(SOURCE)
        return process is not None and process.poll() == 0

    def _start(self, command: list[str]) -> subprocess.Popen[bytes]:
        with (self.folder / "log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-W", "ignore", "-m", *command],
                cwd=self.folder,
                env=self._environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def prepare(self) -> None:
        """Create Dagster's databases, which services that start side by side would do at once."""
        self.runs()

    def runs(self) -> list[dg.DagsterRun]:
        """Every run that has not ended, as Dagster sees it. Raises OperationalError while the database is locked."""
        with dg.DagsterInstance.from_config(str(self.folder)) as instance:
            return list(instance.get_runs(dg.RunsFilter(statuses=list(ACTIVE))))

    def workers(self) -> set[int]:
        """The living processes of runs; none while the database does not tell."""
        with contextlib.suppress(OperationalError):
            found = [Worker.parse(run.tags.get(WORKER_TAG)) for run in self.runs()]
            return {worker.process for worker in found if worker is not None and worker.is_alive}
        return set()

    def kill_run(self) -> bool:
        """SIGKILL the processes of all runs; whether there was one."""
        workers = self.workers()
        return self._kill(lambda process, _: process in workers)

    def kill_zygote(self) -> bool:
        """SIGKILL what forks the runs, not the runs."""
        workers = self.workers()
        return self._kill(lambda process, command: b"launching.zygote" in command and process not in workers)

    def kill_code_server(self) -> bool:
        """SIGKILL the code servers."""
        return self._kill(lambda _, command: b"code-server\0start" in command or b"api\0grpc" in command)

    def kill_daemon(self) -> bool:
        """SIGKILL the daemon; its children notice, or live on."""
        return self._kill(lambda _, command: b"dagster._daemon" in command)

    def kill_source(self) -> bool:
        """SIGKILL the source, and see its end; whether it was there."""
        process = self._processes.get(SOURCE)
        if process is None or process.poll() is not None:
            return False
        process.kill()
        process.wait()
        return True

    def kill_everything(self) -> bool:
        """SIGKILL all at once, as if the machine had gone down, and what was started meanwhile; whether there was one."""
        found = False
        while self._kill(lambda *_: True):
            found = True
        for process in self._processes.values():
            process.kill()
            process.wait()
        return found

    def _kill(self, chosen: Callable[[int, bytes], bool]) -> bool:
        """SIGKILL those of our processes that are chosen by their id and command line; whether there was one.

        Ours are those whose environment names this folder: no other test's processes have that.
        """
        home, found = f"DAGSTER_HOME={self.folder}".encode(), False
        for path in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                is_chosen = chosen(int(path.name), (path / "cmdline").read_bytes())
                if is_chosen and home in (path / "environ").read_bytes().split(b"\0"):
                    os.kill(int(path.name), signal.SIGKILL)
                    found = True
        return found


def _dev() -> dict[str, list[str]]:
    return {"dev": ["dagster", "dev", "-m", CODE, "-p", "0"]}


def _services(folder: Path) -> dict[str, list[str]]:
    socket = folder / "code.sock"
    workspace = folder / "workspace.yaml"
    workspace.write_text(f"load_from: [{{grpc_server: {{socket: {socket}, location_name: lakehouse}}}}]\n")
    return {
        "code": ["dagster", "api", "grpc", "--module-name", CODE, "--socket", str(socket)],
        "daemon": ["dagster._daemon", "run", "--workspace", str(workspace)],
    }

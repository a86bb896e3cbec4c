"""The run launcher of this repository's ``dagster.yaml``.

Dagster's own starts a Python process for each run, which loads packages and code for seconds, and it does not tell run
monitoring when that process has died, so that a run whose worker *and* code server were killed stands as started for ever.
This one forks a process that has the code loaded already, and knows the worker of each run::

    run_launcher:
      module: lakehouse_assets.launching.launcher
      class: WarmRunLauncher

It serves code that is loaded on this machine, as ``dagster dev`` does; all other runs are launched as Dagster does.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import threading
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from dagster import DagsterError, DagsterRun, DefaultRunLauncher
from dagster._check import CheckError
from dagster._core.launcher import CheckRunHealthResult, LaunchRunContext, WorkerStatus
from dagster._core.remote_origin import GrpcServerCodeLocationOrigin, ManagedGrpcPythonEnvCodeLocationOrigin
from dagster._core.remote_representation.code_location import CodeLocation, GrpcServerCodeLocation
from dagster._grpc.types import ExecuteRunArgs
from dagster._serdes import serialize_value
from dagster._serdes.config_class import ConfigurableClassData

from lakehouse_assets.launching.worker import WORKER_TAG, Worker
from lakehouse_assets.launching.zygote import END, INTERRUPT_S, LOADED

LOAD_S: Final = 300.0
"""Loading takes seconds, unless the machine is busy with much else."""
FORK_S: Final = 60.0
RETIRE_S: Final = 5.0
KEPT_MEMORY: Final = {
    "_RJEM_MALLOC_CONF": "dirty_decay_ms:10000,muzzy_decay_ms:10000",
    "MALLOC_MMAP_THRESHOLD_": str(64 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(512 << 20),
}
"""Polars gives freed memory back within half a second, and numpy's large arrays go back at once; batches ask for it again, which
is more than a tenth of a stream's work.
"""
HERE: Final = ("", "localhost", "127.0.0.1", "::1")
KILLED: Final = -signal.SIGKILL
_FAILED = (OSError, RuntimeError, ValueError, DagsterError, CheckError)


class WarmRunLauncher(DefaultRunLauncher):
    """Forks a process for each run from one that has its code loaded."""

    def __init__(self, inst_data: ConfigurableClassData | None = None) -> None:
        super().__init__(inst_data)
        self._lock = threading.Lock()
        self._loaded: dict[str, _Loaded] = {}

    def launch_run(self, context: LaunchRunContext) -> None:
        """Fork for the run; as Dagster does where that cannot be done."""
        run, location = context.dagster_run, _location(context)
        if WORKER_TAG in run.tags:  # of the run that this one repeats
            self._instance.add_run_tags(run.run_id, {WORKER_TAG: ""})
        if location is None or not is_local(location):
            super().launch_run(context)
            return
        try:
            self._fork(location, run)
        except _FAILED as error:
            self._instance.report_engine_event(f"No warm process for this run: {error}", run)
            super().launch_run(context)

    def _fork(self, location: GrpcServerCodeLocation, run: DagsterRun) -> None:
        """Have a process forked for a run. Raises one of ``_FAILED`` if that cannot be done."""
        assert run.job_code_origin is not None
        order = serialize_value(
            ExecuteRunArgs(
                job_origin=run.job_code_origin,
                run_id=run.run_id,
                instance_ref=self._instance.get_ref(),
                set_exit_code_on_failure=True,
            )
        )
        python = run.job_code_origin.repository_origin.executable_path
        with self._lock:
            try:
                self._of(location, python, order).ask(order, FORK_S)
            except _CannotLoad:
                raise
            except _FAILED:  # it was killed; another one may live
                self._forget(location.name)
                self._of(location, python, order).ask(order, FORK_S)

    def terminate(self, run_id: str) -> bool:
        """Interrupt the run's process; whether it was there."""
        run = self._instance.get_run_by_id(run_id) if self.has_instance else None
        worker = None if run is None else Worker.parse(run.tags.get(WORKER_TAG))
        if run is None or run.is_finished or worker is None:
            return bool(super().terminate(run_id))  # type: ignore[no-untyped-call]
        self._instance.report_run_canceling(run)
        return worker.interrupt()

    @property
    def supports_check_run_worker_health(self) -> bool:
        """True: run monitoring learns which runs are dead."""
        return True

    def check_run_worker_health(self, run: DagsterRun) -> CheckRunHealthResult:
        """Whether the run's process is there; that of a run on another machine is believed to be."""
        worker = Worker.parse(run.tags.get(WORKER_TAG))
        if worker is None or not worker.is_here or worker.is_alive:
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        return CheckRunHealthResult(WorkerStatus.NOT_FOUND, f"process {worker.process} of the run is gone")

    def dispose(self) -> None:
        """End the processes that have code loaded, and the runs that they have forked."""
        with self._lock:
            for loaded in self._loaded.values():
                loaded.end()
            self._loaded.clear()
        super().dispose()

    def _of(self, location: GrpcServerCodeLocation, python: str, order: str) -> _Loaded:
        """The process that has loaded what the code server has; a server that was started anew may have other code."""
        known = self._loaded.get(location.name)
        if known is not None and (known.server_id != location.server_id or not known.is_alive):
            self._forget(location.name)
            known = None
        if known is None:
            known = _Loaded.start(location.server_id, python, order)
            self._loaded[location.name] = known
        return known

    def _forget(self, name: str) -> None:
        if (loaded := self._loaded.pop(name, None)) is not None:
            loaded.retire()


class _CannotLoad(RuntimeError):
    """A process does not load the code, and another one would not either."""


@dataclass(slots=True)
class _Loaded:
    """A process that has loaded the code of one server."""

    server_id: str
    process: subprocess.Popen[bytes]

    @classmethod
    def start(cls, server_id: str, python: str, order: str) -> _Loaded:
        """Raises _CannotLoad if it does not load the code of an order, RuntimeError if it is killed meanwhile, and OSError."""
        command = [python, "-W", "ignore", "-m", "lakehouse_assets.launching.zygote"]
        process = subprocess.Popen(  # noqa: S603 - the location's own Python
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**KEPT_MEMORY, **os.environ}
        )
        loaded = cls(server_id, process)
        try:
            said = loaded.ask(order, LOAD_S)
            if said != LOADED:
                raise _CannotLoad(f"expected that the code is loaded, and heard {said!r}")
        except _FAILED as error:
            if loaded.retire() == KILLED:
                raise
            raise _CannotLoad(str(error)) from error
        return loaded

    @property
    def is_alive(self) -> bool:
        return self.process.poll() is None

    def ask(self, order: str, patience_s: float) -> str:
        """Give an order, wait for the answer. Raises RuntimeError and OSError."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{order}\n".encode())
        self.process.stdin.flush()
        ready, _, _ = select.select([self.process.stdout], [], [], patience_s)
        answer = self.process.stdout.readline().decode().strip() if ready else ""
        if not answer:
            raise RuntimeError("the process that has the code loaded does not answer")
        return answer

    def retire(self, *, patience_s: float = RETIRE_S) -> int | None:
        """Have it end, by force if it does not; runs that it has forked go on. How it ended, None if by this force."""
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            with suppress(OSError):
                pipe.close()
        try:
            return self.process.wait(patience_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            return None

    def end(self) -> None:
        """Have it interrupt its runs, and end."""
        assert self.process.stdin is not None
        with suppress(OSError):
            self.process.stdin.write(f"{END}\n".encode())
        self.retire(patience_s=INTERRUPT_S + RETIRE_S)


def is_local(location: CodeLocation) -> bool:
    """Whether the code was loaded on this machine, by a Python that is here."""
    if not isinstance(location, GrpcServerCodeLocation) or location.container_image is not None:
        return False
    origin: Any = location.origin
    if isinstance(origin, GrpcServerCodeLocationOrigin):
        here = origin.socket is not None or origin.host in HERE
    else:
        here = isinstance(origin, ManagedGrpcPythonEnvCodeLocationOrigin)
    return here and location.executable_path is not None and os.path.exists(location.executable_path)


def _location(context: LaunchRunContext) -> Any:
    """The code location of a run's job, None if it has none."""
    run = context.dagster_run
    if context.workspace is None or run.remote_job_origin is None or run.job_code_origin is None:
        return None
    return context.workspace.get_code_location(
        run.remote_job_origin.repository_origin.code_location_origin.location_name
    )

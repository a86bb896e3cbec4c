"""A process that has loaded a code location, and forks for each run.

Loading Python's packages and the code takes seconds of each run's start; a fork has them already. Orders come as lines on
stdin: the arguments of a run as Dagster writes them, the first only to be prepared for. The answer to each is a line on
stdout: "loaded", or the run's process. The end of stdin ends the process, while its runs live on; the order ``END``
interrupts them before, as Ctrl-C does. A run whose process ends before it does, killed perhaps, is told to have failed at once:
run monitoring looks every few seconds, and at runs that have not begun to work only once their time to start is over.

REQUIRES: nothing that a fork would break is started while loading: no thread, no connection. Polars, Arrow and Dagster
start theirs when they are first used.
"""

from __future__ import annotations

import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from typing import Final, NoReturn

import dagster as dg
from dagster._core.events import EngineEventData
from dagster._grpc.impl import core_execute_run
from dagster._grpc.types import ExecuteRunArgs
from dagster._serdes import deserialize_value
from dagster._utils.hosted_user_process import recon_job_from_origin
from dagster._utils.interrupts import capture_interrupts

from lakehouse_assets.launching.worker import WORKER_TAG, Worker

END: Final = "end"
LOADED: Final = "loaded"
INTERRUPT_S: Final = 10.0
"""Runs that were interrupted have so long to end."""
_WAITING: Final = (dg.DagsterRunStatus.NOT_STARTED, dg.DagsterRunStatus.STARTING)
_SILENT: Final = {"console": {"config": {"log_level": "CRITICAL"}}}


class Zygote:
    """The process's children, by their id, with the orders of their runs."""

    def __init__(self, answer: Callable[[str], None], close: Callable[[], None]) -> None:
        """``close`` is called in each child: orders and answers are not its own."""
        self._answer = answer
        self._close = close
        self._children: dict[int, str] = {}
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # who started us tells us what to do
        signal.signal(signal.SIGCHLD, self._reap)

    def obey(self) -> None:
        """Do what stdin says until it ends."""
        for line in sys.stdin:
            order = line.strip()
            if order == END:
                self._interrupt()
                return
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
            child = os.fork()
            if not child:
                self._close()
                execute(order)
            self._children[child] = order
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
            self._answer(str(child))

    def _reap(self, *_: object) -> None:
        while True:
            try:
                child, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not child:
                return
            order = self._children.pop(child, None)
            if order is not None and status and not os.fork():
                self._close()
                tell_of_death(order, child, status)

    def _interrupt(self) -> None:
        """Interrupt all runs, and kill those that do not end."""
        self._signal(signal.SIGINT)
        give_up = time.monotonic() + INTERRUPT_S
        while self._children and time.monotonic() < give_up:
            time.sleep(0.05)
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        for child in list(self._children):
            os.kill(child, number)


def execute(order: str) -> NoReturn:
    """Work on a run in this process, as ``dagster api execute_run`` does, and end."""

    def work() -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        with capture_interrupts():
            _work(deserialize_value(order, ExecuteRunArgs))

    _end_with(work)


def tell_of_death(order: str, process: int, status: int) -> NoReturn:
    """Have a run failed whose process ended before it, with this status of ``waitpid``; end this process."""
    _end_with(lambda: _mourn(deserialize_value(order, ExecuteRunArgs), process, status))


def _end_with(last: Callable[[], None]) -> NoReturn:
    """Do the last thing that a child does, and end it."""
    code = 1
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
        last()
        code = 0
    finally:  # a child ends here, whatever happened; the run's failure stands in its log
        if code:
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _work(arguments: ExecuteRunArgs) -> None:
    assert arguments.instance_ref is not None
    with dg.DagsterInstance.from_ref(arguments.instance_ref) as instance:
        run = instance.get_run_by_id(arguments.run_id)
        assert run is not None
        if run.status in _WAITING:  # else another process is or was on it, and Dagster tells so
            instance.add_run_tags(arguments.run_id, {WORKER_TAG: str(Worker.current())})
        process = os.getpid()
        instance.report_engine_event(
            f"Started process for run (pid: {process}).", run, EngineEventData.in_process(process)
        )
        for _ in core_execute_run(recon_job_from_origin(arguments.job_origin), run, instance, inject_env_vars=True):
            pass


def _mourn(arguments: ExecuteRunArgs, process: int, status: int) -> None:
    assert arguments.instance_ref is not None
    with dg.DagsterInstance.from_ref(arguments.instance_ref) as instance:
        run = instance.get_run_by_id(arguments.run_id)
        worker = None if run is None else Worker.parse(run.tags.get(WORKER_TAG))
        if run is None or run.is_finished or (worker is not None and worker.process != process):
            return  # it ended, or another process is on it
        code = os.waitstatus_to_exitcode(status)
        how = f"was ended by signal {-code} ({signal.strsignal(-code)})" if code < 0 else f"ended with exit code {code}"
        message = f"The run's process ({process}) {how} before the run was at its end."
        if run.status is dg.DagsterRunStatus.CANCELING:
            instance.report_run_canceled(run, message)
        else:
            instance.report_run_failed(run, message)


def prepare(order: str) -> None:
    """Load what the run of an order, and those that follow it, would load: packages, code, the job of its assets."""
    arguments = deserialize_value(order, ExecuteRunArgs)
    assert arguments.instance_ref is not None
    with dg.DagsterInstance.from_ref(arguments.instance_ref) as instance:
        run = instance.get_run_by_id(arguments.run_id)
        if run is not None and run.remote_job_origin is not None:
            instance.inject_env_vars(run.remote_job_origin.location_name)
    recon_job_from_origin(arguments.job_origin).get_definition()
    with dg.DagsterInstance.ephemeral() as instance:
        dg.materialize([_nothing], instance=instance, run_config={"loggers": _SILENT})


@dg.asset
def _nothing() -> None:
    """What is materialized once, so that Dagster has loaded all that it loads late."""


def main() -> None:
    """Load the code, then fork for each run. What the code prints goes to stderr."""
    answers = os.dup(1)
    os.dup2(2, 1)

    def answer(text: str) -> None:
        os.write(answers, f"{text}\n".encode())

    def close() -> None:
        os.close(answers)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)

    zygote = Zygote(answer, close)
    prepare(sys.stdin.readline())
    answer(LOADED)
    zygote.obey()


if __name__ == "__main__":
    main()

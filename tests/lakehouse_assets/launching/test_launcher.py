"""The launcher in front of a real code server: runs are forks, are known to be dead when they are, and can be ended."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.definitions.selector import JobSubsetSelector
from dagster._core.test_utils import create_test_daemon_workspace_context
from dagster._core.workspace.context import IWorkspaceProcessContext
from dagster._core.workspace.load_target import ModuleTarget
from dagster._daemon.monitoring.run_monitoring import execute_run_monitoring_iteration

from lakehouse_assets.launching.launcher import WarmRunLauncher
from lakehouse_assets.launching.worker import WORKER_TAG, Worker

ROOT = Path(__file__).resolve().parents[3]
JOB = "__ASSET_JOB"
PATIENCE_S = 300


class House:
    """An instance with the repository's configuration, and a code server."""

    def __init__(self, instance: dg.DagsterInstance, context: IWorkspaceProcessContext, folder: Path) -> None:
        self.instance = instance
        self.context = context
        self.folder = folder

    def launched(self, *, tags: dict[str, str] | None = None, python: str | None = None) -> str:
        """A run that waits; its id. ``python``: the interpreter that a zygote would be started with."""
        run_id = self.launch(tags=tags, python=python)
        until((self.folder / "process").exists)
        return run_id

    def launch(self, *, tags: dict[str, str] | None = None, python: str | None = None) -> str:
        """What ``launched`` does, while nobody waits until the run is at its work."""
        request = self.context.create_request_context()
        (location,) = request.code_locations
        (repository,) = location.get_repositories().values()
        selector = JobSubsetSelector(
            location_name=location.name, repository_name=repository.name, job_name=JOB, op_selection=None
        )
        job = location.get_job(selector)
        config = {"ops": {"waiting": {"config": {"folder": str(self.folder)}}}}
        origin = job.get_python_origin()
        if python is not None:
            origin = origin._replace(repository_origin=origin.repository_origin._replace(executable_path=python))
        plan = location.get_execution_plan(job, config, None, None, self.instance)
        run = self.instance.create_run(
            job_name=JOB,
            run_id=None,
            run_config=config,
            resolved_op_selection=None,
            step_keys_to_execute=None,
            status=dg.DagsterRunStatus.NOT_STARTED,
            tags=tags or {},
            root_run_id=None,
            parent_run_id=None,
            job_snapshot=job.job_snapshot,
            execution_plan_snapshot=plan.execution_plan_snapshot,
            parent_job_snapshot=job.parent_job_snapshot,
            asset_selection=None,
            asset_check_selection=None,
            op_selection=None,
            remote_job_origin=job.get_remote_origin(),
            job_code_origin=origin,
            asset_graph=repository.asset_graph,
        )
        for name in ("process", "go"):
            (self.folder / name).unlink(missing_ok=True)
        self.instance.launch_run(run.run_id, request)
        return run.run_id

    def run(self, run_id: str) -> dg.DagsterRun:
        run = self.instance.get_run_by_id(run_id)
        assert run is not None
        return run

    @property
    def zygotes(self) -> list[subprocess.Popen[bytes]]:
        """The processes that runs are forked from."""
        launcher = self.instance.run_launcher
        assert isinstance(launcher, WarmRunLauncher)
        return [loaded.process for loaded in launcher._loaded.values()]

    def kill_loading(self) -> bool:
        """Kill the zygotes of this process, as soon as they begin; whether there was one."""
        found = False
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                parent = (process / "stat").read_text().rpartition(")")[2].split()[1]
                if int(parent) == os.getpid() and b"launching.zygote" in (process / "cmdline").read_bytes():
                    os.kill(int(process.name), signal.SIGKILL)
                    found = True
        return found

    def forks(self) -> set[int]:
        """The processes that the zygotes have forked and not buried yet."""
        lists = [Path(f"/proc/{each.pid}/task/{each.pid}/children").read_text() for each in self.zygotes]
        return {int(process) for found in lists for process in found.split()}

    def failure(self, run_id: str) -> str:
        """Why a run has failed."""
        until(lambda: self.run(run_id).is_finished)
        assert self.run(run_id).status is dg.DagsterRunStatus.FAILURE
        (record,) = self.instance.get_records_for_run(run_id, of_type=dg.DagsterEventType.RUN_FAILURE).records
        return record.event_log_entry.user_message or str(record.event_log_entry.dagster_event)

    def worker(self, run_id: str) -> Worker:
        worker = Worker.parse(self.run(run_id).tags.get(WORKER_TAG))
        assert worker is not None
        return worker


def until(holds: Callable[[], bool]) -> None:
    give_up = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < give_up
        threading.Event().wait(0.05)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    folder = tmp_path_factory.mktemp("launcher")
    text = (ROOT / "dagster.yaml").read_text().replace("base_dir: .dagster", f"base_dir: {folder}/.dagster")
    (folder / "dagster.yaml").write_text(text)
    target = ModuleTarget(
        module_name="tests.lakehouse_assets.launching.code_location",
        attribute=None,
        working_directory=str(ROOT),
        location_name="code",
    )
    with (
        dg.DagsterInstance.from_config(str(folder)) as instance,
        create_test_daemon_workspace_context(target, instance) as context,
    ):
        assert isinstance(instance.run_launcher, WarmRunLauncher)
        yield House(instance, context, folder)


@pytest.mark.slow
def test_a_run_is_a_fork_and_ends_well(house: House) -> None:
    first, second = house.launched(), house.launched()
    assert house.worker(first).process != house.worker(second).process == int((house.folder / "process").read_text())
    parents = {
        Path(f"/proc/{house.worker(run).process}/stat").read_text().rpartition(")")[2].split()[1]
        for run in (first, second)
    }
    assert len(parents) == 1, "both are forks of one process"
    (house.folder / "go").touch()
    until(lambda: house.run(first).is_finished and house.run(second).is_finished)
    assert {house.run(run).status for run in (first, second)} == {dg.DagsterRunStatus.SUCCESS}


@pytest.mark.slow
def test_a_run_whose_process_is_killed_has_failed_at_once(house: House) -> None:
    run_id = house.launched()
    process = house.worker(run_id).process
    os.kill(process, signal.SIGKILL)
    assert f"The run's process ({process}) was ended by signal 9 (Killed)" in house.failure(run_id)


@pytest.mark.slow
def test_a_run_that_is_killed_before_it_works_has_failed_at_once(house: House) -> None:
    other = house.launched()
    before = house.forks()
    run_id = house.launch()
    (process,) = house.forks() - before
    os.kill(process, signal.SIGKILL)
    assert f"({process}) was ended by signal 9" in house.failure(run_id)
    (house.folder / "go").touch()
    until(lambda: house.run(other).is_finished)
    assert house.run(other).status is dg.DagsterRunStatus.SUCCESS


@pytest.mark.slow
def test_a_run_that_is_killed_while_it_is_canceled_is_canceled(house: House) -> None:
    run_id = house.launched()
    house.instance.report_run_canceling(house.run(run_id))
    os.kill(house.worker(run_id).process, signal.SIGKILL)
    until(lambda: house.run(run_id).is_finished)
    assert house.run(run_id).status is dg.DagsterRunStatus.CANCELED


@pytest.mark.slow
def test_run_monitoring_learns_of_a_death(house: House) -> None:
    run_id = house.launched()
    for zygote in house.zygotes:  # else it would tell
        zygote.kill()
        zygote.wait()
    list(execute_run_monitoring_iteration(house.context, logging.getLogger("test")))
    assert house.run(run_id).status is dg.DagsterRunStatus.STARTED
    os.kill(house.worker(run_id).process, signal.SIGKILL)
    until(lambda: not house.worker(run_id).is_alive)
    list(execute_run_monitoring_iteration(house.context, logging.getLogger("test")))
    assert house.run(run_id).status is dg.DagsterRunStatus.FAILURE


@pytest.mark.slow
def test_a_run_is_ended_when_asked(house: House) -> None:
    run_id = house.launched()
    assert house.instance.run_launcher.terminate(run_id)
    until(lambda: house.run(run_id).is_finished)
    assert house.run(run_id).status is dg.DagsterRunStatus.CANCELED


@pytest.mark.slow
def test_a_dead_zygote_is_replaced_and_its_runs_go_on(house: House) -> None:
    run_id = house.launched()
    (zygote,) = house.zygotes
    zygote.kill()
    zygote.wait()
    other = house.launched()
    (house.folder / "go").touch()
    until(lambda: house.run(run_id).is_finished and house.run(other).is_finished)
    assert {house.run(run).status for run in (run_id, other)} == {dg.DagsterRunStatus.SUCCESS}


@pytest.mark.slow
def test_a_zygote_that_dies_while_it_is_asked_is_replaced(house: House) -> None:
    first = house.launched()
    (zygote,) = house.zygotes
    os.kill(zygote.pid, signal.SIGSTOP)  # it will not answer
    threading.Timer(1.0, zygote.kill).start()
    run_id = house.launched()
    assert house.worker(run_id).is_alive
    (other,) = house.zygotes
    assert other.pid != zygote.pid
    (house.folder / "go").touch()
    until(lambda: house.run(first).is_finished and house.run(run_id).is_finished)
    assert {house.run(run).status for run in (first, run_id)} == {dg.DagsterRunStatus.SUCCESS}


@pytest.mark.slow
def test_a_zygote_that_dies_while_it_loads_is_replaced(house: House) -> None:
    for zygote in house.zygotes:
        zygote.kill()
        zygote.wait()
    killer = threading.Thread(target=lambda: until(house.kill_loading))
    killer.start()
    run_id = house.launched()
    killer.join()
    assert house.worker(run_id).is_alive, "a run that Dagster started would have none"
    (house.folder / "go").touch()
    until(lambda: house.run(run_id).is_finished)
    assert house.run(run_id).status is dg.DagsterRunStatus.SUCCESS


@pytest.mark.slow
def test_where_no_fork_can_be_had_a_run_starts_as_dagster_starts_it(house: House) -> None:
    for zygote in house.zygotes:
        zygote.kill()
        zygote.wait()
    me = Worker.current()
    dead = Worker(host=me.host, process=me.process, begun="1")  # of a run that this one repeats
    run_id = house.launched(tags={WORKER_TAG: str(dead)}, python="/bin/false")
    list(execute_run_monitoring_iteration(house.context, logging.getLogger("test")))
    assert house.run(run_id).status is dg.DagsterRunStatus.STARTED, "nobody takes the dead worker for this run's"
    (house.folder / "go").touch()
    until(lambda: house.run(run_id).is_finished)
    assert house.run(run_id).status is dg.DagsterRunStatus.SUCCESS


def test_a_worker_is_told_from_another_that_got_its_number() -> None:
    me = Worker.current()
    assert Worker.parse(str(me)) == me
    assert me.is_here
    assert me.is_alive
    assert not Worker(host=me.host, process=me.process, begun="1").is_alive
    assert not Worker(host="elsewhere", process=me.process, begun=me.begun).is_here
    assert [Worker.parse(text) for text in (None, "", "x", "host/nothing/1")] == [None] * 4

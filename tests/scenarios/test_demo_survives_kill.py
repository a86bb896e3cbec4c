"""kill -9 at any moment of the main job, and the same command again: the figures are the same in the end."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import dagster as dg
import pytest

ROOT = Path(__file__).resolve().parents[2]
EVENTS, SLICES = 300, 2
DEATHS_MIN = 12
DEATHS_OF_ONE_WAREHOUSE = 3

Orders = Callable[..., tuple[int, int]]


@pytest.fixture(scope="module")
def ordered(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orders]:
    """Runs the job in a child; gives its exit code (negative: the signal that ended it) and its file operations."""
    log = tmp_path_factory.mktemp("log") / "stderr"
    command = [sys.executable, "-W", "ignore", str(ROOT / "tests/scenarios/mortal_demo.py")]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "POLARS_MAX_THREADS": "2"}
    with (
        log.open("w") as errors,
        subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True
        ) as process,
    ):

        def order(folder: Path, *, dies_at: int | None = None) -> tuple[int, int]:
            values = {"folder": str(folder), "events": EVENTS, "slices": SLICES, "dies_at": dies_at}
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(json.dumps(values) + "\n")
            process.stdin.flush()
            code, operations = json.loads(process.stdout.readline() or "[99, 0]")
            assert code in (0, -signal.SIGKILL), log.read_text()[-4000:]
            return code, operations

        yield order
        process.stdin.close()


@pytest.mark.slow
def test_killed_at_random_file_operations(ordered: Orders, tmp_path: Path) -> None:
    """Each warehouse is killed several times, in what a run does as well as in what it does after such a death.

    The job itself compares its figures with the recomputation; its exit code tells.
    """
    code, operations = ordered(tmp_path / "unharmed")
    assert (code, operations > 200) == (0, True)
    random, deaths, warehouses = Random(20240129), 0, 0
    while deaths < DEATHS_MIN:
        warehouses += 1
        folder = tmp_path / str(warehouses)
        for _ in range(DEATHS_OF_ONE_WAREHOUSE):
            code, _ = ordered(folder, dies_at=random.randrange(1, operations * 2 // 3))
            deaths += code != 0
        code, _ = ordered(folder)
        assert code == 0
        shutil.rmtree(folder)


SCRIPT = """
import sys
from lakehouse_demo import file_feed, main
file_feed.SLICES_MIN = 3
sys.exit(main.run(events=300, seed=7, source="files", landing="landing", warehouse="warehouse"))
"""


def started(folder: Path) -> subprocess.Popen[str]:
    """The main job as a process of its own in a folder, its output line by line."""
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", SCRIPT],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finished(folder: Path) -> tuple[int, str]:
    with started(folder) as process:
        output, _ = process.communicate()
    return process.returncode, output


def runs(folder: Path) -> list[str]:
    """The status of each run that Dagster's instance in a folder knows, the oldest first."""
    with dg.DagsterInstance.from_config(str(folder)) as instance:
        return [run.status.value for run in reversed(instance.get_runs())]


@pytest.mark.slow
def test_killed_as_a_process_with_dagsters_state_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(ROOT / "dagster.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    with started(tmp_path) as process:
        assert process.stdout is not None
        output = []
        for line in process.stdout:
            output.append(line)
            if line.startswith("1/3 "):
                process.kill()
    assert process.returncode == -signal.SIGKILL, output
    known = len(runs(tmp_path))
    code, text = finished(tmp_path)
    assert code == 0, text
    assert "\n3/3 " in text
    assert "\n1/3 " not in text
    assert set(runs(tmp_path)[:known]) <= {"SUCCESS", "CANCELED"}, "runs that were killed have ended"
    assert set(runs(tmp_path)[known:]) == {"SUCCESS"}
    code, text = finished(tmp_path)
    assert code == 0, text
    assert "0 events in 0 micro-batches" in text

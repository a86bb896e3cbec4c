"""Dagster under fire: its daemon, code servers and runs are killed at random, and the source too, while the stream lands.

The services are the real ones, with this repository's ``dagster.yaml``. ``LAKEHOUSE_CHAOS_SECONDS=1200 pytest
tests/scenarios/test_chaos_in_dagster.py`` for twenty minutes of each mode; the seed is printed.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import pytest

from lakehouse_assets.launching.worker import WORKER_TAG, Worker
from lakehouse_assets.sprint.tables import STREAMS
from lakehouse_demo.events import StreamConfig
from lakehouse_demo.file_feed import FileFeed
from storage_engine import Catalog
from storage_engine.errors import StorageEngineError
from tests.scenarios.chaos_services import ROOT, SLICE_EVERY_S, Deployment, Services
from tests.scenarios.test_chaos import appended_by

SECONDS = float(os.environ.get("LAKEHOUSE_CHAOS_SECONDS", "0"))
SEED = int(os.environ.get("LAKEHOUSE_CHAOS_SEED", "20240129"))
PATIENCE_S = 900
PAUSE_S = (1.0, 14.0)
"""Some disasters come before the one before is over, some find everything well."""
BEFORE_S = 300
"""So long the source goes on beside the chaos, since services come up slowly on a busy machine."""
WEIGHTS = {
    "kill_run": 4,
    "kill_source": 3,
    "kill_daemon": 2,
    "kill_code_server": 2,
    "kill_zygote": 1,
    "kill_everything": 1,
}
STREAM = StreamConfig(
    events=round(SECONDS + BEFORE_S) * 20, slices=max(12, round((SECONDS + BEFORE_S) / SLICE_EVERY_S)), malformed=20
)


@pytest.fixture(params=[("services", "continuous"), ("dagster dev", "micro-batch")], ids=" ".join)
def services(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Services]:
    text = (ROOT / "dagster.yaml").read_text().replace("base_dir: .dagster", f"base_dir: {tmp_path}/.dagster")
    (tmp_path / "dagster.yaml").write_text(text)
    deployment: Deployment
    deployment, mode = request.param
    services = Services(tmp_path, deployment=deployment, mode=mode, stream=STREAM)
    try:
        yield services
    finally:
        services.kill_everything()
        shutil.rmtree(tmp_path / ".dagster", ignore_errors=True)


def wait_until(holds: Callable[[], bool], what: str, services: Services, *, every_s: float = 1.0) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline, (
            f"{what} did not come about; seed {SEED}:\n{(services.folder / 'log').read_text()[-3000:]}"
        )
        supervise(services, every_s)


def supervise(services: Services, seconds: float) -> None:
    """Let time pass, and start what dies."""
    until = time.monotonic() + seconds
    while (left_s := until - time.monotonic()) > 0:
        services.keep_alive()
        threading.Event().wait(min(0.5, left_s))


def disasters(services: Services) -> Counter[str]:
    """One after the other until time is over, each kind at least once; how often which struck."""
    random, seen = Random(SEED), Counter[str]()
    planned = random.sample(list(WEIGHTS), len(WEIGHTS))
    planned.append(planned.pop(planned.index("kill_source")))  # first, while there is one
    until = time.monotonic() + SECONDS
    while time.monotonic() < until or planned:
        supervise(services, random.uniform(*PAUSE_S))
        kind = planned[-1] if planned else random.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
        if getattr(services, kind)():
            print(f"{time.strftime('%H:%M:%S')} {kind}", flush=True)
            seen[kind] += 1
            planned = [each for each in planned if each != kind]
        elif services.is_landed:
            planned = [each for each in planned if each != "kill_source"]
    return seen


def committed(catalog: Catalog) -> int:
    """How many batches the table at the end of the chain has."""
    with contextlib.suppress(StorageEngineError):
        return catalog.table(STREAMS[-1].target).last_committed(STREAMS[-1].name) or 0
    return 0


@pytest.mark.slow
@pytest.mark.skipif(not SECONDS, reason="minutes of Dagster: set LAKEHOUSE_CHAOS_SECONDS")
def test_the_figures_are_right_after_chaos(services: Services) -> None:
    catalog = Catalog(str(services.folder / "warehouse"))
    wait_until(lambda: committed(catalog) > 0, "a commit at the end of the chain", services)
    before = committed(catalog)
    seen = disasters(services)
    services.kill_source()
    began = time.monotonic()
    with FileFeed(STREAM, services.folder / "landing") as feed:
        for _ in feed.advance():
            pass

        def is_right() -> bool:
            return not any(finding.differences for finding in feed.compare(catalog))

        wait_until(is_right, "the same figures as the recomputation", services, every_s=5.0)
    print(
        f"seed {SEED}, {SECONDS:.0f} s: {dict(seen)}, {committed(catalog) - before} batches at the end of the chain;"
        f" right after {time.monotonic() - began:.0f} s"
    )
    for stream in STREAMS:
        identifiers = catalog.table(stream.target).snapshots().filter(appended_by(stream.name))["commit_identifier"]
        assert identifiers.is_sorted()
        assert identifiers.is_unique().all(), "no batch was committed twice"

    def none_is_stuck() -> bool:
        found = [Worker.parse(run.tags.get(WORKER_TAG)) for run in services.runs()]
        return all(worker is not None and worker.is_alive for worker in found)

    wait_until(none_is_stuck, "the end of every run whose process was killed", services)

"""Dagster under fire: its daemon, code servers and runs are killed at random, and the source too, while the stream lands.

The services are the real ones, with this repository's ``dagster.yaml``. What is killed follows from the seed, which is
printed: the same kinds in the same order, as many as there is time for, each at least once. It takes all cores for minutes, so
it is asked for, and runs alone: ``make scenarios``, or ``make scenarios CHAOS_SECONDS=1200 CHAOS_SEED=7``.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from random import Random

import pytest
from sqlalchemy.exc import OperationalError

from lakehouse_assets.launching.worker import WORKER_TAG, Worker
from lakehouse_assets.sprint.tables import STREAMS
from lakehouse_demo.events import StreamConfig
from lakehouse_demo.file_feed import FileFeed
from storage_engine import Catalog
from storage_engine.errors import StorageEngineError
from tests.scenarios.chaos_services import ROOT, SLICE_EVERY_S, Deployment, Services
from tests.scenarios.test_chaos import appended_by

IS_LONG = "LAKEHOUSE_CHAOS_SECONDS" in os.environ
SECONDS = float(os.environ.get("LAKEHOUSE_CHAOS_SECONDS", "40"))
SEED = int(os.environ.get("LAKEHOUSE_CHAOS_SEED", "20240129"))
PATIENCE_S = 1500
PAUSE_S = (1.0, 14.0)
"""Some disasters come before the one before is over, some find everything well."""
FOUND_S = 60
"""So long a disaster that was there before waits for something that it can strike; the first of its kind waits for good.

There may be no run just now, or all is down.
"""
BEFORE_S = 300
"""So much of the stream is for the time beside the chaos: the fewer slices are left, the more slowly they land."""
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


OPT_IN = pytest.mark.skipif(not IS_LONG, reason="wants the machine alone: make scenarios")
MODES = [
    pytest.param(("services", "continuous"), id="services continuous", marks=OPT_IN),
    pytest.param(("dagster dev", "micro-batch"), id="dagster dev micro-batch", marks=OPT_IN),
]


@pytest.fixture(params=MODES)
def services(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Services]:
    text = (ROOT / "dagster.yaml").read_text().replace("base_dir: .dagster", f"base_dir: {tmp_path}/.dagster")
    (tmp_path / "dagster.yaml").write_text(f"{text}\ncode_servers: {{local_startup_timeout: {PATIENCE_S}}}\n")
    deployment: Deployment
    deployment, mode = request.param
    services = Services(tmp_path, deployment=deployment, mode=mode, stream=STREAM)
    try:
        services.prepare()
        yield services
    finally:
        services.kill_everything()
        shutil.rmtree(tmp_path / ".dagster", ignore_errors=True)


def wait_until(comes: Callable[[], Iterable[str]], what: str, services: Services, *, every_s: float = 1.0) -> None:
    """Wait for what comes when nothing is missing any more."""
    deadline = time.monotonic() + PATIENCE_S
    while missing := list(comes()):
        assert time.monotonic() < deadline, (
            f"{what} did not come about (seed {SEED}): {missing}\n{(services.folder / 'log').read_text()[-3000:]}"
        )
        supervise(services, every_s)


def supervise(services: Services, seconds: float) -> None:
    """Let time pass, and start what dies."""
    until = time.monotonic() + seconds
    while (left_s := until - time.monotonic()) > 0:
        services.keep_alive()
        threading.Event().wait(min(0.5, left_s))


def kinds() -> Iterator[str]:
    """What is killed, one after the other: each kind once, the source first while there is one, and then at random."""
    random = Random(SEED)
    yield from sorted(random.sample(list(WEIGHTS), len(WEIGHTS)), key="kill_source".__ne__)
    while True:
        yield from random.choices(list(WEIGHTS), list(WEIGHTS.values()))


def disasters(services: Services) -> Counter[str]:
    """One after the other until time is over, each kind at least once; how often which struck."""
    pauses, seen = Random(SEED), Counter[str]()
    until = time.monotonic() + SECONDS
    for already, kind in enumerate(kinds()):
        if already >= len(WEIGHTS) and time.monotonic() >= until:
            break
        supervise(services, pauses.uniform(*PAUSE_S))
        struck = strikes(services, kind, PATIENCE_S if already < len(WEIGHTS) else FOUND_S)
        seen[kind] += struck
        print(f"{time.strftime('%H:%M:%S')} {kind}{'' if struck else ': there is none'}", flush=True)
    return seen


def strikes(services: Services, kind: str, patience_s: float) -> bool:
    """Let it happen as soon as there is something to kill; whether there was."""
    give_up = time.monotonic() + patience_s
    while not getattr(services, kind)():
        if time.monotonic() >= give_up or (kind == "kill_source" and services.is_landed):
            return False
        supervise(services, 0.5)
    return True


def committed(catalog: Catalog) -> int:
    """How many batches the table at the end of the chain has."""
    with contextlib.suppress(StorageEngineError):
        return catalog.table(STREAMS[-1].target).last_committed(STREAMS[-1].name) or 0
    return 0


def wrong(feed: FileFeed, catalog: Catalog) -> list[str]:
    """Which figures are not those of the recomputation, or cannot be read while the streams go on."""
    try:
        return [
            f"{finding.name}: {finding.differences[:3]}" for finding in feed.compare(catalog) if finding.differences
        ]
    except StorageEngineError as error:
        return [str(error)]


def stuck(services: Services) -> list[str]:
    """Runs that have not ended, though no process is on them."""
    try:
        found = {run.run_id: Worker.parse(run.tags.get(WORKER_TAG)) for run in services.runs()}
    except OperationalError as error:
        return [str(error)]
    return [run for run, worker in found.items() if worker is None or not worker.is_alive]


@pytest.mark.slow
@pytest.mark.xdist_group("chaos")
def test_the_figures_are_right_after_chaos(services: Services) -> None:
    catalog = Catalog(str(services.folder / "warehouse"))
    wait_until(lambda: [] if committed(catalog) else ["none"], "a commit at the end of the chain", services)
    before = committed(catalog)
    seen = disasters(services)
    never = {kind for kind in WEIGHTS if not seen[kind]}
    assert not never or (never == {"kill_source"} and services.is_landed), f"seed {SEED}: {seen}"
    services.kill_source()
    began = time.monotonic()
    with FileFeed(STREAM, services.folder / "landing") as feed:
        for _ in feed.advance():
            pass
        wait_until(lambda: wrong(feed, catalog), "the same figures as the recomputation", services, every_s=5.0)
    print(
        f"seed {SEED}, {SECONDS:.0f} s: {dict(seen)}, {committed(catalog) - before} batches at the end of the chain;"
        f" right after {time.monotonic() - began:.0f} s"
    )
    wait_until(lambda: stuck(services), "the end of every run whose process was killed", services)
    services.kill_everything()
    for stream in STREAMS:
        identifiers = catalog.table(stream.target).snapshots().filter(appended_by(stream.name))["commit_identifier"]
        assert identifiers.is_sorted()
        assert identifiers.is_unique().all(), "no batch was committed twice"

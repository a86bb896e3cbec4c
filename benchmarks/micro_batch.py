"""Micro-batches in a real ``dagster dev`` with this repository's ``dagster.yaml``: from a source's commit to its target's.

``BENCH_MICRO_BATCH_SECONDS`` (default 240) is how long each way of committing goes on. First as it comes, then with
Dagster's own launcher.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from random import Random

import polars as pl

from benchmarks.figures import OURS, Figure, Section
from benchmarks.micro_batch_project import DDL, PAIRS
from benchmarks.rounds import Bench
from lakehouse_assets.stream.offsets import SOURCES_PROPERTY
from storage_engine import Catalog

ROOT = Path(__file__).resolve().parents[1]
SECONDS = float(os.environ.get("BENCH_MICRO_BATCH_SECONDS", "240"))
RARELY_S, OFTEN_S = (36.0, 60.0), (0.2, 2.0)
"""Pauses between commits at a source: longer than a run lingers, so that each finds no run; and shorter."""
PATIENCE_S = 180


def run(bench: Bench) -> Iterator[Section]:
    """Commits now and then, each of which needs a run of its own, and commits that follow each other."""
    figures: list[Figure] = []
    counts: list[str] = []
    for engine, configuration in CONFIGURATIONS.items():
        folder = bench.folder / f"micro-batch-{len(counts)}"
        folder.mkdir()
        (folder / "dagster.yaml").write_text(configuration())
        catalog = Catalog(str(folder / "warehouse"))
        catalog.execute(DDL)
        with _dagster_dev(folder):
            _commit(catalog, PAIRS[0], 0)
            _wait_for_targets(catalog)
            rare = _latencies(catalog, PAIRS, RARELY_S, SECONDS)
            often = _latencies(catalog, PAIRS[:1], OFTEN_S, SECONDS / 4)
        figures += [*_figures("rare changes", engine, rare), *_figures("frequent changes", engine, often)]
        counts.append(f"{len(rare)} and {len(often)}")
    yield Section(
        title="Latency of micro-batches in `dagster dev`",
        text=f"{len(PAIRS)} streams with sensors, everything as it comes; commits of 10 rows at the sources, at random moments;"
        " from the time in the source's snapshot to that in the target's. *Rare*: each source waits 36 to 60 s, so that no run"
        " lingers and each change starts one. *Frequent*: 0.2 to 2 s. The peer is the same without the lines `run_launcher` of"
        f" `dagster.yaml`. Rare and frequent changes: {'; '.join(counts)}.",
        figures=tuple(sorted(figures, key=lambda figure: figure.work)),
    )


def _configuration() -> str:
    """That of this repository."""
    return (ROOT / "dagster.yaml").read_text()


def _without_launcher() -> str:
    """The same with Dagster's own launcher."""
    return "\n\n".join(part for part in _configuration().split("\n\n") if "\nrun_launcher:" not in f"\n{part}")


CONFIGURATIONS: Mapping[str, Callable[[], str]] = {OURS: _configuration, "Dagster's own launcher": _without_launcher}


def _figures(work: str, engine: str, found: list[float]) -> list[Figure]:
    goals = {"p50": (0.5, 3.0), "p99": (0.99, 8.0)}
    return [
        Figure(
            work=f"{work}, {name}",
            engine=engine,
            values=(_percentile(found, share),),
            most=most if engine == OURS else None,
        )
        for name, (share, most) in goals.items()
    ]


def _percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def _latencies(
    catalog: Catalog, pairs: list[tuple[str, str]], pauses: tuple[float, float], seconds: float
) -> list[float]:
    """Commit at each source after random pauses, for some time; how long each change took, in seconds."""
    random = Random(7)
    began_ms = time.time() * 1000
    until = time.monotonic() + seconds
    due = {pair: time.monotonic() + random.uniform(*pauses) for pair in pairs}
    number = 0
    while (pair := min(due, key=lambda each: due[each])) and due[pair] < until:
        time.sleep(max(0.0, due[pair] - time.monotonic()))
        number += 1
        _commit(catalog, pair, number)
        due[pair] = time.monotonic() + random.uniform(*pauses)
    _wait_for_targets(catalog, pairs)
    return [latency for pair in pairs for latency in _took(catalog, *pair, began_ms)]


def _commit(catalog: Catalog, pair: tuple[str, str], number: int) -> None:
    catalog.table(pair[0]).write(pl.DataFrame({"id": range(10), "n": [number] * 10}))


def _took(catalog: Catalog, source: str, target: str, after_ms: float) -> Iterator[float]:
    """For each commit at the source since a moment: the time until the target's first snapshot that holds it."""
    consumed = []
    for snapshot in catalog.table(target).store.snapshots.backwards():
        with suppress(KeyError):
            consumed.append((json.loads(snapshot.properties[SOURCES_PROPERTY])[source], snapshot.time_millis))
    consumed.reverse()
    for snapshot in catalog.table(source).store.snapshots.backwards():
        if snapshot.commit_kind == "APPEND" and snapshot.time_millis >= after_ms:
            yield next(at for position, at in consumed if position >= snapshot.id) / 1000 - snapshot.time_millis / 1000


def _wait_for_targets(catalog: Catalog, pairs: list[tuple[str, str]] | None = None) -> None:
    """Until all changes have arrived."""
    give_up = time.monotonic() + PATIENCE_S
    for source, target in pairs or PAIRS[:1]:
        wanted = catalog.table(source).scan().sort("id").collect()
        while not catalog.table(target).scan().sort("id").collect().equals(wanted):
            if time.monotonic() > give_up:
                raise RuntimeError(f"{target} does not get what {source} has")
            time.sleep(0.5)


@contextmanager
def _dagster_dev(folder: Path) -> Iterator[None]:
    """The server on the folder's warehouse, with the folder's ``dagster.yaml``."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("DAGSTER_", "LAKEHOUSE_"))}
    environment |= {"PYTHONPATH": str(ROOT), "LAKEHOUSE_WAREHOUSE": str(folder / "warehouse")}
    command = [
        sys.executable,
        "-W",
        "ignore",
        "-m",
        "dagster",
        "dev",
        "-m",
        "benchmarks.micro_batch_project",
        "-p",
        "0",
    ]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            yield
        except BaseException:
            sys.stderr.write((folder / "log").read_text()[-5000:])
            raise
        finally:
            os.killpg(process.pid, signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                process.wait(60)
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)

"""How many events a second pass the three layers, what each stage costs, and whether lag and memory stay flat.

``python -m benchmarks throughput --seconds 600`` is the figure of the page; ``--rate 100000`` lets events come in by the clock.
The process that moves them, ``python -m benchmarks.throughput FOLDER SECONDS RATE ABREAST``, has the environment that the
launcher gives to runs.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from benchmarks.figures import OURS, Figure, Section
from benchmarks.order_events import FILE_EVENTS, ORDERS, TABLE, landed, prepare, write_dimensions
from benchmarks.rounds import Bench
from lakehouse_assets.continuous import ContinuousConfig
from lakehouse_assets.ingest import Ingester, IngestMover
from lakehouse_assets.launching.launcher import KEPT_MEMORY
from lakehouse_assets.sources.landing import LandingSource
from lakehouse_assets.sprint.ods import INGESTIONS
from lakehouse_assets.sprint.tables import STREAMS, create_tables
from lakehouse_assets.stream.lanes import Mover
from lakehouse_assets.stream.loop import Limits, Loop, StreamMover
from lakehouse_assets.stream.runner import BatchResult, StreamRunner
from storage_engine import Catalog

GOAL_PER_S = 100_000
WAITING = 4
SLICES = 10
TURNS = 8
"""Rounds after the run in which movers take turns, so that each one's work can be told from the others'."""


@dataclass(slots=True)
class _Sustained:
    """What a run has seen. ``cpu_s``: of all its threads; ``lag``, ``memory_mb``: (seconds since the start, files or MiB).

    ``by_turns``: CPU seconds of ``GOAL_PER_S`` events by stage, where movers take turns.
    """

    files: int = 0
    seconds: float = 0.0
    cpu_s: float = 0.0
    peak_mb: float = 0.0
    lag: list[tuple[float, float]] = field(default_factory=list)
    memory_mb: list[tuple[float, float]] = field(default_factory=list)
    by_turns: dict[str, float] = field(default_factory=dict)

    def slices(self, samples: Sequence[tuple[float, float]]) -> tuple[float, ...]:
        """The highest sample of each tenth of the run that has one."""
        highest: dict[int, float] = {}
        for at, value in samples:
            number = min(SLICES - 1, int(at / self.seconds * SLICES))
            highest[number] = max(value, highest.get(number, 0.0))
        return tuple(highest[number] for number in sorted(highest))


def run(bench: Bench) -> Iterator[Section]:
    """Order events as landing files, through ODS, DWD (six lookup joins) and both APP tables, for as long as it takes."""
    landing = bench.folder / "landing"
    write_dimensions(landing)
    prepare(landing)
    abreast = bench.abreast or ContinuousConfig().abreast
    numbers = [str(number) for number in (bench.seconds, bench.rate, abreast)]
    command = [sys.executable, "-m", "benchmarks.throughput", str(bench.folder), *numbers]
    moved = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env={**KEPT_MEMORY, **os.environ})
    done = _Sustained(**json.loads(moved.stdout.splitlines()[-1]))
    events = done.files * FILE_EVENTS
    rate = f"{bench.rate:,} a second" if bench.rate else "as fast as they are taken"
    setting = ", ".join(f"{name}={value}" for name, value in KEPT_MEMORY.items())
    yield Section(
        title="Throughput through three layers",
        text=f"Debezium events of orders ({ORDERS:,} keys, so most are updates) land as files of {FILE_EVENTS:,} lines, {rate},"
        f" for {bench.seconds:.0f} s; one process, with the environment that the launcher gives to runs ({setting}) and {abreast}"
        " movers abreast, ingests them, widens them by six lookup joins and keeps both APP tables."
        f" {events:,} events came out. Lag and memory: the highest of each tenth of the run: {_listed(done.slices(done.lag))}"
        f" files; {_listed(done.slices(done.memory_mb))} MiB. What each stage costs is measured afterwards, where they take"
        " turns.",
        figures=tuple(_figures(done, events)),
    )


def _figures(done: _Sustained, events: int) -> Iterator[Figure]:
    per_s = events / done.seconds
    yield Figure(work="events", engine=OURS, values=(per_s,), unit="1/s", peak_mb=done.peak_mb)
    yield Figure(work=f"time of {GOAL_PER_S:,} events", engine=OURS, values=(GOAL_PER_S / per_s,), most=1.0)
    cpu_s = done.cpu_s * GOAL_PER_S / events
    yield Figure(work=f"CPU of {GOAL_PER_S:,} events", engine=OURS, values=(cpu_s,), most=2.0)
    yield Figure(work="busy", engine=OURS, values=(done.cpu_s / done.seconds,), unit="cores")
    for stage, cpu_s in done.by_turns.items():
        yield Figure(work=f"CPU of {GOAL_PER_S:,} events: {stage}", engine=OURS, values=(cpu_s,))
    yield Figure(work="lag", engine=OURS, values=done.slices(done.lag), unit="files")
    yield Figure(work="memory", engine=OURS, values=done.slices(done.memory_mb), unit="MiB")


def _listed(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.0f}" for value in values)


def _move(folder: Path, seconds: float, rate: int, abreast: int) -> _Sustained:
    """What the process that moves the events does."""
    landing = folder / "landing"
    catalog = Catalog(str(folder / "throughput"))
    create_tables(catalog)
    chain: list[Mover] = [IngestMover(Ingester(catalog, LandingSource(str(landing)), INGESTIONS))]
    chain += [StreamMover(StreamRunner(catalog, stream)) for stream in STREAMS]
    for _ in Loop(chain, Limits()).results():
        pass
    with landed(landing, waiting=WAITING, rate=rate):
        done = _sustained(chain, landing / TABLE, seconds, abreast)
        done.by_turns = dict(_by_turns(chain, landing / TABLE, done.files))
    return done


def _sustained(chain: Sequence[Mover], folder: Path, seconds: float, abreast: int) -> _Sustained:
    """Move the chain for some time; files are removed once they are read, and count once they are through all stages."""
    done = _Sustained()
    started, cpu_s = time.monotonic(), time.process_time()
    while not done.files:
        for result in Loop(chain, Limits(seconds=seconds, window_s=seconds), abreast=abreast).results():
            elapsed = time.monotonic() - started
            if read := _files(result):
                done.files += read
                done.lag.append((elapsed, float(_take_away(folder, done.files))))
            done.memory_mb.append((elapsed, _resident_mb()))
    for _ in Loop(chain[1:], Limits(), abreast=abreast).results():
        pass
    done.seconds, done.cpu_s = time.monotonic() - started, time.process_time() - cpu_s
    done.peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return done


def _take_away(folder: Path, read: int) -> int:
    """Remove the files up to a number; how many others are there."""
    waiting = list(folder.glob("*.jsonl"))
    behind = [path for path in waiting if int(path.stem) <= read]
    for path in behind:
        path.unlink()
    return len(waiting) - len(behind)


def _by_turns(chain: Sequence[Mover], folder: Path, read: int) -> Mapping[str, float]:
    """CPU seconds of ``GOAL_PER_S`` events by stage."""
    cpu_s = {mover.name.partition("/")[0].strip(): 0.0 for mover in chain}
    files = 0
    for _ in range(TURNS):
        for mover in chain:
            before = time.process_time()
            results = mover.move()
            cpu_s[mover.name.partition("/")[0].strip()] += time.process_time() - before
            files += sum(_files(result) for result in results)
        _take_away(folder, read + files)
    return {stage: spent * GOAL_PER_S / (max(files, 1) * FILE_EVENTS) for stage, spent in cpu_s.items()}


def _files(result: BatchResult) -> int:
    return result.rows_read // FILE_EVENTS if result.target == f"ods.{TABLE}" else 0


def _resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


if __name__ == "__main__":
    print(json.dumps(asdict(_move(Path(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])))))

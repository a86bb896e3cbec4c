"""How many events a second pass the three layers, what each stage costs, and whether lag and memory stay flat.

``python -m benchmarks throughput --seconds 600`` is the figure of the page; ``--rate 100000`` lets events come in by the clock.
"""

from __future__ import annotations

import os
import resource
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.figures import OURS, Figure, Section
from benchmarks.order_events import FILE_EVENTS, ORDERS, TABLE, landed, prepare, write_dimensions
from benchmarks.rounds import Bench
from lakehouse_assets.ingest import Ingester, IngestMover
from lakehouse_assets.sources.landing import LandingSource
from lakehouse_assets.sprint.ods import INGESTIONS
from lakehouse_assets.sprint.tables import STREAMS, create_tables
from lakehouse_assets.stream.loop import Limits, Loop, Mover, StreamMover
from lakehouse_assets.stream.runner import BatchResult, StreamRunner
from storage_engine import Catalog

GOAL_PER_S = 100_000
WAITING = 4
SLICES = 10
_PAUSE_S = 0.01


@dataclass(slots=True)
class _Sustained:
    """What a run has seen. ``cpu_s``: by stage; ``lag``, ``memory_mb``: (seconds since the start, files or MiB)."""

    files: int = 0
    seconds: float = 0.0
    cpu_s: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    lag: list[tuple[float, float]] = field(default_factory=list)
    memory_mb: list[tuple[float, float]] = field(default_factory=list)

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
    catalog = Catalog(str(bench.folder / "throughput"))
    create_tables(catalog)
    write_dimensions(landing)
    prepare(landing)
    chain: list[Mover] = [IngestMover(Ingester(catalog, LandingSource(str(landing)), INGESTIONS))]
    chain += [StreamMover(StreamRunner(catalog, stream)) for stream in STREAMS]
    for _ in Loop(chain, Limits()).results():
        pass
    with landed(landing, waiting=WAITING, rate=bench.rate):
        done = _sustained(chain, landing / TABLE, bench.seconds)
    events = done.files * FILE_EVENTS
    rate = f"{bench.rate:,} a second" if bench.rate else "as fast as they are taken"
    yield Section(
        title="Throughput through three layers",
        text=f"Debezium events of orders ({ORDERS:,} keys, so most are updates) land as files of {FILE_EVENTS:,} lines, {rate},"
        f" for {bench.seconds:.0f} s; one process ingests them, widens them by six lookup joins and keeps both APP tables."
        f" {events:,} events came out. Lag and memory: the highest of each tenth of the run: {_listed(done.slices(done.lag))}"
        f" files; {_listed(done.slices(done.memory_mb))} MiB.",
        figures=tuple(_figures(done, events)),
    )


def _figures(done: _Sustained, events: int) -> Iterator[Figure]:
    per_s = events / done.seconds
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    yield Figure(work="events", engine=OURS, values=(per_s,), unit="1/s", peak_mb=peak)
    yield Figure(work=f"time of {GOAL_PER_S:,} events", engine=OURS, values=(GOAL_PER_S / per_s,), most=1.0)
    share = GOAL_PER_S / events
    for stage, cpu_s in done.cpu_s.items():
        yield Figure(work=f"CPU of {GOAL_PER_S:,} events: {stage}", engine=OURS, values=(cpu_s * share,))
    yield Figure(
        work=f"CPU of {GOAL_PER_S:,} events", engine=OURS, values=(sum(done.cpu_s.values()) * share,), most=2.0
    )
    yield Figure(work="lag", engine=OURS, values=done.slices(done.lag), unit="files")
    yield Figure(work="memory", engine=OURS, values=done.slices(done.memory_mb), unit="MiB")


def _listed(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.0f}" for value in values)


def _sustained(chain: Sequence[Mover], folder: Path, seconds: float) -> _Sustained:
    """Move the chain for some time; files are removed once they are read, and count once they are through all stages."""
    done = _Sustained()
    started = time.monotonic()
    while (elapsed := time.monotonic() - started) < seconds or not done.files:
        read = sum(_files(result) for mover in chain for result in _moved(mover, done))
        waiting = sorted(folder.glob("*.jsonl"))
        for path in waiting:
            if int(path.stem) <= done.files + read:
                path.unlink()
        done.files += read
        done.lag.append((elapsed, float(len(waiting) - read)))
        done.memory_mb.append((elapsed, _resident_mb()))
        if not read:
            time.sleep(_PAUSE_S)
    while any(_moved(mover, done) for mover in chain[1:]):
        pass
    done.seconds = time.monotonic() - started
    return done


def _moved(mover: Mover, done: _Sustained) -> list[BatchResult]:
    cpu_s = time.process_time()
    results = mover.move()
    done.cpu_s[mover.name.partition("/")[0].strip()] += time.process_time() - cpu_s
    return results


def _files(result: BatchResult) -> int:
    return result.rows_read // FILE_EVENTS if result.target == f"ods.{TABLE}" else 0


def _resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20

"""How many events a second pass the three layers, what each stage costs, and whether lag and memory stay flat.

``python -m benchmarks throughput --seconds 600`` is the figure of the page; ``--rate 100000`` lets events come in by the clock.
Events are moved as the shipped project's continuous runs move them, each by a process with the environment that the launcher
gives to runs: ``python -m benchmarks.throughput FOLDER RUN SECONDS ABREAST``, which ends once its input does and nothing is left.
"""

from __future__ import annotations

import json
import math
import os
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from benchmarks.figures import OURS, Figure, Section
from benchmarks.order_events import FILE_EVENTS, ORDERS, TABLE, landed, prepare, write_dimensions
from benchmarks.rounds import Bench
from lakehouse_assets.continuous import Continuous, ContinuousConfig, movers_of
from lakehouse_assets.launching.launcher import KEPT_MEMORY
from lakehouse_assets.resources import LandingResource
from lakehouse_assets.sprint.assets import SPRINT, SprintLakehouse
from lakehouse_assets.stream.lanes import Mover
from lakehouse_assets.stream.loop import Limits, Loop
from lakehouse_assets.stream.runner import BatchResult

GOAL_PER_S = 100_000
WAITING = 8
SLICES = 10
TURNS = 8
"""Rounds after the run in which movers take turns, so that each one's work can be told from the others'."""


RUNS = replace(SPRINT, mode="continuous").continuous_runs()
BY_TURNS = "by turns"
"""The name of a process that measures what each mover costs, instead of one of ``RUNS``."""
_LOOK_S = 0.05

Samples = list[tuple[float, float]]
"""(seconds since the start, value)."""


@dataclass(slots=True)
class _Moved:
    """What a process has done. ``files``: that it has read from the source; ``cpu_s``: of all its threads; memory in MiB.

    ``by_turns``: CPU seconds of ``GOAL_PER_S`` events by stage, where movers take turns.
    """

    files: int = 0
    seconds: float = 0.0
    cpu_s: float = 0.0
    peak_mb: float = 0.0
    lag: Samples = field(default_factory=list)
    memory_mb: Samples = field(default_factory=list)
    by_turns: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Sustained:
    """What all processes of a run have done together."""

    parts: tuple[_Moved, ...]

    @property
    def events(self) -> int:
        return FILE_EVENTS * sum(part.files for part in self.parts)

    @property
    def seconds(self) -> float:
        return max(part.seconds for part in self.parts)

    @property
    def cpu_s(self) -> float:
        return sum(part.cpu_s for part in self.parts)

    @property
    def lag(self) -> tuple[float, ...]:
        return self._slices([sample for part in self.parts for sample in part.lag])

    @property
    def memory_mb(self) -> tuple[float, ...]:
        """All processes together."""
        each = [self._slices(part.memory_mb) for part in self.parts]
        return tuple(sum(values) for values in zip(*each, strict=False))

    def _slices(self, samples: Samples) -> tuple[float, ...]:
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
    for _ in Loop(_movers(bench.folder, RUNS), Limits()).results():
        pass  # the dimensions, through all layers
    with landed(landing, waiting=WAITING, rate=bench.rate):
        done = _sustained(bench, abreast)
        (turns,) = _ended([_process(bench.folder, BY_TURNS, 0.0, 1)])
    rate = f"{bench.rate:,} a second" if bench.rate else "as fast as they are taken"
    setting = ", ".join(f"{name}={value}" for name, value in KEPT_MEMORY.items())
    yield Section(
        title="Throughput through three layers",
        text=f"Debezium events of orders ({ORDERS:,} keys, so most are updates) land as files of {FILE_EVENTS:,} lines, {rate},"
        f" for {bench.seconds:.0f} s; the {len(RUNS)} continuous runs of the shipped project, each a process with the environment"
        f" that the launcher gives to runs ({setting}) and {abreast} movers abreast, ingest them, widen them by six lookup joins"
        f" and keep both APP tables. {done.events:,} events came out. Lag and memory of all processes: the highest of each tenth"
        f" of the run: {_listed(done.lag)} files; {_listed(done.memory_mb)} MiB. What each stage costs is measured afterwards,"
        " in one process where they take turns.",
        figures=tuple(_figures(done, turns)),
    )


def _figures(done: _Sustained, turns: _Moved) -> Iterator[Figure]:
    per_s = done.events / done.seconds
    peak_mb = sum(part.peak_mb for part in done.parts)
    yield Figure(work="events", engine=OURS, values=(per_s,), unit="1/s", peak_mb=peak_mb)
    yield Figure(work=f"time of {GOAL_PER_S:,} events", engine=OURS, values=(GOAL_PER_S / per_s,), most=1.0)
    cpu_s = done.cpu_s * GOAL_PER_S / done.events
    yield Figure(work=f"CPU of {GOAL_PER_S:,} events", engine=OURS, values=(cpu_s,), most=2.0)
    yield Figure(work="busy", engine=OURS, values=(done.cpu_s / done.seconds,), unit="cores")
    for stage, cpu_s in turns.by_turns.items():
        yield Figure(work=f"CPU of {GOAL_PER_S:,} events: {stage}", engine=OURS, values=(cpu_s,))
    yield Figure(work="lag", engine=OURS, values=done.lag, unit="files")
    yield Figure(work="memory", engine=OURS, values=done.memory_mb, unit="MiB")


def _listed(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.0f}" for value in values)


def _sustained(bench: Bench, abreast: int) -> _Sustained:
    """One process for each run; those that ingest end first, and the others once nothing is left."""
    processes = {each.full_name: _process(bench.folder, each.full_name, bench.seconds, abreast) for each in RUNS}
    for process in processes.values():
        assert process.stdin is not None
        print("begin", file=process.stdin, flush=True)
    ingesting = _ended([processes[each.full_name] for each in RUNS if each.ingestions])
    return _Sustained((*ingesting, *_ended([processes[each.full_name] for each in RUNS if not each.ingestions])))


def _process(folder: Path, name: str, seconds: float, abreast: int) -> subprocess.Popen[str]:
    """A process that is ready to begin."""
    command = [sys.executable, "-m", "benchmarks.throughput", str(folder), name, str(seconds), str(abreast)]
    environment = {**KEPT_MEMORY, **os.environ}
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None
    process.stdout.readline()
    return process


def _ended(processes: Sequence[subprocess.Popen[str]]) -> list[_Moved]:
    """What processes say once their input has ended."""
    moved: list[_Moved] = []
    for process in processes:
        told, _ = process.communicate()
        if process.returncode:
            raise RuntimeError(f"a mover ended with {process.returncode}")
        moved.append(_Moved(**json.loads(told.splitlines()[-1])))
    return moved


def _movers(folder: Path, runs: Sequence[Continuous]) -> list[Mover]:
    lakehouse = SprintLakehouse(warehouse=str(folder / "throughput"))
    changes = LandingResource(folder=str(folder / "landing"))
    return [mover for each in runs for mover in movers_of(each, each.targets, lakehouse, changes)]


def _moved(folder: Path, name: str, seconds: float, abreast: int) -> _Moved:
    """What a process does: it moves a run's part, ingestion for some time, streams until told that all is there."""
    (run,) = (each for each in RUNS if each.full_name == name)
    movers = _movers(folder, [run])
    print("ready", flush=True)
    sys.stdin.readline()
    ended = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
    done, started, cpu_s = _Moved(), time.monotonic(), time.process_time()
    timed = Limits(seconds=seconds, window_s=seconds)
    until_told = Limits(seconds=math.inf, make_way=ended.is_set, make_way_every_s=_LOOK_S)
    for limits in (timed,) if run.ingestions else (until_told, Limits()):
        for result in Loop(movers, limits, abreast=abreast).results():
            _note(done, result, time.monotonic() - started, folder / "landing" / TABLE)
    done.cpu_s = time.process_time() - cpu_s
    done.peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return done


def _note(done: _Moved, result: BatchResult, elapsed: float, landing: Path) -> None:
    """Count a batch. Files are removed once they are read."""
    if read := _files(result):
        done.files += read
        done.lag.append((elapsed, float(_take_away(landing, done.files))))
    done.memory_mb.append((elapsed, _resident_mb()))
    done.seconds = elapsed


def _moved_by_turns(folder: Path) -> _Moved:
    """The CPU seconds of ``GOAL_PER_S`` events by stage, after a first round that fills the caches."""
    landing, movers = folder / "landing" / TABLE, _movers(folder, RUNS)
    print("ready", flush=True)
    done = _Moved()
    read = min(int(path.stem) for path in landing.glob("*.jsonl")) - 1
    for number in range(TURNS + 1):
        for mover in movers:
            before = time.process_time()
            results = list(mover.move())
            stage = mover.name.partition("/")[0].strip()
            spent = time.process_time() - before if number else 0.0
            done.by_turns[stage] = done.by_turns.get(stage, 0.0) + spent
            files = sum(_files(result) for result in results)
            read, done.files = read + files, done.files + (files if number else 0)
        _take_away(landing, read)
    done.by_turns = {stage: spent * GOAL_PER_S / (done.files * FILE_EVENTS) for stage, spent in done.by_turns.items()}
    return done


def _take_away(folder: Path, read: int) -> int:
    """Remove the files up to a number; how many others are there."""
    waiting = list(folder.glob("*.jsonl"))
    behind = [path for path in waiting if int(path.stem) <= read]
    for path in behind:
        path.unlink()
    return len(waiting) - len(behind)


def _files(result: BatchResult) -> int:
    return result.rows_read // FILE_EVENTS if result.target == f"ods.{TABLE}" else 0


def _resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


if __name__ == "__main__":
    where, what = Path(sys.argv[1]), sys.argv[2]
    moved = _moved_by_turns(where) if what == BY_TURNS else _moved(where, what, float(sys.argv[3]), int(sys.argv[4]))
    print(json.dumps(asdict(moved)))

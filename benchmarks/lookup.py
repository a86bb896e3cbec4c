"""A lookup changelog: a small upsert into a large compacted table, whose old rows must be found."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from benchmarks.dataset import BASE, Upserts
from benchmarks.figures import OURS, Figure, Section
from benchmarks.java_peer import NAME as JAVA
from benchmarks.rounds import Bench, drive

ROWS, BATCHES = 5_000_000, 4
_OPTIONS = {**BASE, "changelog-producer": "lookup", "write-only": "false"}
_FIRST, _NEXT = "first upsert of 1 %", "each of the next three"
_GOAL = 5.0


def run(bench: Bench) -> Iterator[Section]:
    """The first upsert of a new writer, and those after it, beside Java."""
    rows = bench.rows(ROWS)
    load = Upserts(count=1, rows=rows, keys=rows).write(bench.folder / "lookup-load")
    batches = Upserts(count=BATCHES, rows=rows // 100, keys=rows, seed=8).write(bench.folder / "lookup-batches")
    inputs = bench.java.load(batches) if bench.java else []
    taken: dict[tuple[str, str], list[float]] = defaultdict(list)
    peaks: dict[str, float] = defaultdict(float)
    with bench.warehouse(_OPTIONS) as base:
        drive("ours", base, ["write", load], ["compact"])
        for number in range(bench.rounds + 1):
            with bench.warehouse(_OPTIONS, copy_of=base) as warehouse:
                done = drive("ours", warehouse, ["write", batches])
                _keep(taken, OURS, done["seconds"][0])
                peaks[OURS] = max(peaks[OURS], done["peak_mb"])
            if bench.java:
                with bench.warehouse(_OPTIONS, copy_of=base) as warehouse:
                    seconds = bench.java.write(warehouse, inputs)
                if number:  # the first round warms the compiler up
                    _keep(taken, JAVA, seconds)
                    peaks[JAVA] = bench.java.peak_mb
    yield Section(
        title="Lookup changelog",
        text=f"{rows:,} rows in 4 buckets, fully compacted, `changelog-producer` = `lookup`; then {BATCHES} upserts of"
        f" {rows // 100:,} rows by one writer, each committed with its changelog.",
        figures=tuple(
            Figure(
                work=work,
                engine=engine,
                values=tuple(values),
                least_ratio=_GOAL if engine == JAVA else None,
                peak_mb=peaks[engine],
            )
            for (work, engine), values in taken.items()
        ),
    )


def _keep(taken: dict[tuple[str, str], list[float]], engine: str, seconds: list[float]) -> None:
    taken[_FIRST, engine].append(seconds[0])
    taken[_NEXT, engine] += seconds[1:]

"""Full compaction of eight overlapping runs, and its peak memory."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from benchmarks.dataset import BASE, Upserts
from benchmarks.figures import OURS, Figure, Section
from benchmarks.java_peer import NAME as JAVA
from benchmarks.rounds import Bench, drive

RUNS, RUN_ROWS = 8, 4_200_000  # about 1 GB of Parquet
_GOAL = 3.0
_BUDGET_MB = 256
"""``write-buffer-size``, which nobody sets here."""
_MOST_SHARE = 1.25


def run(bench: Bench) -> Iterator[Section]:
    """Seconds and peak memory of ours and of Java."""
    rows = bench.rows(RUN_ROWS)
    taken: dict[str, list[float]] = defaultdict(list)
    peaks: dict[str, float] = defaultdict(float)
    beyond: list[float] = []
    with bench.warehouse(BASE) as base:
        for number in range(RUNS):
            upserts = Upserts(count=1, rows=rows, keys=2 * rows, seed=number)
            drive("ours", base, ["write", upserts.write(bench.folder / "run")])
        size = sum(file.stat().st_size for file in Path(base).rglob("*.parquet"))
        for number in range(bench.rounds + 1):
            if number:
                with bench.warehouse(BASE, copy_of=base) as warehouse:
                    done = drive("ours", warehouse, ["compact"])
                    taken[OURS] += done["seconds"][0]
                    peaks[OURS] = max(peaks[OURS], done["peak_mb"])
                    beyond.append(done["peak_mb"] - done["before_mb"])
            if bench.java and (number or bench.rounds > 1):  # the first round warms the compiler up
                with bench.warehouse(BASE, copy_of=base) as warehouse:
                    seconds = bench.java.compact(warehouse)
                    if number:
                        taken[JAVA] += seconds
                        peaks[JAVA] = bench.java.peak_mb
    yield Section(
        title="Full compaction",
        text=f"{RUNS} overlapping runs of {rows:,} rows, {size / 1e9:.2f} GB of Parquet in 4 buckets, into one run."
        f" The memory budget ('write-buffer-size') is {_BUDGET_MB} MB; what the process takes before it begins is not counted.",
        figures=(
            *(
                Figure(
                    work="full compaction",
                    engine=engine,
                    values=tuple(values),
                    least_ratio=_GOAL if engine == JAVA else None,
                    peak_mb=peaks[engine],
                )
                for engine, values in taken.items()
            ),
            Figure(
                work="peak memory beyond what the process had before",
                engine=OURS,
                values=tuple(beyond),
                unit="MiB",
                most=_BUDGET_MB * _MOST_SHARE,
            ),
        ),
    )

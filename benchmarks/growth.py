"""Whether the cost of a row stays the same as a table grows."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.dataset import BASE, Upserts
from benchmarks.figures import OURS, Figure, Section
from benchmarks.rounds import Bench, drive

MILLION = 1_000_000
SIZES = (1, 5, 20)
LARGE_SIZES = (1, 10, 100)
COMMITS, BUCKETS = 10, 8
_MOST = 1.25
_READS = 3


def run(bench: Bench, *, large: bool = False) -> Iterator[Section]:
    """Nanoseconds a row of writing a table in ten commits, compaction included, and of a sum by a full read."""
    million = bench.rows(MILLION)
    options = {**BASE, "bucket": str(BUCKETS), "write-only": "false"}
    figures: list[Figure] = []
    first: dict[str, float] = {}
    for size in LARGE_SIZES if large else SIZES:
        total, rows = size * million, size * million // COMMITS
        with bench.warehouse(options) as warehouse:
            written, peak = 0.0, 0.0
            for number in range(COMMITS):
                upserts = Upserts(count=1, rows=rows, keys=rows, first_key=number * rows, seed=number)
                done = drive("ours", warehouse, ["write", upserts.write(bench.folder / "growth")])
                written += done["seconds"][0][0]
                peak = max(peak, done["peak_mb"])
            read = drive("ours", warehouse, ["aggregate", _READS])
        for work, taken, memory in (("write", [written], peak), ("read", read["seconds"][0], read["peak_mb"])):
            values = tuple(seconds / total * 1e9 for seconds in taken)
            most = first.setdefault(work, sorted(values)[len(values) // 2]) * _MOST
            work_of_size = f"{work} {total:,} rows"
            figures.append(
                Figure(work=work_of_size, engine=OURS, values=values, unit="ns a row", peak_mb=memory, most=most)
            )
    yield Section(
        title="Cost of a row as a table grows",
        text=f"New rows in {COMMITS} commits of the same size and {BUCKETS} buckets, compaction as it falls due; then the sum of"
        " two columns over all rows by Polars' streaming engine. Goal: a row costs at most a quarter more than in the smallest"
        " table. The writer is handed each commit's rows in memory, which are in its peak.",
        figures=tuple(figures),
    )

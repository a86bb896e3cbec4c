"""Whether the cost of a row stays the same as a table grows."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.dataset import BASE, Upserts
from benchmarks.figures import OURS, Figure, Section
from benchmarks.rounds import Bench, drive

BATCH = 1_000_000
SIZES = (1, 5, 20)
LARGE_SIZES = (1, 10, 100)


def run(bench: Bench, *, large: bool = False) -> Iterator[Section]:
    """Nanoseconds a row of writing batches of a million new rows, compaction included, and of counting by a full read."""
    rows = bench.rows(BATCH)
    figures = []
    for size in LARGE_SIZES if large else SIZES:
        options = {**BASE, "bucket": str(4 * size), "write-only": "false"}
        with bench.warehouse(options) as warehouse:
            written = []
            peak = 0.0
            for number in range(size):
                upserts = Upserts(count=1, rows=rows, keys=rows, first_key=number * rows, seed=number)
                done = drive("ours", warehouse, ["write", upserts.write(bench.folder / "growth")])
                written += done["seconds"][0]
                peak = max(peak, done["peak_mb"])
            read = drive("ours", warehouse, ["aggregate", 3])
        total = size * rows
        figures += [
            _figure(f"write {total:,} rows", [sum(written) / total], peak),
            _figure(f"read {total:,} rows", [s / total for s in read["seconds"][0]], read["peak_mb"]),
        ]
    yield Section(
        title="Cost of a row as a table grows",
        text="Batches of a million new rows, a bucket for every 250,000 rows, compaction as it falls due; then the sum of a"
        " column over all rows by Polars' streaming engine. Goal: within ± 25 %.",
        figures=tuple(figures),
    )


def _figure(work: str, seconds_a_row: list[float], peak_mb: float) -> Figure:
    values = tuple(s * 1e9 for s in seconds_a_row)
    return Figure(work=work, engine=OURS, values=values, unit="ns a row", peak_mb=peak_mb)

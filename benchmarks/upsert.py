"""Upserts and merge-on-read of the overlapping runs that they leave, beside all peers, for three merge engines."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import polars as pl

from benchmarks.dataset import MERGE_ENGINES, Upserts
from benchmarks.figures import OURS, Figure, Section
from benchmarks.java_peer import NAME as JAVA
from benchmarks.rounds import Bench, drive, engines

BATCHES, ROWS, KEYS = 5, 200_000, 400_000
READS = 3
_WARM_UPS = 3
_WRITE_GOALS = {
    "deduplicate": {"pypaimon-rust": 1.5, "pypaimon": 20.0, JAVA: 5.0},
    "partial-update": {"pypaimon-rust": 4.0},
    "aggregation": {"pypaimon-rust": 4.0},
}
_READ_GOALS = {"deduplicate": 1.3, "partial-update": 3.0, "aggregation": 2.0}


def run(bench: Bench) -> Iterator[Section]:
    """One section for each merge engine."""
    for merge_engine in MERGE_ENGINES:
        yield _section(bench, merge_engine)


def _section(bench: Bench, merge_engine: str) -> Section:
    rows, keys = bench.rows(ROWS), bench.rows(KEYS)
    upserts = Upserts(count=BATCHES, rows=rows, keys=keys, partial=merge_engine == "partial-update")
    paths = upserts.write(bench.folder / merge_engine)
    expected = pl.concat([pl.scan_ipc(path).select("id") for path in paths]).unique().collect().height
    writes: dict[str, list[float]] = defaultdict(list)
    reads: dict[str, list[float]] = defaultdict(list)
    peaks: dict[str, list[float]] = defaultdict(list)
    python = ["ours", *(name for name in engines() if name != "pypaimon" or merge_engine == "deduplicate")]
    inputs = bench.java.load(paths) if bench.java else []
    for _ in range(_WARM_UPS if bench.java else 0):
        _java_round(bench, merge_engine, inputs, expected)
    for _ in range(bench.rounds):
        for engine in python:
            with bench.warehouse(MERGE_ENGINES[merge_engine]) as warehouse:
                times = READS if engine != "pypaimon" else 1
                done = drive(engine, warehouse, ["write", paths], ["read", times])
            _check(engine, done["rows"], expected)
            name = OURS if engine == "ours" else engine
            writes[name].append(sum(done["seconds"][0]))
            reads[name].append(min(done["seconds"][1]))
            peaks[name].append(done["peak_mb"])
        if bench.java:
            write_s, read_s = _java_round(bench, merge_engine, inputs, expected)
            writes[JAVA].append(write_s)
            reads[JAVA].append(read_s)
            peaks[JAVA].append(bench.java.peak_mb)
    goals = _WRITE_GOALS[merge_engine]
    figures = [
        Figure(work="upsert", engine=name, values=tuple(values), least_ratio=goals.get(name), peak_mb=max(peaks[name]))
        for name, values in writes.items()
    ] + [
        Figure(
            work="merge-on-read",
            engine=name,
            values=tuple(values),
            least_ratio=_READ_GOALS[merge_engine] if name == "pypaimon-rust" else None,
        )
        for name, values in reads.items()
    ]
    return Section(
        title=f"Upsert and merge-on-read: {merge_engine}",
        text=f"{BATCHES} commits of {rows:,} rows (of {keys:,} keys), 10 columns, 4 buckets, `sequence.field`, `write-only`;"
        f" then the {BATCHES} overlapping runs are read and merged: {expected:,} rows.",
        figures=tuple(figures),
    )


def _java_round(bench: Bench, merge_engine: str, inputs: list[str], expected: int) -> tuple[float, float]:
    assert bench.java is not None
    with bench.warehouse(MERGE_ENGINES[merge_engine]) as warehouse:
        write_s = sum(bench.java.write(warehouse, inputs))
        read_s = min(bench.java.read(warehouse, READS))
        _check(JAVA, bench.java.count(Path(warehouse)), expected)
    return write_s, read_s


def _check(engine: str, found: int, expected: int) -> None:
    if found != expected:
        raise RuntimeError(f"{engine} reads {found} rows, expected {expected}")

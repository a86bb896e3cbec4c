"""Many small commits, as a stream makes them, and the costs that come before the first row."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl

from benchmarks.dataset import COLUMNS, Upserts
from benchmarks.drivers import seconds
from benchmarks.figures import OURS, Figure, Section
from benchmarks.rounds import Bench
from storage_engine import Catalog, Table

COMMITS, SHARE = 1000, 100
IMPORTS = 7


def run(bench: Bench) -> Iterator[Section]:
    """Import, no-op, one row, a thousand rows, a thousand commits."""
    yield Section(
        title="Small costs",
        text="A lookup-changelog table of 4 buckets with `sequence.field`, each commit with its compaction, files synced.",
        figures=(*_start(), *_small(bench)),
    )
    yield _many(bench, max(2 * SHARE, int(COMMITS * min(1.0, bench.scale))))


def _start() -> Iterator[Figure]:
    """What a process pays before its first row: the package loads its rooms when they are first asked for."""
    steps = {
        "polars": "import polars",
        "package": "import polars, storage_engine",
        "catalog": "import polars; from storage_engine import Catalog",
    }
    taken: dict[str, list[float]] = {step: [] for step in steps}
    for _ in range(IMPORTS):
        for step, script in steps.items():
            command = [sys.executable, "-c", script]
            taken[step].append(seconds(lambda command=command: subprocess.run(command, check=True)))  # type: ignore[misc]
    for step, work in [("package", "import storage_engine"), ("catalog", "from storage_engine import Catalog")]:
        more = tuple(ours - bare for ours, bare in zip(taken[step], taken["polars"], strict=True))
        yield Figure(work=f"`{work}` beyond `import polars`", engine=OURS, values=more, most=0.5)


def _small(bench: Bench) -> Iterator[Figure]:
    table = _table(bench)
    rows = _frame(2000, 50_000)
    table.write(rows, commit_user="bench", commit_identifier=0)
    again = [seconds(lambda: table.write(rows, commit_user="bench", commit_identifier=0)) for _ in range(11)]
    yield _milliseconds("a batch that is already committed", again, most=50)
    for count in (1, 1000):
        small = rows.slice(0, count)
        taken = [seconds(lambda small=small: table.write(small)) for _ in range(21)]  # type: ignore[misc]
        yield _milliseconds(f"a commit of {count:,} row{'s' * (count > 1)}", taken[1:], most=20 if count > 1 else None)


def _many(bench: Bench, commits: int) -> Section:
    table = _table(bench)
    rows = _frame(100_000, 1_000_000)
    taken, files = [], []
    for number in range(commits):
        batch = rows.slice(number * 100 % rows.height, 100)
        started = time.perf_counter()
        table.write(batch)
        taken.append(time.perf_counter() - started)
        if number % SHARE == SHARE - 1:
            files.append(table.files().height)
    first, last = statistics.median(taken[:SHARE]), statistics.median(taken[-SHARE:])
    growth = statistics.mean(taken[-SHARE:]) / statistics.mean(taken[:SHARE])
    return Section(
        title=f"{commits:,} small commits",
        text="100 rows each into the same kind of table; what a commit costs should not grow with the commits before it.",
        figures=(
            _milliseconds(f"one of the first {SHARE} commits", taken[:SHARE]),
            _milliseconds(f"one of the last {SHARE} commits", taken[-SHARE:]),
            Figure(work="last by first, medians", engine=OURS, values=(last / first,), unit="×", most=1.2),
            Figure(
                work="last by first, means (compactions of old levels included)",
                engine=OURS,
                values=(growth,),
                unit="×",
            ),
            Figure(work="live data files", engine=OURS, values=tuple(float(n) for n in files), unit="files"),
        ),
    )


def _milliseconds(work: str, taken: list[float], *, most: float | None = None) -> Figure:
    return Figure(work=work, engine=OURS, values=tuple(1000 * s for s in taken), unit="ms", most=most)


def _frame(rows: int, keys: int) -> pl.DataFrame:
    frame = pl.from_arrow(Upserts(count=1, rows=rows, keys=keys).batch(np.random.default_rng(7), 0))
    assert isinstance(frame, pl.DataFrame)
    return frame


def _table(bench: Bench) -> Table:
    catalog = Catalog(str(Path(tempfile.mkdtemp(prefix="commits-", dir=bench.folder))))
    catalog.create_database("db")
    options = {"bucket": "4", "sequence.field": "event_time", "changelog-producer": "lookup"}
    catalog.create_table("db.t", COLUMNS, primary_key=["id"], options=options)
    return catalog.table("db.t")

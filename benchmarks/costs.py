"""Small costs that users feel: importing the engine, a batch with nothing to do, a small commit; and how cost grows."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time

from rich.console import Console

from benchmarks.dataset import batches
from benchmarks.engines import seconds
from storage_engine import Catalog, Table

REPEATS = 7
CURVE_ROWS = (50_000, 200_000, 800_000)


def run() -> None:
    """Measure and print."""
    console = Console()
    polars, engine = _import_s("polars"), _import_s("storage_engine")
    console.print(
        f"import polars {polars:.3f} s, storage_engine {engine:.3f} s: {engine - polars:+.3f} s more (goal < 0.5)"
    )
    table = _table("lookup")
    rows = batches(count=1, rows=10_000, keys=50_000)[0]
    table.write(rows, commit_user="bench", commit_identifier=0)
    again = statistics.median(
        seconds(lambda: table.write(rows, commit_user="bench", commit_identifier=0)) for _ in range(REPEATS)
    )
    console.print(f"a batch that is already committed: {again * 1000:.1f} ms (goal < 50)")
    small = rows.slice(0, 100)
    commits = [
        seconds(lambda number=number: table.write(small, commit_user="bench", commit_identifier=number))
        for number in range(1, REPEATS + 1)
    ]
    console.print(f"100 rows to a lookup-changelog table of 4 buckets: {statistics.median(commits) * 1000:.0f} ms")
    for count in CURVE_ROWS:
        _curve(console, count)


def _curve(console: Console, count: int) -> None:
    table = _table("none")
    rows = batches(count=1, rows=count, keys=count)[0]
    write = seconds(lambda: table.write(rows))
    read = statistics.median(seconds(lambda: table.scan().collect()) for _ in range(3))
    console.print(
        f"{count:>9,} rows: write {write / count * 1e9:6.0f} ns a row, read {read / count * 1e9:6.0f} ns a row"
    )


def _table(producer: str) -> Table:
    catalog = Catalog(tempfile.mkdtemp(prefix="bench-"))
    catalog.create_database("db")
    schema = batches(count=1, rows=1, keys=1)[0].schema
    options = {"bucket": "4", "sequence.field": "event_time", "changelog-producer": producer}
    catalog.create_table("db.t", schema, primary_key=["id"], options=options)
    return catalog.table("db.t")


def _import_s(module: str) -> float:
    def once() -> float:
        started = time.perf_counter()
        subprocess.run([sys.executable, "-c", f"import {module}"], check=True)
        return time.perf_counter() - started

    return statistics.median(once() for _ in range(REPEATS))

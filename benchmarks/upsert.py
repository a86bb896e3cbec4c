"""Upsert and merge-on-read beside pypaimon-rust and pypaimon, rounds interleaved, medians and ratios printed."""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from typing import Any

from rich.console import Console
from rich.table import Table

ROUNDS = 5
PYPAIMON_PYTHON = os.environ.get("PYPAIMON_PYTHON", ".venv-pypaimon/bin/python")
"""pypaimon pins older Arrow and Polars, so it lives in an environment of its own."""


def run() -> None:
    """Run all engines, round after round, and print the comparison."""
    engines = {"ours": sys.executable, "pypaimon-rust": sys.executable}
    if os.path.exists(PYPAIMON_PYTHON):
        engines["pypaimon"] = PYPAIMON_PYTHON
    results: dict[str, list[dict[str, Any]]] = {engine: [] for engine in engines}
    for number in range(ROUNDS):
        for engine, python in engines.items():
            if engine != "pypaimon" or number == 0:
                results[engine].append(_measure(engine, python))
    _print(results)


def _measure(engine: str, python: str) -> dict[str, Any]:
    warehouse = tempfile.mkdtemp(prefix="bench-")
    try:
        done = subprocess.run(
            [python, "-m", "benchmarks.engines", engine, warehouse], check=True, capture_output=True, text=True
        )
        return dict(json.loads(done.stdout.splitlines()[-1]))
    finally:
        shutil.rmtree(warehouse, ignore_errors=True)


def _print(results: dict[str, list[dict[str, Any]]]) -> None:
    median = {
        engine: {key: statistics.median(run[key] for run in runs) for key in ("write_s", "read_s", "peak_mb")}
        for engine, runs in results.items()
    }
    table = Table(
        title="5 x 200,000 upserts, deduplicate + sequence.field, 4 buckets, 10 columns; read 5 overlapping runs"
    )
    for column in ("engine", "rounds", "write s", "read s", "peak MB", "write ratio", "read ratio"):
        table.add_column(column, justify="left" if column == "engine" else "right")
    for engine, figures in median.items():
        ratios = [f"{figures[key] / median['ours'][key]:.2f} x" for key in ("write_s", "read_s")]
        times = [f"{figures[key]:.3f}" for key in ("write_s", "read_s")]
        table.add_row(engine, str(len(results[engine])), *times, f"{figures['peak_mb']:.0f}", *ratios)
    console = Console()
    console.print(table)
    console.print("ratio: the engine's time by ours; above 1 means that ours is faster")

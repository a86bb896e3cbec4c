"""Reads that need no merge, beside ``polars.scan_parquet`` of the same files."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from benchmarks.dataset import BASE, Upserts
from benchmarks.figures import OURS, Figure, Section
from benchmarks.rounds import Bench, drive

ROWS, UPDATED = 2_000_000, 20_000
_BARE = "polars.scan_parquet"
_TABLES = {
    "after full compaction": {**BASE, "write-only": "false"},
    "with deletion vectors": {**BASE, "write-only": "false", "deletion-vectors.enabled": "true"},
}
_QUERIES = {
    "all columns": (None, None),
    "two columns of 1 row in 9": (["id", "amount"], 2),
}
_LEAST = 1 / 1.3


def run(bench: Bench) -> Iterator[Section]:
    """Our read by the bare one's time, for two tables and two queries."""
    rows = bench.rows(ROWS)
    load = Upserts(count=1, rows=rows, keys=rows).write(bench.folder / "load")
    update = Upserts(count=1, rows=bench.rows(UPDATED), keys=rows, seed=8).write(bench.folder / "update")
    taken: dict[tuple[str, str], list[float]] = defaultdict(list)
    for table, options in _TABLES.items():
        with bench.warehouse(options) as warehouse:
            steps = [["write", load], ["compact"]]
            drive("ours", warehouse, *(steps if "compaction" in table else [["write", [*load, *update]]]))
            for _ in range(bench.rounds):
                for query, (columns, below) in _QUERIES.items():
                    done = drive(
                        "ours",
                        warehouse,
                        ["frames", 1, columns, below],
                        ["bare", 1, columns, below],
                        ["frames", 5, columns, below],
                        ["bare", 5, columns, below],
                    )
                    taken[f"{table}, {query}", OURS].append(min(done["seconds"][2]))
                    taken[f"{table}, {query}", _BARE].append(min(done["seconds"][3]))
    yield Section(
        title="Reads that need no merge",
        text=f"{rows:,} rows; with deletion vectors, 1 % of them were then updated. Each round is a process of its own and"
        " keeps the best of five reads. Goal: at most 1.3 × the time of the bare scan, so a ratio of at least 0.77 ×.",
        figures=tuple(
            Figure(work=work, engine=engine, values=tuple(values), least_ratio=_LEAST if engine == _BARE else None)
            for (work, engine), values in taken.items()
        ),
    )

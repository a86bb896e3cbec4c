"""What sorting an append table buys: files, row groups and time of a selective predicate over two columns."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.parquet as pq

from benchmarks.figures import OURS, Figure, Section
from benchmarks.rounds import Bench
from storage_engine import Catalog, Table
from storage_engine.read.plan import plan_scan
from storage_engine.store.live_files import LiveFiles

ROWS, COMMITS = 2_000_000, 20
STRATEGIES = ("as written", "order", "zorder", "hilbert")
COLUMNS = {"customer": "BIGINT", "paid_at": "TIMESTAMP(3)", "amount": "DOUBLE", "note": "STRING"}
_PREDICATES = {
    "both columns": (pl.col("customer").is_between(500_000, 510_000))
    & (pl.col("paid_at").is_between(pl.datetime(2024, 6, 1), pl.datetime(2024, 6, 8))),
    "the second column": pl.col("paid_at").is_between(pl.datetime(2024, 6, 1), pl.datetime(2024, 6, 2)),
}


def run(bench: Bench) -> Iterator[Section]:
    """Seconds and files of a query by a new handle, before and after each order; and the seconds that the sorting took."""
    source = bench.folder / "layout"
    _fill(source, bench.rows(ROWS))
    figures: list[Figure] = []
    answers: dict[str, set[int]] = {}
    for strategy in STRATEGIES:
        warehouse = bench.folder / f"layout-{strategy}"
        shutil.copytree(source, warehouse)
        table = Catalog(str(warehouse)).table("db.t")
        if strategy != STRATEGIES[0]:
            started = time.perf_counter()
            table.compact(order_strategy=strategy, order_by=["customer", "paid_at"])
            figures.append(Figure(work=f"sort: {strategy}", engine=OURS, values=(time.perf_counter() - started,)))
        for named, predicate in _PREDICATES.items():
            taken, found = zip(*(_query(warehouse, predicate) for _ in range(bench.rounds)), strict=True)
            answers.setdefault(named, set()).update(found)
            files, groups, all_groups = _met(table, predicate)
            counts = f"{files} of {table.files().height} files, {groups} of {all_groups} row groups"
            figures.append(Figure(work=f"query {named}: {strategy} ({counts})", engine=OURS, values=taken))
    if any(len(found) != 1 for found in answers.values()):
        raise RuntimeError(f"the answers differ: {answers}")
    yield Section(
        title="Sorting a table without a primary key",
        text=f"{bench.rows(ROWS):,} rows in {COMMITS} commits, files of 1 MB, by customer and paid_at.",
        figures=tuple(figures),
    )


def _fill(warehouse: Path, rows: int) -> None:
    catalog = Catalog(str(warehouse))
    catalog.create_database("db")
    catalog.create_table("db.t", COLUMNS, options={"target-file-size": "1 mb", "write-only": "true"})
    table = catalog.table("db.t")
    chance = np.random.default_rng(7)
    for _ in range(COMMITS):
        count = rows // COMMITS
        seconds = chance.integers(1_704_067_200, 1_735_689_600, count)
        table.write(
            pl.DataFrame(
                {
                    "customer": chance.integers(0, 1_000_000, count),
                    "paid_at": pl.Series(seconds * 1000).cast(pl.Datetime("ms")),
                    "amount": chance.random(count),
                    "note": pl.Series(chance.integers(0, 1_000_000_000, count)).cast(pl.String),
                }
            )
        )


def _query(warehouse: Path, predicate: pl.Expr) -> tuple[float, int]:
    started = time.perf_counter()
    found = Catalog(str(warehouse)).table("db.t").scan().filter(predicate).select(pl.len()).collect().item()
    return time.perf_counter() - started, found


def _met(table: Table, predicate: pl.Expr) -> tuple[int, int, int]:
    """Files that a query reads, and of the row groups of all files those that it reads, and all."""
    plan = plan_scan(LiveFiles(table.store, table.schema), table.schema, table.latest_snapshot(), predicate)
    read = {file.file_name for split in plan.splits for file in split.files}
    groups = {path: pq.read_metadata(path).num_row_groups for path in table.files()["file_path"]}
    met = sum(count for path, count in groups.items() if path.rsplit("/", 1)[1] in read)
    return plan.files_read, met, sum(groups.values())

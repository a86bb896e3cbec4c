"""Lookup joins on a dimension of 5 M rows: warm full cache beside Polars' own join, cold partial cache for 1,000 keys."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from benchmarks.figures import OURS, Figure, Section
from benchmarks.rounds import Bench
from storage_engine import Catalog, LookupTable, Table

ROWS, BATCH_ROWS, COLD_KEYS, CHANGED_ROWS = 5_000_000, 100_000, 1_000, 1_000
_WARM, _CHANGED, _COLD, _LOAD = "warm full cache", "after 1,000 rows of it changed", "cold partial cache", "loading it"
_POLARS = "polars in memory"


def run(bench: Bench) -> Iterator[Section]:
    """Joins of a batch, round after round; every round's rows are held against a plain join."""
    rows = bench.rows(ROWS)
    warehouse = bench.folder / "lookup-joins"
    table = dimension(warehouse, rows)
    rng = np.random.default_rng(7)
    in_memory = table.scan().collect()
    taken: dict[tuple[str, str], list[float]] = {}
    lookup = LookupTable(table, on=["id"], strategy="full-cache")

    def note(work: str, engine: str, job: Callable[[], Any]) -> Any:
        started = time.perf_counter()
        result = job()
        taken.setdefault((work, engine), []).append(time.perf_counter() - started)
        return result

    note(_LOAD, OURS, lambda: lookup.join(_batch(rng, rows, 1), left_on=["product_id"]))
    for _ in range(bench.rounds):
        batch = _batch(rng, rows, BATCH_ROWS)
        ours = note(_WARM, OURS, lambda batch=batch: lookup.join(batch, left_on=["product_id"]))
        plain = note(_WARM, _POLARS, lambda batch=batch: _plain(batch, in_memory))
        _compare(ours, plain)
    for number in range(bench.rounds):
        ids = pl.DataFrame({"id": np.unique(rng.integers(0, rows, CHANGED_ROWS))})
        table.write(table.lookup(ids).with_columns(name=pl.lit(f"changed {number}")))
        note(_CHANGED, OURS, lambda: lookup.join(_batch(rng, rows, BATCH_ROWS), left_on=["product_id"]))
    for _ in range(bench.rounds):
        note(_COLD, OURS, lambda: _cold(warehouse, _batch(rng, rows, COLD_KEYS)))
    goals: dict[str, dict[str, Any]] = {_WARM: {"most": 2.0, "most_of": _POLARS}, _COLD: {"most": 0.3}}
    yield Section(
        title="Lookup joins",
        text=f"A dimension of {rows:,} rows in 8 buckets, compacted, with a lookup changelog; batches of {BATCH_ROWS:,} rows,"
        f" of which one in fifty finds nothing. Cold: catalog, table and manifests are opened anew for {COLD_KEYS:,} random"
        " keys; only the operating system's page cache is warm.",
        figures=tuple(
            Figure(work=work, engine=engine, values=tuple(values), **(goals.get(work, {}) if engine == OURS else {}))
            for (work, engine), values in taken.items()
        ),
    )


def dimension(warehouse: Path, rows: int) -> Table:
    """A compacted dimension with a lookup changelog."""
    catalog = Catalog(str(warehouse))
    catalog.create_database("db")
    columns = {"id": "BIGINT", "name": "STRING", "category": "STRING", "weight": "DECIMAL(10, 4)"}
    options = {"bucket": "8", "changelog-producer": "lookup"}
    table = catalog.create_table("db.product", columns, primary_key=["id"], options=options)
    table.write(
        pl.DataFrame({"id": np.arange(rows)}).with_columns(
            pl.format("product {}", "id").alias("name"),
            pl.format("category {}", pl.col("id") % 1000).alias("category"),
            (pl.col("id") % 97).cast(pl.Decimal(10, 4)).alias("weight"),
        )
    )
    table.compact(full=True)
    return table


def _batch(rng: np.random.Generator, keys: int, rows: int) -> pl.DataFrame:
    return pl.DataFrame({"n": np.arange(rows), "product_id": rng.integers(0, keys + keys // 50, rows)})


def _plain(batch: pl.DataFrame, rows: pl.DataFrame) -> pl.DataFrame:
    return batch.join(rows, left_on="product_id", right_on="id", how="left", maintain_order="left")


def _cold(warehouse: Path, batch: pl.DataFrame) -> pl.DataFrame:
    table = Catalog(str(warehouse)).table("db.product")
    return LookupTable(table, on=["id"], strategy="partial-cache").join(batch, left_on=["product_id"])


def _compare(ours: pl.DataFrame, plain: pl.DataFrame) -> None:
    if not ours.select(plain.columns).equals(plain):
        raise SystemExit("the full cache gives other rows than a plain join")

"""Lookup joins on a dimension of 5 M rows: warm full cache beside Polars' own join, cold partial cache for 1,000 keys.

Flink's lookup join works on the same table. Its caches live as long as a job, so a warm batch is what a job of many batches takes
longer than a job of one, and a cold one what a job with the join takes longer than one without.
"""

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
from tests.interop.flink.server import Flink, FlinkSession
from tests.interop.flink.toolchain import find_java

ROWS, BATCH_ROWS, COLD_KEYS, CHANGED_ROWS = 5_000_000, 100_000, 1_000, 1_000
WORKERS = 2
FLINK_BATCHES, FLINK_ROUNDS_MAX, FLINK_TIMEOUT_S = 20, 3, 3600
"""Each of Flink's rounds is five jobs, of which each loads what it caches."""
_WARM, _CHANGED, _COLD, _LOAD = "warm full cache", "after 1,000 rows of it changed", "cold partial cache", "loading it"
_SHUFFLED = f"warm bucket shuffle, {WORKERS} processes"
_PARTIAL = "warm partial cache"
_POLARS, _FLINK = "polars in memory", "Flink 1.20 + Paimon 1.3.1"
_GOALS: dict[str, dict[str, Any]] = {_WARM: {"most": 2.0, "most_of": _POLARS}, _COLD: {"most": 0.3}}


class Clock:
    """Seconds by work and engine."""

    def __init__(self) -> None:
        self.taken: dict[tuple[str, str], list[float]] = {}

    def note(self, work: str, engine: str, job: Callable[[], Any]) -> Any:
        """Do a job and remember what it took."""
        started = time.perf_counter()
        result = job()
        self.add(work, engine, time.perf_counter() - started)
        return result

    def add(self, work: str, engine: str, seconds: float) -> None:
        """Remember what something took."""
        self.taken.setdefault((work, engine), []).append(seconds)


def run(bench: Bench) -> Iterator[Section]:
    """Joins of a batch, round after round; every round's rows are held against a plain join."""
    rows = bench.rows(ROWS)
    warehouse = bench.folder / "lookup-joins"
    table = dimension(warehouse, rows)
    clock = Clock()
    _ours(clock, table, warehouse, rows, bench.rounds)
    if bench.java_wanted and find_java() is not None:
        with Flink() as flink:
            _flinks(clock, flink.open(warehouse), rows, min(bench.rounds, FLINK_ROUNDS_MAX))
    works = dict.fromkeys(work for work, _ in clock.taken)
    ordered = [(work, engine) for work in works for engine in (OURS, _POLARS, _FLINK) if (work, engine) in clock.taken]
    yield Section(
        title="Lookup joins",
        text=f"A dimension of {rows:,} rows in 8 buckets, compacted, with a lookup changelog; batches of {BATCH_ROWS:,} rows,"
        f" of which one in fifty finds nothing. Cold: catalog, table and manifests are opened anew for {COLD_KEYS:,} random"
        f" keys; only the operating system's page cache is warm. Flink counts what its join gives: a warm batch is the"
        f" {FLINK_BATCHES}th part of what {FLINK_BATCHES + 1} batches take longer than one in a job, a cold one (its cache is"
        " 'auto', which is partial) what a job takes longer than without the join.",
        figures=tuple(
            Figure(
                work=work,
                engine=engine,
                values=tuple(clock.taken[work, engine]),
                **(_GOALS.get(work, {}) if engine == OURS else {}),
            )
            for work, engine in ordered
        ),
    )


def _ours(clock: Clock, table: Table, warehouse: Path, rows: int, rounds: int) -> None:
    rng = np.random.default_rng(7)
    in_memory = table.scan().collect()
    lookup = LookupTable(table, on=["id"], strategy="full-cache")
    shuffled = LookupTable(table, on=["id"], strategy="bucket-shuffle", workers=WORKERS)
    shuffled.join(_batch(rng, rows, BATCH_ROWS), left_on=["product_id"])
    clock.note(_LOAD, OURS, lambda: lookup.join(_batch(rng, rows, 1), left_on=["product_id"]))
    for _ in range(rounds):
        batch = _batch(rng, rows, BATCH_ROWS)
        plain = clock.note(_WARM, _POLARS, lambda batch=batch: _plain(batch, in_memory))
        for work, dimension in ((_WARM, lookup), (_SHUFFLED, shuffled)):
            joined = clock.note(work, OURS, lambda batch=batch, it=dimension: it.join(batch, left_on=["product_id"]))
            _compare(joined, plain)
    partial = LookupTable(table, on=["id"], strategy="partial-cache")
    batch = _batch(rng, rows, BATCH_ROWS)
    for number in range(rounds + 1):
        started = time.perf_counter()
        partial.join(batch, left_on=["product_id"])
        if number:
            clock.add(_PARTIAL, OURS, time.perf_counter() - started)
    for _ in range(rounds):
        clock.note(_COLD, OURS, lambda: _cold(warehouse, _batch(rng, rows, COLD_KEYS)))
    for number in range(rounds):
        ids = pl.DataFrame({"id": np.unique(rng.integers(0, rows, CHANGED_ROWS))})
        table.write(table.lookup(ids).with_columns(name=pl.lit(f"changed {number}")))
        clock.note(_CHANGED, OURS, lambda: lookup.join(_batch(rng, rows, BATCH_ROWS), left_on=["product_id"]))
    table.compact(full=True)


def _flinks(clock: Clock, flink: FlinkSession, rows: int, rounds: int) -> None:
    """Jobs over random keys, which Flink makes itself."""
    for name, count in (("few", COLD_KEYS), ("batch", BATCH_ROWS), ("batches", BATCH_ROWS * (FLINK_BATCHES + 1))):
        flink.sql(
            f"CREATE TEMPORARY TABLE {name} (product_id BIGINT, proc_time AS PROCTIME()) WITH ('connector' = 'datagen',"
            f" 'number-of-rows' = '{count}', 'rows-per-second' = '1000000000', 'fields.product_id.min' = '0',"
            f" 'fields.product_id.max' = '{rows + rows // 50 - 1}')"
        )

    def seconds(name: str, cache: str | None) -> float:
        query = f"SELECT COUNT(*) FROM {name}"
        if cache is not None:
            query = (
                f"SELECT COUNT(*), COUNT(p.name) FROM {name} AS s LEFT JOIN db.product"
                f" /*+ OPTIONS('lookup.cache' = '{cache}') */ FOR SYSTEM_TIME AS OF s.proc_time AS p"
                " ON s.product_id = p.id"
            )
        started = time.perf_counter()
        flink.sql(query, timeout_s=FLINK_TIMEOUT_S)
        return time.perf_counter() - started

    seconds("few", None)  # the JVM loads its classes
    seconds("few", "auto")
    for number in range(rounds):
        without = seconds("few", None)
        clock.add(_COLD, _FLINK, seconds("few", "auto") - without)
        for cache, work in (("full", _WARM), ("auto", _PARTIAL)):
            one = seconds("batch", cache)
            clock.add(work, _FLINK, (seconds("batches", cache) - one) / FLINK_BATCHES)
            if cache == "full" and number == 0:
                clock.add(_LOAD, _FLINK, one - seconds("batch", None))


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

"""Streams: from the commit at the source to the commit at the target, and how many events a second pass three layers.

``BENCH_STREAM_SECONDS`` (default 30) is how long the throughput is sustained; 600 for the figure of the page.
"""

from __future__ import annotations

import json
import os
import resource
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl

from benchmarks.figures import OURS, Figure, Section
from benchmarks.rounds import Bench
from lakehouse_assets.ingest import Ingester, IngestMover
from lakehouse_assets.sources.landing import LandingSource
from lakehouse_assets.sprint.ods import INGESTIONS
from lakehouse_assets.sprint.tables import STREAMS, create_tables
from lakehouse_assets.stream.declaration import Stream
from lakehouse_assets.stream.loop import Limits, Loop, Mover, StreamMover
from lakehouse_assets.stream.runner import BatchResult, StreamRunner
from storage_engine import Catalog

COMMITS, EVERY_S = 200, 0.25
SECONDS = float(os.environ.get("BENCH_STREAM_SECONDS", "30"))
FILE_EVENTS = 100_000
ORDERS, MEMBERS, AGENTS, PRODUCTS = 2_000_000, 100_000, 500, 200
GOAL_PER_S = 100_000
FIRST_S = b"1706500"
"""First digits of the events' milliseconds; a file that is landed later has the next number in their place."""


def latency(bench: Bench) -> Iterator[Section]:
    """A continuous loop over one stream, and commits of 10 rows at its source, four a second."""
    catalog = Catalog(str(bench.folder / "stream-latency"))
    catalog.create_database("db")
    options = {"bucket": "2", "changelog-producer": "lookup"}
    for name in ("db.a", "db.b"):
        catalog.create_table(name, {"id": "BIGINT", "n": "BIGINT"}, primary_key=["id"], options=options)
    stream = Stream(source="db.a", target="db.b", transform=lambda rows: rows)
    writer = threading.Thread(target=_commit_now_and_then, args=(Catalog(str(bench.folder / "stream-latency")),))
    writer.start()
    loop = Loop([StreamMover(StreamRunner(catalog, stream))], Limits(seconds=EVERY_S * 8, linger_s=EVERY_S * 20))
    found = sorted(result.latency_ms / 1000 for result in loop.results() if result.latency_ms is not None)
    writer.join()
    idle = time.process_time()
    for _ in Loop(loop.movers, Limits(seconds=5, linger_s=5)).results():
        pass
    share = (time.process_time() - idle) / 5
    yield Section(
        title="Latency of a continuous stream",
        text=f"{COMMITS} commits of 10 rows at the source, one each {EVERY_S} s, by a writer in the same process; from the time"
        " in the source's snapshot to that in the target's. The last row is the share of a core that the loop takes while"
        " nothing happens.",
        figures=(
            Figure(work="source commit → target commit, p50", engine=OURS, values=(_percentile(found, 0.5),), most=0.1),
            Figure(
                work="source commit → target commit, p99", engine=OURS, values=(_percentile(found, 0.99),), most=0.5
            ),
            Figure(work="idle loop", engine=OURS, values=(share,), unit="cores", most=0.05),
        ),
    )


def _commit_now_and_then(catalog: Catalog) -> None:
    table = catalog.table("db.a")
    for number in range(COMMITS):
        started = time.monotonic()
        table.write(pl.DataFrame({"id": range(10), "n": [number] * 10}))
        time.sleep(max(0.0, EVERY_S - (time.monotonic() - started)))


def _percentile(values: list[float], share: float) -> float:
    return values[min(len(values) - 1, int(len(values) * share))]


def throughput(bench: Bench) -> Iterator[Section]:
    """Order events as landing files, through ODS, DWD (six lookup joins) and both APP tables, for as long as it takes."""
    warehouse, landing = str(bench.folder / "stream-throughput"), bench.folder / "landing"
    catalog = Catalog(warehouse)
    create_tables(catalog)
    _dimensions(landing)
    chain: list[Mover] = [IngestMover(Ingester(catalog, LandingSource(str(landing)), INGESTIONS))]
    chain += [StreamMover(StreamRunner(catalog, stream)) for stream in STREAMS]
    for _ in Loop(chain, Limits()).results():
        pass
    _prepared(landing)
    done = _sustained(chain, landing)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    per_s = done.events / done.seconds
    yield Section(
        title="Throughput through three layers",
        text=f"Debezium events of orders ({ORDERS:,} keys, so most are updates) land as files of {FILE_EVENTS:,} lines as fast as"
        f" they are taken, for {SECONDS:.0f} s; one process ingests them, widens them by six lookup joins and keeps both APP"
        f" tables. {done.events:,} events; the lag never exceeded {done.lag_max} files.",
        figures=(
            Figure(work="events", engine=OURS, values=(per_s,), unit="1/s", peak_mb=memory),
            Figure(work="time of 100,000 events", engine=OURS, values=(GOAL_PER_S / per_s,), most=1.0),
            Figure(work="memory, first half", engine=OURS, values=(done.memory_half_mb,), unit="MiB"),
            Figure(work="memory, second half", engine=OURS, values=(done.memory_end_mb,), unit="MiB"),
        ),
    )


class _Sustained:
    """What the sustained run has seen."""

    def __init__(self) -> None:
        self.events, self.seconds, self.lag_max = 0, 0.0, 0
        self.memory_half_mb = self.memory_end_mb = 0.0


def _sustained(chain: list[Mover], landing: Path) -> _Sustained:
    """Land prepared files with ever later times, two ahead of the reader, and count what comes out at the end."""
    done, files = _Sustained(), 0
    prepared = [path.read_bytes() for path in sorted((landing / "prepared").iterdir())]
    started = time.monotonic()

    def land_next() -> None:
        nonlocal files
        files += 1
        content = prepared[files % len(prepared)].replace(FIRST_S, str(int(FIRST_S) + files).encode())
        temporary = landing / "member_order" / ".next"
        temporary.write_bytes(content)
        temporary.replace(landing / "member_order" / f"{files:09d}.jsonl")

    taken = 0
    while (elapsed := time.monotonic() - started) < SECONDS:
        while files - taken < 2:
            land_next()
        for mover in chain:
            for result in mover.move():
                taken += _files(result)
        done.lag_max = max(done.lag_max, files - taken)
        done.memory_end_mb = _resident_mb()
        if elapsed < SECONDS / 2:
            done.memory_half_mb = max(done.memory_half_mb, done.memory_end_mb)
    for _ in Loop(chain, Limits()).results():
        pass
    done.events, done.seconds = files * FILE_EVENTS, time.monotonic() - started
    return done


def _files(result: BatchResult) -> int:
    return result.rows_read // FILE_EVENTS if result.target == "ods.member_order" else 0


def _resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def _dimensions(landing: Path) -> None:
    rows: dict[str, list[dict[str, object]]] = {
        "city": [{"id": f"c{n}", "name": f"city {n}", "province": "p"} for n in range(50)],
        "team": [{"id": f"t{n}", "name": f"team {n}", "city_id": "c1"} for n in range(20)],
        "agent": [
            {"id": f"a{n}", "name": f"agent {n}", "team_id": f"t{n % 20}", "hired_on": "2020-01-01"}
            for n in range(AGENTS)
        ],
        "product": [
            {
                "id": f"p{n}",
                "name": f"product {n}",
                "category": f"k{n % 9}",
                "category_name": "k",
                "score_weight": "1.5000",
            }
            for n in range(PRODUCTS)
        ],
        "sprint": [{"id": "s1", "name": "sprint", "start_date": "2024-01-29", "end_date": "2024-02-04"}],
        "member": [
            {
                "id": f"m{n}",
                "name": f"member {n}",
                "city_id": f"c{n % 50}",
                "phone": "1",
                "event_time": int(FIRST_S) * 1_000_000 + n,
            }
            for n in range(MEMBERS)
        ],
    }
    for table, listed in rows.items():
        _write(landing / table / "000001.jsonl", table, listed)


def _prepared(landing: Path) -> None:
    """Some files of order events, made before the clock runs; they are landed again and again under new names."""
    rng = np.random.default_rng(7)
    (landing / "prepared").mkdir(parents=True, exist_ok=True)
    (landing / "member_order").mkdir(exist_ok=True)
    for number in range(12):
        ids = rng.integers(0, ORDERS, FILE_EVENTS)
        rows = [
            {
                "v_date": f"2024-01-{29 + key % 3:02d}",
                "id": f"o{key}",
                "member_id": f"m{key % MEMBERS}",
                "agent_id": f"a{key % AGENTS}",
                "product_id": f"p{key % PRODUCTS}",
                "sprint_id": "s1",
                "order_type": "new" if key % 2 else "renew",
                "quantity": 1 + key % 3,
                "amount": f"{100 + (key * 7 + number) % 900}.0000",
                "status": "paid",
                "event_time": int(FIRST_S) * 1_000_000 + place,
            }
            for place, key in enumerate(ids.tolist())
        ]
        _write(landing / "prepared" / f"{number:06d}.jsonl", "member_order", rows)


def _write(path: Path, table: str, rows: list[dict[str, object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    at = int(FIRST_S) * 1_000_000
    lines = (
        json.dumps(
            {
                "before": None,
                "after": row,
                "op": "c",
                "ts_ms": at + number,
                "source": {"ts_ms": at + number, "db": "sales", "table": table},
            }
        )
        for number, row in enumerate(rows)
    )
    temporary = path.with_suffix(".tmp")
    temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")
    temporary.replace(path)

"""Streams: from the commit at the source to the commit at the target."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import polars as pl

from benchmarks.figures import OURS, Figure, Section
from benchmarks.rounds import Bench
from lakehouse_assets.stream.declaration import Stream
from lakehouse_assets.stream.loop import Limits, Loop, StreamMover
from lakehouse_assets.stream.runner import StreamRunner
from storage_engine import Catalog

COMMITS, EVERY_S = 200, 0.25


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

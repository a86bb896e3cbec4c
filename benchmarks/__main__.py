"""``python -m benchmarks [scenario …]``: measures, prints, and with ``--write`` renews the figures of a page."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from rich.console import Console

from benchmarks import (
    commits,
    compaction,
    growth,
    layout,
    lookup,
    lookup_joins,
    micro_batch,
    planning,
    raw_read,
    repair,
    streams,
    throughput,
    upsert,
)
from benchmarks.figures import Section, environment, show, write_page
from benchmarks.java_peer import JavaPeer
from benchmarks.rounds import Bench

Scenario = Callable[[Bench], Iterator[Section]]
SCENARIOS: Mapping[str, Scenario] = {
    "commits": commits.run,
    "upsert": upsert.run,
    "raw-read": raw_read.run,
    "lookup": lookup.run,
    "lookup-joins": lookup_joins.run,
    "stream-latency": streams.latency,
    "throughput": throughput.run,
    "micro-batch": micro_batch.run,
    "repair": repair.run,
    "compaction": compaction.run,
    "planning": planning.run,
    "layout": layout.run,
    "growth": growth.run,
    "growth-large": partial(growth.run, large=True),
}
"""``growth-large`` goes to 100 million rows and is run only when it is named."""
_WITH_JAVA = {"upsert", "lookup", "compaction", "planning"}


def main() -> None:
    """Run the scenarios that were named, or all."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("scenarios", nargs="*", metavar="scenario", help=", ".join(SCENARIOS))
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each engine (default 5)")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the rows to take (default 1)")
    parser.add_argument("--seconds", type=float, default=30, help="how long throughput is sustained (default 30)")
    parser.add_argument(
        "--rate", type=int, default=0, help="events a second that come in (default: as fast as they are taken)"
    )
    parser.add_argument(
        "--abreast", type=int, default=0, help="movers at a time in throughput (default: as a continuous run has)"
    )
    parser.add_argument("--no-java", action="store_true", help="leave the peers in Java out")
    parser.add_argument("--folder", default=None, help="where tables are written, and removed again")
    parser.add_argument("--write", type=Path, metavar="PAGE", help="renew these scenarios' figures in this page")
    arguments = parser.parse_args()
    chosen = arguments.scenarios or [name for name in SCENARIOS if name != "growth-large"]
    if unknown := [name for name in chosen if name not in SCENARIOS]:
        parser.error(f"unknown scenario {unknown[0]!r}; known: {', '.join(SCENARIOS)}")
    measured: dict[str, list[Section]] = {}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-", dir=arguments.folder)))
        java = None if arguments.no_java or not _WITH_JAVA.intersection(chosen) else JavaPeer.start()
        if java is not None:
            stack.enter_context(java)
        bench = Bench(
            rounds=arguments.rounds,
            scale=arguments.scale,
            folder=folder,
            java=java,
            java_wanted=not arguments.no_java,
            seconds=arguments.seconds,
            rate=arguments.rate,
            abreast=arguments.abreast,
        )
        for name in chosen:
            started = time.monotonic()
            for section in SCENARIOS[name](bench):
                show(section)
                measured.setdefault(name, []).append(section)
            Console().print(f"{name}: {time.monotonic() - started:.0f} s")
    Console().print(environment())
    Console().print("ratio: the engine's time by ours; above 1 means that ours is faster")
    if arguments.write:
        write_page(arguments.write, measured, " ".join(["python -m benchmarks", *sys.argv[1:]]), tuple(SCENARIOS))


if __name__ == "__main__":
    main()

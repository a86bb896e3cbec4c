"""The processes of the chaos test: a zygote that imports everything once and forks workers and sources, which are killed.

Orders come as JSON lines on stdin: ``["worker", warehouse, landing, n | null]`` moves ingestion and all streams
continuously (and dies by SIGKILL at its n-th operation on the warehouse's files); ``["source", landing, stream]`` lands the
embedded stream. The answer is the child's process id.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from lakehouse_assets.ingest import Ingester
from lakehouse_assets.ingest_mover import IngestMover
from lakehouse_assets.sources.landing import LandingSource
from lakehouse_assets.sprint.ods import INGESTIONS
from lakehouse_assets.sprint.tables import STREAMS, create_tables
from lakehouse_assets.stream.lanes import Mover
from lakehouse_assets.stream.loop import Limits, Loop, StreamMover
from lakehouse_assets.stream.runner import StreamRunner
from lakehouse_demo.events import StreamConfig
from lakehouse_demo.landing import land
from storage_engine import Catalog
from tests.scenarios.mortal_demo import Operations

SLICE_EVERY_S = 0.2


def work(warehouse: str, landing: str, dies_at: int | None) -> None:
    """Move everything until killed."""
    sys.addaudithook(Operations(warehouse, dies_at).audit)
    movers(warehouse, landing, Limits(seconds=1e9))


def movers(warehouse: str, landing: str, limits: Limits) -> None:
    """One loop over the whole project, as a continuous run has it."""
    catalog = Catalog(warehouse)
    create_tables(catalog)
    chain: list[Mover] = [IngestMover(Ingester(catalog, LandingSource(landing), INGESTIONS))]
    chain += [StreamMover(StreamRunner(catalog, stream)) for stream in STREAMS]
    loop = Loop(
        chain,
        limits,
        tolerant=True,
        on_error=lambda mover, error: print(mover.name, error, file=sys.stderr),
        abreast=2,
    )
    for _ in loop.results():
        pass


def source(landing: str, stream: dict[str, Any]) -> None:
    """Land the stream, slice after slice."""
    for _ in land(StreamConfig(**stream), Path(landing)):
        time.sleep(SLICE_EVERY_S)


def main() -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for line in sys.stdin:
        kind, *arguments = json.loads(line)
        child = os.fork()
        if not child:
            try:
                {"worker": work, "source": source}[kind](*arguments)
                os._exit(0)
            except BaseException:  # noqa: BLE001 - a child ends here, whatever happened
                traceback.print_exc()
                os._exit(1)
        print(child, flush=True)


if __name__ == "__main__":
    main()

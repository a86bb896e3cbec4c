"""The bounded main job: a whole stream through ODS, DWD and APP, and a check of the figures it ends with.

The stream comes step by step (files that land, messages of a Kafka broker, or transactions on a MariaDB, MySQL or PostgreSQL
server), and after each step Dagster runs one micro-batch of all streams. At the end the APP tables are compared with an
independent recomputation: of the raw files or messages in plain Python, or of the source database in plain SQL. Whoever is
killed anywhere and started again goes on from there, since the positions stand in the tables.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

import dagster as dg
from rich.console import Console
from rich.markup import escape

from lakehouse_assets.sprint.assets import SprintLakehouse
from lakehouse_demo.claims import claim_warehouse
from lakehouse_demo.errors import DemoError
from lakehouse_demo.feeds import Feed
from lakehouse_demo.file_feed import FileFeed, embedded_stream
from lakehouse_demo.kafka_feed import KAFKA, KafkaFeed
from lakehouse_demo.orchestration import MicroBatches, end_abandoned_runs, open_instance
from lakehouse_demo.private_server import ServerFailed, ServerMissing
from lakehouse_demo.progress import ProgressBoard
from lakehouse_demo.report import print_app_tables, print_findings
from lakehouse_demo.server_feed import SERVERS, ServerFeed, workload

EQUAL: Final = 0
NOT_EQUAL: Final = 1
INTERRUPTED: Final = 130
_TROUBLE: Final = (DemoError, ServerMissing, ServerFailed, ValueError)


def run(*, events: int, seed: int, source: str, landing: str, warehouse: str) -> int:
    """Run the job to its end, or on from where it was stopped; 0 if all figures are right, else 1.

    ``source``: of ``FEEDS``. Raises what the engine raises.
    """
    console = Console()
    try:
        with FEEDS[source](events, seed, landing, warehouse) as feed, open_instance() as instance:
            return run_feed(feed, warehouse, instance, console)
    except (KeyboardInterrupt, dg.DagsterExecutionInterruptedError):
        console.print("Stopped. The same command goes on from here.")
        return INTERRUPTED
    except _TROUBLE as error:
        console.print(f"[bold red]The job stopped:[/] {escape(str(error))}", highlight=False, soft_wrap=True)
        console.print("Mend that, and the same command goes on from here.")
        return NOT_EQUAL


def run_feed(feed: Feed, warehouse: str, instance: dg.DagsterInstance, console: Console) -> int:
    """Take all of an entered feed into a warehouse and judge it: 0 if all figures are right, else 1.

    Raises DemoError, and what feed and engine raise.
    """
    facts = feed.facts
    claim_warehouse(warehouse, facts.identity)
    end_abandoned_runs(instance, facts.name)
    lakehouse = SprintLakehouse(warehouse=warehouse)
    console.print(f"{escape(facts.description)}\n→ warehouse {escape(warehouse)}", highlight=False, soft_wrap=True)
    with ProgressBoard(console, steps=facts.steps) as board:
        _drive(feed, MicroBatches(instance, lakehouse, feed.changes(), label=facts.name), board)
    console.print(
        f"{board.events:,} events in {board.batches} micro-batches, {board.duration_s:.0f} s", highlight=False
    )
    print_app_tables(console, lakehouse.catalog())
    console.print()
    findings = feed.compare(lakehouse.catalog())
    print_findings(console, findings, truth=facts.truth)
    return NOT_EQUAL if any(finding.differences for finding in findings) else EQUAL


def _drive(feed: Feed, batches: MicroBatches, board: ProgressBoard) -> None:
    """Step after step, a micro-batch after each; then all that a killed run left over."""
    for step in feed.advance():
        board.landed(step)
        board.moved(step, batches.run(evaluate_checks=step == feed.facts.steps))
    while (batch := batches.run(evaluate_checks=True)).tables:
        board.moved(feed.facts.steps, batch)


def _file_feed(events: int, seed: int, landing: str, _warehouse: str) -> Feed:
    return FileFeed(embedded_stream(events, seed), Path(landing))


def _place_of(kind: str, warehouse: str) -> Path:
    """The folder of a warehouse's own server: beside it, or beside this folder if the warehouse is no local one."""
    place = Path() if "://" in warehouse else Path(warehouse).absolute().parent
    return place / f".{kind}" / warehouse.rstrip("/").rpartition("/")[2]


def _kafka_feed(events: int, seed: int, _landing: str, warehouse: str) -> Feed:
    return KafkaFeed(embedded_stream(events, seed), _place_of(f"{KAFKA}-broker", warehouse))


def _server_feed(kind: str) -> Callable[[int, int, str, str], Feed]:
    """The warehouse's own server."""

    def feed(events: int, seed: int, _landing: str, warehouse: str) -> Feed:
        return ServerFeed(kind, workload(events, seed), _place_of(kind, warehouse))

    return feed


FEEDS: Final[dict[str, Callable[[int, int, str, str], Feed]]] = {
    "files": _file_feed,
    KAFKA: _kafka_feed,
    **{kind: _server_feed(kind) for kind in SERVERS},
}

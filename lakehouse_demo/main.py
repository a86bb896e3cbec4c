"""The bounded main job: a whole stream through ODS, DWD and APP, and a check of the figures it ends with.

The stream comes piece by piece (files that land, or transactions on a MariaDB server), and after each piece Dagster runs
one micro-batch of every stream. At the end the APP tables are compared with an independent recomputation: of the raw
files in plain Python, or of the source database in plain SQL. Whoever is killed anywhere and started again goes on where
it stopped, since the positions stand in the tables.
"""

from __future__ import annotations

import time
from typing import Final, Literal

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from lakehouse_assets.sprint.assets import SprintLakehouse
from lakehouse_demo.mariadb import MariaDbFailed, MariaDbMissing
from lakehouse_demo.orchestration import DEMO_TAG, MicroBatches, MicroBatchFailed, end_abandoned_runs, open_instance
from lakehouse_demo.report import print_app_tables, print_findings
from lakehouse_demo.stories import FileStory, MariaDbStory, Story
from storage_engine.errors import StorageEngineError

EQUAL: Final = 0
NOT_EQUAL: Final = 1
_TROUBLE: Final = (StorageEngineError, MicroBatchFailed, MariaDbMissing, MariaDbFailed, ValueError)
_STORIES: Final[dict[str, type[FileStory | MariaDbStory]]] = {"files": FileStory, "mariadb": MariaDbStory}


def run(
    events: int = 200_000,
    seed: int = 7,
    *,
    warehouse: str = "warehouse",
    landing: str = "landing",
    source: Literal["files", "mariadb"] = "files",
    console: Console | None = None,
) -> int:
    """Run the job to its end, or on from where it was stopped; 0 if all figures are right, else 1."""
    shown = console or Console()
    started = time.perf_counter()
    try:
        with _STORIES[source](events, seed, landing) as story, open_instance() as instance:
            end_abandoned_runs(instance, tags={DEMO_TAG: story.name})
            lakehouse = SprintLakehouse(warehouse=warehouse)
            shown.print(f"Warehouse [bold]{warehouse}[/], {story.description}", highlight=False)
            _drive(story, MicroBatches(instance, lakehouse, story.changes(), label=story.name), shown)
            shown.print(f"Done in {time.perf_counter() - started:.0f} s", highlight=False)
            print_app_tables(shown, lakehouse.catalog())
            findings = story.compare(lakehouse.catalog())
            print_findings(shown, findings)
            return NOT_EQUAL if any(finding.differences for finding in findings) else EQUAL
    except _TROUBLE as error:
        shown.print(f"[bold red]The job stopped:[/] {error}", highlight=False, markup=True)
        return NOT_EQUAL


def _drive(story: Story, batches: MicroBatches, console: Console) -> None:
    """Piece after piece, a micro-batch after each; then all that is left, and the tables' checks."""
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[news]}"),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("micro-batches", total=story.steps, news="")
        for done in story.advance():
            read = batches.run(evaluate_checks=False)
            progress.update(task, completed=done, news=_news(read))
        while left := sum(batches.run(evaluate_checks=True).values()):
            progress.update(task, news=f"{left:,} rows left over")
        progress.update(task, completed=story.steps)


def _news(read: dict[str, int]) -> str:
    """Rows that each layer read in a micro-batch."""
    layers: dict[str, int] = {}
    for table, rows in read.items():
        layer = table.partition("/")[0]
        layers[layer] = layers.get(layer, 0) + rows
    return " → ".join(f"{layer} {layers.get(layer, 0):,}" for layer in ("ods", "dwd", "app"))

"""A warehouse with some history, in the folder that it is run in: three micro-batches through all layers."""

from __future__ import annotations

from pathlib import Path

from lakehouse_assets.sprint.assets import SprintLakehouse
from lakehouse_demo.events import StreamConfig
from lakehouse_demo.file_feed import FileFeed
from lakehouse_demo.orchestration import MicroBatches, open_instance

EVENTS = 1_200
SLICES = 3


def prepare() -> None:
    """Take the stream slice by slice; every batch is a run that the pages show."""
    lakehouse = SprintLakehouse(warehouse=str(Path("warehouse").absolute()))
    with FileFeed(StreamConfig(events=EVENTS, slices=SLICES), Path("landing")) as feed, open_instance() as instance:
        batches = MicroBatches(instance, lakehouse, feed.changes(), label="browser")
        for step in feed.advance():
            batches.run(evaluate_checks=step == SLICES)


if __name__ == "__main__":
    prepare()

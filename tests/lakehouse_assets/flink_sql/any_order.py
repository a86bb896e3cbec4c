"""The streams of a project, moved on in an order that chance chooses."""

from __future__ import annotations

import random

from lakehouse_assets.flink_sql.project import SqlProject
from lakehouse_assets.stream.runner import StreamRunner
from storage_engine import Catalog


def move(catalog: Catalog, declared: SqlProject, chance: random.Random) -> None:
    """Streams move on until there is nothing, in any order."""
    runners = [StreamRunner(catalog, stream) for stream in declared.streams]
    while runners:
        runner = chance.choice(runners)
        if runner.run_batch() is None:
            runners.remove(runner)

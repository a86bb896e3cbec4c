"""Streams between tables: source → transformation → target, exactly once. Nothing here needs Dagster."""

from __future__ import annotations

from lakehouse_assets.stream.declaration import Bounds, Join, Lookup, Repair, Stream
from lakehouse_assets.stream.repair import RepairResult, repair
from lakehouse_assets.stream.runner import BatchResult, StreamRunner, run_batch

__all__ = [
    "BatchResult",
    "Bounds",
    "Join",
    "Lookup",
    "Repair",
    "RepairResult",
    "Stream",
    "StreamRunner",
    "repair",
    "run_batch",
]

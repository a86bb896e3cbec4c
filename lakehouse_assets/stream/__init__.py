"""Streams between tables: declaration, batch runner and repair. Works without Dagster."""

from __future__ import annotations

from lakehouse_assets.stream.declaration import Lookup, Stream
from lakehouse_assets.stream.repair import RepairResult, repair
from lakehouse_assets.stream.runner import BatchResult, StreamRunner

__all__ = ["BatchResult", "Lookup", "RepairResult", "Stream", "StreamRunner", "repair"]

"""Loads Polars, the engine and Dagster only when a command needs them: ``lakehouse --help`` stays quick."""

from __future__ import annotations

import importlib
from functools import cache
from types import ModuleType


@cache
def engine() -> ModuleType:
    """``lakehouse_cli.actions``: what commands do."""
    return importlib.import_module("lakehouse_cli.actions")


@cache
def output() -> ModuleType:
    """``lakehouse_cli.output``: how rows are printed."""
    return importlib.import_module("lakehouse_cli.output")

"""Packages that are installed only where they are wanted."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from storage_engine.errors import InvalidInput


def package(name: str, *, extra: str) -> Any:
    """A module of an optional package. Raises InvalidInput that says how to install it."""
    try:
        return import_module(name)
    except ImportError as error:
        raise InvalidInput(
            f"{name} cannot be imported ({error}): install it with `pip install 'streaming-lakehouse[{extra}]'`"
        ) from error

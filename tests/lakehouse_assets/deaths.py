"""Processes that die around a write."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from storage_engine import Table
from tests.fakes.faulty_file_io import Killed


@contextmanager
def deaths(
    monkeypatch: pytest.MonkeyPatch,
    chance: random.Random,
    *,
    target: str | None = None,
    overtakes: Callable[[str], object] | None = None,
) -> Iterator[None]:
    """Who writes a table (None: any) may die before its commit and after it, or be overtaken by what is called with its name."""
    write = Table.write
    fates = ["lives", "before", "after", *(["overtaken"] if overtakes is not None else [])]

    def perhaps(table: Table, *args: object, **settings: object) -> object:
        fate = chance.choice(fates) if target in (None, table.name) else "lives"
        if overtakes is not None and fate == "overtaken":
            with monkeypatch.context() as calm:
                calm.setattr(Table, "write", write)
                overtakes(table.name)
        if fate == "before":
            raise Killed
        result = write(table, *args, **settings)  # type: ignore[arg-type]
        if fate == "after":
            raise Killed
        return result

    with monkeypatch.context() as patched:
        patched.setattr(Table, "write", perhaps)
        yield

"""Fixtures of the tests against real Apache Flink."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from storage_engine import Catalog
from tests.interop.both import Both
from tests.interop.flink.server import Flink
from tests.interop.flink.toolchain import find_java


@pytest.fixture(scope="session")
def flink() -> Iterator[Flink]:
    """One Flink for the whole run; `flink.open(warehouse)` gives a session. Skips only without Java."""
    if find_java() is None:
        pytest.skip("java is absent: the tests against real Flink do not run here")
    with Flink() as flink:
        yield flink


@pytest.fixture
def both(flink: Flink, tmp_path: Path) -> Both:
    """A new warehouse with the database `db`, open in this engine and in Flink."""
    ours = Catalog(str(tmp_path))
    ours.create_database("db")
    return Both(ours=ours, flink=flink.open(tmp_path))


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Marks what needs Flink, and keeps it on one worker of pytest-xdist, so that there is one JVM."""
    distributed = config.pluginmanager.hasplugin("xdist")
    for item in items:
        if "flink" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.interop)
            if distributed:
                item.add_marker(pytest.mark.xdist_group("flink"))

"""Fixtures of the tests against real Apache Flink."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from storage_engine import Catalog
from tests.interop.both import Both
from tests.interop.compatibility import Report
from tests.interop.flink.server import Flink
from tests.interop.flink.toolchain import find_java

REPORT = pytest.StashKey[Report]()
PASSED = pytest.StashKey[bool]()


@pytest.fixture(scope="session")
def flink() -> Iterator[Flink]:
    """One Flink for the whole run; `flink.open(warehouse)` gives a session. Skips only without Java."""
    if find_java() is None:
        pytest.skip("java is absent: the tests against real Flink do not run here")
    with Flink() as flink:
        yield flink


@pytest.fixture
def both(request: pytest.FixtureRequest, flink: Flink, tmp_path: Path) -> Iterator[Both]:
    """A new warehouse with the database `db`, open in this engine and in Flink; what was seen of it is reported."""
    ours = Catalog(str(tmp_path))
    ours.create_database("db")
    both = Both(ours=ours, flink=flink.open(tmp_path))
    yield both
    report, passed = request.config.stash[REPORT], request.node.stash.get(PASSED, False)
    if feature := request.node.get_closest_marker("feature"):
        area, text = feature.args
        report.add(area, _filled(text, request.node), both.seen, passed=passed)
    for difference in request.node.iter_markers("difference"):
        report.add_difference(_filled(*difference.args, request.node), passed=passed)


def _filled(text: str, test: pytest.Item) -> str:
    """A marker's text with the test's parameters, and {id}, the name of their set."""
    call = getattr(test, "callspec", None)
    return text if call is None else text.format(id=call.id, **call.params)


def pytest_configure(config: pytest.Config) -> None:
    config.stash[REPORT] = Report()
    config.addinivalue_line(
        "markers", "feature(area, text): a line of docs/compatibility.md; {parameters} are filled in"
    )
    config.addinivalue_line("markers", "difference(text): what that file says of a test that shows a difference")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--compatibility", metavar="FILE", help="write what was seen of each feature to FILE")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    result = yield
    if result.when == "call":
        item.stash[PASSED] = result.passed
    return result


def pytest_sessionfinish(session: pytest.Session) -> None:
    # absent where pytest was not called on this folder
    path = session.config.getoption("--compatibility", None)
    report = session.config.stash[REPORT]
    if path is not None and report.features:
        report.write(Path(path))


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Marks what needs Flink, and keeps it on one worker of pytest-xdist, so that there is one JVM."""
    distributed = config.pluginmanager.hasplugin("xdist")
    for item in items:
        if "flink" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.interop)
            if distributed:
                item.add_marker(pytest.mark.xdist_group("flink"))

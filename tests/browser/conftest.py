"""Debian's Chromium on a real server; without a browser these tests are skipped, saying so."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, FloatRect, Page, sync_playwright

from tests.browser.site import ROOT, Site, running_site

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
PATIENCE_MS = 240_000
PICTURES = ROOT / "docs" / "images"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--pictures", action="store_true", help="renew the pictures in docs/images")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    path = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if path is None:
        pytest.skip(f"no browser on PATH: {', '.join(BROWSERS)}")
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture(scope="module")
def site(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One server for a module's tests. REQUIRES a browser, so that nothing is started without one."""
    with running_site(tmp_path_factory.mktemp("site")) as found:
        yield found


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    opened = browser.new_page(viewport={"width": 1500, "height": 1000})
    opened.set_default_timeout(PATIENCE_MS)
    yield opened
    opened.close()


class Camera:
    """Takes pictures for the documentation, if asked for."""

    def __init__(self, *, on: bool) -> None:
        self._on = on

    def take(self, page: Page, name: str, **part: float) -> None:
        """A picture of what is seen now, or of a part of it (``x``, ``y``, ``width``, ``height``)."""
        if self._on:
            page.wait_for_timeout(1_500)  # charts are drawn in motion
            clip = FloatRect(**part) if part else None  # type: ignore[typeddict-item]
            page.screenshot(path=PICTURES / f"{name}.png", clip=clip)


@pytest.fixture
def camera(request: pytest.FixtureRequest) -> Camera:
    PICTURES.mkdir(exist_ok=True)
    return Camera(on=bool(request.config.getoption("--pictures", default=False)))


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """One worker for all of them, so that there is one server."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.slow)
            item.add_marker(pytest.mark.xdist_group("browser"))

"""A real ``dagster dev`` on a small warehouse, as a person's browser finds it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 420
TERMINATION_S = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """Where the pages are, and the warehouse behind them."""

    url: str
    folder: Path

    @property
    def warehouse(self) -> str:
        """Path of the warehouse."""
        return str(self.folder / "warehouse")

    def asked(self, query: str) -> dict[str, Any]:
        """What GraphQL answers."""
        request = urllib.request.Request(
            f"{self.url}/graphql", json.dumps({"query": query}).encode(), {"content-type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)["data"]


@contextmanager
def running_site(folder: Path) -> Iterator[Site]:
    """Prepare a warehouse in an empty folder, and serve it; ends with the block."""
    for name in ("dagster.yaml", "workspace.yaml"):
        shutil.copy(ROOT / name, folder)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("DAGSTER_", "LAKEHOUSE_"))}
    environment |= {"PYTHONPATH": str(ROOT), "LAKEHOUSE_WAREHOUSE": "warehouse", "LAKEHOUSE_LANDING": "landing"}
    subprocess.run([sys.executable, "-m", "tests.browser.prepare"], cwd=folder, env=environment, check=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "dagster", "dev", "--workspace", "workspace.yaml", "--port", str(port)]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            site = Site(url=f"http://127.0.0.1:{port}", folder=folder)
            _wait_for(site, process)
            yield site
        finally:
            _end(process)


def _wait_for(site: Site, process: subprocess.Popen[bytes]) -> None:
    """Until the code is loaded."""
    give_up = time.monotonic() + PATIENCE_S
    while not _is_loaded(site):
        if process.poll() is not None or time.monotonic() > give_up:
            raise RuntimeError(f"dagster dev did not come up:\n{(site.folder / 'log').read_text()[-3000:]}")
        time.sleep(0.5)


def _is_loaded(site: Site) -> bool:
    try:
        answer = site.asked("{ assetNodes { id } }")
    except OSError:
        return False
    return bool(answer["assetNodes"])


def _end(process: subprocess.Popen[bytes]) -> None:
    """As Ctrl-C does, and by force if that is not enough."""
    os.killpg(process.pid, signal.SIGINT)
    try:
        process.wait(TERMINATION_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()

"""The UI on a flowing stream: a real server moves what lands to APP, and ends as a whole."""

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
from pathlib import Path
from typing import Any

import pytest

from storage_engine import Catalog

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 480
SENSORS = (
    "{ repositoriesOrError { ... on RepositoryConnection { nodes { sensors { name sensorState { status } } } } } }"
)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """What ``make ui`` starts, in a folder of its own; ends as Ctrl-C ends it."""
    for name in ("dagster.yaml", "workspace.yaml"):
        shutil.copy(ROOT / name, tmp_path)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        sys.executable,
        "-m",
        "lakehouse_cli.main",
        "ui",
        "--port",
        str(port),
        "--events",
        "2000",
        "--every",
        "2",
    ]
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(
            command,
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdout=log,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        try:
            yield process, port
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def _asked(port: int, query: str) -> dict[str, Any]:
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/graphql",
        data=json.dumps({"query": query}).encode(),
        headers={"content-type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)["data"]


def _sensors(port: int) -> dict[str, str]:
    """Status of each sensor; nothing as long as the server does not answer."""
    try:
        nodes = _asked(port, SENSORS)["repositoriesOrError"].get("nodes", [])
    except OSError:
        return {}
    return {sensor["name"]: sensor["sensorState"]["status"] for node in nodes for sensor in node["sensors"]}


def _figures(warehouse: Path) -> int:
    """Rows of a table at the end of the chain."""
    catalog = Catalog(str(warehouse))
    if "app" not in catalog.list_databases() or "sprint_performance" not in catalog.list_tables("app"):
        return 0
    return catalog.table("app.sprint_performance").scan().collect().height


@pytest.mark.slow
def test_sensors_move_what_lands_and_ctrl_c_ends_all(server: tuple[subprocess.Popen[str], int], tmp_path: Path) -> None:
    process, port = server
    give_up = time.monotonic() + PATIENCE_S
    while not ((sensors := _sensors(port)) and _figures(tmp_path / "warehouse")):
        assert process.poll() is None, (tmp_path / "log").read_text()[-3000:]
        assert time.monotonic() < give_up, (tmp_path / "log").read_text()[-3000:]
        time.sleep(1)
    assert set(sensors.values()) == {"RUNNING"}
    os.killpg(process.pid, signal.SIGINT)
    process.wait(60)
    with pytest.raises(OSError, match="refused"):
        _asked(port, SENSORS)

"""The main job on a disk that is really full, again and again: it says so, and goes on once there is room."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
KIB_FIRST, KIB_MORE = 700, 250
FULL_MIN = 6

ON_A_SMALL_DISK = f"""
import contextlib, io, json, subprocess
from lakehouse_demo import file_feed, main

file_feed.SLICES_MIN = 3
disk = ["-t", "tmpfs", "tmpfs", "disk"]
subprocess.run(["mount", "-o", "size={KIB_FIRST}k", *disk], check=True)
rounds, size = [], {KIB_FIRST}
while not rounds or (rounds[-1][0] and size < 100 * {KIB_FIRST}):
    with contextlib.redirect_stdout(io.StringIO()) as said:
        code = main.run(events=300, seed=7, source="files", landing="landing", warehouse="disk/warehouse")
    rounds.append((code, said.getvalue()))
    size += {KIB_MORE}
    subprocess.run(["mount", "-o", f"remount,size={{size}}k", "disk"], check=True)
print(json.dumps(rounds))
"""
"""Mounts a disk that grows by a little whenever the job has stopped; prints code and output of every try."""


@pytest.mark.slow
def test_a_disk_that_is_full_stops_the_job_and_loses_nothing(tmp_path: Path) -> None:
    """The job itself compares its figures with the recomputation, in the end; what others see of the mount is nothing."""
    (tmp_path / "disk").mkdir()
    done = subprocess.run(
        ["unshare", "--map-root-user", "--mount", sys.executable, "-W", "ignore", "-c", ON_A_SMALL_DISK],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    *full, (code, text) = json.loads(done.stdout)
    assert code == 0, text
    assert "✓ app.sprint_performance" in text
    assert len(full) >= FULL_MIN
    for code, text in full:
        assert code == 1, text
        assert re.search(r"^The job stopped: .*\w+: .*/disk/warehouse/.*No space left on device", text, re.MULTILINE), (
            text
        )
        assert "the same command goes on from here" in text

"""Turns at a directory: one at a time, none held up by who died or stopped, nothing left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from storage_engine.store import turns
from storage_engine.store.turns import turn

HOLDER = """
import sys
from storage_engine.store.turns import turn
with turn(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


def hold(directory: Path) -> subprocess.Popen[str]:
    """Another process whose turn it is until it is told to end."""
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(directory)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    return holder


def end(holder: subprocess.Popen[str]) -> None:
    holder.kill()
    holder.communicate()


def test_threads_take_turns(tmp_path: Path) -> None:
    inside: list[int] = []
    most: list[int] = []

    def work(number: int) -> None:
        with turn(str(tmp_path)):
            inside.append(number)
            time.sleep(0.001)  # whoever does not wait comes in between
            most.append(len(inside))
            inside.remove(number)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(40)))
    assert most == [1] * 40
    assert list(tmp_path.iterdir()) == []


def test_whose_process_dies_holds_nobody_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "_LONGEST_WAIT_S", 3600.0)
    end(hold(tmp_path))
    with turn(str(tmp_path)):
        pass


def test_who_stops_in_its_turn_is_waited_for_so_long_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "_LONGEST_WAIT_S", 0.1)
    holder = hold(tmp_path)
    try:
        os.kill(holder.pid, signal.SIGSTOP)
        started = time.monotonic()
        with turn(str(tmp_path)):
            assert time.monotonic() - started >= 0.1
    finally:
        end(holder)


def test_nobody_waits_for_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "_LONGEST_WAIT_S", 3600.0)
    with turn(str(tmp_path)), turn(str(tmp_path)):
        pass
    with turn(str(tmp_path)):
        pass


def test_what_is_no_directory_of_this_machine_has_no_turns(tmp_path: Path) -> None:
    for directory in (None, str(tmp_path / "absent")):
        with turn(directory):
            pass
    assert list(tmp_path.iterdir()) == []

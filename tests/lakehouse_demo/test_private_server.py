"""What private servers have in common: whether a server holds its data is told while it comes and goes."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

from lakehouse_demo.private_server import is_locked

HOLDS = "import fcntl, sys; file = open(sys.argv[1], 'a'); fcntl.lockf(file, fcntl.LOCK_EX); print(flush=True); sys.stdin.read()"


def test_a_file_is_locked_as_long_as_its_holder_lives(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    assert not is_locked(path)
    with subprocess.Popen(
        [sys.executable, "-c", HOLDS, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        assert is_locked(path)
        holder.kill()
        holder.wait()
        assert not is_locked(path)


def test_a_server_may_take_its_lock_file_away_at_any_moment(tmp_path: Path) -> None:
    path, done = tmp_path / ".lock", threading.Event()

    def come_and_go() -> None:
        while not done.is_set():
            path.touch()
            path.unlink()

    server = threading.Thread(target=come_and_go)
    server.start()
    try:
        assert not any(is_locked(path) for _ in range(200))
    finally:
        done.set()
        server.join()

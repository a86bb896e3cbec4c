"""A process that runs the main job in forked children, each of which may be told to die (SIGKILL) at its n-th file operation.

It imports everything once, so that many deaths cost little. Orders come as JSON lines on stdin, ``{"folder": …, "events": …,
"slices": …, "dies_at": n | null}``; the answer is a line ``[exit code or negative signal, file operations]``.
"""

from __future__ import annotations

import io
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import dagster as dg
from rich.console import Console

from lakehouse_demo.events import StreamConfig
from lakehouse_demo.file_feed import FileFeed
from lakehouse_demo.main import run_feed
from lakehouse_demo.orchestration import QUIET

WRITES = {"os.rename", "os.remove", "os.link", "os.mkdir", "os.rmdir"}


class Operations:
    """Counts the file operations that change something in a folder, and dies before the chosen one."""

    def __init__(self, folder: str, dies_at: int | None) -> None:
        self.count = 0
        self._folder = folder
        self._dies_at = dies_at

    def audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not (event in WRITES or (event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR))):
            return
        if not str(arguments[0]).startswith(self._folder):
            return
        self.count += 1
        if self.count == self._dies_at:
            os.kill(os.getpid(), signal.SIGKILL)


def run(order: dict[str, Any], answer: int) -> int:
    """Run the job in this process; its output goes to a file beside the folders."""
    folder = Path(order["folder"])
    operations = Operations(str(folder), order["dies_at"])
    sys.addaudithook(operations.audit)
    config = StreamConfig(events=order["events"], slices=order["slices"], malformed=10)
    said = Console(file=io.StringIO(), width=120)
    with FileFeed(config, folder / "landing") as feed, dg.DagsterInstance.ephemeral() as instance:
        code = run_feed(feed, str(folder / "warehouse"), instance, said)
    os.write(answer, str(operations.count).encode())
    if code:
        sys.stderr.write(said.file.getvalue())
    return code


def answer(order: dict[str, Any]) -> list[int]:
    """Have an order done by a child."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        try:
            os._exit(run(order, writer))
        finally:
            sys.excepthook(*sys.exc_info())
            os._exit(99)
    os.close(writer)
    _, status = os.waitpid(child, 0)
    with os.fdopen(reader) as pipe:
        counted = pipe.read()
    return [os.waitstatus_to_exitcode(status), int(counted or 0)]


def warm_up() -> None:
    """Have Dagster load all that it loads late. REQUIRES: Polars computes nothing here, its threads would not be forked."""

    @dg.asset
    def nothing() -> None: ...

    with dg.DagsterInstance.ephemeral() as instance:
        dg.materialize([nothing], instance=instance, run_config={"loggers": QUIET})


if __name__ == "__main__":
    warm_up()
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), flush=True)

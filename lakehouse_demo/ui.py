"""Dagster's UI on a warehouse, with its sensors on, while changes land every few seconds."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final

from rich.console import Console

from lakehouse_demo.claims import claim_warehouse, only_writer
from lakehouse_demo.errors import AlreadyClaimed, LandingBusy
from lakehouse_demo.file_feed import FILES, FileFeed, embedded_stream
from lakehouse_demo.landing import landed_stream
from lakehouse_demo.live import land_endlessly
from lakehouse_demo.orchestration import STATE_FOLDER

WORKSPACE: Final = "workspace.yaml"
SOURCE_VARIABLE: Final = "LAKEHOUSE_SOURCE"
CODE_LOCATION: Final = "lakehouse_assets.definitions"
TERMINATION_S: Final = 30


def serve(*, port: int, landing: str, warehouse: str, events: int, seed: int, every_s: float) -> int:
    """Run the UI until it is stopped; its exit code.

    A slice of an endless stream lands every ``every_s`` seconds (0: none); ``events`` and ``seed`` are those of the
    stream that it begins with in an empty folder. Nothing lands where changes come from a database.
    """
    folder, lands = Path(landing), bool(every_s) and os.environ.get(SOURCE_VARIABLE, FILES) == FILES
    try:
        stream = landed_stream(folder) or embedded_stream(events, seed)
        with ExitStack() as held:
            if lands:
                claim_warehouse(warehouse, FileFeed(stream, folder).facts.identity)
                lands = _may_land(folder, held)
            process = held.enter_context(_dagster(port, landing, warehouse))
            for _ in land_endlessly(stream, folder) if lands else ():
                with suppress(subprocess.TimeoutExpired):
                    return process.wait(timeout=every_s)
            return process.wait()
    except KeyboardInterrupt:
        return 0
    except (AlreadyClaimed, ValueError) as error:
        _tell(f"The UI is not opened: {error}")
        return 1


def _may_land(folder: Path, held: ExitStack) -> bool:
    try:
        held.enter_context(only_writer(folder))
    except LandingBusy as busy:
        _tell(f"Nothing lands from here: {busy}")
        return False
    return True


def _tell(message: str) -> None:
    Console(stderr=True).print(message, highlight=False, markup=False, soft_wrap=True)


@contextmanager
def _dagster(port: int, landing: str, warehouse: str) -> Iterator[subprocess.Popen[bytes]]:
    """``dagster dev`` as a child that does not outlive the block; a SIGTERM ends it as well."""
    Path(STATE_FOLDER).mkdir(exist_ok=True)
    environment = {name: value for name, value in os.environ.items() if name != "DAGSTER_HOME"}
    environment |= {"LAKEHOUSE_WAREHOUSE": warehouse, "LAKEHOUSE_LANDING": landing}
    code = ["--workspace", WORKSPACE] if Path(WORKSPACE).exists() else ["--module-name", CODE_LOCATION]
    command = [sys.executable, "-m", "dagster", "dev", *code, "--port", str(port)]
    known = signal.signal(signal.SIGTERM, _stop)
    process = subprocess.Popen(command, env=environment)  # noqa: S603 - our own command
    try:
        yield process
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=TERMINATION_S)
        process.kill()
        signal.signal(signal.SIGTERM, known)


def _stop(*_: object) -> None:
    raise KeyboardInterrupt

"""What the private servers of the demo have in common: their errors, a port, files that nobody else reads."""

from __future__ import annotations

import fcntl
import os
import socket
import subprocess
from pathlib import Path
from typing import Any, ClassVar, Final, Protocol

from lakehouse_assets.sources.change_source import ChangeSource
from lakehouse_demo.sql_dialect import SqlDialect

HOST: Final = "127.0.0.1"
TIMEOUT_S: Final = 180
"""Servers start, answer and stop within seconds, unless the machine is busy with much else."""
POLL_S: Final = 0.05


class ServerMissing(RuntimeError):
    """The server's programs are not on this machine; the message says how to get them."""


class ServerFailed(RuntimeError):
    """The server did not start or stop; the message holds the end of its log."""


class Connects(Protocol):
    """A user of a server."""

    def connect(self) -> Any:
        """A connection of the database's driver, which the caller closes."""


class PrivateServer(Protocol):
    """A database server whose data, log and passwords live in one folder, and outlive the process."""

    title: ClassVar[str]
    dialect: ClassVar[SqlDialect]
    folder: Path

    def __init__(self, folder: Path | str) -> None:
        """``folder``: its own; nothing is done yet."""

    @classmethod
    def install(cls) -> None:
        """Get the server's programs where they are absent. Raises ServerMissing where that cannot be done."""

    @property
    def app(self) -> Connects:
        """The business, which reads and writes its tables."""

    def source(self) -> ChangeSource:
        """The server's log, as change data capture sees it."""

    def start(self) -> None:
        """Make the folder's server run, and wait until it answers. Raises ServerMissing and ServerFailed."""

    def stop(self) -> None:
        """Shut it down, and wait for its end; nothing happens if it does not run. Raises ServerFailed."""


def run_to_its_end(command: list[str], data: Path, **environment: str) -> None:
    """Run a program that fills a data directory. Raises ServerFailed with the end of what it said."""
    done = subprocess.run(  # noqa: S603 - our own folder
        command, env=os.environ | environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise ServerFailed(f"{command[0]} cannot fill {data}:\n{done.stdout[-1000:]}{done.stderr[-1000:]}")


def free_port(wanted: int) -> int:
    """The wanted port if nobody listens there, else a free one."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, wanted))
        except OSError:
            probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def write_private(path: Path, text: str) -> None:
    """Replace a file as a whole; only its owner may read it."""
    temporary = path.with_suffix(".tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    temporary.replace(path)


def is_locked(path: Path) -> bool:
    """Whether a server, of whatever process, holds the lock on a file of its data; the lock goes with the server."""
    try:
        file = path.open("r+b")
    except FileNotFoundError:  # not there yet, or the server has just taken it away
        return False
    with file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return True
    return False

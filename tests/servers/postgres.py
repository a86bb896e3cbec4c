"""A real PostgreSQL server for tests, on this machine only; as root it runs under the user that Debian's package made."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any, Self

import psycopg

from lakehouse_demo.postgres import SETTINGS, program

USER, PASSWORD = "admin", "postgres-password-that-must-not-show"
START_LIMIT_S = 60


class PostgresServer:
    """A server with logical replication, and its data in a folder of its own."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="lakehouse-postgres-"))
        self._owner = {"user": "postgres", "group": "postgres"} if os.geteuid() == 0 else {}
        if self._owner:
            shutil.chown(self.folder, "postgres", "postgres")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self._process: subprocess.Popen[bytes] | None = None
        password = self.folder / "password"
        password.write_text(PASSWORD)
        password.chmod(0o644)
        self._run(
            "initdb", "-D", str(self.folder / "data"), "-U", USER, "-A", "scram-sha-256", f"--pwfile={password}", "-N"
        )
        password.unlink()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        shutil.rmtree(self.folder)

    def start(self, **settings: str) -> None:
        """Start the server, unless it runs, and wait until it answers."""
        if self._process is not None:
            return
        given = {**SETTINGS, "wal_keep_size": "0", "port": str(self.port), **settings}
        arguments = [part for name, value in given.items() for part in ("-c", f"{name}={value}")]
        with open(self.folder / "server.log", "ab") as log:
            self._process = subprocess.Popen(
                [str(program("postgres")), "-D", str(self.folder / "data"), *arguments],
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                **self._owner,
            )
        deadline = time.monotonic() + START_LIMIT_S
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                self.connect().close()
            except psycopg.OperationalError:
                time.sleep(0.05)
            else:
                return
        raise RuntimeError(f"PostgreSQL did not start:\n{(self.folder / 'server.log').read_text()[-3000:]}")

    def kill(self) -> None:
        """End the server at once, as a crash would."""
        if self._process is not None:
            children = subprocess.run(
                ["pgrep", "-P", str(self._process.pid)], capture_output=True, text=True, check=False
            ).stdout.split()
            for process in (str(self._process.pid), *children):
                subprocess.run(["kill", "-9", process], capture_output=True, check=False)
            self._process.wait()
            self._process = None

    def connect(self, database: str = "postgres") -> psycopg.Connection[Any]:
        """A connection of the administrator, which the caller closes."""
        return psycopg.connect(
            host="127.0.0.1", port=self.port, user=USER, password=PASSWORD, dbname=database, autocommit=True
        )

    def _run(self, name: str, *arguments: str) -> None:
        done = subprocess.run(
            [str(program(name)), *arguments],
            capture_output=True,
            text=True,
            check=False,
            cwd=self.folder,
            **self._owner,
        )
        if done.returncode:
            raise RuntimeError(f"{name} failed:\n{done.stdout[-1000:]}{done.stderr[-1000:]}")

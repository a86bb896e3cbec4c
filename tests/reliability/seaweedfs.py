"""A real S3 server for tests: SeaweedFS, on this machine only, with telemetry off."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import s3fs

ACCESS_KEY, SECRET_KEY = "tester-access-key", "tester-secret-that-must-not-show"
_PORTS = ("master", "master.grpc", "volume", "volume.grpc", "filer", "filer.grpc", "s3", "s3.grpc")
_START_LIMIT_S = 90
_POLL_S = 0.1


def program() -> str | None:
    """Where the server's program is: beside the interpreter, or on the path."""
    beside = Path(sys.executable).parent / "weed"
    return str(beside) if beside.exists() else shutil.which("weed")


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Server:
    """A running server. ``log`` is what it wrote."""

    endpoint: str
    log: Path

    @property
    def storage_options(self) -> dict[str, Any]:
        return {"key": ACCESS_KEY, "secret": SECRET_KEY, "endpoint_url": self.endpoint}

    def filesystem(self) -> Any:
        """An object of s3fs that nobody shares."""
        return s3fs.S3FileSystem(**self.storage_options, skip_instance_cache=True, use_listings_cache=False)


@contextmanager
def seaweedfs(directory: Path, weed: str) -> Iterator[S3Server]:
    """Runs a server for the length of the block."""
    config, log = directory / "s3.json", directory / "weed.log"
    actions = ["Admin", "Read", "Write", "List", "Tagging"]
    credentials = [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}]
    config.write_text(json.dumps({"identities": [{"name": "tester", "credentials": credentials, "actions": actions}]}))
    (directory / "data").mkdir()
    ports = free_ports()
    server = S3Server(endpoint=f"http://127.0.0.1:{ports['s3']}", log=log)
    with open(log, "wb") as output:
        process = subprocess.Popen(
            [weed, *_arguments(directory, config, ports)], stdout=output, stderr=subprocess.STDOUT, cwd=directory
        )
        try:
            _await_answer(server, process)
            yield server
        finally:
            process.kill()  # nothing of it is needed again, and a polite end takes ten seconds
            process.wait()
            for port in ports.values():
                for left in Path(tempfile.gettempdir()).glob(f"seaweedfs-*-{port}.sock"):
                    left.unlink()


def _arguments(directory: Path, config: Path, ports: dict[str, int]) -> list[str]:
    named = {f"-{name.replace('.grpc', '')}.port{'.grpc' if '.grpc' in name else ''}": ports[name] for name in _PORTS}
    settings: dict[str, object] = {
        "-dir": directory / "data",
        "-ip": "127.0.0.1",
        "-ip.bind": "127.0.0.1",
        "-filer": "true",
        "-s3": "true",
        "-s3.config": config,
        "-s3.port.iceberg": 0,
        "-s3.port.lance": 0,
        "-master.telemetry": "false",
        "-master.volumeSizeLimitMB": 64,
        "-volume.max": 20,
        **named,
    }
    return ["server", *(f"{name}={value}" for name, value in settings.items())]


def free_ports() -> dict[str, int]:
    """A port for each service that nobody else uses."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in _PORTS]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return {name: each.getsockname()[1] for name, each in zip(_PORTS, sockets, strict=True)}


def _await_answer(server: S3Server, process: subprocess.Popen[bytes]) -> None:
    """Until an object can be written and read. Raises RuntimeError with the end of the log."""
    filesystem = server.filesystem()
    deadline = time.monotonic() + _START_LIMIT_S
    while time.monotonic() < deadline and process.poll() is None:
        with suppress(OSError):
            filesystem.mkdirs("probe", exist_ok=True)
            filesystem.pipe_file("probe/object", b"answer")
            if filesystem.cat_file("probe/object") == b"answer":
                return
        time.sleep(_POLL_S)
    raise RuntimeError(f"SeaweedFS did not start:\n{server.log.read_text(errors='replace')[-3000:]}")

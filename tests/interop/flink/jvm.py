"""The JVM process that runs `FlinkServer.java`, and the lines that go to and fro."""

from __future__ import annotations

import json
import queue
import subprocess
import tempfile
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, TypeAlias

from tests.interop.flink.toolchain import FlinkError, Toolchain

STOP_TIMEOUT_S = 10.0
STDERR_TAIL_BYTES = 4000
REQUEST_HEAD_CHARACTERS = 500

Answer: TypeAlias = tuple[list[list[Any]], dict[str, Any]]
"""The rows, each [snapshot or None, kind, values], and the closing object."""

_MEMORY = ("-Xmx1g", "-XX:MaxMetaspaceSize=384m", "-XX:MaxDirectMemorySize=320m", "-XX:+UseSerialGC")
_START_QUICKLY = ("-XX:TieredStopAtLevel=1",)
_NOTHING_ELSE_ON_STDOUT = ("-XX:+DisplayVMOutputToStderr", "-Xlog:disable", "-Xlog:all=warning:stderr")
_SETTINGS = (
    "-Duser.timezone=UTC",
    "-Duser.language=en",
    "-Dfile.encoding=UTF-8",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=error",
)
_OPENED_PACKAGES = (
    *("lang", "lang.reflect", "net", "io", "nio", "text", "time", "util"),
    *("util.concurrent", "util.concurrent.atomic", "util.concurrent.locks"),
)
_OPENS = tuple(f"--add-opens=java.base/java.{package}=ALL-UNNAMED" for package in _OPENED_PACKAGES)
_OPTIONS = (*_MEMORY, *_START_QUICKLY, *_NOTHING_ELSE_ON_STDOUT, *_SETTINGS, *_OPENS)


class FlinkTimeout(FlinkError):
    """No answer in time; the JVM was killed, and the next request starts another."""


class FlinkDied(FlinkError):
    """The JVM ended while it was asked; the next request starts another."""


class Jvm:
    """The process. Its stdin is its life line: when this process ends, however it ends, so does the JVM."""

    def __init__(self, toolchain: Toolchain) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="flink-", ignore_cleanup_errors=True)
        self._stderr = Path(self._folder.name, "stderr")
        options = [*_OPTIONS, f"-Djava.io.tmpdir={self._folder.name}"]
        with self._stderr.open("wb") as stderr:
            self._process = subprocess.Popen(
                [str(toolchain.java), *options, "-cp", toolchain.class_path, "FlinkServer"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                start_new_session=True,
            )
        self._answers: queue.SimpleQueue[Answer | None] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def ask(self, request: Mapping[str, Any], *, timeout_s: float) -> Answer:
        """Sends a request and waits for its answer.

        Raises:
            FlinkTimeout: there is none in time. An answer that comes later would be taken for the next request's,
                so the caller must stop this JVM.
            FlinkDied: the JVM ended.
        """
        line = json.dumps(request)
        # a JVM that is gone says so by the end of its output
        with suppress(BrokenPipeError):
            self._stdin.write(line.encode() + b"\n")
            self._stdin.flush()
        try:
            answer = self._answers.get(timeout=timeout_s)
        except queue.Empty:
            raise FlinkTimeout(self._obituary(f"did not answer within {timeout_s} s and was killed", line)) from None
        if answer is None:
            raise FlinkDied(self._obituary("ended", line))
        return answer

    def stop(self) -> None:
        """Kills the process and forgets its files."""
        self._process.kill()
        self._process.wait(STOP_TIMEOUT_S)
        self._reader.join(STOP_TIMEOUT_S)
        for pipe in (self._stdin, self._stdout):
            with suppress(BrokenPipeError):
                pipe.close()
        self._folder.cleanup()

    @property
    def _stdin(self) -> IO[bytes]:
        assert self._process.stdin is not None
        return self._process.stdin

    @property
    def _stdout(self) -> IO[bytes]:
        assert self._process.stdout is not None
        return self._process.stdout

    def _read(self) -> None:
        rows: list[list[Any]] = []
        for line in self._stdout:
            if line.startswith(b"["):
                rows.append(json.loads(line))
            else:
                self._answers.put((rows, json.loads(line)))
                rows = []
        self._answers.put(None)

    def _obituary(self, fate: str, request: str) -> str:
        tail = self._stderr.read_bytes()[-STDERR_TAIL_BYTES:].decode(errors="replace")
        head = request[:REQUEST_HEAD_CHARACTERS]
        return f"the Flink JVM {fate}; it was asked {head}\nits stderr ends with:\n{tail}"

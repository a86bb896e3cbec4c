"""Paimon's own Java core as a peer: one JVM for all rounds, its compiler warmed up before anything is measured."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Self

from benchmarks.dataset import COLUMNS
from benchmarks.drivers import peak_mb, read_arrow
from lakehouse_demo.java import JavaUnavailable
from storage_engine import Catalog
from tests.interop.flink.toolchain import prepare

NAME = "Java Paimon core 1.3.1"
_SOURCES = Path(__file__).parent / "java"
_OPTIONS = ("-Xmx6g", "-Dorg.slf4j.simpleLogger.defaultLogLevel=error", "-Duser.timezone=UTC")


class JavaPeer:
    """The process. Rows that it writes are loaded first, from append tables of a warehouse of its own."""

    def __init__(self, java: Path, class_path: str) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="bench-java-", ignore_cleanup_errors=True)
        self._inputs = Catalog(self._folder.name + "/inputs")
        self._inputs.create_database("db")
        self._stderr = Path(self._folder.name, "stderr").open("wb")  # noqa: SIM115 - closed at the end
        opens = [f"--add-opens=java.base/java.{package}=ALL-UNNAMED" for package in ("lang", "nio", "util")]
        temporary = f"-Djava.io.tmpdir={self._folder.name}"
        self._process = subprocess.Popen(
            [str(java), *_OPTIONS, *opens, temporary, "-cp", class_path, "Peer"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            text=True,
        )

    @classmethod
    def start(cls) -> JavaPeer | None:
        """The peer, None where Java or its jars are absent."""
        try:
            toolchain = prepare(sources=_SOURCES)
        except JavaUnavailable:
            return None
        return cls(toolchain.java, toolchain.class_path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        self._pipe(self._process.stdin).close()
        self._process.wait()
        self._pipe(self._process.stdout).close()
        self._stderr.close()
        self._folder.cleanup()

    def load(self, paths: Sequence[str]) -> list[str]:
        """Keep the rows of Arrow files in the JVM; returns the names to write them by."""
        self._ask("forget")
        names = []
        for number, path in enumerate(paths):
            name = f"db.input_{number}"
            if name.split(".")[1] in self._inputs.list_tables("db"):
                self._inputs.drop_table(name)
            types = {column: text.removesuffix(" NOT NULL") for column, text in COLUMNS.items()}
            self._inputs.create_table(name, types, options={"bucket": "-1"})
            self._inputs.table(name).write(read_arrow(path))
            self._ask("load", f"{self._folder.name}/inputs", name)
            names.append(name)
        return names

    def write(self, warehouse: Path, inputs: Sequence[str]) -> list[float]:
        """Seconds of each commit of one writer."""
        return self._ask("write", str(warehouse), *inputs)

    def read(self, warehouse: Path, times: int) -> list[float]:
        """Seconds of each read of all rows."""
        return self._ask("read", str(warehouse), str(times))[1:]

    def count(self, warehouse: Path) -> int:
        """The rows of a table."""
        return int(self._ask("read", str(warehouse), "1")[0])

    def compact(self, warehouse: Path) -> list[float]:
        """Seconds of a full compaction."""
        return self._ask("compact", str(warehouse))

    def plan(self, warehouse: Path, partition: int | None) -> float:
        """Seconds of a plan, of a new handle."""
        return self._ask("plan", str(warehouse), str(-1 if partition is None else partition))[1]

    @property
    def peak_mb(self) -> float:
        """The most memory that the JVM has had; its heap is bounded by 6 GB and not trimmed."""
        return peak_mb(self._process.pid)

    def _ask(self, *words: str) -> list[float]:
        stdin = self._pipe(self._process.stdin)
        stdin.write(" ".join(words) + "\n")
        stdin.flush()
        answer = self._pipe(self._process.stdout).readline().split(maxsplit=1)
        if not answer or answer[0] != "ok":
            tail = Path(self._folder.name, "stderr").read_text(errors="replace")[-2000:]
            raise RuntimeError(f"{NAME} failed at {words[0]}: {' '.join(answer)}\n{tail}")
        return [float(number) for number in answer[1].split()] if len(answer) > 1 else []

    @staticmethod
    def _pipe(pipe: IO[str] | None) -> IO[str]:
        assert pipe is not None
        return pipe

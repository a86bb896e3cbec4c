"""Real Apache Flink + Paimon: one JVM with one cluster, serving any number of warehouses.

>>> with Flink() as flink:
...     session = flink.open("/tmp/warehouse")
...     session.sql("CREATE DATABASE ods")

Rows go in and come out in the canonical form of `canonical.py`.
"""

from __future__ import annotations

import json
import queue
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple, Self, TypeAlias

from tests.interop.flink.canonical import Row, Value, in_order
from tests.interop.flink.shadow import STREAMING_END, shadow_warehouse
from tests.interop.flink.toolchain import FlinkError, Toolchain, prepare

TIMEOUT_S = 120.0
START_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 10.0
STDERR_TAIL_BYTES = 4000
Answer: TypeAlias = tuple[list[list[Any]], dict[str, Any]]
"""The rows, each [snapshot or None, kind, values], and the closing object."""

_NO_LIMIT = 2**63 - 1
_MEMORY = ("-Xmx1g", "-XX:MaxMetaspaceSize=384m", "-XX:MaxDirectMemorySize=320m", "-XX:+UseSerialGC")
_START_QUICKLY = ("-XX:TieredStopAtLevel=1",)
_OWN_STDOUT = ("-XX:+DisplayVMOutputToStderr", "-Xlog:disable", "-Xlog:all=warning:stderr")
_SETTINGS = (
    "-Duser.timezone=UTC",
    "-Duser.language=en",
    "-Dfile.encoding=UTF-8",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
)
_OPENED_PACKAGES = (
    *("lang", "lang.reflect", "net", "io", "nio", "text", "time", "util"),
    *("util.concurrent", "util.concurrent.atomic", "util.concurrent.locks"),
)
_OPENS = tuple(f"--add-opens=java.base/java.{package}=ALL-UNNAMED" for package in _OPENED_PACKAGES)


class FlinkTimeout(FlinkError):
    """No answer in time; the JVM was killed, and the next request starts another."""


class FlinkDied(FlinkError):
    """The JVM ended while it was asked; the next request starts another."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FlinkResult:
    """A statement's result: `rows[i]` came with the row kind `kinds[i]`; `types` are Flink's SQL types."""

    columns: list[str]
    types: list[str]
    kinds: list[str]
    rows: list[Row]

    def changes(self) -> list[tuple[str, Row]]:
        """(kind, row), in the order of arrival."""
        return list(zip(self.kinds, self.rows, strict=True))


class Change(NamedTuple):
    """One row of a changelog, and the snapshot that brought it."""

    snapshot: int
    kind: str
    row: Row


class Flink:
    """The JVM. Starts at the first request, or on entering the context, and ends with the context."""

    def __init__(self, *, home: Path | None = None) -> None:
        self._home = home
        self._toolchain: Toolchain | None = None
        self._jvm: _Jvm | None = None

    def __enter__(self) -> Self:
        self._running()
        return self

    def __exit__(self, *failure: object) -> None:
        self.close()

    def open(
        self,
        warehouse: str | Path,
        *,
        catalog_options: Mapping[str, str] | None = None,
        configuration: Mapping[str, str] | None = None,
    ) -> FlinkSession:
        """A session over one warehouse (a path or URL); ``configuration`` is Flink's, for its environments.

        Nothing needs closing: the JVM keeps the sessions used last, and makes a forgotten one anew. So what a
        session was SET, and its temporary tables, are not for keeps.
        """
        local = Path(warehouse).absolute().as_uri() if "://" not in str(warehouse) else str(warehouse)
        return FlinkSession(
            flink=self,
            warehouse=local,
            catalog_options=dict(catalog_options or {}),
            configuration=dict(configuration or {}),
        )

    def ask(self, request: Mapping[str, Any], *, timeout_s: float) -> Answer:
        """Sends one request to the JVM; returns the answer's rows and its closing object.

        Raises:
            FlinkError: the request failed in Flink; the message is its chain of causes.
            FlinkTimeout: no answer within ``timeout_s``.
            FlinkDied: the JVM ended.
        """
        jvm = self._running()
        try:
            rows, answer = jvm.ask(request, timeout_s=timeout_s)
        except (FlinkTimeout, FlinkDied):
            self.close()
            raise
        if not answer["ok"]:
            raise FlinkError(answer["error"])
        return rows, answer

    def close(self) -> None:
        """Ends the JVM, if one runs."""
        if self._jvm is not None:
            self._jvm.stop()
            self._jvm = None

    def _running(self) -> _Jvm:
        if self._jvm is None:
            self._toolchain = self._toolchain or prepare(self._home)
            self._jvm = _Jvm(self._toolchain)
            self.ask({"command": "ping"}, timeout_s=START_TIMEOUT_S)
        return self._jvm


@dataclass(frozen=True, slots=True, kw_only=True)
class FlinkSession:
    """A Paimon catalog in Flink, and in Paimon's core. Tables are named "database.table"."""

    flink: Flink = field(repr=False)
    warehouse: str
    catalog_options: Mapping[str, str] = field(default_factory=dict, repr=False)
    configuration: Mapping[str, str] = field(default_factory=dict)

    def sql(
        self,
        statement: str,
        *,
        streaming: bool = False,
        limit: int | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> FlinkResult:
        """Runs one statement to its end, or with ``limit`` until it gave that many rows."""
        request = {"sql": statement, "streaming": streaming, "limit": _NO_LIMIT if limit is None else limit}
        return self._result("sql", request, timeout_s)

    def rows(self, query: str, *, timeout_s: float = TIMEOUT_S) -> list[Row]:
        """The rows of a batch query, sorted as `canonical.in_order` sorts."""
        return in_order(self.sql(query, timeout_s=timeout_s).rows)

    def read(
        self, table: str, options: Mapping[str, str] | None = None, *, timeout_s: float = TIMEOUT_S
    ) -> FlinkResult:
        """A batch read by Paimon's core, without a Flink job, with dynamic table options."""
        return self._result("read", {"table": table, "options": dict(options or {})}, timeout_s)

    def changelog(
        self,
        table: str,
        after: int,
        until: int,
        options: Mapping[str, str] | None = None,
        *,
        timeout_s: float = TIMEOUT_S,
    ) -> list[Change]:
        """What Paimon's core streaming scan yields for the snapshots (after, until], in its order."""
        request = {"table": table, "after": after, "until": until, "options": dict(options or {})}
        rows, _ = self._ask("changelog", request, timeout_s)
        return [Change(snapshot, kind, tuple(values)) for snapshot, kind, values in rows]

    def stream(
        self,
        table: str,
        after: int,
        until: int,
        options: Mapping[str, str] | None = None,
        *,
        timeout_s: float = TIMEOUT_S,
    ) -> FlinkResult:
        """A Flink streaming SELECT over the snapshots (after, until]. REQUIRES: a local warehouse."""
        start = {"scan.mode": "from-snapshot", "scan.snapshot-id": str(after + 1)}
        scan = {**start, **STREAMING_END, **(options or {})}
        hint = ", ".join(f"'{key}'='{value}'" for key, value in scan.items())
        with shadow_warehouse(self.warehouse, table, until) as shadow:
            session = replace(self, warehouse=shadow.as_uri())
            query = f"SELECT * FROM {_quoted(table)} /*+ OPTIONS({hint}) */"
            return session.sql(query, streaming=True, timeout_s=timeout_s)

    def write(
        self,
        table: str,
        changes: Iterable[tuple[str, Sequence[Value]]],
        options: Mapping[str, str] | None = None,
        *,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        """INSERT INTO from a changelog stream of (kind, row): one Flink job, one commit and its compaction's."""
        rows = [[kind, list(row)] for kind, row in changes]
        self._ask("write", {"table": table, "rows": rows, "options": dict(options or {})}, timeout_s)

    def compact(self, table: str, *, full: bool = True, timeout_s: float = TIMEOUT_S) -> None:
        """``CALL sys.compact``, with the strategy "full" or "minor"."""
        strategy = "full" if full else "minor"
        self.sql(f"CALL sys.compact(`table` => '{table}', compact_strategy => '{strategy}')", timeout_s=timeout_s)

    def snapshots(self, table: str, *, timeout_s: float = TIMEOUT_S) -> list[dict[str, Any]]:
        """The table's snapshots, oldest first, with the fields of Paimon's snapshot files."""
        _, answer = self._ask("snapshots", {"table": table}, timeout_s)
        return [json.loads(snapshot) for snapshot in answer["snapshots"]]

    def _ask(self, command: str, request: dict[str, Any], timeout_s: float) -> Answer:
        catalog = {"warehouse": self.warehouse, **self.catalog_options}
        session = {"catalog": catalog, "configuration": dict(self.configuration)}
        return self.flink.ask({"command": command, "session": session, **request}, timeout_s=timeout_s)

    def _result(self, command: str, request: dict[str, Any], timeout_s: float) -> FlinkResult:
        rows, answer = self._ask(command, request, timeout_s)
        return FlinkResult(
            columns=[name for name, _ in answer["columns"]],
            types=[type_ for _, type_ in answer["columns"]],
            kinds=[kind for _, kind, _ in rows],
            rows=[tuple(values) for _, _, values in rows],
        )


class _Jvm:
    """The process. Its stdin is its life line: when this process ends, however it ends, so does the JVM."""

    def __init__(self, toolchain: Toolchain) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="flink-", ignore_cleanup_errors=True)
        self._stderr = Path(self._folder.name, "stderr")
        options = [
            *_MEMORY,
            *_START_QUICKLY,
            *_OWN_STDOUT,
            *_SETTINGS,
            *_OPENS,
            f"-Djava.io.tmpdir={self._folder.name}",
        ]
        with self._stderr.open("wb") as stderr:
            self._process = subprocess.Popen(
                [str(toolchain.java), *options, "-cp", toolchain.class_path, "FlinkServer"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                start_new_session=True,
            )
        self._lines: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def ask(self, request: Mapping[str, Any], *, timeout_s: float) -> Answer:
        deadline = time.monotonic() + timeout_s
        # a JVM that is gone says so by the end of its output
        with suppress(BrokenPipeError):
            assert self._process.stdin is not None
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
        rows: list[list[Any]] = []
        for line in self._answer(request, deadline, timeout_s):
            if line.startswith(b"{"):
                return rows, json.loads(line)
            rows.append(json.loads(line))
        raise FlinkDied(f"the Flink JVM ended during {request}; its stderr ends with:\n{self._stderr_tail()}")

    def stop(self) -> None:
        self._process.kill()
        self._process.wait(STOP_TIMEOUT_S)
        self._reader.join(STOP_TIMEOUT_S)
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with suppress(BrokenPipeError):
                pipe.close()
        self._folder.cleanup()

    def _answer(self, request: Mapping[str, Any], deadline: float, timeout_s: float) -> Iterator[bytes]:
        while True:
            try:
                line = self._lines.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                raise FlinkTimeout(
                    f"no answer within {timeout_s} s to {request}; killed the Flink JVM, whose stderr ends with:\n"
                    f"{self._stderr_tail()}"
                ) from None
            if line is None:
                return
            yield line

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line)
        self._lines.put(None)

    def _stderr_tail(self) -> str:
        return self._stderr.read_bytes()[-STDERR_TAIL_BYTES:].decode(errors="replace")


def _quoted(table: str) -> str:
    return ".".join(f"`{part}`" for part in table.split(".", 1))

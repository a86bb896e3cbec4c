"""Real Apache Flink + Paimon: one JVM with one cluster, serving any number of warehouses.

>>> with Flink() as flink:
...     session = flink.open("/tmp/warehouse")
...     session.sql("CREATE DATABASE ods")

Rows go in and come out in the canonical form of `canonical.py`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple, Self

from tests.interop.flink.canonical import Row, Value, in_order
from tests.interop.flink.jvm import Answer, FlinkDied, FlinkTimeout, Jvm
from tests.interop.flink.shadow import STREAMING_END, shadow_warehouse
from tests.interop.flink.toolchain import FlinkError, Toolchain, prepare

TIMEOUT_S = 120.0
START_TIMEOUT_S = 120.0
_NO_LIMIT = 2**63 - 1


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
        self._jvm: Jvm | None = None

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
        session was SET, and its temporary tables, are not for keeps. REQUIRES: no space in ``warehouse``, since
        Paimon's catalog takes a folder with "%20" in its name instead.
        """
        location = str(warehouse)
        return FlinkSession(
            flink=self,
            warehouse=location if "://" in location else str(Path(location).absolute()),
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

    def _running(self) -> Jvm:
        if self._jvm is None:
            self._toolchain = self._toolchain or prepare(self._home)
            self._jvm = Jvm(self._toolchain)
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
            session = replace(self, warehouse=str(shadow))
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

    def write_core(
        self,
        table: str,
        changes: Iterable[tuple[str, Sequence[Value]]],
        options: Mapping[str, str] | None = None,
        *,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        """What `write` does, by Paimon's core writer without a Flink job; much quicker."""
        rows = [[kind, list(row)] for kind, row in changes]
        self._ask("write core", {"table": table, "rows": rows, "options": dict(options or {})}, timeout_s)

    def compact_core(
        self,
        table: str,
        options: Mapping[str, str] | None = None,
        *,
        full: bool = True,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        """What `compact` does, by Paimon's core writer without a Flink job."""
        self._ask("compact core", {"table": table, "full": full, "options": dict(options or {})}, timeout_s)

    def hide_core(self, table: str, positions: Mapping[str, Sequence[int]], *, timeout_s: float = TIMEOUT_S) -> None:
        """Deletes rows of an append table by deletion vectors, as Spark does: positions by name of data file."""
        named = {name: list(rows) for name, rows in positions.items()}
        self._ask("hide core", {"table": table, "positions": named, "options": {}}, timeout_s)

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


def _quoted(table: str) -> str:
    return ".".join(f"`{part}`" for part in table.split(".", 1))

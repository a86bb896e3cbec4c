"""Runs queries: tables of the warehouse, its system tables and views become lazy frames, and Polars' SQL does the rest."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime

import polars as pl

from storage_engine.errors import SqlError
from storage_engine.read.changes import ROW_KIND
from storage_engine.read.explain import ScanReport
from storage_engine.read.time_travel import Moment, epoch_millis, first_snapshot
from storage_engine.spec.identifier import Identifier
from storage_engine.sql.lexer import Source, TokenKind, tokenize
from storage_engine.sql.statements import SYSTEM_DATABASE, Expression, Query
from storage_engine.sql.table_references import TableReference, find_table_references
from storage_engine.system_views import SYSTEM_TABLES, system_frame, with_changes
from storage_engine.table import Table
from storage_engine.warehouse import View, Warehouse

MAX_VIEW_DEPTH = 32
_BETWEEN_TIMESTAMP = "incremental-between-timestamp"
_BETWEEN = ("incremental-between", _BETWEEN_TIMESTAMP)
_BETWEEN_MODE = "incremental-between-scan-mode"


def query_frame(warehouse: Warehouse, query: Query, frames: Mapping[str, pl.LazyFrame] | None = None) -> pl.LazyFrame:
    """The result of a query, lazily; ``frames`` are tables of its own. Raises SqlError, and what opening its tables raises."""
    return _Binder(warehouse, warehouse.current_database, frames or {}).frame(query)


@dataclass(frozen=True, slots=True)
class _Binder:
    """Puts frames where a query names tables; ``database`` is that of bare names, ``depth`` counts views within views."""

    warehouse: Warehouse
    database: str
    own: Mapping[str, pl.LazyFrame] = field(default_factory=dict)
    depth: int = 0
    reports: list[ScanReport] | None = None
    """Where scans report what is asked of them; then nothing is read."""

    def frame(self, query: Query) -> pl.LazyFrame:
        if self.depth > MAX_VIEW_DEPTH:
            raise SqlError(f"views stand on each other deeper than {MAX_VIEW_DEPTH}: write a table in between")
        frames: dict[str, pl.LazyFrame] = {}
        pieces, at = [], 0
        for reference in find_table_references(query):
            alias = f"__table_{len(frames)}"
            frames[alias] = self._referenced(reference)
            named = alias if reference.has_alias else f'{alias} AS "{reference.bare_name}"'
            pieces += [query.text[at : reference.start], named]
            at = reference.end
        text = _in_polars_words("".join([*pieces, query.text[at:]]))
        with sql_errors(query):
            return pl.SQLContext(frames).execute(text, eager=False)

    def _referenced(self, reference: TableReference) -> pl.LazyFrame:
        if reference.name in self.own:
            return self.own[reference.name]
        identifier = Identifier.parse(reference.name, database=self.database)
        view = self.warehouse.views.get(str(identifier))
        if view is not None:
            return self._view(view)
        if identifier.database == SYSTEM_DATABASE and identifier.system is None:
            return self.warehouse.global_system_table(identifier.table).lazy()
        opened = Identifier(database=identifier.database, table=identifier.table, branch=identifier.branch)
        table = self.warehouse.table(str(opened))
        if identifier.system is None:
            return _table_frame(table, reference, self.reports)
        if identifier.system not in SYSTEM_TABLES:
            raise SqlError(
                f"table {opened} has no system table ${identifier.system}; known: {', '.join(SYSTEM_TABLES)}"
            )
        between = _between(reference)
        if between is not None and identifier.system in ("audit_log", "binlog"):
            return with_changes(identifier.system, _changes(table, reference, between))
        return system_frame(table, identifier.system, _time_travel(reference)).lazy()

    def _view(self, view: View) -> pl.LazyFrame:
        binder = _Binder(self.warehouse, view.database, depth=self.depth + 1, reports=self.reports)
        frame = binder.frame(Query(text=view.text, line=view.line, column=view.column))
        return frame.rename(dict(zip(frame.collect_schema().names(), view.columns, strict=True)))


def explained(warehouse: Warehouse, query: Query) -> list[str]:
    """How a query would be run: Polars' plan, and for each scan of a table what is read and what is left out."""
    reports: list[ScanReport] = []
    lazy = _Binder(warehouse, warehouse.current_database, reports=reports).frame(query)
    with sql_errors(query):
        plan = lazy.explain()
        lazy.collect()
    return [*plan.splitlines(), *(line for report in reports for line in ("", *report.lines()))]


def collected(warehouse: Warehouse, query: Query) -> pl.DataFrame:
    """The result of a query. Raises what ``query_frame`` raises."""
    lazy = query_frame(warehouse, query)
    with sql_errors(query):
        return lazy.collect()


@contextmanager
def sql_errors(query: Query | Expression) -> Iterator[None]:
    """Turns what Polars says about a query or an expression into SqlError."""
    try:
        yield
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as cause:
        reason = str(cause).partition("\n\nResolved plan")[0].strip()
        raise SqlError(f"line {query.line}, column {query.column}: the query cannot be run: {reason}") from cause


def _in_polars_words(text: str) -> str:
    """Hints become comments, and Flink's ``PROCTIME()`` the present."""
    pieces, at = [], 0
    tokens = tokenize(Source(text))
    for number, token in enumerate(tokens[:-1]):
        if token.kind is TokenKind.HINT:
            pieces += [text[at : token.start], " "]
            at = token.end
        elif token.is_word("PROCTIME") and tokens[number + 1].is_symbol("(") and tokens[number + 2].is_symbol(")"):
            pieces += [text[at : token.start], "CURRENT_TIMESTAMP"]
            at = tokens[number + 2].end
    return "".join([*pieces, text[at:]])


def _table_frame(table: Table, reference: TableReference, reports: list[ScanReport] | None) -> pl.LazyFrame:
    between = _between(reference)
    if between is not None:
        rows = _changes(table, reference, between)
        return rows.filter(pl.col(ROW_KIND).is_in(["+I", "+U"])).drop(ROW_KIND)
    at = _time_travel(reference)
    if reports is not None:
        return table.explained_scan(at, reports)
    return table.scan(snapshot=at.snapshot, tag=at.tag, timestamp=at.timestamp, watermark=at.watermark)


def _between(reference: TableReference) -> str | None:
    """The option that asks for what happened in between, if one is given."""
    return next((key for key in reference.options if key in _BETWEEN), None)


def _changes(table: Table, reference: TableReference, key: str) -> pl.LazyFrame:
    text = reference.options[key]
    mode = reference.options.get(_BETWEEN_MODE, "auto")
    parts = [part.strip() for part in text.split(",")]
    if len(parts) != 2:
        raise SqlError(f"option '{key}' is {text!r}: expected two snapshots, tags or times, as in '1,3'")
    if key == _BETWEEN_TIMESTAMP:
        first, last = (_last_until(table, _time(part)) for part in parts)
        return table.changes(first, last, mode=mode)
    after, until = (int(part) if part.isdecimal() else part for part in parts)
    return table.changes(after, until, mode=mode)


def _last_until(table: Table, millis: int) -> int:
    """The last snapshot at or before a time; before all that are retained: the one before the earliest."""
    found = first_snapshot(table.store, lambda snapshot: snapshot.time_millis > millis)
    latest = table.store.snapshots.latest_id() or 0
    return latest if found is None else found.id - 1


def _time_travel(reference: TableReference) -> Moment:
    given: list[Moment] = []
    if reference.version is not None:
        given.append(_version(str(reference.version)))
    if reference.timestamp is not None:
        given.append(_at_time(str(reference.timestamp)))
    for key, text in reference.options.items():
        read = _SCAN_OPTIONS.get(key)
        if read is None:
            known = ", ".join((*_SCAN_OPTIONS, *_BETWEEN))
            raise SqlError(f"option {key!r} cannot be given to a query; known: {known}")
        given.append(read(text))
    chosen = [moment for moment in given if moment.given]
    if len(chosen) > 1:
        raise SqlError(f"table {reference.name}: give one snapshot, tag or time, not several")
    return chosen[0] if chosen else Moment()


def _snapshot(text: str) -> Moment:
    if not text.isdecimal():
        raise SqlError(f"snapshot {text!r}: expected a whole number")
    return Moment(snapshot=int(text))


def _version(text: str) -> Moment:
    return Moment(snapshot=int(text)) if text.isdecimal() else Moment(tag=text)


def _at_time(text: str) -> Moment:
    return Moment(timestamp=_time(text))


def _time(text: str) -> int:
    """Epoch milliseconds, or a time such as ``2026-11-23 12:00:00``, in UTC unless it has an offset."""
    if text.isdecimal():
        return int(text)
    try:
        return epoch_millis(datetime.fromisoformat(text))
    except ValueError as cause:
        raise SqlError(f"time {text!r}: expected '2026-11-23 12:00:00' or epoch milliseconds") from cause


_SCAN_OPTIONS: Mapping[str, Callable[[str], Moment]] = {
    "scan.snapshot-id": _snapshot,
    "scan.tag-name": lambda text: Moment(tag=text),
    "scan.version": _version,
    "scan.timestamp": _at_time,
    "scan.timestamp-millis": _at_time,
    "scan.watermark": lambda text: Moment(watermark=_time(text)),
    "scan.mode": lambda _: Moment(),
}

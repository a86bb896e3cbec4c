"""Runs queries: tables of the warehouse, its system tables and views become lazy frames, and Polars' SQL does the rest."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

import polars as pl

from storage_engine.errors import SqlError
from storage_engine.read.changes import ROW_KIND
from storage_engine.spec.identifier import Identifier
from storage_engine.sql.lexer import Source, TokenKind, tokenize
from storage_engine.sql.statements import Query
from storage_engine.sql.table_references import TableReference, find_table_references
from storage_engine.system_tables import buckets_frame, manifests_frame
from storage_engine.table import Table
from storage_engine.warehouse import View, Warehouse

MAX_VIEW_DEPTH = 32
_AUDIT_ROW_KIND = "rowkind"
_BETWEEN = "incremental-between"
_BETWEEN_MODE = "incremental-between-scan-mode"


def query_frame(warehouse: Warehouse, query: Query) -> pl.LazyFrame:
    """The result of a query, lazily. Raises SqlError, and what opening its tables raises."""
    return _Binder(warehouse, warehouse.current_database).frame(query)


@dataclass(frozen=True, slots=True)
class _Binder:
    """Puts frames where a query names tables; ``database`` is that of bare names, ``depth`` counts views within views."""

    warehouse: Warehouse
    database: str
    depth: int = 0

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
        identifier = Identifier.parse(reference.name, database=self.database)
        view = self.warehouse.views.get(str(identifier))
        if view is not None:
            return self._view(view)
        opened = Identifier(database=identifier.database, table=identifier.table, branch=identifier.branch)
        table = self.warehouse.table(str(opened))
        if identifier.system is None:
            return _table_frame(table, reference)
        read = SYSTEM_TABLES.get(identifier.system)
        if read is None:
            raise SqlError(
                f"table {opened} has no system table ${identifier.system}; known: {', '.join(SYSTEM_TABLES)}"
            )
        if identifier.system == "audit_log" and _BETWEEN in reference.options:
            return _changes(table, reference).rename({ROW_KIND: _AUDIT_ROW_KIND})
        return read(table).lazy()

    def _view(self, view: View) -> pl.LazyFrame:
        binder = _Binder(self.warehouse, view.database, self.depth + 1)
        frame = binder.frame(Query(text=view.text, line=view.line, column=view.column))
        return frame.rename(dict(zip(frame.collect_schema().names(), view.columns, strict=True)))


def collected(warehouse: Warehouse, query: Query) -> pl.DataFrame:
    """The result of a query. Raises what ``query_frame`` raises."""
    lazy = query_frame(warehouse, query)
    with sql_errors(query):
        return lazy.collect()


@contextmanager
def sql_errors(query: Query) -> Iterator[None]:
    """Turns what Polars says about a query into SqlError."""
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


def _table_frame(table: Table, reference: TableReference) -> pl.LazyFrame:
    if _BETWEEN in reference.options:
        rows = _changes(table, reference)
        return rows.filter(pl.col(ROW_KIND).is_in(["+I", "+U"])).drop(ROW_KIND)
    at = _time_travel(reference)
    return table.scan(snapshot=at.snapshot, tag=at.tag, timestamp=at.timestamp)


def _changes(table: Table, reference: TableReference) -> pl.LazyFrame:
    parts = [part.strip() for part in reference.options[_BETWEEN].split(",")]
    if len(parts) != 2:
        raise SqlError(
            f"option '{_BETWEEN}' is {reference.options[_BETWEEN]!r}: expected two snapshots or tags, as in '1,3'"
        )
    first, last = (int(part) if part.isdecimal() else part for part in parts)
    return table.changes(first, last, mode=reference.options.get(_BETWEEN_MODE, "auto"))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Moment:
    """Where in a table's history to read: at most one is given, none for the newest rows."""

    snapshot: int | None = None
    tag: str | None = None
    timestamp: int | datetime | None = None


_NEWEST = _Moment()


def _time_travel(reference: TableReference) -> _Moment:
    given: list[_Moment] = []
    if reference.version is not None:
        given.append(_version(str(reference.version)))
    if reference.timestamp is not None:
        given.append(_at_time(str(reference.timestamp)))
    for key, text in reference.options.items():
        read = _SCAN_OPTIONS.get(key)
        if read is None:
            raise SqlError(f"option {key!r} cannot be given to a query; known: {', '.join(_SCAN_OPTIONS)}, {_BETWEEN}")
        given.append(read(text))
    chosen = [moment for moment in given if moment != _NEWEST]
    if len(chosen) > 1:
        raise SqlError(f"table {reference.name}: give one snapshot, tag or time, not several")
    return chosen[0] if chosen else _NEWEST


def _snapshot(text: str) -> _Moment:
    if not text.isdecimal():
        raise SqlError(f"snapshot {text!r}: expected a whole number")
    return _Moment(snapshot=int(text))


def _version(text: str) -> _Moment:
    return _Moment(snapshot=int(text)) if text.isdecimal() else _Moment(tag=text)


def _at_time(text: str) -> _Moment:
    """Epoch milliseconds, or a time such as ``2026-11-23 12:00:00``, in UTC unless it has an offset."""
    if text.isdecimal():
        return _Moment(timestamp=int(text))
    try:
        parsed = datetime.fromisoformat(text)
    except ValueError as cause:
        raise SqlError(f"time {text!r}: expected '2026-11-23 12:00:00' or epoch milliseconds") from cause
    return _Moment(timestamp=parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC))


_SCAN_OPTIONS: Mapping[str, Callable[[str], _Moment]] = {
    "scan.snapshot-id": _snapshot,
    "scan.tag-name": lambda text: _Moment(tag=text),
    "scan.version": _version,
    "scan.timestamp": _at_time,
    "scan.timestamp-millis": _at_time,
    "scan.mode": lambda _: _NEWEST,
}


def _audit_log(table: Table) -> pl.LazyFrame:
    """The rows of today as inserts; with the hint ``incremental-between`` what happened in between."""
    return table.scan().select(pl.lit("+I").alias(_AUDIT_ROW_KIND), pl.all())


SYSTEM_TABLES: Mapping[str, Callable[[Table], pl.DataFrame | pl.LazyFrame]] = {
    "snapshots": Table.snapshots,
    "schemas": Table.schemas,
    "options": Table.options,
    "files": Table.files,
    "manifests": lambda table: manifests_frame(table.store, table.schema, table.latest_snapshot()),
    "partitions": Table.partitions,
    "buckets": lambda table: buckets_frame(table.store, table.schema, table.latest_snapshot()),
    "tags": Table.tags,
    "branches": Table.branches,
    "consumers": Table.consumers,
    "audit_log": _audit_log,
    "ro": lambda table: table.scan(read_optimized=True),
}

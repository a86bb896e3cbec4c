"""What the commands do, as functions from a catalog to frames."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from datetime import UTC, datetime

import polars as pl

from storage_engine import Catalog, Snapshot, Table
from storage_engine.errors import InvalidInput, StorageEngineError

SUMMARY_TYPES = pl.Schema(
    {
        "table": pl.String(),
        "snapshot": pl.Int64(),
        "kind": pl.String(),
        "committed": pl.Datetime("ms", "UTC"),
        "records": pl.Int64(),
        "primary_key": pl.String(),
        "partitioned_by": pl.String(),
    }
)
COLUMN_TYPES = pl.Schema(
    {
        "column": pl.String(),
        "type": pl.String(),
        "nullable": pl.Boolean(),
        "key": pl.String(),
        "description": pl.String(),
    }
)


def open_catalog(warehouse: str) -> Catalog:
    """The catalog of a warehouse."""
    return Catalog(warehouse)


def open_table(warehouse: str, name: str, branch: str | None = None) -> Table:
    """A table, or a branch of it."""
    return open_catalog(warehouse).table(name, branch=branch)


def is_engine_error(error: BaseException) -> bool:
    """Whether an error is one that its message explains."""
    return isinstance(error, StorageEngineError)


def tables_frame(catalog: Catalog, database: str | None) -> pl.DataFrame:
    """One row a table: newest snapshot, its kind and time, physical records, keys."""
    databases = catalog.list_databases() if database is None else [database]
    names = [f"{name}.{table}" for name in databases for table in catalog.list_tables(name)]
    return pl.DataFrame([_summary(catalog.table(name)) for name in names], schema=SUMMARY_TYPES, orient="row")


def _summary(table: Table) -> tuple[object, ...]:
    snapshot = table.latest_snapshot()
    keys = ", ".join(table.schema.primary_keys), ", ".join(table.schema.partition_keys)
    if snapshot is None:
        return (table.name, None, None, None, 0, *keys)
    committed = datetime.fromtimestamp(snapshot.time_millis / 1000, UTC)
    return (table.name, snapshot.id, snapshot.commit_kind.value, committed, snapshot.total_record_count, *keys)


def describe_frame(table: Table) -> pl.DataFrame:
    """One row a column: name, type, nullability, role in the keys, description."""
    schema = table.schema
    rows = [
        (
            field.name,
            field.type.sql,
            field.type.nullable,
            _role(field.name, schema.primary_keys, schema.partition_keys),
            field.description or "",
        )
        for field in schema.fields
    ]
    return pl.DataFrame(rows, schema=COLUMN_TYPES, orient="row")


def _role(name: str, primary: tuple[str, ...], partition: tuple[str, ...]) -> str:
    roles = [role for role, names in (("primary", primary), ("partition", partition)) if name in names]
    return " + ".join(roles)


def scan(
    table: Table,
    *,
    columns: str | None,
    where: str | None,
    limit: int,
    snapshot: int | None,
    tag: str | None,
    timestamp: str | None,
    read_optimized: bool,
) -> pl.DataFrame:
    """Rows of a table; ``where`` is a SQL condition over its columns, ``limit`` 0 means all."""
    lazy = table.scan(snapshot=snapshot, tag=tag, timestamp=_moment(timestamp), read_optimized=read_optimized)
    names = None if columns is None else _columns(columns, lazy)
    try:
        chosen = lazy if where is None else lazy.filter(pl.sql_expr(where))
        chosen = chosen if names is None else chosen.select(names)
        return (chosen.head(limit) if limit else chosen).collect()
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as cause:
        reason = str(cause).partition("\n")[0]
        raise InvalidInput(f"--where {where!r} cannot be used: {reason}") from cause


def _columns(columns: str, lazy: pl.LazyFrame) -> list[str]:
    names = [name.strip() for name in columns.split(",") if name.strip()]
    known = lazy.collect_schema().names()
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        raise InvalidInput(f"--columns {columns!r}: expected names of {', '.join(known)}")
    return list(dict.fromkeys(names))


def _moment(text: str | None) -> int | datetime | None:
    """Epoch milliseconds, or a time such as ``2026-11-23 12:00:00``, in UTC unless it has an offset."""
    if text is None or text.isdecimal():
        return None if text is None else int(text)
    try:
        parsed = datetime.fromisoformat(text)
    except ValueError as cause:
        raise InvalidInput(f"--timestamp {text!r}: expected '2026-11-23 12:00:00' or epoch milliseconds") from cause
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)


def changes(table: Table, *, after: str, until: str | None, mode: str, limit: int) -> pl.DataFrame:
    """Rows with kinds between two snapshots, given as ids or tags; ``limit`` 0 means all."""
    last = None if until is None else _snapshot_or_tag(until)
    lazy = table.changes(_snapshot_or_tag(after), last, mode=mode)
    return (lazy.head(limit) if limit else lazy).collect()


def _snapshot_or_tag(text: str) -> int | str:
    return int(text) if text.isdecimal() else text


def compact(table: Table, *, full: bool, order_strategy: str | None = None, order_by: str = "") -> str:
    """Compact a table, or sort it by the columns of a list with commas; says what came of it."""
    columns = [name.strip() for name in order_by.split(",") if name.strip()]
    snapshot = table.compact(full=full, order_strategy=order_strategy, order_by=columns)
    return _said(snapshot, "nothing to compact")


def _said(snapshot: Snapshot | None, nothing: str) -> str:
    return nothing if snapshot is None else f"snapshot {snapshot.id}"


def run_sql(catalog: Catalog, text: str) -> Iterator[pl.DataFrame | None]:
    """Run statements in order; yields the result of each, None where there is none."""
    return catalog.execute_script(text)


def run_demo(*, events: int, seed: int, source: str, landing: str, warehouse: str) -> int:
    """The bounded main job; loads Dagster. Returns the exit code."""
    job = importlib.import_module("lakehouse_demo.main")
    return int(job.run(events=events, seed=seed, source=source, landing=landing, warehouse=warehouse))


def run_ui(*, events: int, seed: int, landing: str, warehouse: str, port: int, every_s: float) -> int:
    """Dagster's UI, fed with changes. Returns the exit code."""
    ui = importlib.import_module("lakehouse_demo.ui")
    return int(ui.serve(port=port, landing=landing, warehouse=warehouse, events=events, seed=seed, every_s=every_s))

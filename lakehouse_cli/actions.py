"""What the commands do, as functions from a catalog to frames."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path

import polars as pl

from storage_engine import Catalog, Table
from storage_engine.errors import InvalidInput, StorageEngineError


def catalog(warehouse: str) -> Catalog:
    """The catalog of a warehouse."""
    return Catalog(warehouse)


def is_engine_error(error: BaseException) -> bool:
    """Whether an error is one that its message explains."""
    return isinstance(error, StorageEngineError)


def tables_frame(catalog: Catalog, database: str | None) -> pl.DataFrame:
    """One row a table: name, newest snapshot, its kind and time, physical records."""
    databases = catalog.list_databases() if database is None else [database]
    names = [f"{name}.{table}" for name in databases for table in catalog.list_tables(name)]
    return pl.DataFrame(
        [_summary(catalog.table(name)) for name in names],
        schema={
            "table": pl.String,
            "snapshot": pl.Int64,
            "kind": pl.String,
            "committed": pl.Datetime("ms", "UTC"),
            "records": pl.Int64,
            "primary_key": pl.String,
            "partitioned_by": pl.String,
        },
        orient="row",
    )


def _summary(table: Table) -> tuple[object, ...]:
    snapshot = table.latest_snapshot()
    keys = ", ".join(table.schema.primary_keys), ", ".join(table.schema.partition_keys)
    if snapshot is None:
        return (table.name, None, None, None, 0, *keys)
    time = pl.Series([snapshot.time_millis]).cast(pl.Datetime("ms", "UTC"))[0]
    return (table.name, snapshot.id, snapshot.commit_kind.value, time, snapshot.total_record_count, *keys)


def describe_frame(table: Table) -> pl.DataFrame:
    """One row a column: name, type, nullability, role, description."""
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
    return pl.DataFrame(rows, schema=["column", "type", "nullable", "key", "description"], orient="row")


def _role(name: str, primary: tuple[str, ...], partition: tuple[str, ...]) -> str:
    roles = [role for role, names in (("primary", primary), ("partition", partition)) if name in names]
    return " + ".join(roles)


def scan(
    catalog: Catalog,
    table: str,
    *,
    columns: str | None,
    where: str | None,
    limit: int,
    snapshot: int | None,
    tag: str | None,
    timestamp: int | None,
    branch: str | None,
) -> pl.DataFrame:
    """Rows of a table; ``where`` is a SQL condition over its columns."""
    lazy = catalog.table(table, branch=branch).scan(snapshot=snapshot, tag=tag, timestamp=timestamp)
    if where:
        lazy = lazy.filter(_condition(where))
    if columns:
        lazy = lazy.select(_columns(columns, lazy))
    return (lazy.head(limit) if limit else lazy).collect()


def _condition(where: str) -> pl.Expr:
    try:
        return pl.sql_expr(where)
    except pl.exceptions.PolarsError as cause:
        raise InvalidInput(f"condition {where!r} cannot be understood: {cause}") from cause


def _columns(columns: str, lazy: pl.LazyFrame) -> list[str]:
    names = [name.strip() for name in columns.split(",") if name.strip()]
    known = lazy.collect_schema().names()
    unknown = [name for name in names if name not in known]
    if unknown:
        raise InvalidInput(f"no column {unknown[0]!r}; columns: {', '.join(known)}")
    return names


def changes(catalog: Catalog, table: str, *, after: str, until: str | None, mode: str, limit: int) -> pl.DataFrame:
    """Rows with kinds between two snapshots."""
    last = None if until is None else _snapshot_or_tag(until)
    lazy = catalog.table(table).changes(_snapshot_or_tag(after), last, mode=mode)
    return (lazy.head(limit) if limit else lazy).collect()


def _snapshot_or_tag(text: str) -> int | str:
    return int(text) if text.isdigit() else text


def run_sql(catalog: Catalog, statement: str | None, path: str | None) -> Iterator[pl.DataFrame]:
    """Run statements in order; yields what those that answer with rows answer."""
    text = Path(path).read_text(encoding="utf-8") if path else statement or ""
    for frame in catalog.execute_script(text):
        if frame is not None:
            yield frame


def run_demo(*, events: int, seed: int, source: str, landing: str, warehouse: str) -> int:
    """The bounded main job; loads Dagster. Returns the exit code."""
    job = importlib.import_module("lakehouse_demo.main")
    return int(job.run(events=events, seed=seed, source=source, landing=landing, warehouse=warehouse))

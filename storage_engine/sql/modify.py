"""Runs what changes rows: INSERT, DELETE, and dropping of partitions."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from storage_engine.errors import SqlError
from storage_engine.spec.snapshot import Snapshot
from storage_engine.sql.query import collected, sql_errors
from storage_engine.sql.statements import Delete, DropPartitions, Insert, Literal, Query
from storage_engine.table import Table
from storage_engine.warehouse import Warehouse


def insert(warehouse: Warehouse, statement: Insert) -> pl.DataFrame:
    """Write the rows of a query; columns go by position, as in SQL. Gives one row: ``snapshot_id``, ``rows``."""
    table = warehouse.table(statement.name)
    fixed = partition_values(table, statement.partition)
    frame = _renamed(table, statement, collected(warehouse, statement.query), fixed)
    frame = frame.with_columns(
        pl.lit(value, table.schema.polars_schema[name]).alias(name) for name, value in fixed.items()
    )
    if not statement.overwrite:
        return _outcome(table.write(frame), frame.height)
    is_whole = bool(fixed) and set(fixed) == set(table.schema.partition_keys)
    return _outcome(table.overwrite(frame, partitions=[fixed] if is_whole else None), frame.height)


def _renamed(table: Table, statement: Insert, frame: pl.DataFrame, fixed: Mapping[str, object]) -> pl.DataFrame:
    names = list(statement.columns) or [name for name in table.schema.column_names if name not in fixed]
    unknown = [name for name in names if name not in table.schema.by_name]
    if unknown:
        raise SqlError(
            f"table {table.name} has no column {unknown[0]!r}; columns: {', '.join(table.schema.column_names)}"
        )
    twice = [name for name in names if names.count(name) > 1 or name in fixed]
    if twice:
        raise SqlError(f"INSERT INTO {table.name}: column {twice[0]!r} is given twice")
    if len(names) != frame.width:
        raise SqlError(
            f"INSERT INTO {table.name}: the query gives {frame.width} columns, expected {len(names)}: {', '.join(names)}"
        )
    return frame.rename(dict(zip(frame.columns, names, strict=True)))


def delete(warehouse: Warehouse, statement: Delete) -> pl.DataFrame:
    """Delete the rows that a condition selects. Gives one row: ``snapshot_id`` (null if there were none), ``rows``."""
    table = warehouse.table(statement.name)
    with sql_errors(Query(text=statement.condition, line=statement.line, column=statement.column)):
        condition = pl.sql_expr(statement.condition)
        count = table.scan().filter(condition).select(pl.len()).collect().item()
    return _outcome(table.delete(condition), count)


def drop_partitions(warehouse: Warehouse, statement: DropPartitions) -> None:
    """Empty partitions; each is given in full."""
    table = warehouse.table(statement.name)
    specs = [partition_values(table, spec) for spec in statement.partitions]
    table.overwrite(pl.DataFrame(schema=table.schema.polars_schema), partitions=specs)


def partition_values(table: Table, spec: Mapping[str, Literal]) -> dict[str, object]:
    """Values of partition columns in the columns' own types. Raises SqlError for another column or a value that does not fit."""
    keys = table.schema.partition_keys
    unknown = [name for name in spec if name not in keys]
    if unknown:
        raise SqlError(f"table {table.name} is partitioned by {', '.join(keys) or 'nothing'}, not by {unknown[0]!r}")
    return {name: _converted(table, name, value) for name, value in spec.items()}


def _converted(table: Table, name: str, value: Literal) -> object:
    dtype = table.schema.polars_schema[name]
    try:
        return pl.Series([value]).cast(dtype).item()
    except pl.exceptions.PolarsError as cause:
        raise SqlError(f"partition column {name!r}: {value!r} is no {table.schema.by_name[name].type.sql}") from cause


def _outcome(snapshot: Snapshot | None, rows: int) -> pl.DataFrame:
    snapshot_id = None if snapshot is None else snapshot.id
    return pl.DataFrame(
        {"snapshot_id": [snapshot_id], "rows": [rows]}, schema={"snapshot_id": pl.Int64(), "rows": pl.Int64()}
    )

"""Values into columns of a table: by position, with the conversions that Flink makes by itself."""

from __future__ import annotations

from dataclasses import replace

import polars as pl
from sqlglot import exp

from lakehouse_assets.flink_sql.casts import cast
from lakehouse_assets.flink_sql.errors import Place
from lakehouse_assets.flink_sql.script import DeclaredInsert
from lakehouse_assets.flink_sql.values import Value
from storage_engine.spec.schema import TableSchema


def assigned(value: Value, name: str, target: TableSchema, place: Place, node: exp.Expr | None = None) -> Value:
    """A value as a column of the target holds it. Raises SqlError if it must be CAST first."""
    dtype = target.polars_schema[name]
    if not _fits(value.dtype, dtype):
        raise place.error(
            f"column {name} is {target.by_name[name].type.sql}, the query gives {value.dtype}: CAST it", node
        )
    return replace(value, expr=cast(value.expr, value.dtype, dtype), dtype=dtype, moment=False)


def target_columns(insert: DeclaredInsert, target: TableSchema, given: int) -> tuple[str, ...]:
    """The columns that a query fills, in its order. Raises SqlError for other numbers or names."""
    unknown = [name for name in (*insert.columns, *insert.partition) if name not in target.by_name]
    if unknown:
        raise insert.place.error(
            f"table {insert.target} has no column {unknown[0]}; there are {', '.join(target.column_names)}"
        )
    doubled = [name for name in insert.columns if insert.columns.count(name) > 1 or name in insert.partition]
    if doubled:
        raise insert.place.error(f"column {doubled[0]} is filled twice: name it once")
    names = insert.columns or tuple(name for name in target.column_names if name not in insert.partition)
    if len(names) != given:
        raise insert.place.error(
            f"the query gives {given} columns, {insert.target} takes {len(names)}: {', '.join(names)}"
        )
    missing = [key for key in target.primary_keys if key not in names and key not in insert.partition]
    if missing:
        raise insert.place.error(f"column {missing[0]} is in the primary key of {insert.target}, and is not given")
    return names


def constants(insert: DeclaredInsert, target: TableSchema) -> dict[str, Value]:
    """The values of ``PARTITION (column = value)``, and nulls for columns that are not given."""
    found: dict[str, Value] = {}
    for name, literal in insert.partition.items():
        value = Value(expr=pl.lit(literal), dtype=pl.Series([literal]).dtype)
        found[name] = assigned(value, name, target, insert.place)
    left = [] if not insert.columns else [name for name in target.column_names if name not in insert.columns]
    for name in left:
        if name not in found:
            dtype = target.polars_schema[name]
            found[name] = Value(expr=pl.lit(None, dtype=dtype), dtype=dtype)
    return found


def _fits(source: pl.DataType, target: pl.DataType) -> bool:
    if source in (target, pl.Null):
        return True
    if source.is_numeric() and target.is_numeric():
        return source.is_integer() or not target.is_integer()
    if isinstance(source, pl.Datetime) and isinstance(target, pl.Datetime):
        return True
    if source == pl.Date and isinstance(target, pl.Datetime):
        return True
    return source.is_nested() and type(source) is type(target)

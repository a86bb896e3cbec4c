"""Rows of a table by the values of some columns: which buckets and row groups they need."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from storage_engine.errors import InvalidInput
from storage_engine.kernel.bucket import fixed_bucket
from storage_engine.spec.schema import TableSchema


def wanted_keys(keys: pl.DataFrame, schema: TableSchema, *, table: str) -> pl.DataFrame:
    """Keys as the table's columns have them, each once, without nulls. Raises InvalidInput for an unknown column."""
    unknown = [name for name in keys.columns if name not in schema.column_names]
    if unknown:
        raise InvalidInput(f"table {table} has no column {unknown[0]!r} to look up by")
    return keys.cast({name: schema.polars_schema[name] for name in keys.columns}).drop_nulls().unique()


def buckets_of(keys: pl.DataFrame, schema: TableSchema) -> set[int] | None:
    """The buckets that rows with some key values are in; None if the columns do not tell, or buckets are dynamic."""
    known = bool(schema.bucket_keys) and set(keys.columns) >= set(schema.bucket_keys)
    return set(fixed_bucket(keys, schema)) if known and schema.table_options.bucket > 0 else None


def rows_of_keys(rows: pl.LazyFrame, keys: pl.DataFrame, columns: Sequence[str], *, push: bool) -> pl.DataFrame:
    """Of a scan, the rows of some keys; ``push``: the keys reach the files as a predicate."""
    for name in keys.columns if push and keys.height else ():
        values = keys[name]
        ends = pl.col(name).is_between(pl.lit(values.min()), pl.lit(values.max()))
        rows = rows.filter(ends & pl.col(name).is_in(values.implode()))
    read = rows.select(list(dict.fromkeys([*keys.columns, *columns]))).collect()
    return read.join(keys, on=keys.columns, how="semi").select(columns)

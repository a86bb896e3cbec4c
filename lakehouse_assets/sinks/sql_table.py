"""What sinks to databases share: a table's columns as SQL's, its rows as texts, and the batch of changes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import polars as pl

from lakehouse_assets.stream.source import RETRACTIONS, ROW_KIND
from storage_engine import Table
from storage_engine.errors import InvalidInput, InvalidRows, Unsupported
from storage_engine.spec.types import DataType, TypeRoot

OFFSETS: Final = "lakehouse_offsets"
BATCH: Final = "lakehouse_batch"
GONE: Final = "_lakehouse_gone"
"""Column of a batch that marks deletes."""
NESTED: Final = (TypeRoot.ARRAY, TypeRoot.MAP, TypeRoot.MULTISET, TypeRoot.ROW)


@dataclass(frozen=True, slots=True, kw_only=True)
class SqlTable:
    """A table at a database: its columns with their SQL types, in order, and its primary key."""

    name: str
    columns: Mapping[str, str]
    key: tuple[str, ...]

    @property
    def others(self) -> tuple[str, ...]:
        """The columns beside the key."""
        return tuple(name for name in self.columns if name not in self.key)


def sql_table(table: Table, name: str, types: Mapping[TypeRoot, str], key_types: Mapping[TypeRoot, str]) -> SqlTable:
    """A table as a database has it. Raises InvalidInput for one without a key, Unsupported for a column."""
    key = tuple(table.schema.primary_keys)
    if not key:
        raise InvalidInput(
            f"table {table.name} has no primary key: it cannot be served from a database, but as Parquet"
        )
    columns: dict[str, str] = {}
    for column in table.schema.fields:
        chosen = key_types if column.name in key and column.type.root in key_types else types
        columns[column.name] = _sql_type(table.name, column.name, column.type, chosen)
    return SqlTable(name=name, columns=columns, key=key)


def _sql_type(table: str, column: str, found: DataType, types: Mapping[TypeRoot, str]) -> str:
    if found.root not in types or ((found.precision or 0) > 6 and found.root.value.startswith("TIMESTAMP")):
        raise Unsupported(f"column {column} of {table} is {found.sql}, which the database has no exact type for")
    return types[found.root].format(precision=found.precision, scale=found.scale or 0)


def marked(changes: pl.DataFrame) -> pl.DataFrame:
    """Changes with ``_lakehouse_gone`` in place of their row kind."""
    return changes.select(pl.exclude(ROW_KIND), pl.col(ROW_KIND).is_in(RETRACTIONS).alias(GONE))


def as_texts(rows: pl.DataFrame, table: Table) -> pl.DataFrame:
    """Rows whose nested values are JSON, and bytes hexadecimal; the rest is written well by Polars itself."""
    texts: list[pl.Expr] = []
    for column in table.schema.fields:
        value = pl.col(column.name)
        if column.type.root in NESTED:
            wrapped = pl.struct(value.alias("v")).struct.json_encode()
            texts.append(
                pl.when(value.is_not_null()).then(wrapped.str.slice(5, wrapped.str.len_chars() - 6)).alias(column.name)
            )
        elif rows.schema[column.name] == pl.Binary():
            texts.append(value.bin.encode("hex"))
        elif isinstance(rows.schema[column.name], pl.Datetime):
            texts.append(value.dt.replace_time_zone(None).dt.strftime("%Y-%m-%d %H:%M:%S%.6f").alias(column.name))
    return rows.with_columns(texts)


def check_texts(rows: pl.DataFrame, place: str) -> None:
    """Raise InvalidRows for a text that a database cannot hold."""
    for name, dtype in rows.schema.items():
        if dtype == pl.String() and rows[name].str.contains("\0", literal=True).any():
            raise InvalidRows(
                f"column {name} has a text with a NUL character, which {place} cannot hold; nothing was written"
            )


def check_finite(rows: pl.DataFrame, place: str) -> None:
    """Raise InvalidRows for a NaN or an infinity, where a database has none."""
    for name, dtype in rows.schema.items():
        if dtype.is_float() and not rows[name].drop_nulls().is_finite().all():
            raise InvalidRows(f"column {name} has a value that is no finite number, which {place} cannot hold")


def secret(variable: str) -> str:
    """The value of an environment variable. Raises InvalidInput if it is not set."""
    if variable not in os.environ:
        raise InvalidInput(f"environment variable {variable} is not set")
    return os.environ[variable]

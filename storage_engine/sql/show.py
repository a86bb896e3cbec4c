"""What a table is, as SQL text (``SHOW CREATE TABLE``) and as a frame (``DESCRIBE``)."""

from __future__ import annotations

import polars as pl

from storage_engine.spec.schema import TableSchema
from storage_engine.spec.types import DataField


def create_table_text(name: str, schema: TableSchema) -> str:
    """The statement that creates such a table; parsing it gives the same definition."""
    elements = [_column_text(column) for column in schema.fields]
    if schema.primary_keys:
        elements.append(f"PRIMARY KEY ({_names(schema.primary_keys)}) NOT ENFORCED")
    parts = [f"CREATE TABLE {_quoted_path(name)} (\n  " + ",\n  ".join(elements) + "\n)"]
    if schema.comment:
        parts.append(f"COMMENT {_string(schema.comment)}")
    if schema.partition_keys:
        parts.append(f"PARTITIONED BY ({_names(schema.partition_keys)})")
    if schema.options:
        options = [f"  {_string(key)} = {_string(value)}" for key, value in schema.options.items()]
        parts.append("WITH (\n" + ",\n".join(options) + "\n)")
    return "\n".join(parts)


def description_frame(schema: TableSchema) -> pl.DataFrame:
    """One row a column: name, type, null, key (``PRI(…)`` for the primary key), partitioned, comment."""
    primary = f"PRI({', '.join(schema.primary_keys)})"
    rows = [
        (
            column.name,
            column.type.sql,
            column.type.nullable,
            primary if column.name in schema.primary_keys else None,
            column.name in schema.partition_keys,
            column.description,
        )
        for column in schema.fields
    ]
    types = {
        "name": pl.String(),
        "type": pl.String(),
        "null": pl.Boolean(),
        "key": pl.String(),
        "partitioned": pl.Boolean(),
        "comment": pl.String(),
    }
    return pl.DataFrame(rows, schema=pl.Schema(types), orient="row")


def _column_text(column: DataField) -> str:
    comment = f" COMMENT {_string(column.description)}" if column.description else ""
    return f"{quoted(column.name)} {column.type}{comment}"


def _quoted_path(name: str) -> str:
    return ".".join(quoted(part) for part in name.split("."))


def _names(names: tuple[str, ...]) -> str:
    return ", ".join(quoted(name) for name in names)


def quoted(name: str) -> str:
    """An identifier as it may stand in any statement."""
    return "`" + name.replace("`", "``") + "`"


def _string(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"

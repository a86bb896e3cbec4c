"""Tables of a PostgreSQL database: their columns as the catalog has them, and their rows as of one snapshot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any, Final

import polars as pl

from lakehouse_assets.sources.change_source import SourceTable
from lakehouse_assets.sources.errors import SourceMissing, SourceUnsupported
from lakehouse_assets.sources.postgres.values import PgColumn

DEFAULT_SCHEMA: Final = "public"

_COLUMNS: Final = """
SELECT n.nspname || '.' || c.relname, c.relkind, c.relreplident, a.attname, COALESCE(b.typname, t.typname),
       CASE WHEN t.typtype = 'd' THEN t.typtypmod ELSE a.atttypmod END, a.atthasdef OR a.attnotnull,
       EXISTS (SELECT 1 FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary AND a.attnum = ANY (i.indkey))
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
JOIN pg_type t ON t.oid = a.atttypid
LEFT JOIN pg_type b ON t.typtype = 'd' AND b.oid = t.typbasetype
WHERE n.nspname || '.' || c.relname = ANY (%s) AND c.relkind IN ('r', 'p')
ORDER BY 1, a.attnum
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class PgTable:
    """A table of the source and the dtypes that its columns are read as. ``name`` has its schema before it."""

    name: str
    columns: Mapping[str, PgColumn]
    dtypes: Mapping[str, pl.DataType]
    key: tuple[str, ...]

    def filled_beside(self, known: Mapping[str, pl.DataType]) -> bool:
        """Whether columns that are not known may have values in rows that no change tells."""
        return any(column.filled for name, column in self.columns.items() if name not in known)


def full_name(table: str) -> str:
    """A table's name with its schema."""
    return table if "." in table else f"{DEFAULT_SCHEMA}.{table}"


def tables_of(connection: Any, tables: Sequence[SourceTable]) -> dict[str, PgTable]:
    """The tables by their names with schema. Raises SourceMissing and SourceUnsupported."""
    with connection.cursor() as cursor:
        cursor.execute(_COLUMNS, ([full_name(table.name) for table in tables],))
        rows = cursor.fetchall()
    return {
        full_name(table.name): _table(table, [row for row in rows if row[0] == full_name(table.name)])
        for table in tables
    }


def _table(table: SourceTable, rows: Sequence[tuple[Any, ...]]) -> PgTable:
    name = full_name(table.name)
    if not rows:
        raise SourceMissing(f"there is no table {name}, or the user may not see it", table=table.name)
    _, kind, identity, *_ = rows[0]
    if kind == "r" and identity != "f":
        raise SourceUnsupported(
            f"changes of {name} are told in parts: run ALTER TABLE {name} REPLICA IDENTITY FULL", table=table.name
        )
    key = tuple(row[3] for row in rows if row[7])
    if not key:
        raise SourceUnsupported(
            f"table {name} has no primary key; changes of its rows cannot be told apart", table=table.name
        )
    columns = {
        column: PgColumn(name=column, type_name=type_name, modifier=modifier, filled=filled)
        for _, _, _, column, type_name, modifier, filled, _ in rows
    }
    dtypes = {column: found.dtype(table.columns.get(column)) for column, found in columns.items()}
    return PgTable(name=name, columns=columns, dtypes=dtypes, key=key)


def texts_of_rows(connection: Any, table: PgTable) -> pl.DataFrame:
    """All rows as texts, in the order of the key."""
    columns, key = ", ".join(map(quoted, table.columns)), ", ".join(map(quoted, table.key))
    query = f"SELECT {columns} FROM {'.'.join(map(quoted, table.name.split('.', 1)))} ORDER BY {key}"  # noqa: S608
    content = BytesIO()
    with (
        connection.cursor() as cursor,
        cursor.copy(f"COPY ({query}) TO STDOUT (FORMAT csv, FORCE_QUOTE *)") as copied,
    ):
        for chunk in copied:
            content.write(chunk)
    schema = pl.Schema({name: pl.String() for name in table.columns})
    if not content.tell():
        return pl.DataFrame(schema=schema)
    content.seek(0)
    return pl.read_csv(content, has_header=False, schema=schema)


def quoted(name: str) -> str:
    """A name as an identifier of SQL."""
    return '"' + name.replace('"', '""') + '"'

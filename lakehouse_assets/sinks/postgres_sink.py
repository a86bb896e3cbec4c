"""PostgreSQL as a sink: batches are copied into a temporary table and merged, with the snapshot's id in one transaction."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import polars as pl

from lakehouse_assets.sinks.declaration import Delivered, Sink
from lakehouse_assets.sinks.sql_table import (
    BATCH,
    GONE,
    OFFSETS,
    SqlTable,
    as_texts,
    check_texts,
    marked,
    secret,
    sql_table,
)
from lakehouse_assets.sources.postgres.connection import PostgresConnection
from lakehouse_assets.sources.postgres.tables import quoted
from storage_engine import Table
from storage_engine.spec.types import TypeRoot

TYPES: Final = {
    TypeRoot.BOOLEAN: "boolean",
    TypeRoot.TINYINT: "smallint",
    TypeRoot.SMALLINT: "smallint",
    TypeRoot.INT: "integer",
    TypeRoot.BIGINT: "bigint",
    TypeRoot.FLOAT: "real",
    TypeRoot.DOUBLE: "double precision",
    TypeRoot.DECIMAL: "numeric({precision},{scale})",
    TypeRoot.CHAR: "text",
    TypeRoot.VARCHAR: "text",
    TypeRoot.BINARY: "bytea",
    TypeRoot.VARBINARY: "bytea",
    TypeRoot.DATE: "date",
    TypeRoot.TIME: "time(3)",
    TypeRoot.TIMESTAMP: "timestamp({precision})",
    TypeRoot.TIMESTAMP_LTZ: "timestamptz({precision})",
    TypeRoot.ARRAY: "jsonb",
    TypeRoot.MAP: "jsonb",
    TypeRoot.MULTISET: "jsonb",
    TypeRoot.ROW: "jsonb",
}
CHUNK_ROWS: Final = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class PostgresSink:
    """A database whose tables mirror tables of the warehouse; they are made, and get new columns, as need be.

    ``schema``: of the database; ``table``: the name there (default: the table's own, without its layer).
    ``password_variable``: environment variable that holds the password.
    """

    host: str = "127.0.0.1"
    port: int = 5432
    user: str = "lakehouse"
    database: str = "postgres"
    schema: str = "public"
    table: str = ""
    sslmode: str = "prefer"
    password_variable: str = "LAKEHOUSE_SINK_PASSWORD"  # noqa: S105 - a variable's name

    @property
    def kind(self) -> str:
        """What it is."""
        return "postgres"

    @property
    def place(self) -> str:
        """Where it is."""
        return f"PostgreSQL {self.host}:{self.port}/{self.database}"

    @contextmanager
    def session(self, sink: Sink, table: Table) -> Iterator[_Session]:
        """A transaction that holds the sink's offset. Raises SourceError, InvalidInput and Unsupported."""
        connection = PostgresConnection(
            host=self.host,
            port=self.port,
            user=self.user,
            password=secret(self.password_variable),
            database=self.database,
            sslmode=self.sslmode,
        )
        name = f"{quoted(self.schema)}.{quoted(self.table or table.name.partition('.')[2])}"
        with connection.open(autocommit=False) as opened:
            yield _Session(opened, self, sink, table, sql_table(table, name, TYPES, {}))
            opened.rollback()


@dataclass(slots=True)
class _Session:
    connection: Any
    to: PostgresSink
    sink: Sink
    table: Table
    sql: SqlTable

    def delivered(self) -> Delivered | None:
        offsets = f"{quoted(self.to.schema)}.{OFFSETS}"
        self._run(
            f"CREATE TABLE IF NOT EXISTS {offsets} (sink text PRIMARY KEY, snapshot bigint, committed_ms bigint,"
            " delivered_at timestamptz)"
        )
        self._run(f"INSERT INTO {offsets} (sink) VALUES (%s) ON CONFLICT DO NOTHING", self.sink.title)
        row = self._run(
            f"SELECT snapshot, committed_ms FROM {offsets} WHERE sink = %s FOR UPDATE", self.sink.title
        ).fetchone()
        return None if row[0] is None else Delivered(snapshot=row[0], committed_ms=row[1])

    def load(self, portions: Iterable[pl.DataFrame], rows: pl.LazyFrame) -> int:  # noqa: ARG002 - for files
        self._make_table()
        height = self._fill(frame.with_columns(pl.lit(value=False).alias(GONE)) for frame in portions)
        same = " AND ".join(f"b.{quoted(name)} = t.{quoted(name)}" for name in self.sql.key)
        self._run(f"CREATE INDEX ON {BATCH} ({', '.join(map(quoted, self.sql.key))})")
        self._run(f"ANALYZE {BATCH}")
        self._run(f"DELETE FROM {self.sql.name} t WHERE NOT EXISTS (SELECT 1 FROM {BATCH} b WHERE {same})")
        self._upsert()
        return height

    def apply(self, portions: Iterable[pl.DataFrame], rows: pl.LazyFrame) -> None:  # noqa: ARG002 - for files
        self._make_table()
        self._fill(marked(changes) for changes in portions)
        same = " AND ".join(f"b.{quoted(name)} = t.{quoted(name)}" for name in self.sql.key)
        self._run(f"ANALYZE {BATCH}")
        self._run(f"DELETE FROM {self.sql.name} t USING {BATCH} b WHERE b.{GONE} AND {same}")
        self._upsert()

    def finish(self, delivered: Delivered) -> None:
        self._run(
            f"UPDATE {quoted(self.to.schema)}.{OFFSETS} SET snapshot = %s, committed_ms = %s, delivered_at = now()"
            " WHERE sink = %s",
            delivered.snapshot,
            delivered.committed_ms,
            self.sink.title,
        )
        self.connection.commit()

    def _make_table(self) -> None:
        columns = ", ".join(f"{quoted(name)} {found}" for name, found in self.sql.columns.items())
        key = ", ".join(map(quoted, self.sql.key))
        self._run(f"CREATE TABLE IF NOT EXISTS {self.sql.name} ({columns}, PRIMARY KEY ({key}))")
        for name in self.sql.others:
            self._run(f"ALTER TABLE {self.sql.name} ADD COLUMN IF NOT EXISTS {quoted(name)} {self.sql.columns[name]}")

    def _fill(self, portions: Iterable[pl.DataFrame]) -> int:
        """Fill the batch; the number of its rows."""
        columns = ", ".join(f"{quoted(name)} {found}" for name, found in self.sql.columns.items())
        self._run(f"CREATE TEMPORARY TABLE {BATCH} ({columns}, {GONE} boolean) ON COMMIT DROP")
        return sum(self._copy(rows) for rows in portions)

    def _copy(self, rows: pl.DataFrame) -> int:
        """Add rows to the batch, a chunk of them as text at a time; their number."""
        names = ", ".join(map(quoted, (*self.sql.columns, GONE)))
        texts = as_texts(rows.select(*self.sql.columns, GONE), self.table)
        check_texts(texts, self.to.place)
        binary = [name for name, dtype in rows.schema.items() if dtype == pl.Binary()]
        written = texts.with_columns(pl.concat_str(pl.lit("\\x"), pl.col(name)).alias(name) for name in binary)
        with (
            self.connection.cursor() as cursor,
            cursor.copy(f"COPY {BATCH} ({names}) FROM STDIN (FORMAT csv)") as copy,
        ):
            for chunk in written.iter_slices(CHUNK_ROWS):
                copy.write(chunk.write_csv(include_header=False, quote_style="non_numeric"))
        return rows.height

    def _upsert(self) -> None:
        names = ", ".join(map(quoted, self.sql.columns))
        key = ", ".join(map(quoted, self.sql.key))
        values = ", ".join(f"{quoted(name)} = EXCLUDED.{quoted(name)}" for name in self.sql.others)
        action = f"DO UPDATE SET {values}" if values else "DO NOTHING"
        self._run(
            f"INSERT INTO {self.sql.name} ({names}) SELECT {names} FROM {BATCH} WHERE NOT {GONE}"
            f" ON CONFLICT ({key}) {action}"
        )

    def _run(self, statement: str, *values: object) -> Any:
        return self.connection.execute(statement, values or None)

"""MariaDB and MySQL as a sink: batches go as JSON documents into a temporary table and are merged, in one transaction.

Needs MariaDB 10.6 or MySQL 8.0 (``JSON_TABLE``).
"""

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
    check_finite,
    check_texts,
    marked,
    secret,
    sql_table,
)
from lakehouse_assets.sources.mysql.connection import MySqlConnection
from storage_engine import Table
from storage_engine.spec.types import TypeRoot

TYPES: Final = {
    TypeRoot.BOOLEAN: "tinyint(1)",
    TypeRoot.TINYINT: "tinyint",
    TypeRoot.SMALLINT: "smallint",
    TypeRoot.INT: "int",
    TypeRoot.BIGINT: "bigint",
    TypeRoot.FLOAT: "float",
    TypeRoot.DOUBLE: "double",
    TypeRoot.DECIMAL: "decimal({precision},{scale})",
    TypeRoot.CHAR: "longtext",
    TypeRoot.VARCHAR: "longtext",
    TypeRoot.BINARY: "longblob",
    TypeRoot.VARBINARY: "longblob",
    TypeRoot.DATE: "date",
    TypeRoot.TIME: "time(3)",
    TypeRoot.TIMESTAMP: "datetime({precision})",
    TypeRoot.TIMESTAMP_LTZ: "datetime({precision})",
    TypeRoot.ARRAY: "json",
    TypeRoot.MAP: "json",
    TypeRoot.MULTISET: "json",
    TypeRoot.ROW: "json",
}
KEY_TYPES: Final = {
    TypeRoot.CHAR: "varchar(255)",
    TypeRoot.VARCHAR: "varchar(255)",
    TypeRoot.BINARY: "varbinary(255)",
    TypeRoot.VARBINARY: "varbinary(255)",
}
CHUNK_BYTES: Final = 2 * 1024 * 1024
"""Below the least ``max_allowed_packet`` that servers are set up with, escapes included."""
TABLE_OPTIONS: Final = "ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"


@dataclass(frozen=True, slots=True, kw_only=True)
class MySqlSink:
    """A database whose tables mirror tables of the warehouse; they are made, and get new columns, as need be.

    ``table``: the name there (default: the table's own, without its layer). Texts of the key have 255 characters at most;
    times with a time zone are kept in UTC. ``password_variable``: environment variable that holds the password.
    """

    host: str = "127.0.0.1"
    port: int = 3306
    user: str = "lakehouse"
    database: str = "lakehouse"
    table: str = ""
    password_variable: str = "LAKEHOUSE_SINK_PASSWORD"  # noqa: S105 - a variable's name

    @property
    def kind(self) -> str:
        """What it is."""
        return "mysql"

    @property
    def place(self) -> str:
        """Where it is."""
        return f"MySQL {self.host}:{self.port}/{self.database}"

    @contextmanager
    def session(self, sink: Sink, table: Table) -> Iterator[_Session]:
        """A transaction that holds the sink's offset. Raises SourceError, InvalidInput and Unsupported."""
        connection = MySqlConnection(
            host=self.host,
            port=self.port,
            user=self.user,
            password=secret(self.password_variable),
            database=self.database,
        )
        name = _quoted(self.table or table.name.partition(".")[2])
        with connection.open() as opened:
            session = _Session(opened, self, sink, table, sql_table(table, name, TYPES, KEY_TYPES))
            session.prepare()
            yield session
            opened.rollback()


@dataclass(slots=True)
class _Session:
    connection: Any
    to: MySqlSink
    sink: Sink
    table: Table
    sql: SqlTable

    def prepare(self) -> None:
        """Make what is missing: such statements commit by themselves, so they come before everything else."""
        self._run("SET SESSION sql_mode = 'TRADITIONAL'")
        self._run(
            f"CREATE TABLE IF NOT EXISTS {OFFSETS} (sink varchar(255) PRIMARY KEY, snapshot bigint, committed_ms bigint,"
            f" delivered_at datetime(3)) {TABLE_OPTIONS}"
        )
        columns = ", ".join(f"{_quoted(name)} {found}" for name, found in self.sql.columns.items())
        key = ", ".join(map(_quoted, self.sql.key))
        self._run(f"CREATE TABLE IF NOT EXISTS {self.sql.name} ({columns}, PRIMARY KEY ({key})) {TABLE_OPTIONS}")
        there = {row[0] for row in self._run(f"SHOW COLUMNS FROM {self.sql.name}")}
        for name in self.sql.others:
            if name not in there:
                self._run(f"ALTER TABLE {self.sql.name} ADD COLUMN {_quoted(name)} {self.sql.columns[name]}")
        self._run(f"CREATE TEMPORARY TABLE {BATCH} ({columns}, {GONE} tinyint(1), PRIMARY KEY ({key})) {TABLE_OPTIONS}")
        self._run(f"INSERT IGNORE INTO {OFFSETS} (sink) VALUES (%s)", self.sink.title)
        self.connection.commit()

    def delivered(self) -> Delivered | None:
        ((snapshot, committed_ms),) = self._run(
            f"SELECT snapshot, committed_ms FROM {OFFSETS} WHERE sink = %s FOR UPDATE",
            self.sink.title,
        )
        return None if snapshot is None else Delivered(snapshot=snapshot, committed_ms=committed_ms)

    def load(self, portions: Iterable[pl.DataFrame], rows: pl.LazyFrame) -> int:  # noqa: ARG002 - for files
        height = sum(self._fill(frame.with_columns(pl.lit(value=False).alias(GONE))) for frame in portions)
        key = ", ".join(map(_quoted, self.sql.key))
        self._run(f"DELETE t FROM {self.sql.name} t LEFT JOIN {BATCH} b USING ({key}) WHERE b.{GONE} IS NULL")
        self._upsert()
        return height

    def apply(self, portions: Iterable[pl.DataFrame], rows: pl.LazyFrame) -> None:  # noqa: ARG002 - for files
        for changes in portions:
            self._fill(marked(changes))
        key = ", ".join(map(_quoted, self.sql.key))
        self._run(f"DELETE t FROM {self.sql.name} t JOIN {BATCH} b USING ({key}) WHERE b.{GONE} = 1")
        self._upsert()

    def finish(self, delivered: Delivered) -> None:
        self._run(
            f"UPDATE {OFFSETS} SET snapshot = %s, committed_ms = %s, delivered_at = UTC_TIMESTAMP(3) WHERE sink = %s",
            delivered.snapshot,
            delivered.committed_ms,
            self.sink.title,
        )
        self.connection.commit()

    def _fill(self, rows: pl.DataFrame) -> int:
        """Add rows to the batch, a document of some at a time; their number."""
        texts = as_texts(rows.select(*self.sql.columns, GONE), self.table)
        check_texts(texts, self.to.place)
        check_finite(texts, self.to.place)
        texts = texts.with_columns(
            pl.col(name).cast(pl.String)
            for name, dtype in texts.schema.items()
            if isinstance(dtype, pl.Decimal | pl.Date)
        ).with_columns(
            pl.col(name).dt.strftime("%H:%M:%S%.3f") for name, dtype in texts.schema.items() if dtype == pl.Time()
        )
        texts = texts.with_columns(pl.col(pl.Boolean).cast(pl.Int8)).rename(
            {name: f"c{place}" for place, name in enumerate(texts.columns)}
        )
        binary = {place for place, name in enumerate(rows.columns) if rows.schema[name] == pl.Binary()}
        types = [*self.sql.columns.values(), "tinyint(1)"]
        read = ", ".join(
            f"c{place} {'longtext' if place in binary or found == 'json' else found} PATH '$.c{place}' ERROR ON ERROR"
            for place, found in enumerate(types)
        )
        chosen = ", ".join(f"UNHEX(c{place})" if place in binary else f"c{place}" for place in range(len(types)))
        statement = (
            f"INSERT INTO {BATCH} SELECT {chosen} FROM JSON_TABLE(CONVERT(%s USING utf8mb4), '$[*]' COLUMNS ({read})) j"
        )
        for chunk in _chunks(texts):
            self._run(statement, chunk.write_json())
        return rows.height

    def _upsert(self) -> None:
        names = ", ".join(map(_quoted, self.sql.columns))
        changed = self.sql.others or self.sql.key[:1]
        values = ", ".join(f"{self.sql.name}.{_quoted(name)} = b.{_quoted(name)}" for name in changed)
        self._run(
            f"INSERT INTO {self.sql.name} ({names}) SELECT {names} FROM {BATCH} b WHERE b.{GONE} = 0"
            f" ON DUPLICATE KEY UPDATE {values}"
        )

    def _run(self, statement: str, *values: object) -> Any:
        with self.connection.cursor() as cursor:
            cursor.execute(statement, values or None)
            return cursor.fetchall()


def _chunks(rows: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """Rows in parts whose documents fit a packet, by their average size."""
    if rows.is_empty():
        return
    size = max(1, len(rows.head(1_000).write_json()) // min(rows.height, 1_000))
    yield from rows.iter_slices(max(1, CHUNK_BYTES // (2 * size)))


def _quoted(name: str) -> str:
    return f"`{name.replace('`', '``')}`"

"""Tables of a MySQL or MariaDB database as Polars frames: exact column types, and rows of the binary log put into
frames.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import polars as pl

from lakehouse_assets.sources.change_source import OP
from lakehouse_assets.sources.errors import SourceSchemaChanged, SourceUnsupported
from lakehouse_assets.sources.mysql.values import CONVERSIONS, ColumnFacts
from lakehouse_assets.sources.typed_rows import with_moved_keys

POSITION: Final = "_change.position"
METADATA_SCHEMA: Final[dict[str, pl.DataType]] = {OP: pl.String(), POSITION: pl.Int64()}

UNSIGNED_BIGINT: Final = pl.Decimal(20, 0)
LONGEST_DECIMAL: Final = 38

COLUMNS_SQL: Final = """
SELECT t.table_name AS table_name, t.engine AS engine, c.column_name AS column_name, c.data_type AS data_type,
       c.column_type AS column_type, c.numeric_precision AS numeric_precision, c.numeric_scale AS numeric_scale,
       c.datetime_precision AS datetime_precision, c.column_key = 'PRI' AS is_key,
       COALESCE(c.generation_expression, '') <> '' AS is_generated,
       c.is_nullable = 'NO' OR NOT (
           c.column_default IS NULL OR (c.column_default = 'NULL' AND VERSION() LIKE '%%MariaDB%%')
       ) AS is_filled
FROM information_schema.columns c JOIN information_schema.tables t USING (table_schema, table_name)
WHERE table_schema = %s AND table_name IN %s ORDER BY t.table_name, c.ordinal_position
"""
"""One row for each column. MariaDB tells a default of null as the word, MySQL as null."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TableColumns:
    """A table of the source: its name, the type of each column, in order, and the primary key.

    ``filled``: columns that would have values in older rows if they were added. ``conversions``: what makes the values
    of a column, other than null, from what queries and the binary log tell; ``sets``: columns of the type SET.
    """

    name: str
    schema: Mapping[str, pl.DataType]
    key: tuple[str, ...]
    filled: frozenset[str] = frozenset()
    conversions: Mapping[str, Callable[[Any], object]] = field(default_factory=dict)
    sets: frozenset[str] = frozenset()


def _integer(signed: pl.DataType, unsigned: pl.DataType) -> Callable[[ColumnFacts], pl.DataType]:
    return lambda facts: unsigned if facts.unsigned else signed


def _fixed(dtype: pl.DataType) -> Callable[[ColumnFacts], pl.DataType]:
    return lambda _: dtype


def _decimal(facts: ColumnFacts) -> pl.DataType:
    return pl.Decimal(facts.precision, facts.scale or 0)


def _datetime(time_zone: str | None) -> Callable[[ColumnFacts], pl.DataType]:
    return lambda facts: pl.Datetime("ms" if (facts.time_precision or 0) <= 3 else "us", time_zone)


def _bit(facts: ColumnFacts) -> pl.DataType:
    return pl.Boolean() if facts.precision == 1 else pl.Binary()


POLARS_TYPES: Final[Mapping[str, Callable[[ColumnFacts], pl.DataType]]] = {
    "tinyint": _integer(pl.Int8(), pl.Int16()),
    "smallint": _integer(pl.Int16(), pl.Int32()),
    "mediumint": _integer(pl.Int32(), pl.Int32()),
    "int": _integer(pl.Int32(), pl.Int64()),
    "bigint": _integer(pl.Int64(), UNSIGNED_BIGINT),
    "decimal": _decimal,
    "float": _fixed(pl.Float32()),
    "double": _fixed(pl.Float64()),
    "year": _fixed(pl.Int16()),
    "date": _fixed(pl.Date()),
    "datetime": _datetime(None),
    "timestamp": _datetime("UTC"),
    "char": _fixed(pl.String()),
    "varchar": _fixed(pl.String()),
    "tinytext": _fixed(pl.String()),
    "text": _fixed(pl.String()),
    "mediumtext": _fixed(pl.String()),
    "longtext": _fixed(pl.String()),
    "enum": _fixed(pl.String()),
    "set": _fixed(pl.String()),
    "json": _fixed(pl.String()),
    "time": _fixed(pl.String()),
    "bit": _bit,
    "binary": _fixed(pl.Binary()),
    "varbinary": _fixed(pl.Binary()),
    "tinyblob": _fixed(pl.Binary()),
    "blob": _fixed(pl.Binary()),
    "mediumblob": _fixed(pl.Binary()),
    "longblob": _fixed(pl.Binary()),
}
"""The server's type → Polars', wide enough for every value (an unsigned type becomes the next wider signed
one)."""


def table_columns(table: str, rows: Sequence[Mapping[str, Any]]) -> TableColumns:
    """A table from its rows of ``COLUMNS_SQL``. Raises SourceUnsupported for what cannot be read exactly."""
    if not rows:
        raise SourceUnsupported(f"there is no table {table}, or its columns may not be read", table=table)
    if rows[0]["engine"] != "InnoDB":
        raise SourceUnsupported(
            f"table {table} is kept by {rows[0]['engine']}; only InnoDB can be read exactly", table=table
        )
    key = tuple(row["column_name"] for row in rows if row["is_key"])
    if not key:
        raise SourceUnsupported(
            f"table {table} has no primary key; changes of its rows cannot be told apart", table=table
        )
    return TableColumns(
        name=table,
        schema={row["column_name"]: _dtype(table, row) for row in rows},
        key=key,
        filled=frozenset(row["column_name"] for row in rows if row["is_filled"]),
        conversions={
            row["column_name"]: CONVERSIONS[row["data_type"]](_facts(row))
            for row in rows
            if row["data_type"] in CONVERSIONS
        },
        sets=frozenset(row["column_name"] for row in rows if row["data_type"] == "set"),
    )


def _dtype(table: str, row: Mapping[str, Any]) -> pl.DataType:
    name, data_type = row["column_name"], row["data_type"]
    if data_type not in POLARS_TYPES or row["is_generated"]:
        raise SourceUnsupported(f"column {name} of table {table} ({row['column_type']}) cannot be read", table=table)
    if data_type == "decimal" and (row["numeric_precision"] or 0) > LONGEST_DECIMAL:
        raise SourceUnsupported(
            f"column {name} of table {table} is DECIMAL with {row['numeric_precision']} digits; at most"
            f" {LONGEST_DECIMAL} can be kept",
            table=table,
        )
    return POLARS_TYPES[data_type](_facts(row))


def _facts(row: Mapping[str, Any]) -> ColumnFacts:
    return ColumnFacts(
        text=row["column_type"],
        unsigned="unsigned" in row["column_type"],
        precision=row["numeric_precision"],
        scale=row["numeric_scale"],
        time_precision=row["datetime_precision"],
    )


def frame_of_columns(columns: TableColumns, values: Mapping[str, Sequence[object]]) -> pl.DataFrame:
    """A frame of the table's columns from Python values. Raises SourceSchemaChanged where one does not fit."""
    return pl.DataFrame([_series(columns, name, values[name], dtype) for name, dtype in columns.schema.items()])


def _series(columns: TableColumns, name: str, values: Sequence[Any], dtype: pl.DataType) -> pl.Series:
    convert = columns.conversions.get(name)
    try:
        if convert is not None:
            values = [None if value is None else convert(value) for value in values]
        if dtype == UNSIGNED_BIGINT and any(isinstance(value, int) for value in values):
            return pl.Series(name, values, dtype=pl.Int128()).cast(dtype)
        if dtype == pl.Binary():
            values = [b"" if value == "" else value for value in values]
        return pl.Series(name, values, dtype=dtype, strict=True)
    except (AttributeError, TypeError, ValueError, OverflowError, pl.exceptions.PolarsError) as error:
        reason = str(error).partition("\n")[0]
        raise SourceSchemaChanged(
            f"a value of column {columns.name}.{name} is no {dtype}: {reason}", table=columns.name
        ) from error


@dataclass(slots=True)
class RowImages:
    """Changes of one table in source order; an image is the row as name → value.

    An insert has its row, and a delete its last row, in both ``befores`` and ``afters``. A column that the table did
    not have yet is missing in them.
    """

    ops: list[str] = field(default_factory=list)
    befores: list[Mapping[str, object]] = field(default_factory=list)
    afters: list[Mapping[str, object]] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)

    def extend(self, later: RowImages) -> None:
        """Add changes that came later."""
        self.ops += later.ops
        self.befores += later.befores
        self.afters += later.afters
        self.positions += later.positions


def changes_frame(columns: TableColumns, images: RowImages) -> pl.DataFrame:
    """The changes as a frame ``op``, the table's columns, ``position``, in source order.

    ``op`` is ``c``, ``u`` or ``d``; a deleted row has its last values. An update that changes the primary
    key is a delete of the old key and an insert of the new one.
    """
    before, after = _images_frame(columns, images, "befores"), _images_frame(columns, images, "afters")
    return with_moved_keys(before, after, columns.key)


def _images_frame(columns: TableColumns, images: RowImages, side: str) -> pl.DataFrame:
    rows = images.befores if side == "befores" else images.afters
    values = {name: [row.get(name) for row in rows] for name in columns.schema}
    return with_metadata(frame_of_columns(columns, values), ops=images.ops, positions=images.positions)


def with_metadata(frame: pl.DataFrame, *, ops: Sequence[str], positions: Sequence[int]) -> pl.DataFrame:
    """The frame between its columns ``OP`` and ``POSITION``."""
    return frame.select(
        pl.Series(OP, ops, dtype=METADATA_SCHEMA[OP]),
        pl.all(),
        pl.Series(POSITION, positions, dtype=METADATA_SCHEMA[POSITION]),
    )

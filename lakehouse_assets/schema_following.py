"""A table of a source got other columns: what its mirror does about it.

| at the source | here |
|---|---|
| a column was added | added as well, nullable, at the end; with a default at the source, the table is read anew |
| a column got a wider type | the type is widened, unless the column is part of the key |
| a column was dropped or renamed, or got a type that does not hold all old values | refused: a person decides |
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import polars as pl
import pyarrow as pa

from lakehouse_assets.sources.change_source import BOOKKEEPING, EVENT_TIME
from lakehouse_assets.sources.errors import SourceColumnsDiffer, SourceSchemaChanged
from storage_engine import Table
from storage_engine.errors import InvalidSchema
from storage_engine.spec.arrow_types import type_from_arrow
from storage_engine.spec.schema_change import AddColumn, SchemaChange, UpdateColumnType
from storage_engine.spec.type_casts import is_lossless_cast
from storage_engine.spec.types import DataType

RESERVED: Final = (*BOOKKEEPING, EVENT_TIME)


def follow(table: Table, expected: Mapping[str, pl.DataType], differ: SourceColumnsDiffer) -> None:
    """Alter a table so that it has the source's columns. Raises SourceSchemaChanged where that needs a decision."""
    gone = [name for name in expected if name not in differ.found]
    if gone:
        lacks = f"{_place(differ)} {'no longer has' if differ.file is None else 'lacks'} {', '.join(gone)}"
        again = "" if differ.file is None else "Left out by mistake: land the file again with it, be it null. "
        raise SourceSchemaChanged(
            f"{lacks}, which {table.name} has{_newcomers(expected, differ.found)}. Nothing of it was read. {again}Dropped at the"
            f" source: run ALTER TABLE {table.name} DROP COLUMN …; renamed: ALTER TABLE … RENAME COLUMN … TO …; then the"
            " stream goes on by itself",
            table=differ.table,
        ) from differ
    try:
        changes = [
            _change(table, name, dtype, expected, differ)
            for name, dtype in differ.found.items()
            if expected.get(name) != dtype
        ]
        table.alter(*changes)
    except InvalidSchema as error:
        raise SourceSchemaChanged(
            f"{_place(differ)} changed, but {table.name} cannot: {error}", table=differ.table
        ) from error


def _place(differ: SourceColumnsDiffer) -> str:
    return f"table {differ.table} of the source" if differ.file is None else f"file {differ.file}"


def _newcomers(expected: Mapping[str, pl.DataType], found: Mapping[str, pl.DataType]) -> str:
    names = [name for name in found if name not in expected]
    return f", and has {', '.join(names)} anew" if names else ""


def _change(
    table: Table, name: str, dtype: pl.DataType, expected: Mapping[str, pl.DataType], differ: SourceColumnsDiffer
) -> SchemaChange:
    wanted = engine_type(name, dtype)
    current = table.schema.by_name.get(name)
    if current is None:
        return AddColumn(path=(name,), type=wanted)
    if name in RESERVED and name not in expected:
        raise SourceSchemaChanged(
            f"column {name} of {_place(differ)} is {dtype}, and {table.name} keeps {current.type.sql}"
            " of its own under this name: rename it at the source, or declare that it comes from there"
            f" (Ingestion(added=…), or the option 'lakehouse.added' in SQL, without {name})",
            table=differ.table,
        ) from differ
    if not is_lossless_cast(current.type, wanted):
        raise SourceSchemaChanged(
            f"column {name} of {_place(differ)} is {wanted.sql}, of {table.name} {current.type.sql}, and"
            " not every old value fits the new type. Nothing was read. Make a table of the new type, or change the"
            " type back at the source; then the stream goes on by itself",
            table=differ.table,
        ) from differ
    return UpdateColumnType(path=(name,), type=wanted, keep_nullability=True)


def engine_type(name: str, dtype: pl.DataType) -> DataType:
    """The engine's type of a Polars dtype. Raises InvalidSchema."""
    try:
        arrow_type = pl.Series(name, [], dtype=dtype).to_arrow().type
    except pa.ArrowInvalid:  # Polars' own, such as Int128
        raise InvalidSchema(f"column {name!r}: {dtype} has no counterpart in Paimon; cast it") from None
    return type_from_arrow(arrow_type, column=name)

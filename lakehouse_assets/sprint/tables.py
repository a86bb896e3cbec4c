"""The project's tables as their DDL files define them, and the streams that fill them."""

from __future__ import annotations

from importlib import resources
from typing import Final

from lakehouse_assets.sprint.app import MEMBER_GROWTH, SPRINT_PERFORMANCE
from lakehouse_assets.sprint.dwd import MEMBER_MONTH, MEMBER_ORDER
from lakehouse_assets.stream.declaration import Stream
from storage_engine import Catalog
from storage_engine.kernel.table_definition import normalized_options
from storage_engine.spec.schema import TableSchema, create_schema
from storage_engine.sql.parser import parse_statements
from storage_engine.sql.statements import CreateTable

LAYERS: Final = ("ods", "dim", "dwd", "app")

STREAMS: Final[tuple[Stream, ...]] = (MEMBER_ORDER, SPRINT_PERFORMANCE, MEMBER_MONTH, MEMBER_GROWTH)
"""All streams between tables, each after those that it reads from."""


def ddl(layer: str) -> str:
    """The statements that make a layer's database and tables."""
    return (resources.files(__package__) / "ddl" / f"{layer}.sql").read_text(encoding="utf-8")


def _schema_of(statement: CreateTable) -> TableSchema:
    return create_schema(
        statement.columns,
        primary_keys=statement.primary_keys,
        partition_keys=statement.partition_keys,
        options=normalized_options(statement.options),
        comment=statement.comment,
        time_millis=0,
    )


TABLES: Final[dict[str, TableSchema]] = {
    statement.name: _schema_of(statement)
    for layer in LAYERS
    for statement in parse_statements(ddl(layer))
    if isinstance(statement, CreateTable)
}
"""``layer.table`` → its definition, in the order of the layers."""


def create_tables(catalog: Catalog) -> None:
    """Create the databases and tables that are missing."""
    databases = catalog.list_databases()
    known = {f"{layer}.{table}" for layer in LAYERS if layer in databases for table in catalog.list_tables(layer)}
    for layer in sorted({name.partition(".")[0] for name in TABLES.keys() - known}):
        catalog.execute(ddl(layer))

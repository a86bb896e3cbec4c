"""Tables as SQL scripts define them, without a warehouse."""

from __future__ import annotations

from importlib import resources
from typing import Final

from storage_engine.kernel.table_definition import normalized_options
from storage_engine.spec.schema import TableSchema, create_schema
from storage_engine.sql.parser import parse_statements
from storage_engine.sql.statements import CreateTable

QUARANTINE_DDL: Final = (resources.files(__package__) / "quarantine.sql").read_text(encoding="utf-8")
"""The statements that make the table of refused lines, which whoever ingests needs."""


def defined_tables(ddl: str) -> dict[str, TableSchema]:
    """The tables that a script creates, by name, in its order. Raises SqlError, InvalidSchema and InvalidOption."""
    return {
        statement.name: create_schema(
            statement.columns,
            primary_keys=statement.primary_keys,
            partition_keys=statement.partition_keys,
            options=normalized_options(statement.options),
            comment=statement.comment,
            time_millis=0,
        )
        for statement in parse_statements(ddl)
        if isinstance(statement, CreateTable)
    }

"""Tables as SQL scripts define them, without a warehouse."""

from __future__ import annotations

from storage_engine.kernel.table_definition import normalized_options
from storage_engine.spec.schema import TableSchema, create_schema
from storage_engine.sql.parser import parse_statements
from storage_engine.sql.statements import CreateTable


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

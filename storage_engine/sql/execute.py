"""Runs statements on a warehouse: one function a kind of statement."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Mapping
from typing import Any

import polars as pl

from storage_engine.errors import AlreadyExists, SqlError, TableNotFound
from storage_engine.kernel.table_definition import normalized_options
from storage_engine.spec.schema_change import SchemaChange, SetOption
from storage_engine.sql.merge import merge_into
from storage_engine.sql.modify import delete, drop_partitions, insert, outcome, truncate, update
from storage_engine.sql.procedures import call
from storage_engine.sql.query import collected, explained, query_frame
from storage_engine.sql.show import create_table_text, description_frame
from storage_engine.sql.statements import (
    AlterTable,
    AnalyzeTable,
    Call,
    CreateDatabase,
    CreateTable,
    CreateTableAs,
    CreateTableLike,
    CreateView,
    Delete,
    DescribeTable,
    DropDatabase,
    DropPartitions,
    DropTable,
    DropView,
    Explain,
    Insert,
    MergeInto,
    Query,
    RenameTable,
    ShowCreateTable,
    ShowDatabases,
    ShowPartitions,
    ShowTables,
    Statement,
    TruncateTable,
    Update,
    UseDatabase,
)
from storage_engine.system_tables import partition_paths
from storage_engine.warehouse import View, Warehouse


def execute_statement(warehouse: Warehouse, statement: Statement) -> pl.DataFrame | None:
    """Run one statement; gives its result, None if it has none. Raises what the operation raises."""
    return _RUN[type(statement)](warehouse, statement)


def _create_database(warehouse: Warehouse, statement: CreateDatabase) -> None:
    warehouse.create_database(statement.name, ignore_if_exists=statement.if_not_exists)


def _drop_database(warehouse: Warehouse, statement: DropDatabase) -> None:
    warehouse.drop_database(statement.name, cascade=statement.cascade, ignore_if_missing=statement.if_exists)


def _use_database(warehouse: Warehouse, statement: UseDatabase) -> None:
    warehouse.use_database(statement.name)


def _create_table(warehouse: Warehouse, statement: CreateTable) -> None:
    warehouse.create_table(
        statement.name,
        statement.columns,
        primary_key=statement.primary_keys,
        partitioned_by=statement.partition_keys,
        options=statement.options,
        comment=statement.comment,
        ignore_if_exists=statement.if_not_exists,
    )


def _create_table_like(warehouse: Warehouse, statement: CreateTableLike) -> None:
    source = warehouse.table(statement.source).schema
    warehouse.create_table(
        statement.name,
        source.fields,
        primary_key=source.primary_keys,
        partitioned_by=source.partition_keys,
        options={**source.options, **statement.options},
        comment=source.comment,
        ignore_if_exists=statement.if_not_exists,
    )


def _create_table_as(warehouse: Warehouse, statement: CreateTableAs) -> pl.DataFrame | None:
    """Keys come from the options, as in Flink; a table that is there already gets no rows."""
    table = statement.table
    if table.if_not_exists and warehouse.has_table(table.name):
        return None
    rows = collected(warehouse, statement.query)
    options = dict(table.options)
    keys, partitions = (_names(options.pop(key, "")) for key in ("primary-key", "partition"))
    created = warehouse.create_table(
        table.name,
        rows.to_arrow(compat_level=pl.CompatLevel.oldest()).schema,
        primary_key=keys or table.primary_keys,
        partitioned_by=partitions or table.partition_keys,
        options=options,
        comment=table.comment,
    )
    snapshot = created.write(rows)
    return outcome(snapshot, rows.height)


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _drop_table(warehouse: Warehouse, statement: DropTable) -> None:
    warehouse.drop_table(statement.name, ignore_if_missing=statement.if_exists)


def _alter_table(warehouse: Warehouse, statement: AlterTable) -> None:
    try:
        table = warehouse.table(statement.name)
    except TableNotFound:
        if statement.if_exists:
            return
        raise
    table.alter(*(_normalized(change) for change in statement.changes))


def _normalized(change: SchemaChange) -> SchemaChange:
    if not isinstance(change, SetOption):
        return change
    return SetOption(key=change.key, value=normalized_options({change.key: change.value}).get(change.key, change.value))


def _rename_table(warehouse: Warehouse, statement: RenameTable) -> None:
    if statement.if_exists and not warehouse.has_table(statement.name):
        return
    warehouse.rename_table(statement.name, statement.new_name)


def _show_databases(warehouse: Warehouse, _: ShowDatabases) -> pl.DataFrame:
    return pl.DataFrame({"database name": warehouse.list_databases()}, schema={"database name": pl.String()})


def _show_tables(warehouse: Warehouse, statement: ShowTables) -> pl.DataFrame:
    database = statement.database or warehouse.current_database
    views = [name.partition(".")[2] for name in warehouse.views if name.startswith(f"{database}.")]
    names = sorted([*warehouse.list_tables(database), *views])
    if statement.like is not None:
        pattern = statement.like.replace("%", "*").replace("_", "?")
        names = [name for name in names if fnmatch.fnmatchcase(name, pattern)]
    return pl.DataFrame({"table name": names}, schema={"table name": pl.String()})


def _show_create_table(warehouse: Warehouse, statement: ShowCreateTable) -> pl.DataFrame:
    table = warehouse.table(statement.name)
    return pl.DataFrame({"result": [create_table_text(table.name, table.schema)]})


def _show_partitions(warehouse: Warehouse, statement: ShowPartitions) -> pl.DataFrame:
    table = warehouse.table(statement.name)
    keys = table.schema.partition_keys
    unknown = [name for name in statement.partition if name not in keys]
    if unknown or not keys:
        raise SqlError(
            f"table {table.name} is partitioned by {list(keys) or 'nothing'}, not by {unknown or 'anything'}"
        )
    wanted = {f"{name}={value}" for name, value in statement.partition.items()}
    paths = partition_paths(table.store, table.schema, table.latest_snapshot())
    shown = [path for path in paths if wanted <= set(path.split("/"))]
    return pl.DataFrame({"partition name": shown}, schema={"partition name": pl.String()})


def _describe_table(warehouse: Warehouse, statement: DescribeTable) -> pl.DataFrame:
    return description_frame(warehouse.table(statement.name).schema)


def _create_view(warehouse: Warehouse, statement: CreateView) -> None:
    identifier = warehouse.table_identifier(statement.name)
    if identifier.full_name in warehouse.views or warehouse.has_table(identifier.full_name):
        if statement.if_not_exists:
            return
        raise AlreadyExists(f"a table or view {identifier.full_name} exists: choose another name")
    names = query_frame(warehouse, statement.query).collect_schema().names()
    if statement.columns and len(statement.columns) != len(names):
        raise SqlError(
            f"view {identifier.full_name}: the query gives {len(names)} columns, named are {len(statement.columns)}"
        )
    warehouse.views[identifier.full_name] = View(
        text=statement.query.text,
        line=statement.query.line,
        column=statement.query.column,
        database=warehouse.current_database,
        columns=statement.columns or tuple(names),
    )


def _drop_view(warehouse: Warehouse, statement: DropView) -> None:
    identifier = warehouse.table_identifier(statement.name)
    if warehouse.views.pop(identifier.full_name, None) is None and not statement.if_exists:
        raise TableNotFound(
            f"there is no view {identifier.full_name}; views: {', '.join(sorted(warehouse.views)) or 'none'}"
        )


def _analyze(warehouse: Warehouse, statement: AnalyzeTable) -> None:
    warehouse.table(statement.name).analyze(statement.columns)


def _explain(warehouse: Warehouse, statement: Explain) -> pl.DataFrame:
    return pl.DataFrame({"result": explained(warehouse, statement.query)})


_RUN: Mapping[type[Statement], Callable[[Warehouse, Any], pl.DataFrame | None]] = {
    CreateDatabase: _create_database,
    DropDatabase: _drop_database,
    UseDatabase: _use_database,
    CreateTable: _create_table,
    DropTable: _drop_table,
    AlterTable: _alter_table,
    RenameTable: _rename_table,
    ShowDatabases: _show_databases,
    ShowTables: _show_tables,
    ShowCreateTable: _show_create_table,
    ShowPartitions: _show_partitions,
    DescribeTable: _describe_table,
    Call: call,
    CreateView: _create_view,
    DropView: _drop_view,
    DropPartitions: drop_partitions,
    Insert: insert,
    Delete: delete,
    Update: update,
    MergeInto: merge_into,
    TruncateTable: truncate,
    AnalyzeTable: _analyze,
    CreateTableLike: _create_table_like,
    CreateTableAs: _create_table_as,
    Explain: _explain,
    Query: collected,
}

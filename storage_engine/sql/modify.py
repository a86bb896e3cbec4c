"""Runs what changes rows: INSERT, DELETE, UPDATE, TRUNCATE and dropping of partitions."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import polars as pl

from storage_engine.errors import SqlError
from storage_engine.options import flag_of
from storage_engine.read.merge_read import FILE_PATH_COLUMN, ROW_INDEX_COLUMN
from storage_engine.rewrite.key_changes import check_deletable, check_updatable, deleted_rows, updated_rows
from storage_engine.spec.identifier import Identifier
from storage_engine.spec.snapshot import Snapshot
from storage_engine.sql.lexer import Source, tokenize
from storage_engine.sql.query import collected, query_frame, sql_errors
from storage_engine.sql.show import quoted
from storage_engine.sql.statements import (
    Delete,
    DropPartitions,
    Expression,
    Insert,
    Literal,
    Query,
    TruncateTable,
    Update,
)
from storage_engine.system_tables import partition_rows
from storage_engine.table import Table
from storage_engine.warehouse import Warehouse

_DYNAMIC = "dynamic-partition-overwrite"
_ROWS = "__rows"


def insert(warehouse: Warehouse, statement: Insert) -> pl.DataFrame:
    """Write the rows of a query; columns go by position, as in SQL. Gives one row: ``snapshot_id``, ``rows``."""
    table = warehouse.table(statement.name)
    fixed = partition_values(table, statement.partition)
    frame = _renamed(table, statement, collected(warehouse, statement.query), fixed)
    frame = frame.with_columns(
        pl.lit(value, table.schema.polars_schema[name]).alias(name) for name, value in fixed.items()
    )
    usual = table.schema.table_options.dynamic_partition_overwrite
    dynamic = flag_of(_write_options(statement), _DYNAMIC, default=usual)
    if not statement.overwrite:
        return outcome(table.write(frame), frame.height)
    return outcome(table.overwrite(frame, partitions=_overwritten(table, frame, fixed, dynamic=dynamic)), frame.height)


def _overwritten(
    table: Table, frame: pl.DataFrame, fixed: Mapping[str, object], *, dynamic: bool
) -> list[dict[str, object]] | None:
    """The partitions that INSERT OVERWRITE replaces; None for those in the frame.

    Spec: "Overwriting" of Apache Paimon: with ``dynamic-partition-overwrite`` those that get rows, else all that the PARTITION
    clause names. One that it names in full is replaced even if it gets none.
    """
    keys = table.schema.partition_keys
    if not keys or (dynamic and set(fixed) != set(keys)):
        return None
    present = frame.select(keys).cast({key: table.schema.polars_schema[key] for key in keys}).unique().to_dicts()
    named = [dict(fixed)] if set(fixed) == set(keys) else []
    return [*_specs(table, fixed), *present, *named]


def _specs(table: Table, fixed: Mapping[str, object]) -> list[dict[str, object]]:
    """The partitions of today, in full, that have some values."""
    keys = table.schema.partition_keys
    found = [
        dict(zip(keys, values, strict=True))
        for values in partition_rows(table.store, table.schema, table.latest_snapshot())
    ]
    return [spec for spec in found if all(spec[name] == value for name, value in fixed.items())]


def _write_options(statement: Insert) -> Mapping[str, str]:
    unknown = [key for key in statement.options if key != _DYNAMIC]
    if unknown:
        raise SqlError(
            f"option {unknown[0]!r} cannot be given to an INSERT; known: {_DYNAMIC}; set others by ALTER TABLE"
        )
    return statement.options


def _renamed(table: Table, statement: Insert, frame: pl.DataFrame, fixed: Mapping[str, object]) -> pl.DataFrame:
    names = list(statement.columns) or [name for name in table.schema.column_names if name not in fixed]
    unknown = [name for name in names if name not in table.schema.by_name]
    if unknown:
        raise SqlError(
            f"table {table.name} has no column {unknown[0]!r}; columns: {', '.join(table.schema.column_names)}"
        )
    twice = [name for name in names if names.count(name) > 1 or name in fixed]
    if twice:
        raise SqlError(f"INSERT INTO {table.name}: column {twice[0]!r} is given twice")
    if len(names) != frame.width:
        raise SqlError(
            f"INSERT INTO {table.name}: the query gives {frame.width} columns, expected {len(names)}: {', '.join(names)}"
        )
    return frame.rename(dict(zip(frame.columns, names, strict=True)))


def delete(warehouse: Warehouse, statement: Delete) -> pl.DataFrame:
    """Delete the rows that a condition selects. Gives one row: ``snapshot_id`` (null if there were none), ``rows``."""
    table = warehouse.table(statement.name)
    where = Expression(text=statement.condition, line=statement.line, column=statement.column)
    if _has_query(where):
        check_deletable(table.schema, table=table.name)

        def deleted(snapshot: int | None) -> pl.DataFrame:
            chosen = _selected(warehouse, table, statement.alias, where, {}, snapshot)
            return deleted_rows(chosen, pl.lit(value=True))

        snapshot, rows = written(table, deleted)
        return outcome(snapshot, rows.height)
    condition = _expression(where, table, statement.alias)
    with sql_errors(where):
        count = table.scan(fallback=False).filter(condition).select(pl.len()).collect().item()
    return outcome(table.delete(condition) if count else None, count)


def update(warehouse: Warehouse, statement: Update) -> pl.DataFrame:
    """Set columns of the rows that a condition selects. Gives one row: ``snapshot_id`` (null if there were none), ``rows``."""
    table = warehouse.table(statement.name)
    where = statement.condition or Expression(text="TRUE")
    values = {each.column: each.value for each in statement.assignments}
    if any(map(_has_query, (where, *values.values()))):
        schema = table.schema
        check_updatable(schema, {name: pl.col(name) for name in values}, table=table.name)
        assigned = {name: pl.col(_new(name)) for name in values}

        def updated(snapshot: int | None) -> pl.DataFrame:
            chosen = _selected(warehouse, table, statement.alias, where, values, snapshot)
            found = updated_rows(chosen, pl.lit(value=True), assigned, schema, table=table.name)
            return found.drop(column.meta.output_name() for column in assigned.values())

        snapshot, rows = written(table, updated)
        return outcome(snapshot, rows.height)
    condition = _expression(where, table, statement.alias)
    assignments = {name: _expression(value, table, statement.alias) for name, value in values.items()}
    with sql_errors(where):
        count = table.scan(fallback=False).filter(condition).select(pl.len()).collect().item()
        return outcome(table.update(condition, assignments) if count else None, count)


def _has_query(expression: Expression) -> bool:
    return any(token.is_word("SELECT") for token in tokenize(Source(expression.text)))


def written(table: Table, changed: Callable[[int | None], pl.DataFrame]) -> tuple[Snapshot | None, pl.DataFrame]:
    """Write the changes that a query makes of a snapshot (None: the newest): the commit, and what it changed."""
    if table.schema.primary_keys:
        rows = changed(None)
        return (table.write(rows) if rows.height else None), rows
    answers: list[pl.DataFrame] = []

    def answered(snapshot: int | None) -> pl.DataFrame:
        answers.append(changed(snapshot))
        return answers[-1]

    return table.replace_rows(answered), answers[-1]


def _selected(
    warehouse: Warehouse,
    table: Table,
    alias: str | None,
    where: Expression,
    values: Mapping[str, Expression],
    snapshot: int | None,
) -> pl.LazyFrame:
    """The rows that a condition selects, with values for some columns beside them, and their places if they have no key."""
    named = quoted(alias or Identifier.parse(table.name).table)
    beside = "".join(f", ({value.text}) AS {quoted(_new(name))}" for name, value in values.items())
    text = f"SELECT {named}.*{beside} FROM {_ROWS} AS {named} WHERE ({where.text})"  # noqa: S608 - the statement is the user's own
    query = Query(text=text, line=where.line, column=where.column)
    places = () if table.schema.primary_keys else (FILE_PATH_COLUMN, ROW_INDEX_COLUMN)
    rows = table.scan(snapshot=snapshot, fallback=False, metadata_columns=places)
    with sql_errors(query):
        return query_frame(warehouse, query, {_ROWS: rows}).collect().lazy()


def _new(name: str) -> str:
    return f"__new_{name}"


def _expression(expression: Expression, table: Table, alias: str | None) -> pl.Expr:
    """An expression over the table's columns, which may stand behind the table's name or alias."""
    names = {alias} if alias else {table.name, Identifier.parse(table.name).table}
    tokens, pieces, at = tokenize(Source(expression.text)), [], 0
    for number, token in enumerate(tokens[:-1]):
        if token.value in names and tokens[number + 1].is_symbol(".") and not tokens[number - 1].is_symbol("."):
            pieces.append(expression.text[at : token.start])
            at = tokens[number + 1].end
    with sql_errors(expression):
        return pl.sql_expr("".join([*pieces, expression.text[at:]]))


def truncate(warehouse: Warehouse, statement: TruncateTable) -> None:
    """Remove all rows; the snapshots before keep theirs."""
    table = warehouse.table(statement.name)
    table.truncate()


def drop_partitions(warehouse: Warehouse, statement: DropPartitions) -> None:
    """Empty partitions; one that is given in part stands for all that have these values."""
    table = warehouse.table(statement.name)
    table.drop_partitions([partition_values(table, spec) for spec in statement.partitions])


def partition_values(table: Table, spec: Mapping[str, Literal]) -> dict[str, object]:
    """Values of partition columns in the columns' own types. Raises SqlError for another column or a value that does not fit."""
    keys = table.schema.partition_keys
    unknown = [name for name in spec if name not in keys]
    if unknown:
        raise SqlError(f"table {table.name} is partitioned by {', '.join(keys) or 'nothing'}, not by {unknown[0]!r}")
    return {name: _converted(table, name, value) for name, value in spec.items()}


def _converted(table: Table, name: str, value: Literal) -> object:
    dtype = table.schema.polars_schema[name]
    try:
        return pl.Series([value]).cast(dtype).item()
    except pl.exceptions.PolarsError as cause:
        raise SqlError(f"partition column {name!r}: {value!r} is no {table.schema.by_name[name].type.sql}") from cause


def outcome(snapshot: Snapshot | None, rows: int) -> pl.DataFrame:
    """What a statement that writes gives: one row, ``snapshot_id`` (null if nothing was written) and ``rows``."""
    snapshot_id = None if snapshot is None else snapshot.id
    return pl.DataFrame(
        {"snapshot_id": [snapshot_id], "rows": [rows]}, schema={"snapshot_id": pl.Int64(), "rows": pl.Int64()}
    )

"""``ALTER TABLE``: options, columns, partitions and the name."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from storage_engine.spec.schema_change import (
    AddColumn,
    DropColumn,
    MoveColumn,
    RemoveOption,
    RenameColumn,
    SchemaChange,
    SetOption,
    UpdateColumnComment,
    UpdateColumnDefault,
    UpdateColumnNullability,
    UpdateColumnType,
    UpdateComment,
)
from storage_engine.sql.columns import ColumnDefinition, parse_altered_column, parse_column_type, parse_position
from storage_engine.sql.cursor import Cursor
from storage_engine.sql.statements import AlterTable, DropPartitions, RenameTable, Statement


def parse_alter_table(cursor: Cursor) -> Statement:
    """What follows ``ALTER TABLE``."""
    if_exists = cursor.if_exists()
    name = cursor.table_name()
    if cursor.accept("RENAME", "TO"):
        return RenameTable(name=name, new_name=cursor.table_name(), if_exists=if_exists)
    if cursor.peek().is_word("DROP") and cursor.peek(1).is_word("PARTITION"):
        return _drop_partitions(cursor, name)
    action = cursor.choice(*_ACTIONS)
    return AlterTable(name=name, changes=tuple(_ACTIONS[action](cursor)), if_exists=if_exists)


def _drop_partitions(cursor: Cursor, name: str) -> Statement:
    cursor.expect("DROP")
    partitions = []
    while True:
        cursor.expect("PARTITION")
        partitions.append(cursor.partition())
        if not cursor.accept_symbol(","):
            return DropPartitions(name=name, partitions=tuple(partitions))


def _set(cursor: Cursor) -> list[SchemaChange]:
    cursor.accept("TBLPROPERTIES")
    return [
        UpdateComment(comment=value) if key == _COMMENT else SetOption(key=key, value=value)
        for key, value in cursor.options().items()
    ]


def _reset(cursor: Cursor) -> list[SchemaChange]:
    cursor.accept("TBLPROPERTIES")
    keys = cursor.parenthesized(lambda: cursor.string("an option's key"))
    return [UpdateComment(comment=None) if key == _COMMENT else RemoveOption(key=key) for key in keys]


def _add(cursor: Cursor) -> list[SchemaChange]:
    return [
        AddColumn(path=column.path, type=column.type, comment=column.comment, position=column.position)
        for column in _columns(cursor)
    ]


def _modify(cursor: Cursor) -> list[SchemaChange]:
    changes: list[SchemaChange] = []
    for column in _columns(cursor):
        changes.append(UpdateColumnType(path=column.path, type=column.type))
        if column.comment is not None:
            changes.append(UpdateColumnComment(path=column.path, comment=column.comment))
        if column.position is not None:
            changes.append(MoveColumn(name=column.path[0], position=column.position))
    return changes


def _columns(cursor: Cursor) -> list[ColumnDefinition]:
    _ = cursor.accept("COLUMN") or cursor.accept("COLUMNS")
    if cursor.peek().is_symbol("("):
        return cursor.parenthesized(lambda: parse_altered_column(cursor))
    return [parse_altered_column(cursor)]


def _drop(cursor: Cursor) -> list[SchemaChange]:
    _ = cursor.accept("COLUMN") or cursor.accept("COLUMNS")
    if cursor.peek().is_symbol("("):
        return [DropColumn(path=path) for path in cursor.parenthesized(lambda: cursor.dotted("column"))]
    return [DropColumn(path=cursor.dotted("column"))]


def _rename(cursor: Cursor) -> list[SchemaChange]:
    cursor.accept("COLUMN")
    path = cursor.dotted("column")
    cursor.expect("TO")
    return [RenameColumn(path=path, new_name=cursor.identifier("column"))]


def _alter_column(cursor: Cursor) -> list[SchemaChange]:
    """Spark's ``ALTER COLUMN name …``: one thing about a column at a time."""
    cursor.accept("COLUMN")
    path = cursor.dotted("column")
    if cursor.accept("TYPE"):
        return [UpdateColumnType(path=path, type=parse_column_type(cursor), keep_nullability=True)]
    if cursor.accept("COMMENT"):
        return [UpdateColumnComment(path=path, comment=cursor.string("the comment"))]
    for words, nullable in (("SET", False), ("DROP", True)):
        if cursor.accept(words, "NOT", "NULL"):
            return [UpdateColumnNullability(path=path, nullable=nullable)]
    if cursor.accept("SET", "DEFAULT"):
        value = cursor.literal()
        return [UpdateColumnDefault(path=path, default_value=None if value is None else str(value))]
    if cursor.accept("DROP", "DEFAULT"):
        return [UpdateColumnDefault(path=path, default_value=None)]
    position = parse_position(cursor)
    if position is None or len(path) > 1:
        cursor.fail("TYPE, COMMENT, SET NOT NULL, DROP NOT NULL, SET DEFAULT, DROP DEFAULT, FIRST or AFTER")
    return [MoveColumn(name=path[0], position=position)]


_COMMENT = "comment"
_ACTIONS: Mapping[str, Callable[[Cursor], list[SchemaChange]]] = {
    "SET": _set,
    "RESET": _reset,
    "ADD": _add,
    "DROP": _drop,
    "MODIFY": _modify,
    "RENAME": _rename,
    "ALTER": _alter_column,
    "UNSET": _reset,
}

"""Columns and their types in DDL: ``name TYPE [NOT NULL] [COMMENT '…']``."""

from __future__ import annotations

from dataclasses import dataclass

from storage_engine.errors import InvalidSchema
from storage_engine.spec.schema_change import Position
from storage_engine.spec.types import DataField, DataType, TypeRoot, parse_type
from storage_engine.sql.cursor import Cursor
from storage_engine.sql.lexer import Token, TokenKind

MAX_TYPE_DEPTH = 32
_COMPUTED = "computed, metadata and watermark columns belong to a query, not to a table of the lakehouse: leave it out"


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnDefinition:
    """A column as DDL gives it; ``path`` has several parts only for nested fields."""

    path: tuple[str, ...]
    type: DataType
    comment: str | None = None
    position: Position | None = None
    is_primary_key: bool = False

    def as_field(self, position: int) -> DataField:
        """The column with its position as id."""
        return DataField(id=position, name=self.path[-1], type=self.type, description=self.comment)


def parse_column(cursor: Cursor) -> ColumnDefinition:
    """A column of CREATE TABLE."""
    start = cursor.peek()
    name = cursor.identifier("column")
    _refuse_computed(cursor, start)
    data_type = parse_column_type(cursor)
    is_primary_key = cursor.accept("PRIMARY", "KEY")
    if is_primary_key:
        expect_not_enforced(cursor)
    _refuse_computed(cursor, start)
    return ColumnDefinition(path=(name,), type=data_type, comment=_comment(cursor), is_primary_key=is_primary_key)


def parse_altered_column(cursor: Cursor) -> ColumnDefinition:
    """A column of ALTER TABLE ADD or MODIFY: with a place (``FIRST``, ``AFTER name``), perhaps nested (``row.field``)."""
    start = cursor.peek()
    path = cursor.dotted("column")
    _refuse_computed(cursor, start)
    data_type = parse_column_type(cursor)
    comment = _comment(cursor)
    return ColumnDefinition(path=path, type=data_type, comment=comment, position=parse_position(cursor))


def expect_not_enforced(cursor: Cursor) -> None:
    """``NOT ENFORCED`` after a primary key."""
    if not cursor.accept("NOT", "ENFORCED"):
        cursor.fail("NOT ENFORCED after the primary key (a second row of a key is merged, not refused)")


def _comment(cursor: Cursor) -> str | None:
    return cursor.string("the comment") if cursor.accept("COMMENT") else None


def parse_position(cursor: Cursor) -> Position | None:
    """``FIRST``, ``LAST``, ``AFTER name`` or ``BEFORE name``, if one comes next."""
    if cursor.accept("FIRST"):
        return Position(where="first")
    if cursor.accept("LAST"):
        return Position(where="last")
    for where in ("after", "before"):
        if cursor.accept(where.upper()):
            return Position(where="after" if where == "after" else "before", reference=cursor.identifier("column"))
    return None


def _refuse_computed(cursor: Cursor, start: Token) -> None:
    if cursor.peek().is_word("AS", "METADATA"):
        cursor.source.fail(start, f"column {start.value!r}: {_COMPUTED}")


def parse_column_type(cursor: Cursor, depth: int = 0) -> DataType:
    """A type with its nullability, such as ``ARRAY<ROW<a INT, b DECIMAL(20, 4) NOT NULL>>``."""
    start = cursor.peek()
    if depth > MAX_TYPE_DEPTH:
        cursor.source.fail(start, f"types are nested deeper than {MAX_TYPE_DEPTH}: simplify the column")
    if start.kind is not TokenKind.WORD:
        cursor.fail("a type, such as STRING, BIGINT or DECIMAL(20, 4)")
    found = _nested(cursor, depth) or _atomic(cursor)
    while cursor.accept("ARRAY"):
        found = DataType(root=TypeRoot.ARRAY, element=found)
    if cursor.accept("NOT", "NULL"):
        return found.with_nullable(False)
    cursor.accept("NULL")
    return found


def _nested(cursor: Cursor, depth: int) -> DataType | None:
    word, opening = cursor.peek().value.upper(), cursor.peek(1)
    if word == "ROW" and opening.is_symbol("<", "<>", "("):
        return _row(cursor, depth)
    if word not in ("ARRAY", "MULTISET", "MAP") or not opening.is_symbol("<"):
        return None
    root = TypeRoot[cursor.next().value.upper()]
    cursor.expect_symbol("<")
    first = parse_column_type(cursor, depth + 1)
    if root is not TypeRoot.MAP:
        cursor.expect_symbol(">")
        return DataType(root=root, element=first)
    cursor.expect_symbol(",")
    value = parse_column_type(cursor, depth + 1)
    cursor.expect_symbol(">")
    return DataType(root=root, key=first, value=value)


def _row(cursor: Cursor, depth: int) -> DataType:
    cursor.next()
    closing = ")" if cursor.peek().is_symbol("(") else ">"
    if cursor.peek().is_symbol("<>"):
        cursor.fail("at least one field in ROW<…>")
    cursor.next()
    fields = [_row_field(cursor, 0, depth)]
    while cursor.accept_symbol(","):
        fields.append(_row_field(cursor, len(fields), depth))
    cursor.expect_symbol(closing)
    return DataType(root=TypeRoot.ROW, fields=tuple(fields))


def _row_field(cursor: Cursor, position: int, depth: int) -> DataField:
    name = cursor.identifier("field of a ROW")
    cursor.accept_symbol(":")
    data_type = parse_column_type(cursor, depth + 1)
    comment = _comment(cursor)
    if comment is None and cursor.peek().kind is TokenKind.STRING:
        comment = cursor.next().value
    return DataField(id=position, name=name, type=data_type, description=comment)


_ZONES = (
    ("WITH", "LOCAL", "TIME", "ZONE"),
    ("WITHOUT", "TIME", "ZONE"),
    ("WITH", "TIME", "ZONE"),
)


def _atomic(cursor: Cursor) -> DataType:
    start = cursor.next()
    text = start.value
    if start.is_word("DOUBLE") and cursor.accept("PRECISION"):
        text = "DOUBLE PRECISION"
    if cursor.peek().is_symbol("("):
        numbers = cursor.parenthesized(lambda: cursor.whole_number("the length, precision or scale"))
        text += "(" + ", ".join(map(str, numbers)) + ")"
    for words in _ZONES:
        if cursor.accept(*words):
            text += " " + " ".join(words)
    try:
        return parse_type(text)
    except InvalidSchema as cause:
        raise cursor.source.error(start.start, str(cause)) from cause

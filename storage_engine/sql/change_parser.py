"""Statements that change rows: INSERT, DELETE, UPDATE and MERGE INTO.

Spec: Flink's INSERT, DELETE and UPDATE; MERGE INTO as Paimon's Spark extension has it. Expressions and queries stay text.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from storage_engine.sql.cursor import Cursor
from storage_engine.sql.lexer import Source, TokenKind, split_tokens
from storage_engine.sql.statements import (
    Assignment,
    Delete,
    Insert,
    Literal,
    MatchKind,
    MergeAction,
    MergeClause,
    MergeInto,
    Query,
    Update,
)
from storage_engine.sql.table_references import TableReference, find_table_references

_SELECT = "SELECT * FROM "
_ACTIONS: Mapping[MatchKind, tuple[str, ...]] = {
    MatchKind.MATCHED: ("UPDATE", "DELETE"),
    MatchKind.NOT_MATCHED: ("INSERT",),
    MatchKind.NOT_MATCHED_BY_SOURCE: ("UPDATE", "DELETE"),
}


def parse_insert(cursor: Cursor) -> Insert:
    """What follows ``INSERT``."""
    overwrite = cursor.choice("INTO", "OVERWRITE") == "OVERWRITE"
    cursor.accept("TABLE")
    name = cursor.table_name()
    options = cursor.hint_options()
    partition: Mapping[str, Literal] = cursor.partition() if cursor.accept("PARTITION") else {}
    has_columns = cursor.peek().is_symbol("(") and not cursor.at_query()
    columns = cursor.names("column") if has_columns else ()
    return Insert(
        name=name, query=cursor.query(), columns=columns, partition=partition, overwrite=overwrite, options=options
    )


def parse_delete(cursor: Cursor) -> Delete:
    """What follows ``DELETE``."""
    cursor.expect("FROM")
    name = cursor.table_name()
    alias = _alias(cursor, "WHERE")
    cursor.expect("WHERE")
    condition = cursor.expression("a condition")
    return Delete(name=name, condition=condition.text, alias=alias, line=condition.line, column=condition.column)


def parse_update(cursor: Cursor) -> Update:
    """What follows ``UPDATE``."""
    name = cursor.table_name()
    alias = _alias(cursor, "SET")
    cursor.expect("SET")
    assignments = _assignments(cursor, "WHERE")
    condition = cursor.expression("a condition") if cursor.accept("WHERE") else None
    return Update(name=name, assignments=assignments, condition=condition, alias=alias)


def parse_merge(cursor: Cursor) -> MergeInto:
    """What follows ``MERGE``."""
    cursor.expect("INTO")
    name = cursor.table_name()
    alias = _alias(cursor, "USING") or name.rpartition(".")[2]
    cursor.expect("USING")
    source, source_alias = _source(cursor)
    cursor.expect("ON")
    condition = cursor.expression("a condition", "WHEN")
    clauses = [_clause(cursor)]
    while cursor.peek().kind is not TokenKind.END:
        clauses.append(_clause(cursor))
    return MergeInto(
        name=name,
        alias=alias,
        source=source,
        source_alias=source_alias,
        condition=condition,
        clauses=tuple(clauses),
    )


def _source(cursor: Cursor) -> tuple[Query, str]:
    """A table (with time travel and hints) or a query in parentheses, as a query; and its alias."""
    start = cursor.peek()
    line, column = cursor.source.position(start.start)
    if start.is_symbol("("):
        cursor.next()
        inner = cursor.expression("a query")
        cursor.expect_symbol(")")
        alias = _alias(cursor, "ON")
        if alias is None:
            cursor.fail("an alias of the query, as in USING (SELECT …) AS source")
        return Query(text=inner.text, line=inner.line, column=inner.column), alias
    named = cursor.expression("the name of a table", "ON")
    query = Query(text=_SELECT + named.text, line=line, column=max(column - len(_SELECT), 1))
    references = find_table_references(query)
    if len(references) != 1:
        cursor.source.fail(start, "expected one table, or a query in parentheses, after USING")
    return query, _given_alias(query, references[0])


def _given_alias(query: Query, reference: TableReference) -> str:
    """The alias that stands behind a table; without one, the table's name without its database."""
    if not reference.has_alias:
        return reference.bare_name
    (tokens,) = split_tokens(Source(query.text[reference.end :]))
    return tokens[1 if tokens[0].is_word("AS") else 0].value


def _clause(cursor: Cursor) -> MergeClause:
    start = cursor.peek()
    cursor.expect("WHEN")
    match = _match(cursor)
    condition = cursor.expression("a condition", "THEN") if cursor.accept("AND") else None
    cursor.expect("THEN")
    action = MergeAction[cursor.choice(*_ACTIONS[match])]
    line, column = cursor.source.position(start.start)
    return MergeClause(
        match=match,
        action=action,
        condition=condition,
        assignments=_ASSIGNED[action](cursor),
        line=line,
        column=column,
    )


def _match(cursor: Cursor) -> MatchKind:
    if not cursor.accept("NOT"):
        cursor.expect("MATCHED")
        return MatchKind.MATCHED
    cursor.expect("MATCHED")
    if not cursor.accept("BY"):
        return MatchKind.NOT_MATCHED
    return MatchKind.NOT_MATCHED if cursor.choice("TARGET", "SOURCE") == "TARGET" else MatchKind.NOT_MATCHED_BY_SOURCE


def _update_assignments(cursor: Cursor) -> tuple[Assignment, ...]:
    cursor.expect("SET")
    return () if cursor.accept_symbol("*") else _assignments(cursor, "WHEN")


def _insert_assignments(cursor: Cursor) -> tuple[Assignment, ...]:
    if cursor.accept_symbol("*"):
        return ()
    start = cursor.peek()
    columns = cursor.names("column")
    cursor.expect("VALUES")
    values = cursor.parenthesized(lambda: cursor.expression("a value", stop_at_comma=True))
    if len(columns) != len(values):
        cursor.source.fail(start, f"{len(columns)} columns are named, {len(values)} values given")
    return tuple(Assignment(column=column, value=value) for column, value in zip(columns, values, strict=True))


def _no_assignments(_: Cursor) -> tuple[Assignment, ...]:
    return ()


_ASSIGNED: Mapping[MergeAction, Callable[[Cursor], tuple[Assignment, ...]]] = {
    MergeAction.UPDATE: _update_assignments,
    MergeAction.INSERT: _insert_assignments,
    MergeAction.DELETE: _no_assignments,
}


def _assignments(cursor: Cursor, *until: str) -> tuple[Assignment, ...]:
    found = [_assignment(cursor, *until)]
    while cursor.accept_symbol(","):
        start = cursor.peek()
        found.append(_assignment(cursor, *until))
        if any(other.column == found[-1].column for other in found[:-1]):
            cursor.source.fail(start, f"column {found[-1].column!r} is set twice: keep one")
    return tuple(found)


def _assignment(cursor: Cursor, *until: str) -> Assignment:
    path = cursor.dotted("column")
    cursor.expect_symbol("=")
    return Assignment(column=path[-1], value=cursor.expression("a value", *until, stop_at_comma=True))


def _alias(cursor: Cursor, before: str) -> str | None:
    if cursor.accept("AS"):
        return cursor.identifier("alias")
    is_name = cursor.peek().kind in (TokenKind.WORD, TokenKind.QUOTED)
    return cursor.identifier("alias") if is_name and not cursor.peek().is_word(before) else None

"""Parser of Flink/Paimon SQL: text → statements. Pure; nothing is looked up or run.

Queries stay text (``storage_engine.sql.query`` runs them); everything else is parsed to the end here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from storage_engine.errors import SqlError
from storage_engine.sql.alter_parser import parse_alter_table
from storage_engine.sql.change_parser import parse_delete, parse_insert, parse_merge, parse_update
from storage_engine.sql.columns import ColumnDefinition, expect_not_enforced, parse_column
from storage_engine.sql.cursor import Cursor
from storage_engine.sql.lexer import Source, Token, TokenKind, split_tokens
from storage_engine.sql.statements import (
    SYSTEM_DATABASE,
    AnalyzeTable,
    Argument,
    Call,
    CreateDatabase,
    CreateTable,
    CreateTableAs,
    CreateTableLike,
    CreateView,
    DescribeTable,
    DropDatabase,
    DropTable,
    DropView,
    Explain,
    ShowCreateTable,
    ShowDatabases,
    ShowPartitions,
    ShowTables,
    Statement,
    TruncateTable,
    UseDatabase,
)


def parse_statements(text: str) -> list[Statement]:
    """All statements of a script, in order. Raises SqlError with line and column."""
    source = Source(text)
    return [_statement(Cursor(source, tokens)) for tokens in split_tokens(source)]


def parse_statement(text: str) -> Statement:
    """The one statement of a text. Raises SqlError with line and column."""
    statements = parse_statements(text)
    if len(statements) != 1:
        raise SqlError(f"expected one statement, found {len(statements)}")
    return statements[0]


def _statement(cursor: Cursor) -> Statement:
    if cursor.at_query():
        return cursor.query()
    token = cursor.peek()
    parse = _STATEMENTS.get(token.value.upper()) if token.kind is TokenKind.WORD else None
    if parse is None:
        cursor.fail(f"a statement ({', '.join(_STATEMENTS)}, SELECT)")
    cursor.next()
    statement = parse(cursor)
    cursor.expect_end()
    return statement


def _create(cursor: Cursor) -> Statement:
    temporary = cursor.accept("TEMPORARY")
    what = cursor.choice("VIEW") if temporary else cursor.choice("TABLE", "DATABASE", "VIEW")
    return _CREATE[what](cursor)


def _create_database(cursor: Cursor) -> Statement:
    if_not_exists = cursor.if_not_exists()
    name = cursor.identifier("database")
    if cursor.peek().is_word("COMMENT", "WITH"):
        cursor.fail("the end of the statement (a warehouse directory keeps no comment and no options of databases)")
    return CreateDatabase(name=name, if_not_exists=if_not_exists)


def _create_table(cursor: Cursor) -> Statement:
    if_not_exists = cursor.if_not_exists()
    name = cursor.table_name()
    if cursor.peek().is_word("LIKE", "WITH", "AS"):
        return _create_from(cursor, CreateTable(name=name, columns=(), if_not_exists=if_not_exists))
    columns, keys = _table_elements(cursor)
    comment = cursor.string("the comment") if cursor.accept("COMMENT") else None
    partition_keys = cursor.names("partition column") if cursor.accept("PARTITIONED", "BY") else ()
    if comment is None and cursor.accept("COMMENT"):
        comment = cursor.string("the comment")
    options = cursor.options() if cursor.accept("WITH") else {}
    return CreateTable(
        name=name,
        columns=tuple(column.as_field(position) for position, column in enumerate(columns)),
        primary_keys=keys,
        partition_keys=partition_keys,
        options=options,
        comment=comment,
        if_not_exists=if_not_exists,
    )


def _create_from(cursor: Cursor, table: CreateTable) -> Statement:
    """What follows a name without columns: LIKE a table, or AS a query."""
    options = cursor.options() if cursor.accept("WITH") else {}
    if cursor.accept("LIKE"):
        return CreateTableLike(
            name=table.name, source=cursor.table_name(), options=options, if_not_exists=table.if_not_exists
        )
    cursor.expect("AS")
    return CreateTableAs(table=replace(table, options=options), query=cursor.query())


def _table_elements(cursor: Cursor) -> tuple[list[ColumnDefinition], tuple[str, ...]]:
    """The columns, and the primary key that is declared with a column or by itself."""
    columns: list[ColumnDefinition] = []
    keys: list[tuple[str, ...]] = []

    def element() -> None:
        start = cursor.peek()
        if start.is_word("WATERMARK") and cursor.peek(1).is_word("FOR"):
            cursor.source.fail(start, "a watermark belongs to a query, not to a table of the lakehouse: leave it out")
        if _at_constraint(cursor):
            keys.append(_primary_key(cursor))
        else:
            columns.append(parse_column(cursor))
            if columns[-1].is_primary_key:
                keys.append(columns[-1].path)
        if len(keys) > 1:
            cursor.source.fail(start, "a second primary key: name all its columns in one PRIMARY KEY (…)")

    cursor.parenthesized(element)
    return columns, keys[0] if keys else ()


def _at_constraint(cursor: Cursor) -> bool:
    token: Token = cursor.peek()
    if token.is_word("CONSTRAINT"):
        return cursor.peek(2).is_word("PRIMARY", "UNIQUE")
    return token.is_word("PRIMARY") and cursor.peek(1).is_word("KEY")


def _primary_key(cursor: Cursor) -> tuple[str, ...]:
    if cursor.accept("CONSTRAINT"):
        cursor.identifier("constraint")
    cursor.expect("PRIMARY", "KEY")
    names = cursor.names("column")
    expect_not_enforced(cursor)
    return names


def _create_view(cursor: Cursor) -> Statement:
    if_not_exists = cursor.if_not_exists()
    name = cursor.table_name("view")
    columns = cursor.names("column") if cursor.peek().is_symbol("(") else ()
    comment = cursor.string("the comment") if cursor.accept("COMMENT") else None
    cursor.expect("AS")
    query = cursor.query()
    return CreateView(name=name, query=query, columns=columns, if_not_exists=if_not_exists, comment=comment)


def _drop(cursor: Cursor) -> Statement:
    temporary = cursor.accept("TEMPORARY")
    what = cursor.choice("VIEW") if temporary else cursor.choice("TABLE", "DATABASE", "VIEW")
    if_exists = cursor.if_exists()
    if what == "TABLE":
        return DropTable(name=cursor.table_name(), if_exists=if_exists)
    if what == "VIEW":
        return DropView(name=cursor.table_name("view"), if_exists=if_exists)
    name = cursor.identifier("database")
    cascade = cursor.accept("CASCADE")
    if not cascade:
        cursor.accept("RESTRICT")
    return DropDatabase(name=name, if_exists=if_exists, cascade=cascade)


def _use(cursor: Cursor) -> Statement:
    return UseDatabase(name=cursor.identifier("database"))


def _show(cursor: Cursor) -> Statement:
    match cursor.choice("DATABASES", "TABLES", "CREATE", "PARTITIONS"):
        case "DATABASES":
            return ShowDatabases()
        case "TABLES":
            database = cursor.identifier("database") if cursor.accept("FROM") or cursor.accept("IN") else None
            like = cursor.string("a pattern") if cursor.accept("LIKE") else None
            return ShowTables(database=database, like=like)
        case "CREATE":
            cursor.expect("TABLE")
            return ShowCreateTable(name=cursor.table_name())
        case _:
            name = cursor.table_name()
            return ShowPartitions(name=name, partition=cursor.partition() if cursor.accept("PARTITION") else {})


def _describe(cursor: Cursor) -> Statement:
    return DescribeTable(name=cursor.table_name())


def _alter(cursor: Cursor) -> Statement:
    if cursor.peek().is_word("DATABASE"):
        cursor.fail("TABLE (a warehouse directory keeps no properties of databases)")
    cursor.expect("TABLE")
    return parse_alter_table(cursor)


def _call(cursor: Cursor) -> Statement:
    start = cursor.peek()
    parts = cursor.dotted("procedure")
    if len(parts) != 2 or parts[0].lower() != SYSTEM_DATABASE:
        cursor.fail(f"a procedure of the database {SYSTEM_DATABASE!r}, such as sys.compact", start)
    cursor.expect_symbol("(")
    if cursor.accept_symbol(")"):
        return Call(procedure=parts[1])
    arguments = [_argument(cursor)]
    while cursor.accept_symbol(","):
        start = cursor.peek()
        arguments.append(_argument(cursor))
        if arguments[-1].name is None and arguments[-2].name is not None:
            cursor.fail("a named argument, since the one before it has a name", start)
    cursor.expect_symbol(")")
    return Call(procedure=parts[1], arguments=tuple(arguments))


def _argument(cursor: Cursor) -> Argument:
    name = None
    if cursor.peek(1).is_symbol("=>"):
        name = cursor.identifier("argument")
        cursor.next()
    return Argument(name=name, value=cursor.literal())


def _truncate(cursor: Cursor) -> Statement:
    cursor.expect("TABLE")
    return TruncateTable(name=cursor.table_name())


def _analyze(cursor: Cursor) -> Statement:
    cursor.expect("TABLE")
    name = cursor.table_name()
    if cursor.peek().is_word("PARTITION"):
        cursor.fail("COMPUTE (statistics are those of the whole table, as in Paimon)")
    cursor.expect("COMPUTE", "STATISTICS")
    if not cursor.accept("FOR"):
        return AnalyzeTable(name=name)
    if cursor.accept("ALL"):
        cursor.expect("COLUMNS")
        return AnalyzeTable(name=name, columns=None)
    cursor.expect("COLUMNS")
    columns = [cursor.identifier("column")]
    while cursor.accept_symbol(","):
        columns.append(cursor.identifier("column"))
    return AnalyzeTable(name=name, columns=tuple(columns))


def _explain(cursor: Cursor) -> Statement:
    cursor.accept("PLAN", "FOR")
    return Explain(query=cursor.query())


Parser = Callable[[Cursor], Statement]
_CREATE: Mapping[str, Parser] = {
    "TABLE": _create_table,
    "DATABASE": _create_database,
    "VIEW": _create_view,
}
_STATEMENTS: Mapping[str, Parser] = {
    "CREATE": _create,
    "DROP": _drop,
    "ALTER": _alter,
    "SHOW": _show,
    "DESCRIBE": _describe,
    "DESC": _describe,
    "USE": _use,
    "CALL": _call,
    "INSERT": parse_insert,
    "DELETE": parse_delete,
    "UPDATE": parse_update,
    "MERGE": parse_merge,
    "TRUNCATE": _truncate,
    "ANALYZE": _analyze,
    "EXPLAIN": _explain,
}

"""A project's SQL files as statements: tables, views and inserts, each with the place where it stands."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from lakehouse_assets.flink_sql.connectors import Connected, connected
from lakehouse_assets.flink_sql.errors import Place
from lakehouse_assets.flink_sql.settings import NULL_ENFORCER, RUNTIME_MODE, read_setting
from lakehouse_assets.flink_sql.spelling import check_spelling
from storage_engine.errors import InvalidInput, SqlError, Unsupported
from storage_engine.kernel.table_definition import check_table_definition, normalized_options
from storage_engine.spec.schema import TableSchema, create_schema
from storage_engine.sql.lexer import Source, Token, TokenKind, split_tokens
from storage_engine.sql.parser import parse_statement
from storage_engine.sql.statements import (
    CreateDatabase,
    CreateTable,
    CreateTableAs,
    CreateTableLike,
    CreateView,
    Insert,
    Literal,
    Query,
    UseDatabase,
)

_STATEMENT_SET: Final = re.compile(
    r"\s*(EXECUTE\s+STATEMENT\s+SET\s+BEGIN|BEGIN\s+STATEMENT\s+SET|BEGIN|END)\b", re.IGNORECASE
)
_WITHOUT_EFFECT: Final = (
    "SET",
    "RESET",
    "CREATE CATALOG",
    "USE CATALOG",
    "USE MODULES",
    "LOAD MODULE",
    "SHOW",
    "DESCRIBE",
)
_RUN_ONCE: Final = (
    "is run once, and a project says what is there: tables, views and INSERTs. Run it by `lakehouse sql`, or in Flink"
)
_UNDECLARED: Final[Mapping[type, str]] = {
    CreateTableLike: "CREATE TABLE … LIKE: write its columns, key and options; a project's files say what a table is",
    CreateTableAs: "CREATE TABLE … AS SELECT: write CREATE TABLE with its columns and key, and INSERT INTO … SELECT",
}
_DDL: Final = (CreateTable, CreateView, Insert, CreateDatabase, UseDatabase, Query)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeclaredTable:
    """A table: its definition, and columns that queries compute (``proc_time AS PROCTIME()``) by name.

    ``connected``: the source that it mirrors; ``watermark``: the column and the expression of its WATERMARK.
    """

    schema: TableSchema
    place: Place
    computed: Mapping[str, str] = field(default_factory=dict)
    connected: Connected | None = None
    watermark: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Extras:
    """What stands in CREATE TABLE and is no part of the table: see ``DeclaredTable``."""

    computed: Mapping[str, str] = field(default_factory=dict)
    watermark: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeclaredHint:
    """What stands in ``/*+ … */`` behind a query's ``select``-th SELECT, from left to right, the first is 0; and where."""

    text: str
    select: int
    place: Place


@dataclass(frozen=True, slots=True, kw_only=True)
class DeclaredQuery:
    """The query of a view, of an insert, or by itself, without its hints."""

    text: str
    place: Place
    database: str
    columns: tuple[str, ...] = ()
    hints: tuple[DeclaredHint, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class DeclaredInsert:
    """An INSERT; ``batch``: it was to run once, in batch mode; ``drops_nulls``: without rows of NULL in a NOT NULL column."""

    target: str
    query: DeclaredQuery
    place: Place
    columns: tuple[str, ...] = ()
    partition: Mapping[str, Literal] = field(default_factory=dict)
    overwrite: bool = False
    batch: bool = False
    drops_nulls: bool = False


@dataclass(slots=True, kw_only=True)
class Script:
    """What a project's files declare, in their order."""

    database: str = "default"
    tables: dict[str, DeclaredTable] = field(default_factory=dict)
    views: dict[str, DeclaredQuery] = field(default_factory=dict)
    inserts: list[DeclaredInsert] = field(default_factory=list)
    queries: list[DeclaredQuery] = field(default_factory=list)
    _settings: dict[str, str] = field(default_factory=dict)

    def read(self, file: str, text: str) -> None:
        """Add the statements of a file. Raises SqlError with file and line."""
        self._settings.clear()
        source = Source(text)
        try:
            statements = split_tokens(source)
        except SqlError as cause:
            raise SqlError(f"{file}, {cause}") from cause
        for tokens in statements:
            self._statement(file, source, [token for token in tokens if token.kind is not TokenKind.END])

    def _statement(self, file: str, source: Source, tokens: Sequence[Token]) -> None:
        tokens = _without_statement_set(tokens)
        if not tokens:
            return
        text = source.text[tokens[0].start : tokens[-1].end]
        line, column = source.position(tokens[0].start)
        place = Place(file=file, line=line, column=column)
        words = " ".join(token.value.upper() for token in tokens[:2])
        if any(words == known or words.startswith(f"{known} ") for known in _WITHOUT_EFFECT):
            if tokens[0].is_word("SET", "RESET"):
                read_setting(text, self._settings, place)
            return
        extras = Extras()
        if words in ("CREATE TABLE", "CREATE TEMPORARY"):
            text, extras = _without_computed(source, tokens, place)
        hints = _hints(file, source, tokens)
        padded = "\n" * (line - 1) + " " * (column - 1) + _blanked(text, tokens[0].start, tokens)
        try:
            statement = parse_statement(padded)
            if isinstance(statement, _DDL):
                _ADD[type(statement)](self, statement, place, hints, extras)
                return
        except (InvalidInput, Unsupported) as cause:
            message = str(cause) if str(cause).startswith("line ") else f"line {line}, column {column}: {cause}"
            raise SqlError(message if message.startswith(file) else f"{file}, {message}") from cause
        raise place.error(_UNDECLARED.get(type(statement)) or f"{tokens[0].value.upper()} {_RUN_ONCE}")

    def full_name(self, name: str) -> str:
        """A name with its database."""
        return name if "." in name else f"{self.database}.{name}"

    def add_table(self, statement: CreateTable, place: Place, _hints: tuple[DeclaredHint, ...], extras: Extras) -> None:
        """CREATE TABLE."""
        name = self.full_name(statement.name)
        if name in self.tables:
            raise SqlError(f"table {name} is declared twice, first in {self.tables[name].place}")
        source = connected(statement.options)
        check_spelling(statement.options if source is None else source.options)
        schema = create_schema(
            statement.columns,
            primary_keys=statement.primary_keys,
            partition_keys=statement.partition_keys,
            options=normalized_options(statement.options if source is None else source.options),
            comment=statement.comment,
            time_millis=0,
        )
        check_table_definition(schema)
        if source is not None:
            source.ingestion(name, schema, str(place))
        self.tables[name] = DeclaredTable(
            schema=schema, place=place, computed=extras.computed, connected=source, watermark=extras.watermark
        )

    def add_view(self, statement: CreateView, place: Place, hints: tuple[DeclaredHint, ...], _: Extras) -> None:
        """CREATE [TEMPORARY] VIEW."""
        name = self.full_name(statement.name)
        if name in self.views or name in self.tables:
            raise SqlError(f"a table or view {name} is declared already")
        self.views[name] = self._query(statement.query, place, hints, statement.columns)

    def add_insert(self, statement: Insert, place: Place, hints: tuple[DeclaredHint, ...], _: Extras) -> None:
        """INSERT INTO or OVERWRITE."""
        self.inserts.append(
            DeclaredInsert(
                target=self.full_name(statement.name),
                query=self._query(statement.query, place, hints, ()),
                place=place,
                columns=statement.columns,
                partition=statement.partition,
                overwrite=statement.overwrite,
                batch=self._settings.get(RUNTIME_MODE) == "batch",
                drops_nulls=self._settings.get(NULL_ENFORCER) == "drop",
            )
        )

    def add_query(self, statement: Query, place: Place, hints: tuple[DeclaredHint, ...], _: Extras) -> None:
        """A SELECT by itself: it is checked, and moves nothing."""
        self.queries.append(self._query(statement, place, hints, ()))

    def use(self, statement: UseDatabase, *_: object) -> None:
        """USE: from now on names without a database mean this one."""
        self.database = statement.name

    def _query(
        self, query: Query, place: Place, hints: tuple[DeclaredHint, ...], columns: tuple[str, ...]
    ) -> DeclaredQuery:
        stands = Place(file=place.file, line=query.line, column=query.column)
        return DeclaredQuery(text=query.text, place=stands, database=self.database, columns=columns, hints=hints)


def _nothing(*_: object) -> None:
    """CREATE DATABASE: a database of a table is made with it."""


_ADD: Final[Mapping[type, Callable[..., None]]] = {
    CreateTable: Script.add_table,
    CreateView: Script.add_view,
    Insert: Script.add_insert,
    Query: Script.add_query,
    UseDatabase: Script.use,
    CreateDatabase: _nothing,
}


def _without_statement_set(tokens: Sequence[Token]) -> Sequence[Token]:
    """A statement without ``EXECUTE STATEMENT SET BEGIN``, ``BEGIN STATEMENT SET``, ``END``."""
    while tokens:
        words = " ".join(token.value for token in tokens[:4] if token.kind is TokenKind.WORD)
        found = _STATEMENT_SET.match(words)
        if found is None:
            return tokens
        tokens = tokens[len(found.group(1).split()) :]
    return tokens


def _hints(file: str, source: Source, tokens: Sequence[Token]) -> tuple[DeclaredHint, ...]:
    """The hints of a statement's query; before it stand options of the table that is filled, which have no effect.

    Raises SqlError for another one there.
    """
    found, select = [], -1
    for token in tokens:
        select += token.is_word("SELECT")
        if token.kind is not TokenKind.HINT:
            continue
        line, column = source.position(token.start)
        place = Place(file=file, line=line, column=column)
        if select >= 0:
            found.append(DeclaredHint(text=token.value, select=select, place=place))
        elif not re.match(r"OPTIONS\s*\(", token.value, re.IGNORECASE):
            raise place.error(
                f"hint {token.value}: before SELECT stands OPTIONS(…) alone; others stand right behind SELECT"
            )
    return tuple(found)


def _blanked(text: str, start: int, tokens: Sequence[Token]) -> str:
    """A statement whose hints are blanks, so that everything else stays where it is."""
    letters = list(text)
    for token in tokens:
        if token.kind is TokenKind.HINT:
            for at in range(token.start - start, token.end - start):
                letters[at] = "\n" if letters[at] == "\n" else " "
    return "".join(letters)


def _without_computed(source: Source, tokens: Sequence[Token], place: Place) -> tuple[str, Extras]:
    """CREATE TABLE without computed columns and watermarks (blanks in their place), and these.

    Raises SqlError for a second one of a name.
    """
    text, start = list(source.text[tokens[0].start : tokens[-1].end]), tokens[0].start
    computed: dict[str, str] = {}
    watermark: tuple[str, str] | None = None
    for element in _elements(tokens):
        is_watermark = element[0].is_word("WATERMARK") and len(element) > 1 and element[1].is_word("FOR")
        is_computed = len(element) > 2 and element[1].is_word("AS")
        if is_computed:
            if element[0].value in computed:
                raise place.error(f"column {element[0].value} is named twice")
            computed[element[0].value] = _behind_as(source, element, 1)
        if is_watermark:
            at = next((at for at, token in enumerate(element) if token.is_word("AS")), None)
            if at is None or watermark is not None:
                raise place.error("expected one WATERMARK FOR column AS expression")
            watermark = source.text[element[2].start : element[at - 1].end].strip("`"), _behind_as(source, element, at)
        if is_computed or is_watermark:
            for at in range(element[0].start - start, element[-1].end - start):
                text[at] = "\n" if text[at] == "\n" else " "
    plain = "".join(text)
    return _without_last_comma(plain) if computed or watermark else plain, Extras(
        computed=computed, watermark=watermark
    )


def _behind_as(source: Source, element: Sequence[Token], at: int) -> str:
    """The expression behind AS, without comment and comma."""
    last = next((place for place, token in enumerate(element) if token.is_word("COMMENT")), len(element))
    inner = [token for token in element[at + 1 : last] if not (token.is_symbol(",") and token is element[-1])]
    return source.text[inner[0].start : inner[-1].end] if inner else ""


def _elements(tokens: Sequence[Token]) -> list[list[Token]]:
    """The parts between the outer parentheses of CREATE TABLE, each with the comma that follows it."""
    found: list[list[Token]] = [[]]
    depth = 0
    for token in tokens:
        if token.is_symbol("(", "<"):
            depth += 1
            if depth == 1:
                continue
        elif token.is_symbol(")", ">"):
            depth -= 1
            if depth == 0:
                break
        if depth:
            found[-1].append(token)
            if depth == 1 and token.is_symbol(","):
                found.append([])
    return [element for element in found if element]


def _without_last_comma(text: str) -> str:
    """No comma right before the closing parenthesis of the columns."""
    return re.sub(r",(\s*)\)(\s*(?:COMMENT|PARTITIONED|WITH|$))", r" \1)\2", text, flags=re.IGNORECASE)

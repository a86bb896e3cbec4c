"""Where a query names tables, with time travel and hints; pure text work.

Spec: "SQL Query / Time Travel" of Apache Paimon: ``FOR SYSTEM_TIME AS OF``, ``FOR VERSION AS OF``, ``VERSION AS OF``,
``TIMESTAMP AS OF`` and ``/*+ OPTIONS('scan.snapshot-id' = '1') */``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from storage_engine.sql.cursor import Cursor, options_of_hint
from storage_engine.sql.lexer import Source, Token, TokenKind, split_tokens
from storage_engine.sql.statements import Literal, Query

MAX_OPERATORS = 500
MAX_SET_OPERATIONS = 100
_END_OF_FROM = frozenset(
    {"SELECT", "WHERE", "GROUP", "ORDER", "HAVING", "LIMIT", "OFFSET", "FETCH", "UNION", "EXCEPT", "INTERSECT"}
    | {"MINUS", "WINDOW", "QUALIFY"}
)
_NOT_AN_ALIAS = _END_OF_FROM | {
    *("ON", "USING", "JOIN", "INNER", "LEFT", "RIGHT", "FULL", "OUTER", "CROSS", "NATURAL", "SEMI", "ANTI"),
    *("FOR", "TABLESAMPLE", "LATERAL"),
}
_QUERY_WORDS = ("SELECT", "WITH", "VALUES")
_SET_OPERATIONS = ("UNION", "EXCEPT", "INTERSECT", "MINUS")
_OPERATORS = frozenset(("+", "-", "*", "/", "%", "||", "&", "|", "^"))


@dataclass(frozen=True, slots=True, kw_only=True)
class TableReference:
    """A table named in a query: ``start`` to ``end`` is what stands for it there, with its clauses and without its alias.

    ``version`` and ``timestamp`` are the literals of a time-travel clause, ``options`` those of a hint.
    """

    name: str
    start: int
    end: int
    has_alias: bool
    version: Literal = None
    timestamp: Literal = None
    options: Mapping[str, str] = field(default_factory=dict)

    @property
    def bare_name(self) -> str:
        """The name without database: what columns may be qualified with."""
        return self.name.rpartition(".")[2]


@dataclass(slots=True)
class _Scope:
    """One pair of parentheses, or the whole query."""

    is_query: bool
    in_from: bool = False
    expects_table: bool = False


def find_table_references(query: Query) -> list[TableReference]:
    """The tables that a query names, in order; names of its WITH list are none. Raises SqlError."""
    source = Source(query.text, query.line, query.column)
    (tokens,) = split_tokens(source)
    _check_size(source, tokens)
    return _Scanner(source, tokens).scan()


def _check_size(source: Source, tokens: Sequence[Token]) -> None:
    operators = [token for token in tokens if token.is_symbol(*_OPERATORS) or token.is_word("AND", "OR")]
    if len(operators) > MAX_OPERATORS:
        source.fail(operators[-1], f"more than {MAX_OPERATORS} operators in one query: use IN (…) or a table of values")
    unions = [token for token in tokens if token.is_word(*_SET_OPERATIONS)]
    if len(unions) > MAX_SET_OPERATIONS:
        source.fail(unions[-1], f"more than {MAX_SET_OPERATIONS} UNIONs in one query: use fewer")


class _Scanner:
    def __init__(self, source: Source, tokens: tuple[Token, ...]) -> None:
        self._source = source
        self._tokens = tokens
        self._cursor = Cursor(source, tokens)
        self._with_names = _with_names(tokens)
        self._scopes = [_Scope(is_query=True)]
        self._found: list[TableReference] = []

    def scan(self) -> list[TableReference]:
        while (token := self._cursor.peek()).kind is not TokenKind.END:
            scope = self._scopes[-1]
            if token.is_symbol("("):
                self._open(scope)
            elif token.is_symbol(")"):
                self._scopes.pop()
                self._cursor.next()
            elif scope.expects_table and token.kind in (TokenKind.WORD, TokenKind.QUOTED):
                self._table(scope, token)
            else:
                self._follow(scope, self._cursor.next())
        return self._found

    def _open(self, scope: _Scope) -> None:
        self._cursor.next()
        is_query = self._cursor.peek().is_word(*_QUERY_WORDS)
        in_from = scope.expects_table and not is_query
        self._scopes.append(_Scope(is_query=is_query or in_from, in_from=in_from, expects_table=in_from))
        scope.expects_table = False

    def _follow(self, scope: _Scope, token: Token) -> None:
        if token.is_word("FROM") and scope.is_query and not self._after_distinct():
            scope.in_from = scope.expects_table = True
        elif token.is_word("JOIN") and scope.in_from:
            scope.expects_table = True
        elif token.is_symbol(","):
            scope.expects_table = scope.in_from
        elif token.kind is TokenKind.WORD and token.value.upper() in _END_OF_FROM:
            scope.in_from = scope.expects_table = False

    def _after_distinct(self) -> bool:
        """Whether this FROM belongs to ``IS [NOT] DISTINCT FROM``."""
        return self._cursor.peek(-2).is_word("DISTINCT")

    def _table(self, scope: _Scope, start: Token) -> None:
        if start.is_word("LATERAL", "UNNEST") or self._cursor.peek(1).is_symbol("("):
            self._cursor.next()
            scope.expects_table = start.is_word("LATERAL")
            return
        scope.expects_table = False
        name = self._cursor.table_name()
        if name in self._with_names:
            return
        options = self._hint()
        version, timestamp = self._time_travel()
        options |= self._hint()
        end = self._cursor.peek(-1).end
        self._found.append(
            TableReference(
                name=name,
                start=start.start,
                end=end,
                has_alias=_is_alias(self._cursor.peek()),
                version=version,
                timestamp=timestamp,
                options=options | self._hint_after_alias(),
            )
        )

    def _hint(self) -> dict[str, str]:
        return self._cursor.hint_options()

    def _hint_after_alias(self) -> dict[str, str]:
        """A hint may also follow the alias; then it stays in the text, where it is a comment."""
        ahead = 1 if self._cursor.peek().is_word("AS") else 0
        token = self._cursor.peek(ahead + 1)
        return options_of_hint(self._source, token) if token.kind is TokenKind.HINT else {}

    def _time_travel(self) -> tuple[Literal, Literal]:
        cursor = self._cursor
        if cursor.accept("FOR", "SYSTEM_TIME", "AS", "OF") or cursor.accept("FOR", "TIMESTAMP", "AS", "OF"):
            return None, self._moment()
        if cursor.accept("TIMESTAMP", "AS", "OF"):
            return None, self._moment()
        if cursor.accept("FOR", "VERSION", "AS", "OF") or cursor.accept("VERSION", "AS", "OF"):
            return cursor.literal(), None
        return None, None

    def _moment(self) -> Literal:
        """A literal; a column (as in a lookup join) or the present means the newest rows, None."""
        token = self._cursor.peek()
        is_literal = token.kind in (TokenKind.STRING, TokenKind.NUMBER) or self._cursor.peek(1).kind is TokenKind.STRING
        if is_literal:
            return self._cursor.literal()
        self._cursor.dotted("column")
        if self._cursor.accept_symbol("("):
            self._cursor.expect_symbol(")")
        return None


def _is_alias(token: Token) -> bool:
    if token.kind is TokenKind.QUOTED:
        return True
    return token.kind is TokenKind.WORD and token.value.upper() not in _NOT_AN_ALIAS


def _with_names(tokens: Sequence[Token]) -> frozenset[str]:
    """Names that the query itself gives: ``WITH name AS (``, ``, name (column, …) AS (``."""
    names = set()
    for at, token in enumerate(tokens[:-1]):
        name = tokens[at + 1]
        if not (token.is_word("WITH", "RECURSIVE") or token.is_symbol(",")):
            continue
        if name.kind in (TokenKind.WORD, TokenKind.QUOTED) and _opens_definition(tokens, at + 2):
            names.add(name.value)
    return frozenset(names)


def _opens_definition(tokens: Sequence[Token], at: int) -> bool:
    if tokens[at].is_symbol("("):
        while not tokens[at].is_symbol(")"):
            at += 1
        at += 1
    return tokens[at].is_word("AS") and tokens[at + 1].is_symbol("(")

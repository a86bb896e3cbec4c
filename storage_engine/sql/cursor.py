"""``Cursor``: the tokens of one statement, read from left to right; the words that all statements share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import NoReturn, TypeVar

from storage_engine.sql.lexer import Source, Token, TokenKind, described, split_tokens
from storage_engine.sql.statements import Expression, Literal, Query

Part = TypeVar("Part")
_CONSTANTS: Mapping[str, Literal] = {"TRUE": True, "FALSE": False, "NULL": None}
_TYPED_LITERALS = ("DATE", "TIME", "TIMESTAMP")
_HINT = "OPTIONS"


class Cursor:
    """Where the reading of a statement stands. Every method that expects something raises SqlError if it is not there."""

    def __init__(self, source: Source, tokens: tuple[Token, ...]) -> None:
        self.source = source
        self._tokens = tokens
        self._at = 0

    def peek(self, ahead: int = 0) -> Token:
        """The next token, or one further ahead; END at the end."""
        return self._tokens[min(self._at + ahead, len(self._tokens) - 1)]

    def next(self) -> Token:
        """The next token, which is then behind."""
        token = self.peek()
        self._at += 1
        return token

    def fail(self, expected: str, token: Token | None = None) -> NoReturn:
        """Raise an error at a token (default: the next one)."""
        found = token or self.peek()
        self.source.fail(found, f"expected {expected}, found {described(found)}")

    def accept(self, *words: str) -> bool:
        """Whether these keywords come next; then they are behind."""
        if not all(self.peek(ahead).is_word(word) for ahead, word in enumerate(words)):
            return False
        self._at += len(words)
        return True

    def expect(self, *words: str) -> None:
        """These keywords come next."""
        for word in words:
            if not self.accept(word):
                self.fail(word)

    def accept_symbol(self, symbol: str) -> bool:
        """Whether a symbol comes next; then it is behind."""
        if not self.peek().is_symbol(symbol):
            return False
        self._at += 1
        return True

    def expect_symbol(self, symbol: str) -> None:
        """A symbol comes next."""
        if not self.accept_symbol(symbol):
            self.fail(repr(symbol))

    def expect_end(self) -> None:
        """Nothing comes next."""
        if self.peek().kind is not TokenKind.END:
            self.fail("the end of the statement")

    def choice(self, *words: str) -> str:
        """One of some keywords, in upper case."""
        if not self.peek().is_word(*words):
            self.fail(" or ".join((", ".join(words[:-1]), words[-1])) if len(words) > 1 else words[0])
        return self.next().value.upper()

    def identifier(self, what: str) -> str:
        """A plain or quoted name; ``what`` says of what, for the message."""
        if self.peek().kind not in (TokenKind.WORD, TokenKind.QUOTED) or not self.peek().value:
            self.fail(f"the name of a {what}")
        return self.next().value

    def dotted(self, what: str) -> tuple[str, ...]:
        """A name of one or more parts, ``a.b.c``."""
        parts = [self.identifier(what)]
        while self.accept_symbol("."):
            parts.append(self.identifier(what))
        return tuple(parts)

    def table_name(self, what: str = "table") -> str:
        """``table`` or ``database.table``."""
        start = self.peek()
        parts = self.dotted(what)
        if len(parts) > 2 or any("." in part for part in parts):
            self.fail(f"the name of a {what} as {what} or database.{what}", start)
        return ".".join(parts)

    def string(self, what: str) -> str:
        """A string in single quotes."""
        if self.peek().kind is not TokenKind.STRING:
            self.fail(f"{what} in single quotes")
        return self.next().value

    def whole_number(self, what: str) -> int:
        """An unsigned whole number."""
        token = self.peek()
        if token.kind is not TokenKind.NUMBER or not token.value.isdecimal():
            self.fail(f"{what}, a whole number")
        return int(self.next().value)

    def literal(self) -> Literal:
        """A string, number, TRUE, FALSE, NULL, or ``DATE '…'``, which gives its string."""
        token = self.next()
        if token.kind is TokenKind.STRING:
            return token.value
        if token.is_word(*_TYPED_LITERALS) and self.peek().kind is TokenKind.STRING:
            return self.next().value
        if token.kind is TokenKind.WORD and token.value.upper() in _CONSTANTS:
            return _CONSTANTS[token.value.upper()]
        negative = token.is_symbol("-")
        number = self.next() if negative or token.is_symbol("+") else token
        if number.kind is not TokenKind.NUMBER:
            self.fail("a value: a string in single quotes, a number, TRUE, FALSE or NULL", token)
        value = int(number.value) if number.value.isdecimal() else Decimal(number.value)
        return -value if negative else value

    def parenthesized(self, part: Callable[[], Part]) -> list[Part]:
        """``(part, part, …)``, at least one."""
        self.expect_symbol("(")
        parts = [part()]
        while self.accept_symbol(","):
            parts.append(part())
        if not self.accept_symbol(")"):
            self.fail("',' or ')'")
        return parts

    def names(self, what: str) -> tuple[str, ...]:
        """``(name, name, …)``."""
        return tuple(self.parenthesized(lambda: self.identifier(what)))

    def hint_options(self) -> dict[str, str]:
        """The options of ``/*+ OPTIONS('key' = 'value', …) */``, if such a hint comes next."""
        token = self.peek()
        if token.kind is not TokenKind.HINT:
            return {}
        self._at += 1
        return options_of_hint(self.source, token)

    def options(self) -> dict[str, str]:
        """``('key' = 'value', …)``; a key given twice is refused."""
        found: dict[str, str] = {}

        def option() -> None:
            start = self.peek()
            key = self.string("an option's key")
            self.expect_symbol("=")
            if key in found:
                self.source.fail(start, f"option {key!r} is given twice: keep one")
            found[key] = self.string("an option's value")

        self.parenthesized(option)
        return found

    def partition(self) -> dict[str, Literal]:
        """``(column = value, …)``."""

        def pair() -> tuple[str, Literal]:
            name = self.identifier("partition column")
            self.expect_symbol("=")
            return name, self.literal()

        return dict(self.parenthesized(pair))

    def rest(self) -> str:
        """The text of everything that is left, as it stands; it is behind then."""
        start, self._at = self.peek(), len(self._tokens) - 1
        return self.source.text[start.start : self._tokens[-1].end]

    def expression(self, what: str, *until: str, stop_at_comma: bool = False) -> Expression:
        """The text up to one of some keywords outside of parentheses and CASE (or up to a comma, or the end)."""
        start, depth = self.peek(), 0
        while (token := self.peek()).kind is not TokenKind.END:
            if depth == 0 and (
                token.is_word(*until) or token.is_symbol(")") or (stop_at_comma and token.is_symbol(","))
            ):
                break
            depth += (token.is_symbol("(", "[", "{") or token.is_word("CASE")) - (
                token.is_symbol(")", "]", "}") or token.is_word("END")
            )
            self._at += 1
        end = self.peek(-1)
        if end.end <= start.start:
            self.fail(what)
        line, column = self.source.position(start.start)
        return Expression(text=self.source.text[start.start : end.end], line=line, column=column)

    def query(self) -> Query:
        """The rest of the statement as a query."""
        if not self.at_query():
            self.fail("a query: SELECT, WITH or VALUES")
        line, column = self.source.position(self.peek().start)
        return Query(text=self.rest(), line=line, column=column)

    def at_query(self, ahead: int = 0) -> bool:
        """Whether a query comes next, perhaps in parentheses."""
        while self.peek(ahead).is_symbol("("):
            ahead += 1
        return self.peek(ahead).is_word("SELECT", "WITH", "VALUES")

    def if_exists(self) -> bool:
        """``IF EXISTS``, which may be left out."""
        return self.accept("IF", "EXISTS")

    def if_not_exists(self) -> bool:
        """``IF NOT EXISTS``, which may be left out."""
        return self.accept("IF", "NOT", "EXISTS")


def options_of_hint(source: Source, token: Token) -> dict[str, str]:
    """The options of a hint; hints of other kinds than OPTIONS speak to Flink's planner and are left alone."""
    line, column = source.position(token.start)
    inner = Source(token.value, line, column + 4)
    statements = split_tokens(inner)
    if len(statements) != 1 or not statements[0][0].is_word(_HINT):
        return {}
    cursor = Cursor(inner, statements[0])
    cursor.next()
    options = cursor.options()
    cursor.expect_end()
    return options

"""Lexer: the text of Flink/Paimon SQL as tokens that know where they stand, and statements apart.

Strings are ``'…'`` (a quote is written twice), identifiers plain, ````…```` or ``"…"``; comments are ``-- …`` and ``/* … */``;
``/*+ … */`` is a hint. Written by hand since DDL needs exact positions, and sqlglot takes long to import: queries alone use it.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import NoReturn

from storage_engine.errors import SqlError

MAX_DEPTH = 64
_EXCERPT = 40


class TokenKind(Enum):
    """What a token is."""

    WORD = "word"
    QUOTED = "quoted identifier"
    STRING = "string"
    NUMBER = "number"
    HINT = "hint"
    SYMBOL = "symbol"
    END = "end"


@dataclass(frozen=True, slots=True)
class Token:
    """One token. ``value`` is its meaning (quotes removed), ``start`` and ``end`` are offsets in the whole text."""

    kind: TokenKind
    value: str
    start: int
    end: int

    def is_word(self, *words: str) -> bool:
        """Whether it is one of some keywords (upper case)."""
        return self.kind is TokenKind.WORD and self.value.upper() in words

    def is_symbol(self, *symbols: str) -> bool:
        """Whether it is one of some symbols."""
        return self.kind is TokenKind.SYMBOL and self.value in symbols


_LEXEME = re.compile(
    r"""
    (?P<blank>\s+|--[^\r\n]*|/\*(?!\+).*?\*/)
    |(?P<hint>/\*\+.*?\*/)
    |(?P<string>'(?:[^']|'')*')
    |(?P<quoted>`(?:[^`]|``)*`|"(?:[^"]|"")*")
    |(?P<number>(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?)
    |(?P<word>[^\W\d]\w*(?:\$\w+)*)
    |(?P<symbol>=>|<>|!=|<=|>=|\|\||::|/(?!\*)|[-+*%(),.;=<>\[\]{}:?@&|^~!])
    """,
    re.VERBOSE | re.DOTALL,
)
_GLUED = re.compile(r"\w+")
_PREFIXED = re.compile(r"(?:[nN]|[uU]&|_\w+)'")
_UNFINISHED = {
    "'": "a string is not closed: add a single quote",
    "`": "a quoted identifier is not closed: add a backtick",
    '"': "a quoted identifier is not closed: add a double quote",
    "/*": "a comment is not closed: add */",
}
_KINDS = {
    "hint": TokenKind.HINT,
    "string": TokenKind.STRING,
    "quoted": TokenKind.QUOTED,
    "number": TokenKind.NUMBER,
    "word": TokenKind.WORD,
    "symbol": TokenKind.SYMBOL,
}


@dataclass(frozen=True, slots=True)
class Source:
    """A text of SQL, for positions in messages; ``line`` and ``column`` are where it stands in a longer one."""

    text: str
    line: int = 1
    column: int = 1

    def position(self, offset: int) -> tuple[int, int]:
        """Line and column of an offset, both from 1."""
        starts = [0, *(match.end() for match in re.finditer(r"\r\n|\r|\n", self.text))]
        line = bisect_right(starts, offset)
        before = self.column - 1 if line == 1 else 0
        return line + self.line - 1, offset - starts[line - 1] + 1 + before

    def error(self, offset: int, message: str) -> SqlError:
        """An error that begins with line and column."""
        line, column = self.position(offset)
        return SqlError(f"line {line}, column {column}: {message}")

    def fail(self, token: Token, message: str) -> NoReturn:
        """Raise an error at a token."""
        raise self.error(token.start, message)


def tokenize(source: Source) -> tuple[Token, ...]:
    """The tokens of a text, without blanks and comments, closed by an END token. Raises SqlError."""
    text, tokens, offset = source.text, [], 0
    while offset < len(text):
        match = _LEXEME.match(text, offset)
        if match is None or match.lastgroup is None or _PREFIXED.match(text, offset):
            raise _lexical_error(source, offset)
        if match.lastgroup == "number" and (rest := _GLUED.match(text, match.end())):
            raise source.error(
                offset,
                f"{match.group() + rest.group()!r} is no number: write its digits alone, and a blank behind them",
            )
        if match.lastgroup != "blank":
            tokens.append(Token(_KINDS[match.lastgroup], _value(match.lastgroup, match.group()), offset, match.end()))
        offset = match.end()
    end = tokens[-1].end if tokens else len(text)
    return (*tokens, Token(TokenKind.END, "", end, end))


def _value(group: str, lexeme: str) -> str:
    if group in ("string", "quoted"):
        quote = lexeme[0]
        return lexeme[1:-1].replace(quote * 2, quote)
    return lexeme[3:-2].strip() if group == "hint" else lexeme


def _lexical_error(source: Source, offset: int) -> SqlError:
    if prefixed := _PREFIXED.match(source.text, offset):
        return source.error(offset, f"{prefixed.group()}…' is not known here: write a plain string in single quotes")
    for beginning, message in _UNFINISHED.items():
        if source.text.startswith(beginning, offset):
            return source.error(offset, message)
    return source.error(offset, f"unexpected character {source.text[offset]!r}")


def split_tokens(source: Source) -> list[tuple[Token, ...]]:
    """The tokens of each statement, each closed by its own END; semicolons and empty statements are left out.

    Raises SqlError, also for parentheses nested deeper than ``MAX_DEPTH``.
    """
    statements: list[tuple[Token, ...]] = []
    current: list[Token] = []
    for token in tokenize(source):
        if token.kind is not TokenKind.END and not token.is_symbol(";"):
            current.append(token)
        elif current:
            _check_depth(source, current)
            end = Token(TokenKind.END, "", current[-1].end, current[-1].end)
            statements.append((*current, end))
            current = []
    return statements


def split_statements(text: str) -> list[str]:
    """The statements of a script, each as it stands there, without its semicolon. Raises SqlError."""
    source = Source(text)
    return [text[tokens[0].start : tokens[-1].end] for tokens in split_tokens(source)]


_OPENING, _CLOSING = {"(": ")", "[": "]", "{": "}"}, frozenset(")]}")


def _check_depth(source: Source, tokens: Sequence[Token]) -> None:
    opened: list[Token] = []
    for token in tokens:
        if token.kind is not TokenKind.SYMBOL:
            continue
        if token.value in _OPENING:
            opened.append(token)
            if len(opened) > MAX_DEPTH:
                source.fail(token, f"nested deeper than {MAX_DEPTH} parentheses: simplify the statement")
        elif token.value in _CLOSING:
            if not opened or _OPENING[opened[-1].value] != token.value:
                source.fail(token, f"{token.value!r} closes nothing: remove it, or add its opening counterpart")
            opened.pop()
    if opened:
        source.fail(opened[-1], f"{opened[-1].value!r} is never closed: add {_OPENING[opened[-1].value]!r}")


def described(token: Token) -> str:
    """A token for a message."""
    if token.kind is TokenKind.END:
        return "the end of the statement"
    text = token.value if len(token.value) <= _EXCERPT else token.value[:_EXCERPT] + "…"
    return f"{text!r}" if token.kind is not TokenKind.STRING else f"the string {text!r}"

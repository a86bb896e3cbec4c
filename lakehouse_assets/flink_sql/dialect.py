"""Flink's SQL for sqlglot: every function call keeps its name and its arguments as they stand."""

from __future__ import annotations

from typing import ClassVar

from sqlglot import exp, parser, tokens
from sqlglot.dialects.dialect import Dialect
from sqlglot.errors import SqlglotError

from lakehouse_assets.flink_sql.clauses import check_clauses
from lakehouse_assets.flink_sql.errors import Place
from lakehouse_assets.flink_sql.with_queries import inlined


class Flink(Dialect):
    """Backticks or double quotes around names; no function is rewritten."""

    class Tokenizer(tokens.Tokenizer):
        """Names in backticks, as Flink has them, or in double quotes, as ANSI has them."""

        IDENTIFIERS: ClassVar = ["`", '"']
        QUOTES: ClassVar = ["'"]

    class Parser(parser.Parser):
        """Calls stay calls: what a function means is decided in ``functions``."""

        FUNCTIONS: ClassVar = {}
        FUNCTION_PARSERS: ClassVar = {
            name: parse
            for name, parse in parser.Parser.FUNCTION_PARSERS.items()
            if name in ("CAST", "TRY_CAST", "EXTRACT", "TRIM", "CEIL", "FLOOR", "SUBSTRING", "POSITION")
        }


def parsed_query(text: str, place: Place) -> exp.Expr:
    """The one query of a text. Raises SqlError with file and line, and NotIncremental for a clause that nothing reads."""
    try:
        tree = Flink().parse(text)[0] or exp.Select()
    except SqlglotError as cause:
        errors = getattr(cause, "errors", None) or [{}]
        line, reason = errors[0].get("line") or 1, errors[0].get("description") or str(cause)
        found = errors[0].get("highlight")
        shown = f"{reason.rstrip('.')}, at {found!r}" if found else str(reason)
        raise Place(file=place.file, line=place.line + int(line) - 1).error(shown) from cause
    tree = inlined(tree, place)
    check_clauses(tree, text, place)
    return tree

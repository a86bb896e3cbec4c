"""What is wrong with a project's SQL, and where."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Final

from sqlglot import exp

from storage_engine.errors import SqlError, Unsupported

_LISTED: Final = 20
_MUCH_ALIKE: Final = 0.8


def known_names(name: str, known: Iterable[str]) -> str:
    """What to say of a name that is none: the names that are much like it, else those that there are."""
    names = list(known)
    if close := get_close_matches(name, names, 3, _MUCH_ALIKE):
        return f"did you mean {' or '.join(close)}?"
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return f"there are {', '.join(names[:_LISTED]) or 'none'}{more}"


class NotIncremental(SqlError, Unsupported):
    """A statement that cannot be kept exact by reading changes alone; the message says why and what to write instead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a statement stands: file, and line and column of its first character."""

    file: str
    line: int = 1
    column: int = 1

    def of(self, node: exp.Expr | None) -> Place:
        """Where a part of the statement stands, by the first name in it that knows."""
        for found in [] if node is None else node.find_all(exp.Expr, bfs=False):
            if found.meta.get("line"):
                line, column = int(found.meta["line"]), int(found.meta["col"])
                length = int(found.meta["end"]) - int(found.meta["start"])
                first = max(column - length, 1) + (self.column - 1 if line == 1 else 0)
                return Place(file=self.file, line=self.line + line - 1, column=first)
        return self

    def error(self, reason: str, node: exp.Expr | None = None) -> SqlError:
        """An error at a part of the statement."""
        return SqlError(f"{self.of(node)}: {reason}")

    def refusal(self, reason: str, node: exp.Expr | None = None) -> NotIncremental:
        """A refusal of what cannot be run incrementally, at a part of the statement."""
        return NotIncremental(f"{self.of(node)}: {reason}")

    def __str__(self) -> str:
        return f"{self.file}, line {self.line}, column {self.column}"

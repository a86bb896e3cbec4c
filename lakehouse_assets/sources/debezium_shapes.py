"""Debezium's lines by their shape: a producer writes members in one order with one spacing, so patterns read them all.

A *shape* is a line's text without its values. A line that follows it from end to end, and whose values have the JSON type and
the range of their columns, is certainly right: the members were looked at when the shape was learnt. Other lines are not
wrong; ``debezium_columns`` decodes them, whatever the order of their members.

A long line is read by several patterns, each of which leaves a rest to the next: an engine of regular expressions finds groups
in one pass only while they are few and its automaton is small, and takes ten times as long, or more, once they are not.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import polars as pl

from lakehouse_assets.sources.change_source import DELETE_OP, OP, OPERATIONS, SourceTable
from lakehouse_assets.sources.debezium_fields import AT, READ, TIME, TIME_FIELD, day, field_of, results

_MOST_SHAPES, _TRIED_LINES = 4, 8
_WORTHWHILE = 8
"""A shape that fewer lines than one in so many follow is the last one that is looked for."""
_TOKEN: Final = re.compile(
    r'(?P<space>[ \t\r]+)|(?P<mark>[{}:,])|(?P<text>"[^"\\\x00-\x1f]*")|(?P<scalar>-?[0-9][0-9.eE+-]*|true|false|null)'
)
_ANY_SCALAR: Final = r'(?:"[^"\\\x00-\x1f]*"|-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]{1,2})?|true|false|null)'
_SIDES: Final = ("before", "after")
_TEXT: Final = "_text."
_REST: Final = "_rest"
_DEEPEST: Final = 2
_MOST_GROUPS: Final = 16
"""Of one pattern, with that of the rest."""
_MOST_STATES: Final = 1000
"""About so many has the automaton of a pattern: one for each character of a constant, fewer for one of a value's pattern."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """``pattern``: of what one part of a line consists of; its groups are ``names`` in turn, the last perhaps the rest."""

    pattern: str
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Token:
    """A piece of a shape: its pattern, the names of its groups, and whether it is a value."""

    pattern: str
    names: tuple[str, ...] = ()
    is_value: bool = False

    @property
    def states(self) -> int:
        return len(self.pattern) // 2 if self.is_value else len(self.pattern)


_Shape = Sequence[_Part]
"""What a line consists of from end to end."""


def rows_by_shape(lines: pl.DataFrame, raw: str, table: SourceTable) -> tuple[list[pl.DataFrame], pl.DataFrame]:
    """(rows of lines that are certainly right, by shape; lines that are left). ``lines`` have ``AT``, and rows too.

    REQUIRES: every column's dtype has a JSON form.
    """
    found: list[pl.DataFrame] = []
    left = lines
    for _ in range(_MOST_SHAPES):
        shape = next(_shapes(left.get_column(raw).head(_TRIED_LINES), table), None)
        if shape is None:
            break
        rows = _read(left, raw, shape, table)
        found.append(rows)
        if rows.height == left.height:
            return found, left.clear()
        is_worthwhile = rows.height * _WORTHWHILE >= left.height
        left = left.join(rows, on=AT, how="anti", maintain_order="left")
        if not is_worthwhile:
            break
    return found, left


def _read(lines: pl.DataFrame, raw: str, shape: _Shape, table: SourceTable) -> pl.DataFrame:
    """The rows of lines that follow a shape and whose values are in range."""
    texts = lines.select(AT, pl.col(raw).alias(_REST))
    for part in shape:
        groups = pl.col(_REST).str.extract_groups(part.pattern).struct.rename_fields(list(part.names))
        texts = texts.select(pl.exclude(_REST), groups.alias("_groups")).unnest("_groups")
    names = list(table.columns)
    read = texts.with_columns(
        TIME_FIELD.read_text(pl.col(TIME)).alias(TIME),
        *(field_of(table.columns[name]).read_text(pl.col(f"{_TEXT}{name}")).alias(f"{READ}{name}") for name in names),
    )
    are_values = [
        pl.col(f"{_TEXT}{name}").is_null() | pl.col(f"{READ}{name}").is_not_null()
        for name, dtype in table.columns.items()
        if dtype != pl.String()
    ]
    are_days = [_are_days(texts, f"{_TEXT}{name}") for name in table.days]
    follows = pl.all_horizontal(pl.col(name).is_not_null() for name in (OP, TIME, _REST))
    right = pl.all_horizontal(follows, *are_values, *are_days)
    return read.filter(right).select(AT, *results(names))


def _are_days(texts: pl.DataFrame, column: str) -> pl.Expr:
    """Whether a text names a day, or is null; each text is looked at once, since lines of few days come together."""
    text = pl.col(column)
    wrong = texts.select(text.unique()).filter(text.is_not_null() & day(text).is_null()).get_column(column)
    return (~text.is_in(wrong.implode())).fill_null(value=True) if len(wrong) else pl.lit(value=True)


def _shapes(texts: pl.Series, table: SourceTable) -> Iterator[_Shape]:
    for text in texts.to_list():
        shape = _shape_of(text, table)
        if shape is not None:
            yield shape


def _shape_of(text: str, table: SourceTable) -> _Shape | None:
    """The shape of an event that has the table's columns, each once; None if the line is none, or one with escapes."""
    event = _event(text)
    if event is None or not isinstance(event.get("source"), dict) or "ts_ms" not in event["source"]:
        return None
    operation = event.get("op")
    if operation not in OPERATIONS:
        return None
    side = _SIDES[0] if operation == DELETE_OP else _SIDES[1]
    if not isinstance(event.get(side), dict) or set(event[side]) != set(table.columns):
        return None
    if any(event.get(other) is not None and not isinstance(event[other], dict) for other in _SIDES):
        return None
    return _Reader(table=table, side=side, operation=operation).shape(text)


def _event(text: str) -> dict[str, Any] | None:
    """The members of a line, none of which comes twice; None if it is no object."""

    def once(members: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(members)
        if len(found) < len(members):
            raise ValueError
        return found

    try:
        event = json.loads(text, object_pairs_hook=once)
    except (ValueError, RecursionError):
        return None
    return event if isinstance(event, dict) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reader:
    """Takes the values out of a line that is an event of JSON. ``side``: the member whose object is the row."""

    table: SourceTable
    side: str
    operation: str

    def shape(self, text: str) -> _Shape | None:
        """The shape of the line; None if it is nested deeper than an envelope, or holds lists or escapes."""
        tokens: list[_Token] = []
        owners: list[str] = []
        name, is_name, end = "", False, 0
        for token in _TOKEN.finditer(text):
            if token.start() != end:
                return None
            end = token.end()
            if token.lastgroup == "mark":
                is_name = token[0] in "{," or (is_name and token[0] == "}")
                if token[0] == "{" and len(owners) == _DEEPEST:
                    return None
                if token[0] == "{":
                    owners.append(name)
                elif token[0] == "}":
                    owners.pop()
            if token.lastgroup in ("mark", "space"):
                tokens.append(_Token(pattern=re.escape(token[0])))
            elif is_name:
                name, is_name = token[0][1:-1], False
                tokens.append(_Token(pattern=re.escape(token[0])))
            else:
                tokens.append(self._value(owners[1:], name, token[0]))
        return _parts(tokens) if end == len(text) else None

    def _value(self, owners: Sequence[str], name: str, text: str) -> _Token:
        """A value in the envelope, or in the object of one of its members."""
        if owners == [self.side]:
            pattern = field_of(self.table.columns[name]).pattern
            pattern = pattern if name in self.table.required else f"(?:{pattern}|null)"
            return _Token(pattern=pattern, names=(f"{_TEXT}{name}",), is_value=True)
        if owners == ["source"] and name == "ts_ms":
            return _Token(pattern=TIME_FIELD.pattern, names=(TIME,), is_value=True)
        if not owners and name == "op":
            deletes = self.operation == DELETE_OP
            known = "|".join(each for each in OPERATIONS if (each == DELETE_OP) is deletes)
            return _Token(pattern=f'"({known})"', names=(OP,), is_value=True)
        if not owners and name in _SIDES:
            return _Token(pattern=re.escape(text))
        return _Token(pattern=_ANY_SCALAR, is_value=True)


def _parts(tokens: Sequence[_Token]) -> _Shape:
    """The tokens as few patterns, each small enough; all but the first begin with a value, so that what is left is plain."""
    runs: list[list[_Token]] = [[]]
    groups = states = 0
    for token in tokens:
        if token.is_value and (groups + len(token.names) >= _MOST_GROUPS or states + token.states > _MOST_STATES):
            runs.append([])
            groups = states = 0
        runs[-1].append(token)
        groups += len(token.names)
        states += token.states
    return [
        _Part(
            pattern=f"^{''.join(token.pattern for token in run)}{'()' if run is runs[-1] else '((?s:.*))'}$",
            names=(*(name for token in run for name in token.names), _REST),
        )
        for run in runs
    ]

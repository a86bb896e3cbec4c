"""Debezium's lines by their shape: a producer writes members in one order with one spacing, so one pattern reads them all.

A *shape* is a line's text without its values. A line that follows it from end to end, and whose values have the JSON type and
the range of their columns, is certainly right: the members were looked at when the shape was learnt. Other lines are not
wrong; ``debezium_columns`` decodes them, whatever the order of their members.
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
_ANY_SCALAR: Final = (
    r'(?:"[^"\\\x00-\x1f]*"|-?(?:0|[1-9][0-9]{0,17})(?:\.[0-9]{1,17})?(?:[eE][+-]?[0-9]{1,2})?|true|false|null)'
)
_SIDES: Final = ("before", "after")
_TEXT: Final = "_text."
_DEEPEST: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shape:
    """``pattern``: of a whole line; its groups are ``names`` in turn."""

    pattern: str
    names: tuple[str, ...]


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
    groups = pl.col(raw).str.extract_groups(shape.pattern).struct.rename_fields(list(shape.names))
    texts = lines.select(AT, groups.alias("_groups")).unnest("_groups")
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
    are_days = [pl.col(f"{_TEXT}{name}").is_null() | day(pl.col(f"{_TEXT}{name}")).is_not_null() for name in table.days]
    right = pl.all_horizontal(pl.col(OP).is_not_null(), pl.col(TIME).is_not_null(), *are_values, *are_days)
    return read.filter(right).select(AT, *results(names))


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
    operation = event.get(OP)
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
        parts: list[str] = []
        names: list[str] = []
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
                parts.append(re.escape(token[0]))
            elif is_name:
                name, is_name = token[0][1:-1], False
                parts.append(re.escape(token[0]))
            else:
                known, pattern = self._value(owners[1:], name, token[0])
                names += known
                parts.append(pattern)
        return _Shape(pattern=f"^{''.join(parts)}$", names=tuple(names)) if end == len(text) else None

    def _value(self, owners: Sequence[str], name: str, text: str) -> tuple[list[str], str]:
        """(names of the groups, pattern) of a value in the envelope, or in the object of one of its members."""
        if owners == [self.side]:
            pattern = field_of(self.table.columns[name]).pattern
            return [f"{_TEXT}{name}"], pattern if name in self.table.required else f"(?:{pattern}|null)"
        if owners == ["source"] and name == "ts_ms":
            return [TIME], TIME_FIELD.pattern
        if not owners and name == OP:
            deletes = self.operation == DELETE_OP
            return [OP], f'"({"|".join(each for each in OPERATIONS if (each == DELETE_OP) is deletes)})"'
        if not owners and name in _SIDES:
            return [], re.escape(text)
        return [], _ANY_SCALAR

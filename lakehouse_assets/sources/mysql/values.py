"""Values that a query and the binary log tell in two ways, as one value."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from lakehouse_assets.sources.mysql.json_documents import json_text

NO_YEAR: Final = 1900
"""What the log's reader takes the year 0000 for; the type has no year 1900."""
_MEMBER: Final = re.compile(r"'((?:[^']|'')*)'")


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnFacts:
    """What the information schema says about the type of a column; ``text``: the type in full."""

    text: str
    unsigned: bool
    precision: int | None
    scale: int | None
    time_precision: int | None


def _year(_: ColumnFacts) -> Callable[[Any], object]:
    return lambda value: 0 if value == NO_YEAR else value


def _time(facts: ColumnFacts) -> Callable[[Any], object]:
    """As the server writes it: a time may be negative, or longer than a day."""
    digits = facts.time_precision or 0

    def text(value: timedelta) -> str:
        size = abs(value)
        minutes, seconds = divmod(size.days * 86_400 + size.seconds, 60)
        fraction = f".{size.microseconds:06d}"[: digits + 1] if digits else ""
        return f"{'-' if value < timedelta(0) else ''}{minutes // 60:02d}:{minutes % 60:02d}:{seconds:02d}{fraction}"

    return text


def _bit(facts: ColumnFacts) -> Callable[[Any], object]:
    """From a text of digits, or bytes, to a boolean if it is one bit, else to bytes."""
    size = ((facts.precision or 1) + 7) // 8

    def bits(value: str | bytes) -> bool | bytes:
        found = int(value, 2).to_bytes(size, "big") if isinstance(value, str) else value
        return found != b"\0" if facts.precision == 1 else found

    return bits


def _set(facts: ColumnFacts) -> Callable[[Any], object]:
    """Its members in the order of the type's definition, with commas."""
    order = {member.replace("''", "'"): place for place, member in enumerate(_MEMBER.findall(facts.text))}

    def text(value: str | set[str]) -> str:
        return value if isinstance(value, str) else ",".join(sorted(value, key=lambda one: order.get(one, len(order))))

    return text


def _json(_: ColumnFacts) -> Callable[[Any], object]:
    return json_text


CONVERSIONS: Final[Mapping[str, Callable[[ColumnFacts], Callable[[Any], object]]]] = {
    "bit": _bit,
    "json": _json,
    "set": _set,
    "time": _time,
    "year": _year,
}
"""The server's type → what makes a column's values, other than null, of it."""

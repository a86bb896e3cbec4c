"""Is a landed line an event? The rules of ``source_tables``, one line at a time and in plain Python.

This is the judge that the quarantine of the real pipeline is compared with, so it shares no code with it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from functools import lru_cache
from typing import Any, Final

from lakehouse_demo.source_tables import OPERATIONS, SourceTable

INT_MIN, INT_MAX = -(2**31), 2**31 - 1
EPOCH_MS_MAX: Final = 253_402_300_799_999
"""The last millisecond of the year 9999."""

_DECIMAL = re.compile(r"-?[0-9]{1,16}(\.[0-9]{1,4})?")
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


class MalformedLine(ValueError):
    """The line is no event of its table; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeEvent:
    """A well-formed event. ``row``: the row's image (the last one for a delete), DECIMAL as Decimal, all
    else as in JSON.
    """

    op: str
    key: tuple[str, ...]
    event_time: int
    row: dict[str, Any]


def parse_line(line: bytes, table: SourceTable) -> ChangeEvent:
    """The event that a line of the table's file holds. Raises MalformedLine."""
    envelope = _object(_json(line), "the line")
    op = envelope.get("op")
    if not isinstance(op, str) or op not in OPERATIONS:
        raise MalformedLine(f"op is {op!r}")
    side = "before" if op == "d" else "after"
    row = _object(envelope.get(side), side)
    _check_columns(row, table)
    event_time = _object(envelope.get("source"), "source").get("ts_ms")
    if event_time is None or not _is_timestamp(event_time):
        raise MalformedLine(f"source.ts_ms is {event_time!r}")
    for column, type_name in table.columns.items():
        if type_name.startswith("DECIMAL") and row[column] is not None:
            row[column] = Decimal(row[column])
    return ChangeEvent(op=op, key=tuple(row[column] for column in table.key), event_time=event_time, row=row)


def _json(line: bytes) -> object:
    try:
        return json.loads(line.decode("utf-8"))
    except ValueError as error:
        raise MalformedLine(f"no JSON in UTF-8: {error}") from error


def _object(value: object, name: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise MalformedLine(f"{name} is no object")
    return value


def _check_columns(row: dict[str, Any], table: SourceTable) -> None:
    if row.keys() != table.columns.keys():
        raise MalformedLine(f"missing or unknown columns: {sorted(row.keys() ^ table.columns.keys())}")
    for column, type_name in table.columns.items():
        value = row[column]
        if value is None:
            if column in table.key or column == "event_time":
                raise MalformedLine(f"{column} is null")
        elif not _TYPE_RULES[type_name](value):
            raise MalformedLine(f"{column} is no {type_name}: {str(value)[:50]!r}")


def _is_string(value: object) -> bool:
    return isinstance(value, str)


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and INT_MIN <= value <= INT_MAX


def _is_timestamp(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= EPOCH_MS_MAX


def _is_decimal(value: object) -> bool:
    return isinstance(value, str) and _DECIMAL.fullmatch(value) is not None


def _is_day(value: object) -> bool:
    return isinstance(value, str) and _is_calendar_day(value)


@lru_cache(maxsize=4096)
def _is_calendar_day(text: str) -> bool:
    if _DAY.fullmatch(text) is None:
        return False
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True


_TYPE_RULES: Final[dict[str, Callable[[object], bool]]] = {
    "STRING": _is_string,
    "INT": _is_int,
    "DECIMAL(20,4)": _is_decimal,
    "DATE": _is_day,
    "DAY": _is_day,
    "TIMESTAMP(3)": _is_timestamp,
}

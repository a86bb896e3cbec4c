"""The arguments of procedures: literals as text, numbers, flags, times and partitions. What does not fit is a SqlError."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime

from storage_engine.errors import SqlError
from storage_engine.options import parse_bool, parse_duration_ms
from storage_engine.sql.modify import partition_values
from storage_engine.sql.statements import Literal
from storage_engine.table import Table

Arguments = Mapping[str, Literal]


def text(arguments: Arguments, key: str) -> str:
    """An argument that is there, as text."""
    return str(arguments[key])


def optional_text(arguments: Arguments, key: str) -> str | None:
    """An argument as text, None if it is not given."""
    return text(arguments, key) if key in arguments else None


def number(arguments: Arguments, key: str) -> int | None:
    """A whole number."""
    value = arguments.get(key)
    if value is None or (isinstance(value, int) and not isinstance(value, bool)):
        return value
    if isinstance(value, str) and re.fullmatch(r"\d+", value):
        return int(value)
    raise SqlError(f"argument {key!r} is {value!r}: expected a whole number")


def flag(arguments: Arguments, key: str) -> bool:
    """True or false; false if it is not given."""
    try:
        return parse_bool(str(arguments.get(key, "false")))
    except ValueError as cause:
        raise SqlError(f"argument {key!r} is {arguments[key]!r}: {cause}") from cause


def millis(arguments: Arguments, key: str) -> int | None:
    """``'2026-11-23 12:00:00'`` in UTC, or epoch milliseconds."""
    value = arguments.get(key)
    if value is None or isinstance(value, int):
        return value
    try:
        parsed = datetime.fromisoformat(str(value))
    except ValueError as cause:
        raise SqlError(f"argument {key!r} is {value!r}: expected a time such as '2026-11-23 12:00:00'") from cause
    aware = parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)
    return int(aware.timestamp() * 1000)


def partitions(table: Table, text: str) -> list[dict[str, object]]:
    """``v_date=2024-01-01,hour=1;v_date=…`` as full partition specs."""
    specs = []
    for spec in text.split(";"):
        values = partition_values(table, dict(pair(each) for each in spec.split(",")))
        if len(values) < len(table.schema.partition_keys):
            raise SqlError(f"partition {spec!r}: expected values of {', '.join(table.schema.partition_keys)}")
        specs.append(values)
    return specs


def pair(text: str) -> tuple[str, str]:
    """``column=value``."""
    name, equals, value = text.partition("=")
    if not equals:
        raise SqlError(f"partition {text!r}: expected column=value")
    return name.strip(), value.strip().strip("'")


def duration_ms(arguments: Arguments, key: str) -> int | None:
    """``'1 d'``, in milliseconds."""
    given = optional_text(arguments, key)
    try:
        return None if given is None else parse_duration_ms(given)
    except ValueError as cause:
        raise SqlError(f"argument {key!r} is {given!r}: {cause}") from cause


def names(arguments: Arguments, key: str) -> list[str]:
    """``a, b``."""
    return [name.strip() for name in (optional_text(arguments, key) or "").split(",") if name.strip()]


def options(arguments: Arguments, key: str = "options") -> dict[str, str]:
    """``key=value,key=value``."""
    return dict(pair(each) for each in re.split(r"[,;]", optional_text(arguments, key) or "") if each.strip())


def is_chosen(name: str, including: str | None, excluding: str | None) -> bool:
    """Whether a name matches the pattern ``including`` (None: all do), and not the pattern ``excluding``."""
    try:
        chosen = including is None or re.fullmatch(including, name) is not None
        return chosen and (excluding is None or re.fullmatch(excluding, name) is None)
    except re.error as cause:
        raise SqlError(f"{including or excluding!r} is no pattern: {cause}") from cause

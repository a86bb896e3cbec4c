"""Keys as comparable Python values, in Paimon's order: strings and bytes by unsigned bytes, nulls first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def key_order(values: Sequence[object]) -> tuple[Any, ...]:
    """A sort key for a row of key values (two rows of the same types compare)."""
    return tuple(_ordered(value) for value in values)


def _ordered(value: object) -> tuple[bool, Any]:
    if value is None:
        return (False, 0)
    return (True, value.encode() if isinstance(value, str) else value)

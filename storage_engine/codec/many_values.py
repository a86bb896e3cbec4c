"""Very many values of one frozen class, made field by field: a constructor for each of them takes several times as long."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import fields
from itertools import repeat, starmap
from typing import Any, TypeVar

Value = TypeVar("Value")


def made_of_columns(kind: type[Value], count: int, columns: dict[str, Iterable[object]]) -> list[Value]:
    """So many values of a dataclass with slots: of each field, defaults included, a column that is as long.

    REQUIRES: the class does nothing when a value is made. Raises ValueError if a column is missing, unknown, or not as long.
    """
    names = [field.name for field in fields(kind)]  # type: ignore[arg-type]
    if columns.keys() != set(names):
        raise ValueError(f"{kind.__name__} has the fields {', '.join(names)}, not {', '.join(columns)}")
    values = list(map(object.__new__, repeat(kind, count)))
    for name, column in columns.items():
        slot: Any = getattr(kind, name)
        deque(starmap(slot.__set__, zip(values, column, strict=True)), maxlen=0)
    return values

"""Random work for tables: columns with the values that are drawn for them, and batches of changes."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

ALL_KINDS = ("+I", "+I", "+U", "-U", "-D")
UPSERTS = ("+I", "+U")


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column: its SQL type, the dtype it is read as, and the values that may stand in it."""

    sql: str
    dtype: pl.DataType
    values: Sequence[Any]


def ddl(columns: Mapping[str, Column], key: Sequence[str]) -> str:
    """What stands between the parentheses of CREATE TABLE."""
    lines = [f"`{name}` {column.sql}" for name, column in columns.items()]
    names = ", ".join(f"`{name}`" for name in key)
    return ", ".join([*lines, *([f"PRIMARY KEY ({names}) NOT ENFORCED"] if key else [])])


def batch(
    columns: Mapping[str, Column], chance: random.Random, *, kinds: Sequence[str], most: int = 14
) -> pl.DataFrame:
    """Some random changes: a frame with ``_row_kind``. Few keys, so that they meet."""
    height = chance.randrange(1, most)
    drawn = {
        name: pl.Series(name, chance.choices(column.values, k=height), dtype=column.dtype)
        for name, column in columns.items()
    }
    return pl.DataFrame(drawn).with_columns(pl.Series("_row_kind", chance.choices(kinds, k=height)))


def batches(columns: Mapping[str, Column], *, kinds: Sequence[str], seed: int, count: int) -> list[pl.DataFrame]:
    """Several of them; the same seed gives the same."""
    chance = random.Random(seed)
    return [batch(columns, chance, kinds=kinds) for _ in range(count)]

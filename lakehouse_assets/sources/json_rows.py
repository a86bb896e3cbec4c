"""Rows as flat JSON objects → Debezium's events, which ``debezium.parse`` judges."""

from __future__ import annotations

from typing import Final

import polars as pl

from lakehouse_assets.sources.change_source import EVENT_TIME, SourceTable
from lakehouse_assets.sources.debezium import FLAT_OBJECT, SPACE, member

IS_ROW: Final = f"^{SPACE}{FLAT_OBJECT}{SPACE}$"
"""The pattern of a text that is a row."""


def upsert(table: SourceTable, row: pl.Expr, time_ms: pl.Expr) -> pl.Expr:
    """The event that a row is there. ``time_ms``: when, if the row has no ``event_time`` of its own."""
    time = time_ms.cast(pl.String)
    if EVENT_TIME in table.columns:
        time = pl.coalesce(row.str.extract(member(EVENT_TIME)), time)
    return pl.concat_str(
        pl.lit('{"op":"u","before":null,"after":'), row, pl.lit(',"source":{"ts_ms":'), time, pl.lit("}}")
    )

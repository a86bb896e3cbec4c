"""Rows of JSON as Flink's formats ``json`` and ``debezium-json`` take them: other members are passed over, missing ones are null.

Values are texts first, and cast like those of a landing folder's files (``landing_columns``): numbers and texts of numbers are
one, times are ISO's or SQL's texts or epoch milliseconds, an object or a list is its JSON text.
"""

from __future__ import annotations

from typing import Final

import polars as pl

from lakehouse_assets.sources.change_source import DELETE_OP, OP, SourceTable
from lakehouse_assets.sources.debezium import LINE as GIVEN_LINE
from lakehouse_assets.sources.debezium import RAW
from lakehouse_assets.sources.debezium_fields import TIME_MS_MAX
from lakehouse_assets.sources.json_texts import WRONG, members
from lakehouse_assets.sources.landing_columns import fitted
from lakehouse_assets.sources.typed_rows import EVENT, LINE, REASON, SOURCE_FILE, TIME, unknown_operation

SIDES: Final = ("before", "after")


def rows_of_events(lines: pl.DataFrame, table: SourceTable) -> pl.DataFrame:
    """Debezium's envelopes as ``typed_rows.typed_batch`` takes them. ``lines``: ``source_file``, ``line``, ``raw``."""
    wanted = {OP: ("op",), TIME: ("source", "ts_ms")}
    sides = {f"{side}.{name}": (side, name) for side in SIDES for name in table.columns}
    found = members(lines[RAW], {**wanted, **sides})
    deleted = pl.col(OP) == DELETE_OP
    rows = found.select(
        OP,
        pl.when(pl.col(TIME).cast(pl.Int64, strict=False).is_between(0, TIME_MS_MAX)).then(TIME).alias(TIME),
        *(pl.when(deleted).then(f"before.{name}").otherwise(f"after.{name}").alias(name) for name in table.columns),
        WRONG,
    )
    return _typed(lines, table, rows)


def rows_of_objects(lines: pl.DataFrame, table: SourceTable) -> pl.DataFrame:
    """Rows, all of them upserts, as ``typed_batch`` takes them. ``lines``: ``source_file``, ``line``, ``raw``, perhaps ``TIME``
    (epoch milliseconds).
    """
    found = members(lines[RAW], {name: (name,) for name in table.columns})
    time = lines[TIME] if TIME in lines.columns else pl.lit(None)
    return _typed(lines, table, found.with_columns(pl.lit("u").alias(OP), time.cast(pl.String).alias(TIME)))


def _typed(lines: pl.DataFrame, table: SourceTable, rows: pl.DataFrame) -> pl.DataFrame:
    """Rows of texts in the table's types, where they stood, and why some are refused."""
    times = [name for name, dtype in table.columns.items() if isinstance(dtype, pl.Datetime)]
    found = fitted(table, rows.with_columns(_without_epoch(name) for name in times))
    cast = pl.col(REASON) if REASON in found.columns else pl.lit(None, pl.String)
    event = pl.col(EVENT) if EVENT in found.columns else pl.lit(None, pl.String)
    return found.with_columns(
        lines["source_file"].alias(SOURCE_FILE),
        lines[GIVEN_LINE].alias(LINE),
        rows[TIME].cast(pl.Int64).cast(pl.Datetime("ms")),
        pl.coalesce(rows[WRONG], unknown_operation(), cast).alias(REASON),
        pl.when(rows[WRONG].is_not_null()).then(lines[RAW]).otherwise(event).alias(EVENT),
    )


def _without_epoch(name: str) -> pl.Expr:
    """Epoch milliseconds as the text of a time."""
    text = pl.col(name)
    moment = text.cast(pl.Int64, strict=False).cast(pl.Datetime("ms")).dt.to_string("%Y-%m-%d %H:%M:%S%.3f")
    return pl.when(text.str.contains(r"^-?[0-9]+$")).then(moment).otherwise(text).alias(name)

"""Rows that have the source's own types (a database's, Avro's) → what fits the target, and what does not."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import reduce
from operator import or_
from typing import Final

import polars as pl

from lakehouse_assets.sources.change_source import (
    DELETE_OP,
    DELETED,
    EVENT_TIME,
    OP,
    OPERATIONS,
    SourceBatch,
    SourceTable,
)
from lakehouse_assets.sources.debezium_fields import FRACTION_DIGITS
from lakehouse_assets.sources.errors import SourceColumnsDiffer

SOURCE_FILE: Final = "_change.file"
LINE: Final = "_change.line"
REASON: Final = "_change.reason"
TIME: Final = "_change.time"
"""When a change was made, for tables that have no ``event_time`` of their own."""
EVENT: Final = "_change.event"
"""The JSON event of a row that was refused already, where the columns do not hold the values that were given."""
DAY_PATTERN: Final = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$"


def check_columns(
    table: SourceTable, found: Mapping[str, pl.DataType], *, filled: bool = False, file: str | None = None
) -> None:
    """Raise SourceColumnsDiffer if the columns of the source, or of one file of it, are not the target's."""
    if dict(found) != dict(table.columns):
        raise SourceColumnsDiffer(
            table.name, found=found, expected=table.columns, filled=filled, target=table.target, file=file
        )


def typed_batch(
    table: SourceTable, rows: pl.DataFrame, *, position: str, at_end: bool = True, emptied: bool = False
) -> SourceBatch:
    """Judge rows: those with a null where none may be, or a text that is no day, are refused.

    ``rows``: ``OP``, the table's columns, ``SOURCE_FILE`` and ``LINE`` (where the change stood, which no other change
    shares), perhaps ``TIME``, and perhaps ``REASON``: why a row was refused already, with its ``EVENT``.
    """
    known = pl.col(REASON) if REASON in rows.columns else pl.lit(None, pl.String)
    judged = rows.with_columns(pl.coalesce(known, *_reasons(table), pl.lit(None, pl.String)).alias(REASON))
    refused = judged.filter(pl.col(REASON).is_not_null())
    event = as_event(table, refused, {name: json_member(name, dtype) for name, dtype in table.columns.items()})
    return SourceBatch(
        position=position,
        rows=judged.filter(pl.col(REASON).is_null()).select(
            *(name for name in table.columns if name != EVENT_TIME),
            OP,
            (pl.col(OP) == DELETE_OP).alias(DELETED),
            _event_time(table, rows),
        ),
        rejected=refused.select(
            pl.col(SOURCE_FILE).alias("source_file"),
            pl.col(LINE).cast(pl.Int64).alias("line"),
            (pl.coalesce(EVENT, event) if EVENT in rows.columns else event).alias("raw"),
            pl.col(REASON).alias("reason"),
        ),
        at_end=at_end,
        emptied=emptied,
    )


def unknown_operation() -> pl.Expr:
    """Why a row is refused whose ``OP`` is none; null for others."""
    known = pl.col(OP).is_in(OPERATIONS).fill_null(value=False)
    return pl.when(~known).then(pl.format("op is {}", pl.col(OP).fill_null("missing")))


def with_moved_keys(before: pl.DataFrame, after: pl.DataFrame, key: Sequence[str]) -> pl.DataFrame:
    """Changes from the rows before and after them; one that changes the key is a delete and an insert.

    Both frames have ``OP`` and the same columns; an insert has its row, and a delete its last row, in both.
    """
    key_differs = reduce(or_, [before[name].ne_missing(after[name]) for name in key])
    moved = key_differs & (after[OP] == "u")
    if not moved.any():
        return after
    gone = before.filter(moved).with_columns(pl.lit(DELETE_OP).alias(OP))
    kept = after.with_columns(pl.when(moved).then(pl.lit("c")).otherwise(OP).alias(OP))
    places = pl.Series(range(len(after)), dtype=pl.Int64)
    order = pl.concat([places.filter(moved), places]).arg_sort()
    return pl.concat([gone, kept])[order]


def _event_time(table: SourceTable, rows: pl.DataFrame) -> pl.Expr:
    if EVENT_TIME in table.columns:
        return pl.col(EVENT_TIME)
    known = pl.col(TIME) if TIME in rows.columns else pl.lit(None)
    return known.cast(pl.Datetime("ms")).alias(EVENT_TIME)


def as_event(table: SourceTable, rows: pl.DataFrame, members: Mapping[str, pl.Expr]) -> pl.Expr:
    """Refused rows as JSON events that ``debezium`` reads, so that they may be corrected and replayed. ``members``: the JSON text
    of each column's values.
    """
    texts = [pl.concat_str(pl.lit(f"{json.dumps(name, ensure_ascii=False)}:"), text) for name, text in members.items()]
    row = pl.concat_str(pl.lit("{"), pl.concat_str(texts, separator=","), pl.lit("}"))
    deleted = pl.col(OP) == DELETE_OP
    time = pl.coalesce(_event_time(table, rows), pl.lit(0).cast(pl.Datetime("ms"))).dt.epoch("ms")
    return pl.concat_str(
        pl.lit('{"op":'),
        json_text(pl.col(OP)),
        pl.when(deleted).then(pl.lit(',"before":')).otherwise(pl.lit(',"after":')),
        row,
        pl.lit(',"source":{"ts_ms":'),
        time,
        pl.lit("}}"),
    )


def json_text(value: pl.Expr) -> pl.Expr:
    """Values as JSON text."""
    return pl.struct(value.alias("v")).struct.json_encode().str.slice(len('{"v":')).str.strip_suffix("}")


def json_member(name: str, dtype: pl.DataType) -> pl.Expr:
    """The JSON text of a column's values, from which ``debezium`` reads the same values again."""
    value = pl.col(name)
    if isinstance(dtype, pl.Datetime):
        return _json_time(value, dtype)
    if dtype.is_float():
        special = pl.when(value.is_nan()).then(pl.lit("NaN")).when(value > 0).then(pl.lit("Infinity"))
        other = json_text(special.otherwise(pl.lit("-Infinity")))
        return pl.when(value.is_null() | value.is_finite()).then(json_text(value)).otherwise(other)
    if isinstance(dtype, pl.Time):
        return json_text(value.dt.to_string("%H:%M:%S%.f"))
    if isinstance(dtype, pl.Binary):
        return json_text(value.bin.encode("base64"))
    return json_text(value.cast(pl.String) if isinstance(dtype, pl.Decimal | pl.Date) else value)


def _json_time(value: pl.Expr, dtype: pl.Datetime) -> pl.Expr:
    zone = "" if dtype.time_zone is None else "Z"
    text = json_text(
        value.dt.replace_time_zone(None).dt.to_string(f"%Y-%m-%dT%H:%M:%S%.{FRACTION_DIGITS[dtype.time_unit]}f{zone}")
    )
    if dtype != pl.Datetime("ms"):
        return text
    milliseconds = value.dt.epoch("ms")
    return pl.when(milliseconds < 0).then(text).otherwise(json_text(milliseconds))


def _reasons(table: SourceTable) -> list[pl.Expr]:
    nulls = [
        pl.when(pl.col(name).is_null()).then(pl.lit(f"{name} is null"))
        for name in table.columns
        if name in table.required
    ]
    days = [
        pl.when(
            ~pl.col(name).str.contains(DAY_PATTERN) | pl.col(name).str.to_date("%Y-%m-%d", strict=False).is_null()
        ).then(pl.lit(f"{name} is no day of the calendar"))
        for name in sorted(table.days)
    ]
    return [*nulls, *days]

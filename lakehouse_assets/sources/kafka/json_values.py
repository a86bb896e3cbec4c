"""Kafka messages with JSON in them → Debezium's JSON lines, which ``debezium.parse`` judges.

| format | value | key |
|---|---|---|
| ``debezium-json`` | Debezium's envelope, also inside of Kafka Connect's ``{"schema", "payload"}`` | not needed |
| ``json`` | the row as a flat object; null (a tombstone): the row was deleted | an object with the primary key, or its value |

A tombstone after a Debezium event only tells Kafka that it may forget the key, so it is no change.
"""

from __future__ import annotations

import json
from typing import Final

import polars as pl

from lakehouse_assets.sources.change_source import DELETE_OP, EVENT_TIME, OP, REJECTED_SCHEMA, SourceTable
from lakehouse_assets.sources.debezium import ENVELOPE, FLAT_OBJECT, LINE, RAW, REASON, SCALAR, SPACE, member, parse
from lakehouse_assets.sources.json_rows import upsert
from lakehouse_assets.sources.lenient_json import rows_of_events, rows_of_objects
from lakehouse_assets.sources.typed_rows import TIME

_KEYS: Final = ("source_file", LINE, RAW)
_AT: Final = "_at"


def debezium_rows(messages: pl.DataFrame, table: SourceTable) -> tuple[pl.DataFrame, pl.DataFrame]:
    """(good rows, refused messages) of messages that hold Debezium's envelopes."""
    lines = _texts(messages.filter(pl.col("value").is_not_null()), table)
    return parse(lines.with_columns(_payload(RAW, ENVELOPE)).select(_KEYS), table)


def plain_rows(messages: pl.DataFrame, table: SourceTable) -> tuple[pl.DataFrame, pl.DataFrame]:
    """(good rows, refused messages) of messages that hold rows, or nothing under a key."""
    texts = _texts(messages, table).with_columns(
        _payload(RAW, FLAT_OBJECT), _payload("_key", f"(?:{FLAT_OBJECT}|{SCALAR})"), pl.int_range(pl.len()).alias(_AT)
    )
    tombstones, rows = texts.filter(pl.col(RAW).is_null()), texts.filter(pl.col(RAW).is_not_null())
    flat = pl.col(RAW).str.contains(f"^{FLAT_OBJECT}$")
    keyed = pl.col("_key").str.contains(f"^(?:{FLAT_OBJECT}|{SCALAR})$").fill_null(value=False)
    events = [
        rows.filter(flat).with_columns(upsert(table, pl.col(RAW), pl.col("time_ms")).alias(RAW)),
        tombstones.filter(keyed).with_columns(_delete(table).alias(RAW)),
    ]
    good, refused = parse(pl.concat(events).sort(_AT).select(_KEYS), table)
    strange = [
        rows.filter(~flat).with_columns(pl.lit("the value is no flat JSON object in UTF-8").alias(REASON)),
        tombstones.filter(~keyed).with_columns(
            pl.lit("a tombstone whose key is no JSON").alias(REASON), pl.col("_key").fill_null("null").alias(RAW)
        ),
    ]
    bad = [frame.select(REJECTED_SCHEMA.names()).cast(REJECTED_SCHEMA) for frame in strange]
    return good, pl.concat([refused, *bad])


def lenient_events(messages: pl.DataFrame, table: SourceTable) -> pl.DataFrame:
    """Messages that hold Debezium's envelopes, as ``typed_rows.typed_batch`` takes them (``lenient_json``)."""
    lines = _texts(messages.filter(pl.col("value").is_not_null()), table)
    return rows_of_events(lines.with_columns(_payload(RAW, ENVELOPE)), table)


def lenient_rows(messages: pl.DataFrame, table: SourceTable) -> pl.DataFrame:
    """Messages that hold rows, or nothing under a key, as ``typed_batch`` takes them."""
    texts = _texts(messages, table).with_columns(pl.col("time_ms").alias(TIME), _payload(RAW, FLAT_OBJECT))
    key = pl.col("_key")
    if len(table.key) == 1:
        named = pl.concat_str(pl.lit(f"{{{json.dumps(table.key[0], ensure_ascii=False)}:"), key, pl.lit("}"))
        key = pl.when(key.str.starts_with("{")).then(key).otherwise(named)
    gone = pl.col(RAW).is_null()
    rows = rows_of_objects(
        texts.with_columns(pl.when(gone).then(key.fill_null("null")).otherwise(RAW).alias(RAW)), table
    )
    deleted = texts.select(gone).to_series()
    told = {OP: pl.lit(DELETE_OP)}
    if isinstance(dtype := table.columns.get(EVENT_TIME), pl.Datetime):
        told[EVENT_TIME] = pl.col(TIME).cast(dtype)
    return rows.with_columns(pl.when(deleted).then(value).otherwise(name).alias(name) for name, value in told.items())


def _texts(messages: pl.DataFrame, table: SourceTable) -> pl.DataFrame:
    """``source_file`` (topic and partition), ``line`` (offset), the texts of value and key, and the time."""
    return messages.select(
        pl.concat_str(pl.lit(f"{table.name}/"), pl.col("partition")).alias("source_file"),
        pl.col("offset").alias(LINE),
        as_text(messages["value"]).alias(RAW),
        as_text(messages["key"]).alias("_key"),
        pl.col("time_ms").clip(0),
    )


def as_text(content: pl.Series) -> pl.Series:
    """Bytes as a text of one line; bytes that are no UTF-8 become escapes that no JSON has."""
    texts = [None if each is None else each.decode("utf-8", errors="backslashreplace") for each in content.to_list()]
    return pl.Series(texts, dtype=pl.String()).str.replace_all("\n", " ", literal=True).str.strip_chars(" \t\r")


def _payload(column: str, grammar: str) -> pl.Expr:
    """What Kafka Connect's converter has put beside its schema; else the text itself."""
    text = pl.col(column)
    payload = text.str.extract(rf'"payload"{SPACE}:{SPACE}({grammar}){SPACE}\}}{SPACE}$')
    wrapped = text.str.contains(rf'^\{{{SPACE}"schema"{SPACE}:')
    return pl.when(wrapped).then(pl.coalesce(payload, text)).otherwise(text)


def _delete(table: SourceTable) -> pl.Expr:
    """The delete of a key: nothing is known of the other columns."""
    key = pl.col("_key")
    time = pl.col("time_ms").cast(pl.String)
    members: list[pl.Expr] = []
    for name in table.columns:
        value = pl.lit("null")
        if name in table.key:
            scalar = key if len(table.key) == 1 else pl.lit("null")
            found = pl.coalesce(key.str.extract(member(name)), pl.lit("null"))
            value = pl.when(key.str.starts_with("{")).then(found).otherwise(scalar)
        elif name == EVENT_TIME:
            value = time
        members.append(pl.concat_str(pl.lit(f"{json.dumps(name, ensure_ascii=False)}:"), value))
    row = pl.concat_str(members, separator=",")
    return pl.concat_str(
        pl.lit('{"op":"d","before":{'), row, pl.lit('},"after":null,"source":{"ts_ms":'), time, pl.lit("}}")
    )

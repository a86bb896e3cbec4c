"""Kafka messages with Avro in them → rows in the source's own types.

| format | value | key |
|---|---|---|
| ``avro`` | the row as a record; null (a tombstone): the row was deleted | a record with the primary key, or its value as text |
| ``debezium-avro`` | Debezium's envelope | not needed |

With a registry, a message is ``0``, the schema's number in four bytes, and the record. Without, it is the record alone, of
the schema that was given.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import polars as pl

from lakehouse_assets.schema_following import engine_type
from lakehouse_assets.sources.change_source import DELETE_OP, OP, OPERATIONS, SourceTable
from lakehouse_assets.sources.errors import SourceSchemaChanged
from lakehouse_assets.sources.kafka.avro_schema import DAMAGED, Record, record, series
from lakehouse_assets.sources.kafka.connection import SchemaRegistry
from lakehouse_assets.sources.typed_rows import LINE, REASON, SOURCE_FILE, TIME, check_columns
from storage_engine.spec.type_casts import is_lossless_cast

MAGIC: Final = 0
FRAME_BYTES: Final = 5


@dataclass(slots=True)
class AvroFormat:
    """Decodes a topic's messages; remembers the registry's schemas.

    ``registry`` or ``schemas`` (topic → Avro schema) tells what they are; ``envelope``: Debezium's.
    """

    registry: SchemaRegistry | None = None
    schemas: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    envelope: bool = False
    _known: dict[tuple[int, str], Record] = field(default_factory=dict)

    def rows(self, messages: pl.DataFrame, table: SourceTable) -> pl.DataFrame:
        """The changes as ``typed_rows.typed_batch`` takes them. Raises SourceColumnsDiffer, and like the registry."""
        values, keys = messages["value"].to_list(), messages["key"].to_list()
        decoded = [self._change(table, value, key) for value, key in zip(values, keys, strict=True)]
        _check_columns(table, list(dict.fromkeys(each.schema for each in decoded if each.whole and each.schema)))
        places = messages.select(
            pl.concat_str(pl.lit(f"{table.name}/"), pl.col("partition")).alias(SOURCE_FILE),
            pl.col("offset").alias(LINE),
            pl.col("time_ms").clip(0).cast(pl.Datetime("ms")).alias(TIME),
        )
        changes = pl.DataFrame(
            [
                pl.Series(OP, [change.op for change in decoded], dtype=pl.String()),
                pl.Series(REASON, [change.reason for change in decoded], dtype=pl.String()),
                *(_column(name, found, decoded) for name, found in table.columns.items()),
            ]
        )
        known = pl.concat([places, changes], how="horizontal")
        return known.filter(pl.col(OP).is_not_null() | pl.col(REASON).is_not_null()).with_columns(
            pl.col(OP).fill_null("u")
        )

    def _change(self, table: SourceTable, value: bytes | None, key: bytes | None) -> _Change:
        if value is None:
            return _Change() if self.envelope else self._tombstone(table, key)
        try:
            schema, content = self._schema(table.name, value, "value")
            found = schema.decoded(content)
        except DAMAGED as error:
            return _Change(reason=f"the value is no Avro record of its schema ({type(error).__name__}: {error})")
        if not self.envelope:
            return _Change(op="u", row=found, schema=schema, whole=True)
        op = found.get("op")
        row = found.get("before" if op == DELETE_OP else "after")
        if op not in OPERATIONS or not isinstance(row, dict):
            return _Change(reason=f"op is {op!r}, and its row {'there' if row else 'missing'}")
        return _Change(op=op, row=row, schema=schema, whole=True)

    def _tombstone(self, table: SourceTable, key: bytes | None) -> _Change:
        """A delete by the key alone."""
        if key is None:
            return _Change(reason="a tombstone without a key")
        try:
            if self.registry is not None and key[:1] == bytes([MAGIC]):
                schema, content = self._schema(table.name, key, "key")
                return _Change(op=DELETE_OP, row=schema.decoded(content), schema=schema)
            text = key.decode()
        except DAMAGED as error:
            return _Change(reason=f"a tombstone whose key cannot be read ({type(error).__name__}: {error})")
        if len(table.key) != 1:
            return _Change(reason="a tombstone whose key is a text, for a primary key of several columns")
        (name,) = table.key
        integer = table.columns[name].is_integer()
        if integer and not text.lstrip("-").isdigit():
            return _Change(reason=f"a tombstone whose key is no integer: {text[:50]!r}")
        return _Change(op=DELETE_OP, row={name: int(text) if integer else text})

    def _schema(self, topic: str, content: bytes, side: str) -> tuple[Record, bytes]:
        if self.registry is None:
            if topic not in self.schemas:
                raise SourceSchemaChanged(f"no Avro schema is given for topic {topic}, and no registry")
            return self._remembered(0, topic, side, self.schemas[topic]), content
        if len(content) < FRAME_BYTES or content[0] != MAGIC:
            raise ValueError("it does not start with the registry's frame")
        number = int.from_bytes(content[1:FRAME_BYTES])
        known = self._known.get((number, side))
        schema = known or self._remembered(number, topic, side, self.registry.schema(number))
        return schema, content[FRAME_BYTES:]

    def _remembered(self, number: int, topic: str, side: str, schema: Mapping[str, Any]) -> Record:
        place = (number, side if self.registry else topic)
        if place not in self._known:
            envelope = self.envelope and side == "value"
            self._known[place] = record(schema, what=f"topic {topic}", envelope=envelope)
        return self._known[place]


@dataclass(frozen=True, slots=True)
class _Change:
    """A decoded message: no ``op`` and no ``reason`` means that it is no change. ``whole``: all columns are there."""

    op: str | None = None
    row: Mapping[str, Any] = field(default_factory=dict)
    reason: str | None = None
    schema: Record | None = None
    whole: bool = False


def _check_columns(table: SourceTable, schemas: Sequence[Record]) -> None:
    """Raise SourceColumnsDiffer for a column that is new, or whose values the target's type does not hold.

    Producers may write older schemas for as long as they like: columns that these do not have are null.
    """
    found = dict(table.columns)
    for schema in schemas:
        for name, dtype in schema.columns.items():
            if name not in found or not _fits(name, dtype, found[name]):
                found[name] = dtype
    check_columns(table, found)


def _fits(name: str, dtype: pl.DataType, target: pl.DataType) -> bool:
    return dtype == target or is_lossless_cast(engine_type(name, dtype), engine_type(name, target))


def _column(name: str, target: pl.DataType, decoded: Sequence[_Change]) -> pl.Series:
    values = [change.row.get(name) for change in decoded]
    for change in decoded:
        if change.schema is not None and name in change.schema.fields:
            return series(name, values, change.schema.fields[name], change.schema.columns[name]).cast(target)
    return pl.Series(name, values, dtype=target)

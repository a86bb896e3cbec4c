"""Avro's types as Polars', and Avro's binary records as Python values.

| Avro | column |
|---|---|
| boolean, int, long, float, double, string, bytes | BOOLEAN, INT, BIGINT, FLOAT, DOUBLE, STRING, BYTES |
| enum, ``uuid`` | STRING |
| ``decimal(p, s)`` | DECIMAL(p, s) |
| ``date``, Debezium's Date | DATE |
| ``timestamp-millis``, ``local-timestamp-millis``, Debezium's Timestamp | TIMESTAMP(3), in UTC |
| ``timestamp-micros``, ``local-timestamp-micros``, Debezium's MicroTimestamp | TIMESTAMP(6), in UTC |
| array | ARRAY |
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any, Final

import fastavro
import polars as pl

from lakehouse_assets.sources.errors import SourceUnsupported

DAMAGED: Final = (EOFError, IndexError, KeyError, TypeError, ValueError, ArithmeticError, StopIteration, struct.error)
"""What the decoder raises for bytes that are no record of a schema."""

_PLAIN: Final[Mapping[str, pl.DataType]] = {
    "boolean": pl.Boolean(),
    "int": pl.Int32(),
    "long": pl.Int64(),
    "float": pl.Float32(),
    "double": pl.Float64(),
    "string": pl.String(),
    "bytes": pl.Binary(),
    "fixed": pl.Binary(),
    "enum": pl.String(),
}
_LOGICAL: Final[Mapping[str, pl.DataType]] = {
    "uuid": pl.String(),
    "date": pl.Date(),
    "timestamp-millis": pl.Datetime("ms"),
    "timestamp-micros": pl.Datetime("us"),
    "local-timestamp-millis": pl.Datetime("ms"),
    "local-timestamp-micros": pl.Datetime("us"),
}
_CONNECT: Final[Mapping[str, pl.DataType]] = {
    "io.debezium.time.Date": pl.Date(),
    "io.debezium.time.Timestamp": pl.Datetime("ms"),
    "io.debezium.time.MicroTimestamp": pl.Datetime("us"),
    "org.apache.kafka.connect.data.Date": pl.Date(),
    "org.apache.kafka.connect.data.Timestamp": pl.Datetime("ms"),
}
"""Types that Kafka Connect names beside Avro's own; their values are plain numbers."""


@dataclass(frozen=True, slots=True, eq=False)
class Record:
    """A record schema: what the decoder wants, and the dtype of each field that is no record itself."""

    parsed: Any
    fields: Mapping[str, Any]
    columns: Mapping[str, pl.DataType]

    def decoded(self, content: bytes) -> dict[str, Any]:
        """The values of a record. Raises one of ``DAMAGED``."""
        buffer = BytesIO(content)
        found = fastavro.schemaless_reader(buffer, self.parsed, None)
        if buffer.tell() != len(content):
            raise ValueError(f"{len(content) - buffer.tell()} bytes too many")
        if not isinstance(found, dict):
            raise TypeError("no record")
        return found


def record(schema: Mapping[str, Any], *, what: str, envelope: bool = False) -> Record:
    """A record schema, or the row schema within Debezium's envelope.

    Raises SourceUnsupported for a schema that is no record, and for types that no column has.
    """
    parsed = fastavro.parse_schema(dict(schema))
    if not isinstance(parsed, dict) or parsed.get("type") != "record":
        raise SourceUnsupported(f"the Avro schema of {what} is no record")
    row = _row_of_envelope(parsed, what) if envelope else parsed
    fields = {field["name"]: field["type"] for field in row["fields"]}
    return Record(parsed, fields, {name: dtype(found, what=f"{what}.{name}") for name, found in fields.items()})


def _row_of_envelope(envelope: Mapping[str, Any], what: str) -> Mapping[str, Any]:
    """The schema of ``before``, which ``after`` shares."""
    sides = {field["name"]: field["type"] for field in envelope["fields"]}
    for side in ("before", "after"):
        for branch in _branches(sides.get(side)):
            if isinstance(branch, dict) and branch.get("type") == "record":
                return branch
    raise SourceUnsupported(f"the Avro schema of {what} is no Debezium envelope: it has no record before or after")


def _branches(schema: Any) -> Sequence[Any]:
    return schema if isinstance(schema, list) else [schema]


def _solid(schema: Any) -> Any:
    """A type without the null of its union."""
    branches = [branch for branch in _branches(schema) if branch not in ("null", {"type": "null"})]
    return branches[0] if len(branches) == 1 else None


def dtype(schema: Any, *, what: str) -> pl.DataType:
    """The dtype of a field's type. Raises SourceUnsupported."""
    solid = _solid(schema)
    if isinstance(solid, str) and solid in _PLAIN:
        return _PLAIN[solid]
    if isinstance(solid, dict):
        if solid.get("logicalType") == "decimal":
            return pl.Decimal(solid["precision"], solid.get("scale", 0))
        if solid.get("logicalType") in _LOGICAL:
            return _LOGICAL[solid["logicalType"]]
        if solid.get("connect.name") in _CONNECT:
            return _CONNECT[solid["connect.name"]]
        if solid.get("type") == "array":
            return pl.List(dtype(solid["items"], what=what))
        if solid.get("type") in _PLAIN:
            return _PLAIN[solid["type"]]
    raise SourceUnsupported(f"the Avro type {schema!r} of {what} has no column type here")


def series(name: str, values: Sequence[Any], schema: Any, found: pl.DataType) -> pl.Series:
    """Decoded values of one field as a column."""
    solid = _solid(schema)
    if isinstance(solid, dict) and solid.get("connect.name") in _CONNECT and "logicalType" not in solid:
        return (
            pl.Series(name, values, dtype=pl.Int64()).cast(pl.Int32() if found == pl.Date() else pl.Int64()).cast(found)
        )
    if isinstance(found, pl.Datetime):
        zoned = pl.Series(name, values, dtype=pl.Datetime(found.time_unit, _zone_of(solid)), strict=False)
        return zoned.dt.replace_time_zone(None)
    if found == pl.String():
        return pl.Series(name, [None if value is None else str(value) for value in values], dtype=found)
    return pl.Series(name, values, dtype=found)


def _zone_of(solid: Any) -> str | None:
    return None if str(solid.get("logicalType", "")).startswith("local-") else "UTC"

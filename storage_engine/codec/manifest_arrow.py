"""Manifests in Parquet and ORC: the records of an Avro schema as rows of the same names and types.

Spec: option ``manifest.format`` of Apache Paimon 1.3.1. A file tells its format itself, so a table whose option was changed is
read all the same.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from io import BytesIO
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from polars.exceptions import PolarsError
from pyarrow import orc

from storage_engine.codec.avro import AvroSchema
from storage_engine.errors import CorruptFile

PARQUET, ORC = "parquet", "orc"
_MAGIC = {b"PAR1": PARQUET, b"ORC": ORC}
_SIMPLE: Mapping[str, pa.DataType] = {
    "string": pa.string(),
    "bytes": pa.binary(),
    "long": pa.int64(),
    "int": pa.int32(),
}
_BYTE_SIZED = frozenset({"_KIND", "_FILE_SOURCE"})  # TINYINT, which Avro does not have
_COMPRESSION = {"null": "none", "uncompressed": "none", "zstandard": "zstd", "deflate": "gzip", "zlib": "gzip"}
_ORC_COMPRESSION = {"none": "uncompressed", "gzip": "zlib"}
_DAMAGES: tuple[type[Exception], ...] = (pa.ArrowException, PolarsError, OSError, ValueError, KeyError, TypeError)


def format_of(data: bytes) -> str | None:
    """The format that a manifest says it has; None for Avro, or what is no manifest."""
    return next((name for magic, name in _MAGIC.items() if data.startswith(magic)), None)


def write_records(
    schema: AvroSchema, records: Iterable[Mapping[str, Any]], *, file_format: str, compression: str
) -> bytes:
    """A whole file of records. ``compression`` as in option ``manifest.compression``."""
    table = pa.Table.from_pylist(list(records), schema=_arrow_schema(schema))
    codec = _COMPRESSION.get(compression.lower(), compression.lower())
    out = BytesIO()
    if file_format == ORC:
        orc.write_table(table, out, compression=_ORC_COMPRESSION.get(codec, codec))
    else:
        pq.write_table(table, out, compression=codec, store_schema=False)
    return out.getvalue()


def read_records(data: bytes, *, path: str) -> list[dict[str, Any]]:
    """The records of a file in Parquet or ORC, timestamps as epoch milliseconds. Raises CorruptFile."""
    try:
        return list(read_frame(data, path=path).iter_rows(named=True))
    except _DAMAGES as cause:
        raise CorruptFile(f"{path}: not a readable manifest: {cause}") from cause


def read_frame(data: bytes, *, path: str) -> pl.DataFrame:
    """The same as columns, in the types that the file has. Raises CorruptFile."""
    if format_of(data) == ORC and data[-4:-1] != b"ORC":  # what is cut off is taken for an empty file otherwise
        raise CorruptFile(f"{path}: not a readable manifest: it does not end as an ORC file does")
    try:
        read: Callable[[pa.BufferReader], pa.Table] = orc.read_table if format_of(data) == ORC else pq.read_table
        table = read(pa.BufferReader(data))
        for stamped in (_in_millis, _as_numbers):
            table = table.cast(pa.schema([field.with_type(stamped(field.type)) for field in table.schema]))
        return pl.DataFrame(table)
    except _DAMAGES as cause:
        raise CorruptFile(f"{path}: not a readable manifest: {cause}") from cause


def _arrow_schema(schema: AvroSchema) -> pa.Schema:
    return pa.schema([_field(each) for each in json.loads(schema.text)["fields"]])


def _field(document: Mapping[str, Any]) -> pa.Field:
    stored, nullable = _type(document["type"])
    name = document["name"]
    return pa.field(name, pa.int8() if name in _BYTE_SIZED else stored, nullable=nullable)


def _type(document: Any) -> tuple[pa.DataType, bool]:
    """The type of a part of an Avro schema, and whether it may be null."""
    if isinstance(document, list):
        return _type(document[1])[0], True
    if isinstance(document, str):
        return _SIMPLE[document], False
    match document["type"]:
        case "record":
            return pa.struct([_field(each) for each in document["fields"]]), False
        case "array":
            element, nullable = _type(document["items"])
            return pa.list_(pa.field("element", element, nullable=nullable)), False
        case _:
            return pa.timestamp("ms"), False


def _in_millis(stored: pa.DataType) -> pa.DataType:
    return _mapped(stored, pa.timestamp("ms"))


def _as_numbers(stored: pa.DataType) -> pa.DataType:
    return _mapped(stored, pa.int64())


def _mapped(stored: pa.DataType, stamp: pa.DataType) -> pa.DataType:
    """A type with another one in place of timestamps, at any depth."""
    if pa.types.is_timestamp(stored):
        return stamp
    if pa.types.is_list(stored):
        element = stored.value_field
        return pa.list_(element.with_type(_mapped(element.type, stamp)))
    if pa.types.is_struct(stored):
        return pa.struct([field.with_type(_mapped(field.type, stamp)) for field in stored])
    return stored

"""The columns that a data file has, beside those of its table.

Spec: "Data files" of Apache Paimon.
"""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from storage_engine.spec.schema import (
    KEY_FIELD_ID_START,
    KEY_PREFIX,
    SEQUENCE_NUMBER,
    SEQUENCE_NUMBER_FIELD_ID,
    VALUE_KIND,
    VALUE_KIND_FIELD_ID,
    TableSchema,
)
from storage_engine.spec.types import DataField, DataType, TypeRoot

_SEQUENCE_FIELD = DataField(
    id=SEQUENCE_NUMBER_FIELD_ID, name=SEQUENCE_NUMBER, type=DataType(root=TypeRoot.BIGINT, nullable=False)
)
_KIND_FIELD = DataField(id=VALUE_KIND_FIELD_ID, name=VALUE_KIND, type=DataType(root=TypeRoot.TINYINT, nullable=False))


def physical_fields(schema: TableSchema) -> tuple[DataField, ...]:
    """The columns of a file: keys (unless thin), sequence number, kind, all table columns; those alone in append tables."""
    keys = () if schema.table_options.thin_mode else schema.trimmed_primary_keys
    key_fields = tuple(
        DataField(id=KEY_FIELD_ID_START + column.id, name=KEY_PREFIX + column.name, type=column.type)
        for column in (schema.by_name[name] for name in keys)
    )
    if not schema.primary_keys:
        return schema.fields
    return (*key_fields, _SEQUENCE_FIELD, _KIND_FIELD, *schema.fields)


def physical_dtypes(schema: TableSchema) -> Mapping[str, pl.DataType]:
    """What the columns of a file with this schema, thin or not, are in Polars."""
    keys = {KEY_PREFIX + name: schema.polars_schema[name] for name in schema.trimmed_primary_keys}
    return {SEQUENCE_NUMBER: pl.Int64(), VALUE_KIND: pl.Int8(), **keys, **schema.polars_schema}

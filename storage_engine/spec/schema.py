"""``schema/schema-N``: what a table is, version by version.

Spec: "Schema" of Apache Paimon; JSON version 3.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import polars as pl

from storage_engine.errors import CorruptFile, InvalidSchema
from storage_engine.options import TableOptions
from storage_engine.spec.types import NESTED_ROOTS, DataField, DataType, TypeRoot

SCHEMA_VERSION = 3

SEQUENCE_NUMBER = "_SEQUENCE_NUMBER"
VALUE_KIND = "_VALUE_KIND"
KEY_PREFIX = "_KEY_"
KEY_FIELD_ID_START = 1_073_741_823
SEQUENCE_NUMBER_FIELD_ID = 2_147_483_646
VALUE_KIND_FIELD_ID = 2_147_483_645
_RESERVED = frozenset({SEQUENCE_NUMBER, VALUE_KIND, "_LEVEL", "rowkind", "_ROW_ID", "_row_kind"})


@dataclass(frozen=True, kw_only=True)
class TableSchema:
    """One version of a table's definition.

    ``highest_field_id`` counts nested fields and dropped columns too and never decreases.
    ``options`` are strings as they stand in the file; ``table_options`` is the parsed form.
    """

    id: int
    fields: tuple[DataField, ...]
    highest_field_id: int
    partition_keys: tuple[str, ...] = ()
    primary_keys: tuple[str, ...] = ()
    options: Mapping[str, str] = field(default_factory=dict)
    comment: str | None = None
    time_millis: int = 0

    @cached_property
    def table_options(self) -> TableOptions:
        """The options, parsed. Raises InvalidOption."""
        return TableOptions.parse(self.options)

    @cached_property
    def by_name(self) -> dict[str, DataField]:
        """Columns by name."""
        return {column.name: column for column in self.fields}

    @cached_property
    def column_names(self) -> tuple[str, ...]:
        """Column names in schema order."""
        return tuple(column.name for column in self.fields)

    @cached_property
    def trimmed_primary_keys(self) -> tuple[str, ...]:
        """The primary key without the partition columns, in declaration order: the key that rows merge by."""
        return tuple(name for name in self.primary_keys if name not in self.partition_keys)

    @cached_property
    def bucket_keys(self) -> tuple[str, ...]:
        """Columns whose hash gives the bucket: option ``bucket-key``, else the trimmed primary key."""
        return self.table_options.bucket_key or self.trimmed_primary_keys

    @property
    def is_cross_partition(self) -> bool:
        """Whether the primary key lacks a partition column, so that a row may move between partitions."""
        return bool(self.primary_keys) and not set(self.partition_keys) <= set(self.primary_keys)

    @cached_property
    def polars_schema(self) -> pl.Schema:
        """Names and Polars dtypes of the columns."""
        return pl.Schema({column.name: column.type.to_polars() for column in self.fields})

    def types_of(self, names: Iterable[str]) -> tuple[DataType, ...]:
        """The types of some columns. Raises KeyError for a name that is not a column."""
        return tuple(self.by_name[name].type for name in names)

    def to_json(self) -> str:
        """The text of the schema file."""
        document: dict[str, Any] = {
            "version": SCHEMA_VERSION,
            "id": self.id,
            "fields": [column.to_json() for column in self.fields],
            "highestFieldId": self.highest_field_id,
            "partitionKeys": list(self.partition_keys),
            "primaryKeys": list(self.primary_keys),
            "options": dict(self.options),
        }
        if self.comment is not None:
            document["comment"] = self.comment
        document["timeMillis"] = self.time_millis
        return json.dumps(document, indent=2, ensure_ascii=False)

    @staticmethod
    def from_json(text: str | bytes, *, path: str) -> TableSchema:
        """Read a schema file; ``path`` is for the message. Raises CorruptFile."""
        try:
            document = json.loads(text)
            version = int(document.get("version", 1))
            if not 1 <= version <= SCHEMA_VERSION:
                raise CorruptFile(f"{path}: schema version {version} is not known (at most {SCHEMA_VERSION})")
            return TableSchema(
                id=int(document["id"]),
                fields=tuple(DataField.from_json(column) for column in document["fields"]),
                highest_field_id=int(document["highestFieldId"]),
                partition_keys=tuple(document["partitionKeys"]),
                primary_keys=tuple(document["primaryKeys"]),
                options=_options_of(document.get("options", {}), version),
                comment=document.get("comment"),
                time_millis=int(document.get("timeMillis", 0)),
            )
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as cause:
            raise CorruptFile(f"{path}: not a table schema: {cause}") from cause


def _options_of(options: Mapping[str, str], version: int) -> dict[str, str]:
    """The options with the defaults that an older schema version implies."""
    implied = {"bucket": "1"} if version == 1 else {}
    if version < SCHEMA_VERSION:
        implied["file.format"] = "orc"
    return implied | dict(options)


def assign_field_ids(columns: Sequence[DataField]) -> tuple[tuple[DataField, ...], int]:
    """Number columns and nested ROW fields depth first from 0; returns them and the highest id used."""
    counter = _Counter(-1)
    return tuple(counter.numbered(column) for column in columns), counter.last


class _Counter:
    def __init__(self, last: int) -> None:
        self.last = last

    def numbered(self, column: DataField) -> DataField:
        self.last += 1
        field_id = self.last
        return DataField(
            id=field_id,
            name=column.name,
            type=self._numbered_type(column.type),
            description=column.description,
            default_value=column.default_value,
        )

    def _numbered_type(self, data_type: DataType) -> DataType:
        if data_type.root not in NESTED_ROOTS:
            return data_type
        return replace(
            data_type,
            element=None if data_type.element is None else self._numbered_type(data_type.element),
            key=None if data_type.key is None else self._numbered_type(data_type.key),
            value=None if data_type.value is None else self._numbered_type(data_type.value),
            fields=tuple(self.numbered(nested) for nested in data_type.fields),
        )


def number_new_field(column: DataField, highest_field_id: int) -> tuple[DataField, int]:
    """Number a column that is added to a schema; returns it and the new highest id."""
    counter = _Counter(highest_field_id)
    return counter.numbered(column), counter.last


def create_schema(
    columns: Sequence[DataField],
    *,
    primary_keys: Sequence[str] = (),
    partition_keys: Sequence[str] = (),
    options: Mapping[str, str] | None = None,
    comment: str | None = None,
    time_millis: int = 0,
) -> TableSchema:
    """Build schema 0 of a new table and check it. Raises InvalidSchema or InvalidOption."""
    keys = frozenset(primary_keys)
    fields, highest = assign_field_ids(columns)
    schema = TableSchema(
        id=0,
        fields=tuple(_key_not_null(column) if column.name in keys else column for column in fields),
        highest_field_id=highest,
        partition_keys=tuple(partition_keys),
        primary_keys=tuple(primary_keys),
        options=dict(options or {}),
        comment=comment,
        time_millis=time_millis,
    )
    check_schema(schema)
    return schema


def _key_not_null(column: DataField) -> DataField:
    return DataField(
        id=column.id,
        name=column.name,
        type=column.type.with_nullable(False),
        description=column.description,
        default_value=column.default_value,
    )


def check_schema(schema: TableSchema) -> None:
    """Refuse a schema that Paimon would refuse, or that 1.3.1 would read wrong. Raises InvalidSchema."""
    names = schema.column_names
    if not names:
        raise InvalidSchema("a table needs at least one column")
    for what, group in (
        ("column", names),
        ("primary key", schema.primary_keys),
        ("partition key", schema.partition_keys),
    ):
        twice = sorted({name for name in group if group.count(name) > 1})
        if twice:
            raise InvalidSchema(f"{what} {twice[0]!r} is named twice")
    for name in names:
        _check_name(name)
    for what, group in (
        ("primary key", schema.primary_keys),
        ("partition key", schema.partition_keys),
    ):
        unknown = [name for name in group if name not in schema.by_name]
        if unknown:
            raise InvalidSchema(f"{what} {unknown[0]!r} is not a column; columns: {', '.join(names)}")
    for name in (*schema.primary_keys, *schema.partition_keys):
        _check_key_type(schema.by_name[name])
    if schema.primary_keys and not schema.trimmed_primary_keys:
        raise InvalidSchema(f"the primary key {list(schema.primary_keys)} must hold more than the partition keys")


def _check_name(name: str) -> None:
    if name.startswith(KEY_PREFIX) or name in _RESERVED or not name:
        raise InvalidSchema(f"column name {name!r} is reserved by the table format; rename the column")
    if name == "*" or (name.startswith("^") and name.endswith("$")):
        raise InvalidSchema(f"column name {name!r} stands for several columns in Polars; rename the column")


def _check_key_type(column: DataField) -> None:
    if column.type.root in NESTED_ROOTS:
        raise InvalidSchema(f"column {column.name!r}: a key cannot be of type {column.type.sql}")
    if column.type.root in (TypeRoot.FLOAT, TypeRoot.DOUBLE):
        raise InvalidSchema(
            f"column {column.name!r}: {column.type.sql} cannot be a key, since NaN and -0.0 have no one place in its order;"
            " use DECIMAL"
        )

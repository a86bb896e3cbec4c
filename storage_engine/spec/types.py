"""Column types: Paimon's type strings and JSON, and their Polars and Arrow faces.

Spec: "Data Types" of Apache Paimon; type strings as they stand in ``schema/schema-N``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from functools import lru_cache
from typing import Any

import polars as pl
import pyarrow as pa

from storage_engine.errors import InvalidSchema, Unsupported

MAX_LENGTH = 2_147_483_647
_MILLIS, _MICROS = 3, 6


class TypeRoot(Enum):
    """The type families; the value is the keyword in type strings."""

    __hash__ = object.__hash__  # tables are looked up by it for every value of every statistic

    BOOLEAN = "BOOLEAN"
    TINYINT = "TINYINT"
    SMALLINT = "SMALLINT"
    INT = "INT"
    BIGINT = "BIGINT"
    FLOAT = "FLOAT"
    DOUBLE = "DOUBLE"
    DECIMAL = "DECIMAL"
    CHAR = "CHAR"
    VARCHAR = "VARCHAR"
    BINARY = "BINARY"
    VARBINARY = "VARBINARY"
    DATE = "DATE"
    TIME = "TIME"
    TIMESTAMP = "TIMESTAMP"
    TIMESTAMP_LTZ = "TIMESTAMP_LTZ"
    ARRAY = "ARRAY"
    MAP = "MAP"
    MULTISET = "MULTISET"
    ROW = "ROW"


_PLAIN = {
    TypeRoot.BOOLEAN: (pl.Boolean(), pa.bool_()),
    TypeRoot.TINYINT: (pl.Int8(), pa.int8()),
    TypeRoot.SMALLINT: (pl.Int16(), pa.int16()),
    TypeRoot.INT: (pl.Int32(), pa.int32()),
    TypeRoot.BIGINT: (pl.Int64(), pa.int64()),
    TypeRoot.FLOAT: (pl.Float32(), pa.float32()),
    TypeRoot.DOUBLE: (pl.Float64(), pa.float64()),
    TypeRoot.CHAR: (pl.String(), pa.string()),
    TypeRoot.VARCHAR: (pl.String(), pa.string()),
    TypeRoot.BINARY: (pl.Binary(), pa.binary()),
    TypeRoot.VARBINARY: (pl.Binary(), pa.binary()),
    TypeRoot.DATE: (pl.Date(), pa.date32()),
    TypeRoot.TIME: (pl.Time(), pa.time32("ms")),
}
INTEGER_ROOTS = frozenset({TypeRoot.TINYINT, TypeRoot.SMALLINT, TypeRoot.INT, TypeRoot.BIGINT})
FLOAT_ROOTS = frozenset({TypeRoot.FLOAT, TypeRoot.DOUBLE})
STRING_ROOTS = frozenset({TypeRoot.CHAR, TypeRoot.VARCHAR})
BINARY_ROOTS = frozenset({TypeRoot.BINARY, TypeRoot.VARBINARY})
TIMESTAMP_ROOTS = frozenset({TypeRoot.TIMESTAMP, TypeRoot.TIMESTAMP_LTZ})
NESTED_ROOTS = frozenset({TypeRoot.ARRAY, TypeRoot.MAP, TypeRoot.MULTISET, TypeRoot.ROW})


@dataclass(frozen=True, slots=True, kw_only=True)
class DataType:
    """One Paimon type.

    ``length`` belongs to CHAR/VARCHAR/BINARY/VARBINARY, ``precision`` to DECIMAL/TIME/TIMESTAMP*, ``scale`` to DECIMAL,
    ``element`` to ARRAY and MULTISET, ``key`` and ``value`` to MAP, ``fields`` to ROW.
    """

    root: TypeRoot
    nullable: bool = True
    length: int | None = None
    precision: int | None = None
    scale: int | None = None
    element: DataType | None = None
    key: DataType | None = None
    value: DataType | None = None
    fields: tuple[DataField, ...] = ()

    def __str__(self) -> str:
        return self.sql if self.nullable else f"{self.sql} NOT NULL"

    @property
    def sql(self) -> str:
        """The type as SQL text, without its nullability."""
        if self.root in NESTED_ROOTS:
            return self._nested_sql()
        if self.root is TypeRoot.DECIMAL:
            return f"DECIMAL({self.precision}, {self.scale})"
        if self.root is TypeRoot.TIMESTAMP_LTZ:
            return f"TIMESTAMP({self.precision}) WITH LOCAL TIME ZONE"
        if self.precision is not None:
            return f"{self.root.value}({self.precision})"
        if self.length is None:
            return str(self.root.value)
        if self.length == MAX_LENGTH and self.root in (TypeRoot.VARCHAR, TypeRoot.VARBINARY):
            return "STRING" if self.root is TypeRoot.VARCHAR else "BYTES"
        return f"{self.root.value}({self.length})"

    def _nested_sql(self) -> str:
        if self.root is TypeRoot.MAP:
            return f"MAP<{self.key}, {self.value}>"
        if self.root is TypeRoot.ROW:
            return "ROW<" + ", ".join(f"`{field.name}` {field.type}" for field in self.fields) + ">"
        return f"{self.root.value}<{self.element}>"

    def with_nullable(self, nullable: bool) -> DataType:
        """The same type, nullable or not."""
        return self if nullable is self.nullable else replace(self, nullable=nullable)

    def to_json(self) -> str | dict[str, Any]:
        """The value of ``type`` in a schema file: a string for atomic types, an object for nested ones."""
        if self.root not in NESTED_ROOTS:
            return str(self)
        name = self.root.value if self.nullable else f"{self.root.value} NOT NULL"
        if self.root is TypeRoot.MAP:
            return {
                "type": name,
                "key": _part(self.key).to_json(),
                "value": _part(self.value).to_json(),
            }
        if self.root is TypeRoot.ROW:
            return {"type": name, "fields": [field.to_json() for field in self.fields]}
        return {"type": name, "element": _part(self.element).to_json()}

    def to_polars(self) -> pl.DataType:
        """The Polars dtype of a column of this type (contract: MAP is a list of key/value structs)."""
        match self.root:
            case TypeRoot.DECIMAL:
                return pl.Decimal(self.precision or 10, self.scale or 0)
            case TypeRoot.TIMESTAMP:
                return pl.Datetime(self.time_unit)
            case TypeRoot.TIMESTAMP_LTZ:
                return pl.Datetime(self.time_unit, "UTC")
            case TypeRoot.ARRAY:
                return pl.List(_part(self.element).to_polars())
            case TypeRoot.MAP | TypeRoot.MULTISET:
                key, value = self.map_parts()
                return pl.List(pl.Struct({"key": key.to_polars(), "value": value.to_polars()}))
            case TypeRoot.ROW:
                return pl.Struct({field.name: field.type.to_polars() for field in self.fields})
            case _:
                return _PLAIN[self.root][0]

    def to_arrow(self) -> pa.DataType:
        """The Arrow type used at the file boundary (TIME as ``time32[ms]``, MAP as Arrow map)."""
        match self.root:
            case TypeRoot.DECIMAL:
                return pa.decimal128(self.precision or 10, self.scale or 0)
            case TypeRoot.TIMESTAMP:
                return pa.timestamp(self.time_unit)
            case TypeRoot.TIMESTAMP_LTZ:
                return pa.timestamp(self.time_unit, "UTC")
            case TypeRoot.ARRAY:
                element = _part(self.element)
                return pa.list_(pa.field("element", element.to_arrow(), element.nullable))
            case TypeRoot.MAP | TypeRoot.MULTISET:
                key, value = self.map_parts()
                return pa.map_(key.to_arrow(), pa.field("value", value.to_arrow(), value.nullable))
            case TypeRoot.ROW:
                return pa.struct([field.to_arrow() for field in self.fields])
            case _:
                return _PLAIN[self.root][1]

    def map_parts(self) -> tuple[DataType, DataType]:
        """Key and value type of a MAP; a MULTISET is a map from element to INT NOT NULL."""
        if self.root is TypeRoot.MULTISET:
            return _part(self.element), DataType(root=TypeRoot.INT, nullable=False)
        return _part(self.key), _part(self.value)

    @property
    def time_unit(self) -> Any:
        """``ms``, ``us`` or ``ns``: the unit a timestamp of this precision is kept in."""
        precision = 6 if self.precision is None else self.precision
        return "ms" if precision <= _MILLIS else "us" if precision <= _MICROS else "ns"

    def walk(self) -> Iterator[DataType]:
        """The type itself and all types nested in it, depth first."""
        yield self
        for part in (
            self.element,
            self.key,
            self.value,
            *(field.type for field in self.fields),
        ):
            if part is not None:
                yield from part.walk()


@dataclass(frozen=True, slots=True, kw_only=True)
class DataField:
    """A column, or a field of a ROW: its id never changes and is never used again."""

    id: int
    name: str
    type: DataType
    description: str | None = None
    default_value: str | None = None

    def to_json(self) -> dict[str, Any]:
        """The field as it stands in a schema file."""
        json: dict[str, Any] = {
            "id": self.id,
            "name": self.name,
            "type": self.type.to_json(),
        }
        if self.description is not None:
            json["description"] = self.description
        if self.default_value is not None:
            json["defaultValue"] = self.default_value
        return json

    def to_arrow(self) -> pa.Field:
        """The Arrow field, with the Parquet field id as metadata."""
        return pa.field(
            self.name,
            self.type.to_arrow(),
            self.type.nullable,
            metadata={"PARQUET:field_id": str(self.id)},
        )

    @staticmethod
    def from_json(json: Mapping[str, Any]) -> DataField:
        """Read one field of a schema file."""
        return DataField(
            id=int(json["id"]),
            name=str(json["name"]),
            type=_type_of_column(json),
            description=json.get("description"),
            default_value=json.get("defaultValue"),
        )


def _type_of_column(column: Mapping[str, Any]) -> DataType:
    try:
        return type_from_json(column["type"])
    except Unsupported as cause:
        raise Unsupported(f"column {column['name']!r}: {cause}") from cause


def _part(part: DataType | None) -> DataType:
    if part is None:
        raise InvalidSchema("a nested type lacks its element, key or value type")
    return part


def type_from_json(json: Any) -> DataType:
    """Read the ``type`` of a field of a schema file. Raises InvalidSchema for what Paimon 1.3.1 does not know."""
    if isinstance(json, str):
        return parse_type(json)
    if not isinstance(json, Mapping) or not isinstance(json.get("type"), str):
        raise InvalidSchema(f"not a Paimon type: {json!r}")
    name, nullable = _split_nullability(json["type"].upper())
    match name:
        case "ARRAY" | "MULTISET":
            return DataType(
                root=TypeRoot[name],
                nullable=nullable,
                element=type_from_json(json.get("element")),
            )
        case "MAP":
            key, value = (
                type_from_json(json.get("key")),
                type_from_json(json.get("value")),
            )
            return DataType(root=TypeRoot.MAP, nullable=nullable, key=key, value=value)
        case "ROW":
            fields = tuple(DataField.from_json(field) for field in json.get("fields", ()))
            return DataType(root=TypeRoot.ROW, nullable=nullable, fields=fields)
        case _:
            raise InvalidSchema(f"not a Paimon type: {json['type']!r}")


def _split_nullability(text: str) -> tuple[str, bool]:
    match = _NULLABILITY.search(text)
    return (text.strip(), True) if match is None else (text[: match.start()].strip(), match.group(1) is None)


_NULLABILITY = re.compile(r"\s(NOT\s+)?NULL\s*$", re.IGNORECASE)
_ALIASES = {
    "INTEGER": "INT",
    "DEC": "DECIMAL",
    "NUMERIC": "DECIMAL",
    "DOUBLE PRECISION": "DOUBLE",
    "STRING": "VARCHAR(2147483647)",
    "BYTES": "VARBINARY(2147483647)",
    "TIMESTAMP WITHOUT TIME ZONE": "TIMESTAMP",
    "TIME WITHOUT TIME ZONE": "TIME",
    "TIMESTAMP WITH LOCAL TIME ZONE": "TIMESTAMP_LTZ",
}
_ATOMIC = re.compile(r"^([A-Z_ ]+?)\s*(?:\(\s*(\d+)\s*(?:,\s*(\d+)\s*)?\))?\s*((?:WITH|WITHOUT)[A-Z ]+)?$")
_DEFAULT_PRECISION = {TypeRoot.TIME: 0, TypeRoot.TIMESTAMP: 6, TypeRoot.TIMESTAMP_LTZ: 6, TypeRoot.DECIMAL: 10}
_MAX_PRECISION = {TypeRoot.TIME: 9, TypeRoot.TIMESTAMP: 9, TypeRoot.TIMESTAMP_LTZ: 9, TypeRoot.DECIMAL: 38}
_WITH_LENGTH = STRING_ROOTS | BINARY_ROOTS
_NOT_DONE = frozenset({"VARIANT", "BLOB"})


@lru_cache(maxsize=1024)
def parse_type(text: str) -> DataType:
    """Parse one type in SQL text, atomic or nested (``MAP<STRING, ARRAY<INT>>``, ``ROW<a INT, b STRING>``).

    Field ids inside a ROW are 0-based positions; a schema gives the real ones. Raises InvalidSchema.
    """
    body, nullable = _split_nullability(text if "`" in text else " ".join(text.split()))
    upper = body.upper()
    for root in (TypeRoot.ARRAY, TypeRoot.MULTISET, TypeRoot.MAP, TypeRoot.ROW):
        if re.match(rf"^{root.value}\s*<.*>$", upper, re.DOTALL):
            inner = body[body.index("<") + 1 : -1]
            return _parse_nested(root, inner, text).with_nullable(nullable)
    return _parse_atomic(upper, text).with_nullable(nullable)


def _parse_atomic(upper: str, text: str) -> DataType:
    match = _ATOMIC.match(upper)
    if match is None:
        raise InvalidSchema(f"not a Paimon type: {text!r}")
    name, first, second, zone = match.groups()
    name = f"{name} {zone}" if zone else name
    alias = _ALIASES.get(name, name)
    if alias.endswith(")"):
        return _parse_atomic(alias, text)
    if alias in _NOT_DONE:
        raise Unsupported(f"type {text!r} is not done here; keep the values as STRING or BYTES")
    if alias not in TypeRoot.__members__ or TypeRoot[alias] in NESTED_ROOTS:
        raise InvalidSchema(f"not a Paimon type: {text!r}")
    root = TypeRoot[alias]
    numbers = [int(number) for number in (first, second) if number is not None]
    if len(numbers) > (2 if root is TypeRoot.DECIMAL else 1 if root in _WITH_LENGTH | set(_MAX_PRECISION) else 0):
        raise InvalidSchema(f"type {text!r} takes fewer numbers")
    if root in _WITH_LENGTH:
        return _checked_length(DataType(root=root, length=numbers[0] if numbers else 1), text)
    if root in _MAX_PRECISION:
        precision = numbers[0] if numbers else _DEFAULT_PRECISION[root]
        scale = (numbers[1] if len(numbers) > 1 else 0) if root is TypeRoot.DECIMAL else None
        return _checked_precision(DataType(root=root, precision=precision, scale=scale), text)
    return DataType(root=root)


def _checked_length(data_type: DataType, text: str) -> DataType:
    if data_type.length is None or not 1 <= data_type.length <= MAX_LENGTH:
        raise InvalidSchema(f"type {text!r}: the length must be between 1 and {MAX_LENGTH}")
    return data_type


def _checked_precision(data_type: DataType, text: str) -> DataType:
    precision, most = data_type.precision or 0, _MAX_PRECISION[data_type.root]
    least = 1 if data_type.root is TypeRoot.DECIMAL else 0
    if not least <= precision <= most:
        raise InvalidSchema(f"type {text!r}: the precision must be between {least} and {most}")
    if data_type.scale is not None and data_type.scale > precision:
        raise InvalidSchema(f"type {text!r}: the scale must be between 0 and the precision")
    return data_type


def _parse_nested(root: TypeRoot, inner: str, text: str) -> DataType:
    parts = _split_top_level(inner)
    if root is TypeRoot.ROW:
        fields = tuple(_parse_row_field(position, part) for position, part in enumerate(parts))
        return DataType(root=root, fields=fields)
    if len(parts) != (2 if root is TypeRoot.MAP else 1):
        raise InvalidSchema(f"not a Paimon type: {text!r}")
    types = [parse_type(part) for part in parts]
    if root is TypeRoot.MAP:
        return DataType(root=root, key=types[0], value=types[1])
    return DataType(root=root, element=types[0])


def _parse_row_field(position: int, part: str) -> DataField:
    match = re.match(r"^\s*(?:`((?:[^`]|``)+)`|(\w+))\s*:?\s*(.+)$", part, re.DOTALL)
    if match is None:
        raise InvalidSchema(f"not a field of a ROW: {part!r}")
    quoted, plain, type_text = match.groups()
    name = quoted.replace("``", "`") if quoted else plain
    return DataField(id=position, name=name, type=parse_type(type_text))


def _split_top_level(text: str) -> list[str]:
    parts, depth, start, quoted = [], 0, 0, False
    for index, char in enumerate(text):
        if char == "`":
            quoted = not quoted
        elif not quoted:
            depth += {"<": 1, "(": 1, ">": -1, ")": -1}.get(char, 0)
            if char == "," and depth == 0:
                parts.append(text[start:index])
                start = index + 1
    return [part.strip() for part in (*parts, text[start:]) if part.strip()]

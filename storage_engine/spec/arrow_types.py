"""Arrow types → column types: the other direction of ``DataType.to_arrow``."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pyarrow as pa
import pyarrow.types as arrow

from storage_engine.errors import InvalidSchema
from storage_engine.spec.types import MAX_LENGTH, DataField, DataType, TypeRoot

_TIME_PRECISION = {"s": 0, "ms": 3, "us": 3, "ns": 3}
_TIMESTAMP_PRECISION = {"s": 0, "ms": 3, "us": 6, "ns": 9}
_PLAIN: Sequence[tuple[Callable[[pa.DataType], bool], TypeRoot]] = (
    (arrow.is_boolean, TypeRoot.BOOLEAN),
    (arrow.is_int8, TypeRoot.TINYINT),
    (arrow.is_int16, TypeRoot.SMALLINT),
    (arrow.is_int32, TypeRoot.INT),
    (arrow.is_int64, TypeRoot.BIGINT),
    (arrow.is_float16, TypeRoot.FLOAT),
    (arrow.is_float32, TypeRoot.FLOAT),
    (arrow.is_float64, TypeRoot.DOUBLE),
    (arrow.is_date, TypeRoot.DATE),
)
_STRINGS = (arrow.is_string, arrow.is_large_string, arrow.is_string_view)
_BINARIES = (arrow.is_binary, arrow.is_large_binary, arrow.is_binary_view)
_LISTS = (arrow.is_list, arrow.is_large_list, arrow.is_fixed_size_list, arrow.is_list_view)


def fields_from_arrow(schema: pa.Schema) -> tuple[DataField, ...]:
    """The columns of an Arrow schema, ids as positions. Raises InvalidSchema for a type that Paimon does not have."""
    return tuple(_field(position, column) for position, column in enumerate(schema))


def _field(position: int, column: pa.Field) -> DataField:
    found = type_from_arrow(column.type, column=column.name)
    return DataField(id=position, name=column.name, type=found.with_nullable(column.nullable))


def type_from_arrow(data_type: pa.DataType, *, column: str) -> DataType:
    """One type; ``column`` is for the message. Raises InvalidSchema."""
    for matches, root in _PLAIN:
        if matches(data_type):
            return DataType(root=root)
    if any(matches(data_type) for matches in _STRINGS):
        return DataType(root=TypeRoot.VARCHAR, length=MAX_LENGTH)
    if any(matches(data_type) for matches in _BINARIES):
        return DataType(root=TypeRoot.VARBINARY, length=MAX_LENGTH)
    if arrow.is_fixed_size_binary(data_type):
        return DataType(root=TypeRoot.BINARY, length=data_type.byte_width)
    if arrow.is_dictionary(data_type):
        return type_from_arrow(data_type.value_type, column=column)
    return _with_precision(data_type) or _nested(data_type, column) or _refused(data_type, column)


def _with_precision(data_type: pa.DataType) -> DataType | None:
    if arrow.is_decimal(data_type) and 0 <= data_type.scale <= data_type.precision <= 38:
        return DataType(root=TypeRoot.DECIMAL, precision=data_type.precision, scale=data_type.scale)
    if arrow.is_time(data_type):
        return DataType(root=TypeRoot.TIME, precision=_TIME_PRECISION[data_type.unit])
    if arrow.is_timestamp(data_type):
        root = TypeRoot.TIMESTAMP if data_type.tz is None else TypeRoot.TIMESTAMP_LTZ
        return DataType(root=root, precision=_TIMESTAMP_PRECISION[data_type.unit])
    return None


def _nested(data_type: pa.DataType, column: str) -> DataType | None:
    if any(matches(data_type) for matches in _LISTS):
        element = type_from_arrow(data_type.value_type, column=column)
        return DataType(root=TypeRoot.ARRAY, element=element.with_nullable(data_type.value_field.nullable))
    if arrow.is_map(data_type):
        key = type_from_arrow(data_type.key_type, column=column).with_nullable(False)
        value = type_from_arrow(data_type.item_type, column=column)
        return DataType(root=TypeRoot.MAP, key=key, value=value.with_nullable(data_type.item_field.nullable))
    if arrow.is_struct(data_type) and data_type.num_fields:
        fields = tuple(_field(position, data_type.field(position)) for position in range(data_type.num_fields))
        return DataType(root=TypeRoot.ROW, fields=fields)
    return None


def _refused(data_type: pa.DataType, column: str) -> DataType:
    raise InvalidSchema(
        f"column {column!r}: the Arrow type {data_type} has no counterpart in Paimon; cast it (unsigned integers to signed ones)"
    )

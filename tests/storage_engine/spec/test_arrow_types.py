"""Arrow schemas as columns."""

from __future__ import annotations

import pyarrow as pa
import pytest

from storage_engine.errors import InvalidSchema
from storage_engine.spec.arrow_types import fields_from_arrow, type_from_arrow
from storage_engine.spec.types import parse_type


@pytest.mark.parametrize(
    ("arrow", "sql"),
    [
        (pa.bool_(), "BOOLEAN"),
        (pa.int8(), "TINYINT"),
        (pa.int16(), "SMALLINT"),
        (pa.int32(), "INT"),
        (pa.int64(), "BIGINT"),
        (pa.float16(), "FLOAT"),
        (pa.float32(), "FLOAT"),
        (pa.float64(), "DOUBLE"),
        (pa.decimal128(20, 4), "DECIMAL(20, 4)"),
        (pa.decimal256(38, 0), "DECIMAL(38, 0)"),
        (pa.string(), "STRING"),
        (pa.large_string(), "STRING"),
        (pa.string_view(), "STRING"),
        (pa.dictionary(pa.int32(), pa.string()), "STRING"),
        (pa.binary(), "BYTES"),
        (pa.large_binary(), "BYTES"),
        (pa.binary(3), "BINARY(3)"),
        (pa.date32(), "DATE"),
        (pa.date64(), "DATE"),
        (pa.time32("s"), "TIME"),
        (pa.time64("us"), "TIME(3)"),
        (pa.timestamp("s"), "TIMESTAMP(0)"),
        (pa.timestamp("ms"), "TIMESTAMP(3)"),
        (pa.timestamp("us"), "TIMESTAMP"),
        (pa.timestamp("ns"), "TIMESTAMP(9)"),
        (pa.timestamp("us", "Europe/Berlin"), "TIMESTAMP_LTZ"),
        (pa.list_(pa.field("item", pa.int32(), nullable=False)), "ARRAY<INT NOT NULL>"),
        (pa.large_list(pa.string()), "ARRAY<STRING>"),
        (pa.list_(pa.int8(), 3), "ARRAY<TINYINT>"),
        (pa.map_(pa.string(), pa.int64()), "MAP<STRING NOT NULL, BIGINT>"),
    ],
)
def test_types(arrow: pa.DataType, sql: str):
    assert type_from_arrow(arrow, column="c") == parse_type(sql)


def test_structs_keep_names_and_nullability():
    struct = pa.struct([pa.field("a", pa.int32(), nullable=False), pa.field("b", pa.struct([("c", pa.string())]))])
    assert str(type_from_arrow(struct, column="s")) == "ROW<`a` INT NOT NULL, `b` ROW<`c` STRING>>"


def test_columns_keep_order_and_nullability():
    fields = fields_from_arrow(pa.schema([pa.field("b", pa.int32(), nullable=False), pa.field("a", pa.string())]))
    assert [(field.name, str(field.type)) for field in fields] == [("b", "INT NOT NULL"), ("a", "STRING")]


@pytest.mark.parametrize(
    "arrow",
    [pa.uint8(), pa.uint64(), pa.null(), pa.duration("ms"), pa.decimal256(39, 0), pa.decimal128(5, -1), pa.struct([]),
     pa.list_(pa.uint8()), pa.month_day_nano_interval()],
)  # fmt: skip
def test_types_without_counterpart_are_refused_by_column(arrow: pa.DataType):
    with pytest.raises(InvalidSchema, match=r"column 'c'.*has no counterpart"):
        type_from_arrow(arrow, column="c")

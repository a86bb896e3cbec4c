"""Users' frames: what fits is taken exactly, and everything else is refused with its row."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any

import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage_engine.errors import InvalidRows
from storage_engine.kernel.conform import bad_rows, conform
from storage_engine.spec.schema import VALUE_KIND, TableSchema, create_schema
from storage_engine.spec.types import DataField, parse_type
from tests.storage_engine.kernel.merge_models import schema_of

SEOUL = timezone(timedelta(hours=9))
NOON = datetime(2024, 1, 1, 12)


def taken(values: pl.Series, text: str) -> pl.Series:
    """A column of a table after its values were given as ``values``."""
    schema = schema_of({"k": "INT", "v": text})
    keys = pl.int_range(len(values), dtype=pl.Int32, eager=True)
    conformed = conform(pl.DataFrame([keys.alias("k"), values.alias("v")]), schema, table="ods.t")
    assert conformed.schema["v"] == schema.polars_schema["v"]
    return conformed["v"]


def refusal(frame: Any, schema: TableSchema) -> str:
    with pytest.raises(InvalidRows) as caught:
        conform(frame, schema, table="ods.t")
    assert "ods.t" in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("given_values", "text", "expected"),
    [
        (pl.Series([1, None, -128], dtype=pl.Int64), "TINYINT", [1, None, -128]),
        (pl.Series([2**63 - 1], dtype=pl.UInt64), "BIGINT", [2**63 - 1]),
        (pl.Series([5], dtype=pl.Int8), "DOUBLE", [5.0]),
        (pl.Series([1.5, float("nan")], dtype=pl.Float32), "DOUBLE", [1.5, float("nan")]),
        (pl.Series([0.5, None]), "FLOAT", [0.5, None]),
        (pl.Series([Decimal("1.50")], dtype=pl.Decimal(38, 2)), "DECIMAL(20, 4)", [Decimal("1.5000")]),
        (pl.Series([Decimal("1.500000")], dtype=pl.Decimal(38, 6)), "DECIMAL(20, 4)", [Decimal("1.5000")]),
        (pl.Series([7, None]), "DECIMAL(5, 2)", [Decimal("7.00"), None]),
        (pl.Series(["a", "b"], dtype=pl.Categorical), "STRING", ["a", "b"]),
        (pl.Series(["a", None], dtype=pl.Enum(["a"])), "CHAR(1)", ["a", None]),
        (pl.Series(["äöü"]), "VARCHAR(3)", ["äöü"]),
        (pl.Series([b"\x00\xff"]), "BINARY(2)", [b"\x00\xff"]),
        (pl.Series([date(2024, 1, 1)]), "TIMESTAMP(3)", [datetime(2024, 1, 1)]),
        (pl.Series([NOON], dtype=pl.Datetime("us")), "TIMESTAMP(3)", [NOON]),
        (pl.Series([NOON], dtype=pl.Datetime("ms")), "TIMESTAMP(6)", [NOON]),
        (pl.Series([NOON]), "TIMESTAMP(3) WITH LOCAL TIME ZONE", [NOON.replace(tzinfo=UTC)]),
        (pl.Series([NOON], dtype=pl.Datetime("us", "UTC")), "TIMESTAMP(3)", [NOON]),
        (
            pl.Series([NOON.replace(tzinfo=SEOUL)]).dt.convert_time_zone("Asia/Seoul"),
            "TIMESTAMP(3) WITH LOCAL TIME ZONE",
            [NOON.replace(hour=3, tzinfo=UTC)],
        ),
        (pl.Series([time(1, 2, 3, 4000)]), "TIME(3)", [time(1, 2, 3, 4000)]),
        (pl.Series([None, None]), "ROW<a INT>", [None, None]),
        (pl.Series([[1], None, []]), "ARRAY<INT>", [[1], None, []]),
        (pl.Series([[1, 2]], dtype=pl.Array(pl.Int8, 2)), "ARRAY<BIGINT>", [[1, 2]]),
        (pl.Series([{"b": "x", "a": 1}, None]), "ROW<a INT, b STRING>", [{"a": 1, "b": "x"}, None]),
        (pl.Series([{"a": 1}]), "ROW<a INT, b STRING>", [{"a": 1, "b": None}]),
        (pl.Series([[{"value": 1, "key": "x"}]]), "MAP<STRING, INT>", [[{"key": "x", "value": 1}]]),
        (pl.Series([[[NOON]]], dtype=pl.List(pl.List(pl.Datetime("ms")))), "ARRAY<ARRAY<TIMESTAMP(6)>>", [[[NOON]]]),
    ],
    ids=lambda value: str(value).replace("\n", " ")[:40],
)
def test_values_that_fit_are_taken_exactly(given_values: pl.Series, text: str, expected: list[Any]) -> None:
    assert taken(given_values, text).equals(
        pl.Series("v", expected, dtype=parse_type(text).to_polars()), null_equal=True
    )


@pytest.mark.parametrize(
    ("values", "text", "said"),
    [
        (pl.Series([1, 128]), "TINYINT", "128"),
        (pl.Series([1, 2**63], dtype=pl.UInt64), "BIGINT", "9223372036854775808"),
        (pl.Series([1, 2**53 + 1]), "DOUBLE", "9007199254740993"),
        (pl.Series([1.5, 0.1]), "FLOAT", "0.1"),
        (pl.Series([Decimal("1.2"), Decimal("1.23456")]), "DECIMAL(20, 4)", "1.23456"),
        (pl.Series([Decimal(1), Decimal(1000)]), "DECIMAL(5, 2)", "1000"),
        (pl.Series([1, 1000]), "DECIMAL(5, 2)", "1000"),
        (pl.Series(["abc", "abcd"]), "VARCHAR(3)", "'abcd'"),
        (pl.Series([b"a", b"abcd"]), "BINARY(3)", "b'abcd'"),
        (pl.Series([NOON, NOON.replace(microsecond=1)]), "TIMESTAMP(3)", "TIMESTAMP"),
        (pl.Series([NOON, datetime(9999, 1, 1)]), "TIMESTAMP(9)", "9999"),
        (pl.Series([time(1), time(1, 0, 0, 1)]), "TIME(3)", "TIME"),
        (pl.Series([[1], [2**31]]), "ARRAY<INT>", "2147483648"),
        (pl.Series([[{"key": "a", "value": 1}], [{"key": None, "value": 1}]]), "MAP<STRING, INT>", "null key"),
    ],
    ids=lambda value: str(value).replace("\n", " ")[:40],
)
def test_values_that_do_not_fit_are_refused_with_their_row(values: pl.Series, text: str, said: str) -> None:
    schema = schema_of({"k": "INT", "v": text})
    message = refusal(pl.DataFrame({"k": [1, 2], "v": values}), schema)
    assert "column 'v', row 1" in message
    assert said in message


@pytest.mark.parametrize(
    ("values", "text"),
    [
        (pl.Series([1.0]), "INT"),
        (pl.Series([1.5]), "DECIMAL(20, 4)"),
        (pl.Series([Decimal(1)]), "DOUBLE"),
        (pl.Series(["1"]), "INT"),
        (pl.Series([1]), "STRING"),
        (pl.Series([True]), "INT"),
        (pl.Series([1]), "BOOLEAN"),
        (pl.Series(["a"]), "BYTES"),
        (pl.Series([NOON]), "DATE"),
        (pl.Series([timedelta(1)]), "BIGINT"),
        (pl.Series([NOON], dtype=pl.Datetime("us")).dt.replace_time_zone("Asia/Seoul"), "TIMESTAMP(3)"),
        (pl.Series([1]), "ARRAY<INT>"),
        (pl.Series([{"a": 1, "c": 2}]), "ROW<a INT, b INT>"),
        (pl.Series([[1.5]]), "ARRAY<INT>"),
        (pl.Series([[NOON]]), "ARRAY<TIMESTAMP(3)>"),
        (pl.Series([object()]), "INT"),
    ],
    ids=lambda value: str(value).replace("\n", " ")[:40],
)
def test_values_of_another_kind_are_refused(values: pl.Series, text: str) -> None:
    message = refusal(pl.DataFrame({"k": [1], "v": values}), schema_of({"k": "INT", "v": text}))
    assert "column 'v'" in message
    assert str(values.dtype) in message


@given(st.lists(st.none() | st.integers(-(2**33), 2**33), min_size=1))
def test_whole_numbers_are_taken_or_refused_never_changed(values: list[int | None]) -> None:
    schema = schema_of({"k": "INT", "v": "INT"})
    frame = pl.DataFrame({"k": range(len(values)), "v": pl.Series(values, dtype=pl.Int64)})
    outside = [row for row, value in enumerate(values) if value is not None and not -(2**31) <= value < 2**31]
    assert bad_rows(frame, schema)["row"].to_list() == outside
    if outside:
        assert f"row {outside[0]}:" in refusal(frame, schema)
    else:
        assert conform(frame, schema, table="ods.t")["v"].to_list() == values


def test_columns_come_in_the_order_of_the_schema_and_missing_ones_are_null() -> None:
    schema = schema_of({"a": "INT", "k": "BIGINT", "b": "ARRAY<INT>"})
    conformed = conform(pl.LazyFrame({"k": [1], "a": pl.Series([2], dtype=pl.Int32)}), schema, table="ods.t")
    assert conformed.columns == ["a", "k", "b", VALUE_KIND]
    assert conformed.rows() == [(2, 1, None, 0)]
    assert dict(conformed.schema) == {**schema.polars_schema, VALUE_KIND: pl.Int8}


def test_arrow_tables_are_taken_with_maps_and_dictionaries() -> None:
    schema = schema_of({"k": "STRING", "m": "MAP<STRING, BIGINT>", "d": "DECIMAL(10, 1)"})
    table = pa.table(
        {
            "k": pa.array(["a"]).dictionary_encode(),
            "m": pa.array([[("x", 1)]], pa.map_(pa.string(), pa.int32())),
            "d": pa.array([Decimal("1.5")], pa.decimal256(50, 1)),
        }
    )
    assert conform(table, schema, table="ods.t").rows() == [("a", [{"key": "x", "value": 1}], Decimal("1.5"), 0)]


def test_arrow_columns_that_cannot_be_read_are_named() -> None:
    schema = schema_of({"k": "INT"})
    interval = pa.table({"k": pa.array([(1, 2, 3)], pa.month_day_nano_interval())})
    assert "'k'" in refusal(interval, schema)
    assert "there twice" in refusal(pa.table([[1], [2]], names=["k", "k"]), schema)
    assert "list" in refusal([1], schema)


def test_columns_must_be_those_of_the_table() -> None:
    schema = schema_of({"k": "INT", "must": "INT NOT NULL", "may": "INT"})
    assert "'other'" in refusal(pl.DataFrame({"k": [1], "must": [1], "other": [1]}), schema)
    assert "'must', which is NOT NULL" in refusal(pl.DataFrame({"k": [1]}), schema)
    assert "primary key" in refusal(pl.DataFrame({"must": [1]}), schema)
    assert "column 'must', row 1: value None" in refusal(pl.DataFrame({"k": [1, 2], "must": [1, None]}), schema)
    assert "column 'k', row 0" in refusal(pl.DataFrame({"k": [None, 2], "must": [1, None]}), schema)


def test_nulls_take_the_default_value() -> None:
    fields = [
        DataField(id=0, name="k", type=parse_type("INT")),
        DataField(id=1, name="n", type=parse_type("INT NOT NULL"), default_value="7"),
        DataField(id=2, name="d", type=parse_type("DECIMAL(9, 2)"), default_value="1.5"),
        DataField(id=3, name="t", type=parse_type("TIMESTAMP(3)"), default_value="2024-01-01 12:00:00"),
    ]
    schema = create_schema(fields, primary_keys=["k"])
    frame = pl.DataFrame({"k": [1, 2], "n": [None, 3]})
    expected = [(1, 7, Decimal("1.50"), NOON, 0), (2, 3, Decimal("1.50"), NOON, 0)]
    assert conform(frame, schema, table="ods.t").rows() == expected


def test_row_kinds_come_from_their_column() -> None:
    schema = schema_of({"k": "INT"})
    frame = pl.DataFrame({"k": [1, 2, 3, 4], "_row_kind": ["+I", "-U", "+U", "-D"]})
    assert conform(frame, schema, table="ods.t")[VALUE_KIND].to_list() == [0, 1, 2, 3]
    categories = frame.cast({"_row_kind": pl.Categorical})
    assert conform(categories, schema, table="ods.t")[VALUE_KIND].to_list() == [0, 1, 2, 3]
    for wrong in ("I", "", None):
        message = refusal(
            pl.DataFrame({"k": [1, 2], "_row_kind": ["+I", wrong]}, schema_overrides={"_row_kind": pl.String}), schema
        )
        assert "'_row_kind', row 1" in message
    assert "holds no row kinds" in refusal(pl.DataFrame({"k": [1], "_row_kind": [0]}), schema)


def test_a_table_column_may_hold_the_row_kind() -> None:
    schema = schema_of({"k": "INT", "op": "STRING"}, {"rowkind.field": "op"})
    conformed = conform(pl.DataFrame({"k": [1, 2], "op": ["+I", "-D"]}), schema, table="ods.t")
    assert conformed.rows() == [(1, "+I", 0), (2, "-D", 3)]
    assert "'op', row 0" in refusal(pl.DataFrame({"k": [1], "op": [None]}, schema_overrides={"op": pl.String}), schema)


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        ({}, [0, 1, 2, 3]),
        ({"ignore-delete": "true"}, [0, 2]),
        ({"ignore-update-before": "true"}, [0, 2, 3]),
        ({"merge-engine": "first-row", "ignore-delete": "true"}, [0, 2]),
    ],
    ids=str,
)
def test_kinds_that_the_options_ignore_are_left_out(options: dict[str, str], kept: list[int]) -> None:
    frame = pl.DataFrame({"k": [1, 2, 3, 4], "_row_kind": ["+I", "-U", "+U", "-D"]})
    assert conform(frame, schema_of({"k": "INT"}, options), table="ods.t")[VALUE_KIND].to_list() == kept


def test_retracts_that_the_table_could_never_merge_are_refused_before_they_are_written() -> None:
    frame = pl.DataFrame({"k": [1, 2], "v": [1, 2], "_row_kind": ["+I", "-D"]})
    columns = {"k": "INT", "v": "INT"}
    aggregation = {"merge-engine": "aggregation", "fields.v.aggregate-function": "max"}
    assert "'fields.v.ignore-retract'" in refusal(frame, schema_of(columns, aggregation))
    assert "row 1" in refusal(frame, schema_of(columns, {"merge-engine": "partial-update"}))
    assert "primary key" in refusal(frame, schema_of(columns, primary_keys=()))
    ignoring = schema_of(columns, {**aggregation, "fields.v.ignore-retract": "true"})
    assert conform(frame, ignoring, table="ods.t").height == 2


def test_bad_rows_are_all_told_with_their_reasons() -> None:
    schema = schema_of({"k": "INT", "v": "VARCHAR(2)", "n": "DECIMAL(5, 2)"})
    frame = pl.DataFrame(
        {
            "k": [1, None, 3, 4],
            "v": ["ab", "abc", "x", "abcd"],
            "n": [Decimal("1.001"), None, Decimal("1.00"), None],
            "_row_kind": ["+I", "+I", "+I", "?"],
        }
    )
    found = bad_rows(frame, schema)
    assert found.select("row", "column").rows() == [(0, "n"), (1, "k"), (1, "v"), (3, "v"), (3, "_row_kind")]
    assert found["value"].to_list()[2:4] == ["'abc'", "'abcd'"]
    good = frame.with_row_index("row").join(found, on="row", how="anti").drop("row")
    assert conform(good, schema, table="ods.t")["k"].to_list() == [3]
    assert bad_rows(good, schema).schema == found.schema


def test_a_frame_that_fits_already_keeps_its_memory() -> None:
    schema = schema_of({"k": "BIGINT", "v": "STRING"})
    frame = pl.DataFrame({"k": [1, 2], "v": ["a", None]})
    assert conform(frame, schema, table="ods.t").drop(VALUE_KIND).equals(frame)


def test_an_empty_frame_conforms() -> None:
    schema = schema_of({"k": "BIGINT", "v": "ARRAY<ROW<a INT>>"})
    conformed = conform(pl.DataFrame({"k": []}), schema, table="ods.t")
    assert conformed.height == 0
    assert dict(conformed.schema) == {**schema.polars_schema, VALUE_KIND: pl.Int8}

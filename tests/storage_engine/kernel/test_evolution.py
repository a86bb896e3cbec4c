"""Old files seen through a newer schema."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any

import polars as pl
import pytest

from storage_engine.errors import InvalidRows, Unsupported
from storage_engine.kernel.evolution import read_as
from storage_engine.kernel.literals import parse_literal
from storage_engine.spec.schema import SEQUENCE_NUMBER, VALUE_KIND, TableSchema
from storage_engine.spec.types import DataField, DataType, TypeRoot, parse_type
from tests.storage_engine.kernel.merge_models import schema_of


def evolved(schema: TableSchema, **fields: DataField) -> TableSchema:
    """The next version of a schema with exactly these columns."""
    columns = tuple(replace(field, name=name) for name, field in fields.items())
    return replace(schema, id=schema.id + 1, fields=columns)


def seen(values: pl.Series, old: str, new: str) -> pl.Series:
    """Values of a column of an old type, read as a new one."""
    before = schema_of({"v": old}, primary_keys=())
    after = evolved(before, v=DataField(id=0, name="v", type=parse_type(new)))
    result = read_as(values.alias("v").to_frame(), before, after, ["v"])
    assert result.schema == after.polars_schema
    return result["v"]


@pytest.mark.parametrize("lazy", [False, True])
def test_columns_are_matched_by_id(lazy: bool) -> None:
    old = schema_of({"k": "INT", "a": "STRING", "b": "INT", "gone": "INT"})
    new = evolved(
        old,
        b=replace(old.by_name["a"]),
        k=old.by_name["k"],
        c=replace(old.by_name["b"]),
        gone=DataField(id=4, name="gone", type=parse_type("DATE"), default_value="2024-01-01"),
    )
    system = {SEQUENCE_NUMBER: [5], VALUE_KIND: pl.Series([0], dtype=pl.Int8)}
    frame = pl.DataFrame(
        {**system, "k": [1], "a": ["x"], "b": [2], "gone": [3]}, schema_overrides=dict(old.polars_schema)
    )
    result = (
        read_as(frame.lazy(), old, new, ["gone", "b", "c"]).collect()
        if lazy
        else read_as(frame, old, new, ["gone", "b", "c"])
    )
    assert result.columns == [SEQUENCE_NUMBER, VALUE_KIND, "gone", "b", "c"]
    assert result.rows() == [(5, 0, None, "x", 2)]
    assert result.schema["gone"] == pl.Date


def test_a_column_that_was_not_loaded_is_null() -> None:
    schema = schema_of({"k": "INT", "v": "DECIMAL(9, 2)"})
    result = read_as(pl.DataFrame({"k": pl.Series([1], dtype=pl.Int32)}), schema, schema, ["k", "v"])
    assert result.rows() == [(1, None)]
    assert result.schema["v"] == pl.Decimal(9, 2)


NOON = datetime(2024, 1, 1, 12, 30, 15, 123456)


@pytest.mark.parametrize(
    ("values", "old", "new", "expected"),
    [
        (pl.Series([1, None, -1], dtype=pl.Int32), "INT", "BIGINT", [1, None, -1]),
        (pl.Series([2**40 + 5, -1]), "BIGINT", "INT", [5, -1]),
        (pl.Series([300], dtype=pl.Int32), "INT", "TINYINT", [44]),
        (
            pl.Series([1.9, -1.9, float("nan"), 1e300, -1e300, None]),
            "DOUBLE",
            "INT",
            [1, -1, 0, 2**31 - 1, -(2**31), None],
        ),
        (pl.Series([1e300, -1e300]), "DOUBLE", "BIGINT", [2**63 - 1, -(2**63)]),
        (pl.Series([1, 2], dtype=pl.Int32), "INT", "DOUBLE", [1.0, 2.0]),
        (pl.Series([1, 1000], dtype=pl.Int32), "INT", "DECIMAL(5, 2)", [Decimal("1.00"), None]),
        (pl.Series([Decimal("1.25")], dtype=pl.Decimal(9, 2)), "DECIMAL(9, 2)", "DECIMAL(9, 1)", [Decimal("1.3")]),
        (
            pl.Series([1.005, -0.125, 1e7, float("nan")]),
            "DOUBLE",
            "DECIMAL(9, 2)",
            [Decimal("1.01"), Decimal("-0.13"), None, None],
        ),
        (pl.Series([1e30]), "DOUBLE", "DECIMAL(38, 0)", [Decimal(10**30)]),
        (pl.Series([Decimal("-1.99")], dtype=pl.Decimal(9, 2)), "DECIMAL(9, 2)", "INT", [-1]),
        (pl.Series([Decimal("1.50")], dtype=pl.Decimal(9, 2)), "DECIMAL(9, 2)", "DOUBLE", [1.5]),
        (pl.Series([Decimal("1.50")], dtype=pl.Decimal(9, 2)), "DECIMAL(9, 2)", "STRING", ["1.50"]),
        (pl.Series([True, False, None]), "BOOLEAN", "STRING", ["true", "false", None]),
        (pl.Series([True, False]), "BOOLEAN", "INT", [1, 0]),
        (pl.Series([0, 7], dtype=pl.Int32), "INT", "BOOLEAN", [False, True]),
        (pl.Series([-7], dtype=pl.Int32), "INT", "STRING", ["-7"]),
        (pl.Series([12345], dtype=pl.Int32), "INT", "VARCHAR(3)", ["123"]),
        (pl.Series(["abcdef", "é"]), "STRING", "VARCHAR(2)", ["ab", "é"]),
        (pl.Series([" 12 ", None]), "STRING", "INT", [12, None]),
        (pl.Series(["1.5"]), "STRING", "DECIMAL(9, 2)", [Decimal("1.50")]),
        (pl.Series(["TRUE", "n", "0"]), "STRING", "BOOLEAN", [True, False, False]),
        (pl.Series(["2024-01-31"]), "STRING", "DATE", [date(2024, 1, 31)]),
        (
            pl.Series(["2024-01-01T12:30:15.123456", "2024-01-01"]),
            "STRING",
            "TIMESTAMP(6)",
            [NOON, datetime(2024, 1, 1)],
        ),
        (pl.Series(["12:30:15.5"]), "STRING", "TIME(3)", [time(12, 30, 15, 500000)]),
        (pl.Series([date(2024, 1, 31)]), "DATE", "STRING", ["2024-01-31"]),
        (pl.Series([date(2024, 1, 31)]), "DATE", "TIMESTAMP(3)", [datetime(2024, 1, 31)]),
        (pl.Series([NOON]), "TIMESTAMP(6)", "TIMESTAMP(3)", [NOON.replace(microsecond=123000)]),
        (pl.Series([NOON]), "TIMESTAMP(6)", "DATE", [NOON.date()]),
        (pl.Series([NOON]), "TIMESTAMP(6)", "TIME(3)", [NOON.time()]),
        (pl.Series([NOON]), "TIMESTAMP(6)", "STRING", ["2024-01-01 12:30:15.123456"]),
        (pl.Series([NOON]), "TIMESTAMP(6)", "TIMESTAMP(6) WITH LOCAL TIME ZONE", [NOON.replace(tzinfo=UTC)]),
        (pl.Series([b"abc"]), "BYTES", "VARBINARY(2)", [b"ab"]),
        (pl.Series(["ab"]), "STRING", "BYTES", [b"ab"]),
        (pl.Series([[1, None]], dtype=pl.List(pl.Int32)), "ARRAY<INT>", "ARRAY<STRING>", [["1", None]]),
        (
            pl.Series([[{"key": "a", "value": 1}], None], dtype=parse_type("MAP<STRING, INT>").to_polars()),
            "MAP<STRING, INT>",
            "MAP<STRING, BIGINT>",
            [[{"key": "a", "value": 1}], None],
        ),
    ],
    ids=lambda value: str(value).replace("\n", " ")[:40],
)
def test_types_are_cast_as_paimon_casts_them(values: pl.Series, old: str, new: str, expected: list[Any]) -> None:
    assert seen(values, old, new).to_list() == expected


@pytest.mark.parametrize(
    ("values", "text"),
    [
        (pl.Series([NOON], dtype=pl.Datetime("ns")), "TIMESTAMP(6)"),
        (pl.Series([NOON]).dt.replace_time_zone("UTC"), "TIMESTAMP(6)"),
        (pl.Series([NOON]), "TIMESTAMP(6) WITH LOCAL TIME ZONE"),
        (pl.Series([{"a": 1}], dtype=pl.Struct({"a": pl.Int64})), "ROW<a INT>"),
        (pl.Series([1], dtype=pl.Int32), "TINYINT"),
        (pl.Series([{"a": 1}], dtype=pl.Map(pl.String, pl.Int32)), "MAP<STRING, INT>"),
        (pl.Series([Decimal("1.50")], dtype=pl.Decimal(38, 2)), "DECIMAL(9, 2)"),
    ],
    ids=lambda value: str(value).replace("\n", " ")[:40],
)
def test_what_a_file_format_made_of_a_type_is_put_right(values: pl.Series, text: str) -> None:
    assert seen(values, text, text).len() == 1


def test_fields_of_rows_are_matched_by_id_too() -> None:
    old = schema_of({"r": "ROW<a INT, b STRING>"}, primary_keys=())
    inner = {field.name: field for field in old.fields[0].type.fields}
    row = DataType(
        root=TypeRoot.ROW,
        fields=(
            replace(inner["b"], name="c"),
            DataField(id=9, name="b", type=parse_type("INT")),
            replace(inner["a"], type=parse_type("BIGINT")),
        ),
    )
    new = evolved(old, r=replace(old.fields[0], type=row))
    frame = pl.DataFrame({"r": [{"a": 1, "b": "x"}, None]}, schema=old.polars_schema)
    assert read_as(frame, old, new, ["r"])["r"].to_list() == [{"c": "x", "b": None, "a": 1}, None]


def test_a_stored_value_without_a_value_in_the_new_type_is_told() -> None:
    with pytest.raises(InvalidRows, match="schema 0"):
        seen(pl.Series(["not a number"]), "STRING", "INT")
    with pytest.raises(InvalidRows, match="schema 0"):
        seen(pl.Series(["perhaps"]), "STRING", "BOOLEAN")


def test_a_change_of_type_that_is_not_done_is_refused() -> None:
    with pytest.raises(Unsupported, match="ARRAY<INT>"):
        seen(pl.Series([1], dtype=pl.Int32), "INT", "ARRAY<INT>")


def test_literals_take_the_type_of_their_column() -> None:
    assert parse_literal("7", parse_type("BIGINT")).to_list() == [7]
    assert parse_literal("x", parse_type("VARCHAR(3)")).to_list() == ["x"]
    assert parse_literal("true", parse_type("BOOLEAN")).to_list() == [True]

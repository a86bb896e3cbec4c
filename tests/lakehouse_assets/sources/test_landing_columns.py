"""Parquet files whose columns have other types than their table, beside what plain Python says of each value."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse_assets.sources.change_source import SourceBatch, SourceTable
from lakehouse_assets.sources.landing import LandingSource

REFUSED = object()
NOON = datetime(2024, 1, 5, 12, 0, 0, 123000)
FINER = datetime(2024, 1, 5, 12, 0, 0, 123456)
MIDNIGHT = datetime(2024, 1, 5)
DAY = date(2024, 1, 5)


def table_of(dtype: pl.DataType) -> SourceTable:
    columns = {"id": pl.Int64(), "value": dtype}
    return SourceTable(name="city", target="dim.city", columns=columns, required=frozenset({"id"}), key=("id",))


def landed(folder: Path, dtype: pl.DataType, values: pa.Array) -> SourceBatch:
    """What a file of these values, numbered by ``id`` from 1, becomes."""
    (folder / "city").mkdir(exist_ok=True)
    ids = pa.array(range(1, len(values) + 1), pa.int64())
    pq.write_table(pa.table({"value": values, "id": ids}), folder / "city" / "1.parquet")
    return LandingSource(str(folder)).read([(table_of(dtype), None)], max_rows=100)["city"]


def given_in(batch: SourceBatch) -> dict[int, Any]:
    """The value of each refused row, by its line, as its event tells it."""
    events = [json.loads(raw) for raw in batch.rejected["raw"]]
    assert all(list(event["after"]) == ["id", "value"] and event["op"] == "u" for event in events)
    assert [event["after"]["id"] for event in events] == batch.rejected["line"].to_list()
    return {event["after"]["id"]: event["after"]["value"] for event in events}


def dictionary(*values: object) -> pa.Array:
    return pa.array(values).dictionary_encode()


SAME: dict[str, tuple[pl.DataType, pa.Array, list[Any]]] = {
    "a small integer": (pl.Int64(), pa.array([1, None, -7], pa.int32()), [1, None, -7]),
    "an unsigned integer": (pl.Int32(), pa.array([0, 255], pa.uint8()), [0, 255]),
    "no type": (pl.Int32(), pa.nulls(2), [None, None]),
    "floats of pandas": (pl.Int32(), pa.array([1.0, None, -3.0], pa.float64()), [1, None, -3]),
    "a decimal without fraction": (pl.Int64(), pa.array([Decimal("7.00")], pa.decimal128(10, 2)), [7]),
    "a shorter decimal": (
        pl.Decimal(20, 4),
        pa.array([Decimal("12.50"), None], pa.decimal128(10, 2)),
        [Decimal("12.5000"), None],
    ),
    "a longer scale that is not used": (
        pl.Decimal(10, 2),
        pa.array([Decimal("12.5000")], pa.decimal128(10, 4)),
        [Decimal("12.50")],
    ),
    "an integer": (pl.Decimal(12, 2), pa.array([7, -1], pa.int64()), [Decimal("7.00"), Decimal("-1.00")]),
    "floats of amounts": (pl.Decimal(10, 2), pa.array([1.15, 0.1]), [Decimal("1.15"), Decimal("0.10")]),
    "texts of amounts": (pl.Decimal(10, 2), pa.array(["1.15", "-7", None]), [Decimal("1.15"), Decimal("-7.00"), None]),
    "texts of integers": (pl.Int32(), pa.array(["7", "-7", None]), [7, -7, None]),
    "texts of floats": (pl.Float64(), pa.array(["1.5", "-2e3"]), [1.5, -2000.0]),
    "decimals": (pl.Float64(), pa.array([Decimal("0.1")], pa.decimal128(4, 1)), [0.1]),
    "texts of truths": (pl.Boolean(), pa.array(["true", "False", None]), [True, False, None]),
    "a large string": (pl.String(), pa.array(["a", "ä"], pa.large_string()), ["a", "ä"]),
    "a dictionary": (pl.String(), dictionary("a", None, "a"), ["a", None, "a"]),
    "a dictionary of numbers' texts": (pl.Int64(), dictionary("7", "8"), [7, 8]),
    "bytes of text": (pl.String(), pa.array(["ä".encode(), None], pa.binary()), ["ä", None]),
    "numbers as names": (pl.String(), pa.array([7, None], pa.int64()), ["7", None]),
    "days as texts": (pl.String(), pa.array([DAY], pa.date32()), ["2024-01-05"]),
    "days of 64 bits": (pl.Date(), pa.array([DAY], pa.date64()), [DAY]),
    "midnights": (pl.Date(), pa.array([MIDNIGHT, None], pa.timestamp("ns")), [DAY, None]),
    "texts of days": (pl.Date(), pa.array(["2024-01-05"]), [DAY]),
    "microseconds": (pl.Datetime("ms"), pa.array([NOON, None], pa.timestamp("us")), [NOON, None]),
    "nanoseconds": (pl.Datetime("us"), pa.array([FINER], pa.timestamp("ns")), [FINER]),
    "seconds": (pl.Datetime("us"), pa.array([MIDNIGHT], pa.timestamp("s")), [MIDNIGHT]),
    "an instant": (pl.Datetime("ms"), pa.array([NOON], pa.timestamp("us", "UTC")), [NOON]),
    "another zone": (
        pl.Datetime("ms", "UTC"),
        pa.array([NOON], pa.timestamp("us", "Asia/Seoul")),
        [NOON.replace(tzinfo=UTC)],
    ),
    "days as times": (pl.Datetime("ms"), pa.array([DAY], pa.date32()), [MIDNIGHT]),
    "texts of times": (
        pl.Datetime("ms"),
        pa.array(["2024-01-05 12:00:00.123", "2024-01-05T12:00:00.123000Z", "2024-01-05"]),
        [NOON, NOON, MIDNIGHT],
    ),
    "shorter lists": (pl.List(pl.Int64()), pa.array([[1], None], pa.list_(pa.int8())), [[1], None]),
}


@pytest.mark.parametrize(("dtype", "values", "expected"), SAME.values(), ids=SAME.keys())
def test_types_that_say_the_same_are_cast(
    tmp_path: Path, dtype: pl.DataType, values: pa.Array, expected: list[Any]
) -> None:
    batch = landed(tmp_path, dtype, values)
    assert batch.rows["value"].dtype == dtype
    assert batch.rows["value"].to_list() == expected
    assert batch.rows["id"].to_list() == list(range(1, len(expected) + 1))
    assert batch.rejected.is_empty()


# (the table's type, the file's values, what goes on, the refused row's number, why, the value in its event)
BAD: dict[str, tuple[pl.DataType, pa.Array, list[Any], int, str, Any]] = {
    "an integer that is out of range": (
        pl.Int64(), pa.array([1, 2**63], pa.uint64()), [1], 2, f"value is no BIGINT: {2**63}", 2**63,
    ),
    "a fraction": (pl.Int32(), pa.array([1.5, 2.0]), [2], 1, "value is no INT: 1.5", 1.5),
    "no number": (pl.Int32(), pa.array([math.nan, 2.0]), [2], 1, 'value is no INT: "NaN"', "NaN"),
    "a float beyond integers": (
        pl.Int64(), pa.array([2.0**63, 7.0]), [7], 1, "value is no BIGINT: 9.223372036854776e+18", 2.0**63,
    ),
    "a decimal that is too large": (
        pl.Decimal(10, 4), pa.array([Decimal("1234567.8"), None], pa.decimal128(12, 1)), [None], 1,
        'value is no DECIMAL(10, 4): "1234567.8"', "1234567.8",
    ),
    "a decimal that would be rounded": (
        pl.Decimal(10, 2), pa.array([Decimal("1.2345"), Decimal("1.2300")], pa.decimal128(10, 4)), [Decimal("1.23")], 1,
        'value is no DECIMAL(10, 2): "1.2345"', "1.2345",
    ),
    "a float that would be rounded": (
        pl.Decimal(10, 2), pa.array([0.125, 0.12]), [Decimal("0.12")], 1, "value is no DECIMAL(10, 2): 0.125", 0.125,
    ),
    "a text that is no number": (
        pl.Int64(), pa.array(["7", "seven\n", "1.5"]), [7], 2, 'value is no BIGINT: "seven\\n"', "seven\n",
    ),
    "a text that is no amount": (
        pl.Decimal(10, 2), pa.array(["1,5", "1.5"]), [Decimal("1.50")], 1, 'value is no DECIMAL(10, 2): "1,5"', "1,5",
    ),
    "a long text": (
        pl.Int32(), pa.array(["x" * 100, "1"]), [1], 1, f'value is no INT: "{"x" * 49}', "x" * 100,
    ),
    "a dictionary's text": (pl.Int64(), dictionary("7", "x"), [7], 2, 'value is no BIGINT: "x"', "x"),
    "a text that is no truth": (pl.Boolean(), pa.array(["true", "1"]), [True], 2, 'value is no BOOLEAN: "1"', "1"),
    "a text that is no day": (
        pl.Date(), pa.array(["2024-02-30", None]), [None], 1, 'value is no DATE: "2024-02-30"', "2024-02-30",
    ),
    "a time that is no day": (
        pl.Date(), pa.array([MIDNIGHT, NOON]), [DAY], 2, 'value is no DATE: "2024-01-05T12:00:00.123000"',
        "2024-01-05T12:00:00.123000",
    ),
    "a time that is too fine": (
        pl.Datetime("ms"), pa.array([NOON, FINER]), [NOON], 2, 'value is no TIMESTAMP(3): "2024-01-05T12:00:00.123456"',
        "2024-01-05T12:00:00.123456",
    ),
    "a text of a time that is too fine": (
        pl.Datetime("ms"), pa.array(["2024-01-05 12:00:00.1231", "2024-01-05"]), [MIDNIGHT], 1,
        'value is no TIMESTAMP(3): "2024-01-05 12:00:00.1231"', "2024-01-05 12:00:00.1231",
    ),
    "a text of another zone": (
        pl.Datetime("ms"), pa.array(["2024-01-05 12:00:00+09:00", "2024-01-05"]), [MIDNIGHT], 1,
        'value is no TIMESTAMP(3): "2024-01-05 12:00:00+09:00"', "2024-01-05 12:00:00+09:00",
    ),
    "bytes that are no text": (
        pl.String(), pa.array([b"\xff\xfe", b"a", None], pa.binary()), ["a", None], 1, 'value is no STRING: "//4="', "//4=",
    ),
    "a list's number": (
        pl.List(pl.Int8()), pa.array([[1000], [1]], pa.list_(pa.int64())), [[1]], 1, "value is no ARRAY<TINYINT>: [1000]", [1000],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("dtype", "values", "kept", "line", "reason", "told"), BAD.values(), ids=BAD.keys())
def test_values_that_do_not_fit_refuse_their_rows_alone(
    tmp_path: Path, dtype: pl.DataType, values: pa.Array, kept: list[Any], line: int, reason: str, told: Any
) -> None:
    batch = landed(tmp_path, dtype, values)
    assert batch.rows["value"].dtype == dtype
    assert batch.rows["value"].to_list()[: len(kept)] == kept
    assert batch.rows.height + batch.rejected.height == len(values)
    assert set(batch.rejected["source_file"]) == {"city/1.parquet"}
    reasons = dict(batch.rejected.select("line", "reason").iter_rows())
    assert reasons[line] == reason
    assert given_in(batch)[line] == told


HOPELESS: dict[str, tuple[pl.DataType, pa.Array, list[Any]]] = {
    "lists for a number": (pl.Int64(), pa.array([[1], None]), [[1], None]),
    "rows for a text": (pl.String(), pa.array([{"a": 1, "b": "x"}]), [{"a": 1, "b": "x"}]),
    "maps for a number": (pl.Int64(), pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int64())), [{"a": 1}]),
    "truths for a number": (pl.Int64(), pa.array([True]), [True]),
    "numbers for a truth": (pl.Boolean(), pa.array([1]), [1]),
    "numbers for a time": (pl.Datetime("ms"), pa.array([1]), [1]),
    "floats for a text": (pl.String(), pa.array([1.5]), [1.5]),
    "times of day for a time": (pl.Datetime("ms"), pa.array([time(1, 2)]), ["01:02:00"]),
    "durations for a number": (pl.Int64(), pa.array([timedelta(days=1)]), ["PT86400S"]),
    "bytes for a number": (pl.Int64(), pa.array([b"ab"], pa.binary(2)), ["YWI="]),
    "lists of bytes for a number": (pl.Int64(), pa.array([[b"ab"]]), ["List(Binary)"]),
    "local times of a zone for a time": (
        pl.Datetime("ms"), pa.array([NOON], pa.timestamp("ms", "Asia/Seoul")), ["2024-01-05T21:00:00.123+09:00"],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("dtype", "values", "told"), HOPELESS.values(), ids=HOPELESS.keys())
def test_a_column_that_cannot_be_cast_refuses_all_rows(
    tmp_path: Path, dtype: pl.DataType, values: pa.Array, told: list[Any]
) -> None:
    batch = landed(tmp_path, dtype, values)
    assert batch.rows.is_empty()
    assert batch.rows["value"].dtype == dtype
    assert list(given_in(batch).values()) == told
    assert batch.rejected["reason"].str.contains("^value is no [A-Z]+.*, which .* of the file cannot become: ").all()


# -- whatever the value ------------------------------------------------------------------------------------------------

INTEGERS = st.one_of(st.integers(-(2**63), 2**63 - 1), st.integers(-(10**11), 10**11), st.integers(-300, 300))
DECIMALS = st.one_of(INTEGERS, st.integers(-(10**17), 10**17)).map(lambda number: Decimal(number).scaleb(-4))
FLOATS = st.one_of(st.floats(width=64), INTEGERS.map(float), DECIMALS.map(float))
TEXTS = st.one_of(INTEGERS.map(str), DECIMALS.map(lambda number: f"{number:f}"), st.text(max_size=5), st.just(" 7"))
KINDS: dict[str, tuple[pa.DataType, st.SearchStrategy[Any]]] = {
    "integers": (pa.int64(), INTEGERS),
    "decimals": (pa.decimal128(38, 4), DECIMALS),
    "floats": (pa.float64(), FLOATS),
    "texts": (pa.string(), TEXTS),
}
TARGETS: dict[str, tuple[pl.DataType, int, int]] = {
    "INT": (pl.Int32(), 31, 0),
    "BIGINT": (pl.Int64(), 63, 0),
    "DECIMAL(10, 2)": (pl.Decimal(10, 2), 10, 2),
    "DECIMAL(12, 6)": (pl.Decimal(12, 6), 12, 6),
}


def expected(value: Any, target: str) -> Any:
    """A value as its column's, exactly, or REFUSED."""
    dtype, size, scale = TARGETS[target]
    if value is None:
        return None
    if isinstance(value, float) and not math.isfinite(value):
        return REFUSED
    if isinstance(value, str):
        digits = value.removeprefix("-").replace(".", "", 1)
        whole, point, fraction = value.removeprefix("-").partition(".")
        if not (digits.isascii() and digits.isdigit() and whole and bool(point) == bool(fraction)):
            return REFUSED
        if len(fraction) > scale and (dtype.is_decimal() or fraction.strip("0")):
            return REFUSED
        if dtype.is_decimal() and len(whole) > size - scale:
            return REFUSED
    is_integral_float = isinstance(value, float) and dtype.is_integer()
    number = Decimal(value) if is_integral_float else Decimal(repr(value) if isinstance(value, float) else str(value))
    if dtype.is_integer():
        fits = number == number.to_integral_value() and -(2**size) <= number < 2**size
        return int(number) if fits else REFUSED
    fits = abs(number) < Decimal(10) ** (size - scale) and number == round(number, scale)
    return number if fits else REFUSED


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
def test_each_value_is_cast_exactly_or_refuses_its_row(
    tmp_path_factory: pytest.TempPathFactory, kind: str, target: str, data: st.DataObject
) -> None:
    arrow_type, values = KINDS[kind]
    given_values = data.draw(st.lists(st.none() | values, min_size=1, max_size=20))
    folder = tmp_path_factory.mktemp("landing")
    (folder / "city").mkdir()
    ids = pa.array(range(1, len(given_values) + 1), pa.int64())
    pq.write_table(pa.table({"id": ids, "value": pa.array(given_values, arrow_type)}), folder / "city" / "1.parquet")
    table = replace(table_of(TARGETS[target][0]), key=("id", "value"))  # columns of the key are not widened
    batch = LandingSource(str(folder)).read([(table, None)], max_rows=100)["city"]
    truth = {at: expected(value, target) for at, value in enumerate(given_values, 1)}
    assert dict(batch.rows.select("id", "value").iter_rows()) == {
        at: value for at, value in truth.items() if value is not REFUSED
    }
    assert batch.rejected["line"].to_list() == [at for at, value in truth.items() if value is REFUSED]
    assert batch.rejected["reason"].str.starts_with(f"value is no {target}: ").all()

"""Refused rows as JSON events, and read again: each type's values come back as they were."""

from __future__ import annotations

import struct
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lakehouse_assets.sources.change_source import OP, SourceTable
from lakehouse_assets.sources.debezium import LINE, RAW, parse
from lakehouse_assets.sources.typed_rows import LINE as PLACE
from lakehouse_assets.sources.typed_rows import REASON, SOURCE_FILE, typed_batch
from tests.effort import examples

FLOATS = st.floats(allow_nan=True, allow_infinity=True)
MOMENTS = st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31, 23, 59, 59, 999_999))
IN_RANGE = st.datetimes(datetime(1700, 1, 1), datetime(2200, 1, 1))
TYPES: dict[str, tuple[pl.DataType, st.SearchStrategy[Any]]] = {
    "double": (pl.Float64(), FLOATS),
    "float": (pl.Float32(), st.floats(width=32)),
    "tiny": (pl.Int8(), st.integers(-(2**7), 2**7 - 1)),
    "small": (pl.Int16(), st.integers(-(2**15), 2**15 - 1)),
    "int": (pl.Int32(), st.integers(-(2**31), 2**31 - 1)),
    "big": (pl.Int64(), st.integers(-(2**63), 2**63 - 1)),
    "bool": (pl.Boolean(), st.booleans()),
    "decimal": (pl.Decimal(38, 9), st.decimals(-(10**28), 10**28, places=9)),
    "text": (pl.String(), st.text(st.characters(codec="utf-8"))),
    "bytes": (pl.Binary(), st.binary()),
    "day": (pl.Date(), st.dates(date(1, 1, 1), date(9999, 12, 31))),
    "clock": (pl.Time(), st.times()),
    "ms": (
        pl.Datetime("ms"),
        MOMENTS.map(lambda moment: moment.replace(microsecond=moment.microsecond // 1000 * 1000)),
    ),
    "us": (pl.Datetime("us"), MOMENTS),
    "ns": (pl.Datetime("ns"), IN_RANGE),
    "zoned ms": (pl.Datetime("ms", "UTC"), IN_RANGE.map(lambda moment: moment.replace(microsecond=0, tzinfo=UTC))),
    "zoned us": (pl.Datetime("us", "UTC"), IN_RANGE.map(lambda moment: moment.replace(tzinfo=UTC))),
    "zoned ns": (pl.Datetime("ns", "UTC"), IN_RANGE.map(lambda moment: moment.replace(tzinfo=UTC))),
}
ROW = st.fixed_dictionaries({name: st.none() | values for name, (_, values) in TYPES.items()})
TABLE = SourceTable(
    name="t",
    target="ods.t",
    columns={"id": pl.Int64(), **{name: dtype for name, (dtype, _) in TYPES.items()}},
    required=frozenset({"id"}),
    key=("id",),
)


def events(rows: list[dict[str, Any]]) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The rows, and the lines that they are in quarantine."""
    frame = pl.DataFrame(
        [{"id": number, **row} for number, row in enumerate(rows)], schema=dict(TABLE.columns), orient="row"
    )
    refused = frame.with_columns(
        pl.lit("u").alias(OP),
        pl.lit("f").alias(SOURCE_FILE),
        pl.int_range(1, pl.len() + 1, dtype=pl.Int64).alias(PLACE),
        pl.lit("because").alias(REASON),
    )
    batch = typed_batch(TABLE, refused, position="")
    assert batch.rows.is_empty()
    return frame, batch.rejected.drop("reason")


def bits(frame: pl.DataFrame) -> list[tuple[object, ...]]:
    """Rows in which floats of the same bits are equal, and no others; any NaN is one."""

    def same(value: object) -> object:
        return struct.pack("d", value) if isinstance(value, float) and value == value else repr(value)

    return [tuple(same(value) for value in row) for row in frame.rows()]


@settings(max_examples=examples(60), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(rows=st.lists(ROW, min_size=1, max_size=6))
def test_all_values_come_back(rows: list[dict[str, Any]]) -> None:
    frame, lines = events(rows)
    good, refused = parse(lines, TABLE)
    assert refused.is_empty(), refused["reason"].to_list()
    assert bits(good.select(frame.columns)) == bits(frame)


def test_many_usual_lines_are_read_by_their_shape_alike() -> None:
    row = {
        "double": 0.1, "float": 2.5, "tiny": -1, "small": 2, "int": 3, "big": 4, "bool": True, "decimal": Decimal("1.5"),
        "text": "x", "bytes": b"\x00\xff", "day": date(2024, 2, 29), "clock": time(1, 2, 3, 4), "ms": datetime(2024, 1, 1),
        "us": datetime(2024, 1, 1, 0, 0, 0, 1), "ns": datetime(2024, 1, 1), "zoned ms": datetime(2024, 1, 1, tzinfo=UTC),
        "zoned us": datetime(2024, 1, 1, tzinfo=UTC), "zoned ns": datetime(2024, 1, 1, tzinfo=UTC),
    }  # fmt: skip
    frame, lines = events([{**row, "double": number / 7, "tiny": number % 100} for number in range(500)])
    good, refused = parse(lines, TABLE)
    assert refused.is_empty()
    assert good.select(frame.columns).equals(frame)


@pytest.mark.parametrize(
    ("column", "text", "reason"),
    [
        ("double", "1e999", "double is no DOUBLE: 1e999"),
        ("double", '"1.5"', 'double is no DOUBLE: "1.5"'),
        ("double", '"inf"', 'double is no DOUBLE: "inf"'),
        ("float", "1e39", "float is no FLOAT: 1e39"),
        ("tiny", "128", "tiny is no TINYINT: 128"),
        ("bytes", '"YQ="', 'bytes is no BYTES: "YQ="'),
        ("clock", '"24:00:00"', 'clock is no TIME: "24:00:00"'),
        ("us", '"2024-02-30T00:00:00"', 'us is no TIMESTAMP(6): "2024-02-30T00:00:00"'),
        ("us", '"2024-02-03T00:00:00.1234567"', 'us is no TIMESTAMP(6): "2024-02-03T00:00:00.1234567"'),
        ("us", '"2024-02-03T00:00:00Z"', 'us is no TIMESTAMP(6): "2024-02-03T00:00:00Z"'),
        ("zoned us", '"2024-02-03T00:00:00"', 'zoned us is no TIMESTAMP_LTZ(6): "2024-02-03T00:00:00"'),
        ("ms", "-1", "ms is no TIMESTAMP(3): -1"),
        ("ms", '"1969-02-03T00:00:00.1234"', 'ms is no TIMESTAMP(3): "1969-02-03T00:00:00.1234"'),
    ],
)
def test_what_a_column_cannot_hold_is_refused(column: str, text: str, reason: str) -> None:
    _, lines = events([dict.fromkeys(TYPES)])
    wrong = lines.with_columns(pl.col(RAW).str.replace(f'"{column}":null', f'"{column}":{text}', literal=True))
    good, refused = parse(wrong, TABLE)
    assert good.is_empty()
    assert refused.select(LINE, "reason").rows() == [(1, reason)]

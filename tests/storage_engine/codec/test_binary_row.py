"""BinaryRow against rows that Paimon 1.3.1 encoded."""

from __future__ import annotations

import json
from contextlib import suppress
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage_engine.codec.binary_row import (
    deserialize_row,
    encode_row,
    murmur_hash,
    serialize_columns,
    serialize_row,
)
from storage_engine.errors import CorruptFile, InvalidRows, Unsupported
from storage_engine.spec.types import NESTED_ROOTS, TIMESTAMP_ROOTS, DataType, TypeRoot, parse_type

VECTORS = json.loads((Path(__file__).parents[2] / "golden" / "binary_row.json").read_text())
EPOCH = datetime(1970, 1, 1)


def value_of(data_type: DataType, value: Any) -> Any:
    """A value as the encoder takes it; timestamps in nanoseconds."""
    if value is None:
        return None
    if data_type.root in TIMESTAMP_ROOTS:
        whole, _, fraction = value.rstrip("Z").partition(".")
        seconds = (datetime.fromisoformat(whole) - EPOCH) // timedelta(seconds=1)
        return seconds * 10**9 + int(fraction.ljust(9, "0"))
    if data_type.root in (TypeRoot.FLOAT, TypeRoot.DOUBLE):
        return float(value)
    if isinstance(value, str) and value.startswith("hex:"):
        return bytes.fromhex(value.removeprefix("hex:"))
    return value


def row_of(vector: dict[str, Any]) -> tuple[list[DataType], list[Any]]:
    types = [parse_type(text) for text in vector["types"]]
    return types, [value_of(data_type, value) for data_type, value in zip(types, vector["values"], strict=True)]


def test_all_vectors_are_there() -> None:
    assert len(VECTORS) == 142


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: f"{vector['desc']} {vector['values']}"[:60])
def test_rows_are_encoded_and_hashed_as_by_paimon(vector: dict[str, Any]) -> None:
    types, values = row_of(vector)
    body = encode_row(types, values)
    assert body.hex() == vector["body_hex"]
    assert serialize_row(types, values).hex() == vector["serialized_hex"]
    assert murmur_hash(body) == vector["hash"]


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: f"{vector['desc']} {vector['values']}"[:60])
def test_rows_of_paimon_are_read(vector: dict[str, Any]) -> None:
    types, _ = row_of(vector)
    data = bytes.fromhex(vector["serialized_hex"])
    if NESTED_ROOTS & {data_type.root for data_type in types}:
        with pytest.raises(Unsupported):
            deserialize_row(types, data)
        return
    assert serialize_row(types, deserialize_row(types, data)) == data


def test_values_come_back_as_python_objects() -> None:
    texts = (
        "INT, STRING, BYTES, DECIMAL(20, 4), DECIMAL(9, 2), DATE, TIME(3), BOOLEAN, TIMESTAMP(3), TIMESTAMP(6),"
        " TIMESTAMP(9), TIMESTAMP(6) WITH LOCAL TIME ZONE, STRING"
    )
    types = [parse_type(text) for text in split_types(texts)]
    values = (
        -7,
        "ein längerer Text",
        b"\x00\xff",
        Decimal("-2.5000"),
        Decimal("0.10"),
        date(1969, 12, 31),
        time(12, 34, 56, 789000),
        True,
        datetime(2024, 3, 1, 12, 34, 56, 123000),
        datetime(1969, 12, 31, 23, 59, 59, 999999),
        1709296496123456789,
        datetime(2024, 3, 1, 12, 34, 56, 123456, tzinfo=UTC),
        None,
    )
    assert deserialize_row(types, serialize_row(types, values)) == values


def split_types(texts: str) -> list[str]:
    parts = texts.replace("(20, 4)", "(20;4)").replace("(9, 2)", "(9;2)").split(",")
    return [part.replace(";", ",").strip() for part in parts]


ROW_TYPES = [parse_type(text) for text in ("INT", "STRING", "DECIMAL(20, 4)", "TIMESTAMP(9)", "BIGINT", "BYTES")]
ROWS = st.tuples(
    st.none() | st.integers(-(2**31), 2**31 - 1),
    st.none() | st.text(max_size=20),
    st.none() | st.decimals(-(10**15), 10**15, places=4),
    st.none() | st.integers(-(10**20), 10**20),
    st.none() | st.integers(-(2**63), 2**63 - 1),
    st.none() | st.binary(max_size=20),
)


@given(ROWS)
def test_what_is_encoded_is_read_back(row: tuple[Any, ...]) -> None:
    assert deserialize_row(ROW_TYPES, serialize_row(ROW_TYPES, row)) == row


@given(ROWS, st.integers(0, 400), st.integers(1, 255))
def test_a_damaged_row_is_a_clear_error_or_another_row(row: tuple[Any, ...], position: int, flip: int) -> None:
    data = bytearray(serialize_row(ROW_TYPES, row))
    data[position % len(data)] ^= flip
    with suppress(CorruptFile):
        assert len(deserialize_row(ROW_TYPES, bytes(data))) == len(ROW_TYPES)


@given(ROWS, st.integers(0, 100))
def test_a_cut_row_is_a_clear_error(row: tuple[Any, ...], length: int) -> None:
    data = serialize_row(ROW_TYPES, row)
    fixed = 4 + 8 + 8 * len(ROW_TYPES)
    with pytest.raises(CorruptFile):
        deserialize_row(ROW_TYPES, data[: length % fixed])


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("INT", 2**31),
        ("INT", "1"),
        ("INT", True),
        ("TINYINT", 128),
        ("STRING", 5),
        ("STRING", "\ud800"),
        ("BOOLEAN", 1),
        ("DECIMAL(9, 2)", Decimal("1.234")),
        ("DECIMAL(9, 2)", Decimal(10**7)),
        ("DECIMAL(9, 2)", Decimal("NaN")),
        ("DATE", datetime(2024, 1, 1)),
        ("FLOAT", 1e300),
        ("BIGINT", 1.5),
    ],
)
def test_a_value_that_does_not_fit_its_type_is_refused(text: str, value: object) -> None:
    with pytest.raises(InvalidRows, match="is not a value of type"):
        encode_row([parse_type(text)], [value])


def test_rows_of_a_frame_equal_single_rows() -> None:
    types = [
        parse_type(text) for text in ("STRING", "DATE", "TIMESTAMP(9)", "TIMESTAMP(3)", "DECIMAL(20, 4)", "TIME(3)")
    ]
    frame = pl.DataFrame(
        {
            "s": ["a", None],
            "d": [date(2024, 2, 29), date(1969, 12, 31)],
            "n": pl.Series([1709296496123456789, None], dtype=pl.Datetime("ns")),
            "t": pl.Series([datetime(2024, 3, 1, 12, 34, 56, 123000), None], dtype=pl.Datetime("ms")),
            "m": pl.Series([Decimal("2.5000"), None], dtype=pl.Decimal(20, 4)),
            "c": [time(12, 34, 56), None],
        }
    )
    first = serialize_row(
        types,
        [
            "a",
            date(2024, 2, 29),
            1709296496123456789,
            datetime(2024, 3, 1, 12, 34, 56, 123000),
            Decimal("2.5"),
            time(12, 34, 56),
        ],
    )
    assert serialize_columns(types, frame) == [
        first,
        serialize_row(types, [None, date(1969, 12, 31), None, None, None, None]),
    ]


def test_a_frame_reaches_beyond_the_years_of_python() -> None:
    millis = 400_000_000_000_000  # about the year 14645
    types = [parse_type("TIMESTAMP(3)")]
    frame = pl.DataFrame({"t": pl.Series([millis]).cast(pl.Datetime("ms"))})
    assert serialize_columns(types, frame) == [serialize_row(types, [millis * 10**6])]
    with pytest.raises(CorruptFile):
        deserialize_row(types, serialize_columns(types, frame)[0])

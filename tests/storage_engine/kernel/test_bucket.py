"""Bucket hashes against rows that Paimon 1.3.1 hashed, and against the codec that makes the rows."""

from __future__ import annotations

import json
from datetime import date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage_engine.codec.binary_row import encode_row, murmur_hash
from storage_engine.errors import InvalidOption, Unsupported
from storage_engine.kernel.bucket import fixed_bucket, row_hash
from storage_engine.spec.types import NESTED_ROOTS, TIMESTAMP_ROOTS, DataType, TypeRoot, parse_type
from tests.effort import examples
from tests.storage_engine.kernel.merge_models import schema_of

VECTORS = json.loads((Path(__file__).parents[2] / "golden" / "binary_row.json").read_text())


def column_of(name: str, data_type: DataType, text: Any) -> pl.Series:
    """One value of a vector as a column of one row."""
    dtype = data_type.to_polars()
    if text is None:
        return pl.Series(name, [None], dtype=dtype)
    if data_type.root in TIMESTAMP_ROOTS:
        return (
            pl.Series(name, [text.rstrip("Z")]).str.to_datetime(time_unit="ns").cast(pl.Datetime(data_type.time_unit))
        )
    if data_type.root is TypeRoot.TIME:
        return pl.Series(name, [text * 1_000_000]).cast(pl.Time)
    if data_type.root is TypeRoot.DATE:
        return pl.Series(name, [text], dtype=pl.Int32).cast(pl.Date)
    if data_type.root is TypeRoot.DECIMAL:
        return pl.Series(name, [Decimal(text)], dtype=dtype)
    if data_type.root in (TypeRoot.FLOAT, TypeRoot.DOUBLE):
        return pl.Series(name, [float(text)], dtype=dtype)
    if isinstance(text, str) and text.startswith("hex:"):
        return pl.Series(name, [bytes.fromhex(text.removeprefix("hex:"))])
    return pl.Series(name, [text], dtype=dtype)


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: f"{vector['desc']} {vector['values']}"[:60])
def test_hashes_are_those_of_paimon(vector: dict[str, Any]) -> None:
    types = [parse_type(text) for text in vector["types"]]
    if NESTED_ROOTS & {data_type.root for data_type in types}:
        with pytest.raises(Unsupported):
            row_hash(pl.DataFrame({"a": [[1]]}), types)
        return
    columns = [column_of(str(i), *pair) for i, pair in enumerate(zip(types, vector["values"], strict=True))]
    frame = pl.DataFrame(columns) if columns else pl.DataFrame(height=1)
    assert row_hash(frame, types).tolist() == [vector["hash"]]


TEXT = st.text(max_size=40)
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "BOOLEAN": st.booleans(),
    "TINYINT": st.integers(-128, 127),
    "SMALLINT": st.integers(-(2**15), 2**15 - 1),
    "INT": st.integers(-(2**31), 2**31 - 1),
    "BIGINT": st.integers(-(2**63), 2**63 - 1),
    "DOUBLE": st.floats(allow_nan=False),
    "STRING": TEXT,
    "BYTES": st.binary(max_size=40),
    "DECIMAL(9, 2)": st.decimals(-(10**6), 10**6, places=2),
    "DECIMAL(30, 4)": st.decimals(-(10**25), 10**25, places=4),
    "DATE": st.dates(date(1900, 1, 1), date(2100, 1, 1)),
    "TIME(3)": st.times(time(0), time(23)).map(
        lambda value: value.replace(microsecond=value.microsecond // 1000 * 1000)
    ),
    "TIMESTAMP(3)": st.datetimes(datetime(1900, 1, 1), datetime(2100, 1, 1)).map(
        lambda value: value.replace(microsecond=value.microsecond // 1000 * 1000)
    ),
    "TIMESTAMP(6)": st.datetimes(datetime(1900, 1, 1), datetime(2100, 1, 1)),
}


@given(data=st.data(), texts=st.lists(st.sampled_from(sorted(VALUES)), min_size=1, max_size=5))
@settings(max_examples=examples(100), deadline=None)
def test_hashes_are_those_of_the_encoded_rows(data: st.DataObject, texts: list[str]) -> None:
    types = [parse_type(text) for text in texts]
    rows = data.draw(st.lists(st.tuples(*(st.none() | VALUES[text] for text in texts)), max_size=20))
    schema = {str(index): data_type.to_polars() for index, data_type in enumerate(types)}
    frame = pl.DataFrame(rows, schema=schema, orient="row")
    assert row_hash(frame, types).tolist() == [murmur_hash(encode_row(types, row)) for row in frame.iter_rows()]


def test_chunks_slices_and_blocks_make_no_difference() -> None:
    numbers = pl.int_range(100_000, eager=True)
    some = pl.when(pl.col("number") % 7 > 0).then("number").alias("b")
    words = ("user-" + (pl.col("number") % 977).cast(pl.String)).alias("a")
    frame = pl.DataFrame({"number": numbers}).select(words, some)
    types = [parse_type("STRING"), parse_type("BIGINT")]
    whole = row_hash(frame, types).tolist()
    assert row_hash(pl.concat([frame[:7], frame[7:40_001], frame[40_001:]], rechunk=False), types).tolist() == whole
    assert row_hash(frame[33_333:70_000], types).tolist() == whole[33_333:70_000]


@pytest.mark.parametrize(
    ("key", "buckets", "expected"),
    [(0, 5, 4), (1, 5, 3), (-1, 5, 2), (2147483647, 16, 9), (0, 100, 99), (-1, 100, 67)],
)
def test_the_default_function_takes_the_remainder_of_the_hash(key: int, buckets: int, expected: int) -> None:
    schema = schema_of({"k": "INT", "v": "INT"}, {"bucket": str(buckets)})
    frame = pl.DataFrame({"k": [key], "v": [None]}, schema={"k": pl.Int32, "v": pl.Int32})
    assert fixed_bucket(frame, schema).to_list() == [expected]


@pytest.mark.parametrize(
    ("text", "key", "expected"),
    [
        ("INT", 7, 2),
        ("INT", -1, 4),
        ("INT", -7, 3),
        ("INT", -(2**31), 2),
        ("BIGINT", 5_000_000_000, 0),
        ("BIGINT", -5_000_000_001, 4),
    ],
)
def test_the_mod_function_takes_the_key_itself(text: str, key: int, expected: int) -> None:
    schema = schema_of({"k": text}, {"bucket": "5", "bucket-function.type": "mod"})
    frame = pl.DataFrame({"k": [key]}, schema=schema.polars_schema)
    buckets = fixed_bucket(frame, schema)
    assert buckets.dtype == pl.Int32
    assert buckets.to_list() == [expected]


def test_the_mod_function_needs_one_whole_number() -> None:
    schema = schema_of({"k": "STRING"}, {"bucket": "5", "bucket-function.type": "mod"})
    with pytest.raises(InvalidOption, match="bucket-function"):
        fixed_bucket(pl.DataFrame({"k": ["a"]}), schema)


def test_the_bucket_key_is_hashed_in_its_own_order() -> None:
    columns = {"a": "STRING", "b": "BIGINT"}
    schema = schema_of(columns, {"bucket": "64", "bucket-key": "b,a"}, primary_keys=("a", "b"))
    frame = pl.DataFrame({"a": ["x", "y"], "b": [1, 2]})
    types = schema.types_of(("b", "a"))
    hashes = [murmur_hash(encode_row(types, row)) for row in frame.select("b", "a").iter_rows()]
    assert fixed_bucket(frame, schema).to_list() == [abs(number) % 64 for number in hashes]


def test_one_bucket_takes_all() -> None:
    schema = schema_of({"k": "INT"}, {"bucket": "1"})
    assert fixed_bucket(pl.DataFrame({"k": [1, 2]}, schema=schema.polars_schema), schema).to_list() == [0, 0]

"""Rows decoded by columns have the values that they have one by one, and damage is told as there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage_engine.codec.binary_columns import BinaryRows
from storage_engine.codec.binary_row import deserialize_row, serialize_row
from storage_engine.errors import CorruptFile
from storage_engine.spec.types import NESTED_ROOTS, parse_type
from tests.effort import examples

VECTORS = json.loads((Path(__file__).parents[2] / "golden" / "binary_row.json").read_text())
FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "BOOLEAN": st.booleans(),
    "TINYINT": st.integers(-128, 127),
    "SMALLINT": st.integers(-(2**15), 2**15 - 1),
    "INT": st.integers(-(2**31), 2**31 - 1),
    "BIGINT": st.integers(-(2**63), 2**63 - 1),
    "FLOAT": st.floats(width=32, allow_nan=False),
    "DOUBLE": st.floats(allow_nan=False),
    "DATE": st.dates(),
    "TIME(3)": st.times().map(lambda time: time.replace(microsecond=time.microsecond // 1000 * 1000)),
    "STRING": st.text(max_size=12),
    "VARBINARY(20)": st.binary(max_size=20),
    "DECIMAL(9, 2)": st.decimals(-(10**6), 10**6, places=2),
    "DECIMAL(30, 5)": st.decimals(-(10**20), 10**20, places=5),
    "TIMESTAMP(3)": st.datetimes().map(lambda stamp: stamp.replace(microsecond=stamp.microsecond // 1000 * 1000)),
    "TIMESTAMP(6)": st.datetimes(),
}
TYPES = [parse_type(text) for text in FIELDS]
rows = st.lists(st.tuples(*(st.none() | values for values in FIELDS.values())), max_size=6)


@settings(max_examples=examples(50), deadline=None)
@given(rows)
def test_columns_have_the_values_of_the_rows(values: list[tuple[Any, ...]]) -> None:
    serialized = [serialize_row(TYPES, row) for row in values]
    by_row = [deserialize_row(TYPES, row) for row in serialized]
    found = BinaryRows(TYPES, serialized)
    assert found.values() == by_row
    for index, data_type in enumerate(TYPES):
        column = found.column(index)
        assert column.dtype == data_type.to_polars()
        assert column.to_list() == [row[index] for row in by_row]


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: f"{vector['desc']} {vector['values']}"[:60])
def test_rows_of_paimon(vector: dict[str, Any]) -> None:
    types = [parse_type(text) for text in vector["types"]]
    if any(part.root in NESTED_ROOTS for part in types):
        return
    serialized = bytes.fromhex(vector["serialized_hex"])
    assert repr(BinaryRows(types, [serialized] * 3).values()) == repr([deserialize_row(types, serialized)] * 3)


@settings(max_examples=examples(100), deadline=None)
@given(rows.filter(len), st.data())
def test_damage_is_told_as_row_by_row(values: list[tuple[Any, ...]], data: st.DataObject) -> None:
    serialized = [bytearray(serialize_row(TYPES, row)) for row in values]
    damaged = data.draw(st.sampled_from(serialized))
    place = data.draw(st.integers(0, len(damaged) - 1))
    if data.draw(st.booleans()):
        del damaged[place:]
    else:
        damaged[place] = data.draw(st.integers(0, 255))
    given_rows = list(map(bytes, serialized))
    try:
        expected = repr([deserialize_row(TYPES, row) for row in given_rows])
    except CorruptFile:
        with pytest.raises(CorruptFile):
            BinaryRows(TYPES, given_rows).values()
    else:
        assert repr(BinaryRows(TYPES, given_rows).values()) == expected


def test_no_rows_and_no_fields() -> None:
    assert BinaryRows(TYPES, []).column(0).dtype == pl.Boolean
    assert BinaryRows([], [serialize_row([], [])] * 2).values() == [(), ()]

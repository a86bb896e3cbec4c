"""Values made of columns are what their constructor makes, or none are made."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields
from itertools import repeat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage_engine.codec.many_values import made_of_columns
from storage_engine.spec.manifest import DataFileMeta, SimpleStats

ROWS = st.lists(st.tuples(st.binary(), st.binary(), st.lists(st.none() | st.integers()).map(tuple)))


@given(ROWS)
def test_values_are_those_of_the_constructor(rows: list[tuple[bytes, bytes, tuple[int | None, ...]]]) -> None:
    names = ("min_values", "max_values", "null_counts")
    columns: dict[str, Iterable[object]] = {name: [row[place] for row in rows] for place, name in enumerate(names)}
    wanted = [SimpleStats(min_values=low, max_values=high, null_counts=counts) for low, high, counts in rows]
    assert made_of_columns(SimpleStats, len(rows), columns) == wanted


def test_a_column_that_says_the_same_of_all_may_be_repeated() -> None:
    whole = DataFileMeta(
        file_name="f", file_size=1, row_count=2, min_sequence_number=3, max_sequence_number=4, schema_id=0, level=5
    )
    columns: dict[str, Iterable[object]] = {
        field.name: repeat(getattr(whole, field.name), 3) for field in fields(DataFileMeta)
    }
    assert made_of_columns(DataFileMeta, 3, columns) == [whole] * 3


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"min_values": [b""], "max_values": [b""]}, "SimpleStats has the fields min_values, max_values, null_counts"),
        ({"min_values": [b""], "max_values": [b""], "null_counts": [()], "more": [1]}, "SimpleStats has the fields"),
        ({"min_values": [], "max_values": [b""], "null_counts": [()]}, "shorter"),
        ({"min_values": [b"", b""], "max_values": [b""], "null_counts": [()]}, "longer"),
    ],
    ids=["missing", "unknown", "short", "long"],
)
def test_columns_that_do_not_fit_are_refused(columns: dict[str, Iterable[object]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        made_of_columns(SimpleStats, 1, columns)

"""Lines of usual producers are read by their shape alone; what a shape must not take is left.

That all lines are judged as by a judge of single lines is in ``test_debezium_columns``.
"""

from __future__ import annotations

import json

import polars as pl
import pytest

from lakehouse_assets.sources.debezium_shapes import rows_by_shape
from tests.lakehouse_assets.sources.test_debezium import ORDERS, ROW, event, lines


def by_shape(texts: list[str]) -> tuple[list[pl.DataFrame], pl.DataFrame]:
    return rows_by_shape(lines(*texts).with_row_index("_at"), "raw", ORDERS)


@pytest.mark.parametrize("separators", [(", ", ": "), (",", ":")])
def test_a_producer_of_three_operations_is_read_by_as_many_shapes(separators: tuple[str, str]) -> None:
    events = [
        event("c", before=None, after={**ROW, "id": "O1"}),
        event("u", before={**ROW, "id": "O1"}, after={**ROW, "id": "O1", "amount": None}),
        event("d", before={**ROW, "id": "O1"}, after=None),
    ] * 20
    found, left = by_shape([json.dumps(each, separators=separators) for each in events])
    assert left.is_empty()
    rows = pl.concat(found).sort("_at")
    assert rows["op"].to_list() == ["c", "u", "d"] * 20
    assert rows["deleted"].to_list() == [False, False, True] * 20
    assert rows["amount"].is_null().to_list() == [False, True, False] * 20


def test_a_shape_is_learnt_behind_spoilt_lines() -> None:
    good = [json.dumps(event(after={**ROW, "id": f"O{place}"})) for place in range(20)]
    found, left = by_shape(["{", "null", '"text"', *good])
    assert [frame.height for frame in found] == [20]
    assert left["raw"].to_list() == ["{", "null", '"text"']


@pytest.mark.parametrize(
    "changed",
    [
        {"status": 'said "no"'},
        {"v_date": "2024-02-30"},
        {"amount": "12.50001"},
        {"quantity": 2**31},
        {"quantity": None, "id": None},
        {"event_time": -1},
    ],
)
def test_values_that_are_not_certain_are_left(changed: dict[str, object]) -> None:
    texts = [json.dumps(event(after={**ROW, "id": f"O{place}"})) for place in range(20)]
    texts[7] = json.dumps(event(after={**ROW, **changed}))
    found, left = by_shape(texts)
    assert left["raw"].to_list() == [texts[7]]
    assert sum(frame.height for frame in found) == 19

"""Lines of usual producers are read by their shape alone; what a shape must not take is left.

That all lines are judged as by a judge of single lines is in ``test_debezium_columns``.
"""

from __future__ import annotations

import json
from dataclasses import replace

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse_assets.sources import debezium
from lakehouse_assets.sources.change_source import DELETED, OP
from lakehouse_assets.sources.debezium_fields import AT
from lakehouse_assets.sources.debezium_shapes import rows_by_shape
from tests.effort import examples
from tests.lakehouse_assets.sources.test_debezium import ORDERS, ROW, event, lines


def by_shape(texts: list[str]) -> tuple[list[pl.DataFrame], pl.DataFrame]:
    return rows_by_shape(lines(*texts).with_row_index(AT), "raw", ORDERS)


@pytest.mark.parametrize("separators", [(", ", ": "), (",", ":")])
def test_a_producer_of_three_operations_is_read_by_as_many_shapes(separators: tuple[str, str]) -> None:
    events = [
        event("c", before=None, after={**ROW, "id": "O1"}),
        event("u", before={**ROW, "id": "O1"}, after={**ROW, "id": "O1", "amount": None}),
        event("d", before={**ROW, "id": "O1"}, after=None),
    ] * 20
    found, left = by_shape([json.dumps(each, separators=separators) for each in events])
    assert left.is_empty()
    rows = pl.concat(found).sort(AT)
    assert rows[OP].to_list() == ["c", "u", "d"] * 20
    assert rows[DELETED].to_list() == [False, False, True] * 20
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


WIDE = replace(
    ORDERS,
    columns={
        **ORDERS.columns,
        **{f"text{n}": pl.String() for n in range(20)},
        **{f"size{n}": pl.Int64() for n in range(20)},
    },
)
WIDE_ROW = {**ROW, **{f"text{n}": f"t{n}" for n in range(20)}, **{f"size{n}": n for n in range(20)}}


def wide_event(row: dict[str, object]) -> str:
    return json.dumps(event("u", before=WIDE_ROW, after={**WIDE_ROW, **row}), ensure_ascii=False)


WIDE_PLACES = ["text0", "text19", "size0", "size7", "size19"]
WIDE_VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**65), 2**65),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=5),
    st.sampled_from(['"', "\\", '", "size0": 1', "}", "null", "\r", "\x00", "2024-02-30"]),
)
SPELT = [
    ('"size7": 7', '"size7": 07'),
    ('"size7": 7', '"size7": +7'),
    ('"size7": 7', '"size7": -0'),
    ('"size7": 7', '"size7": 7.0'),
    ('"size7": 7', '"size7": 7e0'),
    ('"size7": 7', '"size7": 99999999999999999999'),
    ('"size7": 7', '"size7" : 7'),
    ('"size7": 7', '"size7": 7, "size7": 7'),
    ('"size7": 7, ', ""),
    ('"size7": 7', '"size8": 7'),
    ('"text3": "t3"', '"text3": "\\u0041"'),
    ('"text3": "t3"', '"text3": "\\xff"'),
    ('"text3": "t3"', '"text3": "\r"'),
    ('"text3": "t3"', '"text3": t3'),
    ('"op": "u"', '"op": "d"'),
    ('"op": "u"', '"op": "x"'),
    ("}", "} "),
    ("}}", "}"),
]


@st.composite
def wide_lines(draw: st.DrawFn) -> str:
    text = wide_event(draw(st.dictionaries(st.sampled_from(WIDE_PLACES), WIDE_VALUES, max_size=2)))
    if draw(st.booleans()):
        old, new = draw(st.sampled_from(SPELT))
        text = new.join(text.rsplit(old, 1))
    return text


@given(others=st.lists(wide_lines(), max_size=6))
@settings(max_examples=examples(15))
def test_a_line_of_many_values_is_read_in_parts_and_judged_as_a_whole(others: list[str]) -> None:
    texts = [wide_event({"id": f"O{place}"}) for place in range(8)] + others
    given_lines = lines(*texts)
    rows, refused = debezium.parse(given_lines, WIDE)
    good, bad = debezium._judged_one_by_one(given_lines.with_row_index(AT), WIDE)
    assert rows.equals(good.drop(AT).cast(dict(rows.schema)))
    assert refused.equals(bad)


def test_usual_lines_of_many_values_are_all_read_by_their_shape() -> None:
    texts = [wide_event({"id": f"O{place}", "size19": place}) for place in range(20)]
    found, left = rows_by_shape(lines(*texts).with_row_index(AT), "raw", WIDE)
    assert left.is_empty()
    (rows,) = found
    assert rows["size19"].to_list() == list(range(20))
    assert rows["text0"].to_list() == ["t0"] * 20


@pytest.mark.parametrize("place", WIDE_PLACES)
def test_a_value_that_is_wrong_in_any_part_leaves_the_line(place: str) -> None:
    texts = [wide_event({"id": f"O{number}"}) for number in range(20)]
    texts[7] = wide_event({place: True})
    found, left = rows_by_shape(lines(*texts).with_row_index(AT), "raw", WIDE)
    assert left["raw"].to_list() == [texts[7]]
    assert sum(frame.height for frame in found) == 19

"""Column statistics: true bounds, cut as Paimon cuts them."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage_engine.kernel.statistics import column_stats, joined_stats
from storage_engine.spec.types import DataField, parse_type


def field(name: str, text: str) -> DataField:
    return DataField(id=0, name=name, type=parse_type(text))


def stats_of(values: list[str | None], length: int | None = 16) -> tuple[object, object, int]:
    frame = pl.DataFrame({"a": values}, schema={"a": pl.String})
    mins, maxs, nulls = column_stats(frame, [field("a", "STRING")], truncate_length=length)
    return mins[0], maxs[0], nulls[0]


HANGUL = "".join(chr(0xAC00 + place) for place in range(17))


@pytest.mark.parametrize(
    ("text", "low", "high"),
    [
        ("0123456789abcdefXYZ", "0123456789abcdef", "0123456789abcdeg"),
        (HANGUL, HANGUL[:16], HANGUL[:15] + "\uac10"),
        ("short", "short", "short"),
        ("exactly 16 chars", "exactly 16 chars", "exactly 16 chars"),
        ("a" * 15 + "\U0010ffff" + "b", "a" * 15 + "\U0010ffff", "a" * 14 + "b"),
        ("\U0010ffff" * 17, None, None),
        ("a" * 15 + "\ud7ff" + "b", "a" * 15 + "\ud7ff", "a" * 15 + "\ue000"),
    ],
)
def test_long_text_is_cut_and_its_maximum_raised(text: str, low: str | None, high: str | None) -> None:
    assert stats_of([text]) == (low, high, 0)


def test_the_length_may_be_another_or_none() -> None:
    assert stats_of(["abcdef"], 3) == ("abc", "abd", 0)
    assert stats_of(["x" * 500], None) == ("x" * 500, "x" * 500, 0)


@given(st.lists(st.none() | st.text(alphabet="ab\U0010ffff\ud7ff", max_size=20), min_size=1))
def test_bounds_hold_for_all_values(values: list[str | None]) -> None:
    low, high, nulls = stats_of(values, 4)
    present = [value for value in values if value is not None]
    assert nulls == len(values) - len(present)
    if present and low is not None:
        assert isinstance(low, str)
        assert isinstance(high, str)
        assert low <= min(present)
        assert high >= max(present)
        assert max(len(low), len(high)) <= 4


def test_each_type_has_its_own_values() -> None:
    frame = pl.DataFrame(
        {
            "n": pl.Series([3, None, -1], dtype=pl.Int8),
            "d": pl.Series([Decimal("1.50"), Decimal("-2.25"), None], dtype=pl.Decimal(9, 2)),
            "t": pl.Series([datetime(2024, 1, 1), None, datetime(1960, 1, 1)], dtype=pl.Datetime("ms")),
            "j": pl.Series([date(2024, 1, 1), None, None]),
            "b": pl.Series([None, True, None]),
            "y": pl.Series([b"\xff", b"\x00", None]),
            "l": pl.Series([[1], None, []], dtype=pl.List(pl.Int32)),
            "f": pl.Series([1.5, None, -0.5], dtype=pl.Float64),
            "nan": pl.Series([1.5, float("nan"), None], dtype=pl.Float64),
            "ns": pl.Series([1, 2, 3]).cast(pl.Datetime("ns")),
            "none": pl.Series([None, None, None], dtype=pl.Int32),
        }
    )
    types = {
        "n": "TINYINT",
        "d": "DECIMAL(9, 2)",
        "t": "TIMESTAMP(3)",
        "j": "DATE",
        "b": "BOOLEAN",
        "y": "BYTES",
        "l": "ARRAY<INT>",
        "f": "DOUBLE",
        "nan": "DOUBLE",
        "ns": "TIMESTAMP(9)",
        "none": "INT",
    }
    mins, maxs, nulls = column_stats(frame, [field(name, text) for name, text in types.items()])
    assert mins == [
        -1,
        Decimal("-2.25"),
        datetime(1960, 1, 1),
        date(2024, 1, 1),
        True,
        b"\x00",
        None,
        -0.5,
        None,
        None,
        None,
    ]
    assert maxs == [
        3,
        Decimal("1.50"),
        datetime(2024, 1, 1),
        date(2024, 1, 1),
        True,
        b"\xff",
        None,
        1.5,
        None,
        None,
        None,
    ]
    assert nulls == [1, 1, 1, 2, 2, 1, 1, 1, 1, 0, 3]


def test_an_empty_frame_knows_nothing() -> None:
    frame = pl.DataFrame(schema={"a": pl.Int32, "b": pl.String})
    assert column_stats(frame, [field("a", "INT"), field("b", "STRING")]) == ([None, None], [None, None], [0, 0])


@given(st.lists(st.none() | st.text(alphabet="ab\U0010ffff", max_size=6), min_size=2), st.data())
def test_statistics_of_two_parts_are_those_of_the_whole(values: list[str | None], data: st.DataObject) -> None:
    cut = data.draw(st.integers(1, len(values) - 1))
    of = [field("a", "STRING")]
    frame = pl.DataFrame({"a": values}, schema={"a": pl.String})
    parts = [column_stats(part, of, truncate_length=4) for part in (frame[:cut], frame[cut:])]
    assert joined_stats(parts[0], cut, parts[1], len(values) - cut) == column_stats(frame, of, truncate_length=4)

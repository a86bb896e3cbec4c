"""Ranges of keys against the keys themselves: what a range has, and that they are as large as they should be."""

from __future__ import annotations

from datetime import date, timedelta
from itertools import chain
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from storage_engine.kernel.key_cuts import SortedRun, cut

GROUP = 50


def in_order(keys: list[Any]) -> list[Any]:
    return sorted(keys)


def run_of(keys: list[Any]) -> SortedRun:
    """What is known of a file whose row groups have so many rows."""
    starts = range(0, len(keys), GROUP)
    return SortedRun(values=(*(keys[start] for start in starts), keys[-1]), before=(*starts, len(keys)))


def counts(keys: list[Any], ranges: list[tuple[Any, int]]) -> list[int]:
    """How many keys each range really has."""
    ends = [*(low for low, _ in ranges[1:]), None]
    return [
        sum((low is None or key >= low) and (high is None or key < high) for key in keys)
        for (low, _), high in zip(ranges, ends, strict=True)
    ]


NUMBERS = st.integers(-(2**63), 2**63 - 1)
DAYS = st.integers(0, 3000).map(lambda number: date(2024, 1, 1) + timedelta(days=number))
TEXTS = st.text(max_size=9).map("key ".__add__)


@given(
    runs=st.sampled_from([NUMBERS, DAYS, TEXTS]).flatmap(
        lambda keys: st.lists(st.lists(keys, min_size=1, max_size=200).map(in_order), min_size=1, max_size=4)
    ),
    most=st.integers(1, 300),
)
def test_every_key_is_in_one_range(runs: list[list[Any]], most: int) -> None:
    ranges = cut([run_of(keys) for keys in runs], most)
    lows = [low for low, _ in ranges]
    assert lows[0] is None
    assert lows[1:] == sorted(set(lows[1:]))
    assert all(rows > 0 for _, rows in ranges)
    assert sum(counts(list(chain(*runs)), ranges)) == sum(map(len, runs))


def test_ranges_have_about_as_many_rows_as_they_tell() -> None:
    for make in (int, "customer {:08}".format, lambda number: date.fromordinal(700_000 + number)):
        for files in (1, 3, 7):
            runs = [[make(number) for number in range(first, 21_000, files)] for first in range(files)]
            for most in (200, 1_000, 5_000):
                ranges = cut([run_of(keys) for keys in runs], most)
                real = counts(list(chain(*runs)), ranges)
                assert max(real) <= most + files * GROUP
                assert len(ranges) <= 2 * 21_000 // most + 1
                told = [rows for _, rows in ranges]
                assert all(abs(ours - theirs) <= files * GROUP for ours, theirs in zip(told, real, strict=True))


def test_a_value_of_many_rows_is_a_range_of_its_own() -> None:
    keys = ["a"] * 500 + ["b"] * 20 + ["c"] * 500
    ranges = cut([run_of(keys)], 100)
    assert counts(keys, ranges)[-1] == 500
    assert max(rows for _, rows in ranges) >= 450

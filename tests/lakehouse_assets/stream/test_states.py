"""Changes less what they undo, against the sums of both."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse_assets.stream.states import without_undone
from tests.effort import examples

SIGN = {"+I": 1, "+U": 1, "-U": -1, "-D": -1}
CHANGE = st.tuples(st.sampled_from(sorted(SIGN)), st.sampled_from(["a", "b", None]), st.sampled_from([1, 2, None]))


def total(changes: pl.DataFrame) -> Counter[tuple[object, ...]]:
    found: Counter[tuple[object, ...]] = Counter()
    for kind, *row in changes.rows():
        found[tuple(row)] += SIGN[kind]
    return Counter({row: count for row, count in found.items() if count})


@settings(max_examples=examples(60))
@given(st.lists(CHANGE, max_size=12))
def test_what_is_left_adds_up_to_the_same(rows: list[tuple[object, ...]]) -> None:
    schema = {"_row_kind": pl.String, "k": pl.String, "n": pl.Int64}
    changes = pl.DataFrame(rows, schema=schema, orient="row")
    left = without_undone(changes)
    assert total(left) == total(changes)
    undone = [pair for pair in pairwise(rows) if SIGN[str(pair[0][0])] < SIGN[str(pair[1][0])]]
    assert left.height == len(rows) - 2 * sum(before[1:] == after[1:] for before, after in undone)


def test_rows_without_a_kind_undo_nothing() -> None:
    rows = pl.DataFrame({"k": ["a", "a"]})
    assert without_undone(rows).equals(rows)

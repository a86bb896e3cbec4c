"""Keys are found by halving where a look at every row finds them."""

from __future__ import annotations

import string

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from storage_engine.kernel.key_search import can_search, places_of

WORDS = st.text(alphabet=string.ascii_letters + "äß€😀", max_size=4)
NUMBERS = st.integers(-30, 30)
DTYPES = {"word": pl.String(), "number": pl.Int64(), "other": pl.Int32()}


@given(
    st.sets(st.tuples(WORDS, NUMBERS, NUMBERS)),
    st.sets(st.tuples(WORDS, NUMBERS, NUMBERS)),
    st.permutations(list(DTYPES)),
    st.integers(1, 3),
    st.integers(1, 5),
)
def test_places_are_those_of_a_look_at_every_row_whatever_is_asked_twice(
    stored: set[tuple[str, int, int]],
    asked: set[tuple[str, int, int]],
    order: list[str],
    count: int,
    chunk: int,
) -> None:
    names = order[:count]
    assert all(can_search(DTYPES[name]) for name in names)
    rows = pl.DataFrame(sorted(stored), schema=DTYPES, orient="row").unique(names).sort(names)
    keys = pl.DataFrame(sorted({*asked, *list(stored)[::2]}), schema=DTYPES, orient="row").select(names)
    pieces = list(rows.iter_slices(chunk))  # as a file that was written piece by piece
    found = places_of(pl.concat(pieces, rechunk=False) if pieces else rows, keys, names)
    wanted = set(keys.iter_rows())
    assert found.tolist() == [place for place, row in enumerate(rows.select(names).iter_rows()) if row in wanted]


def test_types_that_files_order_in_another_way_are_not_searched() -> None:
    assert not any(can_search(dtype) for dtype in (pl.Float64(), pl.Boolean(), pl.Decimal(9, 2), pl.Binary()))

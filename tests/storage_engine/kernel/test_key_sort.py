"""Keys of numbers and texts in their order, held against Python's own sort of tuples of bytes and numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from storage_engine.kernel.key_sort import lowest, lowest_of, merge_order, newest, sort_keys
from tests.effort import examples

LETTERS = st.text(st.sampled_from("ab\u00e9\u4e2d\U0001f600 ~\x01"), max_size=20)
TEXTS = st.one_of(
    LETTERS, LETTERS.map("o-".__add__), LETTERS.map(("long " * 8).__add__), st.sampled_from(["", "a", "a\0", "a\0b"])
)
SHORT = st.text(st.sampled_from("ab\u00e9~\x01\0"), max_size=4)
LONGS = st.one_of(st.integers(-3, 3), st.integers(-(2**63), 2**63 - 1))
ROWS = st.lists(st.tuples(st.integers(0, 3), TEXTS, LONGS, TEXTS), min_size=1, max_size=60)
KEY = ("group", "text", "number", "more")


def frame_of(rows: list[tuple[int, str, int, str]]) -> pl.DataFrame:
    schema = {"group": pl.Int32, "text": pl.String, "number": pl.Int64, "more": pl.String}
    return pl.DataFrame(rows, schema=schema, orient="row")


def in_order(row: tuple[Any, ...], key: list[str]) -> tuple[Any, ...]:
    values = dict(zip(KEY, row, strict=True))
    return tuple(values[name].encode() if isinstance(values[name], str) else values[name] for name in key)


@given(rows=ROWS, key=st.lists(st.sampled_from(KEY), min_size=1, max_size=4, unique=True))
@settings(max_examples=examples(200))
def test_rows_come_in_the_order_of_their_keys(rows: list[tuple[int, str, int, str]], key: list[str]) -> None:
    found = sort_keys(frame_of(rows), key)
    if found is None:
        texts = [value for row in rows for value in row if isinstance(value, str)]
        assert any("\0" in text or len(text.encode()) > 56 for text in texts)
        return
    keys = [in_order(row, key) for row in rows]
    ordered = [keys[number] for number in found.rows.tolist()]
    assert ordered == sorted(keys)
    assert sorted(found.rows.tolist()) == list(range(len(rows)))
    assert found.first.tolist() == [place == 0 or ordered[place] != ordered[place - 1] for place in range(len(rows))]


@given(
    texts=st.lists(SHORT, min_size=1, max_size=40),
    start=st.sampled_from(["", "o", "o-\u00e9\U0001f600"]),
    cut=st.integers(0, 3),
)
@settings(max_examples=examples(200))
def test_short_texts_come_in_the_order_of_their_bytes(texts: list[str], start: str, cut: int) -> None:
    frame = pl.DataFrame({"text": [start + text for text in texts]})[min(cut, len(texts) - 1) :]
    found = sort_keys(frame, ["text"])
    encoded = [text.encode() for text in frame["text"]]
    if found is None:
        assert any(0 in text for text in encoded)
    else:
        assert [encoded[number] for number in found.rows.tolist()] == sorted(encoded)
        assert found.first.sum() == len(set(encoded))


@given(rows=ROWS, wanted=ROWS, data=st.data())
@settings(max_examples=examples(100))
def test_of_each_wanted_key_the_record_of_the_lowest_rank_is_found(
    rows: list[tuple[int, str, int, str]], wanted: list[tuple[int, str, int, str]], data: st.DataObject
) -> None:
    ranks = data.draw(st.lists(st.integers(0, 5), min_size=len(rows), max_size=len(rows)))
    names = ["group", "text"]
    found = lowest_of(frame_of(wanted), frame_of(rows), names, np.array(ranks, np.int8))
    if found is None:
        return
    best: dict[tuple[Any, ...], tuple[int, int]] = {}
    for place, row in enumerate(rows):
        key = in_order(row, names)
        best[key] = min(best.get(key, (9, 0)), (ranks[place], place))
    keys = {in_order(row, names) for row in wanted}
    assert sorted(found.tolist()) == sorted(place for key, (_, place) in best.items() if key in keys)


@given(rows=ROWS, twice=st.integers(1, 3))
@settings(max_examples=examples(100))
def test_rows_of_a_key_come_in_the_order_of_columns_and_places(
    rows: list[tuple[int, str, int, str]], twice: int
) -> None:
    rows = rows * twice
    found = sort_keys(frame_of(rows), ["group", "text"])
    if found is None:
        return
    expected = sorted(range(len(rows)), key=lambda place: (*in_order(rows[place], ["group", "text", "number"]), place))
    assert merge_order(frame_of(rows), found, ["number"]).tolist() == expected


SEQUENCES = st.none() | st.integers(0, 2) | st.just(-(2**63))


@given(rows=st.lists(st.tuples(st.integers(0, 3), SEQUENCES, SEQUENCES), min_size=1, max_size=30))
@settings(max_examples=examples(200))
def test_the_newest_of_each_key_is_the_last_by_all_columns_null_before_any_number(
    rows: list[tuple[int, int | None, int | None]],
) -> None:
    frame = pl.DataFrame(rows, schema={"key": pl.Int64, "first": pl.Int64, "second": pl.Int64}, orient="row")
    keys = sort_keys(frame, ["key"])
    assert keys is not None
    found = newest(frame, keys, ["first", "second"])
    if found is None:  # of a column that has both, null and the lowest number look alike
        assert any(None in values and -(2**63) in values for values in list(zip(*rows, strict=True))[1:])
        return
    best: dict[int, tuple[Any, int]] = {}
    for place, (key, *order) in enumerate(rows):
        rank = tuple((value is not None, value or 0) for value in order)
        best[key] = max(best.get(key, (rank, place)), (rank, place))
    assert found.tolist() == [best[key][1] for key in sorted(best)]


@given(rows=ROWS)
@settings(max_examples=examples(50))
def test_the_lowest_of_each_key_is_the_first_of_those_that_rank_lowest(rows: list[tuple[int, str, int, str]]) -> None:
    found = sort_keys(frame_of(rows), ["text"])
    if found is None:
        return
    ranks = [group for group, *_ in rows]
    best: dict[bytes, int] = {}
    for place, (group, text, *_) in enumerate(rows):
        kept = best.setdefault(text.encode(), place)
        if group < ranks[kept]:
            best[text.encode()] = place
    assert lowest(found, np.array(ranks, np.int8)).tolist() == [best[text] for text in sorted(best)]


def test_many_alike_texts_are_told_apart_by_their_ends() -> None:
    rng = np.random.default_rng(3)
    texts = [f"{'x' * 30}{number:06d}" for number in rng.integers(0, 5000, 20_000).tolist()]
    frame = pl.DataFrame({"group": rng.integers(0, 500, 20_000).astype(np.int32), "text": texts})
    found = sort_keys(frame, ["group", "text"])
    assert found is not None
    assert frame[found.rows].equals(frame.sort("group", "text"))
    assert int(found.first.sum()) == frame.n_unique()


def test_keys_with_nulls_and_very_long_texts_are_left_to_others() -> None:
    assert sort_keys(pl.DataFrame({"text": ["a", None]}), ["text"]) is None
    assert sort_keys(pl.DataFrame({"text": ["a" * 1000, "b" * 1000]}), ["text"]) is None

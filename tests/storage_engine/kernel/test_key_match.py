"""Fresh rows matched with the stored ones, beside a plain-Python model of who wins and what is told."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage_engine.kernel.key_match import match
from storage_engine.kernel.merge import MergePlan
from tests.effort import examples
from tests.storage_engine.kernel.merge_models import (
    DELETE,
    INSERT,
    KIND,
    SEQUENCE,
    UPDATE_AFTER,
    UPDATE_BEFORE,
    Record,
    frame_of,
    is_retract,
    merge_model,
    schema_of,
)

COLUMNS = {"k": "STRING NOT NULL", "v": "INT", "w": "ARRAY<INT>", "at": "INT"}
SEQUENCED = {"sequence.field": "at"}
DEDUPLICATED = {"changelog-producer": "lookup", "changelog-producer.row-deduplicate": "true"}

ROW = st.tuples(
    st.sampled_from(["", "a", "b", "key", "longer than one word"]),
    st.none() | st.integers(0, 1),
    st.none() | st.lists(st.integers(0, 1), max_size=1),
    st.none() | st.integers(0, 3),
    st.integers(0, 3),
)
ROWS = st.lists(ROW, max_size=8)


def records(rows: list[tuple[str, int | None, list[int] | None, int | None, int]], first: int) -> list[Record]:
    return [
        {"k": key, "v": value, "w": more, "at": at, SEQUENCE: first + place, KIND: kind}
        for place, (key, value, more, at, kind) in enumerate(rows)
    ]


def told(old: Record | None, new: Record, *, deduplicated: bool) -> list[Record]:
    """The changes of one key."""
    old = None if old is None or is_retract(old) else old
    if is_retract(new):
        return [] if old is None else [{**old, KIND: DELETE}]
    if old is None:
        return [{**new, KIND: INSERT}]
    if deduplicated and all(old[name] == new[name] for name in COLUMNS):
        return []
    return [{**old, KIND: UPDATE_BEFORE}, {**new, KIND: UPDATE_AFTER}]


@given(stored=ROWS, fresh=ROWS, sequenced=st.booleans(), deduplicated=st.booleans())
@settings(max_examples=examples(80), deadline=None)
def test_who_wins_and_what_is_told(
    stored: list[tuple[str, int | None, list[int] | None, int | None, int]],
    fresh: list[tuple[str, int | None, list[int] | None, int | None, int]],
    sequenced: bool,
    deduplicated: bool,
) -> None:
    schema = schema_of(COLUMNS, {**(SEQUENCED if sequenced else {}), **(DEDUPLICATED if deduplicated else {})})
    plan = MergePlan.of(schema)
    old = {record["k"]: record for record in records(stored, 0)}
    new = records(fresh, len(stored))
    matched = match(frame_of(new, schema), frame_of(old.values(), schema), plan)
    if matched is None:
        assert not new
        return
    merged = merge_model([*old.values(), *new], schema)
    touched = {record["k"] for record in new}
    assert matched.merged().to_dicts() == merged
    assert matched.changes(plan).to_dicts() == [
        change
        for record in merged
        if record["k"] in touched
        for change in told(old.get(record["k"]), record, deduplicated=deduplicated)
    ]


def test_fresh_rows_that_win_in_their_order_are_not_copied() -> None:
    schema = schema_of(COLUMNS)
    plan = MergePlan.of(schema)
    rows = records([("a", 1, None, 0, INSERT), ("b", 2, None, 0, INSERT)], 5)
    stored = frame_of(records([("b", 1, None, 0, INSERT)], 0), schema)
    matched = match(frame_of(rows, schema), stored, plan)
    backwards = match(frame_of(rows[::-1], schema), stored, plan)
    beside = match(frame_of(rows[:1], schema), stored, plan)
    assert matched is not None
    assert backwards is not None
    assert beside is not None
    assert [each.is_fresh_alone for each in (matched, backwards, beside)] == [True, False, False]
    assert matched.merged().to_dicts() == rows


@pytest.mark.parametrize(
    "options",
    [{"merge-engine": "partial-update"}, {"merge-engine": "first-row"}, {"ignore-delete": "true"}],
    ids=["rows become one", "the first stays", "deletes are left out"],
)
def test_rows_that_merge_in_another_way_are_not_matched(options: dict[str, str]) -> None:
    schema = schema_of(COLUMNS, options)
    rows = frame_of(records([("a", 1, None, 0, INSERT)], 0), schema)
    assert match(rows, rows.clear(), MergePlan.of(schema)) is None

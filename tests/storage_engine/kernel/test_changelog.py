"""Changelogs of lookup and full compaction: the table of cases, and that replaying one leads to the state it tells of."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage_engine.kernel.changelog import full_compaction_changelog, lookup_changelog, replay
from storage_engine.kernel.merge import MergePlan, drop_retracts, merge
from storage_engine.spec.schema import VALUE_KIND
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
    schema_of,
)

COLUMNS = {"k": "STRING", "v": "INT", "w": "ARRAY<INT>"}
ROW_DEDUPLICATE = {"changelog-producer": "lookup", "changelog-producer.row-deduplicate": "true"}


def row(key: str, value: int | None, sequence: int, kind: int, more: list[int] | None = None) -> Record:
    return {"k": key, "v": value, "w": more, SEQUENCE: sequence, KIND: kind}


def told(records: list[Record]) -> list[tuple[Any, ...]]:
    return [(record["k"], record["v"], record[SEQUENCE], record[KIND]) for record in records]


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (None, INSERT, [(INSERT, "after")]),
        (None, UPDATE_AFTER, [(INSERT, "after")]),
        (None, DELETE, []),
        (None, UPDATE_BEFORE, []),
        (DELETE, INSERT, [(INSERT, "after")]),
        (UPDATE_BEFORE, DELETE, []),
        (INSERT, DELETE, [(DELETE, "before")]),
        (UPDATE_AFTER, UPDATE_BEFORE, [(DELETE, "before")]),
        (INSERT, INSERT, [(UPDATE_BEFORE, "before"), (UPDATE_AFTER, "after")]),
        (UPDATE_AFTER, UPDATE_AFTER, [(UPDATE_BEFORE, "before"), (UPDATE_AFTER, "after")]),
    ],
)
def test_lookup_tells_each_case(before: int | None, after: int, expected: list[tuple[int, str]]) -> None:
    schema = schema_of(COLUMNS)
    sides = {"before": row("a", 1, 4, before or INSERT), "after": row("a", 2, 9, after)}
    stored = frame_of([] if before is None else [{**sides["before"], KIND: before}], schema)
    changes = lookup_changelog(stored, frame_of([sides["after"]], schema), MergePlan.of(schema))
    assert changes.to_dicts() == [{**sides[side], KIND: kind} for kind, side in expected]


def test_pairs_stand_together_in_the_order_of_keys() -> None:
    schema = schema_of(COLUMNS)
    before = frame_of([row("é", 3, 2, INSERT), row("b", 1, 0, INSERT), row("z", 2, 1, INSERT)], schema)
    after = frame_of(
        [row("a", 7, 5, INSERT), row("b", 8, 6, INSERT), row("z", 9, 7, DELETE), row("é", 3, 8, INSERT)], schema
    )
    assert told(lookup_changelog(before, after, MergePlan.of(schema)).to_dicts()) == [
        ("a", 7, 5, INSERT),
        ("b", 1, 0, UPDATE_BEFORE),
        ("b", 8, 6, UPDATE_AFTER),
        ("z", 2, 1, DELETE),
        ("é", 3, 2, UPDATE_BEFORE),
        ("é", 3, 8, UPDATE_AFTER),
    ]


@pytest.mark.parametrize(
    ("options", "silent"),
    [
        ({}, []),
        (ROW_DEDUPLICATE, ["same", "null"]),
        ({**ROW_DEDUPLICATE, "changelog-producer.row-deduplicate-ignore-fields": "w"}, ["list", "null", "same"]),
    ],
    ids=["pairs always", "no equal pairs", "ignoring a column"],
)
def test_equal_rows_are_told_unless_deduplicated(options: dict[str, str], silent: list[str]) -> None:
    schema = schema_of(COLUMNS, options)
    old = [row("list", 1, 0, INSERT, [1]), row("null", None, 1, INSERT), row("same", 1, 2, INSERT, [1, 2])]
    new = [row("list", 1, 3, INSERT, [2]), row("null", None, 4, INSERT), row("same", 1, 5, UPDATE_AFTER, [1, 2])]
    changes = lookup_changelog(frame_of(old, schema), frame_of(new, schema), MergePlan.of(schema))
    assert sorted(set(changes["k"])) == sorted({"list", "null", "same"} - set(silent))


def test_full_compaction_is_silent_about_rows_that_only_the_top_level_had() -> None:
    schema = schema_of(COLUMNS, {"changelog-producer": "full-compaction"})
    plan = MergePlan.of(schema)
    top = [
        row("gone", 1, 0, INSERT),
        row("kept", 2, 1, INSERT),
        row("new value", 3, 2, INSERT),
        row("same value", 4, 3, INSERT),
    ]
    newer = [
        row("absent", 5, 4, DELETE),
        row("fresh", 6, 5, INSERT),
        row("gone", 7, 6, DELETE),
        row("new value", 8, 7, INSERT),
        row("same value", 4, 8, INSERT),
    ]
    records = frame_of([*top, *newer], schema)
    changes = full_compaction_changelog(frame_of(top, schema), merge(records, plan), records, plan)
    assert told(changes.to_dicts()) == [
        ("fresh", 6, 5, INSERT),
        ("gone", 1, 0, DELETE),
        ("new value", 3, 2, UPDATE_BEFORE),
        ("new value", 8, 7, UPDATE_AFTER),
        ("same value", 4, 3, UPDATE_BEFORE),
        ("same value", 4, 8, UPDATE_AFTER),
    ]


CHANGES = st.lists(st.tuples(st.sampled_from("abcd"), st.none() | st.integers(0, 2), st.integers(0, 3)), max_size=8)


@given(batches=st.lists(CHANGES, max_size=6), deduplicated=st.booleans())
@settings(max_examples=examples(60), deadline=None)
def test_replaying_the_changelog_of_every_batch_leads_to_the_state(
    batches: list[list[tuple[str, int | None, int]]], deduplicated: bool
) -> None:
    schema = schema_of(COLUMNS, ROW_DEDUPLICATE if deduplicated else {})
    plan = MergePlan.of(schema)
    state = told_so_far = frame_of([], schema)
    sequence = 0
    for batch in batches:
        records = [row(key, value, sequence + place, kind) for place, (key, value, kind) in enumerate(batch)]
        sequence += len(records)
        level0 = merge(frame_of(records, schema), plan)
        merged = merge(state.vstack(level0), plan)
        after = merged.join(level0, on="k", how="semi")
        told_so_far = told_so_far.vstack(lookup_changelog(state, after, plan))
        state = drop_retracts(merged)
    shown = ["k", "v", "w"]
    assert replay(told_so_far, plan).select(shown).equals(state.select(shown))


def test_replay_drops_what_was_taken_back() -> None:
    schema = schema_of(COLUMNS)
    changes = [
        row("b", 1, 0, INSERT),
        row("a", 1, 1, INSERT),
        row("b", 1, 0, UPDATE_BEFORE),
        row("b", 2, 2, UPDATE_AFTER),
        row("a", 1, 1, DELETE),
    ]
    state = replay(frame_of(changes, schema), MergePlan.of(schema))
    assert state.drop(VALUE_KIND).rows() == [("b", 2, None, 2)]

"""Offsets that snapshots carry."""

from __future__ import annotations

from storage_engine.spec.snapshot import BATCH_COMMIT_IDENTIFIER
from storage_engine.write.offsets import OFFSET_PREFIX, PROPERTIES_PREFIX, Offsets, carried_properties

KNOWN = Offsets(identifiers={"a": 2, "b": 7}, user_properties={"a": {"at": "two"}})


def test_a_commit_advances_its_user_and_carries_the_others() -> None:
    carried = carried_properties(KNOWN, "a", 3, {"at": "three"})
    assert carried[OFFSET_PREFIX + "a"] == "3"
    assert carried[OFFSET_PREFIX + "b"] == "7"
    assert carried[PROPERTIES_PREFIX + "a"] == '{"at": "three"}'


def test_the_compaction_of_an_earlier_commit_does_not_take_the_offset_back() -> None:
    carried = carried_properties(KNOWN, "a", 1, {"at": "one"})
    assert carried[OFFSET_PREFIX + "a"] == "2"
    assert carried[PROPERTIES_PREFIX + "a"] == '{"at": "two"}'


def test_a_commit_without_identifier_carries_all() -> None:
    carried = carried_properties(KNOWN, "c", BATCH_COMMIT_IDENTIFIER, {})
    assert {key: value for key, value in carried.items() if key.startswith(OFFSET_PREFIX)} == {
        OFFSET_PREFIX + "a": "2",
        OFFSET_PREFIX + "b": "7",
    }

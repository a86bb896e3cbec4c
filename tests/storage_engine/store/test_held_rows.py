"""Rows of files that were just written: kept while there is room, and without what they were cut from."""

from __future__ import annotations

import polars as pl

from storage_engine.store.held_rows import SMALL_ROWS, HeldRows


def frame(first: int, rows: int) -> pl.DataFrame:
    return pl.DataFrame({"id": range(first, first + rows), "name": [f"name {n}" for n in range(rows)]})


def test_a_file_is_as_it_was_written_until_it_is_removed() -> None:
    held = HeldRows()
    whole = frame(0, 100)
    held.put("a", whole.slice(10, 20))
    found = held.get("a")
    assert found is not None
    assert found.equals(whole.slice(10, 20))
    held.forget("a")
    assert held.get("a") is None


def test_the_least_recently_used_leave_first() -> None:
    size = int(frame(0, 1000).estimated_size())
    held = HeldRows(most_bytes=3 * size + size // 2)
    for name in ("a", "b", "c"):
        held.put(name, frame(0, 1000))
    held.get("a")
    held.put("d", frame(0, 1000))
    assert [name for name in ("a", "b", "c", "d") if held.get(name) is not None] == ["a", "c", "d"]


def test_what_left_makes_room() -> None:
    size = int(frame(0, 1000).estimated_size())
    held = HeldRows(most_bytes=size + size // 2)
    for number in range(5):
        held.put(f"file {number}", frame(0, 1000))
        held.forget(f"file {number}")
    held.put("last", frame(0, 1000))
    assert held.get("last") is not None


def test_a_large_file_is_not_kept() -> None:
    held = HeldRows()
    held.put("large", frame(0, SMALL_ROWS + 1))
    assert held.get("large") is None

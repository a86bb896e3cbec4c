"""Levels, sorted runs and sections of overlapping keys."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from storage_engine.lsm.levels import Levels, SortedRun, sections
from storage_engine.spec.manifest import DataFileMeta


def a_file(
    name: str,
    *,
    level: int = 0,
    size: int = 1,
    keys: tuple[str, str] = ("a", "a"),
    sequence: tuple[int, int] = (0, 0),
    created: int | None = None,
) -> DataFileMeta:
    return DataFileMeta(
        file_name=name,
        file_size=size,
        row_count=1,
        min_key=keys[0].encode(),
        max_key=keys[1].encode(),
        min_sequence_number=sequence[0],
        max_sequence_number=sequence[1],
        schema_id=0,
        level=level,
        creation_time_millis=created,
    )


def key_of(key: bytes) -> tuple[object, ...]:
    return (key.decode(),)


def names(run: SortedRun) -> list[str]:
    return [file.file_name for file in run.files]


def test_each_level_0_file_is_a_run_newest_first_and_each_level_above_is_one() -> None:
    files = [
        a_file("top-a", level=5),
        a_file("old", sequence=(0, 3)),
        a_file("third", level=3),
        a_file("new", sequence=(7, 9)),
        a_file("same-b", sequence=(4, 6), created=2),
        a_file("same-c", sequence=(4, 6), created=1),
        a_file("wide", sequence=(1, 6)),
        a_file("top-b", level=5),
    ]
    levels = Levels.of(files)
    runs = levels.runs()
    assert [names(run) for run in runs] == [
        ["new"],
        ["wide"],
        ["same-c"],
        ["same-b"],
        ["old"],
        ["third"],
        ["top-a", "top-b"],
    ]
    assert [run.level for run in runs] == [0, 0, 0, 0, 0, 3, 5]
    assert levels.highest_non_empty_level == 5


def test_the_number_of_levels_follows_the_trigger_the_option_or_the_files() -> None:
    assert Levels.of([], trigger=5).max_level == 5
    assert Levels.of([], num_levels=3, trigger=5).max_level == 2
    assert Levels.of([a_file("high", level=8)], num_levels=3).max_level == 8
    assert Levels.of([]).highest_non_empty_level == -1
    assert Levels.of([a_file("new")]).highest_non_empty_level == 0


def test_a_compaction_replaces_its_files() -> None:
    levels = Levels.of([a_file("a"), a_file("b"), a_file("c", level=5)])
    updated = levels.updated(before=[a_file("a"), a_file("b")], after=[a_file("d", level=4), a_file("a", level=3)])
    assert {(file.file_name, file.level) for file in updated.files} == {("a", 3), ("d", 4), ("c", 5)}


def test_ranges_that_touch_are_one_section() -> None:
    files = [a_file("1", keys=("a", "c")), a_file("2", keys=("c", "d")), a_file("3", keys=("e", "f"))]
    assert [[names(run) for run in section] for section in sections(files, key_of)] == [[["1"], ["2"]], [["3"]]]


def test_keys_are_compared_by_their_bytes() -> None:
    files = [a_file("late", keys=("😀", "😀")), a_file("early", keys=("ab", "￿"))]
    assert [[names(run) for run in section] for section in sections(files, key_of)] == [[["early"]], [["late"]]]


RANGES = st.lists(st.tuples(st.integers(0, 20), st.integers(0, 6)), max_size=12)


def number_of(key: bytes) -> tuple[object, ...]:
    return (int(key),)


@given(ranges=RANGES)
def test_sections_are_the_connected_components_in_runs_without_overlap(ranges: list[tuple[int, int]]) -> None:
    files = [a_file(str(i), keys=(str(low), str(low + width))) for i, (low, width) in enumerate(ranges)]
    spans = {str(i): (low, low + width) for i, (low, width) in enumerate(ranges)}
    found = sections(files, number_of)
    assert sorted(name for section in found for run in section for name in names(run)) == sorted(spans)
    ends = [
        (
            min(spans[n][0] for run in section for n in names(run)),
            max(spans[n][1] for run in section for n in names(run)),
        )
        for section in found
    ]
    assert all(earlier[1] < later[0] for earlier, later in itertools.pairwise(ends))
    for section in found:
        for run in section:
            inside = [spans[name] for name in names(run)]
            assert all(left[1] < right[0] for left, right in itertools.pairwise(inside))
        covered = {key for run in section for n in names(run) for key in range(spans[n][0], spans[n][1] + 1)}
        # Fewest runs: as many as files that hold one same key.
        members = [spans[name] for run in section for name in names(run)]
        assert len(section) == max(sum(low <= key <= high for low, high in members) for key in covered)
        # Connected: every gap between whole keys is bridged by a file.
        assert covered == set(range(min(covered), max(covered) + 1))

"""The universal compaction's decisions, each rule with a story, and a long run of small commits."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage_engine.lsm.levels import Levels
from storage_engine.lsm.universal_compaction import CompactUnit, pick
from storage_engine.options import TableOptions
from storage_engine.spec.manifest import DataFileMeta

OPTIONS = TableOptions()


def a_file(number: int, level: int, size: int) -> DataFileMeta:
    return DataFileMeta(
        file_name=f"{level}-{number}",
        file_size=size,
        row_count=1,
        min_sequence_number=number,
        max_sequence_number=number,
        schema_id=0,
        level=level,
    )


def levels_of(*runs: tuple[int, int]) -> Levels:
    """Runs as (level, size), newest first."""
    return Levels.of([a_file(-place, level, size) for place, (level, size) in enumerate(runs)])


def sizes(unit: CompactUnit | None) -> tuple[int, list[int]] | None:
    return None if unit is None else (unit.output_level, [file.file_size for file in unit.files])


def test_few_runs_are_left_alone() -> None:
    assert pick(levels_of((0, 1), (0, 1), (0, 1), (5, 100)), OPTIONS) is None
    assert pick(levels_of(), OPTIONS) is None


def test_runs_that_outweigh_the_oldest_go_to_the_top_together() -> None:
    unit = pick(levels_of((0, 60), (0, 60), (0, 60), (0, 60), (5, 100)), OPTIONS)
    assert sizes(unit) == (5, [60, 60, 60, 60, 100])
    assert unit is not None
    assert unit.drop_delete


def test_newest_runs_of_like_size_merge_below_the_next_run() -> None:
    unit = pick(levels_of((0, 1), (0, 1), (0, 2), (4, 50), (5, 1000)), OPTIONS)
    assert sizes(unit) == (3, [1, 1, 2])
    assert unit is not None
    assert not unit.drop_delete


def test_the_size_ratio_lets_a_slightly_larger_run_in() -> None:
    runs = [(0, 100), (0, 101), (0, 500), (4, 900), (5, 100_000)]
    assert sizes(pick(levels_of(*runs), OPTIONS)) == (4, [100, 101, 500, 900])
    runs[1] = (0, 102)
    assert pick(levels_of(*runs), OPTIONS) is None


def test_too_many_runs_are_cut_down_to_the_trigger() -> None:
    unit = pick(levels_of((0, 1), (0, 2), (0, 8), (0, 32), (3, 128), (4, 512), (5, 100_000)), OPTIONS)
    assert sizes(unit) == (3, [1, 2, 8, 32, 128])
    unit = pick(levels_of((0, 1), (0, 9), (2, 100), (3, 1000), (4, 10_000), (5, 100_000)), OPTIONS)
    assert sizes(unit) == (1, [1, 9])


def test_nothing_is_merged_into_level_0() -> None:
    unit = pick(levels_of((0, 1), (0, 1), (0, 1000), (1, 5000), (5, 1_000_000)), OPTIONS)
    assert sizes(unit) == (1, [1, 1, 1000, 5000])
    only_level0 = levels_of((0, 1), (0, 1), (0, 100), (0, 1000), (0, 1_000_000))
    assert sizes(pick(only_level0, OPTIONS)) == (5, [1, 1, 100, 1000, 1_000_000])


def test_forcing_takes_level_0_up_even_if_nothing_is_due() -> None:
    assert sizes(pick(levels_of((0, 1)), OPTIONS, force_level0=True)) == (5, [1])
    assert sizes(pick(levels_of((0, 1), (5, 100)), OPTIONS, force_level0=True)) == (4, [1])
    assert sizes(pick(levels_of((0, 1), (4, 2), (5, 100)), OPTIONS, force_level0=True)) == (3, [1])
    assert sizes(pick(levels_of((0, 5), (4, 2), (5, 100)), OPTIONS, force_level0=True)) == (4, [5, 2])
    assert sizes(pick(levels_of((0, 1), (1, 50), (5, 100)), OPTIONS, force_level0=True)) == (1, [1, 50])
    assert pick(levels_of((4, 1), (5, 100)), OPTIONS, force_level0=True) is None


def test_a_full_compaction_takes_everything_and_is_idle_at_the_top() -> None:
    assert sizes(pick(levels_of((0, 1), (3, 5)), OPTIONS, full=True)) == (5, [1, 5])
    assert sizes(pick(levels_of((3, 5)), OPTIONS, full=True)) == (5, [5])
    assert pick(levels_of((5, 5)), OPTIONS, full=True) is None
    assert pick(levels_of(), OPTIONS, full=True) is None


def test_a_full_compaction_rewrites_top_files_that_hold_deleted_rows() -> None:
    levels = Levels.of([a_file(0, 5, 1), a_file(1, 5, 2)])
    unit = pick(levels, OPTIONS, full=True, rewrite=frozenset({"5-1"}))
    assert sizes(unit) == (5, [2])
    assert unit is not None
    assert unit.file_rewrite


def test_deletes_are_kept_while_something_older_lies_below_unless_vectors_mask_it() -> None:
    runs = ((0, 1), (5, 100))
    kept = pick(levels_of(*runs), OPTIONS, force_level0=True)
    dropped = pick(levels_of(*runs), TableOptions(deletion_vectors=True), force_level0=True)
    assert kept is not None
    assert dropped is not None
    assert (kept.drop_delete, dropped.drop_delete) == (False, True)


def test_one_row_commits_compact_at_the_fifth_ninth_and_thirteenth() -> None:
    files: list[DataFileMeta] = []
    compacted = []
    for commit in range(1, 14):
        files.append(a_file(commit, 0, 1000))
        unit = pick(Levels.of(files), OPTIONS)
        if unit is not None:
            compacted.append((commit, unit.output_level))
            rest = [file for file in files if file not in unit.files]
            files = [*rest, a_file(commit, unit.output_level, 1000)]
    assert compacted == [(5, 5), (9, 5), (13, 5)]


@given(
    sizes_written=st.lists(st.integers(1, 10_000), max_size=60),
    trigger=st.integers(2, 6),
    forced=st.booleans(),
)
def test_every_pick_is_a_prefix_of_the_runs_and_keeps_their_number_bounded(
    sizes_written: list[int], trigger: int, forced: bool
) -> None:
    options = TableOptions(compaction_trigger=trigger)
    files: list[DataFileMeta] = []
    for number, size in enumerate(sizes_written):
        files.append(a_file(number, 0, size))
        levels = Levels.of(files, trigger=trigger)
        unit = pick(levels, options, force_level0=forced)
        if unit is None:
            assert len(levels.runs()) <= trigger
            assert not forced
            continue
        assert list(levels.files[: len(unit.files)]) == list(unit.files)
        assert 0 < unit.output_level <= levels.max_level
        rest = levels.files[len(unit.files) :]
        assert all(file.level > unit.output_level for file in rest)
        assert unit.drop_delete == (not rest)
        files = [*rest, a_file(number, unit.output_level, sum(file.file_size for file in unit.files))]


@pytest.mark.parametrize("trigger", [2, 5])
def test_a_run_alone_at_its_output_level_is_not_picked(trigger: int) -> None:
    options = TableOptions(compaction_trigger=trigger)
    levels = Levels.of([a_file(0, trigger, 5)], trigger=trigger)
    assert pick(levels, options, force_level0=True) is None

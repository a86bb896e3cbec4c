"""Which files of an append table are rewritten together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from storage_engine.lsm.append_compaction import AppendBucket, Effort, pick_append
from storage_engine.options import TableOptions
from storage_engine.spec.manifest import DataFileMeta

OPTIONS = TableOptions.parse({"target-file-size": "100 b", "source.split.open-file-cost": "0 b"})


def picked(
    sizes: Sequence[int], effort: Effort, *, ordered: bool = False, deleted: Mapping[int, int] | None = None
) -> list[list[int]]:
    """The positions of the files in each unit; every file has ten rows."""
    files = tuple(
        DataFileMeta(
            file_name=str(number),
            file_size=size,
            row_count=10,
            min_sequence_number=number * 10,
            max_sequence_number=number * 10 + 9,
            schema_id=0,
            level=0,
        )
        for number, size in enumerate(sizes)
    )
    hidden = {str(number): count for number, count in (deleted or {}).items()}
    bucket = AppendBucket(files=files, deleted=hidden, ordered=ordered)
    return [[int(file.file_name) for file in unit] for unit in pick_append(bucket, OPTIONS, effort)]


@pytest.mark.parametrize("ordered", [True, False])
def test_few_small_files_wait(ordered: bool) -> None:
    assert picked([1, 1, 1, 1], Effort.DUE, ordered=ordered) == []
    assert picked([1, 1, 1, 1, 1], Effort.DUE, ordered=ordered) == [[0, 1, 2, 3, 4]]
    assert picked([1, 1], Effort.FULL, ordered=ordered) == [[0, 1]]
    assert picked([1], Effort.FULL, ordered=ordered) == []


def test_large_files_stay() -> None:
    assert picked([70, 100, 500, 1], Effort.FULL) == []
    assert picked([1, 100, 2, 500, 3], Effort.FULL) == [[0, 2, 4]]


def test_files_are_packed_up_to_two_target_sizes() -> None:
    assert picked([60] * 9, Effort.DUE) == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert picked([60] * 9, Effort.FULL) == [[0, 1, 2, 3], [4, 5, 6, 7]]


def test_buckets_in_order_pack_neighbours_alone() -> None:
    assert picked([1, 1, 100, 1, 1, 1], Effort.FULL, ordered=True) == [[0, 1], [3, 4, 5]]
    assert picked([1] * 4 + [100] + [1] * 6, Effort.DUE, ordered=True) == [[5, 6, 7, 8, 9]]


@pytest.mark.parametrize("ordered", [True, False])
def test_files_with_many_deleted_rows_are_rewritten(ordered: bool) -> None:
    assert picked([500, 1, 500], Effort.DUE, ordered=ordered, deleted={0: 2, 2: 3}) == ([[2]] if ordered else [[1, 2]])
    assert picked([500, 1, 500], Effort.FULL, ordered=ordered, deleted={0: 1})[0][0] == 0
    assert picked([500, 500, 500], Effort.AFTER_WRITE, ordered=ordered, deleted={1: 9}) == [[1]]


@pytest.mark.parametrize("ordered", [True, False])
def test_after_each_write_a_row_is_rewritten_few_times(ordered: bool) -> None:
    """A thousand commits of one byte: the files stay few, and so does what is written in all."""
    sizes: list[int] = []
    written = 0
    options = TableOptions.parse({"target-file-size": "1 gb"})
    for number in range(1000):
        sizes.append(1)
        files = tuple(
            DataFileMeta(
                file_name=str(place),
                file_size=size,
                row_count=1,
                min_sequence_number=place,
                max_sequence_number=place,
                schema_id=0,
                level=0,
            )
            for place, size in enumerate(sizes)
        )
        for unit in pick_append(AppendBucket(files=files, deleted={}, ordered=ordered), options, Effort.AFTER_WRITE):
            gone = {int(file.file_name) for file in unit}
            total = sum(file.file_size for file in unit)
            written += total
            sizes = [size for place, size in enumerate(sizes) if place not in gone] + [total]
        assert sum(sizes) == number + 1
        assert len(sizes) < 16
    assert written < 8 * 1000

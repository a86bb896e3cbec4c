"""The shape of one bucket's merge tree: levels, sorted runs and key sections. Immutable, no IO.

Spec: "LSM tree" of Apache Paimon 1.3.1. Each file of level 0 is a sorted run; every other level is one run. For one key, a
lower level (and in level 0 a later file) is newer.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

from storage_engine.kernel.keys import key_order
from storage_engine.spec.manifest import DataFileMeta

KeyOf: TypeAlias = Callable[[bytes], Sequence[object]]
"""A serialized key (``DataFileMeta.min_key``) as its Python values."""


@dataclass(frozen=True, kw_only=True)
class SortedRun:
    """Files with disjoint key ranges, all of one level (``sections`` makes runs of mixed levels: ``level`` is -1 then)."""

    level: int
    files: tuple[DataFileMeta, ...]

    @cached_property
    def total_size(self) -> int:
        """Bytes of all files."""
        return sum(file.file_size for file in self.files)


@dataclass(frozen=True, kw_only=True)
class Levels:
    """All live data files of one bucket by level. ``num_levels`` counts level 0."""

    num_levels: int
    level0: tuple[DataFileMeta, ...]
    upper: tuple[SortedRun, ...]

    @staticmethod
    def of(files: Iterable[DataFileMeta], *, num_levels: int | None = None, trigger: int = 5) -> Levels:
        """Arrange files by level.

        Without ``num_levels`` there are ``trigger`` + 1; in any case enough for the highest level in use.
        """
        by_level: dict[int, list[DataFileMeta]] = {}
        for file in files:
            by_level.setdefault(file.level, []).append(file)
        wanted = trigger + 1 if num_levels is None else num_levels
        upper = [
            SortedRun(level=level, files=tuple(members)) for level, members in sorted(by_level.items()) if level > 0
        ]
        return Levels(
            num_levels=max(wanted, 2, max(by_level, default=-1) + 1),
            level0=tuple(sorted(by_level.get(0, ()), key=_newest_first)),
            upper=tuple(upper),
        )

    @property
    def max_level(self) -> int:
        """The highest level there may be."""
        return self.num_levels - 1

    @property
    def highest_non_empty_level(self) -> int:
        """The highest level with a file, -1 if there is none."""
        if self.upper:
            return self.upper[-1].level
        return 0 if self.level0 else -1

    @cached_property
    def files(self) -> tuple[DataFileMeta, ...]:
        """All files, in the order of their runs."""
        return tuple(file for run in self.runs() for file in run.files)

    def runs(self) -> tuple[SortedRun, ...]:
        """Sorted runs, newest first: the files of level 0, then each non-empty level."""
        return (*(SortedRun(level=0, files=(file,)) for file in self.level0), *self.upper)

    def updated(self, *, before: Iterable[DataFileMeta], after: Iterable[DataFileMeta]) -> Levels:
        """The levels once a compaction has replaced ``before`` by ``after``."""
        gone = {(file.file_name, file.level) for file in before}
        kept = [file for file in self.files if (file.file_name, file.level) not in gone]
        return Levels.of([*kept, *after], num_levels=self.num_levels)


def _newest_first(file: DataFileMeta) -> tuple[int, int, int, str]:
    created = -1 if file.creation_time_millis is None else file.creation_time_millis
    return (-file.max_sequence_number, file.min_sequence_number, created, file.file_name)


def sections(files: Iterable[DataFileMeta], key_of: KeyOf) -> list[list[SortedRun]]:
    """Partition files into sections of overlapping key ranges (touching is overlapping), in key order.

    Inside a section the files are dealt into as few sorted runs as possible.
    """
    ranged = [
        (key_order(key_of(file.min_key)), key_order(key_of(file.max_key)), index, file)
        for index, file in enumerate(files)
    ]
    ranged.sort(key=lambda item: item[:3])
    found: list[list[SortedRun]] = []
    members: list[_Ranged] = []
    bound: tuple[Any, ...] = ()
    for item in ranged:
        if members and item[0] > bound:
            found.append(_runs_of(members))
            members = []
        bound = max(bound, item[1]) if members else item[1]
        members.append(item)
    return [*found, _runs_of(members)] if members else found


def stacked_runs(files: Iterable[DataFileMeta], key_of: KeyOf) -> list[tuple[DataFileMeta, ...]]:
    """Files as so few sorted runs as possible, each in key order: one after the other, the sections' runs."""
    stacked: list[list[DataFileMeta]] = []
    for section in sections(files, key_of):
        for number, run in enumerate(section):
            if number == len(stacked):
                stacked.append([])
            stacked[number] += run.files
    return [tuple(run) for run in stacked]


_Ranged: TypeAlias = tuple[tuple[Any, ...], tuple[Any, ...], int, DataFileMeta]


def _runs_of(members: Sequence[_Ranged]) -> list[SortedRun]:
    """Deal files, sorted by their smallest key, into runs: each goes to the run that ends first, if it ends before it."""
    ends: list[tuple[tuple[Any, ...], int]] = []
    runs: list[list[DataFileMeta]] = []
    for low, high, _, file in members:
        if ends and low > ends[0][0]:
            _, run = heapq.heapreplace(ends, (high, ends[0][1]))
            runs[run].append(file)
        else:
            heapq.heappush(ends, (high, len(runs)))
            runs.append([file])
    return [_run_of(run) for run in runs]


def _run_of(files: Sequence[DataFileMeta]) -> SortedRun:
    levels = {file.level for file in files}
    return SortedRun(level=levels.pop() if len(levels) == 1 else -1, files=tuple(files))

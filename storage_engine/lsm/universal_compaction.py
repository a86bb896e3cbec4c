"""What to compact in one bucket: a pure decision over its sorted runs.

Spec: "Compaction" of Apache Paimon 1.3.1, strategy "universal". In this order: size amplification, size ratio, number of
runs; strategies that need level 0 empty force it up when none of these fires.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from storage_engine.lsm.levels import Levels, SortedRun
from storage_engine.options import TableOptions
from storage_engine.spec.manifest import DataFileMeta


@dataclass(frozen=True, slots=True, kw_only=True)
class CompactUnit:
    """Files to be compacted into ``output_level``.

    ``drop_delete``: nothing older lies below, so retract rows need not be written. ``file_rewrite``: each file is rewritten by
    itself (a single run at the top whose files hold deleted rows).
    """

    output_level: int
    files: tuple[DataFileMeta, ...]
    drop_delete: bool
    file_rewrite: bool = False


def pick(
    levels: Levels,
    options: TableOptions,
    *,
    force_level0: bool = False,
    full: bool = False,
    rewrite: frozenset[str] = frozenset(),
    now_millis: int | None = None,
) -> CompactUnit | None:
    """Choose what to compact, or None.

    ``now_millis``: the local wall-clock time, in the way that files keep the time of their creation.
    ``force_level0``: if nothing else is due, take level 0 up (lookup strategies). ``full``: everything to the top level;
    if it stands there already, only the files named in ``rewrite`` (those with deletion vectors), each by itself.
    """
    runs = levels.runs()
    if full:
        return _full(levels, runs, options, rewrite)
    if len(runs) > 1 and _is_optimized(levels, options, now_millis):
        return _of(levels, levels.max_level, levels.files, options)
    forced = force_level0 or options.compaction_force_up_level0
    count = _due_runs(runs, options) or (_level0_runs(runs, options) if forced else 0)
    if count == 0:
        return None
    unit = _unit(levels, runs, count, options)
    if len(unit.files) == 1 and unit.files[0].level == unit.output_level:
        return None
    return unit


def _is_optimized(levels: Levels, options: TableOptions, now_millis: int | None) -> bool:
    """Whether all runs become one: a small bucket, or one whose top level has not been written for a while."""
    if sum(file.file_size for file in levels.files) < options.compaction_total_size_threshold:
        return True
    interval = options.compaction_optimization_interval_ms
    if interval is None or now_millis is None:
        return False
    top = [file.creation_time_millis or 0 for file in levels.files if file.level == levels.max_level]
    return now_millis - max(top, default=0) > interval


def _full(
    levels: Levels, runs: Sequence[SortedRun], options: TableOptions, rewrite: frozenset[str]
) -> CompactUnit | None:
    if not runs:
        return None
    if len(runs) == 1 and runs[0].level == levels.max_level:
        files = tuple(file for file in runs[0].files if file.file_name in rewrite)
        return _of(levels, levels.max_level, files, options, file_rewrite=True) if files else None
    return _of(levels, levels.max_level, levels.files, options)


def _due_runs(runs: Sequence[SortedRun], options: TableOptions) -> int:
    """How many of the newest runs are due for compaction, 0 if none."""
    trigger = options.compaction_trigger
    if len(runs) < trigger:
        return 0
    newer = sum(run.total_size for run in runs[:-1])
    if newer * 100 > options.max_size_amplification_percent * runs[-1].total_size:
        return len(runs)
    by_ratio = _extended(runs, 1, options)
    if by_ratio > 1:
        return by_ratio
    if len(runs) <= trigger:
        return 0
    by_number = _extended(runs, len(runs) - trigger + 1, options)
    return by_number if by_number > 1 else 0


def _level0_runs(runs: Sequence[SortedRun], options: TableOptions) -> int:
    count = sum(run.level == 0 for run in runs)
    return _extended(runs, count, options) if count else 0


def _extended(runs: Sequence[SortedRun], count: int, options: TableOptions) -> int:
    """Extend the ``count`` newest runs by each next one that is not larger than what is gathered (by the size ratio)."""
    gathered = sum(run.total_size for run in runs[:count])
    for run in runs[count:]:
        if gathered * (100.0 + options.size_ratio) / 100.0 < run.total_size:
            break
        gathered += run.total_size
        count += 1
    return count


def _unit(levels: Levels, runs: Sequence[SortedRun], count: int, options: TableOptions) -> CompactUnit:
    """The unit of the ``count`` newest runs: it ends right above the next run, and never at level 0."""
    output = levels.max_level if count == len(runs) else max(0, runs[count].level - 1)
    if output == 0:
        for run in runs[count:]:
            count += 1
            if run.level != 0:
                output = run.level
                break
    if count == len(runs):
        output = levels.max_level
    return _of(levels, output, tuple(file for run in runs[:count] for file in run.files), options)


def _of(
    levels: Levels,
    output_level: int,
    files: tuple[DataFileMeta, ...],
    options: TableOptions,
    *,
    file_rewrite: bool = False,
) -> CompactUnit:
    drops = output_level != 0 and (options.deletion_vectors or output_level >= levels.highest_non_empty_level)
    return CompactUnit(output_level=output_level, files=files, drop_delete=drops, file_rewrite=file_rewrite)

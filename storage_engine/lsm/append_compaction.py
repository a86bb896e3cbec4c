"""Which files of an append table to rewrite together: a pure decision over their sizes and deleted rows.

Spec: "Append Table / Compaction" of Apache Paimon 1.3.1. Small files, and files with many deleted rows, are packed up to the
target size. In a bucketed table the order of rows is kept, so only neighbours are packed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from itertools import groupby

from storage_engine.options import TableOptions
from storage_engine.spec.manifest import DataFileMeta

_SMALL_FILE_SHARE = 0.7
_PACKED_TARGETS = 2
Unit = tuple[DataFileMeta, ...]


class Effort(Enum):
    """How much to compact: what a write leaves to be done at once, what is due, or everything that is small."""

    AFTER_WRITE = auto()
    DUE = auto()
    FULL = auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class AppendBucket:
    """Files of one bucket, and how many rows of each are hidden by its deletion vector.

    ``ordered``: rows must stay in the order of the files' sequence numbers.
    """

    files: tuple[DataFileMeta, ...]
    deleted: Mapping[str, int]
    ordered: bool


def in_sequence(files: Sequence[DataFileMeta]) -> list[DataFileMeta]:
    """Files in the order in which their rows are read."""
    return sorted(files, key=lambda file: (file.min_sequence_number, file.max_sequence_number))


def pick_append(bucket: AppendBucket, options: TableOptions, effort: Effort) -> list[Unit]:
    """Groups of files, each to be rewritten into files of the target size."""
    target = options.target_file_size_bytes(has_primary_key=False)
    wasted = [file for file in bucket.files if _is_wasted(file, bucket, options, effort)]
    named = {file.file_name for file in wasted}
    small = _SMALL_FILE_SHARE * target
    candidates = [file for file in bucket.files if file.file_name in named or file.file_size < small]
    units = _ORDERED[effort](bucket, candidates, options) if bucket.ordered else _PACKED[effort](candidates, options)
    kept = [unit for unit in units if len(unit) > 1 or unit[0].file_name in named]
    picked = {file.file_name for unit in kept for file in unit}
    alone = [file for file in in_sequence(wasted) if file.file_name not in picked]
    return [*kept, *((file,) for file in alone)]


def _is_wasted(file: DataFileMeta, bucket: AppendBucket, options: TableOptions, effort: Effort) -> bool:
    """Whether so many rows of a file are deleted that it is to be rewritten in any case."""
    deleted = bucket.deleted.get(file.file_name, 0)
    share = 0.0 if effort is Effort.FULL else options.compaction_delete_ratio_threshold
    return deleted > share * file.row_count


def _packed(files: Sequence[DataFileMeta], options: TableOptions, least: int) -> Iterator[Unit]:
    """Files by size in bins of about two target sizes; what is left over is a bin if it is ``least`` files."""
    full = _PACKED_TARGETS * options.target_file_size_bytes(has_primary_key=False)
    some: list[DataFileMeta] = []
    for file in sorted(files, key=lambda file: file.file_size):
        some.append(file)
        if len(some) > 1 and sum(member.file_size + options.open_file_cost for member in some) >= full:
            yield tuple(in_sequence(some))
            some = []
    if some and len(some) >= least:
        yield tuple(in_sequence(some))


def _newest_tier(files: Sequence[DataFileMeta], options: TableOptions) -> Iterator[Unit]:
    """The first files, each not larger than those before it together: so a row is rewritten a logarithmic number of times."""
    some: list[DataFileMeta] = []
    gathered = 0
    for file in files:
        if some and file.file_size > gathered:
            break
        some.append(file)
        gathered += file.file_size
    if len(some) >= options.compaction_min_file_num:
        yield tuple(in_sequence(some))


def _neighbours(bucket: AppendBucket, candidates: Sequence[DataFileMeta]) -> Iterator[list[DataFileMeta]]:
    """Candidates that stand side by side in the order of the bucket."""
    named = {file.file_name for file in candidates}
    for is_candidate, files in groupby(in_sequence(bucket.files), key=lambda file: file.file_name in named):
        if is_candidate:
            yield list(files)


def _every_run(bucket: AppendBucket, candidates: Sequence[DataFileMeta], _: TableOptions) -> Iterator[Unit]:
    yield from (tuple(run) for run in _neighbours(bucket, candidates))


def _due_runs(bucket: AppendBucket, candidates: Sequence[DataFileMeta], options: TableOptions) -> Iterator[Unit]:
    """Of each run of neighbours the windows of ``compaction.min.file-num`` files, a window sliding past large ones."""
    target = options.target_file_size_bytes(has_primary_key=False)
    for run in _neighbours(bucket, candidates):
        window: list[DataFileMeta] = []
        for file in run:
            window.append(file)
            if len(window) >= options.compaction_min_file_num:
                yield tuple(window)
                window = []
            elif sum(member.file_size for member in window) >= target:
                window = window[1:]


def _newest_run(bucket: AppendBucket, candidates: Sequence[DataFileMeta], options: TableOptions) -> Iterator[Unit]:
    runs = list(_neighbours(bucket, candidates))
    if runs:
        yield from _newest_tier(runs[-1][::-1], options)


_ORDERED: Mapping[Effort, Callable[[AppendBucket, Sequence[DataFileMeta], TableOptions], Iterator[Unit]]] = {
    Effort.AFTER_WRITE: _newest_run,
    Effort.DUE: _due_runs,
    Effort.FULL: _every_run,
}
_PACKED: Mapping[Effort, Callable[[Sequence[DataFileMeta], TableOptions], Iterator[Unit]]] = {
    Effort.AFTER_WRITE: lambda files, options: _newest_tier(sorted(files, key=lambda file: file.file_size), options),
    Effort.DUE: lambda files, options: _packed(files, options, options.compaction_min_file_num),
    Effort.FULL: lambda files, options: _packed(files, options, 1),
}

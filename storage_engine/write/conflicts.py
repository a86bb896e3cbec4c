"""Whether a commit still fits what others committed meanwhile: a pure decision over manifest entries.

Spec: commit conflict checks of Apache Paimon 1.3.1.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise

from storage_engine.codec.binary_row import deserialize_row
from storage_engine.kernel.keys import key_order
from storage_engine.spec.manifest import DataFileMeta, FileKind, ManifestEntry
from storage_engine.spec.types import DataType


def conflict(
    live: Iterable[ManifestEntry],
    delta: Sequence[ManifestEntry],
    *,
    key_types: Sequence[DataType],
    overwrite: bool = False,
) -> str | None:
    """The reason why ``delta`` cannot be committed on top of ``live``, or None.

    ``live`` are the live entries of the touched partitions in the latest snapshot.
    """
    by_identity = {entry.identity: entry for entry in live}
    for entry in delta:
        if entry.kind is FileKind.DELETE:
            if by_identity.pop(entry.identity, None) is None:
                return f"file {entry.file.file_name} was removed by another commit meanwhile"
        elif entry.identity in by_identity:
            return f"file {entry.file.file_name} is already part of the table"
        else:
            by_identity[entry.identity] = entry
    merged = list(by_identity.values())
    return (None if overwrite else _mixed_bucket_counts(merged)) or _overlap(merged, key_types)


def _mixed_bucket_counts(entries: Iterable[ManifestEntry]) -> str | None:
    counts: dict[bytes, int] = {}
    for entry in entries:
        if entry.total_buckets <= 0:
            continue
        expected = counts.setdefault(entry.partition, entry.total_buckets)
        if entry.total_buckets != expected:
            return f"a partition would hold files of {expected} and of {entry.total_buckets} buckets"
    return None


def _overlap(entries: Iterable[ManifestEntry], key_types: Sequence[DataType]) -> str | None:
    """Two files of one level above 0 whose key ranges overlap."""
    if not key_types:
        return None
    runs: dict[tuple[bytes, int, int], list[DataFileMeta]] = {}
    for entry in entries:
        if entry.file.level > 0:
            runs.setdefault((entry.partition, entry.bucket, entry.file.level), []).append(entry.file)
    for (_, bucket, level), files in runs.items():
        if len(files) == 1:
            continue
        ranges = sorted(
            ((key_order(deserialize_row(key_types, file.min_key)), file) for file in files),
            key=lambda item: item[0],
        )
        for (_, left), (low, right) in pairwise(ranges):
            if key_order(deserialize_row(key_types, left.max_key)) >= low:
                return f"level {level} of bucket {bucket} would hold overlapping files"
                f" {left.file_name} and {right.file_name}"
    return None

"""Whether a change of deletion vectors still fits what others committed meanwhile: a pure decision over index entries.

Spec: deletion vector conflict checks of Apache Paimon 1.3.1, for append tables: there a vector can change without its data file.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from storage_engine.spec.manifest import (
    DELETION_VECTORS_INDEX,
    DeletionVectorRange,
    FileKind,
    IndexManifestEntry,
    ManifestEntry,
)


def vector_conflict(
    listed: Iterable[IndexManifestEntry],
    change: Sequence[IndexManifestEntry],
    *,
    live: Collection[str],
    delta: Iterable[ManifestEntry],
) -> str | None:
    """The reason why vectors cannot change so, or None.

    ``listed`` are the index entries of the latest snapshot, ``live`` the names of its data files, ``delta`` what the commit
    changes of them.
    """
    before = {entry.index_file.file_name: entry for entry in listed if _has_vectors(entry)}
    removed = [entry for entry in change if entry.kind is FileKind.DELETE and _has_vectors(entry)]
    for entry in removed:
        if before.pop(entry.index_file.file_name, None) is None:
            return f"the deletion vectors {entry.index_file.file_name} were replaced by another commit meanwhile"
    added = [entry for entry in change if entry.kind is FileKind.ADD and _has_vectors(entry)]
    gone = _gone(delta)
    kept = {part.data_file_name for entry in before.values() for part in _ranges(entry)}
    for name in (part.data_file_name for entry in added for part in _ranges(entry)):
        if name in kept:
            return f"another commit has deleted rows of file {name} meanwhile"
        if name not in live or name in gone:
            return f"file {name}, whose rows are deleted, was removed by another commit meanwhile"
    stale = sorted(kept & gone)
    return f"another commit has deleted rows of file {stale[0]} meanwhile" if stale else None


def _gone(delta: Iterable[ManifestEntry]) -> set[str]:
    """The files that a commit removes; one that it only describes anew (with other indexes) stays."""
    names: dict[FileKind, set[str]] = {FileKind.ADD: set(), FileKind.DELETE: set()}
    for entry in delta:
        names[entry.kind].add(entry.file.file_name)
    return names[FileKind.DELETE] - names[FileKind.ADD]


def _has_vectors(entry: IndexManifestEntry) -> bool:
    return entry.index_file.index_type == DELETION_VECTORS_INDEX


def _ranges(entry: IndexManifestEntry) -> tuple[DeletionVectorRange, ...]:
    return entry.index_file.deletion_vector_ranges or ()

"""Manifests, their lists and deletion vectors that were read, kept in memory: no name is written twice, so they never change."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeAlias, TypeVar

import polars as pl

from storage_engine.codec.deletion_vector import DeletionVector
from storage_engine.codec.manifest_columns import EntryColumns
from storage_engine.spec.manifest import (
    FileKind,
    IndexFileMeta,
    IndexManifestEntry,
    ManifestEntry,
    ManifestFileMeta,
)
from storage_engine.store.paths import check_stored_name

_CACHED_ENTRIES = 200_000
_CACHED_METAS = 20_000
_CACHED_VECTOR_BYTES = 16 << 20

_Value = TypeVar("_Value")


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryFilter:
    """Which entries are wanted: of which partitions (asked once for all that are there), of which buckets; None is all.

    ``holding`` only saves work: of each of its groups, one is among the bytes of each partition that is wanted.
    """

    partitions: Callable[[Collection[bytes]], Collection[bytes]] | None = None
    buckets: frozenset[int] | None = None
    holding: tuple[frozenset[bytes], ...] = ()

    @staticmethod
    def of_partitions(wanted: Collection[bytes]) -> EntryFilter:
        """The entries of these partitions."""
        names = frozenset(wanted)
        return EntryFilter(partitions=names.intersection, holding=(names,) if len(names) <= MOST_HELD else ())


ALL_ENTRIES = EntryFilter()
MANY = 2_000  # entries that are dealt with faster as columns than one by one
MOST_HELD = 8  # looking for more byte strings than that costs as much as decoding
Found: TypeAlias = EntryColumns | list[ManifestEntry]


class HeldManifest:
    """The entries of one manifest: values where they are few, otherwise columns. Safe between threads."""

    def __init__(self, path: str, entries: Found) -> None:
        """Raises CorruptFile for an entry that names no file."""
        self._entries = entries
        if isinstance(entries, EntryColumns):
            check_named_files(entries.file_names(), path)
            self.count, self.deleted = len(entries), entries.deleted
        else:
            _check_file_names(entries, path)
            self.count, self.deleted = len(entries), sum(entry.kind is FileKind.DELETE for entry in entries)

    def found(self, keep: EntryFilter) -> Found:
        """Those that are wanted, in order."""
        entries = self._entries
        if keep is ALL_ENTRIES:
            return entries if isinstance(entries, EntryColumns) else list(entries)
        if isinstance(entries, EntryColumns):
            wanted = None if keep.partitions is None else keep.partitions(entries.partitions())
            return entries.of(wanted, keep.buckets)
        return _filtered(entries, keep)


@dataclass(frozen=True, slots=True)
class HeldVectors:
    """The deletion vectors of an index file, as an index manifest describes it."""

    file: IndexFileMeta
    vectors: Mapping[str, DeletionVector]


def check_named_files(names: pl.Series, path: str) -> None:
    """Refuse what is not a file's name. Raises CorruptFile."""
    for name in names.filter(names.str.contains(r"^\.*$|[^\w.-]")):  # all but those that are plainly right
        check_stored_name(name, path=path)


def _filtered(entries: list[ManifestEntry], keep: EntryFilter) -> list[ManifestEntry]:
    if keep.partitions is not None:
        wanted = keep.partitions({entry.partition for entry in entries})
        entries = [entry for entry in entries if entry.partition in wanted]
    if keep.buckets is not None:
        entries = [entry for entry in entries if entry.bucket in keep.buckets]
    return list(entries)


def _check_file_names(entries: Iterable[ManifestEntry], path: str) -> None:
    for entry in entries:
        check_stored_name(entry.file.file_name, path=path)
        for name in entry.file.extra_files:
            check_stored_name(name, path=path)


class _Kept(Generic[_Value]):
    """Values by path, of so much weight in all; the least recently used leave first."""

    def __init__(self, most: int, weight: Callable[[_Value], int]) -> None:
        self._most = most
        self._weight_of = weight
        self._weight = 0
        self._values: OrderedDict[str, _Value] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, path: str) -> _Value | None:
        with self._lock:
            found = self._values.get(path)
            if found is not None:
                self._values.move_to_end(path)
            return found

    def put(self, path: str, value: _Value) -> None:
        with self._lock:
            old = self._values.pop(path, None)
            self._weight += self._weight_of(value) - (0 if old is None else self._weight_of(old))
            self._values[path] = value
            while self._weight > self._most and self._values:
                _, dropped = self._values.popitem(last=False)
                self._weight -= self._weight_of(dropped)


class ManifestCache:
    """Manifests, up to a number of entries, and manifest lists, by path. Safe between threads."""

    def __init__(self, max_entries: int = _CACHED_ENTRIES) -> None:
        self._manifests: _Kept[HeldManifest] = _Kept(max_entries, lambda held: held.count)
        self._lists: _Kept[tuple[ManifestFileMeta, ...]] = _Kept(_CACHED_METAS, lambda metas: len(metas) + 1)
        self._seen: _Kept[bool] = _Kept(_CACHED_METAS, lambda _: 1)
        self._indexes: _Kept[tuple[IndexManifestEntry, ...]] = _Kept(_CACHED_METAS, lambda entries: len(entries) + 1)
        self._vectors: _Kept[HeldVectors] = _Kept(_CACHED_VECTOR_BYTES, lambda held: held.file.file_size)

    def get(self, path: str) -> HeldManifest | None:
        """A manifest, if it is kept."""
        return self._manifests.get(path)

    def put(self, path: str, held: HeldManifest) -> None:
        """Keep a manifest."""
        self._manifests.put(path, held)

    def is_new(self, path: str) -> bool:
        """Whether a manifest is asked for the first time."""
        is_new = self._seen.get(path) is None
        self._seen.put(path, value=True)
        return is_new

    def list_of(self, path: str) -> tuple[ManifestFileMeta, ...] | None:
        """What a manifest list names, if it is kept."""
        return self._lists.get(path)

    def put_list(self, path: str, metas: tuple[ManifestFileMeta, ...]) -> None:
        """Keep what a manifest list names."""
        self._lists.put(path, metas)

    def index_of(self, path: str) -> tuple[IndexManifestEntry, ...] | None:
        """What an index manifest names, if it is kept."""
        return self._indexes.get(path)

    def put_index(self, path: str, entries: tuple[IndexManifestEntry, ...]) -> None:
        """Keep what an index manifest names."""
        self._indexes.put(path, entries)

    def vectors_of(self, path: str, file: IndexFileMeta) -> Mapping[str, DeletionVector] | None:
        """The deletion vectors of an index file by data file name, if they are kept."""
        held = self._vectors.get(path)
        return held.vectors if held is not None and held.file == file else None

    def put_vectors(self, path: str, file: IndexFileMeta, vectors: Mapping[str, DeletionVector]) -> None:
        """Keep the deletion vectors of an index file, which never change."""
        self._vectors.put(path, HeldVectors(file, vectors))

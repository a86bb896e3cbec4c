"""Manifests and manifest lists that were read, kept in memory: a name is never written twice, so they never change."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

from storage_engine.codec.manifest_columns import EntryColumns
from storage_engine.spec.manifest import FileKind, ManifestEntry, ManifestFileMeta
from storage_engine.store.paths import check_stored_name

_CACHED_ENTRIES = 200_000
_CACHED_METAS = 20_000

_Value = TypeVar("_Value")


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryFilter:
    """Which entries are wanted: of which partitions (asked once for all that are there), of which buckets; None is all."""

    partitions: Callable[[Collection[bytes]], Collection[bytes]] | None = None
    buckets: frozenset[int] | None = None

    @staticmethod
    def of_partitions(wanted: Collection[bytes]) -> EntryFilter:
        """The entries of these partitions."""
        names = frozenset(wanted)
        return EntryFilter(partitions=names.intersection)


ALL_ENTRIES = EntryFilter()


class HeldManifest:
    """The entries of one manifest, as columns until all of them are wanted. Safe between threads."""

    def __init__(self, path: str, entries: EntryColumns | list[ManifestEntry]) -> None:
        """Raises CorruptFile for an entry that names no file."""
        self._path = path
        self._columns = entries if isinstance(entries, EntryColumns) else None
        self._entries = entries if isinstance(entries, list) else None
        if isinstance(entries, EntryColumns):
            self.count, self.deleted = entries.frame.height, entries.deleted
        else:
            _check_file_names(entries, path)
            self.count, self.deleted = len(entries), sum(entry.kind is FileKind.DELETE for entry in entries)

    def entries(self, keep: EntryFilter) -> list[ManifestEntry]:
        """Those that are wanted, in order. Raises CorruptFile for one that names no file."""
        columns, entries = self._columns, self._entries
        if entries is None and columns is not None:
            if keep is ALL_ENTRIES:
                self._entries = entries = _made(columns, self._path)
                self._columns = None
                return list(entries)
            wanted = None if keep.partitions is None else keep.partitions(columns.partitions())
            return _made(columns.of(wanted, keep.buckets), self._path)
        return _filtered(entries or [], keep)


def _made(columns: EntryColumns, path: str) -> list[ManifestEntry]:
    names = columns.file_names()
    for name in names.filter(names.str.contains(r"^\.*$|[^\w.-]")):  # all but those that are plainly right
        check_stored_name(name, path=path)
    return columns.entries()


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

    def get(self, path: str) -> HeldManifest | None:
        """A manifest, if it is kept."""
        return self._manifests.get(path)

    def put(self, path: str, held: HeldManifest) -> None:
        """Keep a manifest."""
        self._manifests.put(path, held)

    def list_of(self, path: str) -> tuple[ManifestFileMeta, ...] | None:
        """What a manifest list names, if it is kept."""
        return self._lists.get(path)

    def put_list(self, path: str, metas: tuple[ManifestFileMeta, ...]) -> None:
        """Keep what a manifest list names."""
        self._lists.put(path, metas)

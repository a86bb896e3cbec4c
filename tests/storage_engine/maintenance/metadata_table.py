"""A table whose data files hold nothing: only its metadata is real, which is all that upkeep looks at."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import replace

from fsspec.implementations.memory import MemoryFileSystem

from storage_engine.codec.binary_row import serialize_row
from storage_engine.maintenance.references import data_file_paths, live_names
from storage_engine.spec.manifest import (
    DataFileMeta,
    FileKind,
    FileSource,
    IndexFileMeta,
    IndexManifestEntry,
    ManifestEntry,
    live_entries,
)
from storage_engine.spec.schema import create_schema
from storage_engine.spec.snapshot import CommitKind, Snapshot
from storage_engine.spec.types import DataField, parse_type
from storage_engine.store.file_io import FileIO
from storage_engine.store.table_store import TableStore

FIRST_MILLIS = 1_700_000_000_000
PARTITIONS = ("2024-01-01", "a/b = c", None)
SCHEMA = create_schema(
    [DataField(id=0, name="dt", type=parse_type("STRING")), DataField(id=1, name="k", type=parse_type("INT"))],
    primary_keys=["dt", "k"],
    partition_keys=["dt"],
    options={"bucket": "1", "manifest.merge-min-count": "3"},
)


class MetadataTable:
    """Commits files without rows; snapshot n is committed at ``FIRST_MILLIS + n``."""

    def __init__(self, io: FileIO, root: str) -> None:
        self.io = io
        self.root = root
        self.store = TableStore.open(io, root)
        self._counter = itertools.count()
        self.rows_are_changelog = False
        if self.store.schemas.latest() is None:
            self.store.schemas.try_create(SCHEMA)

    @staticmethod
    def in_memory(io_type: type[FileIO] = FileIO) -> MetadataTable:
        """A new table, alone in memory: listings there look at everything that was ever written."""
        MemoryFileSystem.store.clear()
        MemoryFileSystem.pseudo_dirs[:] = [""]
        io, root = io_type.from_url(f"memory://{uuid.uuid4()}")
        return MetadataTable(io, root)

    def live(self, store: TableStore) -> list[ManifestEntry]:
        """The live entries of a branch's latest snapshot."""
        latest = store.snapshots.latest()
        return [] if latest is None else entries_of(store, latest)

    def append(self, store: TableStore, count: int = 1, *, changelog: bool = False, index: bool = False) -> Snapshot:
        return self.commit(store, added=count, changelog=changelog, index=index)

    def compact(self, store: TableStore, removed: Sequence[ManifestEntry], *, upgrade: bool = False) -> Snapshot:
        """Replace files by one new file, or move them to a higher level."""
        return self.commit(store, added=0 if upgrade else 1, removed=removed, upgrade=upgrade)

    def commit(
        self,
        store: TableStore,
        *,
        added: int = 0,
        removed: Sequence[ManifestEntry] = (),
        upgrade: bool = False,
        changelog: bool = False,
        index: bool = False,
    ) -> Snapshot:
        latest = store.snapshots.latest()
        manifests = store.manifests(SCHEMA)
        delta = [entry.as_delete() for entry in removed]
        if upgrade:
            delta += [replace(entry, file=entry.file.upgraded(entry.file.level + 1)) for entry in removed]
        source = FileSource.COMPACT if removed else FileSource.APPEND
        delta += [self._new_file(store, "data-", source) for _ in range(added)]
        before = [] if latest is None else _metas(store, latest)
        base, base_size = manifests.write_list(manifests.merge(before))
        delta_list, delta_size = manifests.write_list(manifests.write(delta))
        changelog_list, changelog_size = None, None
        if changelog:
            changes = manifests.write([self._new_file(store, "changelog-")])
            changelog_list, changelog_size = manifests.write_list(changes)
        snapshot_id = 1 if latest is None else latest.id + 1
        snapshot = Snapshot(
            id=snapshot_id,
            schema_id=store.schemas.ids()[-1],
            base_manifest_list=base,
            base_manifest_list_size=base_size,
            delta_manifest_list=delta_list,
            delta_manifest_list_size=delta_size,
            changelog_manifest_list=changelog_list,
            changelog_manifest_list_size=changelog_size,
            index_manifest=self._new_index(store) if index else latest and latest.index_manifest,
            commit_user=str(uuid.uuid4()),
            commit_identifier=snapshot_id,
            commit_kind=CommitKind.COMPACT if removed else CommitKind.APPEND,
            time_millis=FIRST_MILLIS + snapshot_id,
            total_record_count=0,
            delta_record_count=0,
        )
        assert store.snapshots.try_create(snapshot)
        return snapshot

    def _new_file(self, store: TableStore, prefix: str, source: FileSource = FileSource.APPEND) -> ManifestEntry:
        number = next(self._counter)
        name = f"{prefix}{uuid.uuid4()}-{number}.parquet"
        file = DataFileMeta(
            file_name=name,
            file_size=0,
            row_count=1,
            min_sequence_number=0,
            max_sequence_number=0,
            schema_id=0,
            level=0,
            file_source=source,
            extra_files=(f"{name}.index",) if number % 3 == 0 else (),
        )
        partition = serialize_row(SCHEMA.types_of(["dt"]), [PARTITIONS[number % len(PARTITIONS)]])
        entry = ManifestEntry(kind=FileKind.ADD, partition=partition, bucket=0, total_buckets=1, file=file)
        for path in data_file_paths(store, SCHEMA, entry):
            self.io.write_new(path, b"")
        return entry

    def _new_index(self, store: TableStore) -> str:
        name = f"index-{uuid.uuid4()}-0"
        self.io.write_new(store.paths.index_file(name), b"\x01")
        file = IndexFileMeta(index_type="DELETION_VECTORS", file_name=name, file_size=1, row_count=0)
        entry = IndexManifestEntry(
            kind=FileKind.ADD, partition=serialize_row(SCHEMA.types_of(["dt"]), ["x"]), bucket=0, index_file=file
        )
        return store.manifests(SCHEMA).write_index([entry])

    # What is there, found without the code under test.

    def branches(self) -> list[TableStore]:
        """The stores of main and of all branches, with empty caches."""
        main = TableStore.open(self.io, self.root)
        return [main, *(TableStore.open(self.io, self.root, name) for name in main.branch_names())]

    def files(self) -> set[str]:
        """Names of all data, changelog, manifest and index files on the store."""
        found = [info.path.removeprefix(self.root + "/") for info in self.io.list_files(self.root, recursive=True)]
        own = ("schema/", "snapshot/", "tag/", "consumer/", "branch/", "changelog/")
        return {path.rsplit("/", 1)[-1] for path in found if not path.startswith(own)}

    def needed(self) -> set[str]:
        """Names of the files that snapshots and tags need; all of them must be readable."""
        names: set[str] = set()
        for store in self.branches():
            assert store.schemas.ids(), f"{store.paths.branch_root} has a schema"
            for snapshot_id in store.snapshots.ids():
                names |= _needed(store, store.snapshots.get(snapshot_id), with_changelog=True)
            for tag in store.tags.list():
                names |= _needed(store, tag.snapshot, with_changelog=store.snapshots.exists(tag.snapshot.id))
            for changelog_id in store.snapshots.changelog_ids():
                names |= self._needed_by_changelog(store, store.snapshots.changelog(changelog_id))
        return names

    def _needed_by_changelog(self, store: TableStore, changelog: Snapshot) -> set[str]:
        """What a reader of a long-lived changelog opens: its changelog files, or without a producer the rows added."""
        listed = changelog.delta_manifest_list if self.rows_are_changelog else changelog.changelog_manifest_list
        if listed is None:
            return set()
        manifests = store.manifests(SCHEMA)
        metas = manifests.read_list(listed)
        added = [entry for entry in manifests.read_all(metas) if entry.kind is FileKind.ADD]
        return {listed, *_names(added), *(meta.file_name for meta in metas)}

    def check(self) -> None:
        """All that is retained is complete."""
        missing = self.needed() - self.files()
        assert not missing, f"retained snapshots lack {sorted(missing)}"

    def check_no_leftovers(self, *, had_branches: bool = False, brought_back: bool = False) -> None:
        """All that is retained is complete, and nothing else is there.

        ``had_branches``: a snapshot may have been of two branches, with a tag in both. What each of them expired, the other still
        needed; so the changelog stays for as long as the tags do. ``brought_back``: the earliest snapshot may have expired, and
        come back from a tag, for a branch or by a rollback; so its changelog may be gone.
        """
        needed, files = self.needed(), self.files()
        kept = self._changelogs_of_tags() if had_branches else set()
        gone = self._changelogs_of_the_earliest() if brought_back else set()
        assert files - needed <= kept, f"left over: {sorted(files - needed - kept)}"
        assert needed - files <= gone, f"missing: {sorted(needed - files - gone)}"

    def _changelogs_of_tags(self) -> set[str]:
        return {
            name
            for store in self.branches()
            for tag in store.tags.list()
            for name in _needed(store, tag.snapshot, with_changelog=True)
        }

    def _changelogs_of_the_earliest(self) -> set[str]:
        firsts = ((store, store.snapshots.get(store.snapshots.ids()[0])) for store in self.branches())
        return {
            name
            for store, first in firsts
            for name in _needed(store, first, with_changelog=True) - _needed(store, first, with_changelog=False)
        }

    def contents(self) -> dict[str, dict[str, set[str]]]:
        """Live data files of each snapshot and tag of each branch."""
        return {
            store.paths.branch: {
                **{f"{i}": live_names(store.manifests(SCHEMA), store.snapshots.get(i)) for i in store.snapshots.ids()},
                **{f"tag {t.name}": live_names(store.manifests(SCHEMA), t.snapshot) for t in store.tags.list()},
            }
            for store in self.branches()
        }


def entries_of(store: TableStore, snapshot: Snapshot) -> list[ManifestEntry]:
    """The live entries of a snapshot."""
    manifests = store.manifests(SCHEMA)
    return live_entries(manifests.read_all(_metas(store, snapshot)))


def _metas(store: TableStore, snapshot: Snapshot) -> list:
    manifests = store.manifests(SCHEMA)
    base = manifests.read_list(snapshot.base_manifest_list, snapshot.base_manifest_list_size)
    return base + manifests.read_list(snapshot.delta_manifest_list, snapshot.delta_manifest_list_size)


def _needed(store: TableStore, snapshot: Snapshot, *, with_changelog: bool) -> set[str]:
    manifests = store.manifests(SCHEMA)
    metas = _metas(store, snapshot)
    names = {
        snapshot.base_manifest_list,
        snapshot.delta_manifest_list,
        *_names(live_entries(manifests.read_all(metas))),
    }
    if snapshot.index_manifest is not None:
        names.add(snapshot.index_manifest)
        names |= {entry.index_file.file_name for entry in manifests.read_index(snapshot.index_manifest)}
    if snapshot.changelog_manifest_list is not None:
        # A tag keeps the changelog's manifests, but not its files.
        names.add(snapshot.changelog_manifest_list)
        changes = manifests.read_list(snapshot.changelog_manifest_list)
        metas = metas + changes
        if with_changelog:
            names |= set(_names(manifests.read_all(changes)))
    return names | {meta.file_name for meta in metas}


def _names(entries: Iterable[ManifestEntry]) -> Iterable[str]:
    return (name for entry in entries for name in (entry.file.file_name, *entry.file.extra_files))

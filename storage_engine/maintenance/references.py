"""Which files a snapshot needs, by name.

Names hold a random id, so a name stands for one file wherever it lies. To compare names rather than paths
means that a directory which was named in an unexpected way can never make a live file look unused.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress

from storage_engine.errors import FileMissing, SnapshotExpired, SnapshotNotFound
from storage_engine.spec.manifest import FileKind, ManifestEntry, ManifestFileMeta, live_entries
from storage_engine.spec.schema import TableSchema
from storage_engine.spec.snapshot import Snapshot
from storage_engine.store.manifests import ManifestStore
from storage_engine.store.paths import MAIN_BRANCH
from storage_engine.store.table_layout import TableLayout
from storage_engine.store.table_store import TableStore


def data_metas(manifests: ManifestStore, snapshot: Snapshot) -> list[ManifestFileMeta]:
    """The manifests of all live files of a snapshot: base list, then delta list."""
    base = manifests.read_list(snapshot.base_manifest_list, snapshot.base_manifest_list_size)
    return base + delta_metas(manifests, snapshot)


def delta_metas(manifests: ManifestStore, snapshot: Snapshot) -> list[ManifestFileMeta]:
    """The manifests of what a snapshot changed."""
    return manifests.read_list(snapshot.delta_manifest_list, snapshot.delta_manifest_list_size)


def changelog_metas(manifests: ManifestStore, snapshot: Snapshot) -> list[ManifestFileMeta]:
    """The manifests of a snapshot's changelog."""
    if snapshot.changelog_manifest_list is None:
        return []
    return manifests.read_list(snapshot.changelog_manifest_list, snapshot.changelog_manifest_list_size)


def live_names(manifests: ManifestStore, snapshot: Snapshot) -> set[str]:
    """Names of the data files (and their extra files) that are live at a snapshot."""
    return file_names(live_entries(manifests.read_all(data_metas(manifests, snapshot))))


def file_names(entries: Iterable[ManifestEntry]) -> set[str]:
    """Names of the files of entries, with their extra files."""
    return {name for entry in entries for name in (entry.file.file_name, *entry.file.extra_files)}


def changelog_files(manifests: ManifestStore, snapshot: Snapshot) -> tuple[list[ManifestFileMeta], list[ManifestEntry]]:
    """The manifests and entries of a snapshot's changelog.

    None if a part is gone: the snapshot was expired elsewhere and is kept by a tag or branch, which holds no
    changelog.
    """
    try:
        metas = changelog_metas(manifests, snapshot)
        return metas, manifests.read_all(metas)
    except FileMissing:
        return [], []


def manifest_names(manifests: ManifestStore, snapshot: Snapshot) -> set[str]:
    """Names in the manifest directory that a snapshot needs: lists, manifests and index manifest."""
    metas = data_metas(manifests, snapshot) + changelog_files(manifests, snapshot)[0]
    lists = (
        snapshot.base_manifest_list,
        snapshot.delta_manifest_list,
        snapshot.changelog_manifest_list,
        snapshot.index_manifest,
    )
    return {meta.file_name for meta in metas} | {name for name in lists if name is not None}


def index_names(manifests: ManifestStore, snapshot: Snapshot) -> set[str]:
    """Names of a snapshot's index files."""
    if snapshot.index_manifest is None:
        return set()
    return {entry.index_file.file_name for entry in manifests.read_index(snapshot.index_manifest)}


def index_paths(
    store: TableStore, schema: TableSchema, manifests: ManifestStore, snapshot: Snapshot, needed: set[str]
) -> set[str]:
    """Paths of a snapshot's index files that are not named in ``needed``, nor put outside of the table."""
    if snapshot.index_manifest is None:
        return set()
    layout = TableLayout(store.paths, schema)
    return {
        layout.index_file(entry.partition, entry.bucket, entry.index_file)
        for entry in manifests.read_index(snapshot.index_manifest)
        if entry.index_file.file_name not in needed and entry.index_file.external_path is None
    }


def statistics_names(snapshot: Snapshot) -> set[str]:
    """Names of a snapshot's statistics files."""
    return set() if snapshot.statistics is None else {snapshot.statistics}


def all_names(manifests: ManifestStore, snapshot: Snapshot) -> set[str]:
    """Names of every file that a snapshot needs: to be read, streamed from and committed upon."""
    added = (entry for entry in manifests.read_all(delta_metas(manifests, snapshot)) if entry.kind is FileKind.ADD)
    return (
        live_names(manifests, snapshot)
        | file_names(added)
        | file_names(changelog_files(manifests, snapshot)[1])
        | manifest_names(manifests, snapshot)
        | index_names(manifests, snapshot)
        | statistics_names(snapshot)
    )


def retained_snapshots(store: TableStore) -> Iterator[Snapshot]:
    """All snapshots of a branch and those that only a tag keeps. What expires meanwhile is left out."""
    store.snapshots.forget()
    seen: set[str] = set()
    for snapshot_id in store.snapshots.ids():
        try:
            snapshot = store.snapshots.get(snapshot_id)
        except SnapshotNotFound:
            continue
        seen.add(snapshot.base_manifest_list)
        yield snapshot
    for tag in store.tags.list():
        if tag.snapshot.base_manifest_list not in seen:
            yield tag.snapshot


def other_branches(store: TableStore) -> Iterator[TableStore]:
    """The stores of all other branches of the table, main included."""
    for name in (MAIN_BRANCH, *store.branch_names()):
        if name != store.paths.branch:
            yield store.of_branch(name)


def names_needed(store: TableStore, manifests: ManifestStore) -> set[str]:
    """Names of every file that some retained snapshot or tag of one branch needs.

    Raises FileMissing if one that is retained lacks a file: what else it needs cannot be known then.
    """
    needed: set[str] = set()
    for snapshot in retained_snapshots(store):
        try:
            needed |= all_names(manifests, snapshot)
        except FileMissing:
            if _is_retained(store, snapshot):
                raise
    for changelog in long_lived_changelogs(store):
        needed |= changelog_names(manifests, changelog)
    return needed


def long_lived_changelogs(store: TableStore) -> Iterator[Snapshot]:
    """The changelogs that outlived their snapshots, ascending. What expires meanwhile is left out."""
    for changelog_id in store.snapshots.changelog_ids():
        with suppress(SnapshotExpired):
            yield store.snapshots.changelog(changelog_id)


def changelog_names(manifests: ManifestStore, changelog: Snapshot) -> set[str]:
    """Names of every file that a long-lived changelog needs.

    It has changelog files; or, of a table without a changelog producer, its rows are those of its delta. Of the other kind
    nothing may be left.
    """
    _, entries = changelog_files(manifests, changelog)
    with suppress(FileMissing):
        entries = entries + manifests.read_all(delta_metas(manifests, changelog))
    return file_names(entries) | changelog_manifest_names(manifests, changelog)


def changelog_manifest_names(manifests: ManifestStore, changelog: Snapshot) -> set[str]:
    """Names of the manifests and lists of a long-lived changelog, as far as they are there."""
    lists = (changelog.changelog_manifest_list, changelog.delta_manifest_list, changelog.base_manifest_list)
    names = {name for name in lists if name is not None}
    metas = changelog_files(manifests, changelog)[0]
    for list_name in (changelog.delta_manifest_list, changelog.base_manifest_list):
        with suppress(FileMissing):
            metas = metas + manifests.read_list(list_name)
    return names | {meta.file_name for meta in metas}


def _is_retained(store: TableStore, snapshot: Snapshot) -> bool:
    return store.snapshots.exists(snapshot.id) or any(tag.snapshot == snapshot for tag in store.tags.list())


def names_needed_by_other_branches(store: TableStore, manifests: ManifestStore) -> set[str]:
    """Names of every file that another branch needs: all branches share the data directories."""
    needed: set[str] = set()
    for branch in other_branches(store):
        needed |= names_needed(branch, manifests)
    return needed


def data_file_paths(store: TableStore, schema: TableSchema, entry: ManifestEntry) -> list[str]:
    """The paths of an entry's file and extra files. None for a file that was put outside of the table."""
    if entry.file.external_path is not None:
        return []
    directory = TableLayout(store.paths, schema).bucket_directory(entry.partition, entry.bucket)
    return [f"{directory}/{name}" for name in (entry.file.file_name, *entry.file.extra_files)]


def delete_data(
    store: TableStore, schema: TableSchema, entries: Iterable[ManifestEntry], *, and_directories: bool = False
) -> None:
    """Remove the files of entries; with ``and_directories`` also buckets and partitions that are empty then."""
    directories: set[str] = set()
    for entry in entries:
        for path in data_file_paths(store, schema, entry):
            store.io.delete(path)
            directories.add(path.rpartition("/")[0])
    while and_directories and (directories := {path for path in directories if path != store.paths.root}):
        removed = {path for path in directories if store.io.remove_empty_directory(path)}
        directories = {path.rpartition("/")[0] for path in removed}


def delete_metadata(
    store: TableStore, schema: TableSchema, manifests: ManifestStore, snapshots: Iterable[Snapshot], needed: set[str]
) -> None:
    """Remove manifests, lists, index files and statistics of snapshots, but for those named in ``needed``."""
    paths = store.paths
    doomed: set[str] = set()
    for snapshot in snapshots:
        # What a run that was stopped left of a snapshot is found by the removal of orphan files.
        with suppress(FileMissing):
            doomed |= {paths.manifest_file(name) for name in manifest_names(manifests, snapshot) - needed}
        with suppress(FileMissing):
            doomed |= index_paths(store, schema, manifests, snapshot, needed)
        doomed |= {paths.statistics_file(name) for name in statistics_names(snapshot) - needed}
    for path in sorted(doomed):
        store.io.delete(path)

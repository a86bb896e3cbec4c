"""Removal of orphan files: what writers that failed, rollbacks and deleted branches left behind.

Spec: "Manage Files / remove orphan files" of Apache Paimon.

What is never touched: a file that any snapshot, tag or long-lived changelog of any branch needs; a file
younger than the given moment, which may belong to a commit under way; a file that does not lie where a
table's files lie. Files are listed before the references are read, so that a commit in between is seen. If
anything that is retained cannot be read, nothing is removed.
"""

from __future__ import annotations

import re
import time

from storage_engine.errors import FileMissing, InvalidInput, StorageEngineError
from storage_engine.maintenance.references import names_needed, other_branches
from storage_engine.store.file_listing import FileInfo
from storage_engine.store.table_store import TableStore

_DAY_MS = 86_400_000
_SHARED_DIRECTORIES = ("manifest", "index", "statistics")
_OWN_DIRECTORIES = ("schema", "snapshot", "tag", "consumer", "changelog")
_BUCKET = re.compile(r"bucket-(\d+|postpone)")
_TEMPORARY = re.compile(r"\..+\.tmp")
_MOST_ROUNDS = 100


def remove_orphan_files(
    store: TableStore,
    *,
    older_than_millis: int | None = None,
    dry_run: bool = False,
    now_millis: int | None = None,
) -> list[str]:
    """Remove files that nothing needs and that were written before a moment; returns their paths, sorted.

    ``older_than_millis``: that moment, epoch milliseconds, by default a day ago. It must lie before the start
    of every commit that is still under way. ``dry_run`` removes nothing. Raises InvalidInput for a moment in
    the future, FileMissing or CorruptFile if a retained snapshot cannot be read.
    """
    now = int(time.time() * 1000) if now_millis is None else now_millis
    moment = now - _DAY_MS if older_than_millis is None else older_than_millis
    if moment > now:
        raise InvalidInput(f"older_than_millis is {moment}, which lies in the future")
    listed = store.io.list_files(store.paths.root, recursive=True)
    data = _data_directory(store)
    candidates = [info for info in listed if info.modified_millis < moment and _may_go(store.paths.root, data, info)]
    if not candidates:
        return []
    needed = _all_needed(store)
    orphans = [info.path for info in candidates if info.path.rsplit("/", 1)[-1] not in needed]
    if not dry_run:
        for path in orphans:
            store.io.delete(path)
    return sorted(orphans)


def _data_directory(store: TableStore) -> list[str]:
    """The directories between the table's and those of its partitions and buckets, usually none."""
    schema = store.schemas.latest()
    directory = "" if schema is None else schema.table_options.data_file_directory
    return directory.split("/") if directory else []


def _may_go(root: str, data: list[str], info: FileInfo) -> bool:
    """Whether a file lies where data (below ``data``), manifests or temporary files of a table lie, and nowhere else."""
    *directories, name = info.path.removeprefix(root).strip("/").split("/")
    if directories[:1] == ["branch"]:
        directories = directories[2:]
        return len(directories) == 1 and directories[0] in _OWN_DIRECTORIES and bool(_TEMPORARY.fullmatch(name))
    if len(directories) == 1 and directories[0] in _OWN_DIRECTORIES:
        return bool(_TEMPORARY.fullmatch(name))
    if len(directories) == 1 and directories[0] in _SHARED_DIRECTORIES:
        return True
    if directories[: len(data)] != data:
        return False
    *partitions, bucket = directories[len(data) :] or [""]
    return bool(_BUCKET.fullmatch(bucket)) and all("=" in partition for partition in partitions)


def _all_needed(store: TableStore) -> set[str]:
    needed: set[str] = set()
    for branch in (store, *other_branches(store)):
        needed |= _needed_by(branch)
    return needed


def _needed_by(branch: TableStore) -> set[str]:
    """What a branch needs, read again until no snapshot was committed meanwhile."""
    schema = branch.schemas.latest()
    if schema is None:
        raise FileMissing(
            f"{branch.paths.schemas}: there is no schema, so what the branch needs is not known; delete it"
        )
    manifests = branch.manifests(schema)
    needed: set[str] = set()
    for _ in range(_MOST_ROUNDS):
        latest = branch.snapshots.latest_id()
        needed |= names_needed(branch, manifests)
        if branch.snapshots.latest_id() == latest:
            return needed
    raise StorageEngineError(f"{branch.paths.branch_root}: writers commit too fast to look for orphans; try later")

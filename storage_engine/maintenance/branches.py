"""Branches: create, delete, fast-forward.

Spec: "Manage Branches" of Apache Paimon. A branch has its own schemas, snapshots and tags under ``branch/``;
data, manifests and index files are in the main directories, and no expiry or orphan removal of this engine
takes one that a branch needs.
"""

from __future__ import annotations

from storage_engine.errors import AlreadyExists, BranchNotFound, InvalidInput, StorageEngineError, Unsupported
from storage_engine.maintenance.rollback import remove_later_changelogs
from storage_engine.spec.schema import TableSchema
from storage_engine.spec.snapshot import Snapshot
from storage_engine.store.paths import MAIN_BRANCH, check_given_name
from storage_engine.store.table_store import TableStore


def create_branch(store: TableStore, name: str, *, tag: str | None = None) -> TableStore:
    """Create a branch of main, without rows or as a tag has them; returns its store.

    Raises AlreadyExists, TagNotFound, or InvalidInput for a name that Paimon would refuse.
    """
    _require_main(store)
    _check_name(name)
    if name in store.branch_names():
        raise AlreadyExists(f"{store.paths.root}: the branch {name!r} exists; delete it first or choose another name")
    tagged = None if tag is None else store.tags.tag(tag)
    schema_ids = [
        schema_id for schema_id in store.schemas.ids() if tagged is None or schema_id <= tagged.snapshot.schema_id
    ]
    branch = store.of_branch(name)
    try:
        if tagged is not None:
            branch.tags.write(tagged)
            branch.snapshots.restore(tagged.snapshot)
            branch.snapshots.write_latest_hint(tagged.snapshot.id)
        for schema_id in schema_ids:
            branch.schemas.write(store.schemas.get(schema_id))
    except StorageEngineError:
        branch.io.delete_directory(branch.paths.branch_root)
        raise
    return branch


def delete_branch(store: TableStore, name: str) -> None:
    """Remove a branch.

    Files that only it needed stay until orphan files are removed. Raises BranchNotFound, or InvalidInput for the branch
    that reads of the table fall back to.
    """
    branch = existing_branch(store, name)
    schema = store.schemas.latest()
    if schema is not None and schema.table_options.scan_fallback_branch == name:
        raise InvalidInput(
            f"{store.paths.root}: reads fall back to the branch {name!r}; reset the option 'scan.fallback-branch' first"
        )
    branch.io.delete_directory(branch.paths.branch_root)


def existing_branch(store: TableStore, name: str) -> TableStore:
    """The store of a branch. Raises BranchNotFound."""
    if name == MAIN_BRANCH:
        raise InvalidInput(f"the branch {MAIN_BRANCH!r} is the table itself")
    names = store.branch_names()
    if name not in names:
        raise BranchNotFound(f"{store.paths.root}: there is no branch {name!r}; branches: {', '.join(names) or 'none'}")
    return store.of_branch(name)


def fast_forward(store: TableStore, name: str) -> None:
    """Make main what a branch is, from the branch's earliest snapshot on; the branch stays.

    Main's snapshots and tags from there on go. Writers should be stopped. In every moment main shows a state
    that it had or gets; a run that was stopped is completed by another. Raises BranchNotFound, InvalidInput
    for a branch without snapshots.
    """
    _require_main(store)
    branch = existing_branch(store, name)
    store.snapshots.forget()
    ids = branch.snapshots.ids()
    if not ids:
        raise InvalidInput(f"{store.paths.root}: the branch {name!r} has no snapshot yet")
    snapshots = [branch.snapshots.get(snapshot_id) for snapshot_id in ids]
    kept = ids[0] if _has(store, snapshots[0]) else ids[0] - 1
    store.snapshots.delete_latest_hint()
    for snapshot_id in reversed(store.snapshots.ids()):
        if snapshot_id > kept:
            store.snapshots.delete(snapshot_id)
    for tag in store.tags.list():
        if tag.snapshot.id > kept:
            store.tags.delete(tag.name)
    remove_later_changelogs(store, kept)
    _replace_schemas(store, branch, snapshots[0].schema_id)
    for snapshot in snapshots:
        if snapshot.id > kept:
            store.snapshots.restore(snapshot)
    for tag in branch.tags.list():
        store.tags.write(tag)
    store.snapshots.write_latest_hint(ids[-1])
    store.snapshots.forget()


def _has(store: TableStore, snapshot: Snapshot) -> bool:
    return store.snapshots.exists(snapshot.id) and store.snapshots.get(snapshot.id) == snapshot


def _replace_schemas(store: TableStore, branch: TableStore, first: int) -> None:
    """Schemas of the branch take the place of main's from the branch's first snapshot on."""
    ids = branch.schemas.ids()
    for schema_id in ids:
        if schema_id >= first:
            schema: TableSchema = branch.schemas.get(schema_id)
            store.schemas.write(schema)
    for schema_id in reversed(store.schemas.ids()):
        if schema_id > ids[-1]:
            store.schemas.delete(schema_id)
    store.schemas.forget()


def _require_main(store: TableStore) -> None:
    if store.paths.branch != MAIN_BRANCH:
        raise Unsupported(f"branches are made from the table itself, not from the branch {store.paths.branch!r}")


def _check_name(name: str) -> None:
    check_given_name(name, "branch")
    if name == MAIN_BRANCH or name.isdigit():
        raise InvalidInput(f"{name!r} cannot be the name of a branch: {MAIN_BRANCH!r} and numbers are taken")

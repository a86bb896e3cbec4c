"""``TableStore``: all stores of one branch of a table, bundled."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from storage_engine.errors import CommitConflict, TableNotFound
from storage_engine.kernel.table_definition import check_table_definition
from storage_engine.spec.schema import TableSchema
from storage_engine.spec.schema_change import SchemaChange, apply
from storage_engine.store.consumers import ConsumerStore
from storage_engine.store.file_io import FileIO
from storage_engine.store.manifest_cache import ManifestCache
from storage_engine.store.manifests import ManifestStore
from storage_engine.store.paths import MAIN_BRANCH, TablePaths, branch_names_in
from storage_engine.store.schemas import SchemaStore
from storage_engine.store.snapshots import SnapshotStore
from storage_engine.store.tags import TagStore

_ALTER_ATTEMPTS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class TableStore:
    """The files of one branch. ``manifest_cache`` is shared by all ``ManifestStore`` objects made from it."""

    io: FileIO
    paths: TablePaths
    snapshots: SnapshotStore
    schemas: SchemaStore
    tags: TagStore
    consumers: ConsumerStore
    manifest_cache: ManifestCache = field(default_factory=ManifestCache, repr=False, compare=False)

    @staticmethod
    def open(io: FileIO, root: str, branch: str = MAIN_BRANCH) -> TableStore:
        """The stores of the table whose directory is ``root``; nothing is read yet."""
        return _of(io, TablePaths(root, branch), ManifestCache())

    def manifests(self, schema: TableSchema) -> ManifestStore:
        """Manifests as a table of this schema writes them: one object per writer, since it names files."""
        types = schema.types_of(schema.partition_keys)
        return ManifestStore(self.io, self.paths, schema.table_options, types, cache=self.manifest_cache)

    def of_branch(self, branch: str) -> TableStore:
        """The stores of another branch of the same table."""
        return _of(self.io, self.paths.of_branch(branch), self.manifest_cache)

    def alter(self, changes: Sequence[SchemaChange], *, table: str) -> TableSchema:
        """Create the next schema; if others create it first, on top of theirs. No change in effect creates none.

        Raises InvalidSchema, InvalidOption, Unsupported or TableNotFound.
        """
        for _ in range(_ALTER_ATTEMPTS):
            latest = self.schemas.latest()
            if latest is None:
                raise TableNotFound(f"there is no table {table}")
            now_millis = time.time_ns() // 1_000_000
            has_snapshots = self.snapshots.latest_id() is not None
            altered = apply(latest, changes, has_snapshots=has_snapshots, time_millis=now_millis)
            if _says_the_same(altered, latest):
                return latest
            check_table_definition(altered)
            if self.schemas.try_create(altered):
                return altered
        raise CommitConflict(f"table {table}: others altered it {_ALTER_ATTEMPTS} times meanwhile; try again")

    def branch_names(self) -> list[str]:
        """Names of all branches but main, sorted."""
        return branch_names_in(self.io.list_names(self.paths.branches))


def _of(io: FileIO, paths: TablePaths, cache: ManifestCache) -> TableStore:
    return TableStore(
        io=io,
        paths=paths,
        snapshots=SnapshotStore(io, paths),
        schemas=SchemaStore(io, paths),
        tags=TagStore(io, paths),
        consumers=ConsumerStore(io, paths),
        manifest_cache=cache,
    )


def _says_the_same(altered: TableSchema, latest: TableSchema) -> bool:
    return replace(altered, id=latest.id, time_millis=latest.time_millis) == latest

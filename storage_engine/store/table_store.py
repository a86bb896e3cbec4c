"""``TableStore``: all stores of one branch of a table, bundled."""

from __future__ import annotations

from dataclasses import dataclass, field

from storage_engine.spec.schema import TableSchema
from storage_engine.store.consumers import ConsumerStore
from storage_engine.store.file_io import FileIO
from storage_engine.store.manifests import ManifestCache, ManifestStore
from storage_engine.store.paths import MAIN_BRANCH, TablePaths, branch_names_in
from storage_engine.store.schemas import SchemaStore
from storage_engine.store.snapshots import SnapshotStore
from storage_engine.store.tags import TagStore


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

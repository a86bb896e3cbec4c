"""``TableUpkeep``: what is in a table, and how it is looked after; the part of ``Table`` that reads and writes no rows."""

from __future__ import annotations

import polars as pl

from storage_engine import system_tables
from storage_engine.maintenance import branches, expire, orphans, rollback, tags
from storage_engine.read.time_travel import Moment, snapshot_at
from storage_engine.spec.schema import TableSchema
from storage_engine.spec.snapshot import Snapshot
from storage_engine.store.table_store import TableStore


class TableUpkeep:
    """The metadata of one table, or of one branch of it. Each call works on the newest schema and snapshot."""

    def __init__(self, name: str, store: TableStore, schema: TableSchema) -> None:
        self.name = name
        self.store = store
        self._schema = schema

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"

    @property
    def schema(self) -> TableSchema:
        """The newest schema."""
        newest = self.store.schemas.latest()
        if newest is not None and newest.id != self._schema.id:
            self._schema = newest
        return self._schema

    # -- what is in it -------------------------------------------------------------------------------------------------

    def latest_snapshot(self) -> Snapshot | None:
        """The newest snapshot, None for a table that was never written."""
        return self.store.snapshots.latest()

    def snapshots(self) -> pl.DataFrame:
        """One row a retained snapshot (Paimon's ``t$snapshots``)."""
        return system_tables.snapshots_frame(self.store)

    def files(self, snapshot: int | None = None) -> pl.DataFrame:
        """One row a live data file (Paimon's ``t$files``)."""
        return system_tables.files_frame(
            self.store, self.schema, snapshot_at(self.store, Moment(snapshot=snapshot), table=self.name)
        )

    def partitions(self) -> pl.DataFrame:
        """One row a partition (Paimon's ``t$partitions``)."""
        return system_tables.partitions_frame(self.store, self.schema, self.latest_snapshot())

    def options(self) -> pl.DataFrame:
        """The options that are set (Paimon's ``t$options``)."""
        return system_tables.options_frame(self.schema)

    def schemas(self) -> pl.DataFrame:
        """One row a schema version (Paimon's ``t$schemas``)."""
        return system_tables.schemas_frame(self.store)

    def tags(self) -> pl.DataFrame:
        """One row a tag (Paimon's ``t$tags``)."""
        return system_tables.tags_frame(self.store)

    def branches(self) -> pl.DataFrame:
        """One row a branch (Paimon's ``t$branches``)."""
        return system_tables.branches_frame(self.store)

    def consumers(self) -> pl.DataFrame:
        """One row a consumer (Paimon's ``t$consumers``)."""
        return system_tables.consumers_frame(self.store)

    # -- tags, branches, upkeep ----------------------------------------------------------------------------------------

    def create_tag(self, name: str, snapshot: int | None = None) -> None:
        """Tag a snapshot (default: the latest), which keeps it readable. Raises AlreadyExists, SnapshotNotFound."""
        tags.create_tag(self.store, name, snapshot)

    def delete_tag(self, name: str) -> None:
        """Delete a tag, and the files that nothing else keeps. Raises TagNotFound."""
        tags.delete_tag(self.store, self.schema, name)

    def rollback_to(self, snapshot_or_tag: int | str) -> None:
        """Make an older snapshot the latest; everything after it is gone."""
        rollback.rollback_to(self.store, snapshot_or_tag)

    def create_branch(self, name: str, tag: str | None = None) -> None:
        """Create a branch, empty or from a tag. Raises AlreadyExists, TagNotFound."""
        branches.create_branch(self.store, name, tag=tag)

    def delete_branch(self, name: str) -> None:
        """Delete a branch. Raises BranchNotFound."""
        branches.delete_branch(self.store, name)

    def fast_forward(self, branch: str) -> None:
        """Make main what a branch is. Raises BranchNotFound."""
        branches.fast_forward(self.store, branch)

    def expire_snapshots(
        self,
        *,
        retain_max: int | None = None,
        retain_min: int | None = None,
        older_than_millis: int | None = None,
        max_deletes: int | None = None,
    ) -> int:
        """Expire old snapshots by the table's options, or by these instead; returns how many went.

        ``older_than_millis`` is a moment, epoch milliseconds.
        """
        return expire.expire_snapshots(
            self.store,
            self.schema,
            retain_max=retain_max,
            retain_min=retain_min,
            older_than_millis=older_than_millis,
            max_deletes=max_deletes,
        )

    def remove_orphan_files(self, *, older_than_millis: int | None = None, dry_run: bool = False) -> list[str]:
        """Remove files that nothing refers to and that were written more than a day ago; returns their paths.

        ``older_than_millis`` is the moment to go by instead, epoch milliseconds.
        """
        return orphans.remove_orphan_files(self.store, older_than_millis=older_than_millis, dry_run=dry_run)

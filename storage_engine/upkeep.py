"""``TableUpkeep``: what is in a table, and how it is looked after; the part of ``Table`` that reads and writes no rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime

import polars as pl

from storage_engine import system_tables
from storage_engine.errors import InvalidInput
from storage_engine.maintenance import branches, expire, marks, orphans, rollback, tags
from storage_engine.maintenance.automatic_tags import create_due_tags
from storage_engine.maintenance.expire_changelogs import expire_changelogs
from storage_engine.maintenance.verify import damaged_files
from storage_engine.read.time_travel import Moment, snapshot_at
from storage_engine.spec.schema import TableSchema
from storage_engine.spec.snapshot import Snapshot
from storage_engine.store.paths import partition_path
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
        self._schema = self.store.schemas.latest() or self._schema
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

    def verify(self, snapshot: int | None = None) -> pl.DataFrame:
        """Read every file that a snapshot (default: the latest) needs, checksums included: ``file_path``, ``problem``.

        Empty if nothing is damaged or missing.
        """
        found = snapshot_at(self.store, Moment(snapshot=snapshot), table=self.name)
        return damaged_files(self.store, self.schema, found)

    # -- tags, branches, upkeep ----------------------------------------------------------------------------------------

    def create_tag(self, name: str, snapshot: int | None = None, *, time_retained_ms: int | None = None) -> None:
        """Tag a snapshot (default: the latest), which keeps it readable. Raises AlreadyExists, SnapshotNotFound.

        ``time_retained_ms`` says how long, in milliseconds; by default the option ``tag.default-time-retained``, or for ever.
        """
        tags.create_tag(self.store, name, snapshot, schema=self.schema, time_retained_ms=time_retained_ms)

    def replace_tag(self, name: str, snapshot: int | None = None, *, time_retained_ms: int | None = None) -> None:
        """Let a tag name another snapshot. Raises TagNotFound, SnapshotNotFound."""
        tags.replace_tag(self.store, self.schema, name, snapshot, time_retained_ms=time_retained_ms)

    def rename_tag(self, name: str, new_name: str) -> None:
        """Give a tag another name. Raises TagNotFound, AlreadyExists."""
        tags.rename_tag(self.store, name, new_name)

    def expire_tags(self, *, older_than: datetime | None = None) -> list[str]:
        """Delete the tags whose time is over, or that were made before a local time; returns their names."""
        return tags.expire_tags(self.store, self.schema, older_than=older_than)

    def create_due_tags(self) -> list[str]:
        """Make the tags that are due by ``tag.automatic-creation``, as every commit does; returns their names."""
        return create_due_tags(self.store, self.schema)

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

    def expire_changelogs(
        self,
        *,
        retain_max: int | None = None,
        retain_min: int | None = None,
        older_than_millis: int | None = None,
        max_deletes: int | None = None,
        delete_all: bool = False,
    ) -> int:
        """Expire changelogs that outlived their snapshots by the table's options, or by these; returns how many went."""
        return expire_changelogs(
            self.store,
            self.schema,
            retain_max=retain_max,
            retain_min=retain_min,
            older_than_millis=older_than_millis,
            max_deletes=max_deletes,
            delete_all=delete_all,
        )

    def set_consumer(self, name: str, next_snapshot: int) -> None:
        """Say which snapshot a named reader reads next: those from there on are not expired, ``changes`` goes on there."""
        if next_snapshot < 1:
            raise InvalidInput(f"consumer {name!r}: the next snapshot is {next_snapshot}, expected at least 1")
        self.store.consumers.write(name, next_snapshot)

    def delete_consumer(self, name: str) -> None:
        """Forget a named reader; one that is not there is fine."""
        self.store.consumers.delete(name)

    def mark_partitions_done(self, specs: Iterable[Mapping[str, object]]) -> None:
        """Put a file ``_SUCCESS`` into the directories of partitions given in full, for jobs that wait for it."""
        schema = self.schema
        keys, types = schema.partition_keys, schema.types_of(schema.partition_keys)
        for spec in specs:
            path = partition_path(types, keys, [spec[key] for key in keys], schema.table_options)
            marks.mark_done(self.store, path)

    def remove_orphan_files(self, *, older_than_millis: int | None = None, dry_run: bool = False) -> list[str]:
        """Remove files that nothing refers to and that were written more than a day ago; returns their paths.

        ``older_than_millis`` is the moment to go by instead, epoch milliseconds.
        """
        return orphans.remove_orphan_files(self.store, older_than_millis=older_than_millis, dry_run=dry_run)

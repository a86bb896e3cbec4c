"""``TableCommits``: the commits of a table that are about files and partitions, not about rows."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from datetime import datetime

import polars as pl

from storage_engine.codec.binary_row import serialize_row
from storage_engine.errors import CommitConflict, FileMissing, InvalidInput, StorageUnavailable
from storage_engine.kernel.conform import conform
from storage_engine.lifecycle_options import LifecycleOptions
from storage_engine.maintenance.after_commit import AfterCommit
from storage_engine.maintenance.missing_files import missing_files
from storage_engine.maintenance.partition_expiry import expired_partitions
from storage_engine.rewrite.file_indexes import FileIndexRewrite
from storage_engine.spec.schema import TableSchema
from storage_engine.spec.snapshot import Snapshot
from storage_engine.store.table_store import TableStore
from storage_engine.system_tables import partition_rows
from storage_engine.upkeep import TableUpkeep
from storage_engine.write.requests import Committer
from storage_engine.write.table_write import TableWrite

_log = logging.getLogger(__name__)


class TableCommits(TableUpkeep):
    """One table, or one branch of it, with what may be committed to it without a frame."""

    def __init__(self, name: str, store: TableStore, schema: TableSchema) -> None:
        super().__init__(name, store, schema)
        self._writer: tuple[TableSchema, TableWrite] | None = None
        self._after_commit = AfterCommit(store)

    def expire_partitions(self, options: Mapping[str, str] | None = None) -> list[dict[str, object]]:
        """Empty the partitions that have outlived ``partition.expiration-time``; returns them.

        ``options`` (``partition.expiration-time``, ``-strategy``, ``-max-num``, ``partition.timestamp-formatter``,
        ``-pattern``) stand for those of the table. Raises InvalidInput, InvalidOption, CommitConflict.
        """
        schema = self.schema
        lifecycle = LifecycleOptions.parse({**schema.options, **(options or {})})
        now = datetime.now()  # noqa: DTZ005 - partitions spell local wall-clock time
        expired = expired_partitions(self.store, schema, lifecycle, self.latest_snapshot(), now=now)
        if expired:
            targets = frozenset(self._partition_bytes(spec, schema) for spec in expired)
            self._table_write(schema).overwrite(no_rows(schema, self.name), targets, Committer())
        return expired

    def drop_partitions(self, specs: Iterable[Mapping[str, object]]) -> Snapshot | None:
        """Empty partitions given in full or in part (all that have these values); None if there are none."""
        schema = self.schema
        targets = self._chosen_partitions(specs, schema)
        if not targets:
            return None
        dropped = self._table_write(schema).overwrite(no_rows(schema, self.name), targets, Committer())
        return self._looked_after(dropped, schema)

    def rewrite_file_indexes(self, partitions: Iterable[Mapping[str, object]] | None = None) -> Snapshot | None:
        """Give files the indexes that ``file-index.…`` asks for, where they lack them; None if none does.

        ``partitions`` (None: all) are given in full or in part. No row changes, and no data file. Raises InvalidInput,
        CorruptFile, FileMissing, CommitConflict.
        """
        schema = self.schema
        chosen = None if partitions is None else self._chosen_partitions(partitions, schema)
        return self._looked_after(FileIndexRewrite(self.store, schema, table=self.name).run(chosen), schema)

    def truncate(self) -> Snapshot | None:
        """Remove all rows; earlier snapshots keep theirs. None if the table was never written."""
        schema = self.schema
        if self.latest_snapshot() is None:
            return None
        emptied = self._table_write(schema).overwrite(no_rows(schema, self.name), None, Committer())
        return self._looked_after(emptied, schema)

    def purge(self) -> None:
        """Leave nothing but the definition: branches, tags, consumers, rows, history and their files go.

        Nobody else may use the table meanwhile.
        """
        for branch in self.store.branch_names():
            self.delete_branch(branch)
        for tag in self.store.tags.names():
            self.delete_tag(tag)
        for consumer in self.store.consumers.list():
            self.delete_consumer(consumer)
        self.truncate()
        while self.expire_snapshots(retain_max=1, retain_min=1):
            pass
        self.expire_changelogs(delete_all=True)
        self.remove_orphan_files(older_than_millis=int(datetime.now().timestamp() * 1000))  # noqa: DTZ005

    def compact_manifests(self) -> Snapshot | None:
        """Rewrite all manifests as few ones without removed files; None for a table that was never written."""
        if self.latest_snapshot() is None:
            return None
        return self._table_write(self.schema).compact_manifests()

    def remove_unexisting_files(self, *, dry_run: bool = False) -> list[str]:
        """Take files that are listed but not there out of the table, so that the rest can be read; returns their paths.

        Their rows are lost. Raises CommitConflict.
        """
        schema = self.schema
        found = missing_files(self.store, schema, self.latest_snapshot())
        if found and not dry_run:
            self._table_write(schema).remove_files(list(found.values()))
        return sorted(found)

    def _table_write(self, schema: TableSchema) -> TableWrite:
        if self._writer is None or self._writer[0] != schema:  # a fast-forward gives an id to another schema
            self._writer = schema, TableWrite(self.store, schema, table=self.name)
        return self._writer[1]

    def _looked_after(self, snapshot: Snapshot | None, schema: TableSchema) -> Snapshot | None:
        """The upkeep that follows a commit; gives the snapshot."""
        if snapshot is None or schema.table_options.write_only:
            return snapshot
        self._after_commit.run(schema)
        if self._after_commit.is_due_for_partitions(LifecycleOptions.parse(schema.options)):
            try:
                self.expire_partitions()
            except (CommitConflict, StorageUnavailable, FileMissing) as cause:
                _log.warning("table %s: partitions were not expired: %s", self.name, cause)
        return snapshot

    def _chosen_partitions(self, specs: Iterable[Mapping[str, object]], schema: TableSchema) -> frozenset[bytes]:
        """The partitions that have the values of one of some specs. Raises InvalidInput."""
        wanted = list(specs)
        unknown = [name for spec in wanted for name in spec if name not in schema.partition_keys]
        if unknown or not schema.partition_keys:
            raise InvalidInput(f"table {self.name} is partitioned by {list(schema.partition_keys)}, not by {unknown}")
        rows = partition_rows(self.store, schema, self.latest_snapshot())
        found = [dict(zip(schema.partition_keys, values, strict=True)) for values in rows]
        chosen = [spec for spec in found if any(each.items() <= spec.items() for each in wanted)]
        return frozenset(self._partition_bytes(spec, schema) for spec in chosen)

    def _partition_bytes(self, spec: Mapping[str, object], schema: TableSchema) -> bytes:
        keys = schema.partition_keys
        if set(spec) != set(keys):
            raise InvalidInput(f"table {self.name}: a partition is given by {list(keys)}, not {sorted(spec)}")
        return serialize_row(schema.types_of(keys), [spec[key] for key in keys])


def no_rows(schema: TableSchema, table: str) -> pl.DataFrame:
    """A conformed frame without rows."""
    return conform(pl.DataFrame(schema=schema.polars_schema), schema, table=table)

"""``Table``: the handle through which a table is read, written and looked after."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TypeAlias

import polars as pl
import pyarrow as pa

from storage_engine import system_tables
from storage_engine.codec.binary_row import serialize_row
from storage_engine.errors import InvalidInput, SnapshotNotFound, Unsupported
from storage_engine.kernel.conform import conform
from storage_engine.maintenance import branches, expire, orphans, rollback, tags
from storage_engine.read.changes import ChangeReader
from storage_engine.read.merge_read import METADATA_TYPES
from storage_engine.read.plan import Plan, plan_scan
from storage_engine.read.source import lazy_scan
from storage_engine.rewrite import key_changes
from storage_engine.spec.schema import TableSchema
from storage_engine.spec.schema_change import SchemaChange
from storage_engine.spec.snapshot import Snapshot
from storage_engine.store.data_files import DataFiles
from storage_engine.store.live_files import LiveFiles
from storage_engine.store.table_store import TableStore
from storage_engine.write.offsets import Offsets
from storage_engine.write.table_write import Committer, TableWrite

Frame: TypeAlias = pl.DataFrame | pl.LazyFrame | pa.Table


class Table:
    """One table, or one branch of it. Cheap to make; safe to share between threads for reading.

    Each call works on the newest schema and snapshot.
    """

    def __init__(self, name: str, store: TableStore, schema: TableSchema) -> None:
        self.name = name
        self.store = store
        self._schema = schema
        self._writer: TableWrite | None = None

    def __repr__(self) -> str:
        return f"Table({self.name!r})"

    @property
    def schema(self) -> TableSchema:
        """The newest schema."""
        newest = self.store.schemas.latest()
        if newest is not None and newest.id != self._schema.id:
            self._schema, self._writer = newest, None
        return self._schema

    # -- writing -------------------------------------------------------------------------------------------------------

    def write(
        self,
        frame: Frame,
        *,
        commit_user: str | None = None,
        commit_identifier: int | None = None,
        properties: Mapping[str, str] | None = None,
        expected_offsets: Mapping[str, int | None] | None = None,
    ) -> Snapshot | None:
        """Upsert a frame as one atomic commit; returns the snapshot that shows it.

        ``_row_kind`` ("+I", "-U", "+U", "-D") is optional. With ``commit_user`` and ``commit_identifier``, an
        identifier that this user has committed already changes nothing and gives None; an empty frame then moves the
        offset alone.
        ``expected_offsets`` (user → last identifier or None) is compared atomically with the commit.

        Raises InvalidRows (nothing written), OffsetConflict, CommitConflict, CommitStateUnknown, CommitUnfinished.
        """
        committer = _committer(commit_user, commit_identifier, properties, expected_offsets)
        schema = self.schema
        snapshot = self._table_write(schema).upsert(conform(frame, schema, table=self.name), committer)
        if snapshot is not None and not schema.table_options.write_only:
            expire.expire_after_commit(self.store, schema)
        return snapshot

    def overwrite(
        self,
        frame: Frame,
        *,
        partitions: Iterable[Mapping[str, object]] | None = None,
        commit_user: str | None = None,
        commit_identifier: int | None = None,
        properties: Mapping[str, str] | None = None,
        expected_offsets: Mapping[str, int | None] | None = None,
    ) -> Snapshot | None:
        """INSERT OVERWRITE: replace whole partitions (None: those in the frame; all rows if unpartitioned) by a frame.

        ``partitions`` are full partition specs, such as ``[{"v_date": "2024-01-01"}]``; a row outside them is refused.
        Streaming readers skip an overwrite, as in Paimon. Raises what ``write`` raises.
        """
        committer = _committer(commit_user, commit_identifier, properties, expected_offsets)
        schema = self.schema
        conformed = conform(frame, schema, table=self.name)
        targets = self._overwritten(conformed, schema, partitions)
        return self._table_write(schema).overwrite(conformed, targets, committer)

    def delete(self, predicate: pl.Expr) -> Snapshot | None:
        """Delete the rows that a predicate selects; None if there are none.

        Raises Unsupported for a table whose merge engine or options cannot delete.
        """
        schema = self.schema
        if not schema.primary_keys:
            raise Unsupported(f"table {self.name}: rows of a table without a primary key cannot be deleted yet")
        key_changes.check_deletable(schema, table=self.name)
        rows = key_changes.deleted_rows(self.scan(), predicate)
        return None if rows.is_empty() else self.write(rows)

    def update(self, predicate: pl.Expr, assignments: Mapping[str, pl.Expr]) -> Snapshot | None:
        """Set columns of the rows that a predicate selects; None if there are none.

        ``assignments`` gives an expression over the old row for each column to be set. Raises InvalidInput (a key column, or
        an unknown one), InvalidRows (a value that does not fit) and Unsupported (merge engines that cannot update).
        """
        schema = self.schema
        key_changes.check_updatable(schema, assignments, table=self.name)
        if not schema.primary_keys:
            raise Unsupported(f"table {self.name}: rows of a table without a primary key cannot be updated yet")
        rows = key_changes.updated_rows(self.scan(), predicate, assignments, schema, table=self.name)
        return None if rows.is_empty() else self.write(rows)

    def compact(
        self, *, full: bool = False, partitions: Iterable[Mapping[str, object]] | None = None
    ) -> Snapshot | None:
        """Compact where the shape of the tree asks for it, or everything (``full``); None if nothing was to be done."""
        schema = self.schema
        keys = None
        if partitions is not None:
            wanted = {self._partition_bytes(spec, schema) for spec in partitions}
            live = LiveFiles(self.store, schema)
            keys = [key for key in live.buckets(self.latest_snapshot()) if key[0] in wanted]
        return self._table_write(schema).compact(keys, full=full)

    def settle(self) -> Snapshot | None:
        """Finish the compaction of a commit whose writer was interrupted before it; None if there is none."""
        return self._table_write(self.schema).settle()

    def last_committed(self, commit_user: str) -> int | None:
        """The highest identifier committed by a user, however long ago."""
        return self._offsets().identifiers.get(commit_user)

    def committed_properties(self, commit_user: str) -> dict[str, str]:
        """The ``properties`` of that user's last commit."""
        return dict(self._offsets().user_properties.get(commit_user, {}))

    def alter(self, *changes: SchemaChange) -> TableSchema:
        """Change the schema; see ``storage_engine.spec.schema_change``. Raises InvalidSchema or InvalidOption."""
        return self.store.alter(changes, table=self.name)

    # -- reading -------------------------------------------------------------------------------------------------------

    def scan(
        self,
        *,
        snapshot: int | None = None,
        tag: str | None = None,
        timestamp: int | datetime | None = None,
        read_optimized: bool = False,
        metadata_columns: Sequence[str] = (),
        buckets: Collection[int] | None = None,
    ) -> pl.LazyFrame:
        """The rows at a snapshot as a LazyFrame: projection, predicate and slice reach the files.

        ``timestamp`` is epoch milliseconds or a datetime; ``buckets`` limits the read to some buckets. Raises
        SnapshotNotFound, SnapshotExpired, TagNotFound.
        """
        unknown = [name for name in metadata_columns if name not in METADATA_TYPES]
        if unknown:
            raise InvalidInput(f"metadata column {unknown[0]!r} is not known; known: {', '.join(METADATA_TYPES)}")
        chosen = self._chosen_snapshot(snapshot, tag, timestamp)
        schema = self.schema
        live = LiveFiles(self.store, schema)
        files = DataFiles(self.store.io, schema, self.store.schemas)

        def planner(predicate: pl.Expr | None) -> Plan:
            return plan_scan(live, schema, chosen, predicate, buckets=buckets, read_optimized=read_optimized)

        return lazy_scan(schema, files, planner, table=self.name, metadata_columns=metadata_columns)

    def changes(self, after: int | str, until: int | str | None = None, *, mode: str = "auto") -> pl.LazyFrame:
        """What happened in the snapshots ``(after, until]``: ``_row_kind`` and the columns, in commit order.

        Snapshots are ids or tag names; ``until`` defaults to the latest. ``mode``: "auto", "changelog", "delta" or
        "diff". Raises SnapshotExpired if part of the range is gone.
        """
        first = self._snapshot_id(after)
        latest = self.store.snapshots.latest_id() or 0
        if first > latest:
            raise SnapshotNotFound(f"table {self.name} has no snapshot {first} yet; the latest is {latest}")
        last = latest if until is None else self._snapshot_id(until)
        if isinstance(after, str) and isinstance(until, str) and mode == "auto":
            mode = "diff"
        schema = self.schema
        reader = ChangeReader(
            store=self.store,
            schema=schema,
            live=LiveFiles(self.store, schema),
            files=DataFiles(self.store.io, schema, self.store.schemas),
            state_at=lambda snapshot_id: self.scan(snapshot=snapshot_id),
        )
        return reader.read(first, last, mode=mode).lazy()

    # -- what is in it -------------------------------------------------------------------------------------------------

    def latest_snapshot(self) -> Snapshot | None:
        """The newest snapshot, None for a table that was never written."""
        return self.store.snapshots.latest()

    def snapshots(self) -> pl.DataFrame:
        """One row a retained snapshot (Paimon's ``t$snapshots``)."""
        return system_tables.snapshots_frame(self.store)

    def files(self, snapshot: int | None = None) -> pl.DataFrame:
        """One row a live data file (Paimon's ``t$files``)."""
        return system_tables.files_frame(self.store, self.schema, self._chosen_snapshot(snapshot, None, None))

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

    # -- helpers -------------------------------------------------------------------------------------------------------

    def _table_write(self, schema: TableSchema) -> TableWrite:
        if self._writer is None:
            self._writer = TableWrite(self.store, schema, table=self.name)
        return self._writer

    def _offsets(self) -> Offsets:
        return Offsets.read(self.store.snapshots, self.store.snapshots.latest())

    def _chosen_snapshot(
        self, snapshot: int | None, tag: str | None, timestamp: int | datetime | None
    ) -> Snapshot | None:
        if sum(choice is not None for choice in (snapshot, tag, timestamp)) > 1:
            raise InvalidInput("give one of snapshot, tag and timestamp")
        if snapshot is not None:
            return self.store.snapshots.get(snapshot)
        if tag is not None:
            return self.store.tags.get(tag)
        if timestamp is None:
            return self.store.snapshots.latest()
        return self._at_time(timestamp)

    def _at_time(self, timestamp: int | datetime) -> Snapshot:
        millis = timestamp
        if isinstance(timestamp, datetime):
            aware = timestamp if timestamp.tzinfo else timestamp.replace(tzinfo=UTC)
            millis = int(aware.timestamp() * 1000)
        for snapshot_id in reversed(self.store.snapshots.ids()):
            found = self.store.snapshots.get(snapshot_id)
            if found.time_millis <= int(str(millis)):
                return found
        raise SnapshotNotFound(f"table {self.name} has no snapshot at or before {timestamp}")

    def _snapshot_id(self, snapshot_or_tag: int | str) -> int:
        return snapshot_or_tag if isinstance(snapshot_or_tag, int) else self.store.tags.get(snapshot_or_tag).id

    def _partition_bytes(self, spec: Mapping[str, object], schema: TableSchema) -> bytes:
        keys = schema.partition_keys
        if set(spec) != set(keys):
            raise InvalidInput(f"table {self.name}: a partition is given by {list(keys)}, not {sorted(spec)}")
        return serialize_row(schema.types_of(keys), [spec[key] for key in keys])

    def _overwritten(
        self, frame: pl.DataFrame, schema: TableSchema, partitions: Iterable[Mapping[str, object]] | None
    ) -> frozenset[bytes] | None:
        keys = list(schema.partition_keys)
        if not keys:
            return None
        types = schema.types_of(keys)
        present = frozenset(serialize_row(types, row) for row in frame.select(keys).unique().iter_rows())
        if partitions is None:
            return present
        named = frozenset(self._partition_bytes(spec, schema) for spec in partitions)
        if not present <= named:
            raise InvalidInput(f"table {self.name}: the frame has rows outside the partitions to overwrite")
        return named


def _committer(
    user: str | None,
    identifier: int | None,
    properties: Mapping[str, str] | None,
    expected: Mapping[str, int | None] | None,
) -> Committer:
    if identifier is not None and (user is None or identifier < 0):
        raise InvalidInput("a commit_identifier needs a commit_user, and is not negative")
    return Committer(
        user=user,
        identifier=identifier,
        properties=dict(properties or {}),
        expected_offsets=dict(expected or {}),
    )

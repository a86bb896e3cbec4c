"""``Table``: the handle through which a table is read, written and looked after."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime
from functools import partial
from importlib import import_module
from types import ModuleType
from typing import Any

import polars as pl
import pyarrow as pa

from storage_engine.codec.binary_row import deserialize_row
from storage_engine.errors import (
    InvalidInput,
    SnapshotNotFound,
    Unsupported,
)
from storage_engine.maintenance import analysis
from storage_engine.read import by_keys
from storage_engine.read.explain import ScanReport, explained_scan
from storage_engine.read.fallback import with_fallback
from storage_engine.read.merge_read import METADATA_TYPES
from storage_engine.read.source import lazy_scan
from storage_engine.read.time_travel import Moment
from storage_engine.rewrite import key_changes
from storage_engine.rewrite.append_changes import AppendChanges
from storage_engine.rewrite.rescale import rescale
from storage_engine.rewrite.sort_compact import SortCompaction, SortOrder
from storage_engine.spec.identifier import Identifier
from storage_engine.spec.schema import TableSchema
from storage_engine.spec.schema_change import SchemaChange
from storage_engine.spec.snapshot import Snapshot
from storage_engine.store.data_files import DataFiles
from storage_engine.store.file_io import FileIO
from storage_engine.store.live_files import LiveFiles
from storage_engine.store.table_store import TableStore
from storage_engine.table_portions import TablePortions
from storage_engine.table_writes import Frame, committer_of
from storage_engine.write.offsets import Offsets


class Table(TablePortions):
    """One table, or one branch of it. Cheap to make; safe to share between threads for reading.

    Each call works on the newest schema and snapshot. It may be pickled, to be opened anew in another process; what is
    pickled holds the credentials of the file system.
    """

    def __reduce__(self) -> tuple[object, ...]:
        """Name, place and schema; no caches."""
        paths = self.store.paths
        return _opened_again, (self.name, self.store.io, paths.root, paths.branch, self._schema)

    # -- writing -------------------------------------------------------------------------------------------------------

    def delete(
        self,
        predicate: pl.Expr,
        *,
        commit_user: str | None = None,
        commit_identifier: int | None = None,
        properties: Mapping[str, str] | None = None,
    ) -> Snapshot | None:
        """Delete the rows that a predicate selects, as one atomic commit; None if there are none.

        With ``commit_user`` and ``commit_identifier``, an identifier that this user has committed already changes nothing and
        gives None, so that a retry is safe; where no row is selected, the identifier alone is committed. ``properties``
        are kept in the snapshot. Raises Unsupported for a table whose merge engine or options cannot delete, and what
        ``write`` raises.
        """
        schema, committer = self.schema, committer_of(commit_user, commit_identifier, properties)
        if schema.primary_keys:
            key_changes.check_deletable(schema, table=self.name)
            return self._rewritten(
                schema, committer, lambda: key_changes.deleted_rows(self.scan(fallback=False), predicate)
            )
        changes = AppendChanges(self.store, schema, table=self.name)
        return self._changed(schema, committer, lambda: changes.delete(predicate, committer))

    def update(
        self,
        predicate: pl.Expr,
        assignments: Mapping[str, pl.Expr],
        *,
        commit_user: str | None = None,
        commit_identifier: int | None = None,
        properties: Mapping[str, str] | None = None,
    ) -> Snapshot | None:
        """Set columns of the rows that a predicate selects, as one atomic commit; None if there are none.

        ``assignments`` gives an expression over the old row for each column to be set; the committer is given as for
        ``delete``, so that ``n = n + 1`` is done once however often it is tried. Raises InvalidInput (a key column, or
        an unknown one), InvalidRows (a value that does not fit) and Unsupported (merge engines that cannot update).
        """
        schema, committer = self.schema, committer_of(commit_user, commit_identifier, properties)
        key_changes.check_updatable(schema, assignments, table=self.name)
        if schema.primary_keys:
            updated = partial(key_changes.updated_rows, predicate=predicate, assignments=assignments, schema=schema)
            return self._rewritten(schema, committer, lambda: updated(self.scan(fallback=False), table=self.name))
        changes = AppendChanges(self.store, schema, table=self.name)
        return self._changed(schema, committer, lambda: changes.update(predicate, assignments, committer))

    def replace_rows(
        self,
        changed: Callable[[int | None], pl.DataFrame],
        *,
        commit_user: str | None = None,
        commit_identifier: int | None = None,
    ) -> Snapshot | None:
        """Change rows of a table without a primary key by file and row index, as one atomic commit; None if there are none.

        ``changed`` is given the id of a snapshot (None: the table was never written), and gives what changes in it: all
        columns, ``_row_kind`` (-D, +U or +I) and, as ``scan(snapshot=…, metadata_columns=["__file_path", "__row_index"])``
        has them, the file and the row of it; for new rows they are null. It is asked again if another commit got in
        between. Raises Unsupported (a table with a primary key), InvalidRows and CommitConflict.
        """
        schema, committer = self.schema, committer_of(commit_user, commit_identifier, None)
        if schema.primary_keys:
            raise Unsupported(f"table {self.name}: rows of a table with a primary key are changed by write()")
        changes = AppendChanges(self.store, schema, table=self.name)
        return self._changed(schema, committer, lambda: changes.replace(changed, committer))

    def compact(
        self,
        *,
        full: bool = False,
        partitions: Iterable[Mapping[str, object]] | None = None,
        order_strategy: str | None = None,
        order_by: Sequence[str] = (),
    ) -> Snapshot | None:
        """Compact where the shape of the tree asks for it, or everything (``full``); None if nothing was to be done.

        ``order_strategy`` ("order", "zorder", "hilbert") sorts all rows of a table without a primary key by the columns
        ``order_by``, so that predicates on them meet few files. Raises InvalidInput, Unsupported, CommitConflict.
        """
        schema = self.schema
        wanted = None if partitions is None else frozenset(self._partition_bytes(spec, schema) for spec in partitions)
        if order_strategy is not None:
            order = SortOrder.of(schema, order_by, order_strategy, table=self.name)
            return SortCompaction(self.store, schema, order, table=self.name).run(wanted)
        if order_by:
            raise InvalidInput("order_by needs an order_strategy: order, zorder or hilbert")
        keys = None
        if wanted is not None:
            live = LiveFiles(self.store, schema)
            keys = [key for key in live.buckets(self.latest_snapshot()) if key[0] in wanted]
        return self._looked_after(self._table_write(schema).compact(keys, full=full), schema)

    def rescale(
        self, buckets: int | None = None, *, partitions: Iterable[Mapping[str, object]] | None = None
    ) -> Snapshot | None:
        """Write partitions (None: all) anew into another number of buckets; None if all have it already.

        ``buckets`` defaults to the option ``bucket``, which is set first; a table with postponed buckets needs it. Raises
        InvalidInput, Unsupported, and CommitConflict if others commit rows meanwhile.
        """
        schema = self.schema
        wanted = None if partitions is None else [self._partition_bytes(spec, schema) for spec in partitions]
        return rescale(
            self.store, schema, table=self.name, buckets=buckets, partitions=wanted, rows_of=self._rows_of_partition
        )

    def _rows_of_partition(self, snapshot: Snapshot, partition: bytes) -> pl.DataFrame:
        keys = self.schema.partition_keys
        values = deserialize_row(self.schema.types_of(keys), partition)
        chosen = [
            pl.col(key).eq_missing(pl.lit(value, self.schema.polars_schema[key]))
            for key, value in zip(keys, values, strict=True)
        ]
        return self.scan(snapshot=snapshot.id, fallback=False).filter(chosen or [pl.lit(value=True)]).collect()

    def settle(self) -> Snapshot | None:
        """Finish the compaction of a commit whose writer was interrupted before it; None if there is none."""
        return self._table_write(self.schema).settle()

    def analyze(self, columns: Sequence[str] | None = ()) -> Snapshot | None:
        """Compute statistics of the rows, and of some columns (None: all that can have some), and commit them.

        Planners of other engines use them, and ``t$statistics`` shows them, until the schema changes. None for a table that
        was never written. Raises InvalidInput for a column that is not known, or of a nested type.
        """
        schema, snapshot = self.schema, self.latest_snapshot()
        fields = analysis.analyzed_fields(schema, columns, table=self.name)
        if snapshot is None:
            return None
        name = analysis.write_statistics(
            self.store, schema, snapshot, self.scan(snapshot=snapshot.id, fallback=False), fields
        )
        return self._table_write(schema).commit_statistics(name)

    def offsets(self) -> Offsets:
        """What every commit user has committed last, read once: identifiers and properties by user."""
        return Offsets.read(self.store.snapshots, self.store.snapshots.latest())

    def last_committed(self, commit_user: str) -> int | None:
        """The highest identifier committed by a user, however long ago."""
        return self.offsets().identifiers.get(commit_user)

    def committed_properties(self, commit_user: str) -> dict[str, str]:
        """The ``properties`` of that user's last commit."""
        return dict(self.offsets().user_properties.get(commit_user, {}))

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
        watermark: int | datetime | None = None,
        read_optimized: bool = False,
        metadata_columns: Sequence[str] = (),
        buckets: Collection[int] | None = None,
        fallback: bool = True,
    ) -> pl.LazyFrame:
        """The rows at a snapshot as a LazyFrame: projection, predicate and slice reach the files.

        ``timestamp`` is epoch milliseconds or a datetime: the last snapshot at or before it; ``watermark`` is the same
        of event time: the first snapshot that has reached it. ``buckets`` limits the read to some buckets. Partitions
        that are not here come from the branch of the option ``scan.fallback-branch``, as it was at that time, unless
        ``fallback`` is False. Raises SnapshotNotFound, SnapshotExpired, TagNotFound, and InvalidOption for a fallback
        branch that is not there or not alike.
        """
        unknown = [name for name in metadata_columns if name not in METADATA_TYPES]
        if unknown:
            raise InvalidInput(f"metadata column {unknown[0]!r} is not known; known: {', '.join(METADATA_TYPES)}")
        moment = Moment(snapshot=snapshot, tag=tag, timestamp=timestamp, watermark=watermark)
        own = self._part(moment, buckets=buckets, read_optimized=read_optimized)
        frames = [
            lazy_scan(
                part.schema,
                DataFiles(self.store.io, part.schema, part.store.schemas),
                part.plan,
                table=part.table,
                metadata_columns=metadata_columns,
            )
            for part in (with_fallback(own, moment) if fallback else [own])
        ]
        return frames[0] if len(frames) == 1 else pl.concat(frames)

    def explained_scan(self, moment: Moment, reports: list[ScanReport]) -> pl.LazyFrame:
        """A scan that has no rows, and adds to ``reports`` what a query over it asks when it is collected."""
        return pl.concat(
            explained_scan(self.store.io, part.schema, part.plan, reports, table=part.table)
            for part in with_fallback(self._part(moment), moment)
        )

    def lookup(
        self,
        keys: Frame,
        strategy: str = "auto",
        *,
        columns: Sequence[str] | None = None,
        snapshot: int | None = None,
    ) -> pl.DataFrame:
        """The rows whose columns equal a row of ``keys`` (a frame of the primary key, or of any columns).

        Reads the buckets, row groups and columns that the keys need; with ``strategy`` "full-cache" all rows, which is
        quicker for very many keys. Null keys match nothing; a fallback branch is not asked. To look up batch after
        batch, keep a ``LookupTable``.
        """
        schema = self.schema
        given = keys.collect() if isinstance(keys, pl.LazyFrame) else pl.DataFrame(keys)
        wanted = by_keys.wanted_keys(given, schema, table=self.name)
        rows = self.scan(snapshot=snapshot, fallback=False, buckets=by_keys.buckets_of(wanted, schema))
        return by_keys.rows_of_keys(rows, wanted, columns or schema.column_names, push=strategy != "full-cache")

    def changes(
        self,
        after: int | str | None = None,
        until: int | str | None = None,
        *,
        mode: str = "auto",
        consumer: str | None = None,
        columns: Sequence[str] | None = None,
    ) -> pl.LazyFrame:
        """What happened in the snapshots ``(after, until]``: ``_row_kind`` and the columns, in commit order.

        Snapshots are ids or tag names; ``until`` defaults to the latest. ``mode``: "auto", "changelog", "delta" or
        "diff". A ``consumer`` that has a position (``set_consumer``) goes on from there, whatever ``after`` says; without
        one and without ``after`` everything is read. ``columns``: these alone are read of files. Raises SnapshotExpired if
        part of the range is gone, and InvalidInput for a column that the table lacks.
        """
        newest = self.latest_snapshot()
        latest = 0 if newest is None else newest.id
        position = None if consumer is None else self.store.consumers.next_snapshot(consumer)
        if position is not None:
            after = min(position - 1, latest)
        first = self._snapshot_id(0 if after is None else after)
        if first > latest:
            raise SnapshotNotFound(f"table {self.name} has no snapshot {first} yet; the latest is {latest}")
        last = latest if until is None else self._snapshot_id(until)
        if isinstance(after, str) and isinstance(until, str) and mode == "auto":
            mode = "diff"
        return self._change_reader().read(first, last, mode=mode, columns=columns).lazy()

    def to_arrow(self, **scan: Any) -> pa.Table:
        """All rows as a ``pyarrow.Table``; the arguments are those of ``scan``."""
        return self.scan(**scan).collect().to_arrow()

    def to_pandas(self, **scan: Any) -> Any:
        """All rows as a ``pandas.DataFrame``; the arguments are those of ``scan``. Raises Unsupported without pandas."""
        optional_module("pandas", "pip install pandas")
        return self.scan(**scan).collect().to_pandas()

    def to_duckdb(self, name: str | None = None, connection: Any = None, **scan: Any) -> Any:
        """A DuckDB connection (a new one in memory, or yours) in which the table is a view.

        The view is called as the table is, without its database, unless ``name`` says otherwise. A query reads the
        columns and files that it needs. The snapshot is that of this call; the arguments are those of ``scan``.
        Raises Unsupported without duckdb.
        """
        duckdb = optional_module("duckdb", "pip install 'streaming-lakehouse[duckdb]'")
        opened = duckdb.connect() if connection is None else connection
        opened.register(name or Identifier.parse(self.name).table, self.scan(**scan))
        return opened

    def file_bytes(self, snapshot: int | None = None, *, buckets: Collection[int] | None = None) -> int:
        """Bytes of the live data files at a snapshot (default: the latest), of some buckets or all."""
        live = LiveFiles(self.store, self.schema)
        entries = live.entries(self.latest_snapshot() if snapshot is None else self.store.snapshots.get(snapshot))
        return sum(entry.file.file_size for entry in entries if buckets is None or entry.bucket in buckets)

    # -- helpers -------------------------------------------------------------------------------------------------------

    def _snapshot_id(self, snapshot_or_tag: int | str) -> int:
        return snapshot_or_tag if isinstance(snapshot_or_tag, int) else self.store.tags.get(snapshot_or_tag).id


def _opened_again(name: str, io: FileIO, root: str, branch: str, schema: TableSchema) -> Table:
    return Table(name, TableStore.open(io, root, branch), schema)


def optional_module(name: str, how: str) -> ModuleType:
    """A module that is no dependency of the engine. Raises Unsupported, which says how it is installed."""
    try:
        return import_module(name)
    except ModuleNotFoundError as cause:
        raise Unsupported(f"{name} is not installed: {how}") from cause

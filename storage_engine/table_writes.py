"""The writing side of ``Table``: commits, and the same work shared between processes.

Spec: "Write path" and the batch write builder of Apache Paimon: ``new_write``, ``prepare_commit``, ``commit``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from functools import partial
from typing import TypeAlias

import polars as pl
import pyarrow as pa

from storage_engine.codec.binary_row import serialize_row
from storage_engine.errors import InvalidInput
from storage_engine.kernel.conform import conform, conform_batches
from storage_engine.read.time_travel import epoch_millis
from storage_engine.spec.manifest import CommitMessage
from storage_engine.spec.schema import TableSchema
from storage_engine.spec.snapshot import Snapshot
from storage_engine.store.memory_budget import MemoryBudget
from storage_engine.table_commits import TableCommits, no_rows
from storage_engine.write.batch_write import BatchWrite, bucket_of
from storage_engine.write.compaction_task import CompactionTask
from storage_engine.write.requests import Committer

Frame: TypeAlias = pl.DataFrame | pl.LazyFrame | pa.Table | pa.RecordBatchReader


class TableWrites(TableCommits):
    """What writes to a table."""

    def write(
        self,
        frame: Frame,
        *,
        commit_user: str | None = None,
        commit_identifier: int | None = None,
        properties: Mapping[str, str] | None = None,
        expected_offsets: Mapping[str, int | None] | None = None,
        watermark: int | datetime | None = None,
    ) -> Snapshot | None:
        """Upsert a frame as one atomic commit; returns the snapshot that shows it.

        A ``LazyFrame`` or ``pyarrow.RecordBatchReader`` may be larger than memory: it is computed batch by batch, and what
        ``write-buffer-size`` cannot hold is flushed as files that nobody sees before the commit.
        ``_row_kind`` ("+I", "-U", "+U", "-D") is optional. With ``commit_user`` and ``commit_identifier``, an
        identifier that this user has committed already changes nothing and gives None; an empty frame then moves the
        offset alone.
        ``expected_offsets`` (user → last identifier or None) is compared atomically with the commit. ``watermark`` (epoch
        milliseconds or a datetime): event time up to which no more rows are expected; it never goes back.

        Raises InvalidRows (nothing written), OffsetConflict, CommitConflict, CommitStateUnknown, CommitUnfinished.
        """
        committer = committer_of(commit_user, commit_identifier, properties, expected_offsets, watermark)
        schema = self.schema
        writer = self._table_write(schema)
        if isinstance(frame, pl.LazyFrame | pa.RecordBatchReader):
            snapshot = writer.upsert_batches(self._batches(frame, schema), committer)
        else:
            snapshot = writer.upsert(conform(frame, schema, table=self.name), committer)
        return self._looked_after(snapshot, schema)

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
        committer = committer_of(commit_user, commit_identifier, properties, expected_offsets)
        schema = self.schema
        writer = self._table_write(schema)
        specs = None if partitions is None else list(partitions)
        if isinstance(frame, pl.LazyFrame | pa.RecordBatchReader):
            targets = partial(self._overwritten, schema=schema, partitions=specs)
            return self._looked_after(
                writer.overwrite_batches(self._batches(frame, schema), targets, committer), schema
            )
        conformed = conform(frame, schema, table=self.name)
        snapshot = writer.overwrite(conformed, self._overwritten(conformed, schema, specs), committer)
        return self._looked_after(snapshot, schema)

    # -- shared between processes --------------------------------------------------------------------------------------

    def new_write(self) -> BatchWrite:
        """Rows that this process writes and another one commits, with those of others, as one atomic commit.

        ``write(frame)`` any number of times, then ``prepare_commit()``, whose messages go to ``commit`` (they can be pickled,
        and ``encode_commit_message`` makes bytes of them). The rows of one key must all be written by one process, unless a
        ``sequence.field`` orders them: share the work by partition or by ``bucket_of``. Raises Unsupported for dynamic
        buckets, which have one writer.
        """
        schema = self.schema
        return BatchWrite(self._table_write(schema), self.store, schema, table=self.name)

    def bucket_of(self, frame: pl.DataFrame) -> pl.Series:
        """The bucket (Int32) of each row of a frame with the key columns. Raises Unsupported for dynamic buckets."""
        return bucket_of(frame, self.schema, table=self.name)

    def commit(
        self,
        messages: Iterable[CommitMessage],
        *,
        commit_user: str | None = None,
        commit_identifier: int | None = None,
        properties: Mapping[str, str] | None = None,
        expected_offsets: Mapping[str, int | None] | None = None,
        watermark: int | datetime | None = None,
    ) -> Snapshot | None:
        """Commit what several processes have prepared (``new_write``, ``run_compaction``), all or nothing.

        With ``commit_user`` and ``commit_identifier``, a second call with the same pair changes nothing and gives None, so
        that a retry is safe; without them, messages must be committed once. Messages that are never committed leave files
        that ``remove_orphan_files`` finds.

        Raises CommitConflict (nothing visible) if messages were committed already, or compacted files are gone meanwhile.
        """
        committer = committer_of(commit_user, commit_identifier, properties, expected_offsets, watermark)
        schema = self.schema
        snapshot = self._table_write(schema).commit_messages(list(messages), committer, base=self.latest_snapshot())
        return self._looked_after(snapshot, schema)

    def plan_compaction(
        self, *, full: bool = False, partitions: Iterable[Mapping[str, object]] | None = None
    ) -> list[CompactionTask]:
        """The buckets that are due for compaction, or all (``full``), as tasks for ``run_compaction`` in any process."""
        schema = self.schema
        wanted = None if partitions is None else frozenset(self._partition_bytes(spec, schema) for spec in partitions)
        return self._table_write(schema).plan_compaction(wanted, full=full)

    def run_compaction(self, task: CompactionTask) -> list[CommitMessage]:
        """Compact one bucket; nothing is visible before ``commit``. Empty if others have done it meanwhile."""
        return self._table_write(self.schema).run_compaction(task)

    # -- helpers of writing --------------------------------------------------------------------------------------------

    def _rewritten(
        self, schema: TableSchema, committer: Committer, rows: Callable[[], pl.DataFrame]
    ) -> Snapshot | None:
        """Write rows that are made from those of the table, unless this is committed already."""
        writer = self._table_write(schema)
        if writer.is_done(committer):
            return None
        return self._looked_after(writer.upsert(conform(rows(), schema, table=self.name), committer), schema)

    def _changed(
        self, schema: TableSchema, committer: Committer, change: Callable[[], Snapshot | None]
    ) -> Snapshot | None:
        """Change rows of a table without a primary key, unless this is committed already; an identifier is kept in any case."""
        writer = self._table_write(schema)
        if writer.is_done(committer):
            return None
        changed = change() or writer.upsert(no_rows(schema, self.name), committer)
        return self._looked_after(changed, schema)

    def _batches(self, frame: pl.LazyFrame | pa.RecordBatchReader, schema: TableSchema) -> Iterator[pl.DataFrame]:
        return conform_batches(frame, schema, table=self.name, batch_rows=MemoryBudget.of(schema).batch_rows)

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


def committer_of(
    user: str | None,
    identifier: int | None,
    properties: Mapping[str, str] | None,
    expected: Mapping[str, int | None] | None = None,
    watermark: int | datetime | None = None,
) -> Committer:
    """Who commits, from what the caller of a public method has given. Raises InvalidInput."""
    if identifier is not None and (user is None or identifier < 0):
        raise InvalidInput("a commit_identifier needs a commit_user, and is not negative")
    return Committer(
        user=user,
        identifier=identifier,
        properties=dict(properties or {}),
        expected_offsets=dict(expected or {}),
        watermark=None if watermark is None else epoch_millis(watermark),
    )

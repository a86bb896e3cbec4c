"""Postponed buckets: rows are written as they come, and get their bucket when the table is compacted.

Spec: "Postpone Bucket" of Apache Paimon 1.3.1 (``'bucket' = '-2'``). A write appends unmerged files, Avro where Avro has the
types, to ``bucket-postpone``; batch reads do not see them. A compaction writes their rows to real buckets: as many as the
partition has already, else ``postpone.default-bucket-num``.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import polars as pl

from storage_engine.spec.manifest import CommitMessage, FileSource, ManifestEntry
from storage_engine.spec.schema import SEQUENCE_NUMBER, VALUE_KIND, TableSchema
from storage_engine.spec.snapshot import Snapshot
from storage_engine.spec.types import TIMESTAMP_ROOTS, DataType, TypeRoot
from storage_engine.store.data_files import DataFiles
from storage_engine.store.live_files import Bucket, LiveFiles
from storage_engine.store.memory_budget import MemoryBudget
from storage_engine.store.merge_frames import GROUP, FilePart, read_parts
from storage_engine.store.paths import POSTPONE_BUCKET
from storage_engine.store.table_store import TableStore
from storage_engine.write.bucket_router import by_group, route
from storage_engine.write.commit import adds
from storage_engine.write.level0_writer import Flush, Level0Writer, Written, WrittenBucket

_NO_SEQUENCE = -1
_MICROS, _MILLIS = 6, 3
_LAST_WRITER = 2**31 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """What moves the rows of postponed files to real buckets."""

    delta: tuple[ManifestEntry, ...]
    changelog: tuple[ManifestEntry, ...]


class PostponedBuckets:
    """Writes and moves the postponed rows of one table version."""

    def __init__(
        self, store: TableStore, schema: TableSchema, live: LiveFiles, files: DataFiles, *, table: str
    ) -> None:
        self._store = store
        self._schema = schema
        self._live = live
        self._files = files
        self._table = table
        self._writer = random.randint(0, _LAST_WRITER)  # noqa: S311 - a name, not a secret

    def flushes(self, *, user: str) -> Flush:
        """``write`` for the frames of one commit, one after another."""
        return lambda frame, _: self.write(frame, user=user)

    def write(self, frame: pl.DataFrame, *, user: str) -> list[WrittenBucket]:
        """Append the rows of a conformed frame, in their order."""
        if frame.is_empty():
            return []
        files = DataFiles(self._store.io, self._file_schema(user), self._store.schemas)
        role = files.data_role(0, FileSource.APPEND)
        routed = route(frame, self._schema, None, None)
        rows = routed.frame.with_columns(pl.lit(_NO_SEQUENCE, pl.Int64).alias(SEQUENCE_NUMBER))
        written = []
        for group, some in by_group(rows.sort(GROUP, maintain_order=True)).items():
            bucket = self._live.empty_bucket(routed.keys[group][0], POSTPONE_BUCKET, POSTPONE_BUCKET)
            message = CommitMessage(
                partition=bucket.partition,
                bucket=POSTPONE_BUCKET,
                total_buckets=POSTPONE_BUCKET,
                new_files=tuple(files.write(some, bucket.directory, role)),
            )
            written.append(WrittenBucket(bucket=bucket, message=message, frames={}))
        return written

    def moved(self, latest: Snapshot | None) -> Moved | None:
        """Write the postponed rows to their buckets, at level 0; None if there are none."""
        buckets = self._live.buckets(latest)
        waiting = [bucket for bucket in buckets.values() if bucket.bucket == POSTPONE_BUCKET]
        if not waiting:
            return None
        counts = {bucket.partition: bucket.total_buckets for bucket in buckets.values() if bucket.total_buckets > 0}
        default = self._schema.table_options.postpone_default_bucket_num
        gone = [
            entry.as_delete() for bucket in waiting for entry in adds(*bucket.key, bucket.total_buckets, bucket.files)
        ]
        written = [
            part for bucket in waiting for part in self._placed(bucket, counts.get(bucket.partition, default), latest)
        ]
        return Moved(
            delta=(*gone, *_entries(written, changelog=False)),
            changelog=tuple(_entries(written, changelog=True)),
        )

    def _placed(self, bucket: Bucket, count: int, latest: Snapshot | None) -> list[WrittenBucket]:
        """The rows of one partition in so many buckets, as many at once as the memory budget holds.

        Files stand in the order in which they were committed.
        """
        parts = [FilePart(meta=file, directory=bucket.directory) for file in bucket.files]
        columns = [*self._schema.column_names, VALUE_KIND]
        schema = replace(self._schema, options={**self._schema.options, "bucket": str(count)})
        writer = Level0Writer(schema, self._live, self._files, None, table=self._table)
        written: list[WrittenBucket] = []
        for some in MemoryBudget.of(self._schema).passes(parts, lambda part: [part.meta]):
            rows = read_parts(self._files, some, columns).select(columns)
            written += [replace(part, frames={}) for part in writer.write(rows, latest, after=Written.of(written))]
        return written

    def _file_schema(self, user: str) -> TableSchema:
        """The schema by which postponed files are written: their format, their name, and no statistics."""
        prefix = self._schema.table_options.data_file_prefix
        options = {**self._schema.options, "data-file.prefix": f"{prefix}-u-{user}-s-{self._writer}-w-"}
        if all(_has_avro(field.type) for field in self._schema.fields):
            options |= {"file.format": "avro", "metadata.stats-mode": "none"}
        return replace(self._schema, options=options)


def _entries(written: Sequence[WrittenBucket], *, changelog: bool) -> Iterator[ManifestEntry]:
    for part in written:
        files = part.message.changelog_files if changelog else part.message.new_files
        yield from adds(*part.bucket.key, part.bucket.total_buckets, files)


def _has_avro(data_type: DataType) -> bool:
    """Whether Paimon writes a type to Avro, which has no time finer than a microsecond."""
    if data_type.root in TIMESTAMP_ROOTS and (data_type.precision or 0) > _MICROS:
        return False
    if data_type.root is TypeRoot.TIME and (data_type.precision or 0) > _MILLIS:
        return False
    nested = [data_type.element, data_type.key, data_type.value, *(field.type for field in data_type.fields)]
    return all(_has_avro(inner) for inner in nested if inner is not None)

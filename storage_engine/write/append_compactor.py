"""Compacts append tables: small files become files of the target size, and deleted rows go.

Spec: "Append Table / Compaction" of Apache Paimon 1.3.1. Rows keep their order; a rewritten file numbers them on from the lowest
sequence number of the files that it replaces.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import polars as pl

from storage_engine.lsm.append_compaction import AppendBucket, Effort, Unit, pick_append
from storage_engine.spec.manifest import CommitMessage, DataFileMeta, FileSource
from storage_engine.spec.schema import SEQUENCE_NUMBER, VALUE_KIND, TableSchema
from storage_engine.store.data_files import DataFiles
from storage_engine.store.index_files import IndexFiles
from storage_engine.store.live_files import Bucket
from storage_engine.store.merge_frames import FilePart, read_parts
from storage_engine.write.append_vectors import AppendVectors

_LEVEL = 0  # append tables have no levels


class AppendCompactor:
    """Compacts buckets of one table version."""

    def __init__(self, schema: TableSchema, files: DataFiles, index_files: IndexFiles) -> None:
        self._options = schema.table_options
        self._columns = schema.column_names
        self._files = files
        self._vectors = AppendVectors(schema, index_files)

    def compact(self, buckets: Sequence[Bucket], effort: Effort) -> list[CommitMessage]:
        """Compact the buckets whose files ask for it."""
        return [message for bucket in buckets if (message := self._bucket(bucket, effort)) is not None]

    def _bucket(self, bucket: Bucket, effort: Effort) -> CommitMessage | None:
        options = self._options
        seen = AppendBucket(
            files=bucket.files,
            deleted={name: len(vector) for name, vector in bucket.vectors.items()},
            ordered=options.bucket > 0 and options.bucket_append_ordered,
        )
        units = pick_append(seen, options, effort)
        if not units:
            return None
        before = [file for unit in units for file in unit]
        after = [file for unit in units for file in self._rewritten(unit, bucket)]
        vectors = self._vectors.changed(bucket, {}, gone={file.file_name for file in before})
        return CommitMessage(
            partition=bucket.partition,
            bucket=bucket.bucket,
            total_buckets=bucket.total_buckets,
            compact_before=tuple(before),
            compact_after=tuple(after),
            compact_new_index_files=vectors.added,
            compact_deleted_index_files=vectors.removed,
        )

    def _rewritten(self, unit: Unit, bucket: Bucket) -> Iterator[DataFileMeta]:
        """The files that replace a unit; no more is in memory at once than one of them holds."""
        role = self._files.data_role(_LEVEL, FileSource.COMPACT)
        first = unit[0].min_sequence_number
        for files in self._portions(unit):
            parts = [
                FilePart(meta=file, directory=bucket.directory, vector=bucket.vectors.get(file.file_name))
                for file in files
            ]
            rows = numbered(read_parts(self._files, parts, self._columns).select(self._columns), first)
            first += rows.height
            yield from self._files.write(rows, bucket.directory, role)

    def _portions(self, unit: Unit) -> Iterator[list[DataFileMeta]]:
        """Files of a unit in portions of about the target size."""
        target = self._options.target_file_size_bytes(has_primary_key=False)
        some: list[DataFileMeta] = []
        for file in unit:
            some.append(file)
            if sum(member.file_size for member in some) >= target:
                yield some
                some = []
        if some:
            yield some


def numbered(rows: pl.DataFrame, first: int) -> pl.DataFrame:
    """Rows of an append table with the system columns that files are described by."""
    numbers = pl.int_range(first, first + rows.height, dtype=pl.Int64, eager=True).alias(SEQUENCE_NUMBER)
    return rows.with_columns(numbers, pl.lit(0, pl.Int8).alias(VALUE_KIND))

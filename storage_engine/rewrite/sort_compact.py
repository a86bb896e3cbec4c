"""Sort compaction: the rows of a table without a primary key along a curve, so that predicates on its columns meet few files.

Spec: "Sort Compact" of Apache Paimon 1.3.1, for tables without buckets. What does not fit into memory is parted into ranges of
the curve, by quantiles of a sample, on the local disk. The commit is a COMPACT: rows that others write meanwhile stay.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from storage_engine.errors import CommitConflict, InvalidInput, Unsupported
from storage_engine.kernel.space_filling import Curve, OrderStrategy, ends_of
from storage_engine.lsm.append_compaction import in_sequence
from storage_engine.spec.manifest import DataFileMeta, FileSource, IndexManifestEntry, ManifestEntry
from storage_engine.spec.schema import TableSchema
from storage_engine.spec.snapshot import CommitKind, Snapshot
from storage_engine.spec.types import NESTED_ROOTS
from storage_engine.store.data_files import DataFiles
from storage_engine.store.index_files import IndexFiles
from storage_engine.store.live_files import Bucket, LiveFiles
from storage_engine.store.manifest_cache import ALL_ENTRIES, EntryFilter
from storage_engine.store.merge_frames import FilePart, read_parts
from storage_engine.store.spill import spilling
from storage_engine.store.table_store import TableStore
from storage_engine.write.append_compactor import numbered
from storage_engine.write.append_vectors import AppendVectors
from storage_engine.write.commit import FileStoreCommit, adds, index_entries
from storage_engine.write.requests import Committer

_ATTEMPTS = 5
_LEVEL = 0
_MEMORY_SHARE = (
    8  # of the bytes in memory, those that a compressed file takes, its rows being there twice while they are sorted
)
_SAMPLED_ROWS = 200_000


@dataclass(frozen=True, slots=True, kw_only=True)
class SortOrder:
    """By which columns, along which curve."""

    columns: tuple[str, ...]
    strategy: OrderStrategy

    @staticmethod
    def of(schema: TableSchema, columns: Sequence[str], strategy: str, *, table: str) -> SortOrder:
        """A checked order. Raises InvalidInput, and Unsupported for tables that keep another order."""
        if schema.primary_keys or schema.table_options.bucket > 0:
            raise Unsupported(
                f"table {table}: only tables without a primary key and without buckets can be sorted; others keep the order of"
                " their keys, or in which they were written"
            )
        unknown = [name for name in columns if name not in schema.by_name]
        if unknown or not columns:
            what = f"there is no column {unknown[0]!r}" if unknown else "'order_by' names no column"
            raise InvalidInput(f"table {table}: {what}; columns: {', '.join(schema.column_names)}")
        nested = [name for name in columns if schema.by_name[name].type.root in NESTED_ROOTS]
        if nested:
            raise InvalidInput(
                f"table {table}: column {nested[0]!r} of type {schema.by_name[nested[0]].type.sql} has no order"
            )
        return SortOrder(columns=tuple(columns), strategy=OrderStrategy.parse(strategy, len(columns)))


class SortCompaction:
    """Sorts one version of a table."""

    def __init__(self, store: TableStore, schema: TableSchema, order: SortOrder, *, table: str) -> None:
        self._store = store
        self._schema = schema
        self._order = order
        self._live = LiveFiles(store, schema)
        self._files = DataFiles(store.io, schema, store.schemas)
        self._vectors = AppendVectors(schema, IndexFiles(store, schema))
        self._commit = FileStoreCommit(store, schema, self._live, table=table)
        self._budget = schema.table_options.write_buffer_size

    def run(self, partitions: frozenset[bytes] | None = None) -> Snapshot | None:
        """Sort partitions (None: all), each by itself; None if they are empty.

        Raises CommitConflict if other commits keep changing the same files.
        """
        committer = Committer().named()

        keep = ALL_ENTRIES if partitions is None else EntryFilter.of_partitions(partitions)
        for attempt in range(_ATTEMPTS):
            latest = self._store.snapshots.latest()
            buckets = list(self._live.buckets(latest, keep=keep).values())
            if not buckets:
                return None
            written = [(bucket, list(self._sorted(bucket))) for bucket in buckets]
            try:
                return self._committed(committer, written)
            except CommitConflict:
                for bucket, files in written:
                    for file in files:
                        self._store.io.delete(self._files.path_of(file, bucket.directory))
                if attempt == _ATTEMPTS - 1:
                    raise
        raise AssertionError("the last attempt returns or raises")

    def _committed(self, committer: Committer, written: Sequence[tuple[Bucket, list[DataFileMeta]]]) -> Snapshot | None:
        delta: list[ManifestEntry] = []
        index: list[IndexManifestEntry] = []
        for bucket, files in written:
            delta += [entry.as_delete() for entry in adds(*bucket.key, bucket.total_buckets, bucket.files)]
            delta += adds(*bucket.key, bucket.total_buckets, files)
            change = self._vectors.changed(bucket, {}, gone={file.file_name for file in bucket.files})
            index += index_entries(*bucket.key, added=change.added, removed=change.removed)
        request = committer.request(CommitKind.COMPACT, delta=delta)
        return self._commit.commit(replace(request, index=tuple(index), check_conflicts=True))

    def _sorted(self, bucket: Bucket) -> Iterator[DataFileMeta]:
        """Write the rows of a bucket along the curve."""
        role = self._files.data_role(_LEVEL, FileSource.COMPACT)
        first = min(file.min_sequence_number for file in bucket.files)
        size = sum(file.file_size for file in bucket.files) * _MEMORY_SHARE
        for rows in self._in_memory(bucket) if size <= self._budget else self._by_ranges(bucket, size):
            yield from self._files.write(numbered(rows, first), bucket.directory, role)
            first += rows.height

    def _in_memory(self, bucket: Bucket) -> Iterator[pl.DataFrame]:
        rows = self._read(bucket, bucket.files, self._schema.column_names)
        yield self._curve(ends_of(rows, self._order.columns)).sort(rows)

    def _by_ranges(self, bucket: Bucket, size: int) -> Iterator[pl.DataFrame]:
        """The rows range by range of the curve, each range within the budget if the sample was fair."""
        curve, sample = self._surveyed(bucket)
        ranges = -(-size // self._budget)
        leading = _leading(curve, sample)
        bounds = np.unique(np.quantile(leading, np.linspace(0, 1, ranges + 1)[1:-1], method="nearest"))
        with spilling() as spill:
            for file in in_sequence(bucket.files):
                rows = self._read(bucket, [file], self._schema.column_names)
                of_row = pl.Series(np.searchsorted(bounds, _leading(curve, rows), side="right"))
                for part in of_row.unique().to_list():
                    spill.add(part, rows.filter(of_row == part))
            for rows in spill.parts():
                yield curve.sort(rows)

    def _surveyed(self, bucket: Bucket) -> tuple[Curve, pl.DataFrame]:
        """The curve over all rows, and a sample of them: only the columns to sort by are read."""
        step = max(1, sum(file.row_count for file in bucket.files) // _SAMPLED_ROWS)
        ends, samples = [], []
        for file in bucket.files:
            rows = self._read(bucket, [file], self._order.columns)
            ends.append(ends_of(rows, self._order.columns))
            samples.append(rows.gather_every(step))
        return self._curve(ends_of(pl.concat(ends), self._order.columns)), pl.concat(samples)

    def _curve(self, ends: pl.DataFrame) -> Curve:
        return Curve.over(ends, self._order.strategy, bytes_of_text=self._schema.table_options.zorder_bytes_of_text)

    def _read(self, bucket: Bucket, files: Sequence[DataFileMeta], columns: Sequence[str]) -> pl.DataFrame:
        parts = [
            FilePart(meta=file, directory=bucket.directory, vector=bucket.vectors.get(file.file_name))
            for file in in_sequence(files)
        ]
        return read_parts(self._files, parts, columns).select(columns)


def _leading(curve: Curve, rows: pl.DataFrame) -> np.ndarray[tuple[int], np.dtype[np.uint64]]:
    return curve.keys(rows).to_series(0).to_numpy()

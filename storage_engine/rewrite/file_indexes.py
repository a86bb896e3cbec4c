"""File indexes for files that lack them: what ``file-index.…`` asks for now, of data that was written before.

Spec: ``sys.rewrite_file_index`` of Apache Paimon 1.3.1. The data files stay; the commit is a COMPACT of the same files
described anew. Readers take a description that was ever removed as removed for good, so that none may come back: indexes that
replace others lie beside the file under a name of their own, and indexes that are not asked for any more stay until their file
is rewritten or gets others.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace

from storage_engine.codec.bloom_filter import is_dimensioned
from storage_engine.errors import CommitConflict
from storage_engine.spec.file_index_options import BLOOM_FILTER, ColumnIndex, FileIndexOptions
from storage_engine.spec.manifest import DataFileMeta, ManifestEntry
from storage_engine.spec.schema import TableSchema
from storage_engine.spec.snapshot import CommitKind, Snapshot
from storage_engine.store.data_files import DataFiles
from storage_engine.store.indexed_values import IndexedValues
from storage_engine.store.live_files import Bucket, LiveFiles
from storage_engine.store.manifest_cache import ALL_ENTRIES, EntryFilter
from storage_engine.store.paths import POSTPONE_BUCKET
from storage_engine.store.stored_indexes import INDEX_SUFFIX, Indexes, index_directory, read_indexes
from storage_engine.store.table_store import TableStore
from storage_engine.write.commit import FileStoreCommit, adds
from storage_engine.write.requests import Committer

_ATTEMPTS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reindexed:
    """A file before and after, and the index file that was written beside it."""

    bucket: Bucket
    before: DataFileMeta
    after: DataFileMeta
    written: str | None


class FileIndexRewrite:
    """Indexes the files of one table version."""

    def __init__(self, store: TableStore, schema: TableSchema, *, table: str) -> None:
        self._store = store
        self._schema = schema
        self._options = FileIndexOptions.of(schema.table_options)
        self._live = LiveFiles(store, schema)
        self._files: dict[int, DataFiles] = {}
        self._commit = FileStoreCommit(store, schema, self._live, table=table)

    def run(self, partitions: frozenset[bytes] | None = None) -> Snapshot | None:
        """Index the files of partitions (None: all); None if no file lacks an index.

        Raises CorruptFile, FileMissing, and CommitConflict if other commits keep replacing the same files.
        """
        committer = Committer().named()
        keep = ALL_ENTRIES if partitions is None else EntryFilter.of_partitions(partitions)
        for attempt in range(_ATTEMPTS):
            buckets = self._live.buckets(self._store.snapshots.latest(), keep=keep).values()
            found = [self._reindexed(bucket, file) for bucket in buckets for file in _indexable(bucket)]
            changed = [each for each in found if each is not None]
            if not changed:
                return None
            try:
                return self._committed(committer, changed)
            except CommitConflict:
                for path in (each.written for each in changed if each.written is not None):
                    self._store.io.delete(path)
                if attempt == _ATTEMPTS - 1:
                    raise
        raise AssertionError("the last attempt returns or raises")

    def _committed(self, committer: Committer, changed: Sequence[_Reindexed]) -> Snapshot | None:
        delta: list[ManifestEntry] = []
        for each in changed:
            bucket = each.bucket
            before, after = adds(*bucket.key, bucket.total_buckets, (each.before, each.after))
            delta += [before.as_delete(), after]
        return self._commit.commit(replace(committer.request(CommitKind.COMPACT, delta=delta), check_conflicts=True))

    def _reindexed(self, bucket: Bucket, file: DataFileMeta) -> _Reindexed | None:
        """A file with its indexes; None if it has what is asked for."""
        written_by = self._store.schemas.get(file.schema_id) if file.schema_id != self._schema.id else self._schema
        wanted = self._wanted(written_by)
        stored = read_indexes(self._store.io, file, bucket.directory)
        if not wanted or (stored is not None and all(_is_there(index, stored.indexes) for index in wanted)):
            return None
        content = self._container(bucket, file, written_by, wanted)
        others = tuple(name for name in file.extra_files if not name.endswith(INDEX_SUFFIX))
        if stored is None and len(content) <= self._options.in_manifest:
            after = replace(file, embedded_index=content, extra_files=others)
            return _Reindexed(bucket=bucket, before=file, after=after, written=None)
        name = f"{file.file_name}-{uuid.uuid4()}-1{INDEX_SUFFIX}"  # Paimon counts on from the last number
        path = f"{index_directory(file, bucket.directory)}/{name}"
        self._store.io.write_new(path, content)
        after = replace(file, embedded_index=None, extra_files=(*others, name))
        return _Reindexed(bucket=bucket, before=file, after=after, written=path)

    def _wanted(self, written_by: TableSchema) -> list[ColumnIndex]:
        """The indexes of the options, by the names that their columns had in an older version of the table."""
        then = {field.id: field.name for field in written_by.fields}
        ids = {index: self._schema.by_name[index.column].id for index in self._options.indexes}
        return [replace(index, column=then[id_]) for index, id_ in ids.items() if id_ in then]

    def _container(
        self, bucket: Bucket, file: DataFileMeta, written_by: TableSchema, wanted: Sequence[ColumnIndex]
    ) -> bytes:
        if written_by.id not in self._files:
            self._files[written_by.id] = DataFiles(self._store.io, written_by, self._store.schemas)
        files = self._files[written_by.id]
        columns = list(dict.fromkeys(index.column for index in wanted))
        portions = files.read_portions(file, bucket.directory, columns, self._schema.table_options.write_buffer_size)
        values: IndexedValues | None = None
        for frame in portions:
            some = IndexedValues.of(frame, written_by, wanted)
            values = some if values is None or some is None else values.followed_by(some)
        if values is None:
            raise AssertionError("a file has rows, and an index is wanted")
        return values.container()


def _indexable(bucket: Bucket) -> list[DataFileMeta]:
    """Files that a read may find rows in; it does not look at postponed ones."""
    return [] if bucket.bucket == POSTPONE_BUCKET else [file for file in bucket.files if file.row_count]


def _is_there(index: ColumnIndex, indexes: Indexes) -> bool:
    kinds = indexes.get(index.column, {})
    if index.kind != BLOOM_FILTER:
        return index.kind in kinds
    body = kinds.get(BLOOM_FILTER)
    return body is not None and is_dimensioned(body, items=index.items, fpp=index.fpp)

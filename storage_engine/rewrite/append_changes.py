"""DELETE, UPDATE and MERGE of tables without a primary key.

Spec: row-level operations on append tables in Apache Paimon 1.3.1. With deletion vectors the selected rows are hidden, and new
values are appended; without, each file that holds such a row is written anew, in its place. Both commit an OVERWRITE, which is
tried again on the new state if another commit has touched the same files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import polars as pl

from storage_engine.codec.deletion_vector import DeletionVector
from storage_engine.errors import CommitConflict, InvalidInput
from storage_engine.kernel.conform import ROW_KIND, conform
from storage_engine.kernel.predicate import is_row_separable
from storage_engine.read.merge_read import FILE_PATH_COLUMN, ROW_INDEX_COLUMN
from storage_engine.read.plan import plan_scan
from storage_engine.spec.manifest import DataFileMeta, FileKind, FileSource, IndexManifestEntry, ManifestEntry
from storage_engine.spec.schema import TableSchema
from storage_engine.spec.snapshot import CommitKind, Snapshot
from storage_engine.store.data_files import DataFiles
from storage_engine.store.index_files import IndexFiles
from storage_engine.store.live_files import Bucket, BucketKey, LiveFiles
from storage_engine.store.merge_frames import POSITION, FilePart, read_parts
from storage_engine.store.table_store import TableStore
from storage_engine.write.append_compactor import numbered
from storage_engine.write.append_vectors import AppendVectors
from storage_engine.write.commit import CommitRequest, FileStoreCommit, adds, index_entries
from storage_engine.write.level0_writer import Level0Writer
from storage_engine.write.requests import Committer

_ATTEMPTS = 20
_LEVEL = 0
_SELECTED = "_SELECTED"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Touched:
    """A file with rows that the predicate selects; ``rows`` are its visible rows with ``_POSITION``."""

    bucket: Bucket
    file: DataFileMeta
    rows: pl.DataFrame
    selected: pl.Series

    @property
    def is_whole(self) -> bool:
        return bool(self.selected.all())

    def chosen(self) -> pl.DataFrame:
        return self.rows.filter(self.selected)


@dataclass(slots=True, kw_only=True)
class _Work:
    """What one attempt has written so far."""

    gone: dict[BucketKey, list[DataFileMeta]] = field(default_factory=dict)
    new: dict[BucketKey, list[DataFileMeta]] = field(default_factory=dict)
    vectors: dict[BucketKey, dict[str, DeletionVector]] = field(default_factory=dict)
    buckets: dict[BucketKey, Bucket] = field(default_factory=dict)
    updated: list[pl.DataFrame] = field(default_factory=list)


class AppendChanges:
    """Changes rows of one version of an append table."""

    def __init__(self, store: TableStore, schema: TableSchema, *, table: str) -> None:
        self._store = store
        self._schema = schema
        self._table = table
        self._live = LiveFiles(store, schema)
        self._files = DataFiles(store.io, schema, store.schemas)
        self._vectors = AppendVectors(schema, IndexFiles(store, schema))
        self._level0 = Level0Writer(schema, self._live, self._files, None, table=table)
        self._commit = FileStoreCommit(store, schema, self._live, table=table)
        self._hides_rows = schema.table_options.deletion_vectors
        self._routing = {*schema.partition_keys, *schema.table_options.bucket_key}

    def delete(self, predicate: pl.Expr, committer: Committer) -> Snapshot | None:
        """Delete the rows that a predicate selects; None if there are none. Raises CommitConflict if always overtaken."""
        return self._changed(predicate, None, committer)

    def update(self, predicate: pl.Expr, assignments: Mapping[str, pl.Expr], committer: Committer) -> Snapshot | None:
        """Set columns of the rows that a predicate selects; None if there are none. Raises InvalidRows, CommitConflict."""
        return self._changed(predicate, assignments, committer)

    def replace(self, changed: Callable[[int | None], pl.DataFrame], committer: Committer) -> Snapshot | None:
        """Change rows that are named by file and row index, and add others; None if there are none.

        ``changed`` gives the changes of a snapshot (its id): the table's columns, ``_row_kind`` (-D: the row goes, +U: it
        gets these values, +I: a new row), ``__file_path`` and ``__row_index``. It is asked again if another commit
        touched the same files. Raises InvalidRows, CommitConflict.
        """

        def work(latest: Snapshot | None) -> _Work:
            changes, found = changed(None if latest is None else latest.id), _Work()
            new = changes.filter(pl.col(ROW_KIND) != "-D").select(self._schema.column_names)
            if not new.is_empty():
                found.updated.append(conform(new, self._schema, table=self._table))
            for touched in self._named(latest, changes.filter(pl.col(ROW_KIND) != "+I")):
                self._change(touched, None, found)
            return found

        return self._committed(work, committer)

    def _changed(
        self, predicate: pl.Expr, assignments: Mapping[str, pl.Expr] | None, committer: Committer
    ) -> Snapshot | None:
        for expression in (predicate, *(assignments or {}).values()):
            if not is_row_separable(expression, self._schema.polars_schema):
                raise InvalidInput(
                    f"table {self._table}: {expression} depends on other rows than the one that it is asked of; compute it"
                    " first and compare with its value"
                )

        def work(latest: Snapshot | None) -> _Work:
            found = _Work()
            for touched in self._touched(latest, predicate, updates=assignments is not None):
                self._change(touched, assignments, found)
            return found

        return self._committed(work, committer)

    def _committed(self, work_on: Callable[[Snapshot | None], _Work], committer: Committer) -> Snapshot | None:
        named = committer.named()
        for attempt in range(_ATTEMPTS):
            latest = self._store.snapshots.latest()
            work = work_on(latest)
            if not work.buckets and not work.updated:
                return None
            request = self._request(named, work, latest)
            try:
                changed = self._commit.commit(request)
            except CommitConflict:
                self._discard(request)
                if attempt == _ATTEMPTS - 1:
                    raise
            else:
                if changed is None:
                    self._discard(request)
                return changed
        raise AssertionError("the last attempt returns or raises")

    def _touched(self, latest: Snapshot | None, predicate: pl.Expr, *, updates: bool) -> Iterator[_Touched]:
        """The files that hold a selected row, one at a time; what statistics rule out is not read."""
        named = predicate.meta.root_names()
        probed = [name for name in self._schema.column_names if name in named] or self._schema.column_names[:1]
        for split in plan_scan(self._live, self._schema, latest, predicate).splits:
            for file in split.files:
                rows = self._rows(split.bucket, file, probed)
                selected = rows.with_columns(predicate.fill_null(value=False).alias(_SELECTED))[_SELECTED]
                if not selected.any():
                    continue
                if updates or not (self._hides_rows or selected.all()):
                    rows = self._rows(split.bucket, file, self._schema.column_names)
                yield _Touched(bucket=split.bucket, file=file, rows=rows, selected=selected)

    def _named(self, latest: Snapshot | None, changes: pl.DataFrame) -> Iterator[_Touched]:
        """The files whose rows are named, one at a time."""
        of_file = {path: rows for (path,), rows in changes.partition_by(FILE_PATH_COLUMN, as_dict=True).items()}
        columns = self._schema.column_names[:1] if self._hides_rows else self._schema.column_names
        for split in plan_scan(self._live, self._schema, latest).splits:
            for file in split.files:
                found = of_file.get(self._files.path_of(file, split.bucket.directory))
                if found is not None:
                    rows = self._rows(split.bucket, file, columns)
                    selected = rows[POSITION].is_in(found[ROW_INDEX_COLUMN].implode())
                    yield _Touched(bucket=split.bucket, file=file, rows=rows, selected=selected)

    def _rows(self, bucket: Bucket, file: DataFileMeta, columns: Sequence[str]) -> pl.DataFrame:
        part = FilePart(meta=file, directory=bucket.directory, vector=bucket.vectors.get(file.file_name))
        return read_parts(self._files, [part], columns, positions=True)

    def _change(self, touched: _Touched, assignments: Mapping[str, pl.Expr] | None, work: _Work) -> None:
        key, file = touched.bucket.key, touched.file
        work.buckets[key] = touched.bucket
        updated = None if assignments is None else self._assigned(touched, assignments)
        moves = self._hides_rows or not self._routing.isdisjoint(assignments or {})
        if updated is not None and moves:
            work.updated.append(updated)
            updated = None
        if self._hides_rows and not touched.is_whole:
            old = touched.bucket.vectors.get(file.file_name, DeletionVector())
            positions = touched.chosen()[POSITION].to_numpy()
            work.vectors.setdefault(key, {})[file.file_name] = old.with_positions(positions)
            return
        work.gone.setdefault(key, []).append(file)
        if updated is not None or not touched.is_whole:
            work.new.setdefault(key, []).extend(self._rewritten(touched, updated))

    def _assigned(self, touched: _Touched, assignments: Mapping[str, pl.Expr]) -> pl.DataFrame:
        """The selected rows with their new values, in the table's types."""
        chosen = touched.chosen().select(self._schema.column_names)
        assigned = chosen.with_columns(value.alias(name) for name, value in assignments.items())
        return conform(assigned, self._schema, table=self._table)

    def _rewritten(self, touched: _Touched, updated: pl.DataFrame | None) -> list[DataFileMeta]:
        """The file without its selected rows, or with ``updated`` in their places."""
        columns = [*self._schema.column_names, POSITION]
        rows = touched.rows.filter(~touched.selected).select(columns)
        if updated is not None:
            places = touched.chosen()[POSITION]
            rows = pl.concat([rows, updated.with_columns(places).select(columns)]).sort(POSITION)
        role = self._files.data_role(_LEVEL, FileSource.APPEND)
        first = touched.file.min_sequence_number
        return self._files.write(numbered(rows.drop(POSITION), first), touched.bucket.directory, role)

    def _request(self, committer: Committer, work: _Work, latest: Snapshot | None) -> CommitRequest:
        delta: list[ManifestEntry] = []
        index: list[IndexManifestEntry] = []
        for key, bucket in work.buckets.items():
            gone = work.gone.get(key, [])
            delta += [entry.as_delete() for entry in adds(*key, bucket.total_buckets, gone)]
            delta += adds(*key, bucket.total_buckets, work.new.get(key, []))
            names = {file.file_name for file in gone}
            change = self._vectors.changed(bucket, work.vectors.get(key, {}), gone=names)
            index += index_entries(*key, added=change.added, removed=change.removed)
        kind = CommitKind.OVERWRITE if work.buckets else CommitKind.APPEND
        return CommitRequest(
            kind=kind,
            user=committer.user or "",
            identifier=committer.request(kind, delta=()).identifier,
            properties=committer.properties,
            delta=(*delta, *self._appended(work.updated, latest)),
            index=tuple(index),
            check_conflicts=True,
        )

    def _appended(self, updated: Sequence[pl.DataFrame], latest: Snapshot | None) -> list[ManifestEntry]:
        if not updated:
            return []
        written = self._level0.write(pl.concat(updated), latest)
        return [
            entry
            for part in written
            for entry in adds(*part.bucket.key, part.bucket.total_buckets, part.message.new_files)
        ]

    def _discard(self, request: CommitRequest) -> None:
        """Remove what a lost attempt wrote."""
        for entry in request.delta:
            if entry.kind is FileKind.ADD:
                bucket = self._live.empty_bucket(entry.partition, entry.bucket, entry.total_buckets)
                self._store.io.delete(self._files.path_of(entry.file, bucket.directory))

"""Data and changelog files of one bucket: rolling writes with statistics, and projected reads.

Spec: "Data files" of Apache Paimon. A key-value frame holds the table's columns, ``_SEQUENCE_NUMBER`` and
``_VALUE_KIND``; in the file the key columns stand once more in front, as ``_KEY_<name>``.
"""

from __future__ import annotations

import itertools
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import polars as pl
import pyarrow as pa
from polars.exceptions import PolarsError

from storage_engine.errors import CorruptFile
from storage_engine.kernel.evolution import read_as
from storage_engine.spec.file_index_options import FileIndexOptions
from storage_engine.spec.file_options import FileOptions, StatsMode
from storage_engine.spec.manifest import DataFileMeta, FileSource
from storage_engine.spec.schema import KEY_PREFIX, SEQUENCE_NUMBER, VALUE_KIND, TableSchema
from storage_engine.store.file_contents import FileContents
from storage_engine.store.file_io import FileIO
from storage_engine.store.formats import FORMATS, FileFormat, FrameFile, format_of
from storage_engine.store.formats.portions import count_rows, read_matching, read_portions
from storage_engine.store.formats.sinks import FrameSink, open_sink
from storage_engine.store.held_rows import HeldRows
from storage_engine.store.physical_columns import physical_dtypes, physical_fields
from storage_engine.store.schemas import SchemaStore
from storage_engine.store.stored_indexes import INDEX_SUFFIX

_SAMPLE_ROWS = 10_000
_ENCODED_SHARE = 0.4  # what Parquet with zstd typically keeps of the bytes in memory
_LAST_KIND = 3
_FEW_ROWS = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class FileRole:
    """What a written file is for: its name's prefix, its level, what wrote it, and whether it is a changelog."""

    prefix: str
    level: int
    source: FileSource
    changelog: bool = False


_SYSTEM_COLUMNS = (SEQUENCE_NUMBER, VALUE_KIND)


@dataclass(frozen=True, slots=True, kw_only=True)
class _StoredColumns:
    """Columns of a file by the names they have there, and the columns of the current schema that are wanted of them."""

    written_by: TableSchema
    names: list[str]
    wanted: list[str]


class DataFiles:
    """Writes and reads the data files of one table version.

    ``writer_id`` (a uuid unless given) stands in every file name, so that no two writers can meet.
    """

    def __init__(self, io: FileIO, schema: TableSchema, schemas: SchemaStore, *, writer_id: str | None = None) -> None:
        self._io = io
        self._schema = schema
        self._schemas = schemas
        self._writer_id = writer_id or str(uuid.uuid4())
        self._numbers = itertools.count()  # buckets are written by several threads
        self._options = schema.table_options
        self._file_options = FileOptions.of(schema.table_options)
        self._index_options = FileIndexOptions.of(schema.table_options)
        self._physical = physical_fields(schema)
        self._dtypes = physical_dtypes(schema)
        self._held = HeldRows()
        self._arrow_schema = pa.schema([field.to_arrow() for field in self._physical])

    def write(self, frame: pl.DataFrame, directory: str, role: FileRole) -> list[DataFileMeta]:
        """Write a sorted key-value frame of one bucket into one or more files of the target size."""
        if frame.is_empty():
            return []
        self._io.make_directory(directory)
        return [self._write_one(part, directory, role) for part in self._rolled(frame)]

    def data_role(self, level: int, source: FileSource) -> FileRole:
        """The role of a data file at a level."""
        return FileRole(prefix=self._options.data_file_prefix, level=level, source=source)

    def changelog_role(self, level: int = 0) -> FileRole:
        """The role of a changelog file; its source is always APPEND in Paimon."""
        prefix = self._options.changelog_file_prefix
        return FileRole(prefix=prefix, level=level, source=FileSource.APPEND, changelog=True)

    def read(
        self, file: DataFileMeta, directory: str, columns: Sequence[str], predicate: pl.Expr | None = None
    ) -> pl.DataFrame:
        """Columns of the current schema (and system columns) of one file, in file order.

        ``predicate`` speaks of the current schema and is applied only where the file has the same schema; otherwise
        it is left to the caller, who must apply it again in any case. Rows of a small file that this object has written
        come from memory. Raises CorruptFile.
        """
        held = self._held.get(file.file_name)
        if held is not None:
            return held[list(columns)]
        path = self.path_of(file, directory)
        if not self._schema.primary_keys and _system_columns(columns):
            wanted = [name for name in columns if name not in _SYSTEM_COLUMNS]
            return _as_inserts(self.read(file, directory, wanted, predicate), columns)
        stored = self._stored_columns(file, columns)
        pushed = predicate if stored.written_by is self._schema else None
        frame = self._stored(file, path, stored.names, stored.written_by, pushed)
        return self._seen(frame, path, stored, columns)

    def read_portions(
        self,
        file: DataFileMeta,
        directory: str,
        columns: Sequence[str],
        portion_bytes: int,
        predicate: pl.Expr | None = None,
        *,
        places: range | None = None,
    ) -> Iterator[pl.DataFrame]:
        """What ``read`` gives, in portions of about so many bytes in memory; for files that are too large to be held.

        ``predicate`` leaves out whole row groups, and no single rows; ``places``: of those rows of the file alone, instead of a
        predicate. Raises CorruptFile.
        """
        path = self.path_of(file, directory)
        if not self._schema.primary_keys and _system_columns(columns):
            wanted = [name for name in columns if name not in _SYSTEM_COLUMNS]
            for frame in self.read_portions(file, directory, wanted, portion_bytes, predicate, places=places):
                yield _as_inserts(frame, columns)
            return
        stored = self._stored_columns(file, columns)
        pushed = predicate if stored.written_by is self._schema else None
        self._check_size(file, path)
        found = 0
        dtypes = self._dtypes_of(stored.written_by)
        pushed = pushed if places is None else None
        opened = read_portions(
            self._io, path, stored.names, portion_bytes, dtypes=dtypes, predicate=pushed, places=places
        )
        for frame in opened:
            self._check_columns(frame, path, stored.names, stored.written_by)
            found += frame.height
            yield self._seen(frame, path, stored, columns)
        expected = file.row_count if places is None else len(places)
        if pushed is None and found != expected:
            raise CorruptFile(f"{path}: holds {found} rows where its manifest says {expected}")

    def held(self, file: DataFileMeta) -> pl.DataFrame | None:
        """All rows of a file in memory, with the system columns, if this object has written it and it is small."""
        return self._held.get(file.file_name)

    def count(self, file: DataFileMeta, directory: str, predicate: pl.Expr) -> int | None:
        """How many rows of a file satisfy a predicate over columns of the current schema; None if that cannot be told cheaply."""
        paths = self.plain_paths([(file, directory)], ".parquet")
        return count_rows(paths[0], predicate, self._dtypes) if paths else None

    def matching(
        self, file: DataFileMeta, directory: str, columns: Sequence[str], predicate: pl.Expr, position: str
    ) -> pl.DataFrame | None:
        """Columns of the rows that satisfy a predicate, each with its place in the file (Int64) as ``position``.

        None where other rows could not be left out while reading: the file must be read whole. Raises CorruptFile.
        """
        paths = None if self.held(file) is not None else self.plain_paths([(file, directory)], ".parquet")
        if not paths:
            return None
        stored = self._stored_columns(file, columns)
        frame = read_matching(paths[0], stored.names, predicate, self._dtypes, position)
        self._check_columns(frame, paths[0], stored.names, self._schema)
        places = frame.get_column(position).cast(pl.Int64)
        return self._seen(frame, paths[0], stored, columns).hstack([places])

    def _stored_columns(self, file: DataFileMeta, columns: Sequence[str]) -> _StoredColumns:
        """Which columns of a file hold what is wanted, by the schema that it was written with."""
        system = _system_columns(columns)
        wanted = [name for name in columns if name not in _SYSTEM_COLUMNS]
        if file.schema_id == self._schema.id:
            stored = [*system, *wanted] or [self._physical[0].name]
            return _StoredColumns(written_by=self._schema, names=stored, wanted=wanted)
        old = self._schemas.get(file.schema_id)
        by_id = {field.id: field.name for field in old.fields}
        stored = [by_id[self._schema.by_name[name].id] for name in wanted if self._schema.by_name[name].id in by_id]
        return _StoredColumns(written_by=old, names=[*system, *(stored or [old.fields[0].name])], wanted=wanted)

    def _seen(self, frame: pl.DataFrame, path: str, stored: _StoredColumns, columns: Sequence[str]) -> pl.DataFrame:
        found = frame.schema
        if stored.written_by is self._schema and all(found[name] == self._dtypes[name] for name in columns):
            return frame[list(columns)]
        try:
            return read_as(frame, stored.written_by, self._schema, stored.wanted)[list(columns)]
        except PolarsError as cause:
            raise CorruptFile(f"{path}: does not hold what schema {stored.written_by.id} says: {cause}") from cause

    def _stored(
        self,
        file: DataFileMeta,
        path: str,
        columns: Sequence[str],
        schema: TableSchema,
        predicate: pl.Expr | None = None,
    ) -> pl.DataFrame:
        """Columns of a file as it has them, held against what the manifest says of it.

        Only a local reader can skip rows by a predicate, and only there the size is known for nothing.
        """
        self._check_size(file, path)
        pushed = None if self._io.local_path(path) is None else predicate
        frame = format_of(file.file_name).read(self._io, path, columns, pushed, dtypes=self._dtypes_of(schema))
        if pushed is None and frame.height != file.row_count:
            raise CorruptFile(f"{path}: holds {frame.height} rows where its manifest says {file.row_count}")
        self._check_columns(frame, path, columns, schema)
        return frame

    def _dtypes_of(self, schema: TableSchema) -> Mapping[str, pl.DataType]:
        return self._dtypes if schema is self._schema else physical_dtypes(schema)

    def _check_size(self, file: DataFileMeta, path: str) -> None:
        if self._io.local_path(path) is not None and (size := self._io.size(path)) != file.file_size:
            raise CorruptFile(f"{path}: has {size} bytes where its manifest says {file.file_size}")

    def _check_columns(self, frame: pl.DataFrame, path: str, columns: Sequence[str], schema: TableSchema) -> None:
        missing = [name for name in columns if name not in frame.columns]
        if missing:
            raise CorruptFile(f"{path}: lacks the column {missing[0]!r} of schema {schema.id}")
        if VALUE_KIND in columns and not frame[VALUE_KIND].is_between(0, _LAST_KIND).all():
            raise CorruptFile(f"{path}: holds a row of a kind that does not exist")

    def schema_of(self, file: DataFileMeta) -> TableSchema:
        """The version of the table that a file was written by. Raises FileMissing or CorruptFile."""
        return self._schema if file.schema_id == self._schema.id else self._schemas.get(file.schema_id)

    def plain_paths(self, files: Sequence[tuple[DataFileMeta, str]], extension: str) -> list[str] | None:
        """Local paths of files (with their directories), if all are of this schema and format and as large as they should be."""
        paths = []
        for file, directory in files:
            path = self._io.local_path(self.path_of(file, directory))
            if path is None or file.schema_id != self._schema.id or not path.endswith(extension):
                return None
            self._check_size(file, path)
            paths.append(path)
        return paths

    def path_of(self, file: DataFileMeta, directory: str) -> str:
        """Where a file lies."""
        return file.external_path or f"{directory}/{file.file_name}"

    def _rolled(self, frame: pl.DataFrame) -> Iterator[pl.DataFrame]:
        rows = max(1000, int(self.target_size / encoded_row_bytes(frame)))
        for start in range(0, frame.height, rows):
            yield frame.slice(start, rows)

    def _write_one(self, frame: pl.DataFrame, directory: str, role: FileRole) -> DataFileMeta:
        name = self.new_name(role)
        size = self.format(role).write(self._io, self.target(directory, name, role), self.physical(frame))
        if not role.changelog and self._reads_back_as_it_is(frame.schema):
            self._held.put(name, frame)
        return self.meta(self.contents(frame, role), directory, name, size, role)

    def _reads_back_as_it_is(self, stored: pl.Schema) -> bool:
        names = (*_SYSTEM_COLUMNS, *self._schema.column_names)
        return bool(self._schema.primary_keys) and all(stored.get(name) == self._dtypes[name] for name in names)

    @property
    def target_size(self) -> int:
        """Bytes at which a new file begins."""
        return self._options.target_file_size_bytes(has_primary_key=bool(self._schema.primary_keys))

    def open_sink(self, directory: str, name: str, role: FileRole) -> FrameSink:
        """A new file that is written frame by frame."""
        self._io.make_directory(directory)
        return open_sink(self._extension(role), self._io, self.target(directory, name, role))

    def threads(self, rows: int, most: int) -> int:
        """How many threads pay for so many rows in files: on a disk, small files are done before a thread has begun."""
        return 1 if rows < _FEW_ROWS and self._io.is_local else most

    def remove(self, file: DataFileMeta, directory: str) -> None:
        """Remove a file that nothing refers to, and what lies beside it."""
        self._held.forget(file.file_name)
        path = self.path_of(file, directory)
        for name in (file.file_name, *file.extra_files):
            self._io.delete(f"{path.rpartition('/')[0]}/{name}")

    def format(self, role: FileRole) -> FileFormat:
        """The format of new files."""
        return FORMATS[self._extension(role)]

    def new_name(self, role: FileRole) -> str:
        """A name that no other file has."""
        return f"{role.prefix}{self._writer_id}-{next(self._numbers)}{self._suffix(role)}"

    def target(self, directory: str, name: str, role: FileRole) -> FrameFile:
        """A new file of a bucket's directory, as its format needs to know it."""
        return FrameFile(
            path=f"{directory}/{name}",
            compression=self._compression(role),
            zstd_level=self._options.zstd_level,
            arrow_schema=self._arrow_schema,
            ends_are_known=bool(self._schema.primary_keys)
            and self._file_options.ends_are_known(self._schema.column_names, role.level),
            searched=self._schema.trimmed_primary_keys[:1] if role.changelog else None,
        )

    def contents(self, frame: pl.DataFrame, role: FileRole) -> FileContents:
        """What the manifest will say of these rows of a file. REQUIRES: it has rows."""
        indexes = () if role.changelog else self._index_options.indexes
        return FileContents.of(frame, self._schema, self._stats_modes(role), indexes)

    def _extension(self, role: FileRole) -> str:
        return self._file_options.format.at(role.level, changelog=role.changelog)

    def _compression(self, role: FileRole) -> str:
        return self._file_options.compression.at(role.level, changelog=role.changelog)

    def _suffix(self, role: FileRole) -> str:
        codec = _CODEC_SUFFIXES.get(self._compression(role)) if self._file_options.named_by_compression else None
        return f".{codec}.{self._extension(role)}" if codec else f".{self._extension(role)}"

    def _stats_modes(self, role: FileRole) -> Mapping[str, StatsMode]:
        return self._file_options.stats_modes(self._schema.column_names, role.level, changelog=role.changelog)

    def physical(self, frame: pl.DataFrame) -> pl.DataFrame:
        """A key-value frame with the columns that a file has."""
        names = [field.name for field in self._physical]
        return pl.DataFrame([frame.get_column(name.removeprefix(KEY_PREFIX)).alias(name) for name in names])

    def meta(self, contents: FileContents, directory: str, name: str, size: int, role: FileRole) -> DataFileMeta:
        """What the manifest says of a file that was just written; its indexes are written beside it if they are large."""
        index = None if contents.indexed is None else contents.indexed.container()
        beside = index is not None and len(index) > self._index_options.in_manifest
        if index is not None and beside:
            self._io.write_new(f"{directory}/{name}{INDEX_SUFFIX}", index)
        return contents.meta(
            self._schema,
            file_name=name,
            file_size=size,
            level=role.level,
            file_source=role.source,
            creation_time_millis=local_wall_clock_millis(),
            dense_stats=self._file_options.dense_stats,
            embedded_index=None if beside else index,
            extra_files=(f"{name}{INDEX_SUFFIX}",) if beside else (),
        )


_CODEC_SUFFIXES = {"zstd": "zst", "gzip": "gz", "snappy": "snappy", "lz4": "lz4", "deflate": "deflate"}


def encoded_row_bytes(frame: pl.DataFrame) -> float:
    """About how many bytes of a file a row of a frame takes. REQUIRES: it has rows."""
    sample = min(frame.height, _SAMPLE_ROWS)
    return max(1.0, frame.head(sample).estimated_size() / sample * _ENCODED_SHARE)


def _system_columns(columns: Sequence[str]) -> list[str]:
    return [name for name in _SYSTEM_COLUMNS if name in columns]


def _as_inserts(frame: pl.DataFrame, columns: Sequence[str]) -> pl.DataFrame:
    """Rows of an append table, whose files have no system columns."""
    inserted = [pl.lit(0, pl.Int64).alias(SEQUENCE_NUMBER), pl.lit(0, pl.Int8).alias(VALUE_KIND)]
    return frame.with_columns(inserted).select(columns)


def local_wall_clock_millis() -> int:
    """Now as local wall-clock time read as UTC: what Paimon keeps as a file's creation time."""
    now = time.time()
    return int((now + time.localtime(now).tm_gmtoff) * 1000)

"""A manifest's entries as columns: decoded all at once, made into values only where they are wanted.

Spec: "Manifest" of Apache Paimon. A manifest may list a hundred thousand files of which a read needs ten.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import repeat
from typing import Any

import polars as pl
from polars.exceptions import PolarsError

from storage_engine.codec.avro import Block, read_blocks
from storage_engine.codec.avro_decode import decode_records
from storage_engine.codec.manifest_arrow import format_of, read_frame
from storage_engine.codec.manifest_avro import (
    FILE_FIELDS,
    MANIFEST_SCHEMA,
    MANIFEST_VERSION,
    decode_manifest,
    entry_record,
)
from storage_engine.codec.many_values import made_of_columns
from storage_engine.errors import CorruptFile
from storage_engine.spec.manifest import DataFileMeta, FileKind, FileSource, ManifestEntry, SimpleStats

_STATS = pl.Struct({"_MIN_VALUES": pl.Binary, "_MAX_VALUES": pl.Binary, "_NULL_COUNTS": pl.List(pl.Int64)})
_FILE: Mapping[str, Any] = {
    "_FILE_NAME": pl.String,
    "_FILE_SIZE": pl.Int64,
    "_ROW_COUNT": pl.Int64,
    "_MIN_KEY": pl.Binary,
    "_MAX_KEY": pl.Binary,
    "_KEY_STATS": _STATS,
    "_VALUE_STATS": _STATS,
    "_MIN_SEQUENCE_NUMBER": pl.Int64,
    "_MAX_SEQUENCE_NUMBER": pl.Int64,
    "_SCHEMA_ID": pl.Int64,
    "_LEVEL": pl.Int32,
    "_EXTRA_FILES": pl.List(pl.String),
    "_CREATION_TIME": pl.Int64,
    "_DELETE_ROW_COUNT": pl.Int64,
    "_EMBEDDED_FILE_INDEX": pl.Binary,
    "_FILE_SOURCE": pl.Int32,
    "_VALUE_STATS_COLS": pl.List(pl.String),
    "_EXTERNAL_PATH": pl.String,
    "_FIRST_ROW_ID": pl.Int64,
    "_WRITE_COLS": pl.List(pl.String),
}
_TOP: Mapping[str, Any] = {
    "_VERSION": pl.Int32,
    "_KIND": pl.Int32,
    "_PARTITION": pl.Binary,
    "_BUCKET": pl.Int32,
    "_TOTAL_BUCKETS": pl.Int32,
}
_COLUMNS: Mapping[str, Any] = {**_TOP, **_FILE}
_IDENTITY = ("_PARTITION", "_BUCKET", "_LEVEL", "_FILE_NAME", "_EMBEDDED_FILE_INDEX", "_EXTERNAL_PATH")
_OPTIONAL = frozenset(field["name"] for field in FILE_FIELDS if isinstance(field["type"], list))
_SMALL_BYTES = 64 << 10
_WORTHWHILE = 2  # reading a part saves little if it is half of all
_KINDS = (FileKind.ADD, FileKind.DELETE)
_SOURCES = {None: None, 0: FileSource.APPEND, 1: FileSource.COMPACT}
_FIELDS = tuple(field.name for field in fields(DataFileMeta))
"""Of a file, in the order of the columns ``_FILE``."""


@dataclass(frozen=True, slots=True)
class EntryColumns:
    """Entries of manifests, one row each: a column for each field that is known here, those of the file among them."""

    frame: pl.DataFrame

    @staticmethod
    def of_entries(entries: Sequence[ManifestEntry]) -> EntryColumns:
        """The same entries as columns."""
        records = [entry_record(entry) for entry in entries]
        columns = {name: [record[name] for record in records] for name in _TOP}
        columns |= {name: [record["_FILE"][name] for record in records] for name in _FILE}
        return EntryColumns(pl.DataFrame(columns, schema=_COLUMNS))

    @staticmethod
    def together(parts: Sequence[EntryColumns]) -> EntryColumns:
        """The entries of several manifests, in order."""
        return EntryColumns(pl.concat([part.frame for part in parts]) if parts else pl.DataFrame(schema=_COLUMNS))

    def __len__(self) -> int:
        return self.frame.height

    @property
    def deleted(self) -> int:
        """How many of them remove a file."""
        return int(self.frame.get_column("_KIND").sum())

    def partitions(self) -> list[bytes]:
        """The partitions that they speak of."""
        return self.frame.get_column("_PARTITION").unique().to_list()

    def file_names(self) -> pl.Series:
        """The names of the files that they add or remove, and of what lies beside them."""
        beside = self.frame.get_column("_EXTRA_FILES").explode(empty_as_null=False)
        return pl.concat([self.frame.get_column("_FILE_NAME"), beside.drop_nulls()])

    def of(self, partitions: Iterable[bytes] | None, buckets: Iterable[int] | None) -> EntryColumns:
        """Those of some partitions and of some buckets; None is all."""
        kept = self.frame
        if partitions is not None:
            kept = kept.filter(pl.col("_PARTITION").is_in(pl.Series(list(partitions), dtype=pl.Binary).implode()))
        if buckets is not None:
            kept = kept.filter(pl.col("_BUCKET").is_in(list(buckets)))
        return EntryColumns(kept)

    def live(self) -> EntryColumns:
        """What ``live_entries`` leaves of them: the ADD entries that no DELETE entry names, in order."""
        if not self.deleted:
            return self
        extra = pl.col("_EXTRA_FILES").list.join("/").alias("_EXTRA")  # no name of a file has a slash
        identity = [*_IDENTITY, "_EXTRA"]
        frame = self.frame.with_columns(extra)
        removed = frame.filter(pl.col("_KIND") == FileKind.DELETE).select(identity)
        added = frame.filter(pl.col("_KIND") == FileKind.ADD)
        left = added.join(removed, on=identity, how="anti", nulls_equal=True, maintain_order="left")
        return EntryColumns(left.drop("_EXTRA"))

    def entries(self) -> list[ManifestEntry]:
        """The same as values, in order."""
        top = [self.frame.get_column(name).to_list() for name in _TOP if name != "_VERSION"]
        return [
            ManifestEntry(kind=_KINDS[kind], partition=partition, bucket=bucket, total_buckets=total, file=file)
            for kind, partition, bucket, total, file in zip(*top, self.files(), strict=True)
        ]

    def files(self) -> list[DataFileMeta]:
        """The files that they speak of, in order."""
        return _files(self.frame)


@dataclass(frozen=True, slots=True)
class PartOfManifest:
    """Those entries of a manifest that may be wanted, in order, and how many it has in all."""

    entries: EntryColumns
    count: int


def decode_columns(data: bytes, *, path: str) -> EntryColumns | list[ManifestEntry]:
    """The entries of a manifest file: as columns, or as values where they are few, or in a schema that is not the usual one.

    Raises CorruptFile.
    """
    if len(data) < _SMALL_BYTES:
        return decode_manifest(data, path=path)
    try:
        if format_of(data) is not None:
            return _typed(read_frame(data, path=path))
        document, blocks = read_blocks(data, path=path, like=MANIFEST_SCHEMA)
        return _decoded(document, blocks)
    except (CorruptFile, PolarsError):
        return decode_manifest(data, path=path)  # reads what is exotic, and says of the rest what is wrong


def decode_part(data: bytes, holding: Collection[Collection[bytes]], *, path: str) -> PartOfManifest | None:
    """The entries of the blocks of a large manifest that hold the bytes of one of each of ``holding``.

    None where that would save little, or cannot be done: ``decode_columns`` reads all of it, and says what is wrong.
    """
    if len(data) < _SMALL_BYTES:
        return None
    try:
        document, unpacked = read_blocks(data, path=path, like=MANIFEST_SCHEMA)
        blocks = list(unpacked)
        kept = [block for block in blocks if all(any(part in block[1] for part in parts) for parts in holding)]
        if len(kept) * _WORTHWHILE > len(blocks):
            return None
        return PartOfManifest(_decoded(document, kept), sum(count for count, _ in blocks))
    except CorruptFile:
        return None


def _decoded(document: Mapping[str, Any], blocks: Iterable[Block]) -> EntryColumns:
    frame = decode_records(document, blocks, [*_TOP, "_FILE"], {**_TOP, "_FILE": _known(document)})
    return _checked(frame.unnest("_FILE"))


def _typed(frame: pl.DataFrame) -> EntryColumns:
    """What a file in Parquet or ORC holds. Raises CorruptFile or a PolarsError for what is not a manifest's."""
    frame = frame.with_columns(frame.get_column("_FILE").struct.unnest())
    lacking = [name for name in _COLUMNS if name not in _OPTIONAL and frame.get_column(name).null_count()]
    if lacking:
        raise CorruptFile(f"an entry has no {lacking[0]}")
    return _checked(frame.cast({name: dtype for name, dtype in _COLUMNS.items() if name in frame.columns}))


def _checked(frame: pl.DataFrame) -> EntryColumns:
    absent = [pl.lit(None, dtype).alias(name) for name, dtype in _FILE.items() if name not in frame.columns]
    frame = frame.with_columns(absent).select(*_COLUMNS)
    known = (pl.col("_VERSION") == MANIFEST_VERSION) & pl.col("_KIND").is_in([0, 1])
    source = pl.col("_FILE_SOURCE")
    if not frame.select((known & (source.is_null() | source.is_in([0, 1]))).all()).item():
        raise CorruptFile("an entry is of a version, kind or source that is not known")
    return EntryColumns(frame)


def _known(document: Mapping[str, Any]) -> pl.Struct:
    """Of the fields that a file has for each data file, those that are known here."""
    file = next(field["type"] for field in document["fields"] if field["name"] == "_FILE")
    present = {field["name"] for field in file["fields"]}
    return pl.Struct({name: dtype for name, dtype in _FILE.items() if name in present})


def _files(frame: pl.DataFrame) -> list[DataFileMeta]:
    column = _Columns(frame)
    return made_of_columns(
        DataFileMeta, frame.height, {field: column.values(name) for name, field in zip(_FILE, _FIELDS, strict=True)}
    )


@dataclass(frozen=True, slots=True)
class _Columns:
    """Columns of a frame as iterables of Python values, those that say nothing without looking at each row."""

    frame: pl.DataFrame

    def values(self, name: str) -> Iterable[Any]:
        height = self.frame.height
        if name not in self.frame.columns:
            return repeat(None, height)
        column = self.frame.get_column(name)
        if column.null_count() == height:
            return repeat(None, height)
        if name.endswith("_STATS"):
            return _stats(column.struct.unnest())
        if column.dtype == pl.List:
            if not column.null_count() and not column.list.len().max():
                return repeat((), height)
            return (None if value is None else tuple(value) for value in column.to_list())
        values = column.to_list()
        return map(_SOURCES.__getitem__, values) if name == "_FILE_SOURCE" else values


def _stats(frame: pl.DataFrame) -> list[SimpleStats]:
    counts = frame.get_column("_NULL_COUNTS").to_list()
    columns: dict[str, Iterable[object]] = {
        "min_values": frame.get_column("_MIN_VALUES").to_list(),
        "max_values": frame.get_column("_MAX_VALUES").to_list(),
        "null_counts": [tuple(nulls or ()) for nulls in counts],
    }
    return made_of_columns(SimpleStats, frame.height, columns)

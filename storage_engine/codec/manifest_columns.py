"""A manifest's entries as columns: decoded all at once, made into values only where they are wanted.

Spec: "Manifest" of Apache Paimon. A manifest may list a hundred thousand files of which a read needs ten.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import repeat
from typing import Any

import polars as pl

from storage_engine.codec.avro import read_blocks
from storage_engine.codec.avro_decode import decode_records
from storage_engine.codec.manifest_avro import MANIFEST_SCHEMA, MANIFEST_VERSION, decode_manifest
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
_SMALL_BYTES = 64 << 10
_KINDS = (FileKind.ADD, FileKind.DELETE)
_SOURCES = {None: None, 0: FileSource.APPEND, 1: FileSource.COMPACT}


@dataclass(frozen=True, slots=True)
class EntryColumns:
    """The entries of a manifest, one row each."""

    frame: pl.DataFrame

    @property
    def deleted(self) -> int:
        """How many of them remove a file."""
        return int(self.frame.get_column("_KIND").sum())

    def partitions(self) -> list[bytes]:
        """The partitions that they speak of."""
        return self.frame.get_column("_PARTITION").unique().to_list()

    def file_names(self) -> pl.Series:
        """The names of the files that they add or remove, and of what lies beside them."""
        names = self.frame.select(pl.col("_FILE").struct.field("_FILE_NAME", "_EXTRA_FILES"))
        beside = names.get_column("_EXTRA_FILES").explode(empty_as_null=False)
        return pl.concat([names.get_column("_FILE_NAME"), beside.drop_nulls()])

    def of(self, partitions: Iterable[bytes] | None, buckets: Iterable[int] | None) -> EntryColumns:
        """Those of some partitions and of some buckets; None is all."""
        kept = self.frame
        if partitions is not None:
            kept = kept.filter(pl.col("_PARTITION").is_in(pl.Series(list(partitions), dtype=pl.Binary).implode()))
        if buckets is not None:
            kept = kept.filter(pl.col("_BUCKET").is_in(list(buckets)))
        return EntryColumns(kept)

    def entries(self) -> list[ManifestEntry]:
        """The same as values, in order."""
        frame = self.frame
        files = frame.get_column("_FILE").struct.unnest()
        top = [frame.get_column(name).to_list() for name in ("_KIND", "_PARTITION", "_BUCKET", "_TOTAL_BUCKETS")]
        return [
            ManifestEntry(kind=_KINDS[kind], partition=partition, bucket=bucket, total_buckets=total, file=file)
            for kind, partition, bucket, total, file in zip(*top, _files(files), strict=True)
        ]


def decode_columns(data: bytes, *, path: str) -> EntryColumns | list[ManifestEntry]:
    """The entries of a manifest file: as columns, or as values where they are few, or in a schema that is not the usual one.

    Raises CorruptFile.
    """
    if len(data) < _SMALL_BYTES:
        return decode_manifest(data, path=path)
    try:
        document, blocks = read_blocks(data, path=path, like=MANIFEST_SCHEMA)
        frame = decode_records(document, blocks, [*_TOP, "_FILE"], {**_TOP, "_FILE": _known(document)})
    except CorruptFile:
        return decode_manifest(data, path=path)  # reads what is exotic, and says of the rest what is wrong
    return EntryColumns(frame) if _is_known(frame) else decode_manifest(data, path=path)


def _is_known(frame: pl.DataFrame) -> bool:
    """Whether versions, kinds and sources are those that exist."""
    known = (pl.col("_VERSION") == MANIFEST_VERSION) & pl.col("_KIND").is_in([0, 1])
    file = frame.get_column("_FILE")
    if "_FILE_SOURCE" in file.struct.fields:
        source = pl.col("_FILE").struct.field("_FILE_SOURCE")
        known = known & (source.is_null() | source.is_in([0, 1]))
    return bool(frame.select(known.all()).item())


def _known(document: Mapping[str, Any]) -> pl.Struct:
    """Of the fields that a file has for each data file, those that are known here."""
    file = next(field["type"] for field in document["fields"] if field["name"] == "_FILE")
    present = {field["name"] for field in file["fields"]}
    return pl.Struct({name: dtype for name, dtype in _FILE.items() if name in present})


def _files(frame: pl.DataFrame) -> list[DataFileMeta]:
    column = _Columns(frame)
    return [
        DataFileMeta(
            file_name=name,
            file_size=size,
            row_count=rows,
            min_key=min_key,
            max_key=max_key,
            key_stats=key_stats,
            value_stats=value_stats,
            min_sequence_number=min_number,
            max_sequence_number=max_number,
            schema_id=schema_id,
            level=level,
            extra_files=tuple(extra),
            creation_time_millis=created,
            delete_row_count=deleted,
            embedded_index=index,
            file_source=_SOURCES[source],
            value_stats_cols=None if stats_columns is None else tuple(stats_columns),
            external_path=external,
            first_row_id=row_id,
            write_cols=None if write_columns is None else tuple(write_columns),
        )
        for (
            name,
            size,
            rows,
            min_key,
            max_key,
            key_stats,
            value_stats,
            min_number,
            max_number,
            schema_id,
            level,
            extra,
            created,
            deleted,
            index,
            source,
            stats_columns,
            external,
            row_id,
            write_columns,
        ) in zip(*map(column.values, _FILE), strict=True)
    ]


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
        if column.dtype == pl.List and not column.null_count() and not column.list.len().max():
            return repeat((), height)
        return column.to_list()


def _stats(frame: pl.DataFrame) -> list[SimpleStats]:
    counts = frame.get_column("_NULL_COUNTS")
    mins, maxs = frame.get_column("_MIN_VALUES").to_list(), frame.get_column("_MAX_VALUES").to_list()
    return [
        SimpleStats(min_values=low, max_values=high, null_counts=tuple(nulls or ()))
        for low, high, nulls in zip(mins, maxs, counts.to_list(), strict=True)
    ]

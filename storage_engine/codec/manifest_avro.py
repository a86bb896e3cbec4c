"""Manifests, manifest lists and index manifests: bytes, usually Avro, to the values of ``spec.manifest`` and back.

Spec: "Manifest" of Apache Paimon; entries and lists are of version 2, index manifests of version 1. Readers
resolve fields by name: fields that are unknown here are skipped, nullable ones may be absent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from storage_engine.codec.avro import AvroSchema, read_container, write_container
from storage_engine.codec.manifest_arrow import format_of, read_records, write_records
from storage_engine.errors import CorruptFile
from storage_engine.spec.manifest import (
    DataFileMeta,
    DeletionVectorRange,
    FileKind,
    FileSource,
    IndexFileMeta,
    IndexManifestEntry,
    ManifestEntry,
    ManifestFileMeta,
    SimpleStats,
)

AVRO = "avro"
MANIFEST_VERSION = 2
MANIFEST_LIST_VERSION = 2
INDEX_MANIFEST_VERSION = 1

_Value = TypeVar("_Value")
_Record = Mapping[str, Any]


def _nullable(part: Any) -> list[Any]:
    return ["null", part]


def _field(name: str, part: Any) -> dict[str, Any]:
    return {"name": name, "type": part} | ({"default": None} if isinstance(part, list) else {})


def _record(name: str, *fields: dict[str, Any]) -> dict[str, Any]:
    return {"type": "record", "name": name, "fields": list(fields)}


def _array(items: Any) -> dict[str, Any]:
    return {"type": "array", "items": items}


def _stats(name: str) -> dict[str, Any]:
    return _record(
        name,
        _field("_MIN_VALUES", "bytes"),
        _field("_MAX_VALUES", "bytes"),
        _field("_NULL_COUNTS", _nullable(_array(_nullable("long")))),
    )


_DATA_FILE = _record(
    "record__FILE",
    _field("_FILE_NAME", "string"),
    _field("_FILE_SIZE", "long"),
    _field("_ROW_COUNT", "long"),
    _field("_MIN_KEY", "bytes"),
    _field("_MAX_KEY", "bytes"),
    _field("_KEY_STATS", _stats("record__FILE__KEY_STATS")),
    _field("_VALUE_STATS", _stats("record__FILE__VALUE_STATS")),
    _field("_MIN_SEQUENCE_NUMBER", "long"),
    _field("_MAX_SEQUENCE_NUMBER", "long"),
    _field("_SCHEMA_ID", "long"),
    _field("_LEVEL", "int"),
    _field("_EXTRA_FILES", _array("string")),
    _field("_CREATION_TIME", _nullable({"type": "long", "logicalType": "timestamp-millis"})),
    _field("_DELETE_ROW_COUNT", _nullable("long")),
    _field("_EMBEDDED_FILE_INDEX", _nullable("bytes")),
    _field("_FILE_SOURCE", _nullable("int")),
    _field("_VALUE_STATS_COLS", _nullable(_array("string"))),
    _field("_EXTERNAL_PATH", _nullable("string")),
    _field("_FIRST_ROW_ID", _nullable("long")),
    _field("_WRITE_COLS", _nullable(_array("string"))),
)
FILE_FIELDS: Sequence[Mapping[str, Any]] = _DATA_FILE["fields"]
"""What an entry has of its data file; optional fields have a union as type."""
_DELETION_VECTOR_RANGE = _record(
    "record__DELETIONS_VECTORS_RANGES",
    _field("f0", "string"),
    _field("f1", "int"),
    _field("f2", "int"),
    _field("_CARDINALITY", _nullable("long")),
)


def _top(*fields: dict[str, Any]) -> AvroSchema:
    return AvroSchema.of(_record("record", *fields) | {"namespace": "org.apache.paimon.avro.generated"})


MANIFEST_SCHEMA = _top(
    _field("_VERSION", "int"),
    _field("_KIND", "int"),
    _field("_PARTITION", "bytes"),
    _field("_BUCKET", "int"),
    _field("_TOTAL_BUCKETS", "int"),
    _field("_FILE", _DATA_FILE),
)
MANIFEST_LIST_SCHEMA = _top(
    _field("_VERSION", "int"),
    _field("_FILE_NAME", "string"),
    _field("_FILE_SIZE", "long"),
    _field("_NUM_ADDED_FILES", "long"),
    _field("_NUM_DELETED_FILES", "long"),
    _field("_PARTITION_STATS", _stats("record__PARTITION_STATS")),
    _field("_SCHEMA_ID", "long"),
    _field("_MIN_BUCKET", _nullable("int")),
    _field("_MAX_BUCKET", _nullable("int")),
    _field("_MIN_LEVEL", _nullable("int")),
    _field("_MAX_LEVEL", _nullable("int")),
)
INDEX_MANIFEST_SCHEMA = _top(
    _field("_VERSION", "int"),
    _field("_KIND", "int"),
    _field("_PARTITION", "bytes"),
    _field("_BUCKET", "int"),
    _field("_INDEX_TYPE", "string"),
    _field("_FILE_NAME", "string"),
    _field("_FILE_SIZE", "long"),
    _field("_ROW_COUNT", "long"),
    _field("_DELETIONS_VECTORS_RANGES", _nullable(_array(_nullable(_DELETION_VECTOR_RANGE)))),
    _field("_EXTERNAL_PATH", _nullable("string")),
)


def encode_manifest(entries: Iterable[ManifestEntry], compression: str, file_format: str = AVRO) -> bytes:
    """A manifest file. ``compression`` and ``file_format`` as in options ``manifest.compression`` and ``manifest.format``."""
    return _encode(MANIFEST_SCHEMA, map(entry_record, entries), compression, file_format)


def decode_manifest(data: bytes, *, path: str) -> list[ManifestEntry]:
    """The entries of a manifest file. Raises CorruptFile."""
    return _decode(data, path, MANIFEST_SCHEMA, MANIFEST_VERSION, _entry_of)


def encode_manifest_list(metas: Iterable[ManifestFileMeta], compression: str, file_format: str = AVRO) -> bytes:
    """A manifest list file."""
    return _encode(MANIFEST_LIST_SCHEMA, map(_meta_record, metas), compression, file_format)


def decode_manifest_list(data: bytes, *, path: str) -> list[ManifestFileMeta]:
    """The manifests that a manifest list names. Raises CorruptFile."""
    return _decode(data, path, MANIFEST_LIST_SCHEMA, MANIFEST_LIST_VERSION, _meta_of)


def encode_index_manifest(entries: Iterable[IndexManifestEntry], compression: str, file_format: str = AVRO) -> bytes:
    """An index manifest file."""
    return _encode(INDEX_MANIFEST_SCHEMA, map(_index_record, entries), compression, file_format)


def decode_index_manifest(data: bytes, *, path: str) -> list[IndexManifestEntry]:
    """The entries of an index manifest. Raises CorruptFile."""
    return _decode(data, path, INDEX_MANIFEST_SCHEMA, INDEX_MANIFEST_VERSION, _index_of)


def _encode(schema: AvroSchema, records: Iterable[_Record], compression: str, file_format: str) -> bytes:
    if file_format == AVRO:
        return write_container(schema, records, compression=compression)
    return write_records(schema, records, file_format=file_format, compression=compression)


def _records(data: bytes, path: str, schema: AvroSchema) -> Iterable[_Record]:
    return read_container(data, path=path, like=schema) if format_of(data) is None else read_records(data, path=path)


def _decode(
    data: bytes, path: str, schema: AvroSchema, version: int, convert: Callable[[_Record], _Value]
) -> list[_Value]:
    values = []
    for record in _records(data, path, schema):
        if record.get("_VERSION") != version:
            raise CorruptFile(f"{path}: an entry is of version {record.get('_VERSION')}, only {version} is known")
        try:
            values.append(convert(record))
        except (ValueError, TypeError, KeyError) as cause:
            raise CorruptFile(f"{path}: an entry cannot be read: {cause!r}") from cause
    return values


def _stats_record(stats: SimpleStats) -> _Record:
    return {
        "_MIN_VALUES": stats.min_values,
        "_MAX_VALUES": stats.max_values,
        "_NULL_COUNTS": list(stats.null_counts),
    }


def _stats_of(record: _Record) -> SimpleStats:
    return SimpleStats(
        min_values=record["_MIN_VALUES"],
        max_values=record["_MAX_VALUES"],
        null_counts=tuple(record.get("_NULL_COUNTS") or ()),
    )


def entry_record(entry: ManifestEntry) -> Mapping[str, Any]:
    """An entry as the record that a file has of it."""
    return {
        "_VERSION": MANIFEST_VERSION,
        "_KIND": int(entry.kind),
        "_PARTITION": entry.partition,
        "_BUCKET": entry.bucket,
        "_TOTAL_BUCKETS": entry.total_buckets,
        "_FILE": _file_record(entry.file),
    }


def _entry_of(record: _Record) -> ManifestEntry:
    return ManifestEntry(
        kind=FileKind(record["_KIND"]),
        partition=record["_PARTITION"],
        bucket=record["_BUCKET"],
        total_buckets=record["_TOTAL_BUCKETS"],
        file=_file_of(record["_FILE"]),
    )


def _file_record(file: DataFileMeta) -> _Record:
    return {
        "_FILE_NAME": file.file_name,
        "_FILE_SIZE": file.file_size,
        "_ROW_COUNT": file.row_count,
        "_MIN_KEY": file.min_key,
        "_MAX_KEY": file.max_key,
        "_KEY_STATS": _stats_record(file.key_stats),
        "_VALUE_STATS": _stats_record(file.value_stats),
        "_MIN_SEQUENCE_NUMBER": file.min_sequence_number,
        "_MAX_SEQUENCE_NUMBER": file.max_sequence_number,
        "_SCHEMA_ID": file.schema_id,
        "_LEVEL": file.level,
        "_EXTRA_FILES": list(file.extra_files),
        "_CREATION_TIME": file.creation_time_millis,
        "_DELETE_ROW_COUNT": file.delete_row_count,
        "_EMBEDDED_FILE_INDEX": file.embedded_index,
        "_FILE_SOURCE": None if file.file_source is None else int(file.file_source),
        "_VALUE_STATS_COLS": None if file.value_stats_cols is None else list(file.value_stats_cols),
        "_EXTERNAL_PATH": file.external_path,
        "_FIRST_ROW_ID": file.first_row_id,
        "_WRITE_COLS": None if file.write_cols is None else list(file.write_cols),
    }


def _file_of(record: _Record) -> DataFileMeta:
    source = record.get("_FILE_SOURCE")
    return DataFileMeta(
        file_name=record["_FILE_NAME"],
        file_size=record["_FILE_SIZE"],
        row_count=record["_ROW_COUNT"],
        min_key=record["_MIN_KEY"],
        max_key=record["_MAX_KEY"],
        key_stats=_stats_of(record["_KEY_STATS"]),
        value_stats=_stats_of(record["_VALUE_STATS"]),
        min_sequence_number=record["_MIN_SEQUENCE_NUMBER"],
        max_sequence_number=record["_MAX_SEQUENCE_NUMBER"],
        schema_id=record["_SCHEMA_ID"],
        level=record["_LEVEL"],
        extra_files=tuple(record["_EXTRA_FILES"]),
        creation_time_millis=record.get("_CREATION_TIME"),
        delete_row_count=record.get("_DELETE_ROW_COUNT"),
        embedded_index=record.get("_EMBEDDED_FILE_INDEX"),
        file_source=None if source is None else FileSource(source),
        value_stats_cols=_names(record.get("_VALUE_STATS_COLS")),
        external_path=record.get("_EXTERNAL_PATH"),
        first_row_id=record.get("_FIRST_ROW_ID"),
        write_cols=_names(record.get("_WRITE_COLS")),
    )


def _names(names: list[str] | None) -> tuple[str, ...] | None:
    return None if names is None else tuple(names)


def _meta_record(meta: ManifestFileMeta) -> _Record:
    return {
        "_VERSION": MANIFEST_LIST_VERSION,
        "_FILE_NAME": meta.file_name,
        "_FILE_SIZE": meta.file_size,
        "_NUM_ADDED_FILES": meta.num_added_files,
        "_NUM_DELETED_FILES": meta.num_deleted_files,
        "_PARTITION_STATS": _stats_record(meta.partition_stats),
        "_SCHEMA_ID": meta.schema_id,
        "_MIN_BUCKET": meta.min_bucket,
        "_MAX_BUCKET": meta.max_bucket,
        "_MIN_LEVEL": meta.min_level,
        "_MAX_LEVEL": meta.max_level,
    }


def _meta_of(record: _Record) -> ManifestFileMeta:
    return ManifestFileMeta(
        file_name=record["_FILE_NAME"],
        file_size=record["_FILE_SIZE"],
        num_added_files=record["_NUM_ADDED_FILES"],
        num_deleted_files=record["_NUM_DELETED_FILES"],
        partition_stats=_stats_of(record["_PARTITION_STATS"]),
        schema_id=record["_SCHEMA_ID"],
        min_bucket=record.get("_MIN_BUCKET"),
        max_bucket=record.get("_MAX_BUCKET"),
        min_level=record.get("_MIN_LEVEL"),
        max_level=record.get("_MAX_LEVEL"),
    )


def _index_record(entry: IndexManifestEntry) -> _Record:
    file = entry.index_file
    ranges = file.deletion_vector_ranges
    return {
        "_VERSION": INDEX_MANIFEST_VERSION,
        "_KIND": int(entry.kind),
        "_PARTITION": entry.partition,
        "_BUCKET": entry.bucket,
        "_INDEX_TYPE": file.index_type,
        "_FILE_NAME": file.file_name,
        "_FILE_SIZE": file.file_size,
        "_ROW_COUNT": file.row_count,
        "_DELETIONS_VECTORS_RANGES": None if ranges is None else [_range_record(part) for part in ranges],
        "_EXTERNAL_PATH": file.external_path,
    }


def _range_record(part: DeletionVectorRange) -> _Record:
    return {"f0": part.data_file_name, "f1": part.offset, "f2": part.length, "_CARDINALITY": part.cardinality}


def _index_of(record: _Record) -> IndexManifestEntry:
    ranges = record.get("_DELETIONS_VECTORS_RANGES")
    return IndexManifestEntry(
        kind=FileKind(record["_KIND"]),
        partition=record["_PARTITION"],
        bucket=record["_BUCKET"],
        index_file=IndexFileMeta(
            index_type=record["_INDEX_TYPE"],
            file_name=record["_FILE_NAME"],
            file_size=record["_FILE_SIZE"],
            row_count=record["_ROW_COUNT"],
            deletion_vector_ranges=None if ranges is None else tuple(map(_range_of, ranges)),
            external_path=record.get("_EXTERNAL_PATH"),
        ),
    )


def _range_of(record: _Record) -> DeletionVectorRange:
    return DeletionVectorRange(
        data_file_name=record["f0"],
        offset=record["f1"],
        length=record["f2"],
        cardinality=record.get("_CARDINALITY"),
    )

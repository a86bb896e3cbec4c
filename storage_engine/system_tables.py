"""System tables as frames: Paimon's ``t$snapshots``, ``t$files`` and so on, with its column names.

Spec: "System Tables" of Apache Paimon. Times are naive Datetime[ms] in UTC where Paimon shows local time. Every function
reads metadata alone. Frames have one row a thing, so that their size is that of the metadata.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

import polars as pl

from storage_engine.codec.binary_row import deserialize_row
from storage_engine.spec.manifest import EMPTY_ROW, DataFileMeta, FileSource
from storage_engine.spec.schema import TableSchema
from storage_engine.spec.snapshot import Snapshot
from storage_engine.spec.types import DataType
from storage_engine.store.live_files import Bucket, LiveFiles
from storage_engine.store.paths import partition_path
from storage_engine.store.table_store import TableStore

_TIME = pl.Datetime("ms")
_SNAPSHOTS = pl.Schema(
    {
        "snapshot_id": pl.Int64(),
        "schema_id": pl.Int64(),
        "commit_user": pl.String(),
        "commit_identifier": pl.Int64(),
        "commit_kind": pl.String(),
        "commit_time": _TIME,
        "base_manifest_list": pl.String(),
        "delta_manifest_list": pl.String(),
        "changelog_manifest_list": pl.String(),
        "total_record_count": pl.Int64(),
        "delta_record_count": pl.Int64(),
        "changelog_record_count": pl.Int64(),
        "watermark": pl.Int64(),
    }
)
_SCHEMAS = pl.Schema(
    {
        "schema_id": pl.Int64(),
        "fields": pl.String(),
        "partition_keys": pl.String(),
        "primary_keys": pl.String(),
        "options": pl.String(),
        "comment": pl.String(),
        "update_time": _TIME,
    }
)
_TAGS = pl.Schema(
    {
        "tag_name": pl.String(),
        "snapshot_id": pl.Int64(),
        "schema_id": pl.Int64(),
        "commit_time": _TIME,
        "record_count": pl.Int64(),
        "create_time": _TIME,
        "time_retained": pl.String(),
    }
)
_MANIFESTS = pl.Schema(
    {
        "file_name": pl.String(),
        "file_size": pl.Int64(),
        "num_added_files": pl.Int64(),
        "num_deleted_files": pl.Int64(),
        "schema_id": pl.Int64(),
        "min_partition_stats": pl.String(),
        "max_partition_stats": pl.String(),
    }
)
_FILES = pl.Schema(
    {
        "partition": pl.String(),
        "bucket": pl.Int32(),
        "file_path": pl.String(),
        "file_format": pl.String(),
        "schema_id": pl.Int64(),
        "level": pl.Int32(),
        "record_count": pl.Int64(),
        "file_size_in_bytes": pl.Int64(),
        "min_key": pl.String(),
        "max_key": pl.String(),
        "null_value_counts": pl.String(),
        "min_value_stats": pl.String(),
        "max_value_stats": pl.String(),
        "min_sequence_number": pl.Int64(),
        "max_sequence_number": pl.Int64(),
        "creation_time": _TIME,
        "deleteRowCount": pl.Int64(),
        "file_source": pl.String(),
    }
)
_PARTITIONS = pl.Schema(
    {
        "partition": pl.String(),
        "record_count": pl.Int64(),
        "file_size_in_bytes": pl.Int64(),
        "file_count": pl.Int64(),
        "last_update_time": _TIME,
    }
)


def snapshots_frame(store: TableStore) -> pl.DataFrame:
    """``t$snapshots``: retained snapshots, ascending."""
    return _frame((_snapshot_row(snapshot) for snapshot in reversed(list(store.snapshots.backwards()))), _SNAPSHOTS)


def _snapshot_row(snapshot: Snapshot) -> tuple[object, ...]:
    return (
        snapshot.id,
        snapshot.schema_id,
        snapshot.commit_user,
        snapshot.commit_identifier,
        snapshot.commit_kind.value,
        _utc(snapshot.time_millis),
        snapshot.base_manifest_list,
        snapshot.delta_manifest_list,
        snapshot.changelog_manifest_list,
        snapshot.total_record_count,
        snapshot.delta_record_count,
        snapshot.changelog_record_count,
        snapshot.watermark,
    )


def schemas_frame(store: TableStore) -> pl.DataFrame:
    """``t$schemas``: all versions, ascending; fields, keys and options as JSON."""
    schemas = (store.schemas.get(schema_id) for schema_id in store.schemas.ids())
    return _frame((_schema_row(schema) for schema in schemas), _SCHEMAS)


def _schema_row(schema: TableSchema) -> tuple[object, ...]:
    return (
        schema.id,
        _json([column.to_json() for column in schema.fields]),
        _json(list(schema.partition_keys)),
        _json(list(schema.primary_keys)),
        _json(dict(schema.options)),
        schema.comment,
        _utc(schema.time_millis),
    )


def options_frame(schema: TableSchema) -> pl.DataFrame:
    """``t$options``: the options that are set, by key."""
    return _frame(sorted(schema.options.items()), pl.Schema({"key": pl.String(), "value": pl.String()}))


def tags_frame(store: TableStore) -> pl.DataFrame:
    """``t$tags``: all tags, by snapshot and name; ``time_retained`` such as ``PT36H``."""
    return _frame(
        (
            (
                tag.name,
                tag.snapshot.id,
                tag.snapshot.schema_id,
                _utc(tag.snapshot.time_millis),
                tag.snapshot.total_record_count,
                tag.create_time,
                None if tag.time_retained_ms is None else _duration_text(tag.time_retained_ms),
            )
            for tag in store.tags.list()
        ),
        _TAGS,
    )


def branches_frame(store: TableStore) -> pl.DataFrame:
    """``t$branches``: all branches but main, by name; ``create_time`` is that of the branch's first schema."""
    rows = []
    for name in store.branch_names():
        schemas = store.of_branch(name).schemas
        ids = schemas.ids()
        rows.append((name, _utc(schemas.get(ids[0]).time_millis) if ids else None))
    return _frame(rows, pl.Schema({"branch_name": pl.String(), "create_time": _TIME}))


def consumers_frame(store: TableStore) -> pl.DataFrame:
    """``t$consumers``: named stream readers and the snapshot that each reads next."""
    schema = pl.Schema({"consumer_id": pl.String(), "next_snapshot_id": pl.Int64()})
    return _frame(sorted(store.consumers.list().items()), schema)


def manifests_frame(store: TableStore, schema: TableSchema, snapshot: Snapshot | None) -> pl.DataFrame:
    """``t$manifests``: the manifests of a snapshot; no rows for None."""
    live, types = LiveFiles(store, schema), schema.types_of(schema.partition_keys)
    metas = [] if snapshot is None else live.manifest_metas(snapshot)
    return _frame(
        (
            (
                meta.file_name,
                meta.file_size,
                meta.num_added_files,
                meta.num_deleted_files,
                meta.schema_id,
                _row_text(types, meta.partition_stats.min_values),
                _row_text(types, meta.partition_stats.max_values),
            )
            for meta in metas
        ),
        _MANIFESTS,
    )


def files_frame(store: TableStore, schema: TableSchema, snapshot: Snapshot | None) -> pl.DataFrame:
    """``t$files``: the live data files of a snapshot, by partition, bucket, level and name; no rows for None.

    Keys and statistics are text; those of an older schema are shown by its own columns.
    """
    return _frame(
        (
            _file_row(store, schema, bucket, file)
            for bucket in _sorted_buckets(store, schema, snapshot)
            for file in sorted(bucket.files, key=lambda file: (file.level, file.file_name))
        ),
        _FILES,
    )


def _file_row(store: TableStore, schema: TableSchema, bucket: Bucket, file: DataFileMeta) -> tuple[object, ...]:
    written = schema if file.schema_id == schema.id else store.schemas.get(file.schema_id)
    names = written.column_names if file.value_stats_cols is None else file.value_stats_cols
    stats = file.value_stats
    has_stats = stats.min_values != EMPTY_ROW
    key_types = schema.types_of(schema.trimmed_primary_keys)
    types = written.types_of(names) if has_stats else ()
    return (
        _partition_text(bucket.partition_values),
        bucket.bucket,
        file.external_path or f"{bucket.directory}/{file.file_name}",
        file.file_name.rpartition(".")[2],
        file.schema_id,
        file.level,
        file.row_count,
        file.file_size,
        _row_text(key_types, file.min_key),
        _row_text(key_types, file.max_key),
        _named_text(names, stats.null_counts) if has_stats else "{}",
        _named_text(names, deserialize_row(types, stats.min_values)) if has_stats else "{}",
        _named_text(names, deserialize_row(types, stats.max_values)) if has_stats else "{}",
        file.min_sequence_number,
        file.max_sequence_number,
        None if file.creation_time_millis is None else _utc(file.creation_time_millis),
        file.delete_row_count,
        None if file.file_source is None else FileSource(file.file_source).name,
    )


def partitions_frame(store: TableStore, schema: TableSchema, snapshot: Snapshot | None) -> pl.DataFrame:
    """``t$partitions``: what the live files of each partition add up to; records are physical rows. No rows for None."""
    files = [
        (_partition_text(bucket.partition_values), file.row_count, file.file_size, file.creation_time_millis)
        for bucket in _sorted_buckets(store, schema, snapshot)
        for file in bucket.files
    ]
    listed = pl.DataFrame(files, schema=["partition", "rows", "size", "created"], orient="row") if files else None
    if listed is None:
        return pl.DataFrame(schema=_PARTITIONS)
    return (
        listed.group_by("partition", maintain_order=True)
        .agg(
            pl.col("rows").sum().alias("record_count"),
            pl.col("size").sum().alias("file_size_in_bytes"),
            pl.len().alias("file_count"),
            pl.col("created").max().alias("last_update_time"),
        )
        .cast(_PARTITIONS)
    )


def _sorted_buckets(store: TableStore, schema: TableSchema, snapshot: Snapshot | None) -> list[Bucket]:
    buckets = LiveFiles(store, schema).buckets(snapshot).values()
    return sorted(buckets, key=lambda bucket: (_partition_text(bucket.partition_values), bucket.bucket))


def partition_paths(store: TableStore, schema: TableSchema, snapshot: Snapshot | None) -> list[str]:
    """The directories of the partitions that hold live files, ``v_date=2024-01-01/hour=7``, sorted."""
    types = schema.types_of(schema.partition_keys)
    values = {bucket.partition_values for bucket in LiveFiles(store, schema).buckets(snapshot).values()}
    return sorted(partition_path(types, schema.partition_keys, each, schema.table_options) for each in values)


def _partition_text(values: Sequence[object]) -> str:
    """``{2024-01-01, 7}``."""
    return "{" + ", ".join(map(_text, values)) + "}"


def _row_text(types: Sequence[DataType], row: bytes) -> str | None:
    """A serialized row as ``[a, b]``; None if it has no such columns."""
    if not types or row == EMPTY_ROW:
        return None
    return "[" + ", ".join(map(_text, deserialize_row(types, row))) + "]"


def _named_text(names: Sequence[str], values: Iterable[object]) -> str:
    return "{" + ", ".join(f"{name}={_text(value)}" for name, value in zip(names, values, strict=True)) + "}"


def _text(value: object) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case bytes():
            return value.hex()
        case _:
            return str(value)


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _utc(millis: int) -> datetime:
    return datetime.fromtimestamp(millis / 1000, UTC).replace(tzinfo=None)


def _duration_text(millis: int) -> str:
    """ISO 8601, as Java writes a duration: ``PT36H``, ``PT1H30M``, ``PT0.5S``."""
    minutes, rest = divmod(millis, 60_000)
    hours, minutes = divmod(minutes, 60)
    seconds = f"{rest / 1000:.3f}".rstrip("0").rstrip(".")
    parts = f"{hours}H" * (hours > 0) + f"{minutes}M" * (minutes > 0) + f"{seconds}S" * (rest > 0)
    return "PT" + (parts or "0S")


def _frame(rows: Iterable[tuple[object, ...]], schema: pl.Schema) -> pl.DataFrame:
    return pl.DataFrame(list(rows), schema=schema, orient="row")

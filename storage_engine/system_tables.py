"""System tables as frames: Paimon's ``t$snapshots``, ``t$files`` and so on, with its column names.

Spec: "System Tables" of Apache Paimon. Times are naive Datetime[ms] in UTC where Paimon shows local time. Every function
reads metadata alone. Frames have one row a thing, so that their size is that of the metadata.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime

import polars as pl

from storage_engine.codec.binary_row import deserialize_row
from storage_engine.read.value_bounds import value_bounds
from storage_engine.spec.manifest import EMPTY_ROW, DataFileMeta, FileSource, ManifestFileMeta
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
_BUCKETS = pl.Schema(
    {
        "partition": pl.String(),
        "bucket": pl.Int32(),
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
    """``t$branches``: all branches but main, by name; ``create_time`` is when the branch's first schema was put there."""
    rows = []
    for name in store.branch_names():
        files = store.io.list_files(store.paths.of_branch(name).schemas)
        created = min((file.modified_millis for file in files), default=0)
        rows.append((name, _utc(created) if created else None))
    return _frame(rows, pl.Schema({"branch_name": pl.String(), "create_time": _TIME}))


def consumers_frame(store: TableStore) -> pl.DataFrame:
    """``t$consumers``: named stream readers and the snapshot that each reads next."""
    schema = pl.Schema({"consumer_id": pl.String(), "next_snapshot_id": pl.Int64()})
    return _frame(sorted(store.consumers.list().items()), schema)


def manifests_frame(store: TableStore, schema: TableSchema, snapshot: Snapshot | None) -> pl.DataFrame:
    """``t$manifests``: the manifests of a snapshot, those of its changelog last; no rows for None."""
    types = schema.types_of(schema.partition_keys)
    metas = [] if snapshot is None else _all_manifests(LiveFiles(store, schema), snapshot)
    return _frame(
        (
            (
                meta.file_name,
                meta.file_size,
                meta.num_added_files,
                meta.num_deleted_files,
                meta.schema_id,
                row_text(deserialize_row(types, meta.partition_stats.min_values)),
                row_text(deserialize_row(types, meta.partition_stats.max_values)),
            )
            for meta in metas
        ),
        _MANIFESTS,
    )


def _all_manifests(live: LiveFiles, snapshot: Snapshot) -> list[ManifestFileMeta]:
    changelog = snapshot.changelog_manifest_list
    if changelog is None:
        return live.manifest_metas(snapshot)
    return [*live.manifest_metas(snapshot), *live.manifests.read_list(changelog, snapshot.changelog_manifest_list_size)]


def files_frame(store: TableStore, schema: TableSchema, snapshot: Snapshot | None) -> pl.DataFrame:
    """``t$files``: the live data files of a snapshot, by partition, bucket, level and name; no rows for None.

    Keys and statistics are text.
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
    key_types = schema.types_of(schema.trimmed_primary_keys)
    nulls, lows, highs = value_bounds(store, schema, file)
    return (
        row_text(bucket.partition_values),
        bucket.bucket,
        file.external_path or f"{bucket.directory}/{file.file_name}",
        file.file_name.rpartition(".")[2],
        file.schema_id,
        file.level,
        file.row_count,
        file.file_size,
        _key_text(key_types, file.min_key),
        _key_text(key_types, file.max_key),
        _named_text(nulls),
        _named_text(lows),
        _named_text(highs),
        file.min_sequence_number,
        file.max_sequence_number,
        None if file.creation_time_millis is None else _utc(file.creation_time_millis),
        file.delete_row_count,
        None if file.file_source is None else FileSource(file.file_source).name,
    )


def buckets_frame(store: TableStore, schema: TableSchema, snapshot: Snapshot | None) -> pl.DataFrame:
    """``t$buckets``: what the live files of each bucket add up to; records are physical rows. No rows for None."""
    rows = [
        (
            row_text(bucket.partition_values),
            bucket.bucket,
            sum(file.row_count for file in bucket.files),
            sum(file.file_size for file in bucket.files),
            len(bucket.files),
            max((_utc(file.creation_time_millis) for file in bucket.files if file.creation_time_millis), default=None),
        )
        for bucket in _sorted_buckets(store, schema, snapshot)
    ]
    return _frame(rows, _BUCKETS)


def partitions_frame(store: TableStore, schema: TableSchema, snapshot: Snapshot | None) -> pl.DataFrame:
    """``t$partitions``: what the live files of each partition add up to; records are physical rows. No rows for None."""
    totals = pl.col("record_count", "file_size_in_bytes", "file_count").sum()
    buckets = buckets_frame(store, schema, snapshot)
    return buckets.group_by("partition", maintain_order=True).agg(totals, pl.col("last_update_time").max())


def partition_paths(store: TableStore, schema: TableSchema, snapshot: Snapshot | None) -> list[str]:
    """The directories of the partitions that hold live files, ``v_date=2024-01-01/hour=7``, sorted."""
    types = schema.types_of(schema.partition_keys)
    values = partition_rows(store, schema, snapshot)
    return sorted(partition_path(types, schema.partition_keys, each, schema.table_options) for each in values)


def partition_rows(store: TableStore, schema: TableSchema, snapshot: Snapshot | None) -> set[tuple[object, ...]]:
    """The values of the partitions that hold live files."""
    types = schema.types_of(schema.partition_keys)
    partitions = {entry.partition for entry in LiveFiles(store, schema).entries(snapshot)}
    return {deserialize_row(types, partition) for partition in partitions}


def _sorted_buckets(store: TableStore, schema: TableSchema, snapshot: Snapshot | None) -> list[Bucket]:
    buckets = LiveFiles(store, schema).buckets(snapshot).values()
    return sorted(buckets, key=lambda bucket: (row_text(bucket.partition_values), bucket.bucket))


def row_text(values: Iterable[object]) -> str:
    """The values of a partition as Paimon shows them: ``{2024-01-01, 7}``."""
    return "{" + ", ".join(map(_text, values)) + "}"


def _key_text(types: Sequence[DataType], row: bytes) -> str | None:
    """A serialized key as ``[a, b]``; None for a table without key."""
    if not types or row == EMPTY_ROW:
        return None
    return "[" + ", ".join(map(_text, deserialize_row(types, row))) + "]"


def _named_text(values: Mapping[str, object]) -> str:
    """``{a=1, b=null}``, by name."""
    return "{" + ", ".join(f"{name}={_text(value)}" for name, value in sorted(values.items())) + "}"


def _text(value: object) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case bytes():
            return value.hex()
        case datetime():
            return value.isoformat(timespec="microseconds" if value.microsecond % 1000 else "milliseconds")
        case _:
            return str(value)


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


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

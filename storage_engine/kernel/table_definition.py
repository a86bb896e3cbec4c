"""What a table may be: options brought into Paimon's own words, and definitions that would read wrong refused.

Spec: the checks that Apache Paimon 1.3.1 does when a table is created or altered.
"""

from __future__ import annotations

from collections.abc import Mapping

from storage_engine.errors import InvalidOption, InvalidSchema
from storage_engine.kernel.aggregators import ALIASES
from storage_engine.kernel.fast_hash import BITMAP_ROOTS, BLOOM_ROOTS
from storage_engine.kernel.literals import parse_literal
from storage_engine.kernel.merge_plan import MergePlan
from storage_engine.lifecycle_options import LifecycleOptions
from storage_engine.options import ChangelogProducer, MergeEngine, flag_of
from storage_engine.spec.file_index_options import BLOOM_FILTER, FileIndexOptions, check_index_kinds
from storage_engine.spec.file_options import FileOptions
from storage_engine.spec.record_expiry import RecordExpiry
from storage_engine.spec.schema import TableSchema
from storage_engine.spec.types import NESTED_ROOTS, TypeRoot

_AGGREGATE_SUFFIX = "aggregate-function"
_FIELD_PREFIX = "fields."
_DEFAULT_FUNCTION = "default-aggregate-function"
_POSTPONE_BUCKET = -2
_REFUSED_OPTIONS = {
    "path": "a table lies where its catalog puts it",
    "branch": "name the branch when the table is opened, as in catalog.table('db.t', branch='b')",
    "primary-key": "declare PRIMARY KEY (…) NOT ENFORCED",
    "partition": "declare PARTITIONED BY (…)",
    "row-tracking.enabled": "row tracking is not done here",
    "data-evolution.enabled": "data evolution is not done here",
}
_OFF = frozenset({"", "false"})
_SCAN_OPTIONS = (
    "scan.snapshot-id",
    "scan.tag-name",
    "scan.timestamp",
    "scan.timestamp-millis",
    "scan.file-creation-time-millis",
    "incremental-between",
    "incremental-between-timestamp",
    "incremental-to-auto-tag",
)


def normalized_options(options: Mapping[str, str]) -> dict[str, str]:
    """Options as the schema file keeps them: short names of aggregate functions in full, ``'connector'='paimon'`` left out.

    Raises InvalidOption for another connector.
    """
    connector = options.get("connector", "paimon")
    if connector.strip().lower() != "paimon":
        raise InvalidOption(f"option 'connector' is {connector!r}: every table here is a Paimon table, leave it out")
    return {
        key: ALIASES.get(value.strip(), value.strip()) if _names_function(key) else value
        for key, value in options.items()
        if key != "connector"
    }


def _names_function(key: str) -> bool:
    return key.startswith(_FIELD_PREFIX) and key.rpartition(".")[2] in (_AGGREGATE_SUFFIX, _DEFAULT_FUNCTION)


def check_table_definition(schema: TableSchema) -> None:
    """Refuse a table that Paimon 1.3.1 refuses or reads wrong, or that is not done here.

    Raises InvalidOption, InvalidSchema or Unsupported; the message names the option and what to do.
    """
    _check_refused(schema)
    _check_bucket(schema)
    _check_field_options(schema)
    _check_read_options(schema)
    _check_columns_named(schema)
    _check_files(schema)
    _check_defaults(schema)
    RecordExpiry.of(schema)
    LifecycleOptions.parse(schema.options)
    if schema.primary_keys:
        MergePlan.of(schema)
        _check_primary_key_table(schema)
    else:
        _check_append_table(schema)


def _check_refused(schema: TableSchema) -> None:
    for key, reason in _REFUSED_OPTIONS.items():
        if schema.options.get(key, "").strip().lower() not in _OFF:
            raise InvalidOption(f"option {key!r} cannot be set: {reason}")


def _check_defaults(schema: TableSchema) -> None:
    for field in schema.fields:
        if field.default_value is None:
            continue
        try:
            parse_literal(field.default_value, field.type)
        except InvalidSchema as cause:
            raise InvalidSchema(f"column {field.name!r}: default value: {cause}") from cause


def _check_bucket(schema: TableSchema) -> None:
    options = schema.table_options
    bucket_key = options.bucket_key
    unknown = [name for name in bucket_key if name not in schema.by_name]
    if unknown:
        raise InvalidOption(f"option 'bucket-key' names {unknown[0]!r}, which is not a column")
    if bucket_key and options.bucket == -1:
        raise InvalidOption("option 'bucket-key' needs a number of buckets: set 'bucket', or leave out 'bucket-key'")
    nested = [name for name in bucket_key if schema.by_name[name].type.root in NESTED_ROOTS]
    if nested:
        raise InvalidOption(f"option 'bucket-key' names {nested[0]!r}, whose type cannot be hashed")
    outside = [name for name in bucket_key if schema.primary_keys and name not in schema.trimmed_primary_keys]
    if outside:
        raise InvalidOption(
            f"option 'bucket-key' names {outside[0]!r}: it may name columns of the primary key that are no partition"
            f" columns, {', '.join(schema.trimmed_primary_keys)}"
        )
    if options.bucket_function == "mod" and len(schema.bucket_keys) != 1:
        raise InvalidOption("option 'bucket-function.type' is 'mod': it needs one bucket key, of type INT or BIGINT")


def _check_field_options(schema: TableSchema) -> None:
    """Every ``fields.<column>.…`` names columns."""
    for key in schema.options:
        if not key.startswith(_FIELD_PREFIX) or key == _FIELD_PREFIX + _DEFAULT_FUNCTION:
            continue
        for name in key.split(".")[1].split(","):
            if name.strip() not in schema.by_name:
                raise InvalidOption(
                    f"option {key!r} names {name.strip()!r}, which is not a column; columns: {', '.join(schema.column_names)}"
                )


def _check_read_options(schema: TableSchema) -> None:
    """A table that always reads one fixed snapshot would hide every later commit."""
    if schema.options.get("scan.mode", "default").strip().lower() == "default":
        for key in _SCAN_OPTIONS:
            if key in schema.options:
                raise InvalidOption(
                    f"option {key!r} cannot be kept with a table without its 'scan.mode': give it when reading"
                )
    if "partition.expiration-time" in schema.options and not schema.partition_keys:
        raise InvalidOption("option 'partition.expiration-time' needs a partitioned table")


def _check_columns_named(schema: TableSchema) -> None:
    for column in schema.table_options.clustering_columns:
        if column not in schema.by_name or schema.by_name[column].type.root in NESTED_ROOTS:
            raise InvalidOption(
                f"option 'clustering.columns' names {column!r}, which is no column that has an order;"
                f" columns: {', '.join(schema.column_names)}"
            )
    for key in ("rowkind.field", "record-level.time-field"):
        name = schema.options.get(key)
        if name is not None and name not in schema.by_name:
            raise InvalidOption(
                f"option {key!r} names {name!r}, which is not a column; columns: {', '.join(schema.column_names)}"
            )


def _check_files(schema: TableSchema) -> None:
    """Options of data files and their indexes, and columns that their formats cannot hold."""
    check_index_kinds(schema.options)
    for index in FileIndexOptions.of(schema.table_options).indexes:
        known = schema.by_name.get(index.column)
        roots = BLOOM_ROOTS if index.kind == BLOOM_FILTER else BITMAP_ROOTS
        if known is None or known.type.root not in roots:
            reason = "which is not a column" if known is None else f"whose type {known.type.sql} it does not take"
            raise InvalidOption(f"option 'file-index.{index.kind}.columns' names {index.column!r}, {reason}")
    options = FileOptions.of(schema.table_options)
    if "avro" not in options.format.values:
        return
    for column in schema.fields:
        for part in column.type.walk():
            most = _AVRO_DIGITS.get(part.root)
            if most is not None and (part.precision or 0) > most:
                raise InvalidSchema(
                    f"column {column.name!r}: Avro files hold no {part.sql}, {most} digits at most; set option 'file.format'"
                    " to 'parquet'"
                )


_AVRO_DIGITS = {TypeRoot.TIME: 3, TypeRoot.TIMESTAMP: 6, TypeRoot.TIMESTAMP_LTZ: 6}


def _check_primary_key_table(schema: TableSchema) -> None:
    options = schema.table_options
    producer, engine = options.changelog_producer, options.merge_engine
    if engine is MergeEngine.FIRST_ROW and producer not in (ChangelogProducer.NONE, ChangelogProducer.LOOKUP):
        raise InvalidOption(
            f"option 'changelog-producer' is {producer.value!r}: merge engine first-row has only 'none' and 'lookup'"
        )
    if options.deletion_vectors and engine is MergeEngine.FIRST_ROW:
        raise InvalidOption(
            "option 'deletion-vectors.enabled' cannot go with merge engine first-row, which deletes nothing"
        )
    if options.deletion_vectors and producer is ChangelogProducer.FULL_COMPACTION:
        raise InvalidOption("option 'deletion-vectors.enabled' cannot go with changelog producer full-compaction")
    overwrites = flag_of(schema.options, "streaming-read-overwrite")
    if overwrites and producer in (ChangelogProducer.LOOKUP, ChangelogProducer.FULL_COMPACTION):
        raise InvalidOption(
            f"option 'streaming-read-overwrite' cannot go with changelog producer {producer.value!r}: changes would be read twice"
        )


def _check_append_table(schema: TableSchema) -> None:
    options = schema.table_options
    for key in ("changelog-producer", "merge-engine", "sequence.field", "rowkind.field", "streaming-read-overwrite"):
        if schema.options.get(key, "none").strip().lower() not in ("none", "deduplicate", "false"):
            raise InvalidOption(f"option {key!r} needs a primary key: declare one, or leave the option out")
    if options.bucket == _POSTPONE_BUCKET:
        raise InvalidOption("option 'bucket' is -2 (postpone): this needs a primary key")
    if options.bucket > 0 and not options.bucket_key:
        raise InvalidOption(
            "a table without primary key needs 'bucket-key' for a fixed number of buckets, or 'bucket' = '-1'"
        )
    if options.bucket == -1 and "full-compaction.delta-commits" in schema.options:
        raise InvalidSchema("option 'full-compaction.delta-commits' needs a primary key or a fixed number of buckets")

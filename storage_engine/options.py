"""Table options: Paimon's keys, parsed once into a frozen value.

Spec: "Configuration / CoreOptions" of Apache Paimon 1.3.1. A key that is not known is kept in the schema file and
ignored by the engine, as Paimon does; a key that is known has its value checked.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from storage_engine.errors import InvalidOption


class MergeEngine(StrEnum):
    """How rows of one key become one row."""

    DEDUPLICATE = "deduplicate"
    PARTIAL_UPDATE = "partial-update"
    AGGREGATION = "aggregation"
    FIRST_ROW = "first-row"


class ChangelogProducer(StrEnum):
    """Where a table's changelog comes from."""

    NONE = "none"
    INPUT = "input"
    LOOKUP = "lookup"
    FULL_COMPACTION = "full-compaction"


@dataclass(frozen=True, slots=True, kw_only=True)
class TableOptions:
    """The options that the engine acts on. Sizes in bytes, durations in milliseconds."""

    bucket: int = -1
    bucket_key: tuple[str, ...] = ()
    bucket_function: str = "default"
    merge_engine: MergeEngine = MergeEngine.DEDUPLICATE
    changelog_producer: ChangelogProducer = ChangelogProducer.NONE
    row_deduplicate: bool = False
    row_deduplicate_ignore_fields: tuple[str, ...] = ()
    sequence_field: tuple[str, ...] = ()
    rowkind_field: str | None = None
    ignore_delete: bool = False
    ignore_update_before: bool = False
    deletion_vectors: bool = False
    deletion_vectors_bitmap64: bool = False
    file_format: str = "parquet"
    file_compression: str = "zstd"
    zstd_level: int = 1
    thin_mode: bool = False
    data_file_directory: str = ""
    index_files_beside_data: bool = False
    data_file_prefix: str = "data-"
    changelog_file_prefix: str = "changelog-"
    target_file_size: int | None = None
    compaction_trigger: int = 5
    num_levels: int | None = None
    max_size_amplification_percent: int = 200
    size_ratio: int = 1
    compaction_total_size_threshold: int = 0
    compaction_optimization_interval_ms: int | None = None
    compaction_force_up_level0: bool = False
    write_only: bool = False
    write_buffer_size: int = 256 << 20
    async_file_write: bool = True
    sort_spill_threshold: int | None = None
    sort_spill_buffer_size: int = 64 << 20
    write_buffer_spillable: bool = True
    sorted_runs_stop_trigger: int | None = None
    lookup_compact_mode: str = "radical"
    lookup_compact_max_interval: int | None = None
    lookup_wait: bool = True
    lookup_cache_disk_size: int = 1 << 30
    force_lookup: bool = False
    full_compaction_delta_commits: int | None = None
    manifest_format: str = "avro"
    manifest_compression: str = "zstd"
    manifest_target_file_size: int = 8 << 20
    manifest_merge_min_count: int = 30
    manifest_full_compaction_size: int = 16 << 20
    partition_default_name: str = "__DEFAULT_PARTITION__"
    partition_legacy_name: bool = True
    dynamic_partition_overwrite: bool = True
    snapshot_num_retained_min: int = 10
    snapshot_num_retained_max: int = 2_147_483_647
    snapshot_time_retained_ms: int = 3_600_000
    snapshot_expire_limit: int = 50
    commit_max_retries: int = 10
    dynamic_bucket_target_row_num: int = 2_000_000
    dynamic_bucket_initial_buckets: int | None = None
    dynamic_bucket_max_buckets: int = -1
    dynamic_bucket_assigner_parallelism: int | None = None
    postpone_default_bucket_num: int = 1
    bucket_append_ordered: bool = True
    clustering_columns: tuple[str, ...] = ()
    clustering_strategy: str = "auto"
    zorder_bytes_of_text: int = 8
    compaction_min_file_num: int = 5
    compaction_delete_ratio_threshold: float = 0.2
    open_file_cost: int = 4 << 20
    deletion_vector_file_size: int = 2 << 20
    scan_fallback_branch: str | None = None
    raw: Mapping[str, str] = field(default_factory=dict)

    @property
    def needs_lookup(self) -> bool:
        """Whether every commit compacts level 0, so that a record above it is already merged."""
        return (
            self.changelog_producer is ChangelogProducer.LOOKUP
            or self.deletion_vectors
            or self.merge_engine is MergeEngine.FIRST_ROW
            or self.force_lookup
        )

    def target_file_size_bytes(self, *, has_primary_key: bool) -> int:
        """The size at which a new file begins."""
        if self.target_file_size is not None:
            return self.target_file_size
        return (128 if has_primary_key else 256) << 20

    @staticmethod
    def parse(options: Mapping[str, str]) -> TableOptions:
        """Read the options of a schema. Raises InvalidOption, which names every option that is wrong."""
        values: dict[str, Any] = {}
        errors: list[str] = []
        for key, (name, parser) in _KEYS.items():
            if key in options:
                try:
                    values[name] = parser(options[key])
                except ValueError as cause:
                    errors.append(f"option {key!r} is {options[key]!r}: {cause}")
        errors += _contradictions(values)
        if errors:
            raise InvalidOption("; ".join(errors))
        return TableOptions(**values, raw=dict(options))


def _contradictions(values: Mapping[str, Any]) -> list[str]:
    bucket = values.get("bucket", -1)
    found = []
    if bucket == 0 or bucket < -2:
        found.append(f"option 'bucket' is {bucket}: expected a positive number, -1 (dynamic) or -2 (postpone)")
    if values.get("dynamic_bucket_max_buckets", -1) == 0:
        found.append("option 'dynamic-bucket.max-buckets' is 0: expected a positive number, or -1 (unlimited)")
    retained_min = values.get("snapshot_num_retained_min", 10)
    if retained_min < 1:
        found.append(f"option 'snapshot.num-retained.min' is {retained_min}: expected at least 1")
    if values.get("snapshot_num_retained_max", retained_min) < retained_min:
        found.append("option 'snapshot.num-retained.max' is smaller than 'snapshot.num-retained.min'")
    return found


def parse_bool(text: str) -> bool:
    """``true`` or ``false`` in any case."""
    lowered = text.strip().lower()
    if lowered not in ("true", "false"):
        raise ValueError("expected true or false")
    return lowered == "true"


def flag_of(options: Mapping[str, str], key: str, *, default: bool = False) -> bool:
    """A boolean option that has no field of its own. Raises InvalidOption."""
    if key not in options:
        return default
    try:
        return parse_bool(options[key])
    except ValueError as cause:
        raise InvalidOption(f"option {key!r} is {options[key]!r}: {cause}") from cause


_SIZE_UNITS = {"": 1, "b": 1, "bytes": 1, "k": 1 << 10, "kb": 1 << 10, "m": 1 << 20, "mb": 1 << 20}
_SIZE_UNITS |= {
    "g": 1 << 30,
    "gb": 1 << 30,
    "t": 1 << 40,
    "tb": 1 << 40,
    "kibibytes": 1 << 10,
    "mebibytes": 1 << 20,
    "gibibytes": 1 << 30,
}
_DURATION_UNITS = {
    "": 1,
    "ms": 1,
    "milli": 1,
    "millis": 1,
    "s": 1000,
    "sec": 1000,
    "secs": 1000,
    "second": 1000,
    "seconds": 1000,
}
_DURATION_UNITS |= {
    "m": 60_000,
    "min": 60_000,
    "minute": 60_000,
    "minutes": 60_000,
    "h": 3_600_000,
    "hour": 3_600_000,
}
_DURATION_UNITS |= {
    "hours": 3_600_000,
    "d": 86_400_000,
    "day": 86_400_000,
    "days": 86_400_000,
}
_QUANTITY = re.compile(r"^\s*(\d+)\s*([A-Za-z]*)\s*$")


def _quantity(units: Mapping[str, int], example: str) -> Callable[[str], int]:
    def parse(text: str) -> int:
        match = _QUANTITY.match(text)
        if match is None or match.group(2).lower() not in units:
            raise ValueError(f"expected a number with a unit, such as {example}")
        return int(match.group(1)) * units[match.group(2).lower()]

    return parse


parse_size_bytes = _quantity(_SIZE_UNITS, "128 mb")
parse_duration_ms = _quantity(_DURATION_UNITS, "1 h")


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _integer(least: int | None = None) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not re.fullmatch(r"\s*-?\d+\s*", text):
            raise ValueError("expected a whole number")
        if least is not None and int(text) < least:
            raise ValueError(f"expected at least {least}")
        return int(text)

    return parse


def _one_of(*choices: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text.lower() not in choices:
            raise ValueError(f"expected one of {', '.join(choices)}")
        return text.lower()

    return parse


def _share(text: str) -> float:
    try:
        share = float(text)
    except ValueError as cause:
        raise ValueError("expected a number such as 0.2") from cause
    if not 0 <= share <= 1:
        raise ValueError("expected a share from 0 to 1")
    return share


def _positive_size(text: str) -> int:
    if (size := parse_size_bytes(text)) < 1:
        raise ValueError("expected a size above 0")
    return size


def _file_name_part(text: str) -> str:
    if "/" in text or "\\" in text or text.startswith((".", "_")):
        raise ValueError("expected the beginning of a file name, without a path")
    return text


def _directory_name_part(text: str) -> str:
    if "/" in text or "\\" in text or not text.strip():
        raise ValueError("expected a part of a directory's name, without a path")
    return text


def _directory_below(text: str) -> str:
    """A directory below the table's, which is none that holds something else."""
    parts = [part for part in text.strip().split("/") if part]
    if text.strip().startswith("/") or not parts or any(part in (".", "..") or "\\" in part for part in parts):
        raise ValueError("expected a directory below the table's, such as data")
    if parts[0] in _TABLE_DIRECTORIES or "=" in parts[0] or parts[-1].startswith("bucket-"):
        raise ValueError("this directory of a table holds something else; name it such as data")
    return "/".join(parts)


_TABLE_DIRECTORIES = frozenset(
    [
        "schema",
        "snapshot",
        "manifest",
        "index",
        "statistics",
        "tag",
        "branch",
        "consumer",
        "changelog",
        "tag-success-file",
    ]
)
COMPRESSIONS = ("zstd", "snappy", "gzip", "lz4", "none", "uncompressed", "brotli", "deflate", "zlib", "null")
_KEYS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "bucket": ("bucket", _integer()),
    "bucket-key": ("bucket_key", _names),
    "bucket-function.type": ("bucket_function", _one_of("default", "mod")),
    "merge-engine": ("merge_engine", lambda text: MergeEngine(_one_of(*MergeEngine)(text))),
    "changelog-producer": (
        "changelog_producer",
        lambda text: ChangelogProducer(_one_of(*ChangelogProducer)(text)),
    ),
    "changelog-producer.row-deduplicate": ("row_deduplicate", parse_bool),
    "changelog-producer.row-deduplicate-ignore-fields": (
        "row_deduplicate_ignore_fields",
        _names,
    ),
    "sequence.field": ("sequence_field", _names),
    "rowkind.field": ("rowkind_field", str),
    "ignore-delete": ("ignore_delete", parse_bool),
    "ignore-update-before": ("ignore_update_before", parse_bool),
    "deletion-vectors.enabled": ("deletion_vectors", parse_bool),
    "deletion-vectors.bitmap64": ("deletion_vectors_bitmap64", parse_bool),
    "file.format": ("file_format", _one_of("parquet", "orc", "avro")),
    "file.compression": ("file_compression", _one_of(*COMPRESSIONS)),
    "file.compression.zstd-level": ("zstd_level", _integer(1)),
    "data-file.thin-mode": ("thin_mode", parse_bool),
    "data-file.path-directory": ("data_file_directory", _directory_below),
    "index-file-in-data-file-dir": ("index_files_beside_data", parse_bool),
    "data-file.prefix": ("data_file_prefix", _file_name_part),
    "changelog-file.prefix": ("changelog_file_prefix", _file_name_part),
    "target-file-size": ("target_file_size", _positive_size),
    "num-sorted-run.compaction-trigger": ("compaction_trigger", _integer(1)),
    "num-levels": ("num_levels", _integer(2)),
    "compaction.max-size-amplification-percent": (
        "max_size_amplification_percent",
        _integer(0),
    ),
    "compaction.size-ratio": ("size_ratio", _integer(0)),
    "compaction.total-size-threshold": ("compaction_total_size_threshold", parse_size_bytes),
    "compaction.optimization-interval": ("compaction_optimization_interval_ms", parse_duration_ms),
    "compaction.force-up-level-0": ("compaction_force_up_level0", parse_bool),
    "write-only": ("write_only", parse_bool),
    "write-buffer-size": ("write_buffer_size", _positive_size),
    "sort-spill-threshold": ("sort_spill_threshold", _integer(1)),
    "sort-spill-buffer-size": ("sort_spill_buffer_size", _positive_size),
    "write-buffer-spillable": ("write_buffer_spillable", parse_bool),
    "num-sorted-run.stop-trigger": ("sorted_runs_stop_trigger", _integer(1)),
    "lookup-compact": ("lookup_compact_mode", _one_of("radical", "gentle")),
    "lookup-compact.max-interval": ("lookup_compact_max_interval", _integer(1)),
    "lookup-wait": ("lookup_wait", parse_bool),
    "lookup.cache-max-disk-size": ("lookup_cache_disk_size", parse_size_bytes),
    "force-lookup": ("force_lookup", parse_bool),
    "async-file-write": ("async_file_write", parse_bool),
    "full-compaction.delta-commits": ("full_compaction_delta_commits", _integer(1)),
    "manifest.format": ("manifest_format", _one_of("avro", "orc", "parquet")),
    "manifest.compression": (
        "manifest_compression",
        _one_of(*COMPRESSIONS, "zstandard"),
    ),
    "manifest.target-file-size": ("manifest_target_file_size", _positive_size),
    "manifest.merge-min-count": ("manifest_merge_min_count", _integer(1)),
    "manifest.full-compaction-threshold-size": (
        "manifest_full_compaction_size",
        _positive_size,
    ),
    "partition.default-name": ("partition_default_name", _directory_name_part),
    "partition.legacy-name": ("partition_legacy_name", parse_bool),
    "dynamic-partition-overwrite": ("dynamic_partition_overwrite", parse_bool),
    "snapshot.num-retained.min": ("snapshot_num_retained_min", _integer()),
    "snapshot.num-retained.max": ("snapshot_num_retained_max", _integer()),
    "snapshot.time-retained": ("snapshot_time_retained_ms", parse_duration_ms),
    "snapshot.expire.limit": ("snapshot_expire_limit", _integer(1)),
    "commit.max-retries": ("commit_max_retries", _integer(0)),
    "dynamic-bucket.target-row-num": ("dynamic_bucket_target_row_num", _integer(1)),
    "dynamic-bucket.initial-buckets": ("dynamic_bucket_initial_buckets", _integer(1)),
    "dynamic-bucket.max-buckets": ("dynamic_bucket_max_buckets", _integer(-1)),
    "dynamic-bucket.assigner-parallelism": ("dynamic_bucket_assigner_parallelism", _integer(1)),
    "clustering.columns": ("clustering_columns", _names),
    "clustering.strategy": ("clustering_strategy", _one_of("auto", "order", "zorder", "hilbert")),
    "zorder.var-length-contribution": ("zorder_bytes_of_text", _integer(1)),
    "postpone.default-bucket-num": ("postpone_default_bucket_num", _integer(1)),
    "bucket-append-ordered": ("bucket_append_ordered", parse_bool),
    "compaction.min.file-num": ("compaction_min_file_num", _integer(1)),
    "compaction.delete-ratio-threshold": ("compaction_delete_ratio_threshold", _share),
    "source.split.open-file-cost": ("open_file_cost", parse_size_bytes),
    "deletion-vector.index-file.target-size": ("deletion_vector_file_size", _positive_size),
    "scan.fallback-branch": ("scan_fallback_branch", lambda text: text.strip() or None),
}
OPTION_KEYS = frozenset(_KEYS)
"""The keys whose values are read here."""

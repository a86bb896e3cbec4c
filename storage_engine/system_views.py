"""System tables by name: ``t$snapshots`` and so on, and those of the whole warehouse (``sys.…``).

Spec: "System Tables" of Apache Paimon 1.3.1, with its column names. ``audit_log``, ``binlog`` and ``ro`` hold rows, all others
metadata. Those that are about one snapshot take a moment in time.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, NoReturn

import polars as pl

from storage_engine.errors import CorruptFile, FileMissing, InvalidInput, Unsupported
from storage_engine.read.changes import ROW_KIND
from storage_engine.read.time_travel import Moment, snapshot_at
from storage_engine.spec.schema import TableSchema
from storage_engine.store.live_files import LiveFiles
from storage_engine.system_tables import buckets_frame, files_frame, manifests_frame, partitions_frame, row_text
from storage_engine.table import Table

AUDIT_ROW_KIND = "rowkind"
SystemFrame = pl.DataFrame | pl.LazyFrame
_STATISTICS = pl.Schema(
    {
        "snapshot_id": pl.Int64(),
        "schema_id": pl.Int64(),
        "mergedRecordCount": pl.Int64(),
        "mergedRecordSize": pl.Int64(),
        "colstat": pl.String(),
    }
)
_AGGREGATION_FIELDS = pl.Schema(
    dict.fromkeys(("field_name", "field_type", "function", "function_options", "comment"), pl.String())
)
_RANGE = pl.Struct({"f0": pl.String(), "f1": pl.Int32(), "f2": pl.Int32(), "_CARDINALITY": pl.Int64()})
_TABLE_INDEXES = pl.Schema(
    {
        "partition": pl.String(),
        "bucket": pl.Int32(),
        "index_type": pl.String(),
        "file_name": pl.String(),
        "file_size": pl.Int64(),
        "row_count": pl.Int64(),
        "dv_ranges": pl.List(_RANGE),
    }
)


class SystemTable(Table):
    """A system table, which is read and not written: ``catalog.table("db.t$snapshots").scan()``."""

    def __init__(self, table: Table, kind: str) -> None:
        super().__init__(f"{table.name}${kind}", table.store, table.schema)
        self._table = table
        self._kind = kind

    def scan(
        self,
        *,
        snapshot: int | None = None,
        tag: str | None = None,
        timestamp: int | datetime | None = None,
        watermark: int | datetime | None = None,
        **_: Any,
    ) -> pl.LazyFrame:
        """What the system table says, now or as of a snapshot. Raises what ``Table.scan`` raises."""
        moment = Moment(snapshot=snapshot, tag=tag, timestamp=timestamp, watermark=watermark)
        return system_frame(self._table, self._kind, moment).lazy()

    def _refuse(self, *_: Any, **__: Any) -> NoReturn:
        raise Unsupported(f"table {self.name} is a system table, which is only read")

    write = overwrite = delete = update = compact = alter = _refuse


def system_frame(table: Table, kind: str, moment: Moment) -> SystemFrame:
    """What a system table says of a table. Raises InvalidInput for an unknown one, or for a moment where there is none."""
    check_system_table(table, kind)
    if kind in _OF_SNAPSHOT:
        return _OF_SNAPSHOT[kind](table, moment)
    if moment.given:
        raise InvalidInput(
            f"the system table ${kind} is about the table as it is now: leave snapshot, tag and time out"
        )
    return _OF_TABLE[kind](table)


def check_system_table(table: Table, kind: str) -> None:
    """Refuse a system table that there is none of. Raises InvalidInput."""
    if kind not in SYSTEM_TABLES:
        raise InvalidInput(f"table {table.name} has no system table ${kind}; known: {', '.join(SYSTEM_TABLES)}")


def with_changes(kind: str, changes: pl.LazyFrame) -> pl.LazyFrame:
    """``audit_log`` or ``binlog`` of changes between two snapshots."""
    renamed = changes.rename({ROW_KIND: AUDIT_ROW_KIND})
    return renamed if kind == "audit_log" else _packed(renamed)


def _audit_log(table: Table, moment: Moment) -> pl.LazyFrame:
    """The rows as inserts."""
    return _rows(table, moment).select(pl.lit("+I").alias(AUDIT_ROW_KIND), pl.all())


def _binlog(table: Table, moment: Moment) -> pl.LazyFrame:
    return _packed(_audit_log(table, moment))


def _packed(changes: pl.LazyFrame) -> pl.LazyFrame:
    """One row a change: every column is a list of the value, of an update those before and after it."""
    kind = pl.col(AUDIT_ROW_KIND)
    names = [name for name in changes.collect_schema().names() if name != AUDIT_ROW_KIND]
    updated = (kind == "+U") & (kind.shift(1) == "-U")
    lists = [
        pl.when(updated)
        .then(pl.concat_list(pl.col(name).shift(1).repeat_by(1), pl.col(name).repeat_by(1)))
        .otherwise(pl.col(name).repeat_by(1))
        .alias(name)
        for name in names
    ]
    is_before = (kind == "-U") & (kind.shift(-1) == "+U").fill_null(value=False)
    return changes.with_columns(*lists, is_before.alias("__before")).filter(~pl.col("__before")).drop("__before")


def _rows(table: Table, moment: Moment, *, read_optimized: bool = False) -> pl.LazyFrame:
    return table.scan(
        snapshot=moment.snapshot,
        tag=moment.tag,
        timestamp=moment.timestamp,
        watermark=moment.watermark,
        read_optimized=read_optimized,
    )


def _statistics(table: Table, moment: Moment) -> pl.DataFrame:
    """The newest statistics up to a snapshot; no rows if none were made."""
    snapshot = snapshot_at(table.store, moment, table=table.name)
    if snapshot is None or snapshot.statistics is None:
        return pl.DataFrame(schema=_STATISTICS)
    path = table.store.paths.statistics_file(snapshot.statistics)
    try:
        found = json.loads(table.store.io.read_bytes(path))
        columns = json.dumps(found["colStats"], ensure_ascii=False, indent=2, separators=(",", " : "))
        row = (found["snapshotId"], found["schemaId"], found.get("mergedRecordCount"), found.get("mergedRecordSize"))
    except FileMissing:
        raise
    except (ValueError, KeyError, TypeError) as cause:
        raise CorruptFile(f"{path}: not statistics: {cause!r}") from cause
    return pl.DataFrame([(*row, columns)], schema=_STATISTICS, orient="row")


def _aggregation_fields(table: Table) -> pl.DataFrame:
    """Columns, and what the options ``fields.<column>.…`` say of them."""
    schema = table.schema
    rows = [
        (field.name, str(field.type), _listed(schema, field.name, 1), _listed(schema, field.name, 0), field.description)
        for field in schema.fields
    ]
    return pl.DataFrame(rows, schema=_AGGREGATION_FIELDS, orient="row")


def _listed(schema: TableSchema, column: str, part: int) -> str:
    """Keys (0) or values (1) of a column's options, ``[sum]``."""
    found = [item[part] for item in schema.options.items() if item[0].split(".")[:2] == ["fields", column]]
    return "[" + ", ".join(found) + "]"


def _table_indexes(table: Table, moment: Moment) -> pl.DataFrame:
    """The index files of a snapshot."""
    snapshot = snapshot_at(table.store, moment, table=table.name)
    if snapshot is None or snapshot.index_manifest is None:
        return pl.DataFrame(schema=_TABLE_INDEXES)
    live = LiveFiles(table.store, table.schema)
    rows = [
        (
            row_text(live.partition_values(entry.partition)),
            entry.bucket,
            entry.index_file.index_type,
            entry.index_file.file_name,
            entry.index_file.file_size,
            entry.index_file.row_count,
            _ranges(entry.index_file.deletion_vector_ranges),
        )
        for entry in live.manifests.read_index(snapshot.index_manifest)
    ]
    return pl.DataFrame(rows, schema=_TABLE_INDEXES, orient="row")


def _ranges(ranges: Sequence[Any] | None) -> list[dict[str, object]] | None:
    if ranges is None:
        return None
    return [
        {"f0": each.data_file_name, "f1": each.offset, "f2": each.length, "_CARDINALITY": each.cardinality}
        for each in ranges
    ]


_OF_TABLE: Mapping[str, Callable[[Table], SystemFrame]] = {
    "snapshots": Table.snapshots,
    "schemas": Table.schemas,
    "options": Table.options,
    "tags": Table.tags,
    "branches": Table.branches,
    "consumers": Table.consumers,
    "aggregation_fields": _aggregation_fields,
}
_OF_SNAPSHOT: Mapping[str, Callable[[Table, Moment], SystemFrame]] = {
    "files": lambda table, at: files_frame(table.store, table.schema, snapshot_at(table.store, at, table=table.name)),
    "manifests": lambda table, at: manifests_frame(
        table.store, table.schema, snapshot_at(table.store, at, table=table.name)
    ),
    "partitions": lambda table, at: partitions_frame(
        table.store, table.schema, snapshot_at(table.store, at, table=table.name)
    ),
    "buckets": lambda table, at: buckets_frame(
        table.store, table.schema, snapshot_at(table.store, at, table=table.name)
    ),
    "statistics": _statistics,
    "table_indexes": _table_indexes,
    "audit_log": _audit_log,
    "binlog": _binlog,
    "ro": lambda table, at: _rows(table, at, read_optimized=True),
}
SYSTEM_TABLES = (*_OF_TABLE, *_OF_SNAPSHOT)


def all_table_options(tables: Iterator[Table]) -> pl.DataFrame:
    """``sys.all_table_options``: one row an option of a table."""
    rows = [
        (*table.name.split(".", 1), key, value)
        for table in tables
        for key, value in sorted(table.schema.options.items())
    ]
    names = ("database_name", "table_name", "key", "value")
    return pl.DataFrame(rows, schema=dict.fromkeys(names, pl.String()), orient="row")


def catalog_options(url: str) -> pl.DataFrame:
    """``sys.catalog_options``: where the warehouse is, without credentials."""
    return pl.DataFrame({"key": ["warehouse"], "value": [url]})

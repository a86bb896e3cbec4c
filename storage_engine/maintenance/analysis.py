"""ANALYZE TABLE: statistics of a snapshot as a file that a commit of their own refers to.

Spec: ``ANALYZE TABLE`` of Apache Paimon 1.3.1. Query planners of other engines read them; here they are ``t$statistics``.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

import polars as pl

from storage_engine.errors import InvalidInput
from storage_engine.kernel.column_statistics import column_statistics, has_statistics
from storage_engine.spec.schema import TableSchema
from storage_engine.spec.snapshot import Snapshot
from storage_engine.spec.types import DataField
from storage_engine.store.live_files import LiveFiles
from storage_engine.store.paths import FileNames
from storage_engine.store.table_store import TableStore

_PREFIX = "stat-"


def analyzed_fields(schema: TableSchema, columns: Sequence[str] | None, *, table: str) -> list[DataField]:
    """The columns to be looked at; None is all that can be. Raises InvalidInput for one that is not known, or nested."""
    if columns is None:
        return [field for field in schema.fields if has_statistics(field.type)]
    for name in columns:
        if name not in schema.by_name:
            raise InvalidInput(f"table {table} has no column {name!r}; columns: {', '.join(schema.column_names)}")
        if not has_statistics(schema.by_name[name].type):
            raise InvalidInput(
                f"table {table}: column {name!r} of type {schema.by_name[name].type.sql} has no statistics"
            )
    return [schema.by_name[name] for name in columns]


def write_statistics(
    store: TableStore, schema: TableSchema, snapshot: Snapshot, rows: pl.LazyFrame, fields: Sequence[DataField]
) -> str:
    """Write the statistics of a snapshot, whose merged rows are given; returns the file's name."""
    count, columns = column_statistics(rows, fields)
    stored = sum(entry.file.file_size for entry in LiveFiles(store, schema).entries(snapshot))
    total = snapshot.total_record_count
    document = {
        "snapshotId": snapshot.id,
        "schemaId": snapshot.schema_id,
        "mergedRecordCount": count,
        "mergedRecordSize": stored * count // total if total else 0,
        "colStats": columns,
    }
    name = FileNames(_PREFIX).next()
    store.io.write_new(store.paths.statistics_file(name), json.dumps(document, indent=2, ensure_ascii=False).encode())
    return name

"""What manifests say of the values of a table's columns, file by file and in all, by today's columns.

Spec: "Manifest / SimpleStats" of Apache Paimon 1.3.1.
"""

from __future__ import annotations

from typing import Any

import polars as pl

from storage_engine.codec.binary_row import deserialize_row, serialize_row
from storage_engine.spec.manifest import DataFileMeta
from storage_engine.spec.schema import TableSchema
from storage_engine.spec.snapshot import Snapshot
from storage_engine.store.live_files import LiveFiles
from storage_engine.store.manifest_cache import ALL_ENTRIES, EntryFilter
from storage_engine.store.table_store import TableStore

Named = dict[str, Any]


def value_bounds(store: TableStore, schema: TableSchema, file: DataFileMeta) -> tuple[Named, Named, Named]:
    """Null counts, minima and maxima by column, None where nothing is known; a column that the file lacks is all null."""
    written = schema if file.schema_id == schema.id else store.schemas.get(file.schema_id)
    names = written.column_names if file.value_stats_cols is None else file.value_stats_cols
    stats = file.value_stats
    if len(stats.null_counts) != len(names):
        names = ()
    types = written.types_of(names)
    lows = deserialize_row(types, stats.min_values) if names else ()
    highs = deserialize_row(types, stats.max_values) if names else ()
    places = {written.by_name[name].id: place for place, name in enumerate(names)}
    known = {field.id for field in written.fields}
    nulls: Named = {field.name: None if field.id in known else file.row_count for field in schema.fields}
    found = {field.name: places[field.id] for field in schema.fields if field.id in places}
    nulls |= {name: stats.null_counts[place] for name, place in found.items()}
    unknown: Named = dict.fromkeys(schema.column_names)
    return (
        nulls,
        unknown | {name: lows[place] for name, place in found.items()},
        unknown | {name: highs[place] for name, place in found.items()},
    )


def highest_value(
    store: TableStore,
    schema: TableSchema,
    snapshot: Snapshot | None,
    column: str,
    partitions: pl.DataFrame | None = None,
) -> tuple[bool, Any]:
    """Whether files tell a bound above all values of a column, and that bound, None: there are none.

    ``partitions``: values of the partition columns, each once, None: all. What was deleted or overwritten may still stand in
    files, so that there may be no such value any more.
    """
    keep = ALL_ENTRIES
    if partitions is not None and schema.partition_keys:
        types = schema.types_of(schema.partition_keys)
        keep = EntryFilter.of_partitions(frozenset(serialize_row(types, values) for values in partitions.iter_rows()))
    highest: Any = None
    for entry in LiveFiles(store, schema).entries(snapshot, keep=keep):
        nulls, _, highs = value_bounds(store, schema, entry.file)
        high = highs[column]
        if high is None and nulls[column] != entry.file.row_count:
            return False, None
        if high is not None and (highest is None or high > highest):
            highest = high
    return True, highest

"""What Dagster's pages show of a table and of a batch: standard keys, numbers that plot, and small tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import dagster as dg
import polars as pl

from lakehouse_assets.health import compaction_debt
from lakehouse_assets.stream.audit import AuditResult
from lakehouse_assets.stream.declaration import Stream
from lakehouse_assets.stream.repair import RepairResult
from lakehouse_assets.stream.runner import BatchResult
from storage_engine import Table
from storage_engine.spec.schema import TableSchema
from storage_engine.sql.show import create_table_text

SHOWN_SNAPSHOTS: Final = 5
SAMPLE_ROWS: Final = 5
COUNTED_ROWS_MAX: Final = 2_000_000
"""Physical rows up to which a table's rows are counted for its page."""

Metadata = dict[str, Any]


def column_schema(schema: TableSchema) -> dg.TableSchema:
    """The Columns tab: types as SQL, keys, nullability, and the options that shape the table."""
    key = schema.primary_keys
    columns = [
        dg.TableColumn(
            name=field.name,
            type=field.type.sql,
            description=field.description,
            constraints=dg.TableColumnConstraints(
                nullable=field.type.nullable and field.name not in key,
                unique=key == (field.name,),
                other=["primary key"] if field.name in key else [],
            ),
        )
        for field in schema.fields
    ]
    chips = [f"PRIMARY KEY ({', '.join(key)})", *(f"{name}={value}" for name, value in sorted(schema.options.items()))]
    return dg.TableSchema(columns=columns, constraints=dg.TableConstraints(other=chips))


def definition_metadata(table: str, schema: TableSchema, *, partition_column: str | None) -> Metadata:
    """What is known of a table before it is materialized."""
    metadata: Metadata = {
        "dagster/table_name": table,
        "dagster/storage_kind": "paimon",
        "dagster/column_schema": column_schema(schema),
        "definition": dg.MetadataValue.md(f"```sql\n{create_table_text(table, schema)}\n```"),
    }
    return metadata if partition_column is None else {**metadata, "partition_expr": partition_column}


Origins = Mapping[str, Sequence[tuple[str, str]]]
"""Column of a table → the columns that it comes from, as (table, column)."""


def column_origins(
    streams: Sequence[Stream], columns: Sequence[str], source_columns: Mapping[str, Sequence[str]]
) -> Origins:
    """Where the columns of a target come from: their own names, lookups, or what its streams declare.

    ``source_columns``: the columns of each driving source.
    """
    return {
        column: list(
            dict.fromkeys(
                origin for stream in streams for origin in stream.origins(column, source_columns[stream.source])
            )
        )
        for column in columns
    }


def column_lineage(origins: Origins) -> dg.TableColumnLineage:
    """Which columns each column of the target comes from."""
    return dg.TableColumnLineage(
        {
            column: [dg.TableColumnDep(asset_key=asset_key(table), column_name=name) for table, name in found]
            for column, found in origins.items()
        }
    )


def lineage_markdown(origins: Origins) -> str:
    """Column lineage as text, for pages that do not draw it."""
    lines = ["| column | from |", "|---|---|"]
    for column, found in origins.items():
        lines.append(f"| `{column}` | {', '.join(f'`{table}.{name}`' for table, name in found) or '-'} |")
    return "\n".join(lines)


def asset_key(table: str) -> dg.AssetKey:
    """The asset of a table, ``layer.name``."""
    return dg.AssetKey(table.split("."))


def table_metadata(table: Table, *, warehouse: str, rows: int | None = None) -> Metadata:
    """The state of a table now: rows (counted, unless they are known), files, last snapshots, a sample."""
    latest = table.latest_snapshot()
    files = table.files()
    metadata: Metadata = {
        "dagster/table_name": table.name,
        "dagster/uri": f"{warehouse.rstrip('/')}/{table.name.replace('.', '.db/')}",
        "dagster/column_schema": column_schema(table.schema),
        "files": files.height,
        "level0_files": int((files["level"] == 0).sum()),
        "file_bytes": int(files["file_size_in_bytes"].sum()),
        "compaction_debt_bytes": compaction_debt(files),
        "physical_rows": int(files["record_count"].sum()),
        "last_snapshots": dg.MetadataValue.md(_snapshots_markdown(table)),
    }
    if metadata["physical_rows"] <= COUNTED_ROWS_MAX:
        metadata["dagster/row_count"] = row_count(table) if rows is None else rows
        metadata["sample"] = dg.MetadataValue.md(markdown_table(table.scan().head(SAMPLE_ROWS).collect()))
    if latest is not None:
        metadata["snapshot"] = latest.id
    return metadata


def row_count(table: Table) -> int:
    """Number of rows, merged."""
    key = table.schema.primary_keys[:1] or table.schema.column_names[:1]
    counted = table.scan().select(key).select(pl.len()).collect()
    return int(counted.item())


def partition_row_counts(table: Table, column: str) -> dict[str, int]:
    """Number of rows by the values of a column."""
    counted = table.scan().group_by(column).len().collect()
    return dict(zip(counted[column].cast(pl.String).to_list(), counted["len"].to_list(), strict=True))


def batch_metadata(result: BatchResult) -> Metadata:
    """One batch, as numbers that plot."""
    written = result.rows_written
    metadata: Metadata = {
        "snapshot": result.snapshot.id,
        "commit_identifier": result.snapshot.commit_identifier,
        "rows_read": result.rows_read,
        "rows_written": sum(written.values()),
        "rows_deleted": written.get("-D", 0) + written.get("-U", 0),
        "rows_reemitted": result.rows_reemitted,
        "rows_rejected": result.rows_rejected,
        "rows_behind": result.rows_behind,
        "duration_ms": result.duration_ms,
        "commit_ms": result.commit_ms,
        "partitions_touched": len(result.partitions),
        "consumed": dg.MetadataValue.md(_consumed_markdown(result)),
    }
    for part, own in result.parts.items():
        metadata |= {f"rows_read {part}": own.rows_read, f"rows_behind {part}": own.rows_behind}
    if result.latency_ms is not None:
        metadata["latency_ms"] = result.latency_ms
    if result.lookups:
        metadata["lookups"] = dg.MetadataValue.md(_lookups_markdown(result))
        metadata["lookup_hit_rate"] = min(stats.hit_rate for stats in result.lookups.values())
        metadata["lookup_cache_bytes"] = sum(stats.cached_bytes for stats in result.lookups.values())
        metadata["lookup_cache_hit_rate"] = min(stats.cache_hit_rate for stats in result.lookups.values())
        metadata["lookup_misses"] = sum(stats.misses for stats in result.lookups.values())
        metadata["lookup_refresh_ms"] = sum(stats.refresh_ms for stats in result.lookups.values())
        metadata["lookup_snapshots_behind"] = max(stats.snapshots_behind for stats in result.lookups.values())
    return metadata


def repair_metadata(result: RepairResult) -> Metadata:
    """One repair: what it found, and what it changed."""
    metadata: Metadata = {
        "rows_checked": result.rows,
        "rows_written": sum(result.rows_written.values()),
        "partitions_changed": len(result.partitions),
        "attempts": result.attempts,
    }
    return metadata if result.snapshot is None else {**metadata, "snapshot": result.snapshot.id}


def audit_metadata(result: AuditResult) -> Metadata:
    """An audited repair: what it changes against main, and how its checks came out on the branch."""
    found = result.difference
    outcomes = [
        f"| {name} | {_verdict(outcome.passed, outcome.warning)} | {outcome.description} |"
        for name, outcome in result.outcomes.items()
    ]
    metadata: Metadata = {
        "rows_added": found.added,
        "rows_changed": found.changed,
        "rows_removed": found.removed,
        "difference": dg.MetadataValue.md(markdown_table(found.sample) if found else "none"),
        "audit": dg.MetadataValue.md("\n".join(["| check | | |", "|---|---|---|", *outcomes])),
    }
    if result.branch is not None and result.repaired is None:
        metadata["branch"] = result.branch
    return metadata if result.repaired is None else metadata | repair_metadata(result.repaired)


def _verdict(passed: bool, warning: bool) -> str:
    return "passed" if passed else "warning" if warning else "**failed**"


def markdown_table(rows: pl.DataFrame) -> str:
    """A small frame as a Markdown table."""
    with pl.Config(
        tbl_formatting="MARKDOWN",
        tbl_hide_column_data_types=True,
        tbl_hide_dataframe_shape=True,
        tbl_rows=50,
        tbl_cols=50,
        tbl_width_chars=10_000,
        fmt_str_lengths=60,
    ):
        return str(rows)


def _snapshots_markdown(table: Table) -> str:
    newest = [
        {
            "snapshot": snapshot.id,
            "kind": snapshot.commit_kind.value,
            "user": snapshot.commit_user,
            "identifier": snapshot.commit_identifier,
            "rows": snapshot.delta_record_count,
            "changelog": snapshot.changelog_record_count,
        }
        for snapshot, _ in zip(table.store.snapshots.backwards(), range(SHOWN_SNAPSHOTS), strict=False)
    ]
    return markdown_table(pl.DataFrame(newest)) if newest else "none yet"


def _consumed_markdown(result: BatchResult) -> str:
    rows = [
        f"| {source} | {'start' if old is None else old} | {new} |"
        for each in (result.parts.values() or [result])
        for source, (old, new) in each.consumed.items()
    ]
    return "\n".join(["| source | after | until |", "|---|---|---|", *rows])


def _lookups_markdown(result: BatchResult) -> str:
    rows = [
        f"| {name} | {stats.strategy} | {stats.workers} | {stats.reason} | {stats.hit_rate:.2%} | {stats.misses}"
        f" | {stats.cached_rows} | {stats.cached_bytes} | {stats.refresh_ms} | {stats.snapshots_behind} |"
        for name, stats in result.lookups.items()
    ]
    names = (
        "lookup",
        "strategy",
        "workers",
        "why",
        "hits",
        "misses",
        "rows held",
        "bytes held",
        "refresh ms",
        "behind",
    )
    head = [f"| {' | '.join(names)} |", "|---" * len(names) + "|"]
    return "\n".join([*head, *rows])

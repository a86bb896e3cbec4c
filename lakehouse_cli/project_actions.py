"""What the commands on SQL projects do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import polars as pl

from lakehouse_assets.flink_sql.project import SqlProject, load_project
from lakehouse_assets.resources import LakehouseResource
from lakehouse_assets.stream.declaration import Stream, by_target
from lakehouse_assets.stream.runner import BatchResult, StreamRunner

_DECLARED: Final = pl.Schema(
    {name: pl.String() for name in ("kind", "target", "source", "lookups", "reads", "repaired by")}
)
_MOVED: Final = pl.Schema(
    {"target": pl.String(), "batches": pl.Int64(), "rows_read": pl.Int64(), "rows_written": pl.Int64()}
)


def declared(folder: str, database: str) -> pl.DataFrame:
    """One row an ingestion, stream or batch statement. Raises SqlError and NotIncremental."""
    project = load_project(folder, database=database)
    ingested = [("ingestion", each.target, each.source_table, "", "", "") for each in project.ingestions]
    rows = ingested + [
        (
            kind,
            stream.target,
            stream.source,
            ", ".join(lookup.table for lookup in stream.lookups),
            stream.reads,
            "" if stream.repair is None else f"{stream.repair.column} ({stream.repair.mode})",
        )
        for kind, stream in _all(project)
    ]
    return pl.DataFrame(rows, schema=_DECLARED, orient="row")


def moved(folder: str, database: str, warehouse: str) -> pl.DataFrame:
    """Ingest what is there, and run every stream of a project to its end; one row a stream and an ingested table."""
    project = load_project(folder, database=database)
    lakehouse = LakehouseResource(warehouse=warehouse, ddl=project.ddl)
    catalog = lakehouse.catalog()
    rows = _ingested(lakehouse, project)
    for target, streams in by_target(project.streams).items():
        runners = [StreamRunner(catalog, stream) for stream in streams]
        found = [result for runner in runners for result in iter(runner.run_batch, None) if result is not None]
        rows.append(_summed(target, found))
    return pl.DataFrame(rows, schema=_MOVED, orient="row")


def _ingested(lakehouse: LakehouseResource, project: SqlProject) -> list[tuple[str, int, int, int]]:
    if project.changes is None:
        return []
    ingester = project.changes.ingester(lakehouse, project.ingestions)
    results = [result for batch in iter(ingester.run_batch, []) for result in batch]
    return [
        _summed(each.target, [result for result in results if result.target == each.target])
        for each in project.ingestions
    ]


def _summed(target: str, results: Sequence[BatchResult]) -> tuple[str, int, int, int]:
    read = sum(result.rows_read for result in results)
    return target, len(results), read, sum(sum(result.rows_written.values()) for result in results)


def _all(project: SqlProject) -> list[tuple[str, Stream]]:
    batches = [query.stream for batch in project.batches for query in batch.queries]
    return [("stream", stream) for stream in project.streams] + [("batch", stream) for stream in batches]

"""What the commands on SQL projects do."""

from __future__ import annotations

from typing import Final

import polars as pl

from lakehouse_assets.flink_sql.project import SqlProject, load_project
from lakehouse_assets.stream.declaration import Stream
from lakehouse_assets.stream.runner import StreamRunner
from storage_engine import Catalog

_DECLARED: Final = pl.Schema(
    {name: pl.String() for name in ("kind", "target", "source", "lookups", "reads", "repaired by")}
)
_MOVED: Final = pl.Schema(
    {"target": pl.String(), "batches": pl.Int64(), "rows_read": pl.Int64(), "rows_written": pl.Int64()}
)


def declared(folder: str, database: str) -> pl.DataFrame:
    """One row a stream or batch statement. Raises SqlError and NotIncremental."""
    project = load_project(folder, database=database)
    rows = [
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
    """Run every stream of a project to its end; one row a stream."""
    project = load_project(folder, database=database)
    catalog = Catalog(warehouse)
    catalog.execute(project.ddl)
    rows = []
    for stream in project.streams:
        runner = StreamRunner(catalog, stream)
        results = [result for result in iter(runner.run_batch, None) if result is not None]
        read = sum(result.rows_read for result in results)
        written = sum(sum(result.rows_written.values()) for result in results)
        rows.append((stream.target, len(results), read, written))
    return pl.DataFrame(rows, schema=_MOVED, orient="row")


def _all(project: SqlProject) -> list[tuple[str, Stream]]:
    return [("stream", stream) for stream in project.streams] + [("batch", batch.stream) for batch in project.batches]

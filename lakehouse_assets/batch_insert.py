"""A query of a stream run once over its source as it is now: rows into some partitions, for repair."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from lakehouse_assets.stream.declaration import Stream
from lakehouse_assets.stream.errors import InvalidStream
from lakehouse_assets.stream.repair import RepairResult
from lakehouse_assets.stream.runner import StreamRunner, kind_counts, touched_partitions
from lakehouse_assets.stream.source import RETRACTIONS, ROW_KIND, complete_snapshot, read_state
from storage_engine import Catalog


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchInsert:
    """``INSERT … WHERE v_date BETWEEN a AND b``, or OVERWRITE: rows of a source into some partitions of the target.

    ``stream`` is the same query without the bound; ``column`` the target's partition column, ``source`` its value from
    columns of the source, ``bound`` the condition that stands in the statement (None: all).
    """

    stream: Stream
    overwrite: bool
    column: str | None = None
    source: pl.Expr | None = None
    bound: pl.Expr | None = None

    @property
    def target(self) -> str:
        """The table that it fills."""
        return self.stream.target

    def run(self, catalog: Catalog, values: Sequence[str] | None = None) -> RepairResult:
        """Write the rows of some partitions (None: those of the statement) in one commit; the stream goes on beside it.

        The order of events decides which row of a key stays, so it may be repeated. Raises what the engine raises.
        """
        runner = StreamRunner(catalog, self.stream)
        if values is not None and self.source is None:
            raise InvalidStream(f"{self.stream.description} {self.target} has no partition column that it names")
        chosen = self.bound if values is None or self.source is None else self.source.is_in(list(values))
        snapshots = {name: complete_snapshot(table) for name, table in runner.tables.items()}
        rows = read_state(runner.tables[self.stream.source], snapshots[self.stream.source], chosen)
        written = runner.transformed(rows, snapshots)
        written = written.filter(~pl.col(ROW_KIND).is_in(RETRACTIONS)).drop(ROW_KIND)
        if self.overwrite:
            partitions = None if values is None or self.column is None else [{self.column: each} for each in values]
            snapshot = runner.target.overwrite(written, partitions=partitions)
        else:
            snapshot = None if written.is_empty() else runner.target.write(written)
        return RepairResult(
            target=self.target,
            snapshot=snapshot,
            rows=written.height,
            rows_written=kind_counts(written),
            partitions=touched_partitions(runner.target, written),
        )

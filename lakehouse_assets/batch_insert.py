"""A query of a stream run once over its source as it is now: rows into some partitions, for repair."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from lakehouse_assets.stream.blame import Blaming
from lakehouse_assets.stream.declaration import Stream, sources_of
from lakehouse_assets.stream.errors import InvalidStream
from lakehouse_assets.stream.repair import RepairResult
from lakehouse_assets.stream.runner import StreamRunner, kind_counts, touched_partitions
from lakehouse_assets.stream.source import RETRACTIONS, ROW_KIND, complete_snapshot, read_state
from storage_engine import Catalog


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """One query of a statement: see ``BatchInsert``."""

    stream: Stream
    source: pl.Expr | None = None
    bound: pl.Expr | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchInsert:
    """``INSERT … WHERE v_date BETWEEN a AND b``, or OVERWRITE: rows of a source into some partitions of the target.

    ``stream`` is the same query without the bound; ``column`` the target's partition column, ``source`` its value from
    columns of the source, ``bound`` the condition that stands in the statement (None: all). ``others``: further queries, whose
    rows are written with those of the first (UNION ALL).
    """

    stream: Stream
    overwrite: bool
    column: str | None = None
    source: pl.Expr | None = None
    bound: pl.Expr | None = None
    others: tuple[Query, ...] = ()

    @property
    def queries(self) -> tuple[Query, ...]:
        """All queries, the first included."""
        return (Query(stream=self.stream, source=self.source, bound=self.bound), *self.others)

    @property
    def sources(self) -> tuple[str, ...]:
        """Every table that is read, each once."""
        return sources_of(query.stream for query in self.queries)

    @property
    def target(self) -> str:
        """The table that it fills."""
        return self.stream.target

    def run(self, catalog: Catalog, values: Sequence[str] | None = None) -> RepairResult:
        """Write the rows of some partitions (None: those of the statement) in one commit; the stream goes on beside it.

        The order of events decides which row of a key stays, so it may be repeated. Raises what the engine raises.
        """
        with Blaming(*(query.stream for query in self.queries)):
            return self._run(catalog, values)

    def _run(self, catalog: Catalog, values: Sequence[str] | None) -> RepairResult:
        if values is not None and self.source is None:
            raise InvalidStream(
                f"a batch statement names no partition column of {self.target}: run it without partitions"
            )
        target = catalog.table(self.target)
        written = pl.concat([_rows(catalog, query, values) for query in self.queries])
        if self.overwrite:
            partitions = None if values is None or self.column is None else [{self.column: each} for each in values]
            snapshot = target.overwrite(written, partitions=partitions)
        else:
            snapshot = None if written.is_empty() else target.write(written)
        return RepairResult(
            target=self.target,
            snapshot=snapshot,
            rows=written.height,
            rows_written=kind_counts(written),
            partitions=touched_partitions(target, written),
        )


def _rows(catalog: Catalog, query: Query, values: Sequence[str] | None) -> pl.DataFrame:
    """What a query gives, as the target's rows."""
    runner = StreamRunner(catalog, query.stream)
    chosen = query.bound if values is None or query.source is None else query.source.is_in(list(values))
    snapshots = {name: complete_snapshot(table) for name, table in runner.tables.items()}
    rows = read_state(runner.tables[query.stream.source], snapshots[query.stream.source], chosen)
    written = runner.transformed(rows, snapshots)
    return written.filter(~pl.col(ROW_KIND).is_in(RETRACTIONS)).drop(ROW_KIND)

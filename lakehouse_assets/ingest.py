"""Ingestion: changes of a source → the table that mirrors it, exactly once, with refused lines in quarantine.

The position in the source stands in the target's own snapshot, as for streams of tables. Refused lines are written
first, under the key of file and line: whoever is killed in between writes them again, over the same rows.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import polars as pl

from lakehouse_assets.sources.change_source import DELETED, EVENT_TIME, OP, ChangeSource, SourceBatch, SourceTable
from lakehouse_assets.stream.errors import StreamBusy
from lakehouse_assets.stream.offsets import Consumed, properties
from lakehouse_assets.stream.runner import BatchResult, kind_counts, touched_partitions
from lakehouse_assets.stream.source import settle
from storage_engine import Catalog, Table
from storage_engine.errors import OffsetConflict
from storage_engine.spec.schema import TableSchema

ATTEMPTS: Final = 20
QUARANTINE: Final = "ods.quarantine"
BOOKKEEPING: Final = (OP, DELETED)
POSITION: Final = "source"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ingestion:
    """A table of a source and its mirror. ``added``: columns of the target that the source's rows do not have.

    ``days``: String columns that must hold a day of the calendar; partition columns named ``v_date`` should.
    """

    source_table: str
    target: str
    added: tuple[str, ...] = BOOKKEEPING
    days: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The name, which is also the commit user."""
        return f"stream-{self.target}"

    def expected(self, schema: TableSchema) -> SourceTable:
        """What the source's rows must be to fit the target."""
        return SourceTable(
            name=self.source_table,
            target=self.target,
            columns={name: dtype for name, dtype in schema.polars_schema.items() if name not in self.added},
            required=frozenset({*schema.primary_keys, EVENT_TIME}),
            days=frozenset(self.days),
        )


class Ingester:
    """Lands the changes of one source in its tables."""

    def __init__(
        self,
        catalog: Catalog,
        source: ChangeSource,
        ingestions: Sequence[Ingestion],
        *,
        quarantine: str = QUARANTINE,
        max_rows: int = 1_000_000,
    ) -> None:
        """Raises TableNotFound."""
        self.source = source
        self.ingestions = tuple(ingestions)
        self.tables = {ingestion.target: catalog.table(ingestion.target) for ingestion in ingestions}
        self.quarantine = catalog.table(quarantine)
        self._max_rows = max_rows

    def run_batch(self) -> list[BatchResult]:
        """Land the next changes of each table, one commit a table; tables without news are left out.

        Raises SourceError, StreamBusy, and what the engine raises.
        """
        for table in (*self.tables.values(), self.quarantine):
            settle(table)
        done: list[BatchResult] = []
        for _ in range(ATTEMPTS):
            left = [each for each in self.ingestions if each.target not in {result.target for result in done}]
            offsets = {each.target: self._offsets(each) for each in left}
            batches = self.source.read(
                [(self._expected(each), _position(offsets[each.target])) for each in left], max_rows=self._max_rows
            )
            try:
                for each in left:
                    if each.source_table in batches:
                        batch = batches[each.source_table]
                        done.append(self._commit(each, batch, offsets[each.target]))
            except OffsetConflict:
                continue
            return done
        raise StreamBusy(f"{self.source.name}: other runs committed first {ATTEMPTS} times; run it again")

    def waiting(self) -> list[str]:
        """Targets for which the source has something new. Raises SourceError."""
        asked = [(self._expected(each), _position(self._offsets(each))) for each in self.ingestions]
        news = self.source.read(asked, max_rows=1)
        return [each.target for each in self.ingestions if each.source_table in news]

    def reload(self, ingestion: Ingestion, predicate: pl.Expr | None = None) -> BatchResult | None:
        """Upsert all rows (or some) that the source has of a table, for repair; None if there are none.

        The order of events decides which row of a key stays, so it is safe beside the stream and may be repeated.
        """
        started = time.perf_counter()
        table = self.tables[ingestion.target]
        batch = self.source.everything(self._expected(ingestion))
        self.quarantine_rows(ingestion.target, batch.rejected)
        rows = batch.rows if predicate is None else batch.rows.filter(predicate)
        snapshot = table.write(rows.select(table.schema.column_names))
        if snapshot is None:
            return None
        return BatchResult(
            target=ingestion.target,
            snapshot=snapshot,
            consumed={},
            rows_read=batch.rows.height,
            rows_reemitted=0,
            rows_written=kind_counts(rows),
            partitions=touched_partitions(table, rows),
            duration_ms=_ms_since(started),
            commit_ms=_ms_since(started),
            latency_ms=None,
            rows_rejected=batch.rejected.height,
        )

    def quarantine_rows(self, target: str, rejected: pl.DataFrame) -> None:
        """Keep refused lines of a table; the same line again replaces itself, and one that was replayed stays so."""
        if rejected.is_empty():
            return
        now = datetime.now(UTC).replace(tzinfo=None)
        self.quarantine.write(
            rejected.with_columns(
                pl.lit(target).alias("target"), pl.lit(now).cast(pl.Datetime("ms")).alias("quarantined_at")
            )
        )

    def _offsets(self, ingestion: Ingestion) -> Consumed:
        return Consumed.of(self.tables[ingestion.target], ingestion.name)

    def _expected(self, ingestion: Ingestion) -> SourceTable:
        return ingestion.expected(self.tables[ingestion.target].schema)

    def _commit(self, ingestion: Ingestion, batch: SourceBatch, offsets: Consumed) -> BatchResult:
        started = time.perf_counter()
        table: Table = self.tables[ingestion.target]
        self.quarantine_rows(ingestion.target, batch.rejected)
        rows = batch.rows.select(table.schema.column_names)
        snapshot = table.write(
            rows,
            commit_user=ingestion.name,
            commit_identifier=offsets.next_identifier,
            properties=properties({POSITION: batch.position}),
            expected_offsets={ingestion.name: offsets.identifier},
        )
        if snapshot is None:
            raise OffsetConflict(f"table {table.name}: {ingestion.name} committed {offsets.next_identifier} before")
        return BatchResult(
            target=ingestion.target,
            snapshot=snapshot,
            consumed={self.source.name: (_position(offsets), batch.position)},
            rows_read=batch.rows.height + batch.rejected.height,
            rows_reemitted=0,
            rows_written=kind_counts(rows),
            partitions=touched_partitions(table, rows),
            duration_ms=_ms_since(started),
            commit_ms=_ms_since(started),
            latency_ms=None,
            rows_rejected=batch.rejected.height,
        )


def _position(offsets: Consumed) -> str | None:
    position = offsets.positions.get(POSITION)
    return None if position is None else str(position)


def _ms_since(started: float) -> int:
    return round((time.perf_counter() - started) * 1000)

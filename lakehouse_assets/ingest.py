"""Ingestion: changes of a source → the table that mirrors it, exactly once, with refused lines in quarantine.

The position in the source stands in the target's own snapshot, as for streams of tables. Refused lines are written
first, under the key of file and line: whoever is killed in between writes them again, over the same rows.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from types import TracebackType
from typing import Final, TypeVar

import polars as pl

from lakehouse_assets.schema_following import follow
from lakehouse_assets.sources.change_source import (
    BOOKKEEPING,
    DELETE_OP,
    DELETED,
    EVENT_TIME,
    OP,
    Apart,
    ChangeSource,
    Keeping,
    SourceBatch,
    SourceTable,
)
from lakehouse_assets.sources.errors import SourceColumnsDiffer, SourceError, SourceUnavailable
from lakehouse_assets.stream.blame import blame
from lakehouse_assets.stream.errors import StreamBusy
from lakehouse_assets.stream.offsets import Consumed, properties
from lakehouse_assets.stream.runner import BatchResult, kind_counts, touched_partitions
from lakehouse_assets.stream.source import DELETE, INSERT, ROW_KIND, settle
from lakehouse_assets.table_groups import TableGroups
from storage_engine import Catalog, Table
from storage_engine.errors import OffsetConflict
from storage_engine.spec.schema import TableSchema

T = TypeVar("T")

ATTEMPTS: Final = 20
QUARANTINE: Final = "ods.quarantine"
POSITION: Final = "source"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ingestion:
    """A table of a source and its mirror. ``added``: columns of the target that the source's rows do not have.

    A target that has no ``deleted`` added loses the rows that the source deletes. ``days``: String columns that must hold
    a day of the calendar; partition columns named ``v_date`` should. ``follows_schema``: columns that the source adds or
    widens are added and widened here (``schema_following``); else every difference is an error. ``lenient``: members of JSON
    that are no columns are passed over, and missing ones are null (``lenient_json``). ``declared_at``: where it stands, as
    errors of a run tell it.
    """

    source_table: str
    target: str
    added: tuple[str, ...] = tuple(BOOKKEEPING)
    days: tuple[str, ...] = ()
    follows_schema: bool = True
    lenient: bool = False
    declared_at: str = ""

    @property
    def name(self) -> str:
        """The name, which is also the commit user."""
        return f"stream-{self.target}"

    def expected(self, schema: TableSchema) -> SourceTable:
        """What the source's rows must be to fit the target."""
        filled = {field.name for field in schema.fields if not field.type.nullable and field.default_value is None}
        return SourceTable(
            name=self.source_table,
            target=self.target,
            columns={name: dtype for name, dtype in schema.polars_schema.items() if name not in self.added},
            required=frozenset({*filled, EVENT_TIME}),
            key=tuple(schema.primary_keys),
            days=frozenset(self.days),
            follows=self.follows_schema,
            lenient=self.lenient,
        )


class BlamingIngestions:
    """What fails within says where the ingestions are declared: those whose table it names, else all."""

    def __init__(self, *ingestions: Ingestion) -> None:
        self._ingestions = ingestions

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Add the note."""
        said = str(error)
        named = [each for each in self._ingestions if _names(said, each.source_table) or _names(said, each.target)]
        blame(error, named or self._ingestions, "ingestion")


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
        self.catalog = catalog
        self.source = source
        self.ingestions = tuple(ingestions)
        with BlamingIngestions(*self.ingestions):
            self.tables = {ingestion.target: catalog.table(ingestion.target) for ingestion in ingestions}
        self.quarantine = catalog.table(quarantine)
        self._max_rows = max_rows
        self.groups = TableGroups(self.ingestions, apart=isinstance(source, Apart))
        if isinstance(source, Keeping):
            source.keep(lambda: [(each.source_table, _position(self._offsets(each))) for each in self.ingestions])

    def run_batch(self) -> list[BatchResult]:
        """What ``landed`` gives. Raises like it."""
        return list(self.landed())

    def landed(self, *, patiently: bool = False) -> Iterator[BatchResult]:
        """Land the next changes of each table, one commit a table; tables without news are left out.

        One that cannot be read stops no other: its error comes after the others' results. ``patiently``: one that was stopped
        a moment ago is not tried again yet. Raises SourceError, StreamBusy, and what the engine raises.
        """
        for table in (*self.tables.values(), self.quarantine):
            settle(table)
        yield from self._of_each(self._landed, patiently=patiently)

    def waiting(self) -> list[str]:
        """Targets for which the source has something new, be it columns only. Raises SourceError, if there are none."""
        news: list[str] = []
        try:
            news.extend(self._of_each(self._news))  # what was there before a trouble stays
        except SourceError as error:
            if not news or isinstance(error, SourceUnavailable):
                raise
        return list(dict.fromkeys(news))

    def _of_each(self, read: Callable[[Sequence[Ingestion]], Iterator[T]], *, patiently: bool = False) -> Iterator[T]:
        def blamed(group: Sequence[Ingestion]) -> Iterator[T]:
            with BlamingIngestions(*group):
                yield from read(group)

        return self.groups.of_each(blamed, patiently=patiently)

    def _landed(self, ingestions: Sequence[Ingestion]) -> Iterator[BatchResult]:
        done: set[str] = set()
        for _ in range(ATTEMPTS):
            left = [each for each in ingestions if each.target not in done]
            if not left:
                return
            try:
                found = self._next(left)
                for each, batch, offsets in found:
                    result = self._commit(each, batch, offsets)
                    done.add(each.target)
                    yield result
            except OffsetConflict:
                continue
            except SourceColumnsDiffer as differ:
                for result in self._follow(left, differ):
                    done.add(result.target)
                    yield result
                continue
            self.groups.note_read(ingestions, at_end=all(batch.at_end for _, batch, _ in found))
            return
        raise StreamBusy(f"{self.source.name}: other runs committed first {ATTEMPTS} times; run it again")

    def _news(self, ingestions: Sequence[Ingestion]) -> Iterator[str]:
        if not ingestions:
            return
        asked = [(self._expected(each), _position(self._offsets(each))) for each in ingestions]
        try:
            found = self.source.read(asked, max_rows=1)
            news = {
                table.name
                for table, position in asked
                if table.name in found and (position is None or found[table.name])
            }
        except SourceColumnsDiffer as differ:
            yield from (each.target for each in ingestions if each.source_table == differ.table)
            yield from self._news([each for each in ingestions if each.source_table != differ.table])
            return
        yield from (each.target for each in ingestions if each.source_table in news)

    def resnapshot(self, ingestion: Ingestion) -> BatchResult:
        """Make a table equal to what the source has now, and let the stream go on from there.

        The way back when the source has lost the changes that come next: rows that it no longer has are deleted.
        """
        with BlamingIngestions(ingestion):
            return self._resnapshot(ingestion)

    def _resnapshot(self, ingestion: Ingestion) -> BatchResult:
        for _ in range(ATTEMPTS):
            offsets = self._offsets(ingestion)
            try:
                batch = self.source.everything(self._expected(ingestion))
                return self._commit(ingestion, replace(batch, emptied=True), offsets)
            except OffsetConflict:
                continue
            except SourceColumnsDiffer as differ:
                self._alter(ingestion, differ)
        raise StreamBusy(f"{self.source.name}: other runs committed first {ATTEMPTS} times; run it again")

    def reload(self, ingestion: Ingestion, predicate: pl.Expr | None = None) -> BatchResult | None:
        """Upsert all rows (or some) that the source has of a table, for repair; None if there are none.

        The order of events decides which row of a key stays, so it is safe beside the stream and may be repeated.
        """
        with BlamingIngestions(ingestion):
            return self._reload(ingestion, predicate)

    def _reload(self, ingestion: Ingestion, predicate: pl.Expr | None) -> BatchResult | None:
        started = time.perf_counter()
        table = self.tables[ingestion.target]
        batch = self.source.everything(self._expected(ingestion))
        self.quarantine_rows(ingestion.target, batch.rejected)
        rows = batch.rows if predicate is None else batch.rows.filter(predicate)
        snapshot = table.write(for_target(ingestion, table, rows))
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

    def _next(self, ingestions: Sequence[Ingestion]) -> list[tuple[Ingestion, SourceBatch, Consumed]]:
        """What comes next for each table, and after which offsets; tables without news are left out."""
        offsets = {each.target: self._offsets(each) for each in ingestions}
        asked = [(self._expected(each), _position(offsets[each.target])) for each in ingestions]
        found = self.source.read(asked, max_rows=self._max_rows)
        return [
            (each, found[each.source_table], offsets[each.target]) for each in ingestions if each.source_table in found
        ]

    def _follow(self, ingestions: Sequence[Ingestion], differ: SourceColumnsDiffer) -> list[BatchResult]:
        """Give the tables that mirror an altered one its columns; what of them was read anew."""
        mirrors = [each for each in ingestions if each.source_table == differ.table]
        for each in mirrors:
            self._alter(each, differ)
        begun = [each for each in mirrors if self._offsets(each).identifier is not None]
        return [self._resnapshot(each) for each in begun] if differ.filled else []

    def _alter(self, ingestion: Ingestion, differ: SourceColumnsDiffer) -> None:
        if not ingestion.follows_schema:
            raise differ
        follow(self.tables[ingestion.target], self._expected(ingestion).columns, differ)

    def _offsets(self, ingestion: Ingestion) -> Consumed:
        return Consumed.of(self.tables[ingestion.target], ingestion.name)

    def _expected(self, ingestion: Ingestion) -> SourceTable:
        return ingestion.expected(self.tables[ingestion.target].schema)

    def _commit(self, ingestion: Ingestion, batch: SourceBatch, offsets: Consumed) -> BatchResult:
        started = time.perf_counter()
        table: Table = self.tables[ingestion.target]
        self.quarantine_rows(ingestion.target, batch.rejected)
        rows = for_target(ingestion, table, batch.rows)
        if batch.emptied:
            rows = pl.concat([self._gone(ingestion, table, batch.rows), rows])
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

    def _gone(self, ingestion: Ingestion, table: Table, kept: pl.DataFrame) -> pl.DataFrame:
        """Deletes for the rows that the table has beside those that are kept."""
        key = list(table.schema.primary_keys)
        rows = table.scan(fallback=False).collect().join(kept.select(key), on=key, how="anti")
        noted = _noted(ingestion, table)
        if DELETED in noted.values():
            rows = rows.rename({name: told for name, told in noted.items() if told == DELETED}).filter(~pl.col(DELETED))
        return for_target(
            ingestion, table, rows.with_columns(pl.lit(value=True).alias(DELETED), pl.lit(DELETE_OP).alias(OP))
        )


def _noted(ingestion: Ingestion, table: Table) -> dict[str, str]:
    """The target's columns that keep what is told of a change, and which of it each keeps."""
    added = set(ingestion.added) & set(table.schema.column_names)
    return {name: told for name, told in BOOKKEEPING.items() if name in added}


def for_target(ingestion: Ingestion, table: Table, rows: pl.DataFrame) -> pl.DataFrame:
    """A source's rows in the target's columns; where it has no column for deleted rows, they are deletes."""
    noted = _noted(ingestion, table)
    columns = [pl.col(noted.get(name, name)).alias(name) for name in table.schema.column_names]
    if DELETED in noted.values():
        return rows.select(columns)
    return rows.select(pl.when(DELETED).then(pl.lit(DELETE)).otherwise(pl.lit(INSERT)).alias(ROW_KIND), *columns)


def _names(text: str, table: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(table)}(?!\w)", text) is not None


def _position(offsets: Consumed) -> str | None:
    position = offsets.positions.get(POSITION)
    return None if position is None else str(position)


def _ms_since(started: float) -> int:
    return round((time.perf_counter() - started) * 1000)

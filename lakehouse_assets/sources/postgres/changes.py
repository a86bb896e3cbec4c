"""PostgreSQL as a change source: a table without a position gets its snapshot, others go on from the slot.

A position is the end of the last transaction that was read, and, behind a snapshot, which transactions the snapshot has
seen already: so the changes join it without a gap and without anything twice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import polars as pl

from lakehouse_assets.sources.change_source import OP, SNAPSHOT_OP, SourceBatch, SourceTable
from lakehouse_assets.sources.errors import SourceError, SourcePositionLost, SourceSchemaChanged, SourceUnsupported
from lakehouse_assets.sources.known_troubles import KnownTroubles
from lakehouse_assets.sources.postgres.connection import PostgresConnection
from lakehouse_assets.sources.postgres.pgoutput import Images, Transaction, rows_of, transactions
from lakehouse_assets.sources.postgres.slot import Slot, lsn_number, lsn_text
from lakehouse_assets.sources.postgres.tables import PgTable, full_name, tables_of, texts_of_rows
from lakehouse_assets.sources.postgres.values import typed
from lakehouse_assets.sources.typed_rows import (
    LINE,
    REASON,
    SOURCE_FILE,
    TIME,
    check_columns,
    typed_batch,
    with_moved_keys,
)

IDLE_BYTES: Final = 16 * 1024 * 1024
"""A table without changes gets a new position when the log has grown by as much, so that the server may forget it."""
FIRST_MESSAGES: Final = 1_000

_SNAPSHOT: Final = """
SELECT pg_current_snapshot()::text, now()::timestamp, (pg_current_wal_insert_lsn() - '0/0')::bigint
"""


@dataclass(frozen=True, slots=True)
class Position:
    """``lsn``: changes of transactions that end behind it come next, but those that a snapshot shows.

    ``seen``: the snapshot, as PostgreSQL writes it; ``until``: the end of the log when it was taken, behind which there is
    nothing that it shows.
    """

    lsn: int
    seen: str = ""
    until: int = 0

    def __str__(self) -> str:
        return f"{lsn_text(self.lsn)} {self.seen} {lsn_text(self.until)}" if self.seen else lsn_text(self.lsn)

    @staticmethod
    def of(text: str) -> Position:
        """The inverse of ``str``."""
        lsn, *snapshot = text.split(" ")
        seen, until = snapshot or ("", lsn_text(0))
        return Position(lsn_number(lsn), seen, lsn_number(until))

    def after(self, end: int) -> Position:
        """The position when the log was read up to an end."""
        return Position(max(self.lsn, end), self.seen, self.until) if end < self.until else Position(max(self.lsn, end))

    def has(self, transaction: Transaction) -> bool:
        """Whether a transaction was read already."""
        return transaction.end <= self.lsn or (
            transaction.end <= self.until and _is_seen(transaction.number, self.seen)
        )


def _is_seen(number: int, snapshot: str) -> bool:
    """Whether a snapshot ``xmin:xmax:xip`` shows a transaction, of whose number the lower half is known."""
    _, newest, open_ = snapshot.split(":")
    distance = (int(newest) - number) & 0xFFFFFFFF
    is_older = 0 < distance < 2**31
    return is_older and number not in {int(each) & 0xFFFFFFFF for each in open_.split(",") if each}


class PostgresChanges:
    """The tables of one database as a ``ChangeSource``, read through one slot and one publication.

    The publication names exactly the tables that are read. The slot is moved on when all of them are asked for.
    """

    def __init__(
        self, connection: PostgresConnection, *, slot: str = "lakehouse", publication: str = "lakehouse"
    ) -> None:
        self._connection = connection
        self._slot = slot
        self._publication = publication
        self._troubles = KnownTroubles()

    @property
    def name(self) -> str:
        """Where the database is."""
        return self._connection.place

    def read(self, tables: Sequence[tuple[SourceTable, str | None]], *, max_rows: int) -> Mapping[str, SourceBatch]:
        """The snapshot of tables without a position, else the next changes. Raises SourceError."""
        with self._connection.open() as connection:
            slot, found, published = self._opened(connection, [table for table, _ in tables])
            new = [table for table, position in tables if position is None]
            if new:
                start = slot.ensure()
                return _snapshots(connection, new, found, start)
            positions = {table.name: Position.of(position or "") for table, position in tables}
            _check_positions(slot, positions)
            if {full_name(name) for name in positions} >= published:
                slot.advance(min(position.lsn for position in positions.values()))
            return self._changes(slot, [table for table, _ in tables], positions, found, max_rows)

    def everything(self, table: SourceTable) -> SourceBatch:
        """All rows of a table that the database has now. Makes a new slot if the old one is lost."""
        with self._connection.open() as connection:
            slot, found, _ = self._opened(connection, [table])
            return _snapshots(connection, [table], found, slot.ensure())[table.name]

    def _changes(
        self,
        slot: Slot,
        tables: Sequence[SourceTable],
        positions: Mapping[str, Position],
        found: Mapping[str, PgTable],
        max_rows: int,
    ) -> dict[str, SourceBatch]:
        causes = {table.name: (table, positions[table.name], found[full_name(table.name)]) for table in tables}
        for name, cause in causes.items():
            self._troubles.check(name, cause)
        try:
            return _changes(slot, tables, positions, found, max_rows)
        except SourceError as error:
            if error.table is not None:
                self._troubles.note(error.table, causes[error.table], error)
            raise

    def _opened(self, connection: Any, tables: Sequence[SourceTable]) -> tuple[Slot, dict[str, PgTable], set[str]]:
        slot = Slot(connection, self._slot, self._publication)
        slot.lock()
        published = slot.published()
        found = tables_of(connection, tables)
        for table in tables:
            pg_table = found[full_name(table.name)]
            if pg_table.name not in published:
                raise SourceUnsupported(
                    f"table {pg_table.name} is not published: ALTER PUBLICATION {self._publication} ADD TABLE {pg_table.name}",
                    table=table.name,
                )
            check_columns(table, pg_table.dtypes, filled=pg_table.filled_beside(table.columns))
        return slot, found, published


def _check_positions(slot: Slot, positions: Mapping[str, Position]) -> None:
    confirmed = slot.confirmed()
    for table, position in positions.items():
        if position.lsn < confirmed:
            raise SourcePositionLost(
                f"table {table} was read up to {lsn_text(position.lsn)}, but replication slot {slot.name} has forgotten all"
                f" before {lsn_text(confirmed)} (it was made again, or moved by somebody else): take a new snapshot of the"
                " table (materialize it with whole: true)",
                table=table,
            )


def _snapshots(
    connection: Any, tables: Sequence[SourceTable], found: Mapping[str, PgTable], start: int
) -> dict[str, SourceBatch]:
    """The rows of some tables as of one moment; changes go on from ``start``, but for what the moment shows."""
    with connection.transaction():
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        seen, now, end = connection.execute(_SNAPSHOT).fetchone()
        position = Position(start, seen, end)
        batches: dict[str, SourceBatch] = {}
        for table in tables:
            pg_table = found[full_name(table.name)]
            rows = typed(texts_of_rows(connection, pg_table), pg_table.dtypes).with_columns(
                pl.lit(SNAPSHOT_OP).alias(OP),
                pl.lit(f"{table.name}/snapshot/{seen}").alias(SOURCE_FILE),
                pl.int_range(1, pl.len() + 1).alias(LINE),
                pl.lit(now).cast(pl.Datetime("ms")).alias(TIME),
            )
            batches[table.name] = typed_batch(table, rows, position=str(position), at_end=False)
    return batches


def _changes(
    slot: Slot,
    tables: Sequence[SourceTable],
    positions: Mapping[str, Position],
    found: Mapping[str, PgTable],
    max_rows: int,
) -> dict[str, SourceBatch]:
    """The next changes of each table. Where they are far ahead of others, twice as much is looked at each time."""
    messages = max(max_rows, FIRST_MESSAGES)
    while True:
        quiet_end = slot.quiet_end()
        peeked = slot.peek(messages)
        at_end = len(peeked) < messages
        read = list(transactions(peeked))
        news = _bounded([each for each in read if _is_news(each, positions)], max_rows)
        at_end = at_end and (not news or news[-1] is read[-1])
        batches = {
            table.name: batch
            for table in tables
            if (batch := _batch(table, news, positions[table.name], found, at_end=at_end)) is not None
        }
        if batches or at_end:
            idle = _idle(tables, positions, batches, found, quiet_end if at_end else None)
            return {**idle, **batches}
        messages *= 2


def _is_news(transaction: Transaction, positions: Mapping[str, Position]) -> bool:
    return any(
        transaction.concerns(full_name(table)) and not position.has(transaction)
        for table, position in positions.items()
    )


def _bounded(news: Sequence[Transaction], max_rows: int) -> list[Transaction]:
    """Transactions until they have enough rows."""
    kept: list[Transaction] = []
    rows = 0
    for transaction in news:
        kept.append(transaction)
        rows += rows_of([transaction])
        if rows >= max_rows:
            break
    return kept


def _batch(
    table: SourceTable,
    news: Sequence[Transaction],
    position: Position,
    found: Mapping[str, PgTable],
    *,
    at_end: bool,
) -> SourceBatch | None:
    pg_table = found[full_name(table.name)]
    own = [each for each in news if not position.has(each)]
    emptied = max((place for place, each in enumerate(own) if pg_table.name in each.emptied), default=-1)
    kept = own[max(emptied, 0) :]
    _check_told(table, pg_table, kept)
    frames = [_frame(table, pg_table, each, images) for each in kept for images in each.images.get(pg_table.name, [])]
    if not frames and emptied < 0:
        return None
    rows = typed(pl.concat(frames), pg_table.dtypes) if frames else _no_rows(pg_table)
    numbered = rows.with_columns(pl.int_range(1, pl.len() + 1).over(SOURCE_FILE).alias(LINE))
    following = position.after(news[-1].end)
    return typed_batch(table, numbered, position=str(following), at_end=at_end, emptied=emptied >= 0)


def _check_told(table: SourceTable, pg_table: PgTable, transactions: Sequence[Transaction]) -> None:
    lacking = next((each.untold[pg_table.name] for each in transactions if pg_table.name in each.untold), None)
    if lacking is not None:
        raise SourceUnsupported(
            f"changes of {pg_table.name} are told in parts ({lacking}): ALTER TABLE {pg_table.name} REPLICA IDENTITY FULL, then"
            " take a new snapshot (whole: true)",
            table=table.name,
        )


def _frame(table: SourceTable, pg_table: PgTable, transaction: Transaction, images: Images) -> pl.DataFrame:
    """Rows of a transaction as texts, in the columns that the table has now."""
    before, after = (
        _texts(table, pg_table, images, rows).with_columns(pl.Series(OP, images.ops, dtype=pl.String()))
        for rows in (images.befores, images.afters)
    )
    return with_moved_keys(before, after, pg_table.key).with_columns(
        pl.lit(f"{table.name}/log/{lsn_text(transaction.end)}").alias(SOURCE_FILE),
        pl.lit(transaction.committed_ms, pl.Int64).cast(pl.Datetime("ms")).alias(TIME),
    )


def _texts(table: SourceTable, pg_table: PgTable, images: Images, rows: Sequence[Sequence[str | None]]) -> pl.DataFrame:
    names = images.relation.columns
    missing, gone = set(pg_table.columns) - set(names), set(names) - set(pg_table.columns)
    if missing & set(pg_table.key) or (missing and gone):
        raise SourceSchemaChanged(
            f"table {pg_table.name} has the columns {list(pg_table.columns)} now, a change in the log {list(names)}: which of"
            " them are the same cannot be told; take a new snapshot (whole: true)",
            table=table.name,
        )
    told = dict(zip(names, zip(*rows, strict=True), strict=True))
    nothing = [None] * len(rows)
    return pl.DataFrame([pl.Series(name, told.get(name, nothing), dtype=pl.String()) for name in pg_table.columns])


def _idle(
    tables: Sequence[SourceTable],
    positions: Mapping[str, Position],
    batches: Mapping[str, SourceBatch],
    found: Mapping[str, PgTable],
    end: int | None,
) -> dict[str, SourceBatch]:
    """New positions without rows for tables that have had none while the log has grown."""
    if end is None:
        return {}
    return {
        table.name: typed_batch(table, _no_rows(found[full_name(table.name)]), position=str(Position(end)))
        for table in tables
        if table.name not in batches and end - positions[table.name].lsn > IDLE_BYTES
    }


def _no_rows(pg_table: PgTable) -> pl.DataFrame:
    metadata = {
        OP: pl.String(),
        SOURCE_FILE: pl.String(),
        LINE: pl.Int64(),
        REASON: pl.String(),
        TIME: pl.Datetime("ms"),
    }
    return pl.DataFrame(schema={**pg_table.dtypes, **metadata})

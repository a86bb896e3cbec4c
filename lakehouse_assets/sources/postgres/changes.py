"""PostgreSQL as a change source: a table without a position gets its snapshot, others go on from the slot.

A position is the end of the last transaction that was read, and, behind a snapshot, which transactions the snapshot has
seen already: so the changes join it without a gap and without anything twice.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import polars as pl

from lakehouse_assets.sources.change_source import OP, SNAPSHOT_OP, SourceBatch, SourceTable
from lakehouse_assets.sources.errors import SourceError, SourceSchemaChanged, SourceUnsupported
from lakehouse_assets.sources.known_troubles import KnownTroubles
from lakehouse_assets.sources.postgres.connection import PostgresConnection
from lakehouse_assets.sources.postgres.pgoutput import Images, Transaction, rows_of, transactions
from lakehouse_assets.sources.postgres.slot import Slot, lsn_number, lsn_text
from lakehouse_assets.sources.postgres.slots import Slots
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

    The publication names exactly the tables that are read. The slot is moved on when all of them have been asked for; one that
    cannot be read is passed by, and kept by a slot of its own (``Slots``).
    """

    def __init__(
        self, connection: PostgresConnection, *, slot: str = "lakehouse", publication: str = "lakehouse"
    ) -> None:
        self._connection = connection
        self._slot = slot
        self._publication = publication
        self._troubles = KnownTroubles()
        self._positions_of_all: Callable[[], Sequence[tuple[str, str | None]]] = list
        self._stopped: set[str] = set()

    @property
    def name(self) -> str:
        """Where the database is."""
        return self._connection.place

    def read(self, tables: Sequence[tuple[SourceTable, str | None]], *, max_rows: int) -> Mapping[str, SourceBatch]:
        """The snapshot of tables without a position, else the next changes. Raises SourceError."""
        try:
            with self._connection.open() as connection:
                batches = self._next(connection, tables, max_rows)
        except SourceError as error:
            if error.table is not None:
                self._stopped.add(error.table)
            raise
        self._stopped.difference_update(table.name for table, _ in tables)
        return batches

    def everything(self, table: SourceTable) -> SourceBatch:
        """All rows of a table that the database has now. Makes a new slot if the old one is lost."""
        with self._connection.open() as connection:
            slot, found, _ = self._opened(connection, [table])
            start = slot.ensure()
            if (position := _lsns(self._positions_of_all()).get(table.name)) is not None:
                Slots.of(slot).reserve(position)
            return _snapshots(connection, [table], found, start)[table.name]

    def keep(self, positions: Callable[[], Sequence[tuple[str, str | None]]]) -> None:
        """Let the server keep what one of some tables has not read, be it asked for or not."""
        self._positions_of_all = positions

    def _next(
        self, connection: Any, tables: Sequence[tuple[SourceTable, str | None]], max_rows: int
    ) -> dict[str, SourceBatch]:
        slot, found, published = self._opened(connection, [table for table, _ in tables])
        new = [table for table, position in tables if position is None]
        if new:
            return _snapshots(connection, new, found, slot.ensure())
        slots, asked = Slots.of(slot), _lsns((table.name, position) for table, position in tables)
        held = slots.holding(asked)
        known = asked if _are_all(asked, published) else _lsns(self._positions_of_all())
        if _are_all(known, published):
            slots.move_on(known, self._stopped)
            held = slots.holding(asked)
        batches: dict[str, SourceBatch] = {}
        for holding, names in held:
            positions = {table.name: Position.of(text or "") for table, text in tables if table.name in names}
            own = [table for table, _ in tables if table.name in names]
            idle_bytes = IDLE_BYTES if holding is slots.main else 0
            batches |= self._changes(holding, own, positions, found, max_rows=max_rows, idle_bytes=idle_bytes)
        return batches

    def _changes(
        self,
        slot: Slot,
        tables: Sequence[SourceTable],
        positions: Mapping[str, Position],
        found: Mapping[str, PgTable],
        **bounds: int,
    ) -> dict[str, SourceBatch]:
        causes = {table.name: (table, positions[table.name], found[full_name(table.name)]) for table in tables}
        for name, cause in causes.items():
            self._troubles.check(name, cause)
        try:
            return _changes(slot, tables, positions, found, **bounds)
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


def _lsns(positions: Iterable[tuple[str, str | None]]) -> dict[str, int]:
    """How far each table was read; 0 for one that was not."""
    found: dict[str, int] = {}
    for table, text in positions:
        lsn = Position.of(text).lsn if text else 0
        found[table] = min(lsn, found.get(table, lsn))
    return found


def _are_all(tables: Iterable[str], published: Collection[str]) -> bool:
    return {full_name(table) for table in tables} >= set(published)


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
    *,
    max_rows: int,
    idle_bytes: int,
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
            quiet = [table for table in tables if table.name not in batches]
            idle = _idle(quiet, positions, found, quiet_end if at_end else None, idle_bytes)
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
    found: Mapping[str, PgTable],
    end: int | None,
    idle_bytes: int,
) -> dict[str, SourceBatch]:
    """New positions without rows for tables that have had none while the log has grown by more than some bytes."""
    if end is None:
        return {}
    return {
        table.name: typed_batch(table, _no_rows(found[full_name(table.name)]), position=str(Position(end)))
        for table in tables
        if end - positions[table.name].lsn > idle_bytes
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

"""The replication slot and the publication: what the server keeps for us, and the messages in it.

Changes are peeked at, which leaves them in the slot; the slot is moved on only up to positions that stand in the targets'
snapshots. So whatever happens to the reader, the server still has what is not committed.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from lakehouse_assets.sources.errors import SourceMissing, SourcePositionLost, SourceUnavailable, SourceUnsupported

PLUGIN: Final = "pgoutput"
OLD_TRANSACTIONS_LIMIT_S: Final = 60.0
POLL_S: Final = 0.05

_STATE: Final = """
SELECT plugin, database, (confirmed_flush_lsn - '0/0')::bigint AS confirmed,
       COALESCE(to_jsonb(s) ->> 'wal_status', '') = 'lost' OR (to_jsonb(s) ->> 'conflicting')::bool IS TRUE AS is_lost
FROM pg_replication_slots s WHERE slot_name = %s
"""
_ROOM: Final = "SELECT count(*) < current_setting('max_replication_slots')::int FROM pg_replication_slots"
_PUBLICATION: Final = """
SELECT pubinsert AND pubupdate AND pubdelete AND COALESCE((to_jsonb(p) ->> 'pubtruncate')::bool, true)
FROM pg_publication p WHERE pubname = %s
"""
_PUBLISHED: Final = """
SELECT schemaname || '.' || tablename, to_jsonb(t) ->> 'rowfilter' FROM pg_publication_tables t WHERE pubname = %s
"""
_PEEK: Final = """
SELECT data FROM pg_logical_slot_peek_binary_changes(%s, NULL, %s, 'proto_version', '1', 'publication_names', %s)
"""


@dataclass(frozen=True, slots=True)
class Slot:
    """A slot and its publication, on an open connection."""

    connection: Any
    name: str
    publication: str

    def lock(self) -> None:
        """Wait until no other reader uses the slot; the lock ends with the connection. Raises by ``lock_timeout``."""
        self._execute("SELECT pg_advisory_lock(hashtext('lakehouse'), hashtext(%s))", self.name)

    def published(self) -> set[str]:
        """The tables of the publication. Raises SourceMissing and SourceUnsupported."""
        (level,) = self._execute("SHOW wal_level")[0]
        if level != "logical":
            raise SourceUnsupported(f"the server's wal_level is {level}; set it to logical, and restart the server")
        found = self._execute(_PUBLICATION, self.publication)
        if not found:
            raise SourceMissing(
                f"there is no publication {self.publication}: CREATE PUBLICATION {self.publication} FOR TABLE … with every"
                " table that is read"
            )
        tables = self._execute(_PUBLISHED, self.publication)
        if not found[0][0] or any(condition for _, condition in tables):
            raise SourceUnsupported(f"publication {self.publication} leaves out changes or rows: publish all of them")
        return {table for table, _ in tables}

    def confirmed(self) -> int:
        """The position that the server may forget up to. Raises SourcePositionLost if it has no such slot any more."""
        found = self._execute(_STATE, self.name)
        if not found or found[0][3]:
            what = "lost: the server has removed the log behind it (max_slot_wal_keep_size)" if found else "gone"
            raise SourcePositionLost(
                f"replication slot {self.name} is {what}. Take a new snapshot of each table (materialize it with whole:"
                " true), which makes a new slot"
            )
        plugin, database, confirmed, _ = found[0]
        (own,) = self._execute("SELECT current_database()")[0]
        if plugin != PLUGIN or database != own:
            raise SourceUnsupported(
                f"replication slot {self.name} is one of {plugin} for {database}: choose another name"
            )
        return int(confirmed)

    def ensure(self) -> int:
        """Make the slot if it is not there, or lost; the position that it begins at. Then old transactions have ended."""
        found = self._execute(_STATE, self.name)
        if found and found[0][3]:
            self.drop()
        if not found or found[0][3]:
            self._execute("SELECT lsn FROM pg_create_logical_replication_slot(%s, %s)", self.name, PLUGIN)
        confirmed = self.confirmed()
        self._outlive_old_transactions()
        return confirmed

    def kept(self) -> int | None:
        """The position that the server may forget up to; None if there is no such slot, or it is lost."""
        found = self._execute(_STATE, self.name)
        return int(found[0][2]) if found and not found[0][3] else None

    def copy(self, other: Slot) -> bool:
        """Make the slot where another one stands, instead of one that is lost; whether the server has room for it."""
        self.drop()
        if not self._execute(_ROOM)[0][0]:
            return False
        self._execute("SELECT pg_copy_logical_replication_slot(%s, %s)", other.name, self.name)
        return True

    def drop(self) -> None:
        """See that there is no such slot."""
        self._execute(
            "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = %s", self.name
        )

    def advance(self, position: int) -> None:
        """Let the server forget what is before a position."""
        if position > self.confirmed():
            self._execute("SELECT pg_replication_slot_advance(%s, %s::pg_lsn)", self.name, lsn_text(position))

    def peek(self, messages: int) -> list[bytes]:
        """Messages from the slot's position on, about as many, up to the end of a transaction."""
        with self.connection.cursor(binary=True) as cursor:
            cursor.execute(_PEEK, (self.name, messages, self.publication))
            return [content for (content,) in cursor.fetchall()]

    def quiet_end(self) -> int | None:
        """The end of the log between two records, if all before it can be read now."""
        sql = "SELECT (pg_current_wal_insert_lsn() - '0/0')::bigint, (pg_current_wal_flush_lsn() - '0/0')::bigint"
        inserted, flushed = self._execute(sql)[0]
        return int(inserted) if flushed >= inserted else None

    def _outlive_old_transactions(self) -> None:
        """Wait for transactions that may have committed before the slot's position, but are not seen by others yet."""
        (newest,) = self._execute("SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint")[0]
        deadline = time.monotonic() + OLD_TRANSACTIONS_LIMIT_S
        while self._execute("SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint")[0][0] < newest:
            if time.monotonic() > deadline:
                raise SourceUnavailable(
                    "transactions that were open when the snapshot was asked for have not ended (pg_stat_activity tells"
                    " which): try again later"
                )
            time.sleep(POLL_S)

    def _execute(self, statement: str, *values: object) -> Sequence[tuple[Any, ...]]:
        with self.connection.cursor() as cursor:
            cursor.execute(statement, values or None)
            rows: Sequence[tuple[Any, ...]] = cursor.fetchall()
            return rows


def lsn_text(position: int) -> str:
    """A position as PostgreSQL writes it: ``16/B374D848``."""
    return f"{position >> 32:X}/{position & 0xFFFFFFFF:X}"


def lsn_number(text: str) -> int:
    """The inverse of ``lsn_text``."""
    high, _, low = text.partition("/")
    return int(high, 16) << 32 | int(low, 16)

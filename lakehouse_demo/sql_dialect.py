"""What differs between the databases in the workload's SQL, which is written as MySQL and MariaDB take it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class SqlDialect:
    """``words``: what else a database says for a piece of a statement. ``upsert``: what comes behind an INSERT of a member.

    ``publish``: what lets the tables be read by change data capture, with the transaction that fills them. ``begin``: how a
    transaction begins that sees one moment. ``replaces``: whether there is a ``REPLACE``, else a row is deleted and inserted.
    """

    words: dict[str, str] = field(default_factory=dict)
    upsert: str
    begin: str
    publish: tuple[str, ...] = ()
    replaces: bool

    def told(self, statement: str) -> str:
        """A statement of the workload as the database takes it."""
        for word, own in self.words.items():
            statement = statement.replace(word, own)
        return statement


MYSQL: Final = SqlDialect(
    upsert="ON DUPLICATE KEY UPDATE city_id = VALUES(city_id), event_time = VALUES(event_time)",
    begin="START TRANSACTION WITH CONSISTENT SNAPSHOT",
    replaces=True,
)
"""MySQL and MariaDB; ``sales`` and ``workload`` are databases."""

_TABLES: Final = ("city", "team", "agent", "product", "sprint", "member", "member_order")

POSTGRES: Final = SqlDialect(
    words={
        "CREATE DATABASE IF NOT EXISTS sales": "CREATE SCHEMA IF NOT EXISTS public",
        "CREATE DATABASE": "CREATE SCHEMA",
        "sales.": "public.",
        "DATETIME(3)": "TIMESTAMP(3)",
    },
    upsert="ON CONFLICT (id) DO UPDATE SET city_id = excluded.city_id, event_time = excluded.event_time",
    begin="START TRANSACTION ISOLATION LEVEL REPEATABLE READ",
    publish=(
        *(f"ALTER TABLE public.{table} REPLICA IDENTITY FULL" for table in _TABLES),
        f"CREATE PUBLICATION lakehouse FOR TABLE {', '.join(f'public.{table}' for table in _TABLES)}",
    ),
    replaces=False,
)
"""PostgreSQL; ``sales`` is the database, whose tables are in the schema ``public``, and ``workload`` a schema of it."""

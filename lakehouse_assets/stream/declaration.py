"""What a stream is: source table, lookups, transformation, target table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import polars as pl

Transform = Callable[[pl.DataFrame], pl.DataFrame]
PartitionFilter = Callable[[Sequence[str]], pl.Expr]


@dataclass(frozen=True, slots=True, kw_only=True)
class Lookup:
    """Widens a stream by a dimension table: ``FOR SYSTEM_TIME AS OF`` the newest state of the dimension.

    ``on``: the column of the stream (or of an earlier lookup) that holds the dimension's ``key``. ``take``: new column →
    dimension column. A dimension row whose ``deleted`` column is true counts as absent. When a dimension row changes, the
    target's rows that use it are computed again; so the *target* must keep the column ``on``.
    """

    table: str
    on: str
    take: Mapping[str, str]
    key: str = "id"
    deleted: str | None = "deleted"
    strategy: str = "auto"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """One arrow of the warehouse: changes of ``source`` become rows of ``target``.

    ``transform`` gets the source's columns, the looked-up ones and ``_row_kind``, and gives the target's columns and
    ``_row_kind``; it must treat each row by itself.

    ``every_change``: False — only the newest state of each key counts (an upsert target of the same primary key); True — every
    -U, +U, +I and -D arrives, in order (an aggregation target).

    ``partition_filter`` says which source rows make up some partitions of the target; by default the first partition column
    has the same name and values in both.
    """

    source: str
    target: str
    transform: Transform
    lookups: tuple[Lookup, ...] = ()
    every_change: bool = False
    max_snapshots: int = 200
    max_rows: int = 500_000
    partition_filter: PartitionFilter | None = None
    description: str = ""

    @property
    def name(self) -> str:
        """The commit user under which it writes its target."""
        return f"stream-{self.target}"

    @property
    def tables(self) -> tuple[str, ...]:
        """All tables that it reads, the driving source first."""
        return (self.source, *dict.fromkeys(lookup.table for lookup in self.lookups))

"""What the strategies are called, what bounds their caches, and which one suits a table."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from storage_engine.options import parse_duration_ms, parse_size_bytes
from storage_engine.spec.schema import TableSchema

Strategy = Literal["auto", "full-cache", "partial-cache", "bucket-shuffle"]
STRATEGIES: Final[tuple[Strategy, ...]] = ("auto", "full-cache", "partial-cache", "bucket-shuffle")
IN_MEMORY: Final = 3
"""Bytes in memory for each byte of a data file, about."""
MEMORY_SHARE: Final = 8
DEFAULT_ROWS: Final = 2_000_000
DEFAULT_RETENTION_MS: Final = 3_600_000


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheBounds:
    """What a cache may hold.

    ``memory_bytes``: bytes in memory (``lookup.cache-max-memory-size``; default: an eighth of the machine's memory); a full
    cache that is larger lies on the local disk. ``rows``: keys of a partial cache (``lookup.cache-rows``).
    ``retention_ms``: a key of a partial cache that nobody asked for is forgotten after as long
    (``lookup.cache-file-retention``). ``directory``: where a cache lies on disk, None: the system's temporary directory.
    """

    memory_bytes: int
    rows: int = DEFAULT_ROWS
    retention_ms: int = DEFAULT_RETENTION_MS
    directory: str | None = None

    @staticmethod
    def of(schema: TableSchema) -> CacheBounds:
        """The bounds that a table's options ask for."""
        options = schema.options
        memory = options.get("lookup.cache-max-memory-size")
        retention = options.get("lookup.cache-file-retention")
        return CacheBounds(
            memory_bytes=machine_memory_bytes() // MEMORY_SHARE if memory is None else parse_size_bytes(memory),
            rows=int(options.get("lookup.cache-rows", DEFAULT_ROWS)),
            retention_ms=DEFAULT_RETENTION_MS if retention is None else parse_duration_ms(retention),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class LookupStats:
    """What the last join of a lookup table did, and what it holds.

    ``rows``, ``matched``: of the stream. ``keys_asked``: distinct keys; ``keys_cached``: those that needed no read of the
    table. ``cached_rows``, ``cached_bytes``: what is held, ``on_disk``: not in memory. ``snapshot``: the dimension's state;
    ``refresh_ms``: how long it took to get there; ``snapshots_behind``: newer snapshots that there were. ``workers``:
    processes that share the buckets.
    """

    strategy: Strategy
    reason: str
    rows: int = 0
    matched: int = 0
    cached_rows: int = 0
    cached_bytes: int = 0
    snapshot: int | None = None
    keys_asked: int = 0
    keys_cached: int = 0
    refresh_ms: int = 0
    snapshots_behind: int = 0
    on_disk: bool = False
    workers: int = 1

    @property
    def hit_rate(self) -> float:
        """Share of the stream's rows that found a dimension row (1.0 for an empty stream)."""
        return self.matched / self.rows if self.rows else 1.0

    @property
    def misses(self) -> int:
        """Rows of the stream that found none."""
        return self.rows - self.matched

    @property
    def cache_hit_rate(self) -> float:
        """Share of the keys that the cache could answer (1.0 if none was asked)."""
        return self.keys_cached / self.keys_asked if self.keys_asked else 1.0


def gives_bucket(schema: TableSchema, on: Sequence[str]) -> bool:
    """Whether a join on some columns tells the bucket of the row that it looks for."""
    return bool(schema.bucket_keys) and set(on) >= set(schema.bucket_keys) and schema.table_options.bucket > 0


def choose(schema: TableSchema, on: Sequence[str], *, file_bytes: int, bounds: CacheBounds) -> tuple[Strategy, str]:
    """The strategy that suits a table of so many bytes, and why."""
    size = f"{file_bytes / 1e6:.1f} MB of files"
    if schema.options.get("lookup.cache") == "full":
        return "full-cache", "option 'lookup.cache' is 'full'"
    if file_bytes * IN_MEMORY <= bounds.memory_bytes:
        return "full-cache", f"{size} fit into {bounds.memory_bytes / 1e6:.0f} MB of memory"
    too_large = f"{size} do not fit into {bounds.memory_bytes / 1e6:.0f} MB of memory"
    if gives_bucket(schema, on):
        return "partial-cache", f"{too_large}, and the key tells which bucket to read"
    return "full-cache", f"{too_large}: held on disk, since the key does not tell the bucket"


def machine_memory_bytes() -> int:
    """The machine's memory."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")

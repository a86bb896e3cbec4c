"""Quarantine: refused lines, and their way back after a fix."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import polars as pl

from lakehouse_assets.ingest import Ingester, Ingestion
from lakehouse_assets.sources.debezium import LINE, RAW, parse
from lakehouse_assets.stream.source import DELETE, ROW_KIND
from storage_engine import Table

Mend: TypeAlias = Callable[[pl.DataFrame], pl.DataFrame]
"""Lines of the quarantine → the same lines with ``raw`` put right."""

KEY = ["source_file", LINE]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayResult:
    """How many lines of a table left the quarantine, and how many are still there."""

    target: str
    replayed: int
    remaining: int


def counts(quarantine: Table) -> dict[str, int]:
    """Number of refused lines by target table."""
    found = quarantine.scan().group_by("target").len().sort("target").collect()
    return dict(zip(found["target"].to_list(), found["len"].to_list(), strict=True))


def replay(ingester: Ingester, ingestion: Ingestion, *, mend: Mend | None = None) -> ReplayResult:
    """Judge the refused lines of a table anew; those that are events now go into the table, and leave the quarantine.

    Fix what was wrong first: the rules (a column was added), or the lines (``mend``). The rows are upserted in the order
    of events before the lines are removed, so a replay that is killed may be repeated.
    """
    target = ingester.tables[ingestion.target]
    kept = ingester.quarantine.scan().filter(pl.col("target") == ingestion.target).sort(KEY).collect()
    lines = kept.select(*KEY, RAW) if mend is None else mend(kept).select(*KEY, RAW)
    rows, refused = parse(lines, ingestion.expected(target.schema))
    good = lines.filter(pl.col(RAW).str.contains(r"\S")).join(refused, on=KEY, how="anti")
    target.write(rows.select(target.schema.column_names))
    gone = kept.join(good, on=KEY, how="semi")
    ingester.quarantine.write(gone.select(pl.lit(DELETE).alias(ROW_KIND), *ingester.quarantine.schema.column_names))
    return ReplayResult(target=ingestion.target, replayed=gone.height, remaining=kept.height - gone.height)

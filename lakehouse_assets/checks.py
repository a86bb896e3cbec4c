"""What must hold of the tables, as facts about the warehouse: pure reading, no Dagster.

Each check gives an ``Outcome``; Dagster's asset checks and the streams' runs report the same outcomes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import polars as pl

from lakehouse_assets.quarantine import counts
from lakehouse_assets.stream.declaration import Stream, of_one_target
from lakehouse_assets.stream.runner import StreamRunner
from storage_engine import Catalog

LAG_ROWS_MAX: Final = 1_000_000
ATTEMPTS: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Whether a check passed, why, and its numbers. ``warning``: not passing is worth a look, and no error."""

    passed: bool
    description: str
    numbers: Mapping[str, int | float] = field(default_factory=dict)
    warning: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """What must hold, in words, and the function that looks."""

    description: str
    run: Callable[[Catalog], Outcome]


def key_unique(table: str, *, columns: Sequence[str] | None = None) -> Check:
    """No primary key stands twice in a table."""

    def check(catalog: Catalog) -> Outcome:
        opened = catalog.table(table)
        keys = opened.scan().select(columns or opened.schema.primary_keys).collect()
        repeated = keys.height - keys.n_unique()
        return Outcome(
            passed=repeated == 0,
            description=f"{keys.height} rows, {repeated} of them repeat a key",
            numbers={"rows": keys.height, "repeated": repeated},
        )

    return Check(description="No primary key stands twice in a table.", run=check)


def stream_lag(stream: Stream | Sequence[Stream], *, rows_max: int = LAG_ROWS_MAX) -> Check:
    """The target is not far behind the source that drives it; of several streams, behind all sources together."""
    streams = of_one_target(stream)

    def check(catalog: Catalog) -> Outcome:
        behind = sum(StreamRunner(catalog, each).pending().rows for each in streams)
        return Outcome(
            passed=behind <= rows_max,
            description=f"{behind} changes wait in the source; {rows_max} may",
            numbers={"rows_behind": behind},
            warning=True,
        )

    return Check(description="The target is not far behind the source that drives it.", run=check)


def quarantine_count(quarantine: str, table: str, *, rows_max: int) -> Check:
    """Not too many lines that were meant for a table stand in quarantine."""

    def check(catalog: Catalog) -> Outcome:
        found = counts(catalog.table(quarantine)).get(table, 0)
        return Outcome(
            passed=found <= rows_max,
            description=f"{found} lines in {quarantine}; replay them after a fix",
            numbers={"quarantined": found},
            warning=True,
        )

    return Check(description="Not too many lines that were meant for a table stand in quarantine.", run=check)


def hit_rate(table: str, column: str, *, least: float = 0.95) -> Check:
    """Enough rows have found what a lookup join was to bring: a column that it fills is not null."""

    def check(catalog: Catalog) -> Outcome:
        found = catalog.table(table).scan().select(pl.len(), hits=pl.col(column).is_not_null().sum()).collect()
        rows, hits = int(found["len"][0]), int(found["hits"][0])
        rate = hits / rows if rows else 1.0
        return Outcome(
            passed=rate >= least,
            description=f"{rate:.2%} of {rows} rows have {column}; {least:.2%} should",
            numbers={"hit_rate": rate, "misses": rows - hits},
            warning=True,
        )

    return Check(description=f"Lookups that fill {column} find their dimension row.", run=check)


def late_rows(table: str, *, day: str, time: str, days_max: int = 1, rows_max: int = 0) -> Check:
    """Not too many rows carry an event time that is long after the day that they count for.

    ``day``: String column, yyyy-mm-dd; ``time``: timestamp column; ``days_max``: days that may lie between them.
    """

    def check(catalog: Catalog) -> Outcome:
        gap = pl.col(time).dt.date() - pl.col(day).str.to_date("%Y-%m-%d", strict=False)
        found = catalog.table(table).scan().select((gap.dt.total_days() > days_max).sum()).collect().item()
        return Outcome(
            passed=found <= rows_max,
            description=f"{found} rows came more than {days_max} days late; {rows_max} may",
            numbers={"late_rows": int(found)},
            warning=True,
        )

    return Check(description="Rows do not come long after their day.", run=check)


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """Sums over the rows of a table that a predicate keeps: name → expression."""

    table: str
    sums: Mapping[str, pl.Expr]
    where: pl.Expr = field(default_factory=lambda: pl.lit(value=True))

    def of(self, catalog: Catalog, snapshot: int | None = None) -> dict[str, object]:
        """The sums at a snapshot (default: the latest)."""
        rows = catalog.table(self.table).scan(snapshot=snapshot).filter(self.where)
        return (
            rows.select(expression.sum().alias(name) for name, expression in self.sums.items()).collect().to_dicts()[0]
        )


def layers_agree(upstream: Totals, downstream: Totals, stream: Stream) -> Check:
    """A table's totals are those of its source, as of the snapshot that was consumed."""

    def check(catalog: Catalog) -> Outcome:
        runner = StreamRunner(catalog, stream)
        for _ in range(ATTEMPTS):
            latest, offsets = runner.target.latest_snapshot(), runner.consumed()
            consumed = offsets.snapshot(upstream.table)
            if offsets.within is not None:
                return Outcome(passed=True, description=f"a part of snapshot {offsets.within.until} is still to come")
            if latest is None or not consumed:
                return Outcome(passed=True, description=f"nothing of {upstream.table} was consumed yet")
            expected, found = upstream.of(catalog, consumed), downstream.of(catalog, latest.id)
            if runner.target.latest_snapshot() == latest:
                break
        wrong = [
            f"{name} is {found[name]}, expected {value}" for name, value in expected.items() if found[name] != value
        ]
        return Outcome(
            passed=not wrong,
            description="; ".join(wrong) or f"{', '.join(expected)} are equal",
            numbers={
                f"{name}_difference": float(str(found[name])) - float(str(value)) for name, value in expected.items()
            },
        )

    return Check(
        description="A table's totals are those of its source, as of the snapshot that was consumed.", run=check
    )

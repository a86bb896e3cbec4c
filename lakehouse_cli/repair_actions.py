"""What ``lakehouse repair`` does."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Final

import polars as pl

from lakehouse_assets.stream.audit import AuditResult, audited_repair
from lakehouse_assets.stream.declaration import by_target
from lakehouse_assets.stream.repair import RepairResult
from lakehouse_assets.stream.repair import repair as direct_repair
from lakehouse_cli.declared import project_of, sql_project
from storage_engine import Catalog
from storage_engine.errors import InvalidInput

_CHECKS: Final = pl.Schema({"check": pl.String(), "passed": pl.Boolean(), "found": pl.String()})


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """What is printed: one row about the repair; its checks; rows that it changes. ``failed``: why it was not published."""

    summary: pl.DataFrame
    checks: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=_CHECKS))
    difference: pl.DataFrame = field(default_factory=pl.DataFrame)
    failed: str = ""


def repaired(
    warehouse: str, table: str, *, values: str | None, audited: bool, project: str, folder: str | None
) -> Done:
    """Repair parts of a table. Raises InvalidInput for a table that no stream fills, and what the repair raises."""
    found = sql_project(folder) if folder is not None else project_of(project)
    filling = by_target(found.streams)
    streams = filling.get(table)
    if streams is None:
        filled = ", ".join(filling) or "none"
        raise InvalidInput(f"no stream of {folder or project} fills {table}; filled are {filled}")
    parts = None if values is None else parts_of(values)
    catalog = Catalog(warehouse)
    if not audited:
        return Done(summary=_summary(direct_repair(catalog, streams, parts)))
    return _shown(audited_repair(catalog, streams, found.tables()[table].checks, parts))


def parts_of(text: str) -> list[str]:
    """``a,b`` or ``2024-01-29..2024-01-31`` or ``2024-01..2024-03``. Raises InvalidInput."""
    first, dots, last = text.partition("..")
    if not dots:
        return [part.strip() for part in text.split(",") if part.strip()]
    by_month = len(first) == len(last) == len("2024-01")
    try:
        start, end = (date.fromisoformat(f"{each}-01" if by_month else each) for each in (first, last))
    except ValueError as cause:
        raise InvalidInput(
            f"--values {text!r}: expected 2024-01-29..2024-01-31, or values separated by commas"
        ) from cause
    if start > end:
        raise InvalidInput(f"--values {text!r}: the first is after the last")
    days = (start + timedelta(days=number) for number in range((end - start).days + 1))
    return list(dict.fromkeys(day.strftime("%Y-%m" if by_month else "%Y-%m-%d") for day in days))


def _summary(result: RepairResult) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "table": [result.target],
            "snapshot": [None if result.snapshot is None else result.snapshot.id],
            "rows": [result.rows],
            "rows_written": [sum(result.rows_written.values())],
            "partitions": [len(result.partitions)],
        },
        schema_overrides={"snapshot": pl.Int64()},
    )


def _shown(result: AuditResult) -> Done:
    found, repair = result.difference, result.repaired
    summary = pl.DataFrame(
        {
            "table": [result.target],
            "snapshot": [None if repair is None or repair.snapshot is None else repair.snapshot.id],
            "added": [found.added],
            "changed": [found.changed],
            "removed": [found.removed],
            "branch": [result.branch if repair is None else None],
        },
        schema_overrides={"snapshot": pl.Int64(), "branch": pl.String()},
    )
    checks = [(name, outcome.passed, outcome.description) for name, outcome in result.outcomes.items()]
    return Done(
        summary=summary,
        checks=pl.DataFrame(checks, schema=_CHECKS, orient="row"),
        difference=found.sample,
        failed="" if repair else f"{', '.join(result.failed)} failed on branch {result.branch}; main is as it was",
    )

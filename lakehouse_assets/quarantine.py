"""Quarantine: refused lines, and their way into their tables after a fix.

A line never leaves: ``replayed_at`` tells when it went into its table, ``corrected`` what was taken in its place. The
table is of merge engine partial-update, so a line that a repair reads and refuses again stays replayed.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final, Literal

import polars as pl

from lakehouse_assets.ingest import QUARANTINE, Ingestion, for_target
from lakehouse_assets.sources.change_source import REJECTED_SCHEMA
from lakehouse_assets.sources.debezium import LINE, RAW, REASON, parse
from storage_engine import Catalog, Table
from storage_engine.errors import InvalidRows

FILE: Final = "source_file"
KEY: Final = (FILE, LINE)
CORRECTION_SCHEMA: Final = pl.Schema({name: REJECTED_SCHEMA[name] for name in (*KEY, RAW)})

Status = Literal["waiting", "replayed", "all"]
_CHOSEN: Final[dict[Status, pl.Expr]] = {
    "waiting": pl.col("replayed_at").is_null(),
    "replayed": pl.col("replayed_at").is_not_null(),
    "all": pl.lit(value=True),
}


def refused_lines(quarantine: Table, *, target: str | None = None, status: Status = "waiting") -> pl.DataFrame:
    """Lines of one table or of all, in the order of files and lines."""
    of_target = pl.lit(value=True) if target is None else pl.col("target") == target
    return quarantine.scan().filter(_CHOSEN[status] & of_target).sort(KEY).collect()


def counts(quarantine: Table) -> dict[str, int]:
    """Number of waiting lines by target table."""
    found = quarantine.scan().filter(_CHOSEN["waiting"]).group_by("target").len().sort("target").collect()
    return dict(zip(found["target"].to_list(), found["len"].to_list(), strict=True))


def replay(
    catalog: Catalog, ingestion: Ingestion, *, corrections: pl.DataFrame | None = None, quarantine: str = QUARANTINE
) -> pl.DataFrame:
    """Judge the waiting lines of a table anew, and put those that are events now into the table.

    Fix what was wrong first: the table (a column was added), or the lines. ``corrections`` (``source_file``, ``line``,
    ``raw``) gives lines a new text; then only these are judged. The rows are upserted in the order of events before
    their lines are marked, so a replay that is killed may be repeated, and brings no row twice.

    Returns the judged lines: ``source_file``, ``line``, ``target``, and ``reason`` (null: in the table now). Raises
    InvalidRows for a correction of a line that does not wait, or of one line twice.
    """
    target, kept = catalog.table(ingestion.target), catalog.table(quarantine)
    waiting = refused_lines(kept, target=ingestion.target)
    lines = waiting.select(*KEY, RAW) if corrections is None else _corrected(waiting, corrections)
    if lines.is_empty():
        return _verdicts(lines, lines.with_columns(pl.lit(None, pl.String).alias(REASON)), ingestion.target)
    rows, refused = parse(lines, ingestion.expected(target.schema))
    blank = lines.filter(~pl.col(RAW).str.contains(r"\S")).with_columns(pl.lit("blank").alias(REASON))
    refused = pl.concat([refused, blank.select(refused.columns)])
    good = lines.join(refused, on=KEY, how="anti")
    target.write(for_target(ingestion, target, rows))
    kept.write(_marks(good, waiting))
    return _verdicts(lines, refused, ingestion.target)


def _corrected(waiting: pl.DataFrame, corrections: pl.DataFrame) -> pl.DataFrame:
    lines = corrections.select(CORRECTION_SCHEMA.names()).cast(CORRECTION_SCHEMA)
    stray = lines.join(waiting, on=KEY, how="anti")
    if stray.height or lines.select(KEY).is_duplicated().any():
        named = stray if stray.height else lines.filter(lines.select(KEY).is_duplicated())
        problem = "does not wait in quarantine" if stray.height else "is corrected twice"
        raise InvalidRows(f"line {named[LINE][0]} of {named[FILE][0]} {problem}; nothing was replayed")
    return lines.sort(KEY)


def _marks(good: pl.DataFrame, waiting: pl.DataFrame) -> pl.DataFrame:
    """Partial rows: when each line was replayed, and its new text if it has one."""
    now = pl.lit(datetime.now(UTC).replace(tzinfo=None)).cast(pl.Datetime("ms"))
    before = waiting.select(*KEY, pl.col(RAW).alias("_before"))
    changed = pl.when(pl.col(RAW) != pl.col("_before")).then(pl.col(RAW))
    return good.join(before, on=KEY).select(*KEY, changed.alias("corrected"), now.alias("replayed_at"))


def _verdicts(lines: pl.DataFrame, refused: pl.DataFrame, target: str) -> pl.DataFrame:
    judged = lines.join(refused.select(*KEY, REASON), on=KEY, how="left", maintain_order="left")
    return judged.select(*KEY, pl.lit(target).alias("target"), REASON)

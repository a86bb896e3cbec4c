"""States of a target's rows, computed before and after a batch, and the changes that turn one into the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import polars as pl

from lakehouse_assets.stream.declaration import Stream
from lakehouse_assets.stream.source import DELETE, INSERT, RETRACTIONS, ROW_KIND, UPDATE_AFTER, UPDATE_BEFORE

_COUNT: Final = "\x1fcount"


def transformed_state(stream: Stream, rows: pl.DataFrame) -> pl.DataFrame:
    """The target's rows, without those that the transformation takes away; no column ``_row_kind``."""
    written = stream.transform(rows)
    if ROW_KIND not in written.columns:
        return written
    return written.filter(~pl.col(ROW_KIND).is_in(RETRACTIONS)).drop(ROW_KIND)


def inserted(rows: pl.DataFrame) -> pl.DataFrame:
    """A state as inserts."""
    return of_kind(rows, INSERT)


def difference(before: pl.DataFrame, after: pl.DataFrame, *, key: Sequence[str], retracts: bool) -> pl.DataFrame:
    """The changes from one state to the other: retractions and additions, or else deletes and upserts by a key."""
    came, gone = without(after, before), without(before, after)
    if retracts:
        return pl.concat([of_kind(gone, UPDATE_BEFORE), of_kind(came, UPDATE_AFTER)])
    gone = gone.join(came, on=list(key), how="anti", nulls_equal=True)
    return pl.concat([of_kind(gone, DELETE), of_kind(came, UPDATE_AFTER)])


def without(rows: pl.DataFrame, others: pl.DataFrame) -> pl.DataFrame:
    """Rows less others, each as often as it stands there more often."""
    columns = rows.columns
    counted = pl.concat(
        [rows.with_columns(pl.lit(1).alias(_COUNT)), others.select(columns).with_columns(pl.lit(-1).alias(_COUNT))]
    )
    left = counted.group_by(columns, maintain_order=True).agg(pl.col(_COUNT).sum()).filter(pl.col(_COUNT) > 0)
    return left.select(pl.all().exclude(_COUNT).repeat_by(_COUNT)).explode(columns) if left.height else rows.clear()


def without_undone(changes: pl.DataFrame) -> pl.DataFrame:
    """Changes without those that take back what the very next one adds again, and these."""
    if ROW_KIND not in changes.columns or changes.height < len((UPDATE_BEFORE, UPDATE_AFTER)):
        return changes
    takes_back = pl.col(ROW_KIND).is_in(RETRACTIONS)
    same = (pl.col(name).eq_missing(pl.col(name).shift(-1)) for name in changes.columns if name != ROW_KIND)
    undone = pl.all_horizontal(takes_back, ~takes_back.shift(-1, fill_value=True), *same)
    found = changes.select(undone.alias(_COUNT)).to_series()
    return changes.filter(~(found | found.shift(1, fill_value=False)))


def of_kind(rows: pl.DataFrame, kind: str) -> pl.DataFrame:
    """Rows as changes of one kind."""
    return rows.select(pl.lit(kind).alias(ROW_KIND), pl.all().exclude(ROW_KIND))

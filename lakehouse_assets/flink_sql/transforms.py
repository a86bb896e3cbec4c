"""What a compiled query does with the rows of a batch: frames in, frames out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import polars as pl

from lakehouse_assets.flink_sql.present import NOW, NOW_TYPE
from lakehouse_assets.stream.source import DELETE, INSERT, RETRACTIONS, ROW_KIND, UPDATE_AFTER
from storage_engine.errors import InvalidRows

_ORDER: Final = "\x1forder"
_PASSES: Final = "\x1fpasses"


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """The columns of the target, and the condition that a row must fulfil."""

    columns: Mapping[str, pl.Expr]
    where: pl.Expr

    def judged(self, rows: pl.DataFrame) -> pl.DataFrame:
        """The rows in their order, with what the columns are computed from. Raises as ``selected`` does."""
        now = pl.lit(datetime.now(UTC)).cast(NOW_TYPE).alias(NOW)
        with_now = rows.with_row_index(_ORDER).with_columns(now)
        try:
            return with_now.with_columns(self.where.fill_null(value=False).alias(_PASSES))
        except pl.exceptions.PolarsError as cause:
            raise _not_computed(cause) from cause

    def selected(self, rows: pl.DataFrame, kind: pl.Expr, columns: Mapping[str, pl.Expr]) -> pl.DataFrame:
        """Rows of the target. Raises InvalidRows for a value that cannot be computed."""
        made = [expression.alias(name) for name, expression in columns.items()]
        try:
            return rows.select(_ORDER, kind.alias(ROW_KIND), *made)
        except pl.exceptions.PolarsError as cause:
            raise _not_computed(cause) from cause


def _not_computed(cause: pl.exceptions.PolarsError) -> InvalidRows:
    reason = str(cause).partition("\n")[0]
    return InvalidRows(f"a value cannot be computed: {reason}; nothing was written")


@dataclass(frozen=True, slots=True, kw_only=True)
class EachRow:
    """Rows that are stored by a key which tells the source's row: what no longer passes is deleted.

    ``identity``: the columns that a delete needs, the key and what orders its versions. ``key``: those of the key; where one
    is NULL, there is nothing to delete. ``latest``: rows are the last state of their key; else they are all changes, and every
    retraction deletes.
    """

    query: Query
    identity: Mapping[str, pl.Expr]
    key: tuple[str, ...]
    latest: bool

    def __call__(self, rows: pl.DataFrame) -> pl.DataFrame:
        """The rows of the target, in the order of the source's."""
        judged = self.query.judged(rows)
        retracted = pl.col(ROW_KIND).is_in(RETRACTIONS)
        stays = pl.col(_PASSES) & ~retracted
        never_was = ~pl.col(_PASSES) & (pl.col(ROW_KIND) == INSERT)
        kept = self.query.selected(judged.filter(stays), pl.lit(UPDATE_AFTER), self.query.columns)
        gone = self.query.selected(judged.filter(~stays & ~never_was), pl.lit(DELETE), self.identity)
        gone = gone.drop_nulls(self.key)
        if gone.is_empty():
            return kept.drop(_ORDER)
        return pl.concat([gone, kept], how="diagonal").sort(_ORDER).drop(_ORDER)


@dataclass(frozen=True, slots=True, kw_only=True)
class Contributions:
    """What each change adds to an aggregating table; a retraction takes the same away again."""

    query: Query

    def __call__(self, rows: pl.DataFrame) -> pl.DataFrame:
        """The rows of the target, with the kinds of the source's."""
        judged = self.query.judged(rows).filter(_PASSES)
        return self.query.selected(judged, pl.col(ROW_KIND), self.query.columns).drop(_ORDER)


@dataclass(frozen=True, slots=True, kw_only=True)
class Additions:
    """Rows of a source whose keys are not the target's: each new one is upserted, and none may be taken back.

    ``target``: its name; ``key``: the columns of its key; ``source_key``: those of the source's.
    """

    query: Query
    target: str
    key: Mapping[str, pl.Expr]
    source_key: tuple[str, ...]

    def __call__(self, rows: pl.DataFrame) -> pl.DataFrame:
        """The rows of the target. Raises InvalidRows if a row was taken back."""
        judged = self.query.judged(rows).filter(_PASSES)
        retracted = pl.col(ROW_KIND).is_in(RETRACTIONS)
        added = judged.filter(~retracted)
        if added.height < judged.height:
            self._check(judged.filter(retracted), added)
        return self.query.selected(added, pl.lit(UPDATE_AFTER), self.query.columns).drop(_ORDER)

    def _check(self, retracted: pl.DataFrame, added: pl.DataFrame) -> None:
        keys = [expression.alias(f"\x1fkey{number}") for number, expression in enumerate(self.key.values())]
        own = [f"\x1fkey{number}" for number in range(len(keys))] + list(self.source_key)
        lost = retracted.with_columns(keys).join(added.with_columns(keys), on=own, how="anti", nulls_equal=True)
        if lost.is_empty():
            return
        row = lost.select(self.source_key).row(0, named=True)
        raise InvalidRows(
            f"the row {row} was deleted or left its key in {self.target}, where other rows may have the same key"
            f" ({', '.join(self.key)}): which of them counts now is not told by changes. Repair the whole table"
            " (its asset with whole: true), or include the source's key in the target's"
        )

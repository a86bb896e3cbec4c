"""A share of the keys of a join: what a batch takes of more than it may read at once; see ``join_shares``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from lakehouse_assets.stream.source import ROW_KIND
from storage_engine.kernel.row_hash import row_hash, shares_of
from storage_engine.spec.schema import TableSchema


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyShare:
    """One of ``of`` shares of the join keys, counted from 0. ``kind``: the only row kind that is written, None: all.

    ``max_rows`` and ``max_bytes`` (of files): what is held at a time while rows are read.
    """

    number: int
    of: int
    kind: str | None
    max_rows: int
    max_bytes: int | None

    def kept(self, rows: pl.DataFrame, on: Sequence[str], schema: TableSchema) -> pl.DataFrame:
        """The rows of this share: a frame of the join columns ``on`` and the key of a table, among others."""
        hashes = row_hash(rows.select(on), schema.types_of(on))
        has_none = rows.select(pl.any_horizontal(pl.col(on).is_null())).to_series().to_numpy()
        if has_none.any():
            key = list(schema.primary_keys)
            hashes = np.where(has_none, row_hash(rows.select(key), schema.types_of(key)), hashes)
        return rows.filter(pl.Series(shares_of(hashes, self.of) == self.number))

    def written(self, changes: pl.DataFrame) -> pl.DataFrame:
        """What is written of the changes of this share."""
        return changes if self.kind is None else changes.filter(pl.col(ROW_KIND) == self.kind)

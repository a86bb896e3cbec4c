"""What turns one state of a table into another, told from the two states alone.

Spec: ``incremental-between`` with scan mode ``diff`` of Apache Paimon 1.3.1, which tells the new side alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from storage_engine.kernel.conform import ROW_KIND

_COUNT = "_COUNT"


def difference(old: pl.DataFrame, new: pl.DataFrame, *, keys: Sequence[str]) -> pl.DataFrame:
    """The rows that came and went, with ``_row_kind``: -D, then -U, +U, then +I.

    Both frames have the same columns. Without ``keys`` rows are compared as wholes, each as often as it is there, and an
    update is a -D and a +I.
    """
    columns = old.columns
    sides = [old.with_columns(pl.lit(-1, pl.Int64).alias(_COUNT)), new.with_columns(pl.lit(1, pl.Int64).alias(_COUNT))]
    counted = pl.concat(sides).group_by(columns, maintain_order=True).agg(pl.col(_COUNT).sum())
    went = _repeated(counted.filter(pl.col(_COUNT) < 0))
    came = _repeated(counted.filter(pl.col(_COUNT) > 0))
    if not keys:
        return pl.concat([_as("-D", went), _as("+I", came)])
    on = list(keys)
    return pl.concat(
        [
            _as("-D", went.join(came, on=on, how="anti")),
            _as("-U", went.join(came, on=on, how="semi")),
            _as("+U", came.join(went, on=on, how="semi")),
            _as("+I", came.join(went, on=on, how="anti")),
        ]
    )


def _repeated(counted: pl.DataFrame) -> pl.DataFrame:
    """Each row as often as its count says, whatever its sign."""
    times = counted.get_column(_COUNT).abs()
    if (times == 1).all():
        return counted.drop(_COUNT)
    places = pl.int_range(counted.height, eager=True).repeat_by(times).explode().drop_nulls()
    return counted.drop(_COUNT)[places]


def _as(kind: str, rows: pl.DataFrame) -> pl.DataFrame:
    return rows.with_columns(pl.lit(kind).alias(ROW_KIND))

"""The present time in a query: ``PROCTIME()``, ``NOW()`` and the like, one moment for a whole batch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import polars as pl

from lakehouse_assets.flink_sql.values import Value

NOW: Final = "\x1fnow"
"""The frame's column that holds the time at which a batch is computed, the same in all its rows."""

NOW_TYPE: Final = pl.Datetime("ms", "UTC")

NOW_CALLS: Final[Mapping[str, pl.DataType]] = {
    "PROCTIME": NOW_TYPE,
    "NOW": NOW_TYPE,
    "CURRENT_TIMESTAMP": NOW_TYPE,
    "CURRENT_ROW_TIMESTAMP": NOW_TYPE,
    "LOCALTIMESTAMP": pl.Datetime("ms"),
    "CURRENT_DATE": pl.Date(),
}


def present(name: str) -> Value:
    """The value of a call of that name."""
    dtype = NOW_CALLS[name.upper()]
    moment = pl.col(NOW) if dtype == NOW_TYPE else pl.col(NOW).dt.replace_time_zone(None).cast(dtype)
    return Value(expr=moment, dtype=dtype, reads=frozenset(), steady=False, moment=name.upper() == "PROCTIME")

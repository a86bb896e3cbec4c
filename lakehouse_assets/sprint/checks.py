"""What must hold of the project's tables."""

from __future__ import annotations

from typing import Final

import polars as pl

from lakehouse_assets.checks import Check, Totals, key_unique, layers_agree, quarantine_count, stream_lag
from lakehouse_assets.ingest import QUARANTINE
from lakehouse_assets.sprint.app import MEMBER_GROWTH, SPRINT_PERFORMANCE
from lakehouse_assets.sprint.dwd import MEMBER_MONTH, MEMBER_ORDER
from lakehouse_assets.sprint.ods import INGESTIONS
from lakehouse_assets.sprint.tables import STREAMS, TABLES

QUARANTINED_MAX: Final = 1_000
_COUNTED: Final = (pl.col("status") == "paid") & pl.col("complete")


def _of_type(order_type: str) -> pl.Expr:
    return ((pl.col("order_type") == order_type) & (pl.col("orders") > 0)).cast(pl.Int64)


_AGREEMENTS: Final = {
    MEMBER_ORDER.target: layers_agree(
        Totals(
            table="ods.member_order",
            sums={"orders": pl.col("id").is_not_null(), "amount": pl.col("amount")},
            where=~pl.col("deleted"),
        ),
        Totals(table="dwd.member_order", sums={"orders": pl.col("id").is_not_null(), "amount": pl.col("amount")}),
        MEMBER_ORDER,
    ),
    SPRINT_PERFORMANCE.target: layers_agree(
        Totals(
            table="dwd.member_order",
            sums={"orders": pl.col("id").is_not_null(), "amount": pl.col("amount"), "score": pl.col("score")},
            where=_COUNTED,
        ),
        Totals(table="app.sprint_performance", sums={name: pl.col(name) for name in ("orders", "amount", "score")}),
        SPRINT_PERFORMANCE,
    ),
    MEMBER_MONTH.target: layers_agree(
        Totals(table="dwd.member_order", sums={"orders": pl.col("id").is_not_null()}, where=_COUNTED),
        Totals(table="dwd.member_month", sums={"orders": pl.col("orders")}),
        MEMBER_MONTH,
    ),
    MEMBER_GROWTH.target: layers_agree(
        Totals(
            table="dwd.member_month",
            sums={"new_members": _of_type("new"), "renewed_members": _of_type("renew")},
        ),
        Totals(table="app.member_growth", sums={name: pl.col(name) for name in ("new_members", "renewed_members")}),
        MEMBER_GROWTH,
    ),
}


def _checks_of(table: str) -> dict[str, Check]:
    checks = {"key_unique": key_unique(table)}
    streams = {stream.target: stream for stream in STREAMS}
    if table in streams:
        checks["lag"] = stream_lag(streams[table])
        checks["layers_agree"] = _AGREEMENTS[table]
    if table in {ingestion.target for ingestion in INGESTIONS}:
        checks["quarantine"] = quarantine_count(QUARANTINE, table, rows_max=QUARANTINED_MAX)
    return checks


CHECKS: Final[dict[str, dict[str, Check]]] = {table: _checks_of(table) for table in TABLES}
"""Table → name of the check → check."""

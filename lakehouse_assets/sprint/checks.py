"""What must hold of the project's tables."""

from __future__ import annotations

from typing import Final

import polars as pl

from lakehouse_assets.checks import Check, Totals, hit_rate, late_rows, layers_agree
from lakehouse_assets.sprint.app import MEMBER_GROWTH, SPRINT_PERFORMANCE
from lakehouse_assets.sprint.dwd import MEMBER_MONTH, MEMBER_ORDER
from lakehouse_assets.stream.declaration import Stream

LATE_DAYS_MAX: Final = 90
_COUNTED: Final = (pl.col("status") == "paid") & pl.col("complete")


def _of_type(order_type: str) -> pl.Expr:
    return ((pl.col("order_type") == order_type) & (pl.col("orders") > 0)).cast(pl.Int64)


def _agree(upstream: Totals, downstream: Totals, stream: Stream) -> dict[str, Check]:
    return {"layers_agree": layers_agree(upstream, downstream, stream)}


CHECKS: Final[dict[str, dict[str, Check]]] = {
    MEMBER_ORDER.target: {
        **_agree(
            Totals(
                table="ods.member_order",
                sums={"orders": pl.col("id").is_not_null(), "amount": pl.col("amount")},
                where=~pl.col("deleted"),
            ),
            Totals(table="dwd.member_order", sums={"orders": pl.col("id").is_not_null(), "amount": pl.col("amount")}),
            MEMBER_ORDER,
        ),
        "hit_rate": hit_rate(MEMBER_ORDER.target, "product_name", least=0.9),
        "late_data": late_rows(MEMBER_ORDER.target, day="v_date", time="event_time", days_max=LATE_DAYS_MAX),
    },
    SPRINT_PERFORMANCE.target: _agree(
        Totals(
            table="dwd.member_order",
            sums={"orders": pl.col("id").is_not_null(), "amount": pl.col("amount"), "score": pl.col("score")},
            where=_COUNTED,
        ),
        Totals(table="app.sprint_performance", sums={name: pl.col(name) for name in ("orders", "amount", "score")}),
        SPRINT_PERFORMANCE,
    ),
    MEMBER_MONTH.target: _agree(
        Totals(table="dwd.member_order", sums={"orders": pl.col("id").is_not_null()}, where=_COUNTED),
        Totals(table="dwd.member_month", sums={"orders": pl.col("orders")}),
        MEMBER_MONTH,
    ),
    MEMBER_GROWTH.target: _agree(
        Totals(
            table="dwd.member_month",
            sums={"new_members": _of_type("new"), "renewed_members": _of_type("renew")},
        ),
        Totals(table="app.member_growth", sums={name: pl.col(name) for name in ("new_members", "renewed_members")}),
        MEMBER_GROWTH,
    ),
}
"""Table → name → check: what the layers must agree on."""

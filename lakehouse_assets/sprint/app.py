"""APP: the figures that people look at."""

from __future__ import annotations

from typing import Final

import polars as pl

from lakehouse_assets.sprint.dwd import COUNTED, counted
from lakehouse_assets.stream.declaration import Repair, Stream


def sprint_figures(orders: pl.DataFrame) -> pl.DataFrame:
    """What each change of an order adds to its agent's figures; a retraction takes the same away again."""
    return counted(orders).select(
        "_row_kind",
        "v_date",
        pl.col("sprint_id", "team_id").fill_null(""),
        "agent_id",
        pl.lit(1, pl.Int64).alias("orders"),
        pl.col("amount", "score").fill_null(0),
        pl.col("event_time").alias("update_time"),
    )


def growth(members: pl.DataFrame) -> pl.DataFrame:
    """A member counts once for as long as there is a paid order, however many there are."""
    return members.filter(pl.col("orders") > 0).select(
        "_row_kind",
        "v_month",
        "city_id",
        "product_id",
        (pl.col("order_type") == "new").cast(pl.Int64).alias("new_members"),
        (pl.col("order_type") == "renew").cast(pl.Int64).alias("renewed_members"),
    )


SPRINT_PERFORMANCE: Final = Stream(
    source="dwd.member_order",
    target="app.sprint_performance",
    transform=sprint_figures,
    columns=(*COUNTED, "v_date", "sprint_id", "team_id", "agent_id", "amount", "score", "event_time"),
    reads="changelog",
    repair=Repair(column="v_date", source=pl.col("v_date"), mode="overwrite"),
    computed={"orders": ("id", "status", "complete"), "update_time": ("event_time",)},
    description="Orders, amount and score per sprint, day, team and agent.",
)

MEMBER_GROWTH: Final = Stream(
    source="dwd.member_month",
    target="app.member_growth",
    transform=growth,
    reads="changelog",
    repair=Repair(column="v_month", source=pl.col("v_month")),
    computed={
        "new_members": ("member_id", "order_type", "orders"),
        "renewed_members": ("member_id", "order_type", "orders"),
    },
    description="Distinct new and renewed members per month, city and product.",
)

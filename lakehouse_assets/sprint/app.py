"""APP: what the business looks at."""

from __future__ import annotations

import polars as pl

from lakehouse_assets.sprint.dwd import counted
from lakehouse_assets.stream.declaration import Stream


def sprint_rows(rows: pl.DataFrame) -> pl.DataFrame:
    """Each paid order adds itself; a retraction takes away what the retracted row had added."""
    return counted(rows).with_columns(pl.lit(1, pl.Int64).alias("orders"), pl.col("event_time").alias("update_time"))


SPRINT_PERFORMANCE = Stream(
    source="dwd.member_order",
    target="app.sprint_performance",
    transform=sprint_rows,
    every_change=True,
    description="Orders, amount and score per sprint, day, team and agent.",
)


def growth_rows(rows: pl.DataFrame) -> pl.DataFrame:
    """A member counts while it has orders: a row whose count is zero adds nothing and takes nothing away."""
    present = (pl.col("orders") > 0).cast(pl.Int64)
    of_type = [
        pl.when(pl.col("order_type") == order_type).then(present).otherwise(0).alias(column)
        for order_type, column in (("new", "new_members"), ("renew", "renewed_members"))
    ]
    return rows.with_columns(of_type)


MEMBER_GROWTH = Stream(
    source="dwd.member_month",
    target="app.member_growth",
    transform=growth_rows,
    every_change=True,
    description="Distinct new and renewed members per month, city and product.",
)

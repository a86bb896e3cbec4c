"""DWD: orders widened by what they refer to, and who ordered what in a month."""

from __future__ import annotations

from typing import Final

import polars as pl

from lakehouse_assets.stream.declaration import Lookup, Repair, Stream

DECIMAL: Final = pl.Decimal(20, 4)
COUNTED: Final = ("status", "complete")
"""Columns that tell whether an order counts."""


def widened_orders(orders: pl.DataFrame) -> pl.DataFrame:
    """The state of each order that has changed, or whose agent, team, product, sprint, member or city has.

    An order whose agent, product or member has not arrived yet (or was deleted) stays and is not complete; when the
    missing row comes, the order comes through here again.
    """
    gone = pl.col("deleted") | (pl.col("_row_kind") == "-D")
    score = pl.col("score_weight") * pl.col("quantity").cast(pl.Decimal(10, 0))
    return orders.select(
        pl.when(gone).then(pl.lit("-D")).otherwise(pl.lit("+U")).alias("_row_kind"),
        "v_date",
        "id",
        "member_id",
        "city_id",
        "city_name",
        "agent_id",
        "agent_name",
        "team_id",
        "team_name",
        "product_id",
        "product_name",
        "category",
        "category_name",
        "sprint_id",
        "sprint_name",
        "order_type",
        "quantity",
        "amount",
        score.cast(DECIMAL, strict=False).alias("score"),
        "status",
        pl.all_horizontal("agent_known", "product_known", "member_known").alias("complete"),
        "event_time",
    )


def counted(orders: pl.DataFrame) -> pl.DataFrame:
    """The changes of orders that count in figures: paid, and complete."""
    return orders.filter((pl.col("status") == "paid") & pl.col("complete"))


def members_of_month(orders: pl.DataFrame) -> pl.DataFrame:
    """Each change of an order is one order more for its member; a retraction is one less."""
    return counted(orders).select(
        "_row_kind",
        pl.col("v_date").str.head(7).alias("v_month"),
        pl.col("city_id").fill_null(""),
        "product_id",
        pl.col("order_type").fill_null(""),
        "member_id",
        pl.lit(1, pl.Int64).alias("orders"),
    )


MEMBER_ORDER: Final = Stream(
    source="ods.member_order",
    target="dwd.member_order",
    transform=widened_orders,
    lookups=(
        Lookup(
            table="dim.agent",
            left_on="agent_id",
            columns={"name": "agent_name", "team_id": "team_id"},
            found="agent_known",
            deleted="deleted",
        ),
        Lookup(table="dim.team", left_on="team_id", columns={"name": "team_name"}, deleted="deleted"),
        Lookup(
            table="dim.product",
            left_on="product_id",
            columns={
                "name": "product_name",
                "category": "category",
                "category_name": "category_name",
                "score_weight": "score_weight",
            },
            found="product_known",
            deleted="deleted",
        ),
        Lookup(table="dim.sprint", left_on="sprint_id", columns={"name": "sprint_name"}, deleted="deleted"),
        Lookup(
            table="ods.member",
            left_on="member_id",
            columns={"city_id": "city_id"},
            found="member_known",
            deleted="deleted",
        ),
        Lookup(table="dim.city", left_on="city_id", columns={"name": "city_name"}, deleted="deleted"),
    ),
    repair=Repair(column="v_date", source=pl.col("v_date")),
    computed={
        "score": ("score_weight", "quantity"),
        "complete": ("agent_known", "product_known", "member_known"),
    },
    description="Orders widened by lookup joins; a changed dimension row sends its orders through again.",
)

MEMBER_MONTH: Final = Stream(
    source="dwd.member_order",
    target="dwd.member_month",
    transform=members_of_month,
    columns=(*COUNTED, "v_date", "city_id", "product_id", "order_type", "member_id"),
    reads="changelog",
    repair=Repair(column="v_month", source=pl.col("v_date").str.head(7)),
    computed={"v_month": ("v_date",), "orders": ("id", "status", "complete")},
    description="Paid orders by member and month.",
)

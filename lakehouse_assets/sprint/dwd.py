"""DWD: orders in event-time order, widened by their dimensions; orders by member and month."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from lakehouse_assets.stream.declaration import Lookup, Stream

ROW_KIND = "_row_kind"
PAID = "paid"


def order_rows(rows: pl.DataFrame) -> pl.DataFrame:
    """ODS orders with looked-up columns as DWD rows: what the source has deleted becomes a delete."""
    gone = pl.col("deleted").fill_null(value=False) | pl.col(ROW_KIND).is_in(["-D", "-U"])
    return rows.with_columns(
        pl.when(gone).then(pl.lit("-D")).otherwise(pl.lit("+U")).alias(ROW_KIND),
        (pl.col("score_weight") * pl.col("quantity").cast(pl.Decimal(20, 0))).cast(pl.Decimal(20, 4)).alias("score"),
    )


MEMBER_ORDER = Stream(
    source="ods.member_order",
    target="dwd.member_order",
    transform=order_rows,
    lookups=(
        Lookup(table="dim.agent", on="agent_id", take={"agent_name": "name", "team_id": "team_id"}),
        Lookup(table="dim.team", on="team_id", take={"team_name": "name"}),
        Lookup(
            table="dim.product",
            on="product_id",
            take={
                "product_name": "name",
                "category": "category",
                "category_name": "category_name",
                "score_weight": "score_weight",
            },
        ),
        Lookup(table="dim.sprint", on="sprint_id", take={"sprint_name": "name"}),
        Lookup(table="ods.member", on="member_id", take={"city_id": "city_id"}),
        Lookup(table="dim.city", on="city_id", take={"city_name": "name"}),
    ),
    description="Orders in event-time order, widened by lookup joins; a changed dimension row re-emits its orders.",
)


def counted(rows: pl.DataFrame) -> pl.DataFrame:
    """Orders that count: paid, with a known team, product and city."""
    known = pl.all_horizontal(pl.col("team_id", "score", "city_id").is_not_null())
    return rows.filter(pl.col("status") == PAID, known)


def member_month_rows(rows: pl.DataFrame) -> pl.DataFrame:
    """One order more for each insert, one less for each retraction: the kinds do it."""
    return counted(rows).with_columns(
        pl.col("v_date").str.head(7).alias("v_month"), pl.lit(1, pl.Int64).alias("orders")
    )


def orders_of_months(months: Sequence[str]) -> pl.Expr:
    """The orders that make up some months."""
    return pl.col("v_date").str.head(7).is_in(list(months))


MEMBER_MONTH = Stream(
    source="dwd.member_order",
    target="dwd.member_month",
    transform=member_month_rows,
    every_change=True,
    partition_filter=orders_of_months,
    description="Paid orders by member and month.",
)

"""The case study's own statements run as a project, and its tables are what a recomputation in plain Python gives."""

from __future__ import annotations

import datetime as dt
import random
from collections import defaultdict
from decimal import Decimal
from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from lakehouse_assets.flink_sql import load_project
from lakehouse_assets.resources import LakehouseResource
from lakehouse_assets.stream.runner import run_batch
from storage_engine import Catalog

CASE_STUDY = Path(__file__).parent / "case_study"
DAYS = ["2024-01-01", "2024-01-02"]
Row = dict[str, object]


def order(seed: random.Random, number: int, clock: int) -> Row:
    return {
        "v_date": DAYS[number % 2],
        "id": f"o{number}",
        "member_id": number,
        "agent_id": seed.choice(["a", "b", "c"]),
        "product_id": seed.choice(["p1", "p2", "late"]),
        "amount": Decimal(seed.randrange(1, 10_000)).scaleb(-4),
        "status": seed.choice(["paid", "paid", "refunded", "deleted"]),
        "event_time": dt.datetime(2024, 1, 1) + dt.timedelta(seconds=clock + seed.randrange(-20, 20)),
    }


def frame(rows: list[Row]) -> pl.DataFrame:
    types = {"amount": pl.Decimal(20, 4), "event_time": pl.Datetime("us")}
    return pl.DataFrame(rows, schema_overrides=types)


def newest(upserts: list[Row]) -> dict[object, Row]:
    """The rows by key, of which the newest event counts; of equal ones the later."""
    kept: dict[object, Row] = {}
    for row in upserts:
        known = kept.get(row["id"])
        if known is None or row["event_time"] >= known["event_time"]:  # type: ignore[operator]
            kept[row["id"]] = row
    return kept


def widened(orders: dict[object, Row], dimension: dict[str, str]) -> set[tuple[object, ...]]:
    return {
        (row["id"], row["product_id"], dimension.get(str(row["product_id"])))
        for row in orders.values()
        if row["status"] != "deleted"
    }


def totals(orders: dict[object, Row]) -> dict[tuple[object, object], tuple[int, Decimal, int]]:
    found: dict[tuple[object, object], tuple[int, Decimal, int]] = defaultdict(lambda: (0, Decimal(0), 0))
    for row in orders.values():
        key, paid = (row["v_date"], row["agent_id"]), row["status"] == "paid"
        if row["status"] in ("paid", "refunded"):
            count, amount, refunds = found[key]
            found[key] = (count + 1, amount + (row["amount"] if paid else 0), refunds + (not paid))  # type: ignore[operator]
    return dict(found)


def run(catalog: Catalog) -> None:
    for stream in load_project(CASE_STUDY).streams:
        while run_batch(catalog, stream) is not None:
            pass


@pytest.mark.parametrize("seed", [1, 2])
def test_tables_are_what_a_recomputation_gives(catalog: Catalog, seed: int) -> None:
    project, chance = load_project(CASE_STUDY), random.Random(seed)
    catalog.execute(project.ddl)
    dimension = {"p1": "TEA", "p2": "MILK"}
    products = pl.DataFrame({"id": list(dimension), "name": ["t", "m"], "category": ["c", "c"]})
    catalog.table("default.dim_order_info").write(products.with_columns(pl.Series("category_name", ["Tea", "Milk"])))
    upserts: list[Row] = []
    for batch in range(4):
        rows = [order(chance, chance.randrange(25), batch * 10) for _ in range(20)]
        rows = list({row["id"]: row for row in rows}.values())
        upserts += rows
        catalog.table("default.source_table").write(frame(rows))
        run(catalog)
    late = {"id": ["late"], "name": ["l"], "category": ["c"], "category_name": ["Late"]}
    catalog.table("default.dim_order_info").write(pl.DataFrame(late))
    dimension["late"] = "LATE"
    run(catalog)
    orders = newest(upserts)
    shown = catalog.table("default.dwd_order").scan().select("id", "product_id", "category_name").collect()
    assert set(shown.rows()) == widened(orders, dimension)
    sums = catalog.table("default.agent_day").scan().filter(pl.col("orders") > 0).collect()
    assert {row[:2]: row[2:] for row in sums.rows()} == totals(orders)
    scores = catalog.table("default.agg_table").scan().filter(pl.col("score") != 0).collect()
    paid = {key: amount for key, (_, amount, _) in totals(orders).items() if amount}
    assert {row[:2]: row[2] for row in scores.select("v_date", "agent_id", "score").rows()} == paid


def test_it_is_assets_lineage_and_a_repair_without_python(tmp_path: Path) -> None:
    sql = load_project(CASE_STUDY)
    assert set(sql.added) == {"default.source_table", "default.ods_member", "default.dim_order_info"}
    days = {"v_date": dg.DailyPartitionsDefinition(start_date="2024-01-01", end_date="2024-02-01")}
    lakehouse = LakehouseResource(warehouse=str(tmp_path), ddl=sql.ddl)
    definitions = sql.project(partitions=days).definitions(lakehouse)
    dg.Definitions.validate_loadable(definitions)
    graph = definitions.resolve_asset_graph()
    keys = {key.to_user_string() for key in graph.get_all_asset_keys()}
    assert {
        "default/agg_table",
        "stream/default/agg_table",
        "repair/default/ods_member",
        "default/source_table",
    } <= keys
    lineage = graph.get(dg.AssetKey(["default", "dwd_order"])).metadata["dagster/column_lineage"].deps_by_column
    assert [(each.asset_key.to_user_string(), each.column_name) for each in lineage["category_name"]] == [
        ("default/dim_order_info", "category_name")
    ]
    raw = [order(random.Random(number), number, 0) | {"status": "paid"} for number in range(6)]
    lakehouse.table("default.raw_table").write(frame(raw))
    job = definitions.resolve_implicit_global_asset_job_def()
    streams = [dg.AssetKey(["stream", *stream.target.split(".")]) for stream in sql.streams]
    day_range = {"dagster/asset_partition_range_start": DAYS[0], "dagster/asset_partition_range_end": DAYS[0]}
    with dg.DagsterInstance.ephemeral() as instance:
        repair = dg.AssetKey(["repair", "default", "ods_member"])
        assert job.execute_in_process(asset_selection=[repair], tags=day_range, instance=instance).success
        written = lakehouse.table("default.ods_member").scan().select("id").collect()["id"].to_list()
        assert sorted(written) == ["o0", "o2", "o4"]
        idle = {"ops": {"stream__default__ods_member": {"config": {"report_idle": True}}}}
        assert job.execute_in_process(asset_selection=streams, instance=instance, run_config=idle).success
        assert lakehouse.table("default.agent_day").scan().select(pl.col("orders").sum()).collect().item() == 3
        checks = {key.name for key in graph.asset_check_keys if key.asset_key == dg.AssetKey(["default", "agg_table"])}
        assert {"key_unique", "lag"} <= checks

"""A team's own project: SQL, an ingestion and a stream are enough."""

from __future__ import annotations

import json
from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from lakehouse_assets.ddl import defined_tables
from lakehouse_assets.ingest import Ingestion
from lakehouse_assets.project import Project
from lakehouse_assets.resources import LakehouseResource, LandingResource
from lakehouse_assets.stream.declaration import Repair, Stream
from lakehouse_assets.stream.errors import InvalidStream
from storage_engine.errors import SqlError

DDL = """
CREATE DATABASE IF NOT EXISTS ods;
CREATE DATABASE IF NOT EXISTS app;
CREATE TABLE IF NOT EXISTS ods.sale (
    id STRING, item STRING, amount DECIMAL(10, 2), event_time TIMESTAMP(3), op STRING, deleted BOOLEAN,
    PRIMARY KEY (id) NOT ENFORCED
) WITH ('bucket' = '1', 'sequence.field' = 'event_time', 'changelog-producer' = 'lookup');
CREATE TABLE IF NOT EXISTS ods.quarantine (
    source_file STRING, line BIGINT, target STRING, reason STRING, raw STRING, quarantined_at TIMESTAMP(3),
    corrected STRING, replayed_at TIMESTAMP(3), PRIMARY KEY (source_file, line) NOT ENFORCED
) WITH ('bucket' = '1', 'merge-engine' = 'partial-update');
CREATE TABLE IF NOT EXISTS app.item (
    item STRING, sales BIGINT, amount DECIMAL(20, 2), PRIMARY KEY (item) NOT ENFORCED
) WITH ('bucket' = '1', 'merge-engine' = 'aggregation', 'fields.default-aggregate-function' = 'sum');
"""


def sold(sales: pl.DataFrame) -> pl.DataFrame:
    kept = sales.filter(~pl.col("deleted"))
    return kept.select("_row_kind", "item", pl.lit(1, pl.Int64).alias("sales"), "amount")


SHOP = Project(
    name="shop",
    ddl=DDL,
    ingestions=(Ingestion(source_table="sale", target="ods.sale"),),
    streams=(
        Stream(
            source="ods.sale",
            target="app.item",
            transform=sold,
            reads="changelog",
            repair=Repair(column="item", source=pl.col("item")),
        ),
    ),
)
STREAMS = [dg.AssetKey(["stream", "ods", "sale"]), dg.AssetKey(["stream", "app", "item"])]


def event(op: str, key: str, item: str, amount: str, time: int) -> str:
    row = {"id": key, "item": item, "amount": amount, "event_time": time}
    sides = {"before": row, "after": None} if op == "d" else {"before": None, "after": row}
    return json.dumps({"op": op, **sides, "source": {"ts_ms": time}})


@pytest.fixture
def landing(tmp_path: Path) -> Path:
    folder = tmp_path / "landing" / "sale"
    folder.mkdir(parents=True)
    return folder


def test_it_has_assets_checks_sensors_and_schedules(tmp_path: Path) -> None:
    definitions = SHOP.definitions(LakehouseResource(warehouse=str(tmp_path)), LandingResource(folder=str(tmp_path)))
    dg.Definitions.validate_loadable(definitions)
    keys = definitions.resolve_asset_graph().get_all_asset_keys()
    assert {key.to_user_string() for key in keys} >= {"ods/sale", "app/item", "ods/quarantine", "stream/app/item"}
    checks = {
        (check.asset_key.to_user_string(), check.name) for check in definitions.resolve_asset_graph().asset_check_keys
    }
    assert {("app/item", "lag"), ("app/item", "key_unique"), ("ods/sale", "quarantine")} <= checks
    assert {sensor.name for sensor in definitions.sensors or ()} == {"shop_ingestion", "app_item_stream"}
    assert "repair_yesterday" not in {schedule.name for schedule in definitions.schedules or ()}


def test_it_runs_and_can_be_repaired(tmp_path: Path, landing: Path) -> None:
    lakehouse = LakehouseResource(warehouse=str(tmp_path / "warehouse"), ddl=DDL)
    definitions = SHOP.definitions(lakehouse, LandingResource(folder=str(landing.parent)))
    job = definitions.resolve_implicit_global_asset_job_def()

    def items() -> list[tuple[object, ...]]:
        rows = lakehouse.table("app.item").scan().select("item", "sales", pl.col("amount").cast(pl.String))
        return rows.collect().sort("item").rows()

    with dg.DagsterInstance.ephemeral() as instance:
        (landing / "1.jsonl").write_text(
            "\n".join([event("c", "1", "tea", "2.50", 1), event("c", "2", "tea", "2.50", 2), "broken"])
        )
        assert job.execute_in_process(asset_selection=STREAMS, instance=instance).success
        assert items() == [("tea", 2, "5.00")]
        (landing / "2.jsonl").write_text(event("u", "2", "milk", "1.20", 3) + "\n" + event("d", "1", "tea", "2.50", 4))
        assert job.execute_in_process(asset_selection=STREAMS, instance=instance).success
        assert items() == [("milk", 1, "1.20"), ("tea", 0, "0.00")]
        lakehouse.table("app.item").write(
            pl.DataFrame({"item": ["tea"], "sales": [9], "amount": ["1"]}).cast({"amount": pl.Decimal(20, 2)})
        )
        assert job.execute_in_process(asset_selection=[dg.AssetKey(["app", "item"])], instance=instance).success
        assert [row for row in items() if row[1]] == [("milk", 1, "1.20")]


def test_tables_are_defined_by_a_script() -> None:
    tables = defined_tables(DDL)
    assert list(tables) == ["ods.sale", "ods.quarantine", "app.item"]
    assert tables["app.item"].primary_keys == ("item",)
    with pytest.raises(SqlError):
        defined_tables("CREATE TABLE ods.sale (")


@pytest.mark.parametrize("kind", ["ingestions", "streams"])
def test_a_target_that_there_is_none_of_is_told(kind: str) -> None:
    ingestion = Ingestion(source_table="sale", target="ods.sales")
    stream = Stream(source="ods.sale", target="app.items", transform=sold)
    wrong = Project(name="shop", ddl=DDL, **{kind: [ingestion if kind == "ingestions" else stream]})  # type: ignore[arg-type]
    with pytest.raises(
        InvalidStream, match=r"project shop fills (ods.sales|app.items), but declares no such table; .*ods.sale, "
    ):
        wrong.definitions(LakehouseResource(warehouse="memory://none", ddl=DDL))

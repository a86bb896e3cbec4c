"""Stream and table assets in Dagster: materialized on a real warehouse, with a real instance."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest

from lakehouse_assets.definitions import build_definitions
from lakehouse_assets.reporting import TableAsset
from lakehouse_assets.resources import LakehouseResource, LandingResource
from lakehouse_assets.sprint.assets import SprintLakehouse
from lakehouse_assets.stream.declaration import Bounds, Stream
from lakehouse_assets.stream_assets import stream_asset
from lakehouse_demo.events import StreamConfig
from lakehouse_demo.landing import land
from storage_engine import Catalog

CONFIG = StreamConfig(events=800, slices=4, malformed=8)
DWD, APP = dg.AssetKey(["dwd", "member_order"]), dg.AssetKey(["app", "sprint_performance"])
DAYS = ("2024-01-29", "2024-01-30")


class Location:
    """The code location on a warehouse and a landing folder of its own."""

    def __init__(self, folder: Path, instance: dg.DagsterInstance) -> None:
        self.instance = instance
        self.lakehouse = SprintLakehouse(warehouse=str(folder / "warehouse"))
        self.landing = folder / "landing"
        self.definitions = build_definitions(self.lakehouse, LandingResource(folder=str(self.landing)))
        self._job = self.definitions.resolve_implicit_global_asset_job_def()
        self.slices = land(CONFIG, self.landing)

    @property
    def catalog(self) -> Catalog:
        return self.lakehouse.catalog()

    def run(
        self, *keys: dg.AssetKey, config: dict[str, object] | None = None, **settings: Any
    ) -> dg.ExecuteInProcessResult:
        steps = {"ingest" if key.path[1] in ("ods", "dim") else "__".join(key.path) for key in keys}
        ops = {"ops": {step: {"config": config} for step in steps}} if config else {}
        return self._job.execute_in_process(
            instance=self.instance, asset_selection=list(keys), run_config=ops, **settings
        )

    def stream(self, **config: object) -> dg.ExecuteInProcessResult:
        keys = self.definitions.resolve_asset_graph().get_all_asset_keys()
        return self.run(*(key for key in keys if key.path[0] == "stream"), config={"report_idle": True, **config})

    def repair(self, *keys: dg.AssetKey, first: str = DAYS[0], last: str = DAYS[1]) -> dg.ExecuteInProcessResult:
        tags = {"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last}
        return self.run(*keys, tags=tags)


@pytest.fixture
def location(tmp_path: Path) -> Iterator[Location]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield Location(tmp_path, instance)


def materializations(result: dg.ExecuteInProcessResult, key: dg.AssetKey) -> list[dg.AssetMaterialization]:
    events = result.filter_events(lambda event: event.is_step_materialization and event.asset_key == key)
    return [event.step_materialization_data.materialization for event in events]


def key_of(*path: str) -> dg.AssetKey:
    return dg.AssetKey(list(path))


def test_a_run_moves_all_layers_and_reports_the_partitions_it_touched(location: Location) -> None:
    next(location.slices)
    next(location.slices)
    result = location.stream()
    assert result.success
    found = location.catalog.table("dwd.member_order").scan().select(pl.col("v_date").unique()).collect()
    assert location.instance.get_materialized_partitions(DWD) == set(found["v_date"])
    event = materializations(result, DWD)[-1]
    snapshot = location.catalog.table("dwd.member_order").latest_snapshot()
    assert snapshot is not None
    assert event.tags is not None
    assert event.tags["dagster/data_version"] == str(snapshot.id)
    rows = location.catalog.table("dwd.member_order").scan().collect()
    metadata = event.metadata
    assert metadata["dagster/row_count"].value == rows.height
    assert metadata["dagster/partition_row_count"].value == rows.filter(pl.col("v_date") == event.partition).height
    assert metadata["dagster/table_name"].value == "dwd.member_order"
    assert str(metadata["dagster/uri"].value).endswith("/warehouse/dwd.db/member_order")
    assert metadata["level0_files"].value == 0


def test_a_batch_has_numbers_that_plot(location: Location) -> None:
    next(location.slices)
    (event,) = materializations(location.stream(), key_of("stream", "dwd", "member_order"))
    numbers = {name: entry.value for name, entry in event.metadata.items() if isinstance(entry.value, int | float)}
    assert numbers["rows_read"] > 0
    assert numbers["rows_behind"] == 0
    assert 0 < numbers["lookup_hit_rate"] <= 1
    assert {"commit_ms", "duration_ms", "snapshot", "rows_written", "rows_reemitted", "lookup_cache_bytes"} <= set(
        numbers
    )
    assert "ods.member by member_id" in str(event.metadata["lookups"].value)


def test_refused_lines_are_counted_on_the_page(location: Location) -> None:
    for _ in location.slices:
        pass
    result = location.stream()
    (event,) = materializations(result, key_of("stream", "ods", "member_order"))
    refused = location.catalog.table("ods.quarantine").scan().filter(pl.col("target") == "ods.member_order").collect()
    assert event.metadata["rows_rejected"].value == refused.height > 0
    checks = {check.check_name: check for check in location_checks(result, key_of("ods", "member_order"))}
    assert checks["quarantine"].metadata["quarantined"].value == refused.height


def location_checks(result: dg.ExecuteInProcessResult, key: dg.AssetKey) -> list[dg.AssetCheckEvaluation]:
    return [check for check in result.get_asset_check_evaluations() if check.asset_key == key]


def test_a_stream_run_evaluates_the_checks_of_its_table(location: Location) -> None:
    next(location.slices)
    result = location.stream()
    for key in (DWD, APP):
        checks = location_checks(result, key)
        names = {check.check_name for check in checks if check.severity is dg.AssetCheckSeverity.ERROR}
        assert names == {"key_unique", "layers_agree"}
        assert {check.check_name for check in checks} - names >= {"lag"}
        assert all(check.passed for check in checks if check.check_name in {*names, "lag"})
    assert not location_checks(location.stream(evaluate_checks=False), DWD)


def test_a_run_without_news_materializes_nothing(location: Location) -> None:
    next(location.slices)
    location.stream()
    key = key_of("stream", "dwd", "member_order")
    result = location.run(key)
    assert result.success
    assert materializations(result, key) == materializations(result, DWD) == []
    assert location.catalog.table("dwd.member_order").latest_snapshot() is not None


def test_a_run_that_goes_on_for_a_while_ends_in_time(location: Location) -> None:
    next(location.slices)
    location.stream()
    result = location.run(key_of("stream", "dwd", "member_order"), config={"seconds": 0.2})
    assert result.success


def copied(rows: pl.DataFrame) -> pl.DataFrame:
    return rows


def test_one_run_may_hold_many_batches_each_with_its_own_event(tmp_path: Path) -> None:
    lakehouse = LakehouseResource(warehouse=str(tmp_path))
    catalog = lakehouse.catalog()
    catalog.create_database("db")
    for name in ("db.a", "db.b"):
        catalog.create_table(
            name, {"id": "STRING"}, primary_key=["id"], options={"bucket": "1", "changelog-producer": "lookup"}
        )
    stream = Stream(source="db.a", target="db.b", transform=copied, bounds=Bounds(max_snapshots=1))
    asset = stream_asset(stream, TableAsset(name="db.b", schema=catalog.table("db.b").schema))
    catalog.table("db.a").write(pl.DataFrame({"id": ["0"]}))
    resources = {"lakehouse": lakehouse}
    assert dg.materialize([asset], resources=resources).success
    for number in range(3):
        catalog.table("db.a").write(pl.DataFrame({"id": [str(number)]}))
    op = {"ops": {"stream__db__b": {"config": {"max_batches": 2}}}}
    first = dg.materialize([asset], resources=resources, run_config=op)
    second = dg.materialize([asset], resources=resources)
    events = [materializations(result, key_of("stream", "db", "b")) for result in (first, second)]
    assert [len(found) for found in events] == [2, 1]
    assert [event.metadata["rows_behind"].value for found in events for event in found] == [2, 1, 0]
    assert len(materializations(first, key_of("db", "b"))) == 2


def test_a_range_of_days_is_repaired_in_one_run_and_one_commit_a_table(location: Location) -> None:
    for _ in location.slices:
        pass
    location.stream()
    tables = {key: location.catalog.table(".".join(key.path)) for key in (DWD, APP)}
    right = tables[APP].scan().drop("update_time").collect().sort("*")
    damaged = tables[DWD].scan().filter(pl.col("v_date").is_in(DAYS)).collect()
    tables[DWD].write(damaged.with_columns(pl.col("amount") + 1))
    location.stream()
    before = {key: table.latest_snapshot() for key, table in tables.items()}
    result = location.repair(DWD, APP)
    assert result.success
    for key, table in tables.items():
        latest = before[key]
        assert latest is not None
        new = table.snapshots().filter((pl.col("snapshot_id") > latest.id) & (pl.col("commit_kind") != "COMPACT"))
        assert new.height == 1, "one commit"
        assert location.instance.get_materialized_partitions(key) >= set(DAYS)
        assert {event.partition for event in materializations(result, key)} == set(DAYS)
    location.stream()
    found = tables[APP].scan().filter(pl.col("orders") != 0).drop("update_time").collect().sort("*")
    assert found.equals(right.filter(pl.col("orders") != 0))


def test_a_repair_touches_only_its_partitions(location: Location) -> None:
    next(location.slices)
    next(location.slices)
    location.stream()
    table = location.catalog.table("dwd.member_order")
    files = table.files().filter(~pl.col("partition").str.contains(DAYS[0]))["file_path"]
    table.delete(pl.col("v_date") == DAYS[0])
    location.repair(DWD, first=DAYS[0], last=DAYS[0])
    after = table.files().filter(~pl.col("partition").str.contains(DAYS[0]))["file_path"]
    assert set(files) == set(after)
    assert table.scan().filter(pl.col("v_date") == DAYS[0]).collect().height > 0


def test_a_table_whose_changes_have_expired_is_recomputed_as_a_whole(location: Location) -> None:
    next(location.slices)
    location.stream()
    orders = location.catalog.table("dwd.member_order")
    orders.store.consumers.delete("stream-app.sprint_performance")
    next(location.slices)
    for path in ("ods", "member_order"), ("dwd", "member_order"), ("dwd", "member_month"):
        location.run(key_of("stream", *path))
    orders.write(orders.scan().collect())
    location.run(key_of("stream", "dwd", "member_month"))
    orders.expire_snapshots(retain_max=1, retain_min=1)
    key = key_of("stream", "app", "sprint_performance")
    assert "repair the whole target" in failure(location.run(key, raise_on_error=False))
    tags = {"dagster/partition": DAYS[0]}
    assert location.run(APP, config={"whole": True}, tags=tags).success
    assert location.run(key).success
    for _ in location.slices:
        pass
    checks = location_checks(location.stream(), APP)
    assert checks
    assert all(check.passed for check in checks)


def failure(result: dg.ExecuteInProcessResult) -> str:
    (event,) = result.filter_events(lambda event: event.is_step_failure)
    return str(event.step_failure_data.error)


def test_a_landed_table_is_loaded_again_from_the_source(location: Location) -> None:
    next(location.slices)
    location.stream()
    for table, key in (("ods.member_order", key_of("ods", "member_order")), ("dim.agent", key_of("dim", "agent"))):
        good = location.catalog.table(table).scan().collect().sort("id")
        location.catalog.table(table).delete(pl.col("id").is_not_null())
        result = location.repair(key) if table.startswith("ods") else location.run(key)
        assert result.success
        found = location.catalog.table(table).scan().collect().sort("id")
        assert found.equals(good)


def test_checks_can_be_run_alone_and_fail_with_a_reason(location: Location) -> None:
    next(location.slices)
    location.stream()
    performance = location.catalog.table("app.sprint_performance")
    performance.write(performance.scan().head(1).collect())
    job = dg.define_asset_job("audit_app", selection=dg.AssetSelection.checks_for_assets(APP))
    definitions = dg.Definitions.merge(location.definitions, dg.Definitions(jobs=[job]))
    result = definitions.resolve_job_def("audit_app").execute_in_process(
        instance=location.instance, raise_on_error=False
    )
    outcome = {check.check_name: check for check in location_checks(result, APP)}
    assert not outcome["layers_agree"].passed
    assert "orders is" in str(outcome["layers_agree"].description)
    assert outcome["key_unique"].passed


def test_the_warehouse_is_made_by_whoever_comes_first(location: Location) -> None:
    assert location.run(key_of("stream", "app", "member_growth")).success
    assert location.catalog.list_tables("app") == ["member_growth", "sprint_performance"]

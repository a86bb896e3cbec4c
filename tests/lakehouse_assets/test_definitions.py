"""The code location loads, and says of every table what users look for."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import pytest

from lakehouse_assets.definitions import defs
from lakehouse_assets.sprint.tables import STREAMS, TABLES

ROOT = Path(__file__).parents[2]
TABLE_KEYS = {dg.AssetKey(name.split(".")) for name in TABLES}
STREAM_KEYS = {dg.AssetKey(["stream", *name.split(".")]) for name in TABLES if name != "ods.quarantine"}


@pytest.fixture(scope="module")
def graph() -> dg.AssetGraph:
    return defs.resolve_asset_graph()


def test_definitions_load() -> None:
    dg.Definitions.validate_loadable(defs)


def test_every_table_is_an_asset_of_its_layer_and_has_a_stream(graph: dg.AssetGraph) -> None:
    keys = graph.get_all_asset_keys()
    assert keys >= TABLE_KEYS | STREAM_KEYS
    assert {key.path[0] for key in keys} == {"ods", "dim", "dwd", "app", "stream", "maintenance"}
    assert {graph.get(key).group_name for key in TABLE_KEYS} == {"ods", "dim", "dwd", "app"}
    assert all(graph.get(key).group_name == key.path[0] for key in TABLE_KEYS)
    assert {graph.get(key).group_name for key in STREAM_KEYS} == {"stream"}


def test_tables_show_their_columns_keys_owners_and_definition(graph: dg.AssetGraph) -> None:
    for key in TABLE_KEYS:
        node = graph.get(key)
        assert node.owners, key
        assert node.kinds == {"paimon", "polars"}
        assert node.description
        metadata = node.metadata
        assert metadata["dagster/table_name"] == ".".join(key.path)
        assert metadata["dagster/storage_kind"] == "paimon"
        assert "CREATE TABLE" in metadata["definition"].value
        schema = metadata["dagster/column_schema"]
        schema = schema.schema if isinstance(schema, dg.TableSchemaMetadataValue) else schema
        keys = [column.name for column in schema.columns if "primary key" in column.constraints.other]
        assert keys == [name for name in TABLES[".".join(key.path)].column_names if name in keys]
        assert all(not column.constraints.nullable for column in schema.columns if column.name in keys)


def test_lineage_of_tables_follows_the_streams(graph: dg.AssetGraph) -> None:
    for stream in STREAMS:
        key = dg.AssetKey(stream.target.split("."))
        assert graph.get(key).parent_keys == {dg.AssetKey(source.split(".")) for source in stream.sources}
        lineage = graph.get(key).metadata["dagster/column_lineage"]
        lineage = lineage.column_lineage if isinstance(lineage, dg.TableColumnLineageMetadataValue) else lineage
        assert set(lineage.deps_by_column) == set(TABLES[stream.target].column_names)
        assert all(lineage.deps_by_column.values()), "every column comes from somewhere"


def test_column_lineage_reaches_through_lookups(graph: dg.AssetGraph) -> None:
    lineage = graph.get(dg.AssetKey(["dwd", "member_order"])).metadata["dagster/column_lineage"]
    lineage = lineage.column_lineage if isinstance(lineage, dg.TableColumnLineageMetadataValue) else lineage
    assert lineage.deps_by_column["score"] == [
        dg.TableColumnDep(dg.AssetKey(["dim", "product"]), "score_weight"),
        dg.TableColumnDep(dg.AssetKey(["ods", "member_order"]), "quantity"),
    ]
    assert lineage.deps_by_column["team_name"] == [dg.TableColumnDep(dg.AssetKey(["dim", "team"]), "name")]


def test_every_table_is_written_in_a_pool_of_its_own(graph: dg.AssetGraph) -> None:
    for stream in STREAMS:
        for key in (dg.AssetKey(stream.target.split(".")), dg.AssetKey(["stream", *stream.target.split(".")])):
            assert graph.get(key).pools == {stream.target}


def test_partitioned_tables_are_repaired_in_one_run(graph: dg.AssetGraph) -> None:
    partitioned = {key for key in TABLE_KEYS if graph.get(key).is_partitioned}
    assert partitioned == {
        dg.AssetKey(["ods", "member_order"]),
        dg.AssetKey(["dwd", "member_order"]),
        dg.AssetKey(["dwd", "member_month"]),
        dg.AssetKey(["app", "sprint_performance"]),
        dg.AssetKey(["app", "member_growth"]),
    }
    assert all(graph.get(key).backfill_policy == dg.BackfillPolicy.single_run() for key in partitioned)


def test_every_table_has_checks(graph: dg.AssetGraph) -> None:
    checks = {(check.asset_key, check.name) for check in graph.asset_check_keys}
    assert {(key, "key_unique") for key in TABLE_KEYS} <= checks
    for stream in STREAMS:
        key = dg.AssetKey(stream.target.split("."))
        assert {(key, "lag"), (key, "layers_agree")} <= checks
    assert (dg.AssetKey(["ods", "member_order"]), "quarantine") in checks


def test_sensors_are_on_and_upkeep_is_scheduled() -> None:
    sensors = {sensor.name: sensor for sensor in defs.sensors or ()}
    assert set(sensors) == {"sales_ingestion", *(f"{stream.target.replace('.', '_')}_stream" for stream in STREAMS)}
    assert all(sensor.default_status is dg.DefaultSensorStatus.RUNNING for sensor in sensors.values())
    schedules = {schedule.name for schedule in defs.schedules or ()}
    assert schedules == {
        "maintenance_compact",
        "maintenance_expire",
        "maintenance_orphans",
        "maintenance_tags",
        "repair_yesterday",
        "audit",
    }


def test_the_shipped_instance_configuration_loads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "dagster.yaml").write_text((ROOT / "dagster.yaml").read_text())
    monkeypatch.chdir(tmp_path)
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        assert instance.get_runs() == []

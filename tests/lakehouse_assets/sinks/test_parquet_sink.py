"""Parquet files that follow a table: only what changed is written, and every file is of one snapshot."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from lakehouse_assets.project import Project
from lakehouse_assets.resources import LakehouseResource
from lakehouse_assets.sink_assets import sink_key
from lakehouse_assets.sinks import Delivery, ParquetSink, Sink
from storage_engine import Catalog, Table

DDL = """
CREATE DATABASE IF NOT EXISTS app;
CREATE TABLE IF NOT EXISTS app.sale (day STRING, id INT, amount INT, PRIMARY KEY (day, id) NOT ENFORCED)
PARTITIONED BY (day) WITH ('bucket' = '1', 'changelog-producer' = 'lookup');
CREATE TABLE IF NOT EXISTS app.log (line STRING);
"""


@pytest.fixture
def table(catalog: Catalog) -> Table:
    catalog.execute(DDL)
    return catalog.table("app.sale")


def write(table: Table, *rows: tuple[str, int, int], kind: str = "+I") -> None:
    frame = pl.DataFrame(rows, schema={"day": pl.String, "id": pl.Int32, "amount": pl.Int32}, orient="row")
    table.write(frame.with_columns(pl.lit(kind).alias("_row_kind")))


def files(folder: Path) -> dict[str, list[tuple[object, ...]]]:
    found = sorted(folder.rglob("data.parquet"))
    return {path.parent.name: pl.read_parquet(path, hive_partitioning=False).rows() for path in found}


def test_only_the_partitions_that_changed_are_written(catalog: Catalog, table: Table, tmp_path: Path) -> None:
    delivery = Delivery(catalog, Sink(table="app.sale", to=ParquetSink(url=str(tmp_path))))
    write(table, ("d1", 1, 10), ("d2", 1, 20), ("a/b", 1, 30))
    assert (result := delivery.run()) is not None
    assert result.whole
    assert files(tmp_path) == {"day=d1": [("d1", 1, 10)], "day=d2": [("d2", 1, 20)], "day=a%2Fb": [("a/b", 1, 30)]}
    first = tmp_path / "app" / "sale" / "day=d1" / "data.parquet"
    before = first.stat().st_ino
    write(table, ("d2", 1, 21), ("d2", 2, 22))
    write(table, ("a/b", 1, 30), kind="-D")
    assert (result := delivery.run()) is not None
    assert not result.whole
    assert files(tmp_path) == {"day=d1": [("d1", 1, 10)], "day=d2": [("d2", 1, 21), ("d2", 2, 22)]}
    assert first.stat().st_ino == before
    assert delivery.run() is None


def test_an_export_that_was_stopped_is_written_again(catalog: Catalog, table: Table, tmp_path: Path) -> None:
    sink = Sink(table="app.sale", to=ParquetSink(url=str(tmp_path)))
    write(table, ("d1", 1, 10))
    with sink.to.session(sink, table) as session:
        session.load((), table.scan())
    (tmp_path / "app" / "sale" / "day=gone").mkdir()
    (tmp_path / "app" / "sale" / "day=gone" / "data.parquet").write_bytes(b"left over")
    assert Delivery(catalog, sink).run() is not None
    assert files(tmp_path) == {"day=d1": [("d1", 1, 10)]}


def test_a_table_without_a_key_is_one_file(catalog: Catalog, table: Table, tmp_path: Path) -> None:
    delivery = Delivery(catalog, Sink(table="app.log", to=ParquetSink(url=str(tmp_path))))
    for line in ("a", "b"):
        catalog.execute(f"INSERT INTO app.log VALUES ('{line}')")
        assert delivery.run() is not None
    assert sorted(files(tmp_path)["log"]) == [("a",), ("b",)]


def test_a_project_has_its_sinks_as_assets_with_sensors(tmp_path: Path) -> None:
    lakehouse = LakehouseResource(warehouse=str(tmp_path / "warehouse"), ddl=DDL)
    sink = Sink(table="app.sale", to=ParquetSink(url=str(tmp_path / "out")))
    definitions = Project(name="shop", ddl=DDL, sinks=(sink,)).definitions(lakehouse)
    dg.Definitions.validate_loadable(definitions)
    (sensor,) = definitions.sensors or ()
    job = definitions.resolve_implicit_global_asset_job_def()
    with dg.DagsterInstance.ephemeral() as instance:

        def asked() -> object:
            with dg.build_sensor_context(instance=instance, resources=definitions.resources) as context:
                return sensor(context)  # type: ignore[operator]

        assert isinstance(asked(), dg.SkipReason)
        write(lakehouse.table("app.sale"), ("d1", 1, 10), ("d1", 2, 20))
        assert isinstance(asked(), dg.RunRequest)
        assert job.execute_in_process(asset_selection=[sink_key(sink)], instance=instance).success
        (event,) = instance.fetch_materializations(sink_key(sink), limit=5).records
        assert event.asset_materialization is not None
        metadata = event.asset_materialization.metadata
        assert (metadata["rows_loaded"].value, metadata["rows_behind"].value) == (2, 0)
        assert isinstance(asked(), dg.SkipReason)
    assert files(tmp_path / "out") == {"day=d1": [("d1", 1, 10), ("d1", 2, 20)]}

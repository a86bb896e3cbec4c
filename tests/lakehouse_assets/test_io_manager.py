"""Batch assets through the IO manager: frames of every kind, partitions and ranges of them."""

from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pyarrow as pa
import pytest

from lakehouse_assets.io_manager import LakehouseIOManager
from lakehouse_assets.resources import LakehouseResource

DAYS = dg.DailyPartitionsDefinition(start_date="2024-01-01", end_date="2024-01-05")
PARTITIONED = {"partition_expr": "v_date"}


@pytest.fixture
def lakehouse(tmp_path: Path) -> LakehouseResource:
    resource = LakehouseResource(warehouse=str(tmp_path))
    catalog = resource.catalog()
    catalog.create_database("app")
    columns = {"v_date": "STRING", "id": "STRING", "amount": "BIGINT"}
    for name in ("app.report", "app.copy"):
        catalog.create_table(
            name, columns, primary_key=["v_date", "id"], partitioned_by=["v_date"], options={"bucket": "1"}
        )
    return resource


def rows(*rows: tuple[str, str, int]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema={"v_date": pl.String, "id": pl.String, "amount": pl.Int64}, orient="row")


def run(lakehouse: LakehouseResource, *assets: Any, **settings: Any) -> dg.ExecuteInProcessResult:
    resources = {"io_manager": LakehouseIOManager(lakehouse=lakehouse)}
    with dg.DagsterInstance.ephemeral() as instance:
        return dg.materialize(list(assets), resources=resources, instance=instance, **settings)


def table(lakehouse: LakehouseResource, name: str = "app.report") -> list[tuple[Any, ...]]:
    return lakehouse.table(name).scan().collect().sort("*").rows()


@pytest.mark.parametrize("make", [lambda frame: frame, lambda frame: frame.lazy(), lambda frame: frame.to_arrow()])
def test_any_frame_becomes_a_commit(lakehouse: LakehouseResource, make: Any) -> None:
    @dg.asset(key=["app", "report"])
    def report() -> Any:
        return make(rows(("2024-01-01", "a", 1)))

    result = run(lakehouse, report)
    assert table(lakehouse) == [("2024-01-01", "a", 1)]
    (event,) = result.asset_materializations_for_node("app__report")
    assert event.metadata["dagster/row_count"].value == 1
    assert event.metadata["dagster/column_schema"].value


def test_upsert_keeps_other_rows_and_overwrite_replaces_the_runs_partitions(lakehouse: LakehouseResource) -> None:
    first = [("2024-01-01", "a", 1), ("2024-01-01", "b", 2), ("2024-01-02", "c", 3)]
    lakehouse.table("app.report").write(rows(*first))

    def asset(mode: str) -> dg.AssetsDefinition:
        @dg.asset(key=["app", "report"], partitions_def=DAYS, metadata={**PARTITIONED, "mode": mode})
        def report() -> pl.DataFrame:
            return rows(("2024-01-01", "a", 10))

        return report

    run(lakehouse, asset("upsert"), partition_key="2024-01-01")
    assert table(lakehouse) == [("2024-01-01", "a", 10), *first[1:]]
    run(lakehouse, asset("overwrite"), partition_key="2024-01-01")
    assert table(lakehouse) == [("2024-01-01", "a", 10), first[2]]


def test_a_range_of_partitions_is_one_commit(lakehouse: LakehouseResource) -> None:
    @dg.asset(
        key=["app", "report"],
        partitions_def=DAYS,
        metadata=PARTITIONED,
        backfill_policy=dg.BackfillPolicy.single_run(),
    )
    def report(context: dg.AssetExecutionContext) -> pl.DataFrame:
        return rows(*((key, "a", 1) for key in context.partition_keys))

    tags = {"dagster/asset_partition_range_start": "2024-01-01", "dagster/asset_partition_range_end": "2024-01-03"}
    assert run(lakehouse, report, tags=tags).success
    assert [row[0] for row in table(lakehouse)] == ["2024-01-01", "2024-01-02", "2024-01-03"]
    assert lakehouse.table("app.report").snapshots().height == 1


@pytest.mark.parametrize("annotation", [pl.LazyFrame, pl.DataFrame, pa.Table])
def test_inputs_come_as_they_are_annotated(lakehouse: LakehouseResource, annotation: type) -> None:
    lakehouse.table("app.report").write(rows(("2024-01-01", "a", 1), ("2024-01-02", "b", 2)))
    seen: list[object] = []

    def read(report: Any) -> pl.DataFrame:
        seen.append(report)
        return rows()

    read.__annotations__["report"] = annotation
    report = dg.AssetSpec(["app", "report"], metadata=PARTITIONED)
    copy = dg.asset(key=["app", "copy"], ins={"report": dg.AssetIn(["app", "report"], metadata={"columns": ["id"]})})(
        read
    )
    run(lakehouse, report, copy, selection=[copy])
    assert isinstance(seen[0], annotation)
    frame = seen[0].collect() if isinstance(seen[0], pl.LazyFrame) else pl.DataFrame(seen[0])
    assert frame.columns == ["id"]
    assert sorted(frame["id"]) == ["a", "b"]


def test_an_input_holds_the_partitions_of_the_run(lakehouse: LakehouseResource) -> None:
    @dg.asset(key=["app", "report"], partitions_def=DAYS, metadata=PARTITIONED)
    def report(context: dg.AssetExecutionContext) -> pl.DataFrame:
        return rows((context.partition_key, "a", 1))

    @dg.asset(
        key=["app", "copy"],
        partitions_def=DAYS,
        metadata=PARTITIONED,
        ins={"report": dg.AssetIn(["app", "report"])},
    )
    def copy(report: pl.DataFrame) -> pl.DataFrame:
        return report

    lakehouse.table("app.report").write(rows(("2024-01-02", "other", 9)))
    assert run(lakehouse, report, copy, partition_key="2024-01-01").success
    assert table(lakehouse, "app.copy") == [("2024-01-01", "a", 1)]


def failure(lakehouse: LakehouseResource, *assets: Any, **settings: Any) -> str:
    result = run(lakehouse, *assets, raise_on_error=False, **settings)
    (event,) = result.filter_events(lambda event: event.is_step_failure)
    error = event.step_failure_data.error
    while error is not None and error.cause is not None:
        error = error.cause
    return "" if error is None else error.message


def test_rows_of_other_partitions_are_refused(lakehouse: LakehouseResource) -> None:
    @dg.asset(key=["app", "report"], partitions_def=DAYS, metadata=PARTITIONED)
    def report() -> pl.DataFrame:
        return rows(("2024-01-01", "a", 1), ("2024-01-04", "b", 1))

    assert "v_date = '2024-01-04'" in failure(lakehouse, report, partition_key="2024-01-01")
    assert table(lakehouse) == []


def test_a_partitioned_asset_must_name_its_column(lakehouse: LakehouseResource) -> None:
    @dg.asset(key=["app", "report"], partitions_def=DAYS)
    def report() -> pl.DataFrame:
        return rows(("2024-01-01", "a", 1))

    assert "partition_expr" in failure(lakehouse, report, partition_key="2024-01-01")


def test_an_unknown_mode_and_a_key_that_is_no_table_are_told(lakehouse: LakehouseResource) -> None:
    @dg.asset(key=["app", "report"], metadata={"mode": "append"})
    def report() -> pl.DataFrame:
        return rows()

    @dg.asset(key=["lonely"])
    def lonely() -> pl.DataFrame:
        return rows()

    assert "mode is 'append'; expected one of upsert, overwrite" in failure(lakehouse, report)
    assert "its key must be [database, table]" in failure(lakehouse, lonely)


def test_nothing_returned_is_nothing_written(lakehouse: LakehouseResource) -> None:
    @dg.asset(key=["app", "report"])
    def report() -> Any:
        return None

    assert run(lakehouse, report).success
    assert lakehouse.table("app.report").latest_snapshot() is None

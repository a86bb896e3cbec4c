"""The business end to end, without Dagster: APP equals the independent recomputation, however the work is cut."""

from __future__ import annotations

from pathlib import Path
from random import Random

import polars as pl
import pytest

from lakehouse_assets.ingest import Ingester
from lakehouse_assets.sources.landing import LandingSource
from lakehouse_assets.sprint.ods import INGESTIONS
from lakehouse_assets.sprint.tables import STREAMS
from lakehouse_assets.stream.repair import repair
from lakehouse_assets.stream.runner import StreamRunner
from lakehouse_demo.app_tables import MEMBER_GROWTH, SPRINT_PERFORMANCE, compare
from lakehouse_demo.events import StreamConfig
from lakehouse_demo.landing import land
from lakehouse_demo.truth import Truth, recompute
from storage_engine import Catalog

CONFIG = StreamConfig(events=1_500, slices=6, malformed=12)


class Warehouse:
    """The project's tables, a landing folder, and everything that moves changes between them."""

    def __init__(self, catalog: Catalog, folder: Path) -> None:
        self.catalog = catalog
        self.folder = folder
        source = LandingSource(str(folder))
        self.ingesters = [Ingester(catalog, source, [each], max_rows=400) for each in INGESTIONS]
        self.runners = [StreamRunner(catalog, stream) for stream in STREAMS]

    def settle(self) -> Truth:
        """Move on until nothing is left; the truth of what has landed."""
        while self._round():
            pass
        return recompute(self.folder)

    def _round(self) -> int:
        """One batch of everything; how many had something to do."""
        landed = sum(bool(ingester.run_batch()) for ingester in self.ingesters)
        return landed + sum(runner.run_batch() is not None for runner in self.runners)

    def assert_right(self) -> None:
        truth = self.settle()
        found = {
            name: self.catalog.table(name).scan().collect() for name in ("app.sprint_performance", "app.member_growth")
        }
        assert compare(SPRINT_PERFORMANCE, truth.sprint_performance, found["app.sprint_performance"]) == []
        assert compare(MEMBER_GROWTH, truth.member_growth, found["app.member_growth"]) == []
        assert truth.sprint_performance
        assert truth.member_growth
        orders = self.catalog.table("dwd.member_order").scan().select(pl.len()).collect().item()
        assert orders == len(truth.tables["member_order"])


@pytest.fixture
def warehouse(sprint_catalog: Catalog, tmp_path: Path) -> Warehouse:
    return Warehouse(sprint_catalog, tmp_path / "landing")


def test_slice_by_slice(warehouse: Warehouse) -> None:
    for _ in land(CONFIG, warehouse.folder):
        warehouse.assert_right()
    truth = recompute(warehouse.folder)
    kept = warehouse.catalog.table("ods.quarantine").scan().select("source_file", "line").collect()
    assert set(kept.rows()) == {(f"{line.table}/{line.file}", line.line) for line in truth.quarantined}


def test_all_at_once(warehouse: Warehouse) -> None:
    for _ in land(CONFIG, warehouse.folder):
        pass
    warehouse.assert_right()


@pytest.mark.parametrize("seed", range(3))
def test_in_any_order(warehouse: Warehouse, seed: int) -> None:
    """Orders before their agents, members and products; streams that lag behind each other; repairs in between."""
    choose = Random(seed)
    slices = land(CONFIG, warehouse.folder)
    landed = 0
    while landed < CONFIG.slices:
        step = choose.random()
        if step < 0.3:
            next(slices)
            landed += 1
        elif step < 0.6:
            choose.choice(warehouse.ingesters).run_batch()
        elif step < 0.93:
            choose.choice(warehouse.runners).run_batch()
        else:
            stream = choose.choice(STREAMS)
            assert stream.repair is not None
            days = stream.repair.column == "v_date"
            repair(warehouse.catalog, stream, ["2024-01-30", "2024-01-31"] if days else ["2024-01"])
    warehouse.assert_right()


def test_a_damaged_range_of_days_is_repaired_while_the_stream_goes_on(warehouse: Warehouse) -> None:
    slices = land(CONFIG, warehouse.folder)
    for _ in range(4):
        next(slices)
    warehouse.settle()
    orders = warehouse.catalog.table("dwd.member_order")
    damaged = orders.scan().filter(pl.col("v_date") == "2024-01-30").collect()
    orders.write(damaged.with_columns(pl.col("amount") * 2, pl.lit("S9").alias("sprint_id")))
    orders.delete(pl.col("v_date") == "2024-01-29")
    next(slices)
    warehouse.settle()
    results = [repair(warehouse.catalog, stream, ["2024-01-29", "2024-01-30"]) for stream in STREAMS[:2]]
    assert all(result.snapshot is not None for result in results)
    for _ in slices:
        pass
    warehouse.assert_right()

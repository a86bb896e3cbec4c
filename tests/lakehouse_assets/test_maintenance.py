"""Upkeep assets: what they do to tables, and the numbers they leave."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest

from lakehouse_assets.maintenance import UPKEEP, upkeep_asset
from lakehouse_assets.resources import LakehouseResource

BY_NAME = {upkeep.name: upkeep for upkeep in UPKEEP}


@pytest.fixture
def lakehouse(tmp_path: Path) -> LakehouseResource:
    resource = LakehouseResource(warehouse=str(tmp_path))
    catalog = resource.catalog()
    catalog.create_database("db")
    options = {"bucket": "1", "snapshot.num-retained.min": "1", "snapshot.num-retained.max": "2", "write-only": "true"}
    table = catalog.create_table("db.t", {"id": "STRING", "n": "BIGINT"}, primary_key=["id"], options=options)
    for number in range(4):
        table.write(pl.DataFrame({"id": ["a", str(number)], "n": [number, number]}))
    return resource


def numbers(lakehouse: LakehouseResource, name: str) -> dict[str, Any]:
    result = dg.materialize([upkeep_asset(BY_NAME[name], ["db.t"])], resources={"lakehouse": lakehouse})
    (event,) = result.asset_materializations_for_node(f"maintenance__{name}")
    return {key: entry.value for key, entry in event.metadata.items()}


def test_compaction_leaves_one_file_and_the_same_rows(lakehouse: LakehouseResource) -> None:
    rows = lakehouse.table("db.t").scan().collect().sort("id")
    found = numbers(lakehouse, "compact")
    assert (found["files_before"], found["files_after"], found["conflicts"]) == (4, 1, 0)
    assert lakehouse.table("db.t").scan().collect().sort("id").equals(rows)
    assert numbers(lakehouse, "compact")["files_after"] == 1


def test_expiry_keeps_what_the_options_say(lakehouse: LakehouseResource) -> None:
    found = numbers(lakehouse, "expire")
    assert (found["snapshots_expired"], found["snapshots_kept"]) == (2, 2)
    assert "db.t" in found["tables"]


def test_orphans_that_are_young_stay(lakehouse: LakehouseResource, tmp_path: Path) -> None:
    orphan = tmp_path / "db.db" / "t" / "bucket-0" / "data-orphan.parquet"
    orphan.write_bytes(b"")
    assert numbers(lakehouse, "orphans")["orphans_removed"] == 0
    assert orphan.exists()


def test_a_tag_a_day_and_old_ones_go(lakehouse: LakehouseResource) -> None:
    table = lakehouse.table("db.t")
    table.create_tag("day-2020-01-01")
    table.create_tag("release")
    found = numbers(lakehouse, "tags")
    assert (found["tags_created"], found["tags_deleted"]) == (1, 1)
    today = f"day-{datetime.now(UTC).date().isoformat()}"
    assert sorted(table.tags()["tag_name"].to_list()) == [today, "release"]
    again = numbers(lakehouse, "tags")
    assert (again["tags_created"], again["tags_deleted"]) == (0, 0)

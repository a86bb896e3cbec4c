"""System tables: what they say about a table whose history is known."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from storage_engine import Catalog, Table
from storage_engine.system_tables import manifests_frame, partition_paths


@pytest.fixture
def table(tmp_path: Path) -> Table:
    catalog = Catalog(str(tmp_path))
    catalog.create_database("db")
    return catalog.create_table(
        "db.t",
        {"dt": "STRING", "id": "BIGINT", "v": "STRING", "b": "BYTES"},
        primary_key=["dt", "id"],
        partitioned_by=["dt"],
        options={"bucket": "1", "write-only": "true"},
    )


def write(table: Table, *rows: tuple[str, int, str | None, bytes | None]) -> None:
    table.write(pl.DataFrame(list(rows), schema=table.schema.polars_schema, orient="row"), commit_user="me")


def test_an_empty_table_has_frames_without_rows(table: Table):
    for frame in (table.snapshots(), table.files(), table.partitions(), table.tags(), table.branches()):
        assert frame.is_empty()
        assert frame.width >= 2
    assert manifests_frame(table.store, table.schema, None).is_empty()
    assert table.consumers().columns == ["consumer_id", "next_snapshot_id"]


def test_snapshots_stand_in_order_with_their_counts(table: Table):
    write(table, ("a", 1, "x", None))
    write(table, ("a", 1, "y", None), ("b", 2, "z", None))
    frame = table.snapshots()
    assert frame.columns[:6] == [
        "snapshot_id", "schema_id", "commit_user", "commit_identifier", "commit_kind", "commit_time",
    ]  # fmt: skip
    assert frame["snapshot_id"].to_list() == [1, 2]
    assert frame["commit_user"].to_list() == ["me", "me"]
    assert frame["total_record_count"].to_list() == [1, 3]
    assert frame["delta_record_count"].to_list() == [1, 2]
    now = datetime.now(UTC).replace(tzinfo=None)
    assert now - timedelta(minutes=5) < frame["commit_time"][1] <= now


def test_files_show_place_keys_and_statistics(table: Table):
    write(table, ("a", 2, "x", b"\x00\xff"), ("a", 1, None, None))
    (row,) = table.files().rows(named=True)
    assert (row["partition"], row["bucket"], row["level"], row["record_count"]) == ("{a}", 0, 0, 2)
    assert Path(row["file_path"]).stat().st_size == row["file_size_in_bytes"]
    assert (row["file_format"], row["min_key"], row["max_key"]) == ("parquet", "[1]", "[2]")
    assert row["null_value_counts"] == "{b=1, dt=0, id=0, v=1}"
    assert row["min_value_stats"].endswith("dt=a, id=1, v=x}")
    assert (row["min_sequence_number"], row["max_sequence_number"]) == (0, 1)
    assert (row["deleteRowCount"], row["file_source"]) == (0, "APPEND")


def test_files_of_an_older_schema_are_shown_too(table: Table):
    write(table, ("a", 1, "x", None))
    Catalog(table.store.paths.root.rpartition("/db.db")[0]).execute(
        "ALTER TABLE db.t RENAME v TO u; ALTER TABLE db.t ADD w INT"
    )
    assert table.files()["schema_id"].to_list() == [0]
    assert table.files()["null_value_counts"][0] == "{b=1, dt=0, id=0, u=0, w=1}"
    assert "u=x" in table.files()["min_value_stats"][0]


def test_partitions_add_up_their_files(table: Table):
    write(table, ("a", 1, "x", None), ("a", 2, "x", None), ("b", 3, "x", None))
    write(table, ("a", 4, "x", None))
    frame = table.partitions()
    assert frame.select("partition", "record_count", "file_count").rows() == [("{a}", 3, 2), ("{b}", 1, 1)]
    sizes = table.files().group_by("partition").agg(pl.col("file_size_in_bytes").sum()).sort("partition")
    assert frame["file_size_in_bytes"].to_list() == sizes["file_size_in_bytes"].to_list()
    assert partition_paths(table.store, table.schema, table.latest_snapshot()) == ["dt=a", "dt=b"]


def test_schemas_and_options_are_shown_as_they_stand(table: Table):
    (row,) = table.schemas().rows(named=True)
    assert json.loads(row["fields"])[1] == {"id": 1, "name": "id", "type": "BIGINT NOT NULL"}
    assert json.loads(row["primary_keys"]) == ["dt", "id"]
    assert json.loads(row["options"]) == {"bucket": "1", "write-only": "true"}
    assert table.options().rows() == [("bucket", "1"), ("write-only", "true")]


def test_tags_branches_and_consumers_are_listed(table: Table):
    write(table, ("a", 1, "x", None))
    table.create_tag("one")
    snapshot = table.latest_snapshot()
    assert snapshot is not None
    created = datetime(2024, 1, 1, 12)
    table.store.tags.create("two", snapshot, create_time=created, time_retained_ms=129_600_500)
    table.create_branch("side", tag="one")
    table.store.consumers.write("job", 2)
    tags = table.tags().select("tag_name", "snapshot_id", "record_count", "create_time", "time_retained")
    assert tags.rows() == [("one", 1, 1, None, None), ("two", 1, 1, created, "PT36H0.5S")]
    assert table.branches()["branch_name"].to_list() == ["side"]
    assert table.consumers().rows() == [("job", 2)]


def test_manifests_show_their_partitions(table: Table):
    write(table, ("a", 1, "x", None), ("c", 1, "x", None))
    frame = manifests_frame(table.store, table.schema, table.latest_snapshot())
    added = frame.select("num_added_files", "num_deleted_files", "min_partition_stats", "max_partition_stats")
    assert added.rows() == [(2, 0, "{a}", "{c}")]

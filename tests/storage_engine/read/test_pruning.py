"""Statistics in the manifests rule files out, also files of an older version of the table, if it had the same columns."""

from __future__ import annotations

import uuid

import polars as pl
import pytest

from storage_engine import Catalog, Table
from storage_engine.codec import avro, manifest_columns
from storage_engine.read.plan import plan_scan
from storage_engine.spec.schema_change import (
    AddColumn,
    RemoveOption,
    RenameColumn,
    SchemaChange,
    SetOption,
    UpdateColumnComment,
    UpdateColumnType,
)
from storage_engine.spec.types import DataType, TypeRoot
from storage_engine.store.live_files import LiveFiles

CHANGES: list[tuple[SchemaChange, int]] = [
    (SetOption(key="write-only", value="true"), 1),
    (RemoveOption(key="write-only"), 1),
    (UpdateColumnComment(path=("v",), comment="a number"), 1),
    (AddColumn(path=("w",), type=DataType(root=TypeRoot.INT)), 3),
    (UpdateColumnType(path=("v",), type=DataType(root=TypeRoot.BIGINT)), 3),
    (RenameColumn(path=("other",), new_name="another"), 3),
]


def files_read(table: Table, predicate: pl.Expr) -> int:
    return plan_scan(LiveFiles(table.store, table.schema), table.schema, table.latest_snapshot(), predicate).files_read


@pytest.mark.parametrize(("change", "files"), CHANGES, ids=[type(change).__name__ for change, _ in CHANGES])
def test_files_of_an_older_version(change: SchemaChange, files: int) -> None:
    catalog = Catalog(f"memory://{uuid.uuid4()}")
    catalog.create_database("db")
    table = catalog.create_table("db.t", {"v": "INT", "other": "INT"})
    for number in range(3):
        values = pl.int_range(number * 10, number * 10 + 10, dtype=pl.Int32, eager=True)
        table.write(pl.DataFrame({"v": values, "other": values}))
    assert files_read(table, pl.col("v") == 15) == 1
    table.alter(change)
    assert files_read(table, pl.col("v") == 15) == files
    assert table.scan().filter(pl.col("v") == 15).collect()["v"].to_list() == [15]
    assert table.scan().filter(pl.col("v") >= 15).collect().height == 15


WANTED: list[tuple[pl.Expr, int]] = [
    ((pl.col("dt") == "2024-01-03") & (pl.col("hour") == 7), 1),
    ((pl.col("dt") == "2024-01-03") & pl.col("hour").is_in([7, 3, 99]), 2),
    (pl.col("dt") == "2024-01-03", 10),
    (pl.col("hour") == 7, 20),
    (pl.col("dt").is_in(["2024-01-03", "2024-01-20"]) & (pl.col("hour") < 2), 4),
    ((pl.col("dt") == "2024-01-03") & (pl.col("dt") == "2024-01-04"), 0),
    ((pl.col("dt") == "2024-01-03") | (pl.col("hour") == 7), 29),
    ((pl.col("hour") == 7.5) & (pl.col("dt") == "2024-01-03"), 0),
    (pl.col("dt") == "none", 0),
]


@pytest.mark.parametrize(("predicate", "files"), WANTED, ids=[str(number) for number in range(len(WANTED))])
def test_a_first_plan_that_reads_a_part_of_a_manifest(
    predicate: pl.Expr, files: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manifest_columns, "_SMALL_BYTES", 0)
    monkeypatch.setattr(avro, "_BLOCK_BYTES", 1_000)
    warehouse = f"memory://{uuid.uuid4()}"
    catalog = Catalog(warehouse)
    catalog.create_database("db")
    columns = {"dt": "STRING", "hour": "INT", "v": "INT"}
    table = catalog.create_table("db.t", columns, partitioned_by=["dt", "hour"])
    days = pl.DataFrame({"dt": [f"2024-01-{day:02}" for day in range(1, 21)]})
    rows = days.join(pl.DataFrame({"hour": range(10)}, schema={"hour": pl.Int32}), how="cross")
    table.write(rows.with_columns(v=pl.lit(1, pl.Int32)))
    opened = Catalog(warehouse).table("db.t")
    assert [files_read(opened, predicate) for _ in range(3)] == [files] * 3
    assert opened.scan().filter(predicate).collect().height == files

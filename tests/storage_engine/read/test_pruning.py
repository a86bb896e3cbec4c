"""Statistics in the manifests rule files out, also files of an older version of the table, if it had the same columns."""

from __future__ import annotations

import uuid

import polars as pl
import pytest

from storage_engine import Catalog, Table
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

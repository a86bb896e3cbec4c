"""Files that need no merge are read as one scan: with the rows that a dict of keys has, and damage named as file by file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import polars as pl
import pytest

from storage_engine import Catalog, Table
from storage_engine.codec.deletion_vector import DeletionVector
from storage_engine.errors import StorageEngineError
from storage_engine.read import merge_read
from storage_engine.store import joint_scan
from storage_engine.store.data_files import DataFiles
from storage_engine.store.joint_scan import joint_read
from storage_engine.store.live_files import LiveFiles
from storage_engine.store.merge_frames import FilePart

ROWS = 300


@pytest.fixture(params=["none", "vectors", "append"])
def table(request: pytest.FixtureRequest, tmp_path: Path) -> Table:
    catalog = Catalog(str(tmp_path))
    catalog.create_database("db")
    options = {"bucket": "3", "bucket-key": "id"} if request.param == "append" else {"bucket": "3"}
    if request.param == "vectors":
        options["deletion-vectors.enabled"] = "true"
    keys = [] if request.param == "append" else ["id"]
    catalog.create_table("db.t", {"id": "BIGINT NOT NULL", "v": "STRING"}, primary_key=keys, options=options)
    table = catalog.table("db.t")
    table.write(pl.DataFrame({"id": range(ROWS), "v": ["old"] * ROWS}))
    if request.param != "append":
        table.write(pl.DataFrame({"id": range(0, ROWS, 7), "v": ["new"] * len(range(0, ROWS, 7))}))
        table.compact(full=request.param == "none")
    return table


def expected(table: Table) -> dict[int, str]:
    updated = range(0, ROWS, 7) if table.schema.primary_keys else ()
    return dict.fromkeys(range(ROWS), "old") | dict.fromkeys(updated, "new")


def joined(table: Table, frame: pl.LazyFrame) -> pl.DataFrame:
    """The rows of a query, all of whose files were read together."""
    with patch.object(merge_read.SplitReader, "read", side_effect=AssertionError("read one by one")):
        return frame.collect()


def test_all_rows_are_read_together(table: Table) -> None:
    found = joined(table, table.scan())
    assert dict(found.rows()) == expected(table)
    assert found.height == ROWS


def test_a_predicate_and_a_projection_reach_the_scan(table: Table) -> None:
    model = sorted(key for key, value in expected(table).items() if value == "old" and key >= 150)
    found = joined(table, table.scan().filter((pl.col("v") == "old") & (pl.col("id") >= 150)).select("id"))
    assert sorted(found["id"].to_list()) == model


def test_no_more_rows_are_read_than_asked_for(table: Table) -> None:
    found = joined(table, table.scan().head(10))
    assert found.height == 10
    assert set(found.rows()) <= set(expected(table).items())


def test_a_missing_file_is_named(table: Table) -> None:
    victim = Path(table.files()["file_path"][0])
    victim.unlink()
    with pytest.raises((StorageEngineError, pl.exceptions.ComputeError), match=victim.name):
        table.scan().collect()


@pytest.mark.parametrize("few", [0, joint_scan._FEW], ids=["by a mask", "by their numbers"])
def test_hidden_rows_stay_hidden_from_predicates_and_limits(
    tmp_path: Path, few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(joint_scan, "_FEW", few)
    table = hiding(tmp_path)
    model = expected(table)
    old = {key for key, value in model.items() if value == "old"}
    wanted = table.scan().filter(pl.col("v") == "old")
    assert sorted(joined(table, wanted.select("id"))["id"].to_list()) == sorted(old)
    some = joined(table, wanted.select("id").head(150))["id"].to_list()
    assert len(set(some)) == 150
    assert set(some) <= old
    assert dict(joined(table, table.scan().head(250)).rows()).items() <= model.items()
    assert joined(table, table.scan().head(250)).height == 250


@pytest.mark.parametrize("predicate", [None, pl.col("id") >= 0], ids=["whole", "filtered"])
def test_files_that_are_not_as_their_manifest_says_are_left_to_who_can_name_them(
    tmp_path: Path, predicate: pl.Expr | None
) -> None:
    table = hiding(tmp_path)
    parts = parts_of(table)
    masked = next(number for number, part in enumerate(parts) if part.vector)

    def read(**changes: object) -> pl.DataFrame | None:
        changed = [replace(part, **changes) if number == masked else part for number, part in enumerate(parts)]  # type: ignore[arg-type]
        files = DataFiles(table.store.io, table.schema, table.store.schemas)
        return joint_read(files, changed, table.schema.polars_schema, ["id", "v"], predicate=predicate)

    found = read()
    assert found is not None
    assert dict(found.rows()) == expected(table)
    meta = parts[masked].meta
    assert read(meta=replace(meta, row_count=meta.row_count + 1)) is None
    assert read(meta=replace(meta, row_count=meta.row_count - 1)) is None
    assert read(vector=DeletionVector([meta.row_count])) is None


def hiding(folder: Path) -> Table:
    """A table whose deletion vectors hide every seventh row."""
    catalog = Catalog(str(folder))
    catalog.create_database("db")
    options = {"bucket": "3", "deletion-vectors.enabled": "true"}
    catalog.create_table("db.t", {"id": "BIGINT NOT NULL", "v": "STRING"}, primary_key=["id"], options=options)
    table = catalog.table("db.t")
    table.write(pl.DataFrame({"id": range(ROWS), "v": ["old"] * ROWS}))
    table.compact(full=True)
    table.write(pl.DataFrame({"id": range(0, ROWS, 7), "v": ["new"] * len(range(0, ROWS, 7))}))
    return table


def parts_of(table: Table) -> list[FilePart]:
    buckets = LiveFiles(table.store, table.schema).buckets(table.latest_snapshot()).values()
    return [
        FilePart(meta=file, directory=bucket.directory, vector=bucket.vectors.get(file.file_name))
        for bucket in buckets
        for file in bucket.files
    ]

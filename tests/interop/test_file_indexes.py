"""Bloom filters and bitmaps: either engine prunes by the indexes that the other has written, and loses no row."""

from __future__ import annotations

import polars as pl
import pytest

from storage_engine.codec.file_index import read_file_index
from storage_engine.read.plan import plan_scan
from storage_engine.store.live_files import LiveFiles
from tests.interop.both import Both, Shared
from tests.interop.flink.canonical import canon, in_order
from tests.interop.test_types import ENGINES, VALUES, column_frame
from tests.interop.workload import Column, ddl

BLOOM = ("i8", "i32", "i64", "text", "bytes", "day", "time", "ts3", "ts6", "ltz3", "f64")
BITMAP = ("i8", "i16", "i32", "i64", "text", "day", "flag", "ts3", "ltz6")
COLUMNS = {name: VALUES[name] for name in dict.fromkeys((*BLOOM, *BITMAP))}
OPTIONS = {
    "bucket": "1",
    "deletion-vectors.enabled": "true",
    "metadata.stats-mode": "none",
    "file-index.bloom-filter.columns": ",".join(BLOOM),
    "file-index.bitmap.columns": ",".join(BITMAP),
    **{f"file-index.bloom-filter.{name}.items": "50" for name in BLOOM},
}


def indexes(shared: Shared) -> list[dict[str, dict[str, bytes | None]]]:
    """The indexes of every live file, by column and kind."""
    table = shared.table
    found = []
    for entry in LiveFiles(table.store, table.schema).entries(table.latest_snapshot()):
        content = entry.file.embedded_index
        for name in entry.file.extra_files:
            path = f"{table.files()['file_path'][0].rpartition('/')[0]}/{name}"
            content = table.store.io.read_bytes(path)
        assert content is not None
        found.append(read_file_index(content, path="index"))
    return found


@pytest.mark.feature("Types and files", "file indexes: bloom filter and bitmap")
@pytest.mark.parametrize("threshold", ["500 b", "1 mb"], ids=["beside the file", "in the manifest"])
def test_indexes_of_the_other_engine_prune(both: Both, threshold: str) -> None:
    ids = {"id": Column(sql="INT NOT NULL", dtype=pl.Int32(), values=range(40))}
    frame = column_frame(COLUMNS, 40).insert_column(0, pl.int_range(40, dtype=pl.Int32, eager=True).alias("id"))
    options = {**OPTIONS, "file-index.in-manifest-threshold": threshold}
    written = {}
    for writer in ENGINES:
        shared = both.create(f"db.{writer}", ddl(ids | COLUMNS, ["id"]), options)
        shared.write(frame, by=writer)
        shared.compact(by=writer)
        assert shared.rows() == canon(frame)
        (written[writer],) = indexes(shared)
        for name, column in COLUMNS.items():
            for value in column.values[:4]:
                same = pl.col(name) == pl.lit(value, column.dtype)
                ours = shared.table.scan().filter(same).select("id").collect()["id"].sort()
                assert ours.to_list() == frame.filter(same)["id"].to_list(), (writer, name, value)
        missing = shared.table.latest_snapshot()
        plan = plan_scan(
            LiveFiles(shared.table.store, shared.table.schema), shared.table.schema, missing, pl.col("i32") == 7
        )
        assert (plan.files_read, plan.files_pruned) == (0, 1)
        asked = {
            "i32 = 7": pl.col("i32") == 7,
            "text = 'abcdefgh'": pl.col("text") == "abcdefgh",
            "i64 = -1 AND text IS NULL": (pl.col("i64") == -1) & pl.col("text").is_null(),
        }
        for condition, predicate in asked.items() if writer == "ours" else ():
            found = both.flink.rows(f"SELECT id FROM db.{writer} WHERE {condition}")
            assert in_order(found) == canon(frame.filter(predicate).select("id")), (writer, condition)
    for name in BLOOM:
        assert written["ours"][name]["bloom-filter"] == written["paimon"][name]["bloom-filter"], name
    assert {name: set(kinds) for name, kinds in written["ours"].items()} == {
        name: set(kinds) for name, kinds in written["paimon"].items()
    }


@pytest.mark.feature("Types and files", "file indexes of files that were written before: CALL sys.rewrite_file_index")
@pytest.mark.parametrize("threshold", ["0 b", "1 mb"], ids=["beside the file", "in the manifest"])
def test_files_are_indexed_afterwards_by_either_engine(both: Both, threshold: str) -> None:
    ids = {"id": Column(sql="INT NOT NULL", dtype=pl.Int32(), values=range(40))}
    frame = column_frame(COLUMNS, 40).insert_column(0, pl.int_range(40, dtype=pl.Int32, eager=True).alias("id"))
    plain = {"bucket": "1", "deletion-vectors.enabled": "true", "metadata.stats-mode": "none"}
    asked = {key: value for key, value in OPTIONS.items() if key.startswith("file-index.")}
    asked["file-index.in-manifest-threshold"] = threshold
    written = {}
    for writer in ENGINES:
        shared = both.create(f"db.{writer}", ddl(ids | COLUMNS, ["id"]), plain)
        shared.write(frame, by="ours")
        shared.compact(by="ours")
        settings = ", ".join(f"'{key}' = '{value}'" for key, value in asked.items())
        both.ours.execute(f"ALTER TABLE db.{writer} SET ({settings})")
        if writer == "ours":
            both.ours.execute(f"CALL sys.rewrite_file_index('db.{writer}')")
        else:
            shared.sql(f"CALL sys.rewrite_file_index('db.{writer}')")
        assert shared.rows() == canon(frame)
        (written[writer],) = indexes(shared)
        table = shared.table
        live = LiveFiles(table.store, table.schema)
        assert plan_scan(live, table.schema, table.latest_snapshot(), pl.col("i32") == 7).files_pruned == 1
        found = both.flink.rows(f"SELECT id FROM db.{writer} WHERE i64 = -1 AND text IS NULL")
        same = (pl.col("i64") == -1) & pl.col("text").is_null()
        assert in_order(found) == canon(frame.filter(same).select("id"))
    assert written["ours"].keys() == written["paimon"].keys()
    for name in BLOOM:
        assert written["ours"][name]["bloom-filter"] == written["paimon"][name]["bloom-filter"], name

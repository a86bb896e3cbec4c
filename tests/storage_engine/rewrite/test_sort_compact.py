"""Sort compaction: the same rows, in fewer files for a predicate; in memory, beyond it, and beside other writers."""

from __future__ import annotations

import random
import uuid
from collections import Counter

import polars as pl
import pytest

from storage_engine import Catalog, Table
from storage_engine.errors import InvalidInput, InvalidOption, Unsupported
from storage_engine.lsm.append_compaction import in_sequence
from storage_engine.read.plan import plan_scan
from storage_engine.store.live_files import LiveFiles

COLUMNS = {"day": "STRING", "x": "INT", "y": "BIGINT", "text": "STRING"}
SCHEMA = {"day": pl.String, "x": pl.Int32, "y": pl.Int64, "text": pl.String}
BOTH = (pl.col("x").is_between(40, 45)) & (pl.col("y").is_between(400_000, 450_000))


def frame(seed: int, rows: int) -> pl.DataFrame:
    chance = random.Random(seed)
    return pl.DataFrame(
        {
            "day": [chance.choice("ab") for _ in range(rows)],
            "x": [chance.choice([None, *range(100)]) for _ in range(rows)],
            "y": [chance.randrange(1_000_000) for _ in range(rows)],
            "text": [f"row {chance.randrange(rows)}" for _ in range(rows)],
        },
        schema=SCHEMA,
    )


def a_table(**options: str) -> Table:
    catalog = Catalog(f"memory://{uuid.uuid4()}")
    catalog.create_database("db")
    named = {name.replace("__", ".").replace("_", "-"): value for name, value in options.items()}
    catalog.create_table("db.t", COLUMNS, partitioned_by=["day"], options={"target-file-size": "20 kb", **named})
    return catalog.table("db.t")


def files_read(table: Table, predicate: pl.Expr) -> int:
    return plan_scan(LiveFiles(table.store, table.schema), table.schema, table.latest_snapshot(), predicate).files_read


def rows(table: Table) -> Counter[tuple[object, ...]]:
    return Counter(table.scan().collect().iter_rows())


@pytest.mark.parametrize("budget", ["256 mb", "300 kb"])
@pytest.mark.parametrize("strategy", ["order", "zorder", "hilbert"])
def test_the_rows_stay_and_fewer_files_are_read(strategy: str, budget: str) -> None:
    table = a_table(write_buffer_size=budget, write_only="true")
    for seed in range(6):
        table.write(frame(seed, 5_000))
    before, files_before = rows(table), files_read(table, BOTH)
    snapshot = table.compact(order_strategy=strategy, order_by=["x", "y"])
    assert snapshot is not None
    assert snapshot.commit_kind.value == "COMPACT"
    assert rows(table) == before
    assert table.scan().filter(BOTH).collect().height == sum(
        count for row, count in before.items() if row[1] in range(40, 46) and 400_000 <= int(str(row[2])) <= 450_000
    )
    files = table.files().height
    assert files > 10
    assert files_read(table, BOTH) < files_before / 2
    if strategy != "order":
        assert files_read(table, pl.col("y") < 20_000) < files / 2
        assert files_read(table, pl.col("x") == 7) < files / 2


def test_rows_are_in_order_across_files() -> None:
    table = a_table(write_buffer_size="300 kb")
    table.write(frame(1, 20_000))
    table.compact(order_strategy="order", order_by=["x", "text"])
    live = LiveFiles(table.store, table.schema)
    for bucket in live.buckets(table.latest_snapshot()).values():
        assert len(bucket.files) > 1
        assert list(bucket.files) == in_sequence(bucket.files)
    for day in "ab":
        found = table.scan().filter(pl.col("day") == day).select("x", "text").collect()
        assert found.equals(found.sort("x", "text", nulls_last=False))


def test_deleted_rows_go_and_one_partition_may_be_sorted() -> None:
    table = a_table(deletion_vectors__enabled="true")
    table.write(frame(1, 3_000))
    table.delete(pl.col("x") < 50)
    before = rows(table)
    untouched = set(table.files().filter(pl.col("partition").str.contains("b"))["file_path"])
    table.compact(order_strategy="zorder", order_by=["x", "y"], partitions=[{"day": "a"}])
    assert rows(table) == before
    assert untouched <= set(table.files()["file_path"])
    table.compact(order_strategy="zorder", order_by=["x", "y"])
    assert rows(table) == before
    assert sum(table.files()["record_count"]) == sum(before.values())


def test_an_empty_table_is_sorted() -> None:
    assert a_table().compact(order_strategy="order", order_by=["x"]) is None


def test_writes_are_clustered() -> None:
    table = a_table(clustering__columns="x,y", write_only="true")
    table.write(frame(1, 20_000))
    assert files_read(table, BOTH) < table.files().height / 2
    table.overwrite(frame(2, 20_000))
    assert rows(table) == Counter(frame(2, 20_000).iter_rows())
    assert files_read(table, pl.col("x") == 7) < table.files().height / 2


def test_what_cannot_be_sorted_is_refused() -> None:
    table = a_table()
    with pytest.raises(InvalidInput, match="no column 'z'"):
        table.compact(order_strategy="order", order_by=["z"])
    with pytest.raises(InvalidInput, match="names no column"):
        table.compact(order_strategy="order")
    with pytest.raises(InvalidInput, match="spiral"):
        table.compact(order_strategy="spiral", order_by=["x"])
    with pytest.raises(InvalidInput, match="needs an order_strategy"):
        table.compact(order_by=["x"])
    with pytest.raises(Unsupported, match="without buckets"):
        a_table(bucket="2", bucket_key="x").compact(order_strategy="order", order_by=["x"])
    with pytest.raises(InvalidOption, match=r"clustering\.columns"):
        a_table(clustering__columns="nothing")


def test_sql_sorts() -> None:
    catalog = Catalog(f"memory://{uuid.uuid4()}")
    catalog.execute(
        "CREATE DATABASE db; CREATE TABLE db.t (a INT, b INT); INSERT INTO db.t VALUES (2, 1), (1, 2), (1, 1)"
    )
    catalog.execute("CALL sys.compact(`table` => 'db.t', order_strategy => 'order', order_by => 'a, b')")
    assert catalog.table("db.t").scan().collect().rows() == [(1, 1), (1, 2), (2, 1)]

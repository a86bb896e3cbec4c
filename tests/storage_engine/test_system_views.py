"""System tables by name, in Python and in SQL, now and in the past."""

from __future__ import annotations

import json
import uuid
from dataclasses import replace

import polars as pl
import pytest

from storage_engine import Catalog
from storage_engine.errors import InvalidInput, TableNotFound, Unsupported
from storage_engine.system_views import SYSTEM_TABLES


@pytest.fixture
def catalog() -> Catalog:
    catalog = Catalog(f"memory://views-{uuid.uuid4()}")
    catalog.execute("""CREATE DATABASE db; USE db;
        CREATE TABLE t (id INT, tags ARRAY<STRING>, n BIGINT COMMENT 'how many', PRIMARY KEY (id) NOT ENFORCED)
            WITH ('bucket' = '1', 'changelog-producer' = 'lookup', 'merge-engine' = 'aggregation',
                'fields.n.aggregate-function' = 'sum', 'fields.n.ignore-retract' = 'true');
        INSERT INTO t VALUES (1, NULL, 1), (2, NULL, 2); INSERT INTO t VALUES (1, NULL, 10)""")
    return catalog


@pytest.mark.parametrize("kind", SYSTEM_TABLES)
def test_python_and_sql_say_the_same(catalog: Catalog, kind: str) -> None:
    scanned = catalog.table(f"db.t${kind}").scan().collect()
    assert scanned.equals(catalog.sql(f"SELECT * FROM t${kind}").collect())


def test_system_tables_of_the_past(catalog: Catalog) -> None:
    assert catalog.table("t$files").scan(snapshot=1).collect().height == 1
    assert catalog.sql("SELECT * FROM t$ro VERSION AS OF 2").collect()["n"].sort().to_list() == [1, 2]
    old = catalog.sql("SELECT record_count FROM t$buckets /*+ OPTIONS('scan.snapshot-id' = '1') */").collect()
    assert old["record_count"].to_list() == [2]
    with pytest.raises(InvalidInput, match="as it is now"):
        catalog.table("t$tags").scan(snapshot=1)


def test_what_cannot_be_done_with_one(catalog: Catalog) -> None:
    view = catalog.table("db.t$snapshots")
    assert repr(view) == "SystemTable('db.t$snapshots')"
    for act in (view.write, view.overwrite, view.delete, view.update):
        with pytest.raises(Unsupported, match=r"db\.t\$snapshots is a system table"):
            act(pl.DataFrame())
    with pytest.raises(InvalidInput, match=r"no system table \$nope; known: snapshots"):
        catalog.table("db.t$nope")


def test_binlog_packs_updates(catalog: Catalog) -> None:
    now = catalog.sql("SELECT * FROM t$binlog ORDER BY id").collect()
    assert now.rows() == [("+I", [1], [None], [11]), ("+I", [2], [None], [2])]
    hint = "/*+ OPTIONS('incremental-between' = '2,4') */"
    assert catalog.sql(f"SELECT * FROM t$binlog {hint}").collect().rows() == [("+U", [1, 1], [None, None], [1, 11])]
    assert catalog.sql(f"SELECT rowkind, n FROM t$audit_log {hint}").collect().rows() == [("-U", 1), ("+U", 11)]


def test_aggregation_fields(catalog: Catalog) -> None:
    found = catalog.table("t$aggregation_fields").scan().collect()
    assert found.rows()[2] == (
        "n",
        "BIGINT",
        "[sum, true]",
        "[fields.n.aggregate-function, fields.n.ignore-retract]",
        "how many",
    )
    assert found.rows()[0] == ("id", "INT NOT NULL", "[]", "[]", None)


def test_indexes_of_deletion_vectors(catalog: Catalog) -> None:
    catalog.execute("""CREATE TABLE d (p STRING, id INT, PRIMARY KEY (p, id) NOT ENFORCED) PARTITIONED BY (p)
        WITH ('bucket' = '1', 'deletion-vectors.enabled' = 'true', 'num-sorted-run.compaction-trigger' = '9');
        INSERT INTO d SELECT 'x', n FROM (VALUES (1), (2), (3), (4), (5), (6)) AS v(n)""")
    catalog.table("d").compact(full=True)
    catalog.execute("INSERT INTO d VALUES ('x', 2), ('x', 3)")
    (row,) = catalog.table("d$table_indexes").scan().collect().rows(named=True)
    assert (row["partition"], row["bucket"], row["index_type"]) == ("{x}", 0, "DELETION_VECTORS")
    assert [each["_CARDINALITY"] for each in row["dv_ranges"]] == [2]


def test_statistics_are_read(catalog: Catalog) -> None:
    table = catalog.table("t")
    assert catalog.table("t$statistics").scan().collect().is_empty()
    latest = table.latest_snapshot()
    assert latest is not None
    text = {"snapshotId": 4, "schemaId": 0, "mergedRecordCount": 2, "colStats": {"n": {"colId": 2, "min": "2"}}}
    table.store.io.overwrite(table.store.paths.statistics_file("stat-1"), json.dumps(text).encode())
    assert table.store.snapshots.try_create(replace(latest, id=latest.id + 1, statistics="stat-1"))
    (row,) = catalog.sql("SELECT * FROM t$statistics").collect().rows()
    assert row[:4] == (4, 0, 2, None)
    assert json.loads(row[4]) == {"n": {"colId": 2, "min": "2"}}


def test_the_whole_warehouse(catalog: Catalog) -> None:
    catalog.execute("CREATE TABLE u (id INT) WITH ('bucket' = '2', 'bucket-key' = 'id')")
    found = catalog.sql("SELECT * FROM sys.all_table_options WHERE `key` = 'bucket' ORDER BY table_name").collect()
    assert found.rows() == [("db", "t", "bucket", "1"), ("db", "u", "bucket", "2")]
    assert catalog.sql("SELECT `key` FROM sys.catalog_options").collect().rows() == [("warehouse",)]
    with pytest.raises(TableNotFound, match=r"known: sys\.all_table_options"):
        catalog.sql("SELECT * FROM sys.nope")

"""Changelogs that outlive snapshots, automatic tags, expired partitions, system tables: each engine goes on with the other's."""

from __future__ import annotations

import polars as pl
import pytest

from storage_engine import Table
from tests.interop.both import Both, Shared
from tests.interop.flink.canonical import canon, canon_changes, in_order

COLUMNS = "dt STRING, id INT, n BIGINT, PRIMARY KEY (dt, id) NOT ENFORCED"
SCHEMA = {"dt": pl.String, "id": pl.Int32, "n": pl.Int64}
LASTING = {
    "bucket": "1",
    "num-sorted-run.compaction-trigger": "3",
    "snapshot.num-retained.min": "1",
    "changelog.num-retained.min": "1",
    "changelog.num-retained.max": "2000000000",
    "changelog.time-retained": "3 h",
}


def write(shared: Shared, *numbers: int, by: str = "ours") -> None:
    for number in numbers:
        frame = pl.DataFrame({"dt": ["a", "b"], "id": [1, number], "n": [number, number]}, schema=SCHEMA)
        shared.write(frame, by=by)


@pytest.mark.feature("Snapshots, tags, branches", "changelog that outlives its snapshots ({producer}), expired by {by}")
@pytest.mark.parametrize("by", ["ours", "flink"])
@pytest.mark.parametrize("producer", ["none", "lookup"])
def test_changelogs_outlive_their_snapshots(both: Both, producer: str, by: str) -> None:
    shared = both.create("db.t", COLUMNS, {**LASTING, "changelog-producer": producer})
    write(shared, 1, 2)
    write(shared, 3, by="paimon")
    write(shared, 4)
    table = shared.table
    before = table.changes(0).collect()
    both.ours.execute("ALTER TABLE db.t SET ('snapshot.num-retained.max' = '1')")
    write(shared, 4, by=by)
    last = shared.latest()
    assert table.store.snapshots.ids()[-1] == last
    left = table.store.snapshots.changelog_ids()
    assert left == list(range(1, table.store.snapshots.ids()[0]))
    assert table.changes(0).collect().head(before.height).equals(before)
    before = table.changes(0).collect()
    streamed, told = both.flink.stream(shared.name, 0, last).changes(), canon_changes(before)
    if producer == "none":  # Flink makes updates of inserts that it has seen before
        assert {row for kind, row in streamed if kind in ("+I", "+U")} == {row for _, row in told}
    else:
        assert in_order(streamed) == in_order(told)
    rows = shared.rows()
    both.flink.sql("CALL sys.expire_changelogs(`table` => 'db.t', retain_max => 3, retain_min => 1)")
    left = table.store.snapshots.changelog_ids()
    assert left[0] > 1
    assert table.expire_changelogs(retain_max=2, retain_min=1) >= 0
    write(shared, 5, by="paimon")
    write(shared, 6)
    assert len(shared.rows()) == len(rows) + 2


@pytest.mark.feature("Snapshots, tags, branches", "automatic tags")
def test_automatic_tags_are_told_and_kept_by_both(both: Both) -> None:
    options = {"bucket": "1", "tag.automatic-creation": "process-time", "tag.creation-period": "hourly",
               "tag.default-time-retained": "3 h", "tag.create-success-file": "true"}  # fmt: skip
    shared = both.create("db.t", COLUMNS, options)
    write(shared, 1)
    (ours,) = shared.table.store.tags.names()
    write(shared, 2, by="flink")
    told = both.flink.rows("SELECT tag_name, snapshot_id, time_retained FROM `db`.`t$tags`")
    assert told == [(ours, 1, "PT3H")]
    write(shared, 3)
    assert shared.table.store.tags.names() == [ours]
    shared.rows()


@pytest.mark.feature("Partitions", "expiry by {by}")
@pytest.mark.parametrize("by", ["ours", "flink"])
def test_partitions_expire(both: Both, by: str) -> None:
    options = {"bucket": "1", "write-only": "true", "partition.timestamp-formatter": "yyyyMMdd"}
    shared = both.create("db.t", COLUMNS, options, rest="PARTITIONED BY (dt)")
    days = ["20240101", "20240102", "29990101", "no day"]
    shared.write(pl.DataFrame({"dt": days, "id": [1] * 4, "n": [1] * 4}, schema=SCHEMA), by="ours")
    if by == "ours":
        expired = shared.table.expire_partitions({"partition.expiration-time": "1 d"})
        assert expired == [{"dt": "20240101"}, {"dt": "20240102"}]
    else:
        call = (
            "CALL sys.expire_partitions(`table` => 'db.t', expiration_time => '1 d', timestamp_formatter => 'yyyyMMdd')"
        )
        assert both.flink.rows(call) == [("dt=20240101",), ("dt=20240102",)]
    assert [row[0] for row in shared.rows()] == ["29990101", "no day"]


def aggregated(both: Both) -> Table:
    options = {"bucket": "1", "merge-engine": "aggregation", "fields.n.aggregate-function": "sum",
               "fields.m.aggregate-function": "max", "changelog-producer": "lookup"}  # fmt: skip
    both.create("db.t", "id INT, n BIGINT COMMENT 'sum', m INT, PRIMARY KEY (id) NOT ENFORCED", options)
    both.ours.execute("INSERT INTO db.t VALUES (1, 1, 1), (2, 2, 2); INSERT INTO db.t VALUES (1, 10, 10)")
    return both.ours.table("db.t")


@pytest.mark.feature("System tables", "${name}")
@pytest.mark.parametrize("name", ["aggregation_fields", "binlog", "audit_log", "table_indexes", "statistics"])
def test_more_system_tables(both: Both, name: str) -> None:
    aggregated(both)
    if name == "table_indexes":
        both.ours.execute("""CREATE TABLE db.d (id INT, PRIMARY KEY (id) NOT ENFORCED) WITH ('bucket' = '1',
            'deletion-vectors.enabled' = 'true'); INSERT INTO db.d VALUES (1), (2), (3)""")
        both.ours.table("db.d").compact(full=True)
        both.ours.execute("INSERT INTO db.d VALUES (2)")
    if name == "statistics":
        both.flink.sql("ANALYZE TABLE db.t COMPUTE STATISTICS FOR ALL COLUMNS")
    table = "db.d" if name == "table_indexes" else "db.t"
    ours = both.ours.table(f"{table}${name}").scan().collect()
    theirs = both.flink.read(f"{table}${name}")
    assert list(ours.columns) == theirs.columns
    assert canon(ours) == in_order(theirs.rows)


@pytest.mark.feature("System tables", "sys.all_table_options")
def test_options_of_all_tables(both: Both) -> None:
    aggregated(both)
    ours = both.ours.sql("SELECT * FROM sys.all_table_options").collect()
    theirs = both.flink.sql("SELECT * FROM sys.all_table_options")
    assert list(ours.columns) == theirs.columns
    assert canon(ours) == in_order(row for row in theirs.rows if row[2] != "path")


@pytest.mark.feature("SQL", "MERGE INTO and UPDATE, read by Flink with their changelog")
def test_flink_reads_what_merge_and_update_did(both: Both) -> None:
    shared = both.create("db.t", COLUMNS, {"bucket": "1", "changelog-producer": "lookup"})
    write(shared, 1, 2)
    both.ours.execute("""MERGE INTO db.t USING (SELECT 'a' AS dt, 1 AS id, 50 AS n UNION ALL SELECT 'c', 7, 7
            UNION ALL SELECT 'b', 2, 0) AS s ON t.dt = s.dt AND t.id = s.id
        WHEN MATCHED AND s.n = 0 THEN DELETE WHEN MATCHED THEN UPDATE SET n = t.n + s.n WHEN NOT MATCHED THEN INSERT *;
        UPDATE db.t SET n = n * 2 WHERE dt = 'a'""")
    assert shared.rows() == [("a", 1, 104), ("b", 1, 1), ("c", 7, 7)]
    shared.new_changes()

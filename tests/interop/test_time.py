"""Snapshots, tags, branches, expiry, rollback and system tables: made by one engine, used by the other."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from storage_engine import Table
from storage_engine.errors import SnapshotExpired
from tests.interop.both import Both, Shared
from tests.interop.flink.canonical import Row, canon, in_order

COLUMNS = "v_date STRING, id INT, n BIGINT, PRIMARY KEY (v_date, id) NOT ENFORCED"
SCHEMA = {"v_date": pl.String, "id": pl.Int32, "n": pl.Int64, "_row_kind": pl.String}
WRITERS = ("ours", "paimon", "ours", "paimon", "ours")


@pytest.fixture
def shared(both: Both) -> Shared:
    """Five commits, by both engines in turn, each followed by the compaction that its changelog needs."""
    options = {"bucket": "2", "changelog-producer": "lookup"}
    shared = both.create("db.t", COLUMNS, options, rest="PARTITIONED BY (v_date)")
    for number, writer in enumerate(WRITERS):
        write(shared, number, by=writer)
    shared.rows()
    return shared


def write(shared: Shared, number: int, *, by: str) -> None:
    rows = [("2024-01-01", 1, number, "+I"), ("2024-01-02", number, 0, "+I"), ("2024-01-02", number - 1, 0, "-D")]
    shared.write(pl.DataFrame(rows, schema=SCHEMA, orient="row"), by=by)


def state(table: Table, snapshot: int) -> list[Row]:
    return canon(table.scan(snapshot=snapshot).collect())


def flink_rows(shared: Shared, hint: str) -> list[Row]:
    return shared.both.flink.rows(f"SELECT * FROM {shared.name} /*+ OPTIONS({hint}) */")


def snapshot_ids(shared: Shared) -> list[int]:
    return [snapshot["id"] for snapshot in shared.both.flink.snapshots(shared.name)]


@pytest.mark.feature("Snapshots, tags, branches", "time travel by snapshot and timestamp")
def test_every_snapshot_is_the_same(shared: Shared) -> None:
    table = shared.table
    assert snapshot_ids(shared) == table.snapshots()["snapshot_id"].to_list() == list(range(1, 11))
    for snapshot in snapshot_ids(shared):
        theirs = shared.both.flink.read(shared.name, {"scan.snapshot-id": str(snapshot)}).rows
        assert in_order(theirs) == state(table, snapshot)
    at = table.store.snapshots.get(4).time_millis
    theirs = shared.both.flink.read(shared.name, {"scan.timestamp-millis": str(at)}).rows
    assert in_order(theirs) == canon(table.scan(timestamp=at).collect())


@pytest.mark.feature("Snapshots, tags, branches", "streaming read of a Flink job")
@pytest.mark.parametrize("after", [0, 3])
def test_flink_streams_what_changes_tells(shared: Shared, after: int) -> None:
    ours = shared.table.changes(after, 10).collect()
    streamed = shared.both.flink.stream(shared.name, after, 10).changes()
    kinds = ours["_row_kind"].to_list()
    rows = canon_unsorted(ours.drop("_row_kind"))
    assert in_order(streamed) == in_order(zip(kinds, rows, strict=True))


def canon_unsorted(frame: pl.DataFrame) -> list[Row]:
    return [row for part in frame.iter_slices(1) for row in canon(part)]


@pytest.mark.feature("Snapshots, tags, branches", "incremental-between: delta, changelog, diff of two tags")
def test_what_is_between_two_snapshots(shared: Shared) -> None:
    for mode in ("delta", "changelog"):
        options = {"incremental-between": "2,8", "incremental-between-scan-mode": mode}
        theirs = shared.both.flink.read(f"{shared.name}$audit_log", options)
        ours = shared.table.changes(2, 8, mode=mode).collect()
        assert in_order(theirs.rows) == canon(ours)
    shared.table.create_tag("a", 2)
    shared.table.create_tag("b", 8)
    theirs = shared.both.flink.read(f"{shared.name}$audit_log", {"incremental-between": "a,b"})
    kept = shared.table.changes("a", "b").filter(pl.col("_row_kind") != "-U").collect()
    # Paimon's diff tells an update as a plain insert
    told = kept.with_columns(pl.col("_row_kind").replace({"+U": "+I"}))
    assert in_order(theirs.rows) == canon(told)


@pytest.mark.feature("Snapshots, tags, branches", "tags")
def test_tags(shared: Shared) -> None:
    table, flink = shared.table, shared.both.flink
    table.create_tag("ours", 4)
    flink.sql("CALL sys.create_tag(`table` => 'db.t', tag => 'theirs', snapshot_id => CAST(6 AS BIGINT))")
    flink.sql("CALL sys.create_tag(`table` => 'db.t', tag => 'kept', time_retained => '1 d')")
    assert flink_rows(shared, "'scan.tag-name' = 'ours'") == state(table, 4)
    assert canon(table.scan(tag="theirs").collect()) == state(table, 6)
    assert table.tags()["tag_name"].sort().to_list() == ["kept", "ours", "theirs"]
    flink.sql("CALL sys.delete_tag(`table` => 'db.t', tag => 'ours')")
    table.delete_tag("theirs")
    assert flink.rows("SELECT tag_name FROM `db`.`t$tags`") == [("kept",)]


EXPIRIES: dict[str, Callable[[Shared], object]] = {
    "ours": lambda shared: shared.table.expire_snapshots(retain_max=2, retain_min=1),
    "flink": lambda shared: shared.both.flink.sql(
        "CALL sys.expire_snapshots(`table` => 'db.t', retain_max => 2, retain_min => 1)"
    ),
}


@pytest.mark.feature("Snapshots, tags, branches", "expiry by {by}")
@pytest.mark.parametrize("by", EXPIRIES)
def test_an_expired_table_reads_on_and_its_tags_too(shared: Shared, by: str) -> None:
    table = shared.table
    then, now = state(table, 4), shared.rows()
    table.create_tag("kept", 4)
    EXPIRIES[by](shared)
    assert snapshot_ids(shared) == table.snapshots()["snapshot_id"].to_list() == [9, 10]
    assert shared.rows() == now
    assert flink_rows(shared, "'scan.tag-name' = 'kept'") == canon(table.scan(tag="kept").collect()) == then
    with pytest.raises(SnapshotExpired):
        table.changes(2).collect()
    for number, writer in enumerate(WRITERS[:2], start=5):
        write(shared, number, by=writer)
        shared.rows()
    table.delete_tag("kept")
    EXPIRIES["flink" if by == "ours" else "ours"](shared)
    assert snapshot_ids(shared) == [13, 14]
    live = pl.concat([table.files(13), table.files(14)])["file_path"]
    assert data_files(shared) == set(live.str.split("/").list.last())
    shared.rows()


def data_files(shared: Shared) -> set[str]:
    """The data files that lie in the table's folder."""
    root = Path(shared.table.store.paths.root.removeprefix("file://"))
    return {path.name for path in root.rglob("data-*.parquet")}


ROLLBACKS: dict[str, Callable[[Shared], object]] = {
    "ours": lambda shared: shared.table.rollback_to(6),
    "flink": lambda shared: shared.both.flink.sql(
        "CALL sys.rollback_to(`table` => 'db.t', snapshot_id => CAST(6 AS BIGINT))"
    ),
}


@pytest.mark.feature("Snapshots, tags, branches", "rollback by {by}")
@pytest.mark.parametrize("by", ROLLBACKS)
def test_rollback(shared: Shared, by: str) -> None:
    then = state(shared.table, 6)
    ROLLBACKS[by](shared)
    assert shared.rows() == then
    assert snapshot_ids(shared) == [1, 2, 3, 4, 5, 6]
    for number, writer in enumerate(("paimon", "ours"), start=7):
        write(shared, number, by=writer)
        shared.rows()
    shared.new_changes()


@pytest.mark.feature("Snapshots, tags, branches", "branch made by {by}, fast-forwarded by the other")
@pytest.mark.parametrize("by", ["ours", "flink"])
def test_branches(shared: Shared, by: str) -> None:
    table, flink, ours = shared.table, shared.both.flink, shared.both.ours
    table.create_tag("start", 8)
    if by == "ours":
        table.create_branch("repair", tag="start")
    else:
        flink.sql("CALL sys.create_branch(`table` => 'db.t', branch => 'repair', tag => 'start')")
    main = shared.rows()
    branch = ours.table("db.t", branch="repair")
    assert canon(branch.scan().collect()) == state(table, 8)
    rows = pl.DataFrame([("2024-01-03", 9, 9, "+I")], schema=SCHEMA, orient="row")
    branch.write(rows)
    flink.write_core("db.t$branch_repair", [("+I", ("2024-01-04", 10, 10))])
    there = canon(branch.scan().collect())
    assert in_order(flink.read("db.t$branch_repair").rows) == there
    assert {row[0] for row in there} == {"2024-01-01", "2024-01-02", "2024-01-03", "2024-01-04"}
    assert shared.rows() == main
    if by == "ours":
        flink.sql("CALL sys.fast_forward(`table` => 'db.t', branch => 'repair')")
    else:
        table.fast_forward("repair")
    assert shared.rows() == there
    write(shared, 20, by="ours")
    write(shared, 21, by="paimon")
    shared.rows()


@pytest.mark.feature("Snapshots, tags, branches", "scan.fallback-branch")
def test_partitions_that_are_lacking_come_from_the_fallback_branch(shared: Shared) -> None:
    table, flink = shared.table, shared.both.flink
    table.create_branch("corrected")
    branch = shared.both.ours.table("db.t", branch="corrected")
    branch.write(pl.DataFrame([("2024-01-02", 77, 1, "+I"), ("2024-01-05", 1, 2, "+I")], schema=SCHEMA, orient="row"))
    flink.write_core("db.t$branch_corrected", [("+I", ("2024-01-06", 3, 4))])
    own = canon(table.scan().collect())
    flink.sql("ALTER TABLE db.t SET ('scan.fallback-branch' = 'corrected')")
    filled = canon(table.scan().collect())
    assert in_order(flink.rows(f"SELECT * FROM {shared.name}")) == filled
    assert len(filled) == len(own) + 2
    day = "v_date = '2024-01-05'"
    assert in_order(flink.rows(f"SELECT * FROM {shared.name} WHERE {day}")) == canon(
        table.scan().filter(pl.col("v_date") == "2024-01-05").collect()
    )
    table.write(pl.DataFrame([("2024-01-05", 9, 9, "+I")], schema=SCHEMA, orient="row"))
    assert in_order(flink.rows(f"SELECT * FROM {shared.name}")) == canon(table.scan().collect())


SYSTEM_TABLES = ("snapshots", "schemas", "options", "files", "tags", "branches", "partitions", "buckets", "manifests")


@pytest.mark.feature("System tables", "${name}")
@pytest.mark.parametrize("name", SYSTEM_TABLES)
def test_system_tables(shared: Shared, name: str) -> None:
    shared.table.create_tag("a", 2)
    shared.table.create_branch("b", tag="a")
    ours = shared.both.ours.sql(f"SELECT * FROM `db`.`t${name}`").collect()
    theirs = shared.both.flink.sql(f"SELECT * FROM `db`.`t${name}`")
    assert ours.columns == theirs.columns
    if name == "branches":  # when a branch was made is the time of a folder there, of a file here: a millisecond apart
        assert canon(ours.select("branch_name")) == in_order([row[:1] for row in theirs.rows])
        return
    assert canon(ours) == in_order(theirs.rows)

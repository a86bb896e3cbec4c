"""CALL sys.…: every procedure does what it says, and says what it does not do."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest

from storage_engine import Catalog, Table
from storage_engine.errors import (
    FileMissing,
    InvalidSchema,
    SnapshotNotFound,
    SqlError,
    StorageEngineError,
    TagNotFound,
    Unsupported,
)
from storage_engine.sql.procedures import PROCEDURES
from storage_engine.store.live_files import LiveFiles

DAY = 86_400_000


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    catalog = Catalog(str(tmp_path))
    catalog.execute("""CREATE DATABASE db; USE db;
        CREATE TABLE t (dt STRING, id INT, v STRING, PRIMARY KEY (dt, id) NOT ENFORCED) PARTITIONED BY (dt)
            WITH ('bucket' = '1', 'write-only' = 'true');
        INSERT INTO t VALUES ('2024-01-01', 1, 'a'); INSERT INTO t VALUES ('2024-01-02', 1, 'b')""")
    catalog.table("t").write(rows(("2024-01-03", 1, "c")), watermark=5 * DAY)
    return catalog


def rows(*data: tuple[str, int, str]) -> pl.DataFrame:
    return pl.DataFrame(list(data), schema={"dt": pl.String, "id": pl.Int32, "v": pl.String}, orient="row")


@pytest.fixture
def table(catalog: Catalog) -> Table:
    return catalog.table("t")


def call(catalog: Catalog, text: str) -> list[str]:
    result = catalog.execute(f"CALL sys.{text}")
    assert result is not None
    return result["result"].to_list()


def tags(table: Table) -> dict[str, int]:
    return {tag.name: tag.snapshot.id for tag in table.store.tags.list()}


def test_tags(catalog: Catalog, table: Table) -> None:
    at = table.store.snapshots.get(2).time_millis
    call(catalog, "create_tag('t', 'a', 1, '1 d')")
    assert table.store.tags.list()[0].time_retained_ms == DAY
    first = next(n for n in (1, 2) if table.store.snapshots.get(n).time_millis >= at)
    assert f"b, snapshot {first}" in call(catalog, f"create_tag_from_timestamp('t', 'b', {at})")[0]
    assert "watermark 432000000" in call(catalog, "create_tag_from_watermark('t', 'c', '1970-01-02 00:00:00')")[0]
    call(catalog, "replace_tag(`table` => 't', tag => 'a', snapshot_id => 3)")
    call(catalog, "rename_tag('t', 'a', 'd')")
    assert tags(table) == {"b": first, "c": 3, "d": 3}
    call(catalog, "delete_tag('t', 'b, c')")
    assert call(catalog, "expire_tags('t')") == ["No expired tags."]
    with pytest.raises(SnapshotNotFound, match="watermark of at least"):
        call(catalog, "create_tag_from_watermark('t', 'x', '2030-01-01')")
    with pytest.raises(TagNotFound, match="to replace"):
        call(catalog, "replace_tag('t', 'nope')")
    catalog.execute("ALTER TABLE t SET ('tag.automatic-creation' = 'batch', 'tag.batch.customized-name' = 'auto')")
    call(catalog, "trigger_tag_automatic_creation('t')")
    assert tags(table) == {"auto": 3, "d": 3}


def test_rollbacks(catalog: Catalog, table: Table) -> None:
    table.write(rows(("2024-01-04", 1, "d")), watermark=9 * DAY)
    assert "snapshot: 3" in call(catalog, f"rollback_to_watermark('t', {6 * DAY})")[0]
    with pytest.raises(SnapshotNotFound):
        call(catalog, "rollback_to_watermark('t', 1)")
    moment = table.store.snapshots.get(2).time_millis
    expected = max(n for n in (1, 2, 3) if table.store.snapshots.get(n).time_millis <= moment)
    assert call(catalog, f"rollback_to_timestamp('t', {moment})") == [f"Success roll back to snapshot: {expected} ."]
    assert table.snapshots().height == expected


def test_partitions(catalog: Catalog, table: Table) -> None:
    call(catalog, "mark_partition_done('t', 'dt=2024-01-01;dt=2024-01-02')")
    mark = Path(table.store.paths.root) / "dt=2024-01-01" / "_SUCCESS"
    made = json.loads(mark.read_text())
    call(catalog, "mark_partition_done('t', 'dt=2024-01-01')")
    again = json.loads(mark.read_text())
    assert (again["creationTime"], again["modificationTime"] >= made["modificationTime"]) == (
        made["creationTime"],
        True,
    )
    call(catalog, "drop_partition('t', 'dt=2024-01-03')")
    gone = call(catalog, "expire_partitions('t', '1 d', 'yyyy-MM-dd', max_expires => 1)")
    assert gone == ["dt=2024-01-01"]
    assert table.scan().collect()["dt"].to_list() == ["2024-01-02"]
    assert call(catalog, "expire_partitions('t', '30000 d')") == ["No expired partitions."]


def test_consumers_and_changelogs(catalog: Catalog, table: Table) -> None:
    for name in ("a1", "a2", "b"):
        call(catalog, f"reset_consumer('t', '{name}', 2)")
    call(catalog, "reset_consumer('t', 'b')")
    assert table.consumers()["consumer_id"].to_list() == ["a1", "a2"]
    call(catalog, "clear_consumers('t', 'a.*', 'a2')")
    assert table.consumers()["consumer_id"].to_list() == ["a2"]
    call(catalog, "clear_consumers('t')")
    catalog.execute("ALTER TABLE t SET ('changelog.time-retained' = '2 h')")
    assert call(catalog, "expire_snapshots('t', retain_max => 1, retain_min => 1)") == ["2"]
    assert table.changes(0).collect().height == 3
    assert call(catalog, "expire_changelogs('t', delete_all => true)") == ["2"]
    table.set_consumer("c", 1)
    with pytest.raises(SqlError, match="is no pattern"):
        call(catalog, "clear_consumers('t', '(')")


def test_missing_files_are_taken_out(catalog: Catalog, table: Table) -> None:
    lost = table.files().filter(pl.col("partition") == "{2024-01-02}")["file_path"][0]
    Path(lost).unlink()
    with pytest.raises(FileMissing):
        table.scan().collect()
    assert call(catalog, "remove_unexisting_files('t', true)") == [lost]
    assert call(catalog, "remove_unexisting_files('t')") == [lost]
    assert sorted(table.scan().collect()["dt"]) == ["2024-01-01", "2024-01-03"]
    assert call(catalog, "remove_unexisting_files('t')") == []


def test_manifests_are_compacted(catalog: Catalog, table: Table) -> None:
    catalog.execute("DELETE FROM t WHERE dt = '2024-01-01'")
    table.compact(full=True)
    before = table.scan().collect().sort("dt")
    call(catalog, "compact_manifest('t')")
    assert catalog.sql("SELECT num_deleted_files FROM t$manifests").collect()["num_deleted_files"].to_list() == [0]
    assert table.scan().collect().sort("dt").equals(before)


def test_files_are_indexed_afterwards(catalog: Catalog, table: Table) -> None:
    catalog.execute(
        "ALTER TABLE t SET ('file-index.bloom-filter.columns' = 'v', 'file-index.bloom-filter.v.items' = '9')"
    )
    assert call(catalog, "rewrite_file_index('t', 'dt=2024-01-01;dt=2024-01-02')") == ["Success"]

    def indexed() -> int:
        entries = LiveFiles(table.store, table.schema).entries(table.latest_snapshot())
        return sum(entry.file.embedded_index is not None for entry in entries)

    assert indexed() == 2
    call(catalog, "rewrite_file_index(`table` => 't')")
    assert indexed() == 3
    with pytest.raises(SqlError, match="is partitioned by dt, not by 'id'"):
        call(catalog, "rewrite_file_index('t', 'id=1')")


def test_a_purged_table_has_nothing_but_its_definition(catalog: Catalog, table: Table) -> None:
    table.create_tag("a", 1)
    table.create_branch("b", "a")
    call(catalog, "purge_files('t')")
    assert table.scan().collect().is_empty()
    root = Path(table.store.paths.root)
    assert [path for path in root.rglob("data-*") if path.is_file()] == []
    assert table.branches().is_empty()
    table.write(rows(("2024-01-01", 1, "a")))
    assert table.scan().collect().height == 1


def test_a_database_is_compacted(catalog: Catalog) -> None:
    catalog.execute("CREATE DATABASE other; CREATE TABLE other.u (id INT); CREATE TABLE db.skipped (id INT)")
    assert call(catalog, "compact_database(excluding_tables => '.*skipped')") == ["db.t", "other.u"]
    assert call(catalog, "compact_database('other')") == ["other.u"]
    assert call(catalog, "compact_database('db|other', including_tables => 'db.t', compact_strategy => 'full')") == [
        "db.t"
    ]
    assert set(catalog.table("t").files()["level"].to_list()) == {5}


def test_default_values(catalog: Catalog, table: Table) -> None:
    call(catalog, "alter_column_default_value('t', 'v', 'none given')")
    catalog.execute("INSERT INTO t (dt, id) VALUES ('2024-02-01', 1)")
    assert table.scan().filter(pl.col("dt") == "2024-02-01").collect()["v"].to_list() == ["none given"]
    with pytest.raises(InvalidSchema, match="column 'id': default value"):
        call(catalog, "alter_column_default_value('t', 'id', 'many')")
    call(catalog, "alter_column_default_value('t', 'v')")
    assert table.schema.by_name["v"].default_value is None


@pytest.mark.parametrize(
    "name", ["migrate_table", "repair", "merge_into", "create_function", "grant_privilege_to_user"]
)
def test_what_is_not_done_says_why(catalog: Catalog, name: str) -> None:
    with pytest.raises(Unsupported, match=rf"sys\.{name} is not done here: "):
        call(catalog, f"{name}('t')")


def test_unknown_procedures_and_arguments_list_the_known(catalog: Catalog) -> None:
    with pytest.raises(SqlError) as raised:
        call(catalog, "nope('t')")
    assert all(name in str(raised.value) for name in (*PROCEDURES, "compact_database"))
    with pytest.raises(SqlError, match="known: table, tag, snapshot_id, time_retained"):
        call(catalog, "create_tag('t', nope => 1)")
    with pytest.raises(SqlError, match="'time_retained' is 'soon'"):
        call(catalog, "create_tag('t', 'a', time_retained => 'soon')")


def test_every_procedure_finds_its_table_first(catalog: Catalog) -> None:
    for name, procedure in PROCEDURES.items():
        given = ", ".join(f"{key} => '1'" for key in procedure.required)
        with pytest.raises(StorageEngineError, match=r"no table db\.nowhere"):
            call(catalog, f"{name}(`table` => 'db.nowhere'{', ' + given if given else ''})")

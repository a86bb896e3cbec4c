"""Statements run on a warehouse."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from storage_engine import Catalog
from storage_engine.errors import (
    DatabaseNotFound,
    InvalidOption,
    InvalidSchema,
    SqlError,
    StorageEngineError,
    TableNotFound,
)

ORDERS = """CREATE TABLE ods.orders (
    v_date STRING, id STRING COMMENT 'the order''s id', amount DECIMAL(20, 4), tags MAP<STRING, ARRAY<INT>>, at TIMESTAMP(3),
    PRIMARY KEY (v_date, id) NOT ENFORCED
) COMMENT 'orders' PARTITIONED BY (v_date) WITH ('bucket' = '2', 'sequence.field' = 'at')"""


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    catalog = Catalog(str(tmp_path))
    catalog.execute("CREATE DATABASE ods")
    return catalog


@pytest.fixture
def orders(catalog: Catalog) -> Catalog:
    catalog.execute(ORDERS)
    return catalog


def write(catalog: Catalog, *rows: tuple[str, str, int]) -> None:
    table = catalog.table("ods.orders")
    frame = pl.DataFrame(list(rows), schema=["v_date", "id", "amount"], orient="row").with_columns(
        pl.col("amount").cast(pl.Decimal(20, 4)), at=pl.datetime(2024, 1, 1, time_unit="ms")
    )
    missing = pl.lit(None, dtype=table.schema.polars_schema["tags"]).alias("tags")
    table.write(frame.with_columns(missing))


def rows(frame: pl.DataFrame | None) -> list[tuple[object, ...]]:
    assert frame is not None
    return frame.rows()


def test_show_create_table_creates_the_same_table(orders: Catalog):
    text = str(rows(orders.execute("SHOW CREATE TABLE ods.orders"))[0][0])
    before = orders.table("ods.orders").schema
    orders.execute("DROP TABLE ods.orders")
    assert orders.execute(text) is None
    after = orders.table("ods.orders").schema
    assert (after.fields, after.options, after.comment) == (before.fields, before.options, before.comment)
    assert (after.primary_keys, after.partition_keys) == (before.primary_keys, before.partition_keys)


def test_show_and_describe_give_frames(orders: Catalog):
    assert rows(orders.execute("SHOW DATABASES")) == [("ods",)]
    assert rows(orders.execute("SHOW TABLES IN ods")) == [("orders",)]
    assert rows(orders.execute("SHOW TABLES IN ods LIKE 'x%'")) == []
    assert rows(orders.execute("SHOW TABLES IN ods LIKE 'o_d%'")) == [("orders",)]
    described = orders.execute("DESC ods.orders")
    assert described is not None
    assert described.columns == ["name", "type", "null", "key", "partitioned", "comment"]
    assert described.row(1) == ("id", "STRING", False, "PRI(v_date, id)", False, "the order's id")


def test_partitions_are_shown_and_chosen(orders: Catalog):
    write(orders, ("2024-01-02", "a", 1), ("2024-01-01", "b", 2))
    assert rows(orders.execute("SHOW PARTITIONS ods.orders")) == [("v_date=2024-01-01",), ("v_date=2024-01-02",)]
    chosen = orders.execute("SHOW PARTITIONS ods.orders PARTITION (v_date = '2024-01-02')")
    assert rows(chosen) == [("v_date=2024-01-02",)]
    with pytest.raises(SqlError, match="partitioned by"):
        orders.execute("SHOW PARTITIONS ods.orders PARTITION (id = 'a')")


def test_use_chooses_the_database_of_bare_names(orders: Catalog):
    orders.execute("USE ods")
    assert rows(orders.execute("SHOW TABLES")) == [("orders",)]
    orders.execute("CREATE TABLE t (a INT); ALTER TABLE t RENAME TO u")
    assert orders.list_tables("ods") == ["orders", "u"]
    with pytest.raises(DatabaseNotFound):
        orders.execute("USE nope")


def test_alter_table_changes_columns_and_options(orders: Catalog):
    orders.execute("""ALTER TABLE ods.orders ADD (note STRING COMMENT 'n' AFTER id);
        ALTER TABLE ods.orders MODIFY amount DECIMAL(30, 4);
        ALTER TABLE ods.orders RENAME at TO changed_at;
        ALTER TABLE ods.orders DROP tags;
        ALTER TABLE ods.orders SET ('fields.amount.aggregate-function' = 'last_non_null');
        ALTER TABLE ods.orders SET ('snapshot.num-retained.max' = '20');
        ALTER TABLE ods.orders RESET ('fields.amount.aggregate-function')""")
    schema = orders.table("ods.orders").schema
    assert schema.column_names == ("v_date", "id", "note", "amount", "changed_at")
    assert schema.options == {"bucket": "2", "sequence.field": "changed_at", "snapshot.num-retained.max": "20"}
    assert schema.id == 7
    versions = orders.table("ods.orders").schemas()
    assert "last_non_null_value" in versions["options"][5]


def test_an_alteration_without_effect_makes_no_schema(orders: Catalog):
    orders.execute("ALTER TABLE ods.orders SET ('bucket' = '2')")
    assert orders.table("ods.orders").schema.id == 0


def test_rows_written_before_are_read_by_the_new_schema(orders: Catalog):
    write(orders, ("2024-01-01", "a", 1))
    orders.execute("ALTER TABLE ods.orders ADD note STRING; ALTER TABLE ods.orders RENAME amount TO price")
    frame = orders.table("ods.orders").scan().select("id", "price", "note").collect()
    assert [(key, str(price), note) for key, price, note in frame.rows()] == [("a", "1.0000", None)]


def test_alterations_are_checked(orders: Catalog):
    write(orders, ("2024-01-01", "a", 1))
    for action, error in [
        ("DROP id", InvalidSchema),
        ("SET ('merge-engine' = 'first-row')", InvalidOption),
        ("SET ('bucket' = '0')", InvalidOption),
        ("SET ('sequence.field' = 'nope')", InvalidOption),
        ("SET ('bucket' = '-1')", InvalidOption),
        ("DROP at", InvalidOption),
    ]:
        with pytest.raises(error):
            orders.execute(f"ALTER TABLE ods.orders {action}")
    assert orders.table("ods.orders").schema.id == 0


def test_if_exists_forgives_what_is_missing(catalog: Catalog):
    catalog.execute("""DROP TABLE IF EXISTS ods.t; ALTER TABLE IF EXISTS ods.t ADD a INT; DROP DATABASE IF EXISTS nope;
        ALTER TABLE IF EXISTS ods.t RENAME TO ods.u; CREATE DATABASE IF NOT EXISTS ods""")
    with pytest.raises(TableNotFound):
        catalog.execute("ALTER TABLE ods.t ADD a INT")


def test_nothing_runs_if_a_later_statement_cannot_be_parsed(catalog: Catalog):
    with pytest.raises(SqlError, match="line 2, column 1"):
        catalog.execute("CREATE DATABASE dwd;\nFOO")
    assert catalog.list_databases() == ["ods"]


def test_a_script_gives_its_results_one_by_one(catalog: Catalog):
    results = catalog.execute_script("CREATE DATABASE dwd; SHOW DATABASES; USE dwd")
    assert next(results) is None
    assert rows(next(results)) == [("dwd",), ("ods",)]
    assert list(results) == [None]


def test_procedures_take_arguments_by_name_and_position(orders: Catalog):
    write(orders, ("2024-01-01", "a", 1))
    write(orders, ("2024-01-01", "b", 2))
    table = orders.table("ods.orders")
    assert rows(orders.execute("CALL sys.create_tag('ods.orders', 'first', 1)")) == [("Success",)]
    orders.execute("CALL sys.create_tag(`table` => 'ods.orders', tag => 'second')")
    assert table.tags()["tag_name"].to_list() == ["first", "second"]
    orders.execute("CALL sys.create_branch('ods.orders', 'side', 'first')")
    assert table.branches()["branch_name"].to_list() == ["side"]
    orders.execute("CALL sys.compact('ods.orders')")
    latest = table.latest_snapshot()
    assert latest is not None
    assert latest.commit_kind == "COMPACT"
    orders.execute("CALL sys.rollback_to(`table` => 'ods.orders', snapshot_id => 1)")
    assert table.scan().collect()["id"].to_list() == ["a"]
    orders.execute("CALL sys.delete_tag('ods.orders', 'first'); CALL sys.delete_branch('ods.orders', 'side')")
    assert table.branches().is_empty()
    assert rows(orders.execute("CALL sys.expire_snapshots('ods.orders', 10)")) == [("0",)]
    assert rows(orders.execute("CALL sys.remove_orphan_files('ods.orders', dry_run => true)")) == []


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("sys.fly('ods.orders')", "no procedure sys.fly; known: alter_column_default_value, clear_consumers, compact"),
        ("sys.compact()", "needs the argument 'table'"),
        ("sys.create_tag('ods.orders')", "needs the argument 'tag'"),
        ("sys.create_tag('ods.orders', 'a', 1, null, 5)", "at most 4 arguments"),
        ("sys.create_tag('ods.orders', tag => 'a', foo => 1)", "no argument 'foo'; known: table, tag"),
        ("sys.create_tag('ods.orders', 'a', tag => 'b')", "argument 'tag' is given twice"),
        ("sys.create_tag('ods.orders', 'a', 'x')", "expected a whole number"),
        ("sys.rollback_to('ods.orders')", "needs one of the arguments"),
        ("sys.compact('ods.orders', compact_strategy => 'bit')", "expected 'minor' or 'full'"),
        ("sys.compact('ods.orders', 'v_date')", "expected column=value"),
        ("sys.compact('ods.orders', 'x=1')", "partitioned by v_date, not by 'x'"),
        ("sys.expire_snapshots('ods.orders', older_than => 'soon')", "expected a time"),
        ("sys.remove_orphan_files('ods.orders', dry_run => 'perhaps')", "expected true or false"),
    ],
)
def test_wrong_calls_say_what_would_be_right(orders: Catalog, call: str, message: str):
    with pytest.raises(SqlError) as error:
        orders.execute(f"CALL {call}")
    assert message in str(error.value)


def test_arguments_that_are_not_done_are_refused(orders: Catalog):
    with pytest.raises(StorageEngineError, match="order_by"):
        orders.execute("CALL sys.compact('ods.orders', order_by => 'id')")
    with pytest.raises(StorageEngineError):
        orders.execute("CALL sys.compact('ods.nope')")


def test_the_case_studys_tables_are_created_as_they_stand(catalog: Catalog):
    catalog.execute("""
        CREATE TABLE ods_member (                       -- deduplication with late events
            v_date STRING, id STRING, member_id BIGINT, amount DECIMAL(20,4), status STRING, event_time TIMESTAMP,
            PRIMARY KEY (v_date, id) NOT ENFORCED
        ) PARTITIONED BY (v_date) WITH (
            'merge-engine'='deduplicate', 'bucket'='4', 'sequence.field'='event_time', 'deletion-vectors.enabled'='true',
            'async-file-write'='true', 'sort-spill-threshold'='10', 'lookup-wait'='false',
            'snapshot.num-retained.max'='10000');
        CREATE TABLE agg_table (                        -- the short name last_non_null is used as it stands
            v_date STRING, agent_id STRING, score DECIMAL(20,4), update_time TIMESTAMP(3),
            PRIMARY KEY (v_date, agent_id) NOT ENFORCED
        ) PARTITIONED BY (v_date) WITH (
            'merge-engine'='aggregation', 'fields.score.aggregate-function'='sum',
            'fields.update_time.aggregate-function'='last_non_null');
        CREATE VIEW view_ods_changelog AS SELECT * FROM ods_member""")
    assert catalog.list_tables("default") == ["agg_table", "ods_member"]
    assert catalog.table("agg_table").schema.options["fields.update_time.aggregate-function"] == "last_non_null_value"
    assert catalog.table("ods_member").schema.table_options.deletion_vectors

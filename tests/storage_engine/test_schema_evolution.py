"""Tables whose definition changed: old files keep their meaning, before and after compaction."""

from __future__ import annotations

import uuid
from datetime import datetime, time
from decimal import Decimal

import polars as pl
import pytest

from storage_engine import Catalog, Table
from storage_engine.errors import InvalidOption, InvalidSchema


@pytest.fixture
def catalog() -> Catalog:
    catalog = Catalog(f"memory://evolution-{uuid.uuid4()}")
    catalog.create_database("db")
    return catalog


def write(table: Table, *rows: tuple[object, ...]) -> None:
    table.write(pl.DataFrame(list(rows), schema=table.schema.polars_schema, orient="row"))


def rows(table: Table) -> list[tuple[object, ...]]:
    return sorted(table.scan().collect().rows())


@pytest.mark.parametrize(
    ("before", "after", "old", "new"),
    [
        ("TINYINT", "BIGINT", -128, 2**40),
        ("INT", "DOUBLE", 2**31 - 1, 0.5),
        ("SMALLINT", "FLOAT", -32768, 0.5),
        ("INT", "DECIMAL(20, 4)", -(2**31), Decimal("0.0001")),
        ("BIGINT", "DECIMAL(38, 0)", 2**63 - 1, Decimal(10**37)),
        ("FLOAT", "DOUBLE", 0.5, 0.1),
        ("DECIMAL(10, 2)", "DECIMAL(20, 4)", Decimal("-12345678.91"), Decimal("0.0001")),
        ("DECIMAL(18, 2)", "DECIMAL(38, 2)", Decimal("1.50"), Decimal("123456789012345678901234567890.12")),
        ("VARCHAR(3)", "STRING", "äöü", "longer"),
        ("CHAR(3)", "VARCHAR(9)", "abc", "longer"),
        ("VARBINARY(3)", "BYTES", b"\x00\x01", b"longer"),
        ("TIMESTAMP(3)", "TIMESTAMP(6)", datetime(1969, 12, 31, 23, 59, 59, 999_000), datetime(2024, 1, 1, 0, 0, 0, 1)),
        ("TIME(0)", "TIME(3)", time(1, 2, 3), time(1, 2, 3, 4000)),
    ],
)  # fmt: skip
def test_values_of_old_files_survive_a_wider_type(catalog: Catalog, before: str, after: str, old: object, new: object):
    columns = {"id": "INT", "v": before}
    table = catalog.create_table("db.t", columns, primary_key=["id"], options={"bucket": "1"})
    write(table, (1, old), (2, None))
    catalog.execute(f"ALTER TABLE db.t MODIFY v {after}")
    write(table, (3, new))
    expected = sorted([(1, old), (2, None), (3, new)])
    assert rows(table) == expected
    assert [row[1] for row in rows(table) if row[1] is not None] == [old, new]
    assert table.scan().filter(pl.col("v") == pl.lit(new)).select("id").collect().rows() == [(3,)]
    table.compact(full=True)
    assert rows(table) == expected


def test_columns_come_go_move_and_change_names(catalog: Catalog):
    columns = {"id": "INT", "a": "STRING", "b": "INT"}
    table = catalog.create_table("db.t", columns, primary_key=["id"], options={"bucket": "1", "sequence.field": "b"})
    write(table, (1, "old", 5), (2, "old", 5))
    catalog.execute("""ALTER TABLE db.t ADD (c STRING FIRST); ALTER TABLE db.t RENAME a TO name; ALTER TABLE db.t RENAME b TO seq;
        ALTER TABLE db.t MODIFY seq INT FIRST; ALTER TABLE db.t RENAME id TO key""")
    assert table.schema.column_names == ("seq", "c", "key", "name")
    assert rows(table) == [(5, None, 1, "old"), (5, None, 2, "old")]
    write(table, (4, "x", 1, "too late"), (6, "y", 2, "new"))
    assert rows(table) == [(5, None, 1, "old"), (6, "y", 2, "new")]
    table.compact(full=True)
    assert rows(table) == [(5, None, 1, "old"), (6, "y", 2, "new")]


def test_a_dropped_column_that_comes_again_is_empty(catalog: Catalog):
    table = catalog.create_table("db.t", {"id": "INT", "a": "INT"}, primary_key=["id"], options={"bucket": "1"})
    write(table, (1, 7))
    catalog.execute("ALTER TABLE db.t DROP a; ALTER TABLE db.t ADD a INT")
    assert rows(table) == [(1, None)]
    write(table, (2, 8))
    table.compact(full=True)
    assert rows(table) == [(1, None), (2, 8)]


def test_fields_of_rows_change_too(catalog: Catalog):
    columns = {"id": "INT", "r": "ROW<x INT, y STRING>", "l": "ARRAY<ROW<e INT>>", "m": "MAP<STRING, INT>"}
    table = catalog.create_table("db.t", columns, primary_key=["id"], options={"bucket": "1"})
    write(table, (1, {"x": 1, "y": "a"}, [{"e": 1}, None], [{"key": "k", "value": 1}]), (2, None, None, None))
    catalog.execute("""ALTER TABLE db.t ADD r.z INT FIRST; ALTER TABLE db.t RENAME r.x TO w; ALTER TABLE db.t DROP r.y;
        ALTER TABLE db.t MODIFY l.element.e BIGINT; ALTER TABLE db.t MODIFY m.`value` BIGINT;
        ALTER TABLE db.t ADD l.element.f STRING""")
    expected = [
        (1, {"z": None, "w": 1}, [{"e": 1, "f": None}, None], [{"key": "k", "value": 1}]),
        (2, None, None, None),
    ]
    assert table.scan().sort("id").collect().rows() == expected
    assert table.scan().collect_schema()["l"] == pl.List(pl.Struct({"e": pl.Int64, "f": pl.String}))
    table.compact(full=True)
    assert table.scan().sort("id").collect().rows() == expected


def test_time_travel_reads_old_snapshots_in_the_newest_columns(catalog: Catalog):
    table = catalog.create_table("db.t", {"id": "INT", "a": "INT"}, primary_key=["id"], options={"bucket": "1"})
    write(table, (1, 7))
    catalog.execute("ALTER TABLE db.t RENAME a TO b; ALTER TABLE db.t ADD c INT")
    write(table, (1, 8, 9))
    assert table.scan(snapshot=1).collect().to_dicts() == [{"id": 1, "b": 7, "c": None}]


def test_changes_across_an_alteration_are_in_the_newest_columns(catalog: Catalog):
    options = {"bucket": "1", "changelog-producer": "lookup"}
    table = catalog.create_table("db.t", {"id": "INT", "a": "INT"}, primary_key=["id"], options=options)
    write(table, (1, 7))
    catalog.execute("ALTER TABLE db.t RENAME a TO b; ALTER TABLE db.t MODIFY b BIGINT; ALTER TABLE db.t ADD c INT")
    write(table, (1, 8, 9))
    changes = table.changes(0).select("_row_kind", "id", "b", "c").collect().rows()
    assert changes == [("+I", 1, 7, None), ("-U", 1, 7, None), ("+U", 1, 8, 9)]


def test_two_handles_see_each_others_alterations(catalog: Catalog):
    first = catalog.create_table("db.t", {"id": "INT"}, primary_key=["id"], options={"bucket": "1"})
    second = catalog.table("db.t")
    write(second, (1,))
    catalog.execute("ALTER TABLE db.t ADD a INT")
    write(second, (2, 5))
    assert rows(first) == [(1, None), (2, 5)]


def test_bucket_numbers_change_only_with_a_rewrite(catalog: Catalog):
    table = catalog.create_table("db.t", {"id": "INT"}, primary_key=["id"], options={"bucket": "1"})
    write(table, (1,))
    with pytest.raises(InvalidOption):
        catalog.execute("ALTER TABLE db.t SET ('bucket' = '-1')")
    catalog.execute("ALTER TABLE db.t SET ('bucket' = '3')")
    assert rows(table) == [(1,)]
    table.overwrite(pl.DataFrame({"id": range(20)}, schema={"id": pl.Int32}))
    write(table, (99,))
    assert len(rows(table)) == 21
    assert set(table.files()["bucket"]) == {0, 1, 2}


def test_what_would_lose_values_is_refused(catalog: Catalog):
    catalog.create_table("db.t", {"id": "INT", "a": "BIGINT"}, primary_key=["id"], options={"bucket": "1"})
    for action in ("MODIFY a INT", "MODIFY a STRING", "MODIFY a DOUBLE", "MODIFY a BIGINT NOT NULL", "DROP id"):
        with pytest.raises(InvalidSchema):
            catalog.execute(f"ALTER TABLE db.t {action}")


def test_fast_forward_that_gives_the_id_of_a_schema_to_another_one(catalog: Catalog) -> None:
    """A handle that knows main's schema 1 works on with the branch's schema 1."""
    catalog.execute("CREATE TABLE db.t (id BIGINT, n INT, PRIMARY KEY (id) NOT ENFORCED) WITH ('bucket' = '1')")
    table = catalog.table("db.t")
    write(table, (1, 1))
    table.create_tag("start")
    table.create_branch("b", "start")
    catalog.execute("ALTER TABLE db.t RENAME n TO m")
    write(table, (2, 2))
    catalog.execute("ALTER TABLE db.`t$branch_b` ADD z INT")
    write(catalog.table("db.t", "b"), (3, 3, 3))
    table.fast_forward("b")
    write(table, (4, 4, 4))
    assert table.schema.column_names == ("id", "n", "z")
    assert rows(table) == [(1, 1, None), (3, 3, 3), (4, 4, 4)]

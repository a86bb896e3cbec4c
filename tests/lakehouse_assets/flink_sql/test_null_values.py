"""NULL where the target has NOT NULL: the stream stops, or such rows are left out, as WHERE or Flink's setting says."""

from __future__ import annotations

import datetime as dt
import random
import uuid
from collections import Counter
from decimal import Decimal

import polars as pl
import pytest

from lakehouse_assets.flink_sql import NotIncremental, SqlProject, read_project
from lakehouse_assets.stream.repair import repair
from lakehouse_assets.stream.runner import StreamRunner
from storage_engine import Catalog
from storage_engine.errors import InvalidRows

TABLES = """
CREATE TABLE db.s (id BIGINT, item STRING, n BIGINT, PRIMARY KEY (id) NOT ENFORCED) WITH ('bucket' = '1');
CREATE TABLE db.counts (item STRING, orders BIGINT, PRIMARY KEY (item) NOT ENFORCED)
    WITH ('bucket' = '1', 'merge-engine' = 'aggregation', 'fields.orders.aggregate-function' = 'sum');
CREATE TABLE db.copy (id BIGINT, n BIGINT NOT NULL, PRIMARY KEY (id) NOT ENFORCED) WITH ('bucket' = '1');
CREATE TABLE db.by_item (item STRING, id BIGINT, PRIMARY KEY (item, id) NOT ENFORCED) WITH ('bucket' = '1');
CREATE TABLE db.pairs (id BIGINT, n BIGINT NOT NULL, PRIMARY KEY (id) NOT ENFORCED) WITH ('bucket' = '1');
CREATE TABLE db.other (id BIGINT, m BIGINT, PRIMARY KEY (id) NOT ENFORCED) WITH ('bucket' = '1');
"""
DROP = "SET 'table.exec.sink.not-null-enforcer' = 'DROP';\n"
STATEMENTS = (
    "INSERT INTO db.counts SELECT item, COUNT(*) FROM db.s {} GROUP BY item;",
    "INSERT INTO db.copy SELECT id, n FROM db.s {};",
    "INSERT INTO db.by_item SELECT item, id FROM db.s {};",
)
LEFT_OUT = ("WHERE item IS NOT NULL", "WHERE n IS NOT NULL", "WHERE item IS NOT NULL")
WAYS = {
    "by Flink's setting": DROP + "\n".join(each.format("") for each in STATEMENTS),
    "by a condition": "\n".join(each.format(where) for each, where in zip(STATEMENTS, LEFT_OUT, strict=True)),
}


def project(statements: str, tables: str = TABLES) -> SqlProject:
    return read_project({"ddl.sql": tables, "app.sql": statements}, name="p")


def warehouse(declared: SqlProject) -> Catalog:
    catalog = Catalog(f"memory://{uuid.uuid4()}")
    catalog.execute(declared.ddl)
    return catalog


def move(catalog: Catalog, declared: SqlProject) -> None:
    for stream in declared.streams:
        list(iter(StreamRunner(catalog, stream).run_batch, None))


def put(catalog: Catalog, name: str, kind: str, *rows: tuple[object, ...]) -> None:
    table = catalog.table(name)
    frame = pl.DataFrame(rows, schema=table.schema.polars_schema, orient="row")
    table.write(frame.with_columns(pl.lit(kind).alias("_row_kind")))


def held(catalog: Catalog, name: str) -> set[tuple[object, ...]]:
    return set(catalog.table(name).scan().collect().rows())


def groups(catalog: Catalog) -> set[tuple[object, ...]]:
    """Those that have rows; one that has lost all of them keeps a row of zeros."""
    return {row for row in held(catalog, "db.counts") if row[1]}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("seed", range(3))
def test_rows_with_null_are_left_out_and_come_back(way: str, seed: int) -> None:
    declared, chance = project(WAYS[way]), random.Random(seed)
    catalog = warehouse(declared)
    rows: dict[int, tuple[int, str | None, int | None]] = {}
    for _ in range(12):
        for key in chance.sample(range(6), 3):
            if key in rows and chance.random() < 0.3:
                put(catalog, "db.s", "-D", rows.pop(key))
            else:
                rows[key] = (key, chance.choice(["a", "b", None]), chance.choice([0, 1, None]))
                put(catalog, "db.s", "+I", rows[key])
        if chance.random() < 0.7:
            move(catalog, declared)
    move(catalog, declared)
    counts = Counter(item for _, item, _ in rows.values() if item is not None)
    assert groups(catalog) == set(counts.items())
    assert held(catalog, "db.copy") == {(key, n) for key, _, n in rows.values() if n is not None}
    assert held(catalog, "db.by_item") == {(item, key) for key, item, _ in rows.values() if item is not None}
    for stream in declared.streams:
        repair(catalog, stream)
    assert groups(catalog) == set(counts.items())
    assert len(held(catalog, "db.copy")) == sum(n is not None for _, _, n in rows.values())
    assert len(held(catalog, "db.by_item")) == counts.total(), "a repair leaves the same rows out"


def test_joined_rows_with_null_are_left_out_too() -> None:
    declared = project(
        f"{DROP}INSERT INTO db.pairs SELECT s.id, o.m FROM db.s AS s LEFT JOIN db.other AS o ON s.id = o.id;"
    )
    catalog = warehouse(declared)
    put(catalog, "db.s", "+I", (1, "a", 1), (2, "b", 2))
    put(catalog, "db.other", "+I", (1, 10))
    move(catalog, declared)
    assert held(catalog, "db.pairs") == {(1, 10)}
    put(catalog, "db.other", "+I", (1, None), (2, 20))
    move(catalog, declared)
    assert held(catalog, "db.pairs") == {(2, 20)}


@pytest.mark.parametrize(
    "settings",
    ["", DROP.replace("DROP", "ERROR"), f"{DROP}RESET 'table.exec.sink.not-null-enforcer';\n", f"{DROP}RESET;\n"],
)
@pytest.mark.parametrize("number", range(3))
def test_else_the_stream_stops(settings: str, number: int) -> None:
    declared = project(settings + STATEMENTS[number].format(""))
    catalog = warehouse(declared)
    put(catalog, "db.s", "+I", (1, None, None))
    with pytest.raises(InvalidRows, match="NOT NULL"):
        move(catalog, declared)


def test_a_setting_counts_for_its_own_file_and_for_columns_that_are_given() -> None:
    counted = STATEMENTS[0].format("")
    declared = read_project({"a.sql": TABLES + DROP, "b.sql": counted}, name="p")
    catalog = warehouse(declared)
    put(catalog, "db.s", "+I", (1, None, 1))
    with pytest.raises(InvalidRows, match="'item'"):
        move(catalog, declared)
    declared = project(f"{DROP}INSERT INTO db.copy (id) SELECT id FROM db.s;")
    with pytest.raises(InvalidRows, match="'n'"):
        move(warehouse_with_a_row(declared), declared)


def warehouse_with_a_row(declared: SqlProject) -> Catalog:
    catalog = warehouse(declared)
    put(catalog, "db.s", "+I", (1, "a", 1))
    return catalog


VALUES = {
    "BIGINT": 1, "DOUBLE": 1.5, "DECIMAL(10, 2)": Decimal("1.50"), "BOOLEAN": True, "STRING": "x", "BYTES": b"x",
    "DATE": dt.date(2024, 1, 1), "TIMESTAMP(3)": dt.datetime(2024, 1, 1), "TIME(3)": dt.time(1), "ARRAY<INT>": [1],
    "MAP<STRING, INT>": [{"key": "k", "value": 1}], "ROW<x INT>": {"x": 1},
}  # fmt: skip


@pytest.mark.parametrize("sql", VALUES)
def test_a_row_whose_value_became_null_leaves_the_target(sql: str) -> None:
    tables = f"""
    CREATE TABLE db.s (id BIGINT, x {sql}, PRIMARY KEY (id) NOT ENFORCED) WITH ('bucket' = '1');
    CREATE TABLE db.t (id BIGINT, x {sql} NOT NULL, PRIMARY KEY (id) NOT ENFORCED) WITH ('bucket' = '1');
    """
    declared = project("INSERT INTO db.t SELECT id, x FROM db.s WHERE x IS NOT NULL", tables)
    catalog = warehouse(declared)
    put(catalog, "db.s", "+I", (1, VALUES[sql]), (2, VALUES[sql]))
    move(catalog, declared)
    assert catalog.table("db.t").scan().collect()["id"].to_list() == [1, 2]
    put(catalog, "db.s", "+I", (1, None))
    move(catalog, declared)
    assert catalog.table("db.t").scan().collect()["id"].to_list() == [2]


NEWEST = """
CREATE TABLE db.log (k INT, n INT, m INT NOT NULL, at INT) WITH ('bucket' = '-1');
CREATE TABLE db.newest (k INT, n INT {}, m INT NOT NULL, at INT, PRIMARY KEY (k) NOT ENFORCED)
    WITH ('bucket' = '1', 'sequence.field' = 'at');
"""
NUMBERED = """
INSERT INTO db.newest
SELECT k, n, m, at FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY k ORDER BY at DESC) AS r FROM db.log{}) WHERE r = 1;
"""


def test_of_a_key_whose_newest_row_is_left_out_no_older_one_counts() -> None:
    with pytest.raises(
        NotIncremental, match=r"app\.sql, line 4, .*n IS NOT NULL.*DROP.*judges the newest row of a key"
    ):
        project(DROP + NUMBERED.format(""), NEWEST.format("NOT NULL"))
    log = [(1, 10, 0, 1), (1, None, 0, 2), (2, None, 0, 1), (None, 5, 0, 1)]
    for null, where, newest in (
        ("NOT NULL", " WHERE n IS NOT NULL", {(1, 10, 0, 1)}),
        ("", "", {(1, None, 0, 2), (2, None, 0, 1)}),
    ):
        declared = project(DROP + NUMBERED.format(where), NEWEST.format(null))
        catalog = warehouse(declared)
        catalog.table("db.log").write(
            pl.DataFrame(log, schema=catalog.table("db.log").schema.polars_schema, orient="row")
        )
        move(catalog, declared)
        assert held(catalog, "db.newest") == newest

"""Definitions and system tables: what one engine defines, alters, tags and counts, the other sees as it is."""

from __future__ import annotations

from dataclasses import replace

import polars as pl
import pytest

from storage_engine import Table
from tests.interop.both import Both
from tests.interop.flink.canonical import canon, in_order

ALL_TYPES = """a BOOLEAN, b TINYINT, c SMALLINT, d INT, e BIGINT NOT NULL, f FLOAT, g DOUBLE, h DECIMAL(38, 18), i CHAR(3),
    j VARCHAR(7), k STRING COMMENT 'it''s a string', l BINARY(3), m VARBINARY(7), n BYTES, o DATE, p TIME, q TIMESTAMP(9),
    r TIMESTAMP_LTZ(3), s ARRAY<INT NOT NULL>, t MAP<STRING NOT NULL, ARRAY<BIGINT>>, u ROW<x INT, `y z` ROW<w STRING>>,
    v MULTISET<STRING>, PRIMARY KEY (k, e) NOT ENFORCED"""


def describe(both: Both) -> tuple[list[tuple[object, ...]], list[tuple[object, ...]]]:
    """Name, type, nullability, key and comment of each column in both engines."""
    ours = both.ours.execute("DESCRIBE db.t")
    assert ours is not None
    local = pl.col("type").str.replace(r"^TIMESTAMP\((\d)\) WITH LOCAL TIME ZONE$", "TIMESTAMP_LTZ($1)")
    theirs = [(*row[:4], row[6]) for row in both.flink.sql("DESCRIBE db.t").rows]
    return ours.select("name", local, "null", "key", "comment").rows(), theirs


@pytest.mark.parametrize("by", ["ours", "flink"])
def test_a_definition_of_every_type_is_the_same_in_both(both: Both, by: str):
    both.create("db.t", ALL_TYPES, {"bucket": "2", "snapshot.num-retained.max": "20"}, by=by, rest="COMMENT 'a table'")
    ours, theirs = describe(both)
    assert ours == theirs
    schema = both.ours.table("db.t").schema
    assert schema.comment == "a table"
    assert dict(schema.options) == {"bucket": "2", "snapshot.num-retained.max": "20"}
    assert dict(both.flink.read("db.t$options").rows) == dict(schema.options)


def test_each_engines_text_of_a_table_creates_it_in_the_other(both: Both):
    both.create("db.t", ALL_TYPES, {"bucket": "2"}, rest="COMMENT 'a table' PARTITIONED BY (k)")
    text = both.ours.execute("SHOW CREATE TABLE db.t")
    assert text is not None
    both.flink.sql(text.item().replace("`t`", "`by_flink`", 1))
    theirs = str(both.flink.sql("SHOW CREATE TABLE db.by_flink").rows[0][0])
    created = theirs.replace("`paimon`.", "", 1).replace("`by_flink`", "`again`", 1)
    without_path = "\n".join(line for line in created.splitlines() if "'path'" not in line).replace("'2',", "'2'")
    both.ours.execute(without_path)
    first, second, third = (both.ours.table(f"db.{name}").schema for name in ("t", "by_flink", "again"))
    columns = [[(field.name, str(field.type), field.description) for field in s.fields] for s in (first, second, third)]
    assert columns[0] == columns[1] == columns[2]
    assert first.partition_keys == second.partition_keys == third.partition_keys == ("k",)
    assert first.comment == second.comment == third.comment


def written(both: Both) -> Table:
    columns = "dt STRING, id INT, v DECIMAL(20, 4), paid TIMESTAMP(3), l ARRAY<INT>, PRIMARY KEY (dt, id) NOT ENFORCED"
    both.create("db.t", columns, {"bucket": "1", "changelog-producer": "input"}, rest="PARTITIONED BY (dt)")
    both.ours.execute("""INSERT INTO db.t (dt, id, v, paid) VALUES ('2024-01-01', 1, 1.5, TIMESTAMP '2024-01-01 10:00:00.123'),
            ('2024-01-02', 2, NULL, NULL), ('2024-01-02', 3, 2, NULL);
        INSERT INTO db.t (dt, id, v) VALUES ('2024-01-01', 4, 4)""")
    table = both.ours.table("db.t")
    table.create_tag("one", 1)
    table.create_branch("side", "one")
    table.store.consumers.write("job", 2)
    return table


SYSTEM_TABLES = (
    "snapshots", "schemas", "options", "tags", "branches", "consumers", "manifests", "partitions", "buckets", "files", "ro",
)  # fmt: skip


@pytest.mark.parametrize("stage", ["written", "altered", "written by flink", "compacted"])
def test_system_tables_say_the_same(both: Both, stage: str):
    table = written(both)
    if stage != "written":
        both.ours.execute("ALTER TABLE db.t ADD w INT FIRST; ALTER TABLE db.t RENAME v TO amount")
    if stage in ("written by flink", "compacted"):
        both.flink.write_core("db.t", [("+I", (7, "2024-01-03", 9, "1.0000", None, None))])
    if stage == "compacted":
        table.compact(full=True)
    for name in SYSTEM_TABLES:
        ours = both.ours.execute(f"SELECT * FROM db.t${name}")
        assert ours is not None
        theirs = both.flink.read(f"db.t${name}")
        assert list(ours.columns) == theirs.columns, name
        if (
            name == "branches"
        ):  # made at about the same time: one looks at the branch's directory, the other at its schema
            assert ours["branch_name"].to_list() == [row[0] for row in theirs.rows] == ["side"]
        else:
            assert canon(ours) == in_order(theirs.rows), name


def test_partitions_and_past_are_the_same(both: Both):
    written(both)
    shown = both.ours.execute("SHOW PARTITIONS db.t")
    assert shown is not None
    assert sorted(shown.rows()) == sorted(both.flink.sql("SHOW PARTITIONS db.t").rows)
    for options in ({"scan.snapshot-id": "1"}, {"scan.tag-name": "one"}, {"scan.version": "one"}):
        hint = ", ".join(f"'{key}'='{value}'" for key, value in options.items())
        past = both.ours.execute(f"SELECT * FROM db.t /*+ OPTIONS({hint}) */")
        assert past is not None
        assert canon(past) == in_order(both.flink.read("db.t", options).rows)
    side = both.ours.execute("SELECT * FROM db.t$branch_side")
    assert side is not None
    assert canon(side) == in_order(both.flink.read("db.t$branch_side").rows)


ALTERATIONS = [
    "ALTER TABLE db.t ADD (w INT COMMENT 'new' AFTER id)",
    "ALTER TABLE db.t RENAME v TO amount",
    "ALTER TABLE db.t MODIFY amount DECIMAL(30, 4)",
    "ALTER TABLE db.t DROP paid",
    "ALTER TABLE db.t MODIFY id INT COMMENT 'key' FIRST",
    "ALTER TABLE db.t SET ('snapshot.num-retained.max' = '20')",
    "ALTER TABLE db.t RESET ('snapshot.num-retained.max')",
    "ALTER TABLE db.t ADD r ROW<x INT>",
]


def test_alterations_by_turns_keep_rows_and_definitions(both: Both):
    table = written(both)
    flink = replace(both.flink, catalog_options={"cache-enabled": "false"})
    for number, statement in enumerate(ALTERATIONS):
        if number % 2:
            both.flink.sql(statement)
        else:
            both.ours.execute(statement)
        ours, theirs = describe(both)
        assert ours == theirs, statement
        assert canon(table.scan().collect()) == in_order(flink.read("db.t").rows), statement
    assert dict(table.schema.options) == dict(flink.read("db.t$options").rows)
    table.write(pl.DataFrame({"id": [1], "dt": ["2024-01-01"], "w": [5]}))
    assert canon(table.scan().collect()) == in_order(flink.read("db.t").rows)


def test_databases_and_names_change_for_both(both: Both):
    written(both)
    both.ours.execute("CREATE DATABASE other; ALTER TABLE db.t RENAME TO db.u")
    assert ("other",) in both.flink.sql("SHOW DATABASES").rows
    assert both.flink.sql("SHOW TABLES IN db").rows == [("u",)]
    both.flink.sql("ALTER TABLE db.u RENAME TO db.v")
    assert both.ours.list_tables("db") == ["v"]
    assert both.ours.table("db.v").scan().collect().height == 4
    both.ours.drop_table("db.v")
    assert both.flink.sql("SHOW TABLES IN db").rows == []
    both.flink.sql("CREATE DATABASE third")
    assert "third" in both.ours.list_databases()


def test_short_function_names_open_in_flink(both: Both):
    both.ours.execute("""CREATE TABLE db.t (v_date STRING, agent_id STRING, score DECIMAL(20,4), update_time TIMESTAMP(3),
        PRIMARY KEY (v_date, agent_id) NOT ENFORCED) PARTITIONED BY (v_date) WITH ('merge-engine'='aggregation', 'bucket'='1',
        'fields.score.aggregate-function'='sum', 'fields.update_time.aggregate-function'='last_non_null')""")
    both.flink.write_core("db.t", [("+I", ("2024-01-01", "a", "1.5000", "2024-01-01T00:00:00"))])
    both.flink.write_core("db.t", [("+I", ("2024-01-01", "a", "2.0000", None))])
    rows = both.flink.read("db.t").rows
    assert rows == canon(both.ours.table("db.t").scan().collect())
    assert rows[0][2] == "3.5000"

"""NULL for a NOT NULL column where 'table.exec.sink.not-null-enforcer' is DROP: which rows are left out, here and in Flink."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import polars as pl
import pytest

from lakehouse_assets.flink_sql import NotIncremental, SqlProject, read_project
from lakehouse_assets.stream.runner import StreamRunner
from tests.interop.both import Both
from tests.interop.flink.canonical import Row
from tests.interop.flink.server import FlinkSession
from tests.interop.flink.shadow import STREAMING_END, shadow_warehouse

ENFORCER: Final = "table.exec.sink.not-null-enforcer"
DROP: Final = f"SET '{ENFORCER}' = 'DROP';\n"
SOURCES: Final = """
CREATE TABLE db.s (id INT, k INT, n INT, PRIMARY KEY (id) NOT ENFORCED)
    WITH ('bucket' = '1', 'changelog-producer' = 'lookup');
CREATE TABLE db.other (k INT, m INT, PRIMARY KEY (k) NOT ENFORCED) WITH ('bucket' = '1');
CREATE TABLE db.log (id INT, k INT, n INT, seq INT) WITH ('bucket' = '-1');
"""
NUMBERED: Final = "SELECT *, ROW_NUMBER() OVER (PARTITION BY k ORDER BY seq DESC) AS r FROM db.log"
NEWEST: Final = f"SELECT k, n, seq FROM ({NUMBERED}{{}}) WHERE r = 1"
CASES: Final = {
    "a column": ("id INT, n INT NOT NULL, PRIMARY KEY (id) NOT ENFORCED", "'bucket' = '1'", "SELECT id, n FROM db.s"),
    "a key": ("k INT, id INT, PRIMARY KEY (k, id) NOT ENFORCED", "'bucket' = '1'", "SELECT k, id FROM db.s"),
    "an expression": (
        "id INT, n INT NOT NULL, PRIMARY KEY (id) NOT ENFORCED",
        "'bucket' = '1'",
        "SELECT id, COALESCE(n, 100 / k) FROM db.s WHERE id <> 3",
    ),
    "a group's key": (
        "k INT, n BIGINT NOT NULL, PRIMARY KEY (k) NOT ENFORCED",
        "'bucket' = '1', 'merge-engine' = 'aggregation', 'fields.n.aggregate-function' = 'sum'",
        "SELECT k, COUNT(*) FROM db.s GROUP BY k",
    ),
    "a joined column": (
        "id INT, m INT NOT NULL, PRIMARY KEY (id) NOT ENFORCED",
        "'bucket' = '1'",
        "SELECT s.id, o.m FROM db.s AS s LEFT JOIN db.other AS o ON s.k = o.k",
    ),
    "the newest row of those that are not": (
        "k INT, n INT NOT NULL, seq INT, PRIMARY KEY (k) NOT ENFORCED",
        "'bucket' = '1', 'sequence.field' = 'seq'",
        NEWEST.format(" WHERE k IS NOT NULL AND n IS NOT NULL"),
    ),
    "the newest row, by its key": (
        "k INT, n INT, seq INT, PRIMARY KEY (k) NOT ENFORCED",
        "'bucket' = '1', 'sequence.field' = 'seq'",
        NEWEST.format(""),
    ),
}
BATCHES: Final = (
    {
        "db.s": [(1, 1, 10), (2, 1, None), (3, 2, 30), (4, None, 5), (5, None, None)],
        "db.other": [(1, 7), (2, None)],
        "db.log": [(1, 1, 10, 1), (2, 1, None, 2), (3, 2, 30, 1), (4, None, 5, 1)],
    },
    {
        "db.s": [(1, 1, None), (2, 1, 20), (3, None, 30), (5, 2, 50)],
        "db.other": [(1, None), (2, 8)],
        "db.log": [(5, 3, None, 1), (6, 3, 60, 0), (7, 2, 70, 3)],
    },
)


def dropping(both: Both) -> FlinkSession:
    return replace(both.flink, configuration={ENFORCER: "DROP"})


def filled(both: Both, declared: SqlProject) -> None:
    """Both batches of rows, each moved on."""
    both.ours.execute(declared.ddl)
    for rows in BATCHES:
        for name, values in rows.items():
            table = both.ours.table(name)
            table.write(pl.DataFrame(values, schema=table.schema.polars_schema, orient="row"))
        for stream in declared.streams:
            list(iter(StreamRunner(both.ours, stream).run_batch, None))


@pytest.mark.feature("SQL projects", "NULL left out of NOT NULL columns (not-null-enforcer DROP)")
@pytest.mark.parametrize(("columns", "options", "query"), CASES.values(), ids=CASES)
def test_the_rows_are_those_of_flink(both: Both, columns: str, options: str, query: str) -> None:
    tables = [f"CREATE TABLE db.{name} ({columns}) WITH ({options});" for name in ("here", "there")]
    declared = read_project(
        {"ddl.sql": SOURCES + "\n".join(tables), "app.sql": f"{DROP}INSERT INTO db.here {query};"}, name="p"
    )
    filled(both, declared)
    dropping(both).sql(f"INSERT INTO db.there {query}")
    here, there = (rows_of(both, name) for name in ("here", "there"))
    assert there
    assert here == there


def rows_of(both: Both, name: str) -> set[Row]:
    return set(both.ours.table(f"db.{name}").scan().collect().rows())


def test_a_newest_row_that_is_left_out_has_no_older_one_for_it(both: Both) -> None:
    columns, options, _ = CASES["the newest row of those that are not"]
    table = f"CREATE TABLE db.t ({columns}) WITH ({options});"
    query = NEWEST.format("")
    filled(both, read_project({"ddl.sql": SOURCES + table}, name="p"))
    dropping(both).sql(f"INSERT INTO db.t {query}")
    assert rows_of(both, "t") == {(2, 70, 3)}, "Flink leaves rows out where it writes, and of keys 1 and 3 the newest"
    with pytest.raises(
        NotIncremental, match=r"app\.sql, line 2, .*n IS NOT NULL, .*DROP.* no older row may stand for it"
    ):
        read_project({"ddl.sql": SOURCES + table, "app.sql": f"{DROP}INSERT INTO db.t {query};"}, name="p")


@pytest.mark.difference(
    "`'table.exec.sink.not-null-enforcer' = 'DROP'`: a row whose value becomes NULL leaves the target, as if the query were run"
    " over the tables of now. Flink's streaming job keeps the old value where the plan drops the old row before the sink"
    " (`DropUpdateBefore`), and takes it away where it does not (`'changelog-producer' = 'input'`)."
)
@pytest.mark.parametrize(("producer", "keeps_old"), [("none", True), ("input", False)])
def test_a_value_that_becomes_null(both: Both, producer: str, keeps_old: bool) -> None:
    columns, _, query = CASES["a column"]
    table = f"CREATE TABLE db.{{}} ({columns}) WITH ('bucket' = '1', 'changelog-producer' = '{producer}');"
    declared = read_project(
        {"ddl.sql": SOURCES + table.format("here"), "app.sql": f"{DROP}INSERT INTO db.here {query};"}, name="p"
    )
    filled(both, declared)
    assert rows_of(both, "here") == {(2, 20), (3, 30), (4, 5), (5, 50)}
    hint = ", ".join(
        f"'{key}' = '{value}'"
        for key, value in {"scan.mode": "from-snapshot", "scan.snapshot-id": "1", **STREAMING_END}.items()
    )
    latest = both.ours.table("db.s").latest_snapshot()
    assert latest is not None
    with shadow_warehouse(both.flink.warehouse, "db.s", latest.id) as shadow:
        flink = replace(dropping(both), warehouse=str(shadow))
        flink.sql(table.format("there"))
        flink.sql(f"INSERT INTO db.there {query} /*+ OPTIONS({hint}) */", streaming=True)
        there = set(flink.rows("SELECT * FROM db.there"))
    assert there == rows_of(both, "here") | ({(1, 10)} if keeps_old else set())

"""Flink jobs proper on tables of ours: INSERT, UPDATE, DELETE, OVERWRITE, CALL sys.compact, batch and streaming SELECT."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from tests.interop.both import Both, Shared
from tests.interop.compatibility import Seen
from tests.interop.flink.canonical import Row, canon, canon_changes, in_order

COLUMNS = "v_date STRING, id INT, name STRING, amount DECIMAL(20, 4), seq INT, PRIMARY KEY (v_date, id) NOT ENFORCED"
SCHEMA = {
    "v_date": pl.String,
    "id": pl.Int32,
    "name": pl.String,
    "amount": pl.Decimal(20, 4),
    "seq": pl.Int32,
    "_row_kind": pl.String,
}
LOOKUP = {"bucket": "2", "changelog-producer": "lookup"}
TABLES = {
    "deduplicate": {**LOOKUP, "sequence.field": "seq"},
    "aggregation": {
        **LOOKUP,
        "merge-engine": "aggregation",
        "fields.amount.aggregate-function": "sum",
        "fields.name.aggregate-function": "last_non_null_value",
        "fields.seq.aggregate-function": "max",
    },
    "partial-update": {**LOOKUP, "merge-engine": "partial-update", "fields.seq.sequence-group": "amount"},
    "first-row": {**LOOKUP, "merge-engine": "first-row"},
    "deletion vectors": {**LOOKUP, "deletion-vectors.enabled": "true"},
    "input": {"bucket": "2", "changelog-producer": "input"},
    "write-only": {"bucket": "2", "write-only": "true"},
}


def frame(*rows: tuple[object, ...]) -> pl.DataFrame:
    """Upserts, unless a row ends with a kind."""
    whole = [row if len(row) == 6 else (*row, "+I") for row in rows]
    return pl.DataFrame(whole, schema=SCHEMA | {"amount": pl.String}, orient="row").cast(SCHEMA)


BATCHES = [
    frame(("d1", 1, "a", "1.5", 1), ("d1", 2, "b", "2", 1), ("d2", 1, None, None, 1)),
    frame(("d1", 1, None, "-1.25", 3), ("d2", 2, "c", "3", 2)),
    frame(("d1", 1, "late", "7", 2), ("d2", 3, "é😀", "0.0001", 5)),
    frame(("d1", 2, "z", "4", 9), ("d2", 1, "y", "6", 9), ("d2", 1, "x", "8", 10)),
]


@pytest.mark.feature("Flink jobs", "INSERT, CALL sys.compact, batch and streaming SELECT: {id}")
@pytest.mark.parametrize("options", TABLES.values(), ids=TABLES)
def test_jobs_and_this_engine_in_turn(both: Both, options: dict[str, str]) -> None:
    shared = both.create("db.t", COLUMNS, options, rest="PARTITIONED BY (v_date)")
    for rows, writer in zip(BATCHES, ("ours", "flink", "ours", "flink"), strict=True):
        shared.write(rows, by=writer)
        shared.rows()
    shared.compact(by="flink")
    after = shared.rows()
    shared.compact(by="ours")
    assert shared.rows() == after == both.flink.rows("SELECT * FROM db.t")
    changes = shared.new_changes()
    # without a changelog, a Flink job makes one up from its own state
    if "changelog-producer" in options:
        assert in_order(both.flink.stream("db.t", 0, shared.compared).changes()) == changes


@pytest.fixture
def orders(both: Both) -> Shared:
    shared = both.create("db.t", COLUMNS, LOOKUP, rest="PARTITIONED BY (v_date)")
    shared.write(pl.concat(BATCHES[:3]), by="ours")
    return shared


@pytest.mark.feature("Flink jobs", "UPDATE and DELETE")
def test_update_and_delete_by_flink(orders: Shared) -> None:
    orders.sql("UPDATE db.t SET amount = amount * 2, name = 'twice' WHERE v_date = 'd1'")
    orders.sql("DELETE FROM db.t WHERE id = 3")
    assert [row[1:4] for row in orders.rows() if row[0] == "d1"] == [(1, "twice", "14.0000"), (2, "twice", "4.0000")]
    assert all(row[1] != 3 for row in orders.rows())
    orders.table.delete(pl.col("name") == "twice")
    assert {row[0] for row in orders.rows()} == {"d2"}
    orders.new_changes()


@pytest.mark.feature("Flink jobs", "INSERT OVERWRITE by {by}, DROP PARTITION")
@pytest.mark.parametrize("by", ["ours", "flink"])
def test_overwrite_of_partitions(orders: Shared, by: str) -> None:
    rest = [row for row in orders.rows() if row[0] != "d1"]
    new: Row = ("d1", 7, "new", "1.0000", 1)
    if by == "ours":
        orders.table.overwrite(frame(new).drop("_row_kind"))
    else:
        orders.sql("INSERT OVERWRITE db.t PARTITION (v_date = 'd1') VALUES (7, 'new', CAST(1 AS DECIMAL(20, 4)), 1)")
    assert orders.rows() == in_order([new, *rest])
    orders.write(BATCHES[3], by="ours" if by == "flink" else "paimon")
    orders.rows()
    orders.new_changes()
    if by == "ours":
        orders.sql("ALTER TABLE db.t DROP PARTITION (v_date = 'd1')")
    else:
        orders.both.ours.execute("ALTER TABLE db.t DROP PARTITION (v_date = 'd1')")
    assert {row[0] for row in orders.rows()} == {"d2"}
    orders.sql("INSERT OVERWRITE db.t SELECT * FROM db.t WHERE FALSE")
    orders.sql("CALL sys.drop_partition('db.t', 'v_date=d2')")
    assert orders.rows() == []
    orders.write(BATCHES[0], by="ours")
    assert orders.rows() == canon(BATCHES[0].drop("_row_kind"))


PREDICATES = {
    "v_date = 'd1'": pl.col("v_date") == "d1",
    "v_date > 'd1' AND id < 3": (pl.col("v_date") > "d1") & (pl.col("id") < 3),
    "amount > 1.0": pl.col("amount") > 1,
    "amount IS NULL": pl.col("amount").is_null(),
    "name LIKE 'é%'": pl.col("name").str.starts_with("é"),
    "name IN ('b', 'c') OR seq = 5": pl.col("name").is_in(["b", "c"]) | (pl.col("seq") == 5),
    "id <> 1": pl.col("id") != 1,
}


@pytest.mark.feature("Flink jobs", "SELECT … WHERE")
@pytest.mark.parametrize("where", PREDICATES)
@pytest.mark.parametrize("by", ["ours", "paimon"])
def test_predicates(both: Both, where: str, by: str) -> None:
    shared = both.create("db.t", COLUMNS, {"bucket": "2"}, rest="PARTITIONED BY (v_date)")
    for rows in BATCHES[:3]:
        shared.write(rows, by=by)
    shared.rows()
    ours = canon(shared.table.scan().filter(PREDICATES[where]).select("id", "name").collect())
    assert both.flink.rows(f"SELECT id, name FROM db.t WHERE {where}") == ours
    assert ours


@pytest.mark.feature("Flink jobs", "from table to table by a changelog")
def test_a_stream_of_flink_goes_on_while_this_engine_writes(orders: Shared) -> None:
    """A job reads our changes and writes them to another table of ours, and we read what it wrote."""
    flink = orders.both.flink
    orders.both.create("db.copy", COLUMNS, {"bucket": "1", "changelog-producer": "input"}, by="flink")
    orders.write(BATCHES[3], by="ours")
    gone = frame(("d1", 1, None, None, None, "-D"))
    orders.write(gone, by="ours")
    changes = canon_changes(orders.table.changes(0).collect())
    copy = Shared(both=orders.both, name="db.copy", done={Seen.PAIMON_WRITES})
    flink.write("db.copy", flink.stream("db.t", 0, orders.latest()).changes())
    assert copy.rows() == orders.rows()
    assert copy.new_changes() == in_order(changes)


@pytest.mark.feature("Flink jobs", "CREATE TABLE, also AS SELECT; snappy, lz4, thin files")
def test_a_table_that_flink_declares_and_fills(both: Both) -> None:
    """DDL as users write it for Flink: comments, computed defaults, WITH options; CREATE TABLE AS SELECT."""
    both.flink.sql(
        "CREATE TABLE db.base (id INT COMMENT 'the key', name STRING NOT NULL, PRIMARY KEY (id) NOT ENFORCED)"
        " COMMENT 'a table' WITH ('bucket' = '1', 'file.compression' = 'snappy')"
    )
    base, made = (Shared(both=both, name=name) for name in ("db.base", "db.made"))
    base.sql("INSERT INTO db.base VALUES (1, 'a'), (2, 'b')")
    made.sql(
        "CREATE TABLE db.made WITH ('primary-key' = 'id', 'bucket' = '2', 'file.compression' = 'lz4',"
        " 'data-file.thin-mode' = 'true') AS SELECT id, UPPER(name) AS name FROM db.base"
    )
    assert base.rows() == [(1, "a"), (2, "b")]
    assert made.rows() == [(1, "A"), (2, "B")]
    assert base.table.schema.comment == "a table"
    assert base.table.schema.by_name["id"].description == "the key"
    for shared in (base, made):
        shared.write(
            pl.DataFrame({"id": [2, 3], "name": ["x", "y"]}, schema={"id": pl.Int32, "name": pl.String}), by="ours"
        )
        shared.compact(by="ours")
        assert [row[1] for row in shared.rows()][1:] == ["x", "y"]
        shared.compact(by="flink")
    assert sorted(both.ours.list_tables("db")) == ["base", "made"]
    assert both.flink.rows("SHOW TABLES IN db") == [("base",), ("made",)]
    assert Path(made.table.store.paths.root.removeprefix("file://")).name == "made"

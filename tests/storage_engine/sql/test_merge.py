"""MERGE INTO, UPDATE and DELETE by SQL. A plain loop over rows is the independent truth of MERGE."""

from __future__ import annotations

import uuid
from decimal import Decimal
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage_engine import Catalog
from storage_engine.errors import InvalidInput, InvalidRows, SqlError, Unsupported
from tests.effort import examples

SETUP = """CREATE DATABASE db; USE db;
CREATE TABLE t (dt STRING, id BIGINT, name STRING, v DECIMAL(20, 4), PRIMARY KEY (dt, id) NOT ENFORCED)
    PARTITIONED BY (dt) WITH ('bucket' = '2');
CREATE TABLE s (dt STRING, id BIGINT, name STRING, v DECIMAL(20, 4), op STRING);
INSERT INTO t VALUES ('a', 1, 'one', 1), ('a', 2, 'two', 2), ('b', 3, 'three', 3), ('b', 4, NULL, NULL);
INSERT INTO s VALUES ('a', 1, 'uno', 10, 'u'), ('b', 3, NULL, NULL, 'd'), ('c', 9, 'new', 9, 'u'), ('c', 8, 'no', 8, 'd')"""


@pytest.fixture
def catalog() -> Catalog:
    catalog = Catalog(f"memory://merge-{uuid.uuid4()}")
    catalog.execute(SETUP)
    return catalog


def rows(catalog: Catalog, query: str = "SELECT dt, id, name, v FROM t") -> list[tuple[Any, ...]]:
    return sorted(catalog.sql(query).collect().rows(), key=repr)


def run(catalog: Catalog, sql: str) -> dict[str, Any]:
    outcome = catalog.execute(sql)
    assert outcome is not None
    (row,) = outcome.to_dicts()
    return row


def test_merge_does_all_in_one_commit(catalog: Catalog) -> None:
    outcome = run(
        catalog,
        """MERGE INTO db.t AS target USING s ON target.dt = s.dt AND target.id = s.id
            WHEN MATCHED AND s.op = 'd' THEN DELETE
            WHEN MATCHED THEN UPDATE SET name = upper(s.name), target.v = target.v + s.v
            WHEN NOT MATCHED AND s.op <> 'd' THEN INSERT (dt, id, v) VALUES (s.dt, s.id, CASE WHEN s.v > 5 THEN 5 ELSE 0 END)
            WHEN NOT MATCHED BY SOURCE AND target.name IS NULL THEN UPDATE SET name = 'nobody'""",
    )
    assert outcome == {"snapshot_id": 2, "rows": 4, "inserted": 1, "updated": 2, "deleted": 1}
    assert rows(catalog) == [
        ("a", 1, "UNO", Decimal("11.0000")), ("a", 2, "two", Decimal("2.0000")),
        ("b", 4, "nobody", None), ("c", 9, None, Decimal("5.0000")),
    ]  # fmt: skip
    assert catalog.table("t").snapshots().height == 2


def test_merge_with_stars_a_query_and_the_past(catalog: Catalog) -> None:
    run(
        catalog,
        """MERGE INTO t USING (SELECT dt, id, name, v FROM s WHERE op = 'u' ORDER BY id) AS `new rows`
            ON t.id = `new rows`.id WHEN MATCHED THEN UPDATE SET * WHEN NOT MATCHED THEN INSERT *""",
    )
    assert ("a", 1, "uno", Decimal("10.0000")) in rows(catalog)
    assert ("c", 9, "new", Decimal("9.0000")) in rows(catalog)
    run(
        catalog,
        "MERGE INTO t USING t VERSION AS OF 1 old ON t.dt = old.dt AND t.id = old.id WHEN MATCHED THEN UPDATE SET *",
    )
    assert ("a", 1, "one", Decimal("1.0000")) in rows(catalog)


def test_a_merge_that_changes_nothing_commits_nothing(catalog: Catalog) -> None:
    outcome = run(catalog, "MERGE INTO t USING s ON t.id = s.id WHEN MATCHED AND s.id > 100 THEN DELETE")
    assert outcome == {"snapshot_id": None, "rows": 0, "inserted": 0, "updated": 0, "deleted": 0}


@pytest.mark.parametrize(
    ("sql", "error", "message"),
    [
        ("ON t.dt = s.dt WHEN MATCHED THEN UPDATE SET v = s.v", InvalidRows, "the row of the key dt='c'"),
        ("ON t.id = s.id WHEN MATCHED THEN UPDATE SET id = 7", InvalidRows, "'id' is part of the primary key"),
        ("ON t.id = s.id WHEN MATCHED THEN UPDATE SET nope = 1", SqlError, "no column 'nope'; columns: dt, id"),
        ("ON t.id = s.id WHEN MATCHED THEN UPDATE SET v = s.nope", SqlError, "line 1, column 37: the query cannot"),
        ("ON t.id = s.id WHEN NOT MATCHED THEN INSERT (dt, id) VALUES (1)", SqlError, "2 columns are named, 1 values"),
        ("ON t.id = s.id WHEN NOT MATCHED THEN INSERT (dt) VALUES ('x')", InvalidRows, "id"),
        ("ON t.id = s.id WHEN NOT MATCHED THEN DELETE", SqlError, "expected INSERT, found 'DELETE'"),
        ("ON t.id = s.id", SqlError, "expected WHEN, found the end"),
        ("ON t.id = s.id WHEN MATCHED THEN UPDATE SET v = 1, v = 2", SqlError, "'v' is set twice"),
        ("ON WHEN MATCHED THEN DELETE", SqlError, "line 1, column 25: expected a condition"),
    ],
)
def test_a_merge_that_cannot_be_is_refused_whole(
    catalog: Catalog, sql: str, error: type[Exception], message: str
) -> None:
    catalog.execute("INSERT INTO t VALUES ('c', 5, NULL, NULL)")
    before = rows(catalog)
    with pytest.raises(error) as raised:
        catalog.execute(f"MERGE INTO t USING s {sql}")
    assert message in str(raised.value)
    assert rows(catalog) == before


def test_one_row_matched_twice_may_be_deleted(catalog: Catalog) -> None:
    run(catalog, "MERGE INTO t USING s ON t.v < s.v WHEN MATCHED THEN DELETE")
    assert [row[:2] for row in rows(catalog)] == [("b", 4)]


def test_merge_asks_for_an_engine_that_can(catalog: Catalog) -> None:
    catalog.execute("""CREATE TABLE f (id BIGINT, PRIMARY KEY (id) NOT ENFORCED) WITH ('bucket' = '1',
        'merge-engine' = 'first-row')""")
    with pytest.raises(Unsupported, match="'first-row' cannot delete"):
        catalog.execute("MERGE INTO f USING s ON f.id = s.id WHEN MATCHED THEN DELETE")


MERGE = """MERGE INTO t USING s ON t.id = s.id
    WHEN MATCHED AND s.v < 0 THEN DELETE
    WHEN MATCHED AND COALESCE(s.v, 0) > COALESCE(t.v, 0) THEN UPDATE SET v = s.v
    WHEN NOT MATCHED THEN INSERT *
    WHEN NOT MATCHED BY SOURCE AND t.v IS NULL THEN DELETE"""
keys = st.integers(0, 6)
values = st.none() | st.integers(-3, 3)


@settings(max_examples=examples(25), deadline=None)
@given(target=st.dictionaries(keys, values), source=st.lists(st.tuples(keys, values), max_size=8))
def test_merge_agrees_with_a_loop(target: dict[int, int | None], source: list[tuple[int, int | None]]) -> None:
    catalog = Catalog(f"memory://merge-{uuid.uuid4()}")
    catalog.execute("CREATE TABLE t (id INT, v INT, PRIMARY KEY (id) NOT ENFORCED) WITH ('bucket' = '1')")
    catalog.execute("CREATE TABLE s (id INT, v INT)")
    schema = {"id": pl.Int32, "v": pl.Int32}
    for name, data in (("t", list(target.items())), ("s", source)):
        catalog.table(name).write(pl.DataFrame(data, schema=schema, orient="row"))
    expected, written = dict(target), []
    for key, value in source:
        if key not in target:
            written += [key]
            expected[key] = value
        elif value is not None and value < 0:
            written += [("gone", key)]
            expected.pop(key, None)
        elif (value or 0) > (target[key] or 0):
            written += [key]
            expected[key] = value
    for key in set(target) - {key for key, _ in source}:
        if target[key] is None:
            expected.pop(key)
    changed = [key if isinstance(key, int) else key[1] for key in dict.fromkeys(written)]
    if len(set(changed)) < len(changed) or len([w for w in written if isinstance(w, int)]) > len(
        {w for w in written if isinstance(w, int)}
    ):
        with pytest.raises(InvalidRows, match="several rows of the source"):
            catalog.execute(MERGE)
    else:
        catalog.execute(MERGE)
        assert dict(catalog.table("t").scan().collect().iter_rows()) == expected


APPEND = {
    "files rewritten": "'bucket' = '-1'",
    "deletion vectors": "'bucket' = '-1', 'deletion-vectors.enabled' = 'true'",
    "buckets": "'bucket' = '2', 'bucket-key' = 'id'",
}
pairs = st.tuples(keys, values)


@pytest.mark.parametrize("options", APPEND.values(), ids=APPEND)
@settings(max_examples=examples(15), deadline=None)
@given(batches=st.lists(st.lists(pairs, min_size=1, max_size=5), max_size=3), source=st.lists(pairs, max_size=6))
def test_merge_of_rows_without_a_key_agrees_with_a_loop(
    batches: list[list[tuple[int, int | None]]], source: list[tuple[int, int | None]], options: str
) -> None:
    catalog = Catalog(f"memory://merge-{uuid.uuid4()}")
    catalog.execute(f"CREATE TABLE t (id INT, v INT) WITH ({options}); CREATE TABLE s (id INT, v INT)")
    schema = {"id": pl.Int32, "v": pl.Int32}
    for name, data in [*(("t", batch) for batch in batches), ("s", source)]:
        catalog.table(name).write(pl.DataFrame(data, schema=schema, orient="row"))
    target = [row for batch in batches for row in batch]
    expected, changed = [], 0
    for key, value in target:
        matches = [given for other, given in source if other == key]
        deletes = [given for given in matches if given is not None and given < 0]
        updates = [given for given in matches if given not in deletes and (given or 0) > (value or 0)]
        if len(updates) > 1 or (updates and deletes):
            with pytest.raises(InvalidRows, match="several rows of the source change the row id="):
                catalog.execute(MERGE)
            return
        gone = deletes or (not matches and value is None)
        changed += bool(gone or updates)
        expected += [] if gone else [(key, updates[0] if updates else value)]
    new = [(key, value) for key, value in source if key not in {other for other, _ in target}]
    before = catalog.table("t").latest_snapshot()
    outcome = run(catalog, MERGE)
    assert sorted(catalog.table("t").scan().collect().rows(), key=repr) == sorted(expected + new, key=repr)
    assert (outcome["rows"], outcome["inserted"]) == (changed + len(new), len(new))
    after = catalog.table("t").latest_snapshot()
    assert (
        after == before
        if outcome["snapshot_id"] is None
        else (after is not None and after.id == outcome["snapshot_id"])
    )


def test_a_merge_that_is_overtaken_is_asked_again(catalog: Catalog) -> None:
    """Another writer rewrites the files between the question and the commit."""
    catalog.execute("CREATE TABLE log (id BIGINT, v BIGINT); INSERT INTO log VALUES (1, 1), (2, 2)")
    asked: list[int | None] = []
    table = catalog.table("log")

    def changed(snapshot: int | None) -> pl.DataFrame:
        rows = table.scan(snapshot=snapshot, metadata_columns=["__file_path", "__row_index"]).filter(pl.col("id") == 1)
        found = rows.with_columns(pl.lit("+U").alias("_row_kind"), v=pl.col("v") + 10).collect()
        asked.append(snapshot)
        if len(asked) == 1:
            catalog.execute("UPDATE log SET v = v * 5 WHERE id = 1")
        return found

    done = table.replace_rows(changed)
    assert asked == [1, 2]
    assert done is not None
    assert done.id == 3
    assert rows(catalog, "SELECT * FROM log") == [(1, 15), (2, 2)]
    with pytest.raises(Unsupported, match="a table with a primary key are changed by write"):
        catalog.table("t").replace_rows(changed)


def test_update_sets_columns_of_the_rows_it_selects(catalog: Catalog) -> None:
    assert run(catalog, "UPDATE t SET v = v * 2, name = dt || '!' WHERE t.id < 3 AND v IS NOT NULL")["rows"] == 2
    assert rows(catalog)[:2] == [("a", 1, "a!", Decimal("2.0000")), ("a", 2, "a!", Decimal("4.0000"))]
    assert run(catalog, "UPDATE t AS x SET name = NULL WHERE x.dt = 'b'")["rows"] == 2
    assert run(catalog, "UPDATE t SET v = 0 WHERE id = 77") == {"snapshot_id": None, "rows": 0}
    assert run(catalog, "UPDATE t SET v = 7")["rows"] == 4
    assert {row[3] for row in rows(catalog)} == {Decimal("7.0000")}
    with pytest.raises(InvalidInput, match="'id' is part of the primary key"):
        catalog.execute("UPDATE t SET id = 7")
    with pytest.raises(InvalidRows):
        catalog.execute("UPDATE t SET v = 1e30")
    with pytest.raises(SqlError, match="line 1, column 18"):
        catalog.execute("UPDATE t SET v = nope FROM")


def test_conditions_and_values_may_hold_queries(catalog: Catalog) -> None:
    set_max = "UPDATE t SET v = (SELECT MAX(v) FROM s) WHERE id IN (SELECT id FROM s WHERE op = 'u')"
    assert run(catalog, set_max)["rows"] == 1
    assert ("a", 1, "one", Decimal("10.0000")) in rows(catalog)
    assert run(catalog, "DELETE FROM t x WHERE EXISTS (SELECT 1 FROM s WHERE s.id = x.id)")["rows"] == 2
    assert [row[1] for row in rows(catalog)] == [2, 4]
    assert run(catalog, "DELETE FROM t AS x WHERE x.id = 2")["rows"] == 1
    assert run(
        catalog, "UPDATE s SET name = (SELECT MIN(name) FROM t) WHERE id IN (SELECT id FROM s WHERE op = 'u')"
    ) == {
        "snapshot_id": 2,
        "rows": 2,
    }
    assert run(catalog, "DELETE FROM s WHERE id NOT IN (SELECT id FROM s WHERE id > 3)")["rows"] == 2
    assert rows(catalog, "SELECT id, op FROM s") == [(8, "d"), (9, "u")]
    assert run(catalog, "DELETE FROM s WHERE id IN (SELECT id + 100 FROM s)") == {"snapshot_id": None, "rows": 0}


def test_rows_without_a_key_are_chosen_and_set_by_expressions(catalog: Catalog) -> None:
    catalog.execute("CREATE TABLE log (id BIGINT, v BIGINT); INSERT INTO log VALUES (1, 1), (2, 2), (3, 3), (4, NULL)")
    assert run(catalog, "UPDATE log SET v = v * 5 WHERE id IN (1, 3)")["rows"] == 2
    assert run(catalog, "DELETE FROM log WHERE v / 2 > 5")["rows"] == 1
    assert rows(catalog, "SELECT * FROM log") == [(1, 5), (2, 2), (4, None)]
    for refused in ("DELETE FROM log WHERE v = MAX(v)", "UPDATE log SET v = MAX(v) + 1"):
        with pytest.raises(InvalidInput, match="depends on other rows"):
            catalog.execute(refused)
    with pytest.raises(InvalidInput, match="depends on other rows"):
        catalog.table("log").delete(pl.col("v") > pl.col("v").mean())
    assert run(catalog, "DELETE FROM log WHERE v = (SELECT MAX(v) FROM log)")["rows"] == 1
    assert rows(catalog, "SELECT * FROM log") == [(2, 2), (4, None)]


def test_truncate_empties_a_table(catalog: Catalog) -> None:
    catalog.execute("TRUNCATE TABLE t; TRUNCATE TABLE s; TRUNCATE TABLE t")
    assert rows(catalog) == rows(catalog, "SELECT * FROM s") == []
    assert catalog.table("t").scan(snapshot=1).collect().height == 4


def test_overwrite_is_dynamic_or_static(catalog: Catalog) -> None:
    catalog.execute("INSERT OVERWRITE t SELECT 'a', 7, 'x', 1")
    assert [row[:2] for row in rows(catalog)] == [("a", 7), ("b", 3), ("b", 4)]
    catalog.execute("INSERT OVERWRITE t /*+ OPTIONS('dynamic-partition-overwrite' = 'false') */ SELECT 'c', 8, 'x', 1")
    assert [row[:2] for row in rows(catalog)] == [("c", 8)]
    catalog.execute("ALTER TABLE t SET ('dynamic-partition-overwrite' = 'false')")
    catalog.execute(
        "INSERT INTO t VALUES ('a', 1, NULL, NULL); INSERT OVERWRITE t PARTITION (dt = 'a') VALUES (2, NULL, NULL)"
    )
    assert [row[:2] for row in rows(catalog)] == [("a", 2), ("c", 8)]
    with pytest.raises(SqlError, match="cannot be given to an INSERT"):
        catalog.execute("INSERT INTO t /*+ OPTIONS('bucket' = '1') */ SELECT 'c', 8, 'x', 1")


def test_partitions_given_in_part_are_dropped(catalog: Catalog) -> None:
    catalog.execute("""CREATE TABLE p (dt STRING, h INT, id INT, PRIMARY KEY (dt, h, id) NOT ENFORCED)
        PARTITIONED BY (dt, h) WITH ('bucket' = '1');
        INSERT INTO p VALUES ('a', 1, 1), ('a', 2, 2), ('b', 1, 3);
        ALTER TABLE p DROP PARTITION (dt = 'a'), PARTITION (dt = 'x', h = 9)""")
    assert rows(catalog, "SELECT * FROM p") == [("b", 1, 3)]
    catalog.execute("INSERT OVERWRITE p PARTITION (dt = 'b') VALUES (2, 5)")
    assert rows(catalog, "SELECT * FROM p") == [("b", 1, 3), ("b", 2, 5)]


def test_tables_are_made_like_another_and_from_a_query(catalog: Catalog) -> None:
    catalog.execute("CREATE TABLE u WITH ('bucket' = '3') LIKE t; CREATE TABLE IF NOT EXISTS u LIKE s")
    made, source = catalog.table("u").schema, catalog.table("t").schema
    assert (made.fields, made.primary_keys, made.partition_keys) == (source.fields, source.primary_keys, ("dt",))
    assert dict(made.options) == {"bucket": "3"}
    outcome = run(
        catalog, "CREATE TABLE c WITH ('primary-key' = 'id', 'bucket' = '1') AS SELECT id, v FROM t WHERE dt = 'a'"
    )
    assert outcome == {"snapshot_id": 1, "rows": 2}
    assert catalog.table("c").schema.primary_keys == ("id",)
    assert rows(catalog, "SELECT * FROM c") == [(1, Decimal("1.0000")), (2, Decimal("2.0000"))]
    assert catalog.execute("CREATE TABLE IF NOT EXISTS c AS SELECT 1 AS x") is None

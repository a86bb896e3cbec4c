"""Several INSERTs into one table are a stream each, and the table is what a recomputation from all sources gives."""

from __future__ import annotations

import contextlib
import random
import uuid
from dataclasses import replace
from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from lakehouse_assets.flink_sql import NotIncremental, SqlProject, read_project
from lakehouse_assets.health import table_health
from lakehouse_assets.resources import LakehouseResource
from lakehouse_assets.stream.audit import audited_repair
from lakehouse_assets.stream.declaration import Repair, by_target
from lakehouse_assets.stream.errors import InvalidStream
from lakehouse_assets.stream.repair import repair
from lakehouse_assets.stream.runner import run_batch
from storage_engine import Catalog
from tests.fakes.faulty_file_io import Killed
from tests.lakehouse_assets.deaths import deaths
from tests.lakehouse_assets.flink_sql.any_order import move

TABLES = """
CREATE TABLE db.a (d STRING, id BIGINT, k STRING, n BIGINT, t BIGINT, PRIMARY KEY (d, id) NOT ENFORCED)
    PARTITIONED BY (d) WITH ('bucket' = '1');
CREATE TABLE db.b (d STRING, id BIGINT, m BIGINT, u BIGINT, PRIMARY KEY (d, id) NOT ENFORCED)
    PARTITIONED BY (d) WITH ('bucket' = '1');
CREATE TABLE db.c (d STRING, id BIGINT, s STRING, v BIGINT, PRIMARY KEY (d, id) NOT ENFORCED)
    PARTITIONED BY (d) WITH ('bucket' = '1');
CREATE TABLE db.wide (d STRING, id BIGINT, n BIGINT, t BIGINT, m BIGINT, u BIGINT, s STRING, v BIGINT,
    PRIMARY KEY (d, id) NOT ENFORCED) PARTITIONED BY (d) WITH ('bucket' = '2', 'merge-engine' = 'partial-update',
    'fields.t.sequence-group' = 'n', 'fields.u.sequence-group' = 'm', 'fields.v.sequence-group' = 's',
    'changelog-producer' = 'lookup');
CREATE TABLE db.sums (d STRING, rows_of BIGINT, total BIGINT, PRIMARY KEY (d) NOT ENFORCED)
    WITH ('bucket' = '1', 'merge-engine' = 'aggregation', 'fields.default-aggregate-function' = 'sum');
CREATE TABLE db.newest (d STRING, id BIGINT, x BIGINT, t BIGINT, PRIMARY KEY (d, id) NOT ENFORCED)
    PARTITIONED BY (d) WITH ('bucket' = '1', 'sequence.field' = 't');
CREATE TABLE db.told (kind STRING, d STRING, id BIGINT, x BIGINT, PRIMARY KEY (kind, d, id) NOT ENFORCED) WITH ('bucket' = '1');
CREATE TABLE db.part (d STRING, id BIGINT, x BIGINT, y BIGINT, PRIMARY KEY (d, id) NOT ENFORCED)
    WITH ('bucket' = '1', 'merge-engine' = 'partial-update', 'ignore-delete' = 'true');
CREATE TABLE db.first (d STRING, id BIGINT, x BIGINT, PRIMARY KEY (d, id) NOT ENFORCED)
    WITH ('bucket' = '1', 'merge-engine' = 'first-row');
CREATE TABLE db.last (d STRING, x BIGINT, PRIMARY KEY (d) NOT ENFORCED)
    WITH ('bucket' = '1', 'merge-engine' = 'aggregation', 'fields.x.aggregate-function' = 'last_value',
    'fields.x.ignore-retract' = 'true');
CREATE TABLE db.log (d STRING, id BIGINT) WITH ('bucket' = '-1');
CREATE TABLE db.log2 (d STRING, id BIGINT) WITH ('bucket' = '-1');
CREATE TABLE db.all_logs (d STRING, id BIGINT) WITH ('bucket' = '-1');
"""
WIDE = """
EXECUTE STATEMENT SET BEGIN
INSERT INTO db.wide (d, id, n, t) SELECT d, id, n, t FROM db.a;
INSERT INTO db.wide (d, id, m, u) SELECT d, id, m, u FROM db.b;
INSERT INTO db.wide (d, id, s, v) SELECT d, id, UPPER(s), v FROM db.c;
END;
"""
SUM_A = "INSERT INTO db.sums SELECT d, COUNT(*), SUM(n) FROM db.a GROUP BY d;\n"
SUM_B = "INSERT INTO db.sums SELECT d, COUNT(*), SUM(m) FROM db.b WHERE m > 2 GROUP BY d;\n"
TOLD = """
INSERT INTO db.told SELECT 'a', d, id, n FROM db.a;
INSERT INTO db.told SELECT 'b', d, id, m FROM db.b WHERE m > 2;
INSERT INTO db.told SELECT 'c', d, id, n + 1 FROM db.a WHERE n > 4;
"""
DAYS = ("2024-01-01", "2024-01-02")


def project(statements: str) -> SqlProject:
    return read_project({"ddl.sql": TABLES, "app.sql": statements}, name="p")


def warehouse(statements: str) -> Catalog:
    catalog = Catalog(f"memory://{uuid.uuid4()}")
    catalog.execute(project(statements).ddl)
    return catalog


def change(catalog: Catalog, chance: random.Random, clock: int) -> None:
    """One to three rows of one table are written or deleted."""
    table = catalog.table(chance.choice(["db.a", "db.b", "db.c"]))
    rows = []
    for key in chance.sample(range(6), chance.randint(1, 3)):
        own = {"db.a": ("k", chance.randrange(9)), "db.b": (chance.randrange(9),), "db.c": (chance.choice("xyz"),)}
        rows.append((DAYS[key % 2], key, *own[table.name], clock))
    frame = pl.DataFrame(rows, schema=table.schema.polars_schema, orient="row")
    table.write(frame.with_columns(pl.lit(chance.choice(["+I", "+I", "-D"])).alias("_row_kind")))


def rows_of(catalog: Catalog, name: str) -> list[dict[str, object]]:
    table = catalog.table(name)
    return [] if table.latest_snapshot() is None else table.scan().collect().to_dicts()


def assert_wide(catalog: Catalog) -> None:
    a, b, c = ({(row["d"], row["id"]): row for row in rows_of(catalog, name)} for name in ("db.a", "db.b", "db.c"))
    wanted = {
        key: (
            a.get(key, {}).get("n"),
            b.get(key, {}).get("m"),
            str(c[key]["s"]).upper() if key in c else None,
        )
        for key in a.keys() | b.keys() | c.keys()
    }
    found = {(row["d"], row["id"]): (row["n"], row["m"], row["s"]) for row in rows_of(catalog, "db.wide")}
    assert {key: row for key, row in found.items() if any(value is not None for value in row)} == wanted


def assert_sums(catalog: Catalog) -> None:
    wanted: dict[object, list[int]] = {}
    for value, rows in (
        ("n", rows_of(catalog, "db.a")),
        ("m", [r for r in rows_of(catalog, "db.b") if int(str(r["m"])) > 2]),
    ):
        for row in rows:
            day = wanted.setdefault(row["d"], [0, 0])
            day[0], day[1] = day[0] + 1, day[1] + int(str(row[value]))
    found = {row["d"]: [row["rows_of"], row["total"]] for row in rows_of(catalog, "db.sums") if row["rows_of"]}
    assert found == wanted


def assert_told(catalog: Catalog) -> None:
    a, b = rows_of(catalog, "db.a"), rows_of(catalog, "db.b")
    wanted = [("a", row["d"], row["id"], row["n"]) for row in a]
    wanted += [("b", row["d"], row["id"], row["m"]) for row in b if int(str(row["m"])) > 2]
    wanted += [("c", row["d"], row["id"], int(str(row["n"])) + 1) for row in a if int(str(row["n"])) > 4]
    assert sorted(tuple(row.values()) for row in rows_of(catalog, "db.told")) == sorted(wanted)


RIGHT = {WIDE: assert_wide, SUM_A + SUM_B: assert_sums, TOLD: assert_told}


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("statements", RIGHT, ids=["wide", "sums", "told apart"])
def test_a_table_is_what_all_its_sources_give(statements: str, seed: int) -> None:
    declared, catalog, chance = project(statements), warehouse(statements), random.Random(seed)
    for clock in range(16):
        change(catalog, chance, clock)
        if clock % 5 == 0:
            move(catalog, declared, chance)
    move(catalog, declared, chance)
    RIGHT[statements](catalog)
    assert [run_batch(catalog, stream) for stream in declared.streams] == [None] * len(declared.streams)


def test_the_newest_row_of_two_sources_counts() -> None:
    statements = (
        "INSERT INTO db.newest SELECT d, id, n, t FROM db.a; INSERT INTO db.newest SELECT d, id, m, u FROM db.b"
    )
    declared, catalog = project(statements), warehouse(statements)
    for table, value, time in (("db.a", 1, 5), ("db.b", 2, 4), ("db.b", 3, 6)):
        columns = ["x", value, time] if table == "db.a" else [value, time]
        schema = catalog.table(table).schema.polars_schema
        catalog.table(table).write(pl.DataFrame([[DAYS[0], 1, *columns]], schema=schema, orient="row"))
        move(catalog, declared, random.Random(value))
        assert [row["x"] for row in rows_of(catalog, "db.newest")] == [3 if value == 3 else 1]


def test_logs_are_united() -> None:
    statements = "INSERT INTO db.all_logs SELECT d, id FROM db.log; INSERT INTO db.all_logs SELECT d, id FROM db.log2"
    declared, catalog = project(statements), warehouse(statements)
    for number in range(4):
        catalog.table("db.log" if number % 2 else "db.log2").write(pl.DataFrame({"d": ["x"], "id": [number]}))
        move(catalog, declared, random.Random(number))
    assert sorted(row["id"] for row in rows_of(catalog, "db.all_logs")) == [0, 1, 2, 3]  # type: ignore[type-var]


@pytest.mark.parametrize("order", [SUM_A + SUM_B, SUM_B + SUM_A])
def test_a_stream_goes_on_when_others_come_and_go(order: str) -> None:
    catalog, chance = warehouse(SUM_A + SUM_B), random.Random(7)
    (alone,) = project(SUM_A).streams
    assert alone.name == "stream-db.sums"
    for clock in range(6):
        change(catalog, chance, clock)
    move(catalog, project(SUM_A), chance)
    for clock in range(6, 9):
        change(catalog, chance, clock)
    move(catalog, project(order), chance)
    assert_sums(catalog)
    assert set(catalog.table("db.sums").offsets().identifiers) == {"stream-db.sums", "stream-db.sums@db.b"}
    for clock in range(9, 12):
        change(catalog, chance, clock)
    for each in (SUM_B, SUM_A, order):
        move(catalog, project(each), chance)
    assert_sums(catalog)
    consumers = {name for table in ("db.a", "db.b") for name in catalog.table(table).store.consumers.list()}
    assert consumers == {"stream-db.sums", "stream-db.sums@db.b"}


def test_an_insert_that_is_declared_no_more_is_not_behind() -> None:
    catalog, chance = warehouse(SUM_A + SUM_B), random.Random(11)
    for clock in range(6):
        change(catalog, chance, clock)
    move(catalog, project(SUM_A + SUM_B), chance)
    rows = {"d": [DAYS[0]], "id": [1], "k": ["k"], "n": [1], "t": [9], "m": [3], "u": [9]}
    behind = []
    for statements in (SUM_A, SUM_B, SUM_A + SUM_B):
        for name in ("db.a", "db.b"):
            catalog.table(name).write(pl.DataFrame(rows).select(catalog.table(name).schema.column_names))
        before = table_health(catalog, "db.sums", now_ms=0)
        move(catalog, project(statements), chance)
        after = table_health(catalog, "db.sums", now_ms=0)
        behind.append((set(before.sources), after.behind, set(after.sources)))
    assert behind == [
        ({"db.a", "db.b"}, 0, {"db.a"}),
        ({"db.a"}, 0, {"db.b"}),
        ({"db.b"}, 0, {"db.a", "db.b"}),
    ]


def test_a_project_knows_its_streams_by_one_object_each() -> None:
    declared = project(SUM_A + TOLD + SUM_B).project()
    again = declared.streams_of("micro-batch")
    assert all(one is other for one, other in zip(declared.streams, again, strict=True))
    for streams in by_target(again).values():
        assert all(any(stream is known for known in declared.streams) for stream in streams)
    alone = replace(declared.streams[0], parts=(), part="x")
    assert [stream.parts for stream in by_target([alone])["db.sums"]] == [("x",)]


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("statements", [SUM_A + SUM_B, TOLD], ids=["sums", "told apart"])
def test_a_repair_recomputes_from_all_sources_and_the_streams_go_on(statements: str, whole: bool) -> None:
    declared, catalog, chance = project(statements), warehouse(statements), random.Random(5)
    (streams,) = by_target(declared.streams).values()
    for clock in range(9):
        change(catalog, chance, clock)
    move(catalog, declared, chance)
    for clock in range(9, 12):
        change(catalog, chance, clock)
    target = catalog.table(streams[0].target)
    if "merge-engine" in target.schema.options:
        target.write(pl.DataFrame({"d": DAYS[:1], "rows_of": [100], "total": [1000]}))
    else:
        target.write(pl.DataFrame({"kind": ["a"], "d": DAYS[:1], "id": [99], "x": [1000]}))
    assert repair(catalog, streams, None if whole else DAYS[:1]).rows_written
    if whole:
        assert [run_batch(catalog, stream) for stream in streams] == [None] * len(streams)
    for clock in range(12, 15):
        change(catalog, chance, clock)
    move(catalog, declared, chance)
    RIGHT[statements](catalog)
    result = audited_repair(catalog, streams, {}, DAYS)
    assert not result.difference


def test_killed_and_overlapping_runs_count_each_change_once(monkeypatch: pytest.MonkeyPatch) -> None:
    declared, catalog, chance = project(SUM_A + SUM_B), warehouse(SUM_A + SUM_B), random.Random(3)

    def others(_: str) -> None:
        for stream in declared.streams:
            run_batch(catalog, stream)

    for clock in range(12):
        change(catalog, chance, clock)
        with deaths(monkeypatch, chance, target="db.sums", overtakes=others):
            for stream in declared.streams:
                with contextlib.suppress(Killed):
                    run_batch(catalog, stream)
    move(catalog, declared, chance)
    assert_sums(catalog)


REFUSED = {
    "newest, no order": (
        "INSERT INTO db.copy SELECT d, id, n FROM db.a;\nINSERT INTO db.copy SELECT d, id, m FROM db.b",
        "set 'sequence.field'",
    ),
    "one source twice": (
        "INSERT INTO db.newest SELECT d, id, n, t FROM db.a WHERE n > 1;\n"
        "INSERT INTO db.newest SELECT d, id, 0, t FROM db.a WHERE n <= 1",
        "write one INSERT",
    ),
    "some columns of the newest row": (
        "INSERT INTO db.newest (d, id, x, t) SELECT d, id, n, t FROM db.a;\n"
        "INSERT INTO db.newest (d, id, t) SELECT d, id, u FROM db.b",
        "merge engine partial-update",
    ),
    "one column of two": (
        "INSERT INTO db.part (d, id, x) SELECT d, id, n FROM db.a;\nINSERT INTO db.part SELECT d, id, m, u FROM db.b",
        "both give column x",
    ),
    "first row": ("INSERT INTO db.first SELECT d, id, n FROM db.a;\nINSERT INTO db.first SELECT d, id, m FROM db.b", "first"),
    "last value": (
        "INSERT INTO db.last SELECT d, LAST_VALUE(n) FROM db.a GROUP BY d;\n"
        "INSERT INTO db.last SELECT d, LAST_VALUE(m) FROM db.b GROUP BY d",
        "last_value of column x",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_depends_on_which_stream_is_ahead_is_refused(case: str) -> None:
    statements, reason = REFUSED[case]
    copy = "CREATE TABLE db.copy (d STRING, id BIGINT, x BIGINT, PRIMARY KEY (d, id) NOT ENFORCED) WITH ('bucket' = '1');\n"
    with pytest.raises(NotIncremental, match=r"app\.sql, line 2") as refused:
        read_project({"ddl.sql": TABLES + copy, "app.sql": statements}, name="p")
    assert reason in str(refused.value)
    assert "app.sql, line 1" in str(refused.value)


def test_columns_that_one_insert_fills_need_no_order() -> None:
    declared = project(
        "INSERT INTO db.part (d, id, x) SELECT d, id, n FROM db.a; INSERT INTO db.part (d, id, y) SELECT d, id, m FROM db.b"
    )
    assert [stream.part for stream in declared.streams] == ["db.a", "db.b"]


def test_a_table_is_one_asset_with_lineage_from_all_sources(tmp_path: Path) -> None:
    sql = project(WIDE)
    days = {"d": dg.DailyPartitionsDefinition(start_date=DAYS[0], end_date="2024-02-01")}
    lakehouse = LakehouseResource(warehouse=str(tmp_path), ddl=sql.ddl)
    definitions = sql.project(partitions=days).definitions(lakehouse)
    dg.Definitions.validate_loadable(definitions)
    graph, key = definitions.resolve_asset_graph(), dg.AssetKey(["stream", "db", "wide"])
    assert {each.to_user_string() for each in graph.get(key).parent_keys} == {f"stream/db/{name}" for name in "abc"}
    lineage = graph.get(dg.AssetKey(["db", "wide"])).metadata["dagster/column_lineage"].deps_by_column
    assert {each.asset_key.to_user_string() for column in lineage.values() for each in column} == {
        "db/a",
        "db/b",
        "db/c",
    }
    assert [each.column_name for each in lineage["m"]] == ["m"]
    assert {sensor.name for sensor in definitions.sensors or ()} == {"db_wide_stream"}
    catalog, chance = lakehouse.catalog(), random.Random(1)
    for clock in range(12):
        change(catalog, chance, clock)
    job = definitions.resolve_implicit_global_asset_job_def()
    with dg.DagsterInstance.ephemeral() as instance:
        assert table_health(catalog, "db.wide", now_ms=0).behind is None
        slow = {"ops": {"stream__db__wide": {"config": {"report_seconds": 60.0}}}}
        assert job.execute_in_process(asset_selection=[key], instance=instance, run_config=slow).success
        assert_wide(catalog)
        events = [record.asset_materialization for record in instance.fetch_materializations(key, limit=10).records]
        told = {name for event in events if event is not None for name in event.metadata}
        assert {"rows_read db.a", "rows_read db.b", "rows_read db.c", "rows_behind db.a"} <= told
        change(catalog, chance, 12)
        health = table_health(catalog, "db.wide", now_ms=0)
        assert (bool(health.behind), set(health.sources)) == (True, {"db.a", "db.b", "db.c"})
        table = dg.AssetKey(["db", "wide"])
        day_range = {"dagster/asset_partition_range_start": DAYS[0], "dagster/asset_partition_range_end": DAYS[1]}
        assert job.execute_in_process(asset_selection=[table], tags=day_range, instance=instance).success
        assert job.execute_in_process(asset_selection=[key], instance=instance).success
        assert_wide(catalog)


def test_streams_of_a_target_need_names_and_one_mode() -> None:
    declared = project(SUM_A + SUM_B)
    first, second = declared.streams
    with pytest.raises(InvalidStream, match="part of its own"):
        project(SUM_A).project(streams=project(SUM_A).streams)
    other = replace(second, repair=Repair(column="total", source=pl.col("m")))
    with pytest.raises(InvalidStream, match="repaired by different columns"):
        repair(warehouse(SUM_A + SUM_B), [first, other])

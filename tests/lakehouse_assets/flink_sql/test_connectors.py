"""Tables of Flink's connectors become ingestions, their options translated; what cannot be is refused by file and line."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from lakehouse_assets.continuous import STEP
from lakehouse_assets.flink_sql import NotIncremental, SqlProject, read_project
from lakehouse_assets.ingest import Ingester
from lakehouse_assets.resources import (
    KafkaResource,
    LakehouseResource,
    LandingResource,
    MySqlResource,
    PostgresResource,
)
from lakehouse_assets.sources.errors import SourceError
from lakehouse_assets.stream.modes import MODES, Mode
from lakehouse_assets.stream.runner import StreamRunner
from lakehouse_cli import project_actions
from storage_engine import Catalog
from storage_engine.errors import InvalidInput, SqlError, told

COLUMNS = "(id BIGINT, name STRING, PRIMARY KEY (id) NOT ENFORCED)"
KAFKA = (
    "'connector' = 'kafka', 'topic' = 'shop.t', 'properties.bootstrap.servers' = 'k:9092', 'format' = 'debezium-json'"
)
MYSQL = """'connector' = 'mysql-cdc', 'hostname' = 'h', 'username' = 'u', 'password' = '${PASSWORD}', 'database-name' = 'shop',
    'table-name' = 't'"""
POSTGRES = MYSQL.replace("mysql", "postgres") + ", 'schema-name' = 'sales', 'slot.name' = 's', 'port' = '5433'"


def table(options: str, columns: str = COLUMNS) -> str:
    return f"CREATE TABLE db.t {columns}\n WITH ({options});"


def test_kafka_is_read_as_its_options_say() -> None:
    options = f"""{KAFKA}, 'properties.group.id' = 'g', 'scan.startup.mode' = 'timestamp', 'bucket' = '2',
        'scan.startup.timestamp-millis' = '1704067200000', 'properties.security.protocol' = 'SASL_SSL',
        'properties.sasl.password' = '${{KAFKA_PASSWORD}}'"""
    project = read_project({"a.sql": table(options)}, name="p")
    (ingestion,) = project.ingestions
    assert (ingestion.source_table, ingestion.target, ingestion.added) == ("shop.t", "db.t", ())
    assert ingestion.lenient
    assert project.tables["db.t"].options == {"bucket": "2"}
    assert isinstance(project.changes, KafkaResource)
    assert project.changes.servers == "k:9092"
    assert project.changes.start == "2024-01-01T00:00:00+00:00"
    assert project.changes.settings == {"security.protocol": "SASL_SSL"}
    assert project.changes.secret_settings == {"sasl.password": "KAFKA_PASSWORD"}


def test_avro_needs_its_registry_and_upserts_are_plain_rows() -> None:
    avro = KAFKA.replace("debezium-json", "avro-confluent") + ", 'avro-confluent.url' = 'http://r'"
    changes = read_project({"a.sql": table(avro)}, name="p").changes
    assert isinstance(changes, KafkaResource)
    assert (changes.format, changes.registry) == ("avro", "http://r")
    upsert = KAFKA.replace("'kafka'", "'upsert-kafka'").replace("'format' = 'debezium-json'", "'key.format' = 'json'")
    changes = read_project({"a.sql": table(f"{upsert}, 'value.format' = 'json'")}, name="p").changes
    assert isinstance(changes, KafkaResource)
    assert changes.format == "json"


@pytest.mark.parametrize("chosen", ["debezium-json", "json", "csv", "parquet"])
def test_files_are_read_by_their_names(chosen: str) -> None:
    options = f"'connector' = 'filesystem', 'path' = 'file:///data/landing/t', 'format' = '{chosen}'"
    project = read_project({"a.sql": table(options)}, name="p")
    assert isinstance(project.changes, LandingResource)
    assert (project.changes.folder, project.ingestions[0].source_table) == ("/data/landing", "t")
    assert project.ingestions[0].lenient
    strict = table(f"{options}, 'json.fail-on-missing-field' = 'true'")
    assert not read_project({"a.sql": strict}, name="p").ingestions[0].lenient


def test_databases_are_read_by_their_logs() -> None:
    changes = read_project({"a.sql": table(MYSQL)}, name="p").changes
    assert isinstance(changes, MySqlResource)
    assert (changes.host, changes.port, changes.password_variable) == ("h", "3306", "PASSWORD")
    project = read_project({"a.sql": table(POSTGRES)}, name="p")
    assert isinstance(project.changes, PostgresResource)
    assert (project.changes.port, project.changes.slot, project.ingestions[0].source_table) == ("5433", "s", "sales.t")


@pytest.mark.parametrize(
    ("columns", "option", "added"),
    [
        ("op STRING, deleted BOOLEAN", "", ("op", "deleted")),
        ("op STRING, deleted BOOLEAN", "'lakehouse.added' = '',", ()),
        ("op STRING, deleted BOOLEAN, at TIMESTAMP(3)", "'lakehouse.added' = 'op, at',", ("op", "at")),
        ("op INT, deleted TINYINT", "", ()),
    ],
)
def test_columns_that_the_source_does_not_have(columns: str, option: str, added: tuple[str, ...]) -> None:
    """``op`` and ``deleted`` keep what is told of changes, unless they have other types, or the option says otherwise."""
    text = table(f"{option} {KAFKA}", f"(id BIGINT, {columns}, PRIMARY KEY (id) NOT ENFORCED)")
    project = read_project({"a.sql": text}, name="p")
    assert project.ingestions[0].added == added
    assert "lakehouse.added" not in project.tables["db.t"].options


REFUSED = {
    "an added column that is not there": (
        f"{KAFKA}, 'lakehouse.added' = 'gone'",
        "names gone, which db.t does not have",
    ),
    "other connector": ("'connector' = 'jdbc'", "mirrors of kafka"),
    "a missing option": (KAFKA.replace("'topic' = 'shop.t',", ""), "needs the option 'topic'"),
    "a format": (KAFKA.replace("debezium-json", "canal-json"), "debezium-json"),
    "several topics": (KAFKA.replace("shop.t", "a;b"), "one topic"),
    "a start that is no time": (
        f"{KAFKA}, 'scan.startup.mode' = 'timestamp', 'scan.startup.timestamp-millis' = 'today'",
        "expected milliseconds",
    ),
    "a port that is no number": (POSTGRES.replace("5433", "db"), "option 'port' is 'db'"),
    "a pattern": (f"{KAFKA}, 'topic-pattern' = 'x.*'", "one topic"),
    "offsets of a group": (f"{KAFKA}, 'scan.startup.mode' = 'group-offsets'", "earliest-offset"),
    "a secret in the file": (MYSQL.replace("${PASSWORD}", "hunter2"), "${VARIABLE}"),
    "no snapshot first": (f"{MYSQL}, 'scan.startup.mode' = 'latest-offset'", "initial"),
    "another clock": (f"{MYSQL}, 'server-time-zone' = 'Asia/Seoul'", "UTC"),
    "an option of the connector": (f"{MYSQL}, 'debezium.snapshot.mode' = 'never'", "leave it out"),
    "another plugin": (f"{POSTGRES}, 'decoding.plugin.name' = 'wal2json'", "pgoutput"),
    "another variable": (KAFKA.replace("k:9092", "${SERVERS}"), "only secrets"),
    "a file format": ("'connector' = 'filesystem', 'path' = '/a/b', 'format' = 'orc'", "parquet"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_translated_is_refused(case: str) -> None:
    options, reason = REFUSED[case]
    with pytest.raises(SqlError, match=r"app\.sql, line 2") as refused:
        read_project({"app.sql": "\n" + table(options)}, name="p")
    assert reason in str(refused.value)
    assert "hunter2" not in str(refused.value)


def test_what_a_project_cannot_do_with_a_source_is_refused() -> None:
    with pytest.raises(SqlError, match="no primary key"):
        read_project({"a.sql": table(KAFKA, "(id BIGINT)")}, name="p")
    other = table(MYSQL).replace("db.t", "db.other")
    with pytest.raises(SqlError, match=r"b\.sql, line 1.*one source"):
        read_project({"a.sql": table(KAFKA), "b.sql": other}, name="p")
    copy = (
        "CREATE TABLE db.s (id BIGINT, name STRING, PRIMARY KEY (id) NOT ENFORCED); INSERT INTO db.t SELECT * FROM db.s"
    )
    with pytest.raises(NotIncremental, match="mirrors a source"):
        read_project({"a.sql": table(KAFKA), "b.sql": copy}, name="p")


def test_files_flow_into_tables_and_on(tmp_path: Path) -> None:
    landing, sql = tmp_path / "landing", tmp_path / "sql"
    for folder in (landing / "t", sql):
        folder.mkdir(parents=True)
    events = [{"op": "c", "after": {"id": number, "name": f"n{number}"}, "source": {"ts_ms": 1}} for number in range(3)]
    events.append({"op": "d", "before": events[0]["after"], "source": {"ts_ms": 2}})
    (landing / "t" / "1.jsonl").write_text("\n".join([*map(json.dumps, events), "no event"]) + "\n", encoding="utf-8")
    source = f"'connector' = 'filesystem', 'path' = '{landing}/t', 'format' = 'debezium-json', 'bucket' = '1'"
    (sql / "a.sql").write_text(
        f"""{table(source)}
        CREATE TABLE db.upper (id BIGINT, name STRING, PRIMARY KEY (id) NOT ENFORCED) WITH ('bucket' = '1');
        INSERT INTO db.upper SELECT id, UPPER(name) FROM db.t;""",
        encoding="utf-8",
    )
    warehouse = str(tmp_path / "warehouse")
    assert project_actions.declared(str(sql), "default")["kind"].to_list() == ["ingestion", "stream"]
    moved = project_actions.moved(str(sql), "default", warehouse)
    assert moved["target"].to_list() == ["db.t", "db.upper"]
    catalog = Catalog(warehouse)
    assert catalog.table("db.upper").scan().sort("id").collect().rows() == [(1, "N1"), (2, "N2")]
    assert catalog.table("ods.quarantine").scan().collect()["raw"].to_list() == ["no event"]
    project = read_project({"a.sql": (sql / "a.sql").read_text(encoding="utf-8")}, name="p")
    assert project.tables["db.t"].options["changelog-producer"] == "lookup"
    assert isinstance(project.changes, LandingResource)
    assert Ingester(catalog, project.changes.source(), project.ingestions).run_batch() == []
    assert StreamRunner(catalog, project.streams[0]).run_batch() is None
    defs = project.project().definitions(LakehouseResource(warehouse=warehouse, ddl=project.ddl), project.changes)
    dg.Definitions.validate_loadable(defs)
    assert dg.AssetKey(["stream", "db", "t"]) in {
        key for each in defs.assets or [] for key in getattr(each, "keys", [])
    }


CHANGES = "'connector' = 'filesystem', 'path' = '{}/{}', 'format' = 'debezium-json', 'bucket' = '1'"


def mirrors(landing: Path, *names: str) -> str:
    """A table of a folder each, one a line."""
    return "\n".join(f"CREATE TABLE db.{name} {COLUMNS} WITH ({CHANGES.format(landing, name)});" for name in names)


@pytest.fixture
def one_broken(tmp_path: Path) -> tuple[LakehouseResource, SqlProject]:
    """Two tables of a landing folder; the second, declared in line 2, has a file without a column of the table."""
    for name, columns in (("good", ["id", "name"]), ("bad", ["id"])):
        folder = tmp_path / "landing" / name
        folder.mkdir(parents=True)
        pl.DataFrame({"id": [1], "name": ["a"]}).select(columns).write_parquet(folder / "1.parquet")
    text = mirrors(tmp_path / "landing", "good", "bad").replace("debezium-json", "parquet")
    declared = read_project({"mirrors.sql": text}, name="p")
    return LakehouseResource(warehouse=str(tmp_path / "warehouse"), ddl=declared.ddl), declared


AT = "the ingestion into db.bad is declared in mirrors.sql, line 2, column 1"


def test_what_cannot_be_ingested_says_which_table_declares_it(one_broken: tuple[LakehouseResource, SqlProject]) -> None:
    lakehouse, declared = one_broken
    assert declared.changes is not None
    ingester = declared.changes.ingester(lakehouse, declared.ingestions)
    bad = next(each for each in declared.ingestions if each.target == "db.bad")
    ways = (ingester.run_batch, ingester.run_batch, lambda: ingester.resnapshot(bad), lambda: ingester.reload(bad))
    for way in ways:
        with pytest.raises(SourceError) as stopped:
            way()
        assert told(stopped.value).count(AT) == 1
        assert told(stopped.value).count("mirrors.sql") == 1
    assert lakehouse.table("db.good").scan().collect().height == 1


@pytest.mark.parametrize("mode", MODES)
def test_a_run_shows_which_table_it_was(one_broken: tuple[LakehouseResource, SqlProject], mode: Mode) -> None:
    lakehouse, declared = one_broken
    definitions = replace(declared.project(), mode=mode).definitions(lakehouse, declared.changes)
    with dg.instance_for_test() as instance:
        result = definitions.resolve_implicit_global_asset_job_def().execute_in_process(
            asset_selection=[dg.AssetKey(["stream", "db", "bad"])],
            run_config={"ops": {STEP: {"config": {"window_seconds": 1.5}}}} if mode == "continuous" else {},
            instance=instance,
            raise_on_error=False,
        )
        (event,) = result.filter_events(lambda each: each.is_step_failure)
        assert AT in str(event.step_failure_data.error)
        if mode == "continuous":
            errors = [each.user_message for each in instance.all_logs(result.run_id) if each.level == logging.ERROR]
            assert any(AT in message for message in errors)


def test_a_source_that_cannot_be_opened_says_which_tables_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PASSWORD", raising=False)
    texts = {f"{number}.sql": table(MYSQL).replace("db.t", f"db.t{number}") for number in range(5)}
    declared = read_project(texts, name="p")
    lakehouse = LakehouseResource(warehouse="memory://unopened", ddl=declared.ddl)
    assert declared.changes is not None
    with pytest.raises(InvalidInput, match="variable PASSWORD is not set") as stopped:
        declared.changes.ingester(lakehouse, declared.ingestions)
    assert "into db.t0, db.t1, db.t2 and 2 more are declared in 0.sql, line 1, column 1, 1.sql" in told(stopped.value)
    with pytest.raises(InvalidInput) as alone:
        declared.changes.ingester(lakehouse, declared.ingestions[3:4])
    assert "(the ingestion into db.t3 is declared in 3.sql, line 1, column 1)" in told(alone.value)

"""What goes wrong while a project's streams run says which statement it was, in every mode and every command."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import dagster as dg
import polars as pl
import pytest
from click.testing import CliRunner

from lakehouse_assets.continuous import STEP
from lakehouse_assets.flink_sql import NotIncremental, SqlProject, load_project, read_project
from lakehouse_assets.resources import LakehouseResource
from lakehouse_assets.stream.audit import audited_repair
from lakehouse_assets.stream.errors import InvalidStream
from lakehouse_assets.stream.modes import MODES, Mode
from lakehouse_assets.stream.repair import repair
from lakehouse_assets.stream.runner import StreamRunner
from lakehouse_cli.main import main
from storage_engine import Catalog
from storage_engine.errors import InvalidInput, InvalidRows, StorageEngineError, told

TABLES = """
CREATE TABLE db.a (d STRING, id BIGINT, item STRING, n STRING, PRIMARY KEY (d, id) NOT ENFORCED) WITH ('bucket' = '1');
CREATE TABLE db.b (d STRING, id BIGINT, item STRING, PRIMARY KEY (d, id) NOT ENFORCED) WITH ('bucket' = '1');
CREATE TABLE db.items (item STRING, orders BIGINT, PRIMARY KEY (item) NOT ENFORCED)
    WITH ('bucket' = '1', 'merge-engine' = 'aggregation', 'fields.orders.aggregate-function' = 'sum');
CREATE TABLE db.copy (d STRING, id BIGINT, n BIGINT, PRIMARY KEY (d, id) NOT ENFORCED) PARTITIONED BY (d) WITH ('bucket' = '1');
"""
COUNTED = "\n\nINSERT INTO db.items SELECT item, COUNT(*) FROM db.a GROUP BY item;\n"
AT = "app.sql, line 3, column 1"


def project(statements: str) -> SqlProject:
    return read_project({"ddl.sql": TABLES, "app.sql": statements}, name="p")


def warehouse(declared: SqlProject, *rows: tuple[str, int, str | None, str]) -> Catalog:
    catalog = Catalog(f"memory://{uuid.uuid4()}")
    catalog.execute(declared.ddl)
    put(catalog, *rows)
    return catalog


def put(catalog: Catalog, *rows: tuple[str, int, str | None, str]) -> None:
    table = catalog.table("db.a")
    table.write(pl.DataFrame(rows, schema=table.schema.polars_schema, orient="row"))


def moved(catalog: Catalog, declared: SqlProject) -> None:
    for stream in declared.streams:
        list(iter(StreamRunner(catalog, stream).run_batch, None))


STOPPED = {
    "a null in a group's key": (COUNTED, "column 'item', row 1"),
    "a value that is none": ("\n\nINSERT INTO db.copy SELECT d, id, CAST(n AS BIGINT) FROM db.a", "conversion from `str`"),
    "a condition": ("\n\nINSERT INTO db.copy SELECT d, id, 1 FROM db.a WHERE CAST(n AS BIGINT) > 0", "conversion from `str`"),
    "a branch": (
        "INSERT INTO db.items SELECT item, COUNT(*) FROM db.b GROUP BY item\nUNION ALL\n"
        "SELECT item, COUNT(*) FROM db.a GROUP BY item",
        "column 'item'",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", STOPPED)
def test_the_engines_error_says_which_statement_it_was(case: str) -> None:
    statements, reason = STOPPED[case]
    declared = project(statements)
    catalog = warehouse(declared, ("x", 1, "tea", "1"), ("x", 2, None, "one"))
    with pytest.raises(InvalidRows) as stopped:
        moved(catalog, declared)
    assert reason in str(stopped.value)
    message = told(stopped.value)
    assert "app.sql, line 3" in message
    assert message.count("app.sql") == 1


def test_a_table_that_does_not_fit_is_told_before_the_first_batch() -> None:
    declared = project(COUNTED)
    catalog = Catalog(f"memory://{uuid.uuid4()}")
    catalog.execute(declared.ddl)
    catalog.drop_table("db.a")
    catalog.create_table("db.a", {"d": "STRING", "id": "BIGINT"}, primary_key=["d", "id"], options={"bucket": "1"})
    with pytest.raises(StorageEngineError) as unfit:
        moved(catalog, declared)
    assert AT in told(unfit.value)


@pytest.mark.parametrize("audited", [False, True])
def test_a_repair_says_it_too(audited: bool) -> None:
    declared = project(COUNTED)
    catalog = warehouse(declared, ("x", 1, "tea", "1"))
    moved(catalog, declared)
    put(catalog, ("x", 2, None, "1"))
    way = partial(audited_repair, checks={}) if audited else repair
    with pytest.raises(InvalidRows, match=r"table db\.items: column 'item'") as stopped:
        way(catalog, declared.streams)
    assert told(stopped.value).count(AT) == 1


def test_a_batch_statement_says_it_too() -> None:
    declared = project("\n\nINSERT OVERWRITE db.items SELECT item, COUNT(*) FROM db.a GROUP BY item;")
    catalog = warehouse(declared, ("x", 1, None, "1"))
    (batch,) = declared.batches
    with pytest.raises(InvalidRows) as stopped:
        batch.run(catalog)
    assert told(stopped.value).count(AT) == 1
    with pytest.raises(InvalidStream, match=r"names no partition column of db\.items") as unfit:
        batch.run(catalog, ["x"])
    assert told(unfit.value).count(AT) == 1


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.instance_for_test() as instance:
        yield instance


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("another", ["", "INSERT INTO db.items SELECT item, COUNT(*) FROM db.b GROUP BY item;"])
def test_a_run_shows_it_in_every_mode(another: str, mode: Mode, tmp_path: Path, instance: dg.DagsterInstance) -> None:
    declared = project(COUNTED + another)
    lakehouse = LakehouseResource(warehouse=str(tmp_path / "warehouse"), ddl=declared.ddl)
    put(lakehouse.catalog(), ("x", 1, None, "1"))
    definitions = replace(declared.project(), mode=mode).definitions(lakehouse)
    result = definitions.resolve_implicit_global_asset_job_def().execute_in_process(
        asset_selection=[dg.AssetKey(["stream", "db", "items"])],
        run_config={"ops": {STEP: {"config": {"window_seconds": 1.5}}}} if mode == "continuous" else {},
        instance=instance,
        raise_on_error=False,
    )
    (event,) = result.filter_events(lambda each: each.is_step_failure)
    assert AT in str(event.step_failure_data.error)
    if another or mode == "continuous":  # where one that fails stops no other, it is logged
        logged = [entry.user_message for entry in instance.all_logs(result.run_id) if entry.level == logging.ERROR]
        assert any("column 'item'" in message and AT in message for message in logged)


def test_the_commands_print_it_in_their_one_line(tmp_path: Path) -> None:
    folder, place = tmp_path / "sql", str(tmp_path / "warehouse")
    folder.mkdir()
    (folder / "app.sql").write_text(TABLES.strip().replace("\n", " ") + COUNTED)
    called = [*("project", "run", str(folder), "--warehouse", place)]
    assert CliRunner().invoke(main, called).exit_code == 0
    put(Catalog(place), ("x", 1, None, "1"))
    for command in (called, ["repair", "db.items", "--sql", str(folder), "--warehouse", place]):
        stopped = CliRunner().invoke(main, command)
        assert stopped.exit_code == 1
        assert "column 'item'" in stopped.output
        assert AT in stopped.output
        assert stopped.output.count("\n") == 1


def test_a_circle_is_told_by_its_statements() -> None:
    table = "CREATE TABLE db.{} (id BIGINT, n BIGINT, PRIMARY KEY (id) NOT ENFORCED) WITH ('bucket' = '1');\n"
    tables = "".join(table.format(name) for name in ("start", "x", "y", "z", "behind"))
    files = {
        "a.sql": tables,
        "b.sql": "INSERT INTO db.behind SELECT id, n FROM db.z;\nINSERT INTO db.x SELECT id, n FROM db.z WHERE n > 1;",
        "c.sql": "\nINSERT INTO db.y SELECT id, n FROM db.x;\nINSERT INTO db.z SELECT id, n FROM db.y;",
    }
    with pytest.raises(NotIncremental, match=r"^[bc]\.sql, line \d, column 1: streams go in a circle") as refused:
        read_project(files, name="p")
    message = str(refused.value)
    assert "db.x is filled from db.z in b.sql, line 2, column 1" in message
    assert "db.y is filled from db.x in c.sql, line 2, column 1" in message
    assert "db.z is filled from db.y in c.sql, line 3, column 1" in message
    assert "db.behind" not in message, "it only reads from the circle"


def test_a_file_that_is_no_text_is_told_by_its_line(tmp_path: Path) -> None:
    (tmp_path / "a.sql").write_bytes("-- é\nSELECT 1; -- é\n".encode("latin-1"))
    (tmp_path / "b.sql").write_bytes(b"")
    with pytest.raises(InvalidInput, match=r"a\.sql, line 1: this is not UTF-8"):
        load_project(tmp_path)

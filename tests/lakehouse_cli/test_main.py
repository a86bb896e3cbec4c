"""The console command as a user meets it: output, errors, exit codes."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from lakehouse_cli.main import main

SETUP = """CREATE DATABASE db;
CREATE TABLE db.t (dt STRING, id BIGINT COMMENT 'the id', amount DECIMAL(20, 4), at TIMESTAMP(3), raw BYTES,
    PRIMARY KEY (dt, id) NOT ENFORCED) PARTITIONED BY (dt) WITH ('bucket' = '1', 'changelog-producer' = 'input');
INSERT INTO db.t VALUES ('2024-01-01', 1, 1.5, TIMESTAMP '2024-01-01 10:00:00.123', X'00ff'), ('2024-01-02', 2, NULL, NULL, NULL);
INSERT INTO db.t VALUES ('2024-01-01', 1, 7, NULL, NULL);"""


@pytest.fixture
def warehouse(tmp_path: Path) -> str:
    path = str(tmp_path / "wh")
    assert run("sql", SETUP, warehouse=path).exit_code == 0
    return path


def run(*arguments: str, warehouse: str, text: str | None = None) -> Result:
    return CliRunner().invoke(main, list(arguments), env={"LAKEHOUSE_WAREHOUSE": warehouse}, input=text)


def rows(*arguments: str, warehouse: str) -> list[dict[str, object]]:
    result = run(*arguments, "--format", "json", warehouse=warehouse)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_tables_are_listed_with_their_state(warehouse: str):
    (row,) = rows("tables", warehouse=warehouse)
    assert (row["table"], row["snapshot"], row["records"]) == ("db.t", 2, 3)
    assert (row["primary_key"], row["partitioned_by"]) == ("dt, id", "dt")
    assert str(row["committed"]).endswith("+00:00")
    assert rows("tables", "db", warehouse=warehouse) == [row]


def test_an_empty_warehouse_says_so(tmp_path: Path):
    result = run("tables", warehouse=str(tmp_path / "typo"))
    assert result.exit_code == 0
    assert f"no tables in {tmp_path / 'typo'}" in result.stderr
    assert not (tmp_path / "typo").exists()


def test_rows_are_printed_in_full(warehouse: str):
    assert rows("scan", "db.t", "--snapshot", "1", warehouse=warehouse) == [
        {"dt": "2024-01-01", "id": 1, "amount": "1.5000", "at": "2024-01-01T10:00:00.123", "raw": "00ff"},
        {"dt": "2024-01-02", "id": 2, "amount": None, "at": None, "raw": None},
    ]


def test_rows_are_chosen_by_columns_condition_and_limit(warehouse: str):
    chosen = rows(
        "scan", "db.t", "--columns", "amount, id", "--where", "id = 1 AND dt < '2024-01-02'", warehouse=warehouse
    )
    assert chosen == [{"amount": "7.0000", "id": 1}]
    limited = run("scan", "db.t", "--limit", "1", "--format", "csv", warehouse=warehouse)
    assert len(list(csv.reader(io.StringIO(limited.stdout)))) == 2
    assert "the first 1 rows; --limit 0 shows all" in limited.stderr
    whole = run("scan", "db.t", "--limit", "2", "--format", "csv", warehouse=warehouse)
    assert whole.stderr == ""
    assert len(rows("scan", "db.t", "--limit", "0", warehouse=warehouse)) == 2


def test_the_past_and_branches_are_read(warehouse: str):
    run("create-tag", "db.t", "first", "--snapshot", "1", warehouse=warehouse)
    run("sql", "CALL sys.create_branch('db.t', 'side', 'first')", warehouse=warehouse)
    (first, _) = rows("snapshots", "db.t", warehouse=warehouse)
    for choice in (
        ["--tag", "first"],
        ["--branch", "side"],
        ["--snapshot", "1"],
        ["--timestamp", f"{first['commit_time']}"],
    ):
        assert rows("scan", "db.t", "--where", "id = 1", *choice, warehouse=warehouse)[0]["amount"] == "1.5000"
    assert rows("tags", "db.t", warehouse=warehouse)[0]["tag_name"] == "first"
    assert rows("branches", "db.t", warehouse=warehouse)[0]["branch_name"] == "side"
    assert len(rows("snapshots", "db.t", "--branch", "side", warehouse=warehouse)) == 1


def test_changes_are_printed_with_their_kinds(warehouse: str):
    assert [row["_row_kind"] for row in rows("changes", "db.t", "--after", "0", warehouse=warehouse)] == ["+I"] * 3
    (change,) = rows("changes", "db.t", "--after", "1", "--until", "2", warehouse=warehouse)
    assert change["amount"] == "7.0000"


def test_definitions_are_printed(warehouse: str):
    described = rows("describe", "db.t", warehouse=warehouse)
    assert described == rows("schema", "db.t", warehouse=warehouse)
    assert described[1] == {
        "column": "id", "type": "BIGINT", "nullable": False, "key": "primary", "description": "the id",
    }  # fmt: skip
    assert described[0]["key"] == "primary + partition"
    for command in ("files", "partitions", "options", "schemas", "consumers"):
        assert run(command, "db.t", warehouse=warehouse).exit_code == 0


def test_tables_are_looked_after(warehouse: str):
    assert run("compact", "db.t", "--full", warehouse=warehouse).stdout == "snapshot 3\n"
    assert run("compact", "db.t", warehouse=warehouse).stdout == "nothing to compact\n"
    assert run("create-tag", "db.t", "now", warehouse=warehouse).stdout == "tag now\n"
    assert run("expire", "db.t", "--retain-max", "10", warehouse=warehouse).stdout == "0 snapshots expired\n"
    assert run("orphans", "db.t", "--dry-run", warehouse=warehouse).stdout == ""
    assert run("verify", "db.t", warehouse=warehouse).stdout == "nothing is damaged\n"


def test_a_damaged_table_fails_its_verification(warehouse: str):
    path = rows("files", "db.t", warehouse=warehouse)[0]["file_path"]
    Path(path).write_bytes(b"PAR1")
    verified = run("verify", "db.t", warehouse=warehouse)
    assert verified.exit_code == 1
    assert path in verified.stdout


def test_sql_prints_what_each_statement_gives(warehouse: str):
    result = run("sql", "USE db; SELECT COUNT(*) AS n FROM t; SHOW TABLES", warehouse=warehouse)
    assert result.exit_code == 0
    assert "OK" in result.stdout
    assert "table name" in result.stdout
    assert rows("sql", "SELECT id FROM db.t ORDER BY id", warehouse=warehouse) == [{"id": 1}, {"id": 2}]


def test_sql_is_read_from_a_file_or_stdin(warehouse: str, tmp_path: Path):
    script = tmp_path / "script.sql"
    script.write_text("-- comment\nSELECT 'ä' AS a;\n", encoding="utf-8")
    assert rows("sql", "--file", str(script), warehouse=warehouse) == [{"a": "ä"}]
    piped = run("sql", "--file", "-", "--format", "json", warehouse=warehouse, text="SELECT 1 AS one")
    assert json.loads(piped.stdout) == [{"one": 1}]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["scan", "db.tt"], "there is no table db.tt"),
        (["scan", "db.t", "--where", "nope = 1"], "--where 'nope = 1' cannot be used"),
        (["scan", "db.t", "--where", "id ="], "--where 'id =' cannot be used"),
        (["scan", "db.t", "--columns", "nope"], "--columns 'nope': expected names of dt, id"),
        (["scan", "db.t", "--snapshot", "9"], "there is no snapshot 9"),
        (["scan", "db.t", "--tag", "nope"], "no tag 'nope'"),
        (["scan", "db.t", "--branch", "nope"], "no branch 'nope'"),
        (["scan", "db.t", "--timestamp", "soon"], "--timestamp 'soon': expected"),
        (["scan", "db.t", "--snapshot", "1", "--tag", "x"], "one of"),
        (["changes", "db.t", "--after", "nope"], "no tag 'nope'"),
        (["sql", "SELECT * FROM"], "line 1, column 1"),
        (["sql", "CREATE DATABASE db"], "database 'db' exists"),
        (["tables", "nope"], "no database 'nope'"),
        (["tables", "--warehouse", "nope://x"], "no file system for nope://"),
        (["describe", "../x"], "cannot be the name of a"),
    ],
)
def test_errors_are_one_line_and_exit_code_one(warehouse: str, arguments: list[str], message: str):
    result = run(*arguments, warehouse=warehouse)
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.startswith("lakehouse: ")
    assert message in result.stderr
    assert result.stderr.count("\n") == 1
    assert "unexpected" not in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["nope"],
        ["scan"],
        ["scan", "db.t", "--format", "xml"],
        ["scan", "db.t", "--limit", "-1"],
        ["sql"],
        ["sql", "SELECT 1", "--file", "-"],
        ["sql", "--file", "no-such-file.sql"],
        ["changes", "db.t"],
        ["demo", "--source", "oracle"],
    ],
)
def test_wrong_usage_is_exit_code_two(warehouse: str, arguments: list[str]):
    result = run(*arguments, warehouse=warehouse)
    assert result.exit_code == 2
    assert "Usage:" in result.stderr


def test_a_damaged_file_is_named_in_one_line(warehouse: str):
    Path(warehouse, "db.db/t/snapshot/snapshot-2").write_text("{broken")
    result = run("scan", "db.t", warehouse=warehouse)
    assert result.exit_code == 1
    assert "snapshot-2: not a snapshot" in result.stderr


def test_an_unexpected_error_is_a_line_too_unless_asked_for(warehouse: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("lakehouse_cli.actions.open_catalog", lambda warehouse: 1 / 0)
    result = run("tables", warehouse=warehouse)
    assert result.exit_code == 1
    assert result.stderr.startswith("lakehouse: unexpected ZeroDivisionError: division by zero")
    monkeypatch.setenv("LAKEHOUSE_DEBUG", "1")
    assert isinstance(run("tables", warehouse=warehouse).exception, ZeroDivisionError)


def test_help_loads_little():
    script = """import sys
from lakehouse_cli.main import main
main(["--help"], standalone_mode=False)
print({"polars", "dagster", "rich"} & set(sys.modules))"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("set()\n")


def test_the_program_runs_by_itself(tmp_path: Path):
    done = subprocess.run(
        [sys.executable, "-m", "lakehouse_cli.main", "scan", "a.b"],
        env=os.environ | {"LAKEHOUSE_WAREHOUSE": str(tmp_path), "PYTHONPATH": os.getcwd()},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"lakehouse: there is no table a.b in {tmp_path}; the warehouse has no tables\n"

"""``lakehouse quarantine`` on a warehouse in a folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from lakehouse_assets.ingest import Ingester, Ingestion
from lakehouse_assets.sources.landing import LandingSource
from lakehouse_cli.main import main
from storage_engine import Catalog

DDL = """CREATE DATABASE ods;
CREATE TABLE ods.note (id STRING, size INT, event_time TIMESTAMP(3), op STRING, deleted BOOLEAN,
    PRIMARY KEY (id) NOT ENFORCED) WITH ('bucket' = '1', 'sequence.field' = 'event_time');
CREATE TABLE ods.quarantine (source_file STRING, line BIGINT, target STRING, reason STRING, raw STRING,
    quarantined_at TIMESTAMP(3), corrected STRING, replayed_at TIMESTAMP(3),
    PRIMARY KEY (source_file, line) NOT ENFORCED) WITH ('bucket' = '1', 'merge-engine' = 'partial-update')"""
INGESTIONS = (Ingestion(source_table="note", target="ods.note"),)
FILE = "note/1.jsonl"


def line(key: str, size: object) -> str:
    row = {"id": key, "size": size, "event_time": 1_000}
    return json.dumps({"op": "c", "before": None, "after": row, "source": {"ts_ms": 1_000}})


@pytest.fixture
def warehouse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "landing" / "note").mkdir(parents=True)
    text = "\n".join([line("a", 1), line("b", "big"), line("c", "\x1b[2J")])
    (tmp_path / "landing" / FILE).write_text(text)
    catalog = Catalog(str(tmp_path / "wh"))
    catalog.execute(DDL)
    Ingester(catalog, LandingSource(str(tmp_path / "landing")), INGESTIONS).run_batch()
    (tmp_path / "declared_notes.py").write_text(
        'from lakehouse_assets.ingest import Ingestion\nNOTES = [Ingestion(source_table="note", target="ods.note")]\n'
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return str(tmp_path / "wh")


def run(*arguments: str, warehouse: str) -> Result:
    return CliRunner().invoke(main, ["quarantine", *arguments], env={"LAKEHOUSE_WAREHOUSE": warehouse})


def replay(*arguments: str, warehouse: str) -> Result:
    return run("replay", "--ingestions", "declared_notes:NOTES", *arguments, "--format", "json", warehouse=warehouse)


def rows(*arguments: str, warehouse: str) -> list[dict[str, object]]:
    result = run(*arguments, "--format", "json", warehouse=warehouse)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def notes(warehouse: str) -> list[tuple[str, int]]:
    return Catalog(warehouse).table("ods.note").scan().select("id", "size").sort("id").collect().rows()


def test_lines_are_listed_with_file_line_and_reason(warehouse: str):
    first, second = rows("list", warehouse=warehouse)
    assert (first["source_file"], first["line"], first["target"], first["status"]) == (FILE, 2, "ods.note", "waiting")
    assert (first["reason"], first["raw"]) == ('size is no INT: "big"', line("b", "big"))
    assert second["line"] == 3
    assert rows("list", "--table", "ods.other", warehouse=warehouse) == []
    assert rows("list", "--status", "replayed", warehouse=warehouse) == []
    table = run("list", warehouse=warehouse).stdout
    assert "size is no INT" in table
    assert "ts_ms" not in table


def test_a_line_is_shown_whole(warehouse: str):
    (shown,) = rows("show", FILE, "2", warehouse=warehouse)
    assert shown["raw"] == line("b", "big")
    missing = run("show", FILE, "9", warehouse=warehouse)
    assert (missing.exit_code, missing.stdout) == (1, "")
    assert f"line 9 of {FILE} is not in ods.quarantine" in missing.stderr


def test_a_line_is_corrected_on_the_command_line(warehouse: str):
    done = replay(FILE, "2", "--text", line("b", 2), warehouse=warehouse)
    assert done.exit_code == 0
    assert done.stderr == "1 lines replayed, 0 still refused\n"
    assert notes(warehouse) == [("a", 1), ("b", 2)]
    assert [row["line"] for row in rows("list", warehouse=warehouse)] == [3]
    (marked,) = rows("list", "--status", "replayed", warehouse=warehouse)
    assert (marked["line"], marked["status"], marked["corrected"]) == (2, "replayed", line("b", 2))
    assert len(rows("list", "--status", "all", warehouse=warehouse)) == 2
    again = replay(FILE, "2", "--text", line("b", 3), warehouse=warehouse)
    assert again.exit_code == 1
    assert "does not wait" in again.stderr
    assert notes(warehouse) == [("a", 1), ("b", 2)]


def test_lines_are_corrected_in_a_file_that_the_list_made(warehouse: str, tmp_path: Path):
    listed = rows("list", warehouse=warehouse)
    fixed = [{**row, "raw": line(str(row["line"]), 7)} for row in listed]
    (tmp_path / "fixed.json").write_text(json.dumps(fixed))
    done = replay("--corrections", "fixed.json", warehouse=warehouse)
    assert done.exit_code == 0, done.output
    assert [row["reason"] for row in json.loads(done.stdout)] == [None, None]
    assert notes(warehouse) == [("2", 7), ("3", 7), ("a", 1)]


def test_all_waiting_lines_are_judged_after_the_table_was_fixed(warehouse: str):
    untouched = replay(warehouse=warehouse)
    assert (untouched.exit_code, untouched.stderr) == (0, "0 lines replayed, 2 still refused\n")
    catalog = Catalog(warehouse)
    catalog.execute("ALTER TABLE ods.note DROP size")
    catalog.execute("ALTER TABLE ods.note ADD size STRING")
    assert replay("--table", "ods.note", warehouse=warehouse).stderr == "2 lines replayed, 0 still refused\n"
    assert replay(warehouse=warehouse).stderr == "0 lines replayed, 0 still refused\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([FILE, "2", "--text", line("b", "no")], "1 still refused"),
        ([FILE, "1", "--text", line("a", 2)], f"line 1 of {FILE} does not wait in ods.quarantine"),
        (["--corrections", "declared_notes.py"], "expected a JSON array"),
        (["--quarantine", "ods.nope"], "there is no table ods.nope"),
        (["--ingestions", "declared_notes:NOPE"], "expected MODULE:NAME"),
        (["--ingestions", "lakehouse_assets.sprint.ods:INGESTIONS"], "no ingestion fills ods.note"),
    ],
)
def test_what_cannot_be_replayed_is_told(warehouse: str, arguments: list[str], message: str):
    result = replay(*arguments, warehouse=warehouse)
    assert result.exit_code == 1
    assert message in result.stderr
    assert "unexpected" not in result.stderr
    assert notes(warehouse) == [("a", 1)]


@pytest.mark.parametrize(
    "arguments",
    [[FILE], [FILE, "2"], ["--text", "x"], [FILE, "2", "--text", "x", "--corrections", "declared_notes.py"]],
)
def test_half_a_correction_is_wrong_usage(warehouse: str, arguments: list[str]):
    assert replay(*arguments, warehouse=warehouse).exit_code == 2

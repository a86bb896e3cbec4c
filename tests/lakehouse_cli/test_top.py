"""``lakehouse top``: on a real terminal, and once for scripts."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from click.testing import CliRunner

from lakehouse_assets.health import compaction_debt, table_health
from lakehouse_assets.project import Project
from lakehouse_assets.stream.declaration import Stream
from lakehouse_assets.stream.runner import run_batch
from lakehouse_cli.main import main
from lakehouse_cli.top_view import age, size
from storage_engine import Catalog

DDL = """
CREATE DATABASE ods;
CREATE TABLE ods.o (id STRING, n BIGINT, PRIMARY KEY (id) NOT ENFORCED)
    WITH ('bucket' = '1', 'changelog-producer' = 'lookup');
CREATE TABLE ods.copy (id STRING, n BIGINT, PRIMARY KEY (id) NOT ENFORCED) WITH ('bucket' = '1', 'write-only' = 'true');
"""
COPY = Stream(source="ods.o", target="ods.copy", transform=lambda rows: rows)
PATIENCE_S = 120


@pytest.fixture
def warehouse(tmp_path: Path) -> str:
    """One stream that is two changes behind."""
    catalog = Catalog(str(tmp_path))
    catalog.execute(DDL)
    for batch in range(2):
        catalog.table("ods.o").write(pl.DataFrame({"id": [f"a{batch}"], "n": [batch]}))
        run_batch(catalog, COPY)
    catalog.table("ods.o").write(pl.DataFrame({"id": ["b", "c"], "n": [1, 2]}))
    return str(tmp_path)


def test_once_gives_facts(warehouse: str) -> None:
    result = CliRunner().invoke(main, ["top", "--once", "--format", "json", "--warehouse", warehouse])
    assert result.exit_code == 0, result.output
    copy, source = json.loads(result.output)
    assert (copy["table"], copy["behind"], copy["sources"], copy["level0_files"]) == ("ods.copy", 2, "ods.o", 2)
    assert copy["debt_bytes"] == copy["file_bytes"] > 0
    assert (source["table"], source["behind"], source["rows"]) == ("ods.o", None, 4)
    assert source["rows_per_s"] > 0


def test_once_is_readable(warehouse: str) -> None:
    result = CliRunner(env={"COLUMNS": "160"}).invoke(main, ["top", "--once", "--warehouse", warehouse])
    assert result.exit_code == 0, result.output
    assert "streams" in result.output
    assert any(line.split()[:3] == ["ods.copy", "ods.o", "2"] for line in result.output.splitlines())


SQL = """
CREATE TABLE ods.o (id STRING, n BIGINT, PRIMARY KEY (id) NOT ENFORCED) WITH ('changelog-producer' = 'lookup');
CREATE TABLE ods.copy (id STRING, n BIGINT, PRIMARY KEY (id) NOT ENFORCED);
CREATE TABLE ods.other (id STRING, n BIGINT, PRIMARY KEY (id) NOT ENFORCED);
INSERT INTO ods.{target} SELECT id, n FROM ods.o;
"""
DECLARED = Project(name="copies", ddl=DDL, streams=(COPY,))


def behind_of(warehouse: str, *arguments: str) -> dict[str, tuple[int | None, str]]:
    shown = CliRunner().invoke(main, ["top", "--once", "--format", "json", "--warehouse", warehouse, *arguments])
    assert shown.exit_code == 0, shown.output
    return {row["table"]: (row["behind"], row["sources"]) for row in json.loads(shown.output)}


def test_a_named_project_says_which_streams_count(warehouse: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    Catalog(warehouse).execute("CREATE TABLE ods.other (id STRING, n BIGINT, PRIMARY KEY (id) NOT ENFORCED)")
    folders = {target: tmp_path_factory.mktemp(target) for target in ("copy", "other")}
    for target, folder in folders.items():
        (folder / "all.sql").write_text(SQL.format(target=target))
    copy, other = (("--sql", str(folder)) for folder in folders.values())
    waits, idle = {"ods.copy": (2, "ods.o")}, {"ods.o": (None, ""), "ods.other": (None, "")}
    assert behind_of(warehouse) == behind_of(warehouse, *copy) == {**idle, **waits}
    assert behind_of(warehouse, "--project", f"{__name__}:DECLARED") == {**idle, **waits}
    never_ran = {"ods.other": (4, "ods.o")}
    assert behind_of(warehouse, *other) == {**idle, "ods.copy": (None, ""), **never_ran}
    assert behind_of(warehouse, *copy, *other) == {**idle, **waits, **never_ran}
    shown = [
        CliRunner(env={"COLUMNS": "160"}).invoke(main, ["top", "--once", "--warehouse", warehouse, *arguments]).output
        for arguments in ((), copy)
    ]
    assert ["as of each table's last commit" in output for output in shown] == [True, False]
    refused = CliRunner().invoke(main, ["top", "--once", "--warehouse", warehouse, "--project", "nowhere"])
    assert refused.exit_code != 0
    assert "expected module:NAME of a Project" in refused.output


def test_numbers_stay_whole_on_a_narrow_terminal(warehouse: str) -> None:
    Catalog(warehouse).execute(
        "CREATE TABLE ods.a_table_of_a_rather_long_name_that_takes_more_than_half_of_the_line (id INT)"
    )
    shown = CliRunner(env={"COLUMNS": "80"}).invoke(main, ["top", "--once", "--warehouse", warehouse]).output
    assert "…" not in shown
    assert any(line.split()[:2] == ["ods.copy", "2"] and line.split()[-1] == "0" for line in shown.splitlines())


def test_what_cannot_be_told_is_named(warehouse: str) -> None:
    catalog = Catalog(warehouse)
    catalog.drop_table("ods.o")
    found = table_health(catalog, "ods.copy", now_ms=0)
    assert found.behind is None
    assert re.match("TableNotFound: .*ods.o", found.trouble)
    assert replace(found, trouble="").sources == ("ods.o",)


@pytest.mark.parametrize("columns", ["60", "160"])
def test_what_to_do_about_a_trouble_is_shown_whole(warehouse: str, columns: str) -> None:
    catalog = Catalog(warehouse)
    catalog.drop_table("ods.o")
    catalog.execute(DDL.split(";")[1])
    shown = CliRunner(env={"COLUMNS": columns}).invoke(main, ["top", "--once", "--warehouse", warehouse]).output
    words = " ".join(shown.split())
    assert "ods.copy: SourceRewound: table ods.o is at snapshot 0, but 4 was consumed: " in words
    assert "repair the whole target tables" in words, "it stands between the streams and the tables"
    assert all(len(line) <= int(columns) for line in shown.splitlines())


def test_debt_is_what_lies_above_another_level() -> None:
    files = pl.DataFrame(
        {
            "partition": ["a", "a", "a", "b", "c", "c"],
            "bucket": [0, 0, 0, 0, 0, 0],
            "level": [0, 4, 5, 5, 0, 0],
            "file_size_in_bytes": [1, 10, 100, 1000, 3, 4],
        }
    )
    assert compaction_debt(files) == 1 + 10 + 3 + 4


def test_it_lives_on_a_terminal_and_ends_by_ctrl_c(warehouse: str) -> None:
    control, terminal = pty.openpty()
    command = [sys.executable, "-m", "lakehouse_cli.main", "top", "--every", "0.1", "--warehouse", warehouse]
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "160", "LINES": "40"}
    process = subprocess.Popen(
        command, stdin=terminal, stdout=terminal, stderr=terminal, env=environment, close_fds=True
    )
    os.close(terminal)
    try:
        seen = read_until(control, lambda text: text.count("ods.copy") >= 4)
        assert "\x1b[?1049h" in seen
        process.send_signal(signal.SIGINT)
        rest = read_until(control, lambda text: "\x1b[?1049l" in text)
        assert "Traceback" not in rest
        assert process.wait(PATIENCE_S) == 0
    finally:
        process.kill()
        process.wait()
        os.close(control)


def read_until(control: int, enough: object) -> str:
    """What a terminal has shown, until it is enough."""
    seen, give_up = "", time.monotonic() + PATIENCE_S
    while not enough(seen):  # type: ignore[operator]
        assert time.monotonic() < give_up, seen[-2000:]
        if select.select([control], [], [], 1)[0]:
            seen += os.read(control, 65536).decode(errors="replace")
    return seen


def test_numbers_are_short() -> None:
    assert [age(each) for each in (None, 5, 5_000, 120_000, 7_200_000, 2 * 86_400_000)] == [
        "-", "5 ms", "5 s", "2 min", "2 h", "2 d",
    ]  # fmt: skip
    assert [size(each) for each in (0, 999, 1_000, 12_345, 5_000_000)] == ["0 B", "999 B", "1.0 KB", "12 KB", "5.0 MB"]

"""``lakehouse project``: a folder of SQL is checked and run from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest
from click.testing import CliRunner

from lakehouse_cli.main import main
from storage_engine import Catalog

SQL = """
CREATE TABLE ods.o (id STRING, item STRING, PRIMARY KEY (id) NOT ENFORCED) WITH ('bucket' = '1');
CREATE TABLE app.items (item STRING, orders BIGINT, PRIMARY KEY (item) NOT ENFORCED)
    WITH ('bucket' = '1', 'merge-engine' = 'aggregation', 'fields.orders.aggregate-function' = 'sum');
INSERT INTO app.items SELECT item, COUNT(*) FROM ods.o GROUP BY item;
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "sql").mkdir()
    (tmp_path / "sql" / "all.sql").write_text(SQL)
    return tmp_path / "sql"


def called(*arguments: str) -> str:
    result = CliRunner().invoke(main, ["project", *arguments])
    assert result.exit_code == 0, result.output
    return result.output


def test_it_is_checked(folder: Path) -> None:
    (found,) = json.loads(called("check", str(folder), "--format", "json"))
    assert (found["kind"], found["target"], found["source"], found["reads"]) == (
        "stream", "app.items", "ods.o", "changelog",
    )  # fmt: skip


def test_what_is_wrong_is_one_line(folder: Path) -> None:
    (folder / "b.sql").write_text(
        "INSERT INTO app.items SELECT item, COUNT(*) FROM ods.o\nGROUP BY item HAVING COUNT(*) > 1"
    )
    result = CliRunner().invoke(main, ["project", "check", str(folder)])
    assert result.exit_code == 1
    assert "b.sql, line " in result.output
    assert "HAVING" in result.output


def test_it_runs_until_nothing_is_left(folder: Path, tmp_path: Path) -> None:
    warehouse = str(tmp_path / "warehouse")
    called("run", str(folder), "--warehouse", warehouse)
    Catalog(warehouse).table("ods.o").write(pl.DataFrame({"id": ["1", "2"], "item": ["tea", "tea"]}))
    (moved,) = json.loads(called("run", str(folder), "--warehouse", warehouse, "--format", "json"))
    assert (moved["batches"], moved["rows_read"]) == (1, 2)
    assert Catalog(warehouse).table("app.items").scan().collect().rows() == [("tea", 2)]
    (again,) = json.loads(called("run", str(folder), "--warehouse", warehouse, "--format", "json"))
    assert again["batches"] == 0

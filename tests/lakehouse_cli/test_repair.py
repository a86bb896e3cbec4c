"""``lakehouse repair``: parts of a table from the command line, audited or not."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest
from click.testing import CliRunner

from lakehouse_assets.flink_sql.project import load_project
from lakehouse_assets.stream.runner import run_batch
from lakehouse_cli.main import main
from lakehouse_cli.repair_actions import parts_of
from storage_engine import Catalog
from storage_engine.errors import InvalidInput

SQL = """
CREATE TABLE ods.o (v_date STRING, id STRING, n BIGINT, PRIMARY KEY (v_date, id) NOT ENFORCED)
    PARTITIONED BY (v_date) WITH ('bucket' = '1');
CREATE TABLE dwd.o (v_date STRING, id STRING, n BIGINT, PRIMARY KEY (v_date, id) NOT ENFORCED)
    PARTITIONED BY (v_date) WITH ('bucket' = '1');
INSERT INTO dwd.o SELECT v_date, id, n FROM ods.o;
"""


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    (tmp_path / "all.sql").write_text(SQL)
    project = load_project(tmp_path / "all.sql")
    found = Catalog(str(tmp_path / "warehouse"))
    found.execute(project.ddl)
    found.table("ods.o").write(pl.DataFrame({"v_date": ["2024-01-01", "2024-01-02"], "id": ["a", "b"], "n": [1, 2]}))
    run_batch(found, project.streams[0])
    found.table("dwd.o").write(pl.DataFrame({"v_date": ["2024-01-01", "2024-01-02"], "id": ["a", "b"], "n": [9, 9]}))
    return found


def called(folder: Path, *arguments: str) -> dict[str, object]:
    where = ["--sql", str(folder / "all.sql"), "--warehouse", str(folder / "warehouse"), "--format", "json"]
    result = CliRunner().invoke(main, ["repair", "dwd.o", *where, *arguments])
    assert result.exit_code == 0, result.output
    return json.loads(result.output)[0]


def numbers(catalog: Catalog) -> list[int]:
    return catalog.table("dwd.o").scan().sort("id").collect()["n"].to_list()


def test_a_range_is_repaired(catalog: Catalog, tmp_path: Path) -> None:
    assert called(tmp_path, "--values", "2024-01-01..2024-01-01")["rows_written"] == 1
    assert numbers(catalog) == [1, 9]


def test_it_is_audited(catalog: Catalog, tmp_path: Path) -> None:
    found = called(tmp_path, "--audited")
    assert (found["added"], found["changed"], found["removed"]) == (0, 2, 0)
    assert numbers(catalog) == [1, 2]


def test_a_table_that_nothing_fills_is_told(catalog: Catalog, tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["repair", "ods.o", "--sql", str(tmp_path / "all.sql")])
    assert result.exit_code == 1
    assert "filled are dwd.o" in result.output


def test_parts_are_lists_days_or_months() -> None:
    assert parts_of("a, b") == ["a", "b"]
    assert parts_of("2024-02-28..2024-03-01") == ["2024-02-28", "2024-02-29", "2024-03-01"]
    assert parts_of("2023-12..2024-02") == ["2023-12", "2024-01", "2024-02"]
    for wrong in ("2024-01-02..2024-01-01", "monday..friday"):
        with pytest.raises(InvalidInput, match="--values"):
            parts_of(wrong)

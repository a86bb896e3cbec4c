"""A project as a component: YAML alone becomes assets, and Dagster's own command checks it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from lakehouse_assets.components import LakehouseProject
from lakehouse_assets.flink_sql import NotIncremental
from storage_engine import Catalog

YAML = """
type: lakehouse_assets.components.LakehouseProject
attributes:
  name: shop
  warehouse: {warehouse}
  database: ods
  sql: sql
  tables:
    - name: app.sales
      columns: {{v_date: STRING, item: STRING, orders: BIGINT, amount: "DECIMAL(20, 2)"}}
      primary_key: [v_date, item]
      partitioned_by: [v_date]
      comment: What was sold, by day and item
      options: {{merge-engine: aggregation, fields.default-aggregate-function: sum, bucket: "1"}}
  streams:
    - target: app.sales
      select: >
        SELECT v_date, item, COUNT(*), SUM(amount) FROM ods.orders {where} GROUP BY v_date, item
  partitions:
    v_date: {{start: "2024-01-01"}}
"""
ORDERS = """
CREATE TABLE orders (v_date STRING, id STRING, item STRING, amount DECIMAL(10, 2), PRIMARY KEY (v_date, id) NOT ENFORCED)
PARTITIONED BY (v_date) WITH ('bucket' = '1');
"""
PYPROJECT = """
[project]
name = "shop"
version = "0"
[tool.dg]
directory_type = "project"
[tool.dg.project]
root_module = "shop"
code_location_target_module = "shop.definitions"
"""
DEFINITIONS = """
from pathlib import Path
import dagster as dg

@dg.definitions
def defs():
    return dg.load_from_defs_folder(path_within_project=Path(__file__).parent)
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project of Dagster's own layout, with one component."""
    folder = tmp_path / "shop" / "defs" / "lake"
    (folder / "sql").mkdir(parents=True)
    (tmp_path / "pyproject.toml").write_text(PYPROJECT)
    (tmp_path / "shop" / "__init__.py").touch()
    (tmp_path / "shop" / "definitions.py").write_text(DEFINITIONS)
    (folder / "sql" / "orders.sql").write_text(ORDERS)
    (folder / "defs.yaml").write_text(YAML.format(warehouse=tmp_path / "warehouse", where=""))
    return tmp_path


def dg_command(project: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("dg")), *arguments]
    environment = os.environ | {"DAGSTER_HOME": "", "PYTHONPATH": str(project), "DAGSTER_DISABLE_TELEMETRY": "yes"}
    return subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, check=False)


def test_yaml_becomes_assets_that_run(project: Path) -> None:
    component = LakehouseProject.from_attributes_dict(
        attributes={
            "name": "shop",
            "warehouse": str(project / "warehouse"),
            "tables": [
                {"name": "ods.orders", "columns": {"id": "STRING", "item": "STRING"}, "primary_key": ["id"]},
                {
                    "name": "app.items",
                    "columns": {"item": "STRING", "orders": "BIGINT"},
                    "primary_key": ["item"],
                    "options": {"merge-engine": "aggregation", "fields.orders.aggregate-function": "sum"},
                },
            ],
            "streams": [{"target": "app.items", "select": "SELECT item, COUNT(*) FROM ods.orders GROUP BY item"}],
        }
    )
    definitions = component.definitions(Path())
    Catalog(str(project / "warehouse")).execute(component.read(project).ddl)
    catalog = Catalog(str(project / "warehouse"))
    catalog.table("ods.orders").write(pl.DataFrame({"id": ["1", "2"], "item": ["tea", "tea"]}))
    job = definitions.resolve_implicit_global_asset_job_def()
    assert job.execute_in_process(asset_selection=[dg.AssetKey(["stream", "app", "items"])]).success
    assert catalog.table("app.items").scan().collect().rows() == [("tea", 2)]


@pytest.mark.slow
def test_dagsters_own_command_lists_and_checks_it(project: Path) -> None:
    listed = dg_command(project, "list", "defs", "--json")
    assert listed.returncode == 0, listed.stderr
    assert all(key in listed.stdout for key in ('"app/sales"', '"stream/app/sales"', '"ods/orders"'))
    checked = dg_command(project, "check", "yaml")
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_an_environment_variable_that_is_not_set_is_told() -> None:
    with pytest.raises(ValueError, match=r"the warehouse is not told: set the environment variable"):
        LakehouseProject(name="shop", warehouse=None)  # type: ignore[arg-type]


def test_a_refusal_names_the_stream() -> None:
    component = LakehouseProject.from_attributes_dict(
        attributes={
            "name": "shop",
            "tables": [{"name": "ods.o", "columns": {"id": "STRING"}, "primary_key": ["id"]}],
            "streams": [{"target": "ods.o", "select": "SELECT id FROM ods.o LIMIT 1"}],
        }
    )
    with pytest.raises(NotIncremental, match=r"stream ods\.o, line 1.*LIMIT"):
        component.definitions(Path())

"""The documentation is true: its blocks run, its tables say what the code does."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest

from lakehouse_assets.definitions import SOURCES, definitions_of, defs
from lakehouse_assets.ingest import Ingester
from lakehouse_assets.sources.landing import LandingSource
from lakehouse_assets.sources.mysql.servers import REQUIRED_VARIABLES
from lakehouse_assets.sprint.dwd import MEMBER_ORDER
from lakehouse_assets.sprint.ods import INGESTIONS
from lakehouse_assets.sprint.tables import create_tables
from lakehouse_assets.stream.runner import StreamRunner
from lakehouse_demo.events import StreamConfig
from lakehouse_demo.landing import write_landing
from storage_engine import Catalog, errors
from storage_engine.errors import StorageEngineError
from storage_engine.options import _KEYS, TableOptions

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
PAGES = sorted(path.name for path in DOCS.glob("*.md"))
BLOCK = re.compile(r"^```([a-z]*)(?: (\S+))?\n(.*?)^```$", re.DOTALL | re.MULTILINE)
RUN = {"python", "sh"}
NOT_RUN = {"console", "ini", "json", "nginx", "sql", "yaml", ""}
ENGINE = "\n".join(
    path.read_text(encoding="utf-8") for path in (ROOT / "storage_engine").rglob("*.py") if path.name != "options.py"
)


def text_of(page: str) -> str:
    return (DOCS / page).read_text(encoding="utf-8")


def blocks(page: str) -> list[tuple[str, str | None, str]]:
    return [(language, name or None, code) for language, name, code in BLOCK.findall(text_of(page))]


def section(page: str, title: str) -> str:
    found = re.search(rf"^## {re.escape(title)}$(.*?)(?=^## |\Z)", text_of(page), re.DOTALL | re.MULTILINE)
    assert found, f"{page} has no section {title}"
    return found.group(1)


def cells(text: str) -> list[list[str]]:
    """Rows of the tables whose first cell is code, without backquotes."""
    rows = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("| `")]
    return [[cell.strip().strip("`") for cell in row] for row in rows]


# -- blocks that run ---------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder with this checkout's ``lakehouse`` on the path, and no settings of whoever runs the tests."""
    (tmp_path / "bin").mkdir()
    command = tmp_path / "bin" / "lakehouse"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m lakehouse_cli.main "$@"\n')
    command.chmod(0o755)
    place = tmp_path / "work"
    place.mkdir()
    monkeypatch.chdir(place)
    for name in [name for name in os.environ if name.startswith(("LAKEHOUSE_", "DAGSTER_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{Path(sys.executable).parent}:{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("DAGSTER_DISABLE_TELEMETRY", "1")
    monkeypatch.syspath_prepend(str(place))
    yield place
    sys.modules.pop("shop", None)


def run_page(page: str) -> None:
    names: dict[str, Any] = {"__name__": "__main__"}
    for language, file, code in blocks(page):
        if file is not None:
            Path(file).write_text(code, encoding="utf-8")
        elif language == "python":
            exec(compile(code, page, "exec"), names)
        elif language == "sh":
            done = subprocess.run(["bash", "-euo", "pipefail", "-c", code], capture_output=True, text=True, check=False)
            assert done.returncode == 0, f"{page}:\n{code}\n{done.stdout}\n{done.stderr}"


def sales_of_a_few_days() -> None:
    """A warehouse with orders up to DWD, in which one order has been lost."""
    catalog = Catalog("warehouse")
    create_tables(catalog)
    write_landing(StreamConfig(events=3_000, slices=1), "landing")
    Ingester(catalog, LandingSource("landing"), INGESTIONS).run_batch()
    StreamRunner(catalog, MEMBER_ORDER).run_batch()


def test_tutorial(folder: Path) -> None:
    run_page("tutorial.md")
    shop, catalog = sys.modules["shop"], Catalog("warehouse")
    assert sales(catalog) == [("milk", 1), ("tea", 0)]
    assert isinstance(asked("shop_ingestion"), dg.SkipReason)
    assert isinstance(asked("app_sales_stream"), dg.RunRequest)
    StreamRunner(catalog, shop.SALES).run_batch()
    assert sales(catalog) == [("milk", 2), ("tea", 0)]
    assert isinstance(asked("app_sales_stream"), dg.SkipReason)
    Path("landing/orders/000003.jsonl").write_text(Path("landing/orders/000002.jsonl").read_text())
    assert isinstance(asked("shop_ingestion"), dg.RunRequest)


def sales(catalog: Catalog) -> list[tuple[object, ...]]:
    return catalog.table("app.sales").scan().sort("item").select("item", "orders").collect().rows()


def asked(sensor: str) -> Any:
    """What a sensor of the tutorial's code location asks for now."""
    shop = sys.modules["shop"]
    (found,) = (each for each in shop.defs.sensors if each.name == sensor)
    with (
        dg.DagsterInstance.ephemeral() as instance,
        dg.build_sensor_context(instance=instance, resources=shop.defs.resources) as context,
    ):
        return found(context)


def test_repair(folder: Path) -> None:
    sales_of_a_few_days()
    orders = Catalog("warehouse").table("dwd.member_order")
    right = orders.scan().sort("id").collect()
    orders.delete(pl.col("v_date") == "2024-01-30")
    run_page("repair.md")
    assert orders.scan().sort("id").collect().equals(right)


@pytest.mark.parametrize("page", sorted({*PAGES} - {"tutorial.md", "repair.md"}))
def test_other_pages(folder: Path, page: str) -> None:
    if any(language == "sh" for language, _, _ in blocks(page)):
        catalog = Catalog("warehouse")
        create_tables(catalog)
    run_page(page)


@pytest.mark.parametrize("page", PAGES)
def test_every_block_says_whether_it_runs(page: str) -> None:
    assert {language for language, _, _ in blocks(page)} <= RUN | NOT_RUN
    assert text_of(page).count("```") == 2 * len(blocks(page))


@pytest.mark.parametrize("page", [*PAGES, "../README.md", "../CONTRIBUTING.md"])
def test_links_lead_somewhere(page: str) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", text_of(page)):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        linked = (DOCS / page).parent / path if path else DOCS / page
        assert linked.exists(), target
        if anchor:
            titles = re.findall(r"^#+ (.+)$", linked.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in {title.lower().replace(" ", "-").replace(",", "") for title in titles}, target


# -- tables that say what the code does --------------------------------------------------------------------------------


def acted_on(key: str) -> bool:
    """Whether the engine reads the field of an option outside of its parser, itself or through a property."""
    field = _KEYS[key][0]
    through = {"target-file-size": "target_file_size_bytes", "force-lookup": "needs_lookup"}
    return re.search(rf"\.{through.get(key, field)}\b", ENGINE) is not None


def test_honoured_options_are_those_that_the_engine_acts_on() -> None:
    named = [row[0] for row in cells(section("options.md", "Honoured"))]
    assert len(named) == len(set(named))
    assert {key for key in named if key in _KEYS} == {key for key in _KEYS if acted_on(key)}
    assert [key for key in named if key not in _KEYS and f'"{key}"' not in ENGINE] == []


def test_options_without_effect_are_those_that_the_engine_only_checks() -> None:
    named = {row[0] for row in cells(section("options.md", "Checked, without effect here"))}
    assert named == {key for key in _KEYS if not acted_on(key)}


def test_defaults_are_the_parser_s() -> None:
    rows = cells(section("options.md", "Honoured")) + cells(section("options.md", "Checked, without effect here"))
    defaults = TableOptions()
    for key, default, *_ in rows:
        if key in _KEYS:
            name, parse = _KEYS[key]
            assert (getattr(defaults, name) or None) == (parse(default) or None if default else None), key


def made(key: str, value: str) -> Any:
    options = {"bucket": "1", "merge-engine": "deduplicate", key: value}
    catalog = Catalog(f"memory://{uuid.uuid4()}")
    catalog.create_database("db")
    columns = {"id": "INT NOT NULL", "dt": "STRING NOT NULL", "v": "BYTES"}
    table = catalog.create_table("db.t", columns, primary_key=["dt", "id"], partitioned_by=["dt"], options=options)
    table.write(pl.DataFrame({"id": [1], "dt": ["2020-01-01"], "v": [b"x"]}, schema_overrides={"id": pl.Int32}))
    return table


@pytest.mark.parametrize(("key", "value"), [tuple(row[:2]) for row in cells(section("options.md", "Refused"))])
def test_refused_options_are_refused(key: str, value: str) -> None:
    with pytest.raises(StorageEngineError, match=re.escape(key)):
        made(key, value)


@pytest.mark.parametrize(("key", "value"), [tuple(row[:2]) for row in cells(section("options.md", "Kept and ignored"))])
def test_ignored_options_are_kept(key: str, value: str) -> None:
    table = made(key, value)
    assert table.schema.options[key] == value
    assert table.scan().collect().height == 1
    assert key not in _KEYS


def test_every_error_of_the_engine_is_explained() -> None:
    explained: set[str] = set()
    for line in section("operations.md", "Errors, and what to do").splitlines():
        explained |= set(re.findall(r"`(\w+)`", line.split("|")[1])) if line.startswith("| `") else set()
    leaves = {
        name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, StorageEngineError)
    }
    assert explained == leaves - {"StorageEngineError"}


def test_every_schedule_is_explained() -> None:
    named = {row[0] for row in cells(section("operations.md", "Upkeep"))}
    assert named == {schedule.name for schedule in defs.schedules or ()}


def test_settings_of_the_servers_are_those_that_are_checked() -> None:
    written = {
        kind: dict(re.findall(r"^(\w+)\s*= (\S+)$", code, re.MULTILINE))
        for kind, (_, _, code) in zip(
            ("MySQL", "MariaDB"), [block for block in blocks("sources.md") if block[0] == "ini"], strict=True
        )
    }
    for kind, given in written.items():
        wanted = {name: value for name, value in REQUIRED_VARIABLES[kind].items() if value}
        assert {**given, "log_bin": "ON"} == {**wanted, "server_id": "1"}


class Asked(dict[str, str]):
    """An environment that remembers what was asked for, and the default it was asked with."""

    def __init__(self, given: Mapping[str, str]) -> None:
        super().__init__(given)
        self.defaults: dict[str, str] = {}

    def get(self, name: str, default: Any = None) -> Any:
        self.defaults[name] = default
        return super().get(name, default)


def test_variables_and_their_defaults_are_those_of_the_code_location() -> None:
    head = text_of("sources.md").partition("## Landing files")[0]
    rows = {row[0]: row[1] for row in cells(head)}
    read: dict[str, str] = {}
    for source in SOURCES:
        environment = Asked({"LAKEHOUSE_SOURCE": source})
        definitions_of(environment)
        read |= environment.defaults
    passwords = {f"LAKEHOUSE_{server}_PASSWORD": "none" for server in ("KAFKA", "MARIADB", "MYSQL", "POSTGRES")}
    elsewhere = {**passwords, "LAKEHOUSE_START_DATE": "2024-01-01"}
    assert rows == read | elsewhere

"""Real Flink on a warehouse that the main job's own code filled: it reads every table, follows the changelogs, edits."""

from __future__ import annotations

import shutil
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from lakehouse_assets.ingest import Ingester
from lakehouse_assets.sources.landing import LandingSource
from lakehouse_assets.sprint.ods import INGESTIONS
from lakehouse_assets.sprint.tables import STREAMS, TABLES, create_tables
from lakehouse_assets.stream.runner import StreamRunner
from lakehouse_demo.app_tables import MEMBER_GROWTH, SPRINT_PERFORMANCE, compare
from lakehouse_demo.events import StreamConfig
from lakehouse_demo.landing import land, write_landing
from lakehouse_demo.truth import Rows, Truth, member_growth, recompute, sprint_performance
from storage_engine import Catalog, Table
from tests.interop.both import Both, Shared
from tests.interop.flink.canonical import Row, canon, canon_changes, in_order
from tests.interop.flink.server import Flink

CONFIG = StreamConfig(seed=7, events=3_000, days=4, slices=3)
ORDERS = "dwd.member_order"
PERFORMANCE = "app.sprint_performance"
FOLLOWED = ("ods.member", ORDERS, "dwd.member_month", PERFORMANCE)
REFERENCES = {"agent": "agent_id", "product": "product_id", "member": "member_id", "sprint": "sprint_id"}


class Warehouse:
    """A folder with the landed files and the tables that the streams make of them."""

    def __init__(self, folder: Path, flink: Flink) -> None:
        self.folder = folder
        self.landing = folder / "landing"
        self.both = Both(ours=Catalog(str(folder / "warehouse")), flink=flink.open(folder / "warehouse"))
        create_tables(self.both.ours)
        self._ingester = Ingester(self.both.ours, LandingSource(str(self.landing)), INGESTIONS)
        self._runners = [StreamRunner(self.both.ours, stream) for stream in STREAMS]

    def take_in(self) -> None:
        """Takes what has landed, and what is new in any table, through all layers."""
        moved = True
        while moved:
            moved = bool(self._ingester.run_batch())
            for runner in self._runners:
                moved |= runner.run_batch() is not None

    def table(self, name: str) -> Table:
        return self.both.ours.table(name)

    def shared(self, name: str) -> Shared:
        return Shared(both=self.both, name=name)

    def rows_in_flink(self, name: str, hint: str = "") -> list[Row]:
        """The rows that a Flink job reads, sorted. Quoted, since MEMBER is a word of Flink's SQL."""
        database, table = name.split(".")
        return self.both.flink.rows(f"SELECT * FROM `{database}`.`{table}` {hint}")


@pytest.fixture(scope="module")
def filled(flink: Flink, tmp_path_factory: pytest.TempPathFactory) -> Warehouse:
    """All but the last slice, taken in slice by slice. For reading; tags may be added."""
    warehouse = Warehouse(tmp_path_factory.mktemp("demo"), flink)
    for part in land(CONFIG, warehouse.landing):
        warehouse.take_in()
        if part.index == CONFIG.slices - 2:
            break
    return warehouse


@pytest.fixture
def edited(filled: Warehouse, flink: Flink, tmp_path: Path) -> Warehouse:
    """A copy of it, to write to."""
    shutil.copytree(filled.folder, tmp_path / "copy")
    return Warehouse(tmp_path / "copy", flink)


@pytest.mark.parametrize("name", TABLES)
def test_flink_reads_every_table(filled: Warehouse, name: str) -> None:
    ours = canon(filled.table(name).scan().collect())
    assert ours
    assert filled.rows_in_flink(name) == ours


@pytest.mark.parametrize("name", FOLLOWED)
def test_paimon_tells_the_same_changes_of_every_snapshot(filled: Warehouse, name: str) -> None:
    changes = filled.shared(name).new_changes()
    assert {kind for kind, _ in changes} >= {"+I", "-U", "+U"}
    assert in_order(state(filled.table(name), changes_in_order(filled.table(name))).values()) == canon(
        filled.table(name).scan().collect()
    )


@pytest.mark.parametrize("name", [ORDERS, PERFORMANCE])
def test_flink_streams_the_changes_up_to_the_state(filled: Warehouse, name: str) -> None:
    table = filled.table(name)
    streamed = filled.both.flink.stream(name, 0, latest(table)).changes()
    assert in_order(streamed) == in_order(changes_in_order(table))
    assert in_order(state(table, streamed).values()) == canon(table.scan().collect())


def test_flink_travels_to_our_snapshots_and_tags_and_we_to_its(filled: Warehouse) -> None:
    table = filled.table(PERFORMANCE)
    older = latest(table) // 2
    then = canon(table.scan(snapshot=older).collect())
    assert then != canon(table.scan().collect())
    assert filled.rows_in_flink(PERFORMANCE, f"/*+ OPTIONS('scan.snapshot-id' = '{older}') */") == then

    table.create_tag("ours", older)
    assert filled.rows_in_flink(PERFORMANCE, "/*+ OPTIONS('scan.tag-name' = 'ours') */") == then

    call = f"CALL sys.create_tag(`table` => '{PERFORMANCE}', tag => 'theirs', snapshot_id => CAST({older} AS BIGINT))"
    filled.both.flink.sql(call)
    assert canon(table.scan(tag="theirs").collect()) == then
    assert table.tags()["tag_name"].sort().to_list() == ["ours", "theirs"]


def test_flink_edits_and_compacts_and_the_streams_go_on(edited: Warehouse) -> None:
    before = recompute(edited.landing)
    write_landing(CONFIG, edited.landing)
    after = recompute(edited.landing)
    lasting = lasting_orders(before, after)
    shared = {name: edited.shared(name) for name in FOLLOWED}

    orders = edit_orders(edited, after.tables["member_order"], lasting)
    figures = edit_figures(edited)
    edited.both.flink.compact(ORDERS, full=False)
    for name in (ORDERS, PERFORMANCE):
        rows = shared[name].rows()
        shared[name].compact(by="flink")
        assert shared[name].rows() == rows
        shared[name].new_changes()

    edited.take_in()

    tables = {**after.tables, "member_order": orders}
    performance = edited.table(PERFORMANCE).scan().collect()
    assert compare(SPRINT_PERFORMANCE, after.sprint_performance, performance) != []
    assert compare(SPRINT_PERFORMANCE, with_figures(sprint_performance(tables), figures), performance) == []
    assert compare(MEMBER_GROWTH, member_growth(tables), edited.table(MEMBER_GROWTH.name).scan().collect()) == []
    for name in TABLES:
        edited.shared(name).rows()
    for followed in shared.values():
        followed.new_changes()
    assert edited.rows_in_flink(PERFORMANCE) == canon(performance)


def lasting_orders(before: Truth, after: Truth) -> list[dict[str, Any]]:
    """Paid orders that no stream writes again between two moments: neither they nor what they refer to changes."""

    def lasts(table: str, *key: str) -> bool:
        times = [truth.event_times[table].get(key, 0) for truth in (before, after)]
        return times[0] == times[1] and key in after.tables[table]

    def all_last(order: dict[str, Any]) -> bool:
        if not all(lasts(table, order[column]) for table, column in REFERENCES.items()):
            return False
        agent = after.tables["agent"][order["agent_id"],]
        member = after.tables["member"][order["member_id"],]
        return lasts("team", agent["team_id"]) and lasts("city", member["city_id"])

    orders = after.tables["member_order"].items()
    return [
        order for key, order in orders if order["status"] == "paid" and lasts("member_order", *key) and all_last(order)
    ]


def edit_orders(warehouse: Warehouse, orders: Rows, lasting: list[dict[str, Any]]) -> Rows:
    """Flink corrects, refunds, copies and deletes orders in DWD; returns the orders as they are then."""
    corrected, refunded, copied, deleted = lasting[:: len(lasting) // 4][:4]
    made = [
        corrected | {"amount": corrected["amount"] + Decimal("1000.5")},
        refunded | {"status": "refunded"},
        copied | {"id": "flink-1"},
    ]
    wide = warehouse.table(ORDERS).scan().collect()
    rows = [
        wide.filter(v_date=old["v_date"], id=old["id"]).with_columns(
            pl.lit("+U").alias("_row_kind"),
            pl.lit(new["id"]).alias("id"),
            pl.lit(new["amount"]).cast(pl.Decimal(20, 4)).alias("amount"),
            pl.lit(new["status"]).alias("status"),
        )
        for old, new in zip((corrected, refunded, copied), made, strict=True)
    ]
    flink = warehouse.both.flink
    flink.write(ORDERS, canon_changes(pl.concat(rows)))
    flink.sql(f"DELETE FROM dwd.member_order WHERE v_date = '{deleted['v_date']}' AND id = '{deleted['id']}'")
    gone = (deleted["v_date"], deleted["id"])
    kept = {key: order for key, order in orders.items() if key != gone}
    return kept | {(order["v_date"], order["id"]): order for order in made}


def edit_figures(warehouse: Warehouse) -> pl.DataFrame:
    """Flink adds to some figures in APP, and takes away from others; returns what is to be added to each."""
    table = warehouse.table(PERFORMANCE)
    rows = table.scan().collect().sort(SPRINT_PERFORMANCE.key)
    added, taken = rows.head(3), rows.tail(3)
    changes = pl.concat(
        [
            added.with_columns(pl.lit("+I").alias("_row_kind")),
            taken.with_columns(pl.lit("-D").alias("_row_kind")),
        ]
    )
    warehouse.both.flink.write(PERFORMANCE, canon_changes(changes))
    return pl.concat([added, taken.with_columns(pl.col(SPRINT_PERFORMANCE.measures).neg())])


def with_figures(truth: list[dict[str, Any]], figures: pl.DataFrame) -> list[dict[str, Any]]:
    """APP rows with figures added to them; a row that is not there is zero."""
    table = SPRINT_PERFORMANCE
    rows = {tuple(row[name] for name in table.key): dict(row) for row in truth}
    for figure in figures.iter_rows(named=True):
        row = rows.setdefault(tuple(figure[name] for name in table.key), {name: figure[name] for name in table.key})
        row.update({name: row.get(name, 0) + figure[name] for name in table.measures})
    return list(rows.values())


def latest(table: Table) -> int:
    snapshot = table.latest_snapshot()
    assert snapshot is not None
    return snapshot.id


def changes_in_order(table: Table) -> list[tuple[str, Row]]:
    return canon_changes(table.changes(0).collect())


def state(table: Table, changes: list[tuple[str, Row]]) -> dict[Row, Row]:
    """Key → row, after all changes one by one."""
    places = [table.schema.column_names.index(name) for name in table.schema.primary_keys]
    rows: dict[Row, Row] = {}
    for kind, row in changes:
        key = tuple(row[place] for place in places)
        if kind in ("+I", "+U"):
            rows[key] = row
        else:
            assert rows.pop(key) == row
    return rows

"""What a person sees and does in Dagster's pages: graph, a table's page, plots, checks, and a repair of some days."""

from __future__ import annotations

import time
from urllib.parse import quote

import polars as pl
from playwright.sync_api import Page, expect

from storage_engine import Catalog
from tests.browser.conftest import PATIENCE_MS, Camera
from tests.browser.site import PATIENCE_S, Site

DAYS = ["2024-01-29", "2024-01-30"]
ORDERS = "dwd.member_order"
LAYERS = '(group:"ods" or group:"dim" or group:"dwd" or group:"app") and not key:"ods/quarantine"'
OPENED = ",".join(f"global@global:{layer}" for layer in ("ods", "dwd", "app"))
RUNS = (
    '{ runsOrError(filter: {tags: [{key: "dagster/backfill", value: "%s"}]}) { ... on Runs { results { status } } } }'
)
BACKFILLS = "{ partitionBackfillsOrError { ... on PartitionBackfills { results { id status } } } }"


def opened(page: Page, site: Site, path: str, shows: str) -> None:
    page.goto(f"{site.url}{path}")
    expect(page.get_by_text(shows).first).to_be_visible(timeout=PATIENCE_MS)


def test_the_graph_shows_the_layers(page: Page, site: Site) -> None:
    opened(page, site, "/asset-groups", "maintenance")
    for layer in ("ods", "dim", "dwd", "app", "stream"):
        expect(page.get_by_text(layer, exact=True).first).to_be_visible(timeout=PATIENCE_MS)


def test_the_layers_opened_show_their_tables_and_checks(page: Page, site: Site, camera: Camera) -> None:
    page.set_viewport_size({"width": 1720, "height": 880})
    opened(page, site, f"/asset-groups~{quote(LAYERS, safe='()')}/", "dim")
    page.get_by_text("Hide navigation").click()
    page.goto(f"{page.url.partition('?')[0]}?expanded={quote(OPENED)}")
    for table in ("member", "member_order", "member_month", "member_growth", "sprint_performance"):
        expect(page.get_by_text(table, exact=True).first).to_be_visible(timeout=PATIENCE_MS)
    expect(page.get_by_text("5 / 5 Passed")).to_be_visible(timeout=PATIENCE_MS)
    expect(page.get_by_text("Loading...")).to_have_count(0, timeout=PATIENCE_MS)
    camera.take(page, "asset-graph", x=430, y=170, width=1230, height=550)


def test_a_tables_page_tells_what_it_is(page: Page, site: Site, camera: Camera) -> None:
    opened(page, site, "/assets/dwd/member_order", "category_name")
    body = page.locator("body")
    for text in (
        "Orders with their agent, team, product, member and city",
        "PRIMARY KEY (v_date, id)",
        "merge-engine=deduplicate",
        "DECIMAL(20, 4)",
        "day of the order, yyyy-mm-dd",
        "Row count",
        "Latest check results",
    ):
        expect(body).to_contain_text(text, timeout=PATIENCE_MS)
    for column in ("v_date", "id"):
        row = page.locator("tr", has_text=column).filter(has_text="primary key").first
        expect(row).to_contain_text("non-nullable", timeout=PATIENCE_MS)
    camera.take(page, "table-page")
    for text in ("last_snapshots", "stream-dwd.member_order", "dim.agent.team_id", "partition_row_count"):
        expect(body).to_contain_text(text, timeout=PATIENCE_MS)


def test_numbers_are_plotted(page: Page, site: Site, camera: Camera) -> None:
    opened(page, site, "/assets/stream/dwd/member_order", "rows_read")
    page.get_by_role("button", name="Plots").click()
    charts = page.locator("canvas")
    expect(charts.first).to_be_visible(timeout=PATIENCE_MS)
    for number in ("commit_ms", "rows_behind", "lookup_hit_rate"):
        expect(page.get_by_text(number).first).to_be_attached(timeout=PATIENCE_MS)
    assert charts.count() >= 5
    charts.first.scroll_into_view_if_needed()
    camera.take(page, "plots")


def test_checks_show_what_came_out(page: Page, site: Site, camera: Camera) -> None:
    opened(page, site, "/assets/dwd/member_order?view=checks&checkDetail=layers_agree", "layers_agree")
    for text in ("key_unique", "lag", "orders, amount are equal", "Passed"):
        expect(page.locator("body")).to_contain_text(text, timeout=PATIENCE_MS)
    camera.take(page, "checks")


def test_a_range_of_days_is_repaired_from_the_dialog_in_one_run(page: Page, site: Site, camera: Camera) -> None:
    orders = Catalog(site.warehouse).table(ORDERS)
    right = orders.scan().sort("id").collect()
    lost = right.filter(pl.col("v_date").is_in(DAYS)).height
    assert lost
    orders.delete(pl.col("v_date").is_in(DAYS))
    opened(page, site, "/assets/dwd/member_order", "category_name")
    page.get_by_role("button", name="Materialize…").click()
    page.get_by_text("Show all partitions").click()
    days = page.get_by_placeholder("ex: 2024-01-01", exact=False)
    days.fill(f"[{DAYS[0]}...{DAYS[1]}]")
    days.press("Enter")
    expect(page.get_by_text("2 partitions").first).to_be_visible(timeout=PATIENCE_MS)
    camera.take(page, "backfill")
    page.get_by_role("button", name="Launch backfill").click()
    give_up = time.monotonic() + PATIENCE_S
    while orders.scan().filter(pl.col("v_date").is_in(DAYS)).collect().height < lost:
        assert time.monotonic() < give_up, (site.folder / "log").read_text()[-3000:]
        time.sleep(1)
    assert orders.scan().sort("id").collect().equals(right)
    (backfill,) = site.asked(BACKFILLS)["partitionBackfillsOrError"]["results"]
    assert len(site.asked(RUNS % backfill["id"])["runsOrError"]["results"]) == 1

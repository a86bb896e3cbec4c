"""Refused lines: where they go, what is told of them, and how they come back."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest

from lakehouse_assets.ingest import QUARANTINE, Ingester, Ingestion
from lakehouse_assets.quarantine import CORRECTION_SCHEMA, counts, refused_lines, replay
from lakehouse_assets.sources.landing import LandingSource
from storage_engine import Catalog
from storage_engine.errors import InvalidRows

ORDERS = Ingestion(source_table="member_order", target="ods.member_order", days=("v_date",))
FILE = "member_order/000001.jsonl"


def line(number: int, *, status: str = "paid", time_ms: int = 1_000, **columns: object) -> str:
    row = {
        "v_date": "2024-01-05", "id": f"O{number}", "member_id": "M1", "agent_id": "A1", "product_id": "P1",
        "sprint_id": "S1", "order_type": "new", "quantity": 1, "amount": "10.0000", "status": status,
        "event_time": time_ms,
    }  # fmt: skip
    return json.dumps({"op": "c", "before": None, "after": row | columns, "source": {"ts_ms": time_ms}})


@pytest.fixture
def ingester(sprint_catalog: Catalog, tmp_path: Path) -> Ingester:
    lines = [line(1), line(2, quantity="two"), "no event", line(4, coupon="SPRING"), line(5)]
    (tmp_path / "member_order").mkdir()
    (tmp_path / FILE).write_text("\n".join(lines) + "\n")
    ingester = Ingester(sprint_catalog, LandingSource(str(tmp_path)), [ORDERS])
    ingester.run_batch()
    return ingester


def correction(number: int, text: str) -> pl.DataFrame:
    return pl.DataFrame([(FILE, number, text)], schema=CORRECTION_SCHEMA, orient="row")


def orders(catalog: Catalog) -> list[str]:
    return catalog.table("ods.member_order").scan().collect()["id"].sort().to_list()


def test_good_rows_are_committed_and_bad_lines_told_with_file_line_and_reason(
    sprint_catalog: Catalog, ingester: Ingester
):
    found = refused_lines(ingester.quarantine)
    assert orders(sprint_catalog) == ["O1", "O5"]
    assert found.select("source_file", "line", "target").rows() == [(FILE, n, "ods.member_order") for n in (2, 3, 4)]
    assert found["reason"].to_list() == [
        'quantity is no INT: "two"',
        "no JSON object in UTF-8, or one that is nested too deep",
        "unknown or repeated columns: coupon",
    ]
    assert found["raw"][0] == line(2, quantity="two")
    assert counts(ingester.quarantine) == {"ods.member_order": 3}


def test_a_corrected_line_comes_into_the_table_once_and_is_marked(sprint_catalog: Catalog, ingester: Ingester):
    table = sprint_catalog.table("ods.member_order")
    before = table.latest_snapshot().id
    verdict = replay(sprint_catalog, ORDERS, corrections=correction(2, line(2, quantity=2)))
    assert verdict.rows() == [(FILE, 2, "ods.member_order", None)]
    assert table.changes(before).select("_row_kind", "id", "quantity").collect().rows() == [("+I", "O2", 2)]
    (mark,) = refused_lines(ingester.quarantine, status="replayed").to_dicts()
    assert (mark["line"], mark["raw"]) == (2, line(2, quantity="two"))
    assert (mark["corrected"], mark["reason"]) == (line(2, quantity=2), 'quantity is no INT: "two"')
    assert counts(ingester.quarantine) == {"ods.member_order": 2}
    with pytest.raises(InvalidRows, match=f"line 2 of {FILE} does not wait"):
        replay(sprint_catalog, ORDERS, corrections=correction(2, line(2, quantity=3)))
    assert orders(sprint_catalog) == ["O1", "O2", "O5"]


def test_a_replay_that_was_killed_before_its_mark_changes_nothing_when_repeated(
    sprint_catalog: Catalog, ingester: Ingester
):
    marked_until = ingester.quarantine.latest_snapshot().id
    fix = correction(2, line(2, quantity=2))
    replay(sprint_catalog, ORDERS, corrections=fix)
    ingester.quarantine.rollback_to(marked_until)
    after_first = sprint_catalog.table("ods.member_order").latest_snapshot().id
    replay(sprint_catalog, ORDERS, corrections=fix)
    assert sprint_catalog.table("ods.member_order").changes(after_first, mode="diff").collect().is_empty()
    assert orders(sprint_catalog) == ["O1", "O2", "O5"]


def test_lines_are_replayed_as_they_stand_after_the_table_was_altered(sprint_catalog: Catalog, ingester: Ingester):
    sprint_catalog.execute("ALTER TABLE ods.member_order ADD coupon STRING AFTER status")
    verdict = replay(sprint_catalog, ORDERS)
    assert verdict.filter(pl.col("reason").is_null())["line"].to_list() == [4]
    assert verdict.filter(pl.col("line") == 2)["reason"].to_list() == ["missing columns: coupon"]
    row = sprint_catalog.table("ods.member_order").scan().filter(pl.col("id") == "O4").collect()
    assert row["coupon"].to_list() == ["SPRING"]
    (mark,) = refused_lines(ingester.quarantine, status="replayed").to_dicts()
    assert (mark["line"], mark["corrected"]) == (4, None)


def test_an_older_event_does_not_replace_a_newer_one(sprint_catalog: Catalog, ingester: Ingester, tmp_path: Path):
    (tmp_path / "member_order" / "000002.jsonl").write_text(line(2, status="refunded", time_ms=2_000))
    ingester.run_batch()
    replay(sprint_catalog, ORDERS, corrections=correction(2, line(2, quantity=2)))
    row = sprint_catalog.table("ods.member_order").scan().filter(pl.col("id") == "O2").collect()
    assert row["status"].to_list() == ["refunded"]


def test_a_line_that_a_repair_refuses_again_stays_replayed(sprint_catalog: Catalog, ingester: Ingester):
    replay(sprint_catalog, ORDERS, corrections=correction(2, line(2, quantity=2)))
    ingester.reload(ORDERS)
    assert refused_lines(ingester.quarantine)["line"].to_list() == [3, 4]
    assert refused_lines(ingester.quarantine, status="all").height == 3


@pytest.mark.parametrize(("text", "reason"), [("", "blank"), (line(2, id=None), "id is null"), ("{", "no JSON object")])
def test_a_correction_that_is_no_event_is_told_and_waits_on(
    sprint_catalog: Catalog, ingester: Ingester, text: str, reason: str
):
    (verdict,) = replay(sprint_catalog, ORDERS, corrections=correction(2, text)).to_dicts()
    assert verdict["reason"].startswith(reason)
    assert refused_lines(ingester.quarantine)["line"].to_list() == [2, 3, 4]


def test_a_line_may_be_corrected_once_a_replay(sprint_catalog: Catalog, ingester: Ingester):
    both = pl.concat([correction(2, line(2)), correction(2, line(2, quantity=7))])
    with pytest.raises(InvalidRows, match=f"line 2 of {FILE} is corrected twice"):
        replay(sprint_catalog, ORDERS, corrections=both)
    assert orders(sprint_catalog) == ["O1", "O5"]


def test_an_empty_quarantine_has_nothing_to_replay(sprint_catalog: Catalog):
    assert replay(sprint_catalog, ORDERS).is_empty()
    assert sprint_catalog.table(QUARANTINE).latest_snapshot() is None

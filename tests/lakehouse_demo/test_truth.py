"""The independent recomputation, against small folders whose figures are worked out by hand, and against
SQL."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest

from lakehouse_demo.events import StreamConfig
from lakehouse_demo.landing import write_landing
from lakehouse_demo.line_rules import MalformedLine, parse_line
from lakehouse_demo.malformed import KINDS, malformed_line
from lakehouse_demo.source_tables import SOURCE_TABLES
from lakehouse_demo.truth import Truth, recompute

MEMBER: dict[str, Any] = {"id": "M1", "name": "An", "city_id": "C1", "phone": None, "event_time": 1}
ORDER: dict[str, Any] = {
    "v_date": "2024-01-31",
    "id": "O1",
    "member_id": "M1",
    "agent_id": "A1",
    "product_id": "P1",
    "sprint_id": "S1",
    "order_type": "new",
    "quantity": 3,
    "amount": "10.0001",
    "status": "paid",
    "event_time": 1,
}
DIMENSIONS: list[tuple[str, str, dict[str, Any], int]] = [
    ("agent", "r", {"id": "A1", "name": "a", "team_id": "T1", "hired_on": "2020-01-01"}, 1),
    ("agent", "r", {"id": "A2", "name": "b", "team_id": "T1", "hired_on": None}, 1),
    (
        "product",
        "r",
        {"id": "P1", "name": "p", "category": "c", "category_name": "C", "score_weight": "0.3333"},
        1,
    ),
    ("member", "r", MEMBER, 1),
    ("member", "r", MEMBER | {"id": "M2", "city_id": "C2"}, 1),
]


def line(table: str, op: str, row: dict[str, Any], ts_ms: int) -> str:
    sides: dict[str, Any] = {"before": row, "after": None} if op == "d" else {"before": None, "after": row}
    return json.dumps({"op": op, **sides, "ts_ms": ts_ms, "source": {"db": "sales", "table": table, "ts_ms": ts_ms}})


def order(op: str = "c", ts_ms: int = 1, **columns: object) -> tuple[str, str, dict[str, Any], int]:
    return "member_order", op, ORDER | {"event_time": ts_ms} | columns, ts_ms


def landed(folder: Path, *files: list[tuple[str, str, dict[str, Any], int]]) -> Path:
    """Each list is one file of each of the tables in it."""
    for number, events in enumerate([DIMENSIONS, *files], start=1):
        for event in events:
            folder.joinpath(event[0]).mkdir(exist_ok=True)
            with folder.joinpath(event[0], f"{number:06d}.jsonl").open("a") as file:
                file.write(line(*event) + "\n")
    return folder


def performance(truth: Truth) -> list[tuple[Any, ...]]:
    return [tuple(group.values()) for group in truth.sprint_performance]


def growth(truth: Truth) -> list[tuple[Any, ...]]:
    return [tuple(group.values()) for group in truth.member_growth]


def test_paid_orders_are_summed_exactly(tmp_path: Path) -> None:
    truth = recompute(
        landed(
            tmp_path,
            [order(), order(id="O2", amount="0.0001", quantity=1), order(id="O3", status="refunded")],
        )
    )
    assert performance(truth) == [("2024-01-31", "S1", "T1", "A1", 2, Decimal("10.0002"), Decimal("1.3332"))]


def test_sums_beyond_the_precision_of_floats_are_exact(tmp_path: Path) -> None:
    orders = [order(id=f"O{number}", amount="1000000000000000.0001") for number in range(3)]
    assert recompute(landed(tmp_path, orders)).sprint_performance[0]["amount"] == Decimal("3000000000000000.0003")


def test_the_latest_change_wins_whatever_the_order_of_files(tmp_path: Path) -> None:
    truth = recompute(
        landed(tmp_path, [order("u", 30, amount="3.0000")], [order("c", 10), order("u", 20, amount="2.0000")])
    )
    assert truth.sprint_performance[0]["amount"] == Decimal(3)
    assert truth.event_times["member_order"] == {("2024-01-31", "O1"): 30}


def test_a_late_event_does_not_resurrect_a_deleted_order(tmp_path: Path) -> None:
    truth = recompute(landed(tmp_path, [order("c", 10)], [order("d", 30)], [order("u", 20)]))
    assert truth.tables["member_order"] == {}
    assert truth.event_times["member_order"] == {("2024-01-31", "O1"): 30}
    assert performance(truth) == growth(truth) == []


def test_a_duplicate_counts_once(tmp_path: Path) -> None:
    truth = recompute(landed(tmp_path, [order(), order()], [order()]))
    assert truth.sprint_performance[0]["orders"] == 1


def test_the_last_team_city_and_weight_count_for_all_orders(tmp_path: Path) -> None:
    changes: list[tuple[str, str, dict[str, Any], int]] = [
        ("agent", "u", {"id": "A1", "name": "a", "team_id": "T2", "hired_on": "2020-01-01"}, 9),
        (
            "product",
            "u",
            {"id": "P1", "name": "p", "category": "c", "category_name": "C", "score_weight": "2.0000"},
            9,
        ),
        ("member", "u", MEMBER | {"city_id": "C9", "event_time": 9}, 9),
    ]
    truth = recompute(landed(tmp_path, [order()], changes))
    assert performance(truth) == [("2024-01-31", "S1", "T2", "A1", 1, Decimal("10.0001"), Decimal(6))]
    assert growth(truth) == [("2024-01", "C9", "P1", 1, 0)]


def test_members_are_counted_once_per_month_and_type(tmp_path: Path) -> None:
    truth = recompute(
        landed(
            tmp_path,
            [
                order(),
                order(id="O2"),
                order(id="O3", order_type="renew"),
                order(id="O4", member_id="M2"),
                order(id="O5", v_date="2024-02-01"),
                order(id="O6", v_date="2024-02-02", status="refunded", order_type="renew"),
            ],
        )
    )
    assert growth(truth) == [
        ("2024-01", "C1", "P1", 1, 1),
        ("2024-01", "C2", "P1", 1, 0),
        ("2024-02", "C1", "P1", 1, 0),
    ]


def test_orders_without_their_member_count_nowhere_yet(tmp_path: Path) -> None:
    assert performance(recompute(landed(tmp_path, [order(member_id="M3")]))) == []


def test_reading_can_end_at_a_file(tmp_path: Path) -> None:
    folder = landed(tmp_path, [order("c", 10)], [order("u", 20, status="refunded")])
    names = {"agent": "000001.jsonl", "product": "000001.jsonl", "member": "000001.jsonl"}
    assert len(performance(recompute(folder, until=names | {"member_order": "000002.jsonl"}))) == 1
    assert performance(recompute(folder, until=names | {"member_order": "000003.jsonl"})) == []
    assert recompute(folder, until=names).tables["member_order"] == {}


def test_half_written_files_are_not_read(tmp_path: Path) -> None:
    folder = landed(tmp_path, [order()])
    (folder / "member_order" / ".000003.jsonl.tmp").write_text("{")
    assert recompute(folder).quarantined == ()


@pytest.mark.parametrize("kind", range(len(KINDS)), ids=[f"{table}: {name}" for table, name, _ in KINDS])
def test_each_kind_of_malformed_line_is_no_event(kind: int) -> None:
    table, text = malformed_line(kind, 1, v_date="2024-01-30", now_ms=1_706_600_000_000, seq=1)
    with pytest.raises(MalformedLine):
        parse_line(text.encode(errors="surrogateescape"), SOURCE_TABLES[table])


@pytest.mark.parametrize(("table", "op", "row"), [("member_order", "c", ORDER), ("member", "d", MEMBER)])
def test_a_well_formed_line_is_an_event(table: str, op: str, row: dict[str, Any]) -> None:
    event = parse_line(line(table, op, row, 5).encode(), SOURCE_TABLES[table])
    assert (event.op, event.event_time) == (op, 5)
    assert event.row == row | ({"amount": Decimal("10.0001")} if table == "member_order" else {})


def test_quarantine_of_a_generated_stream_is_what_the_generator_damaged(tmp_path: Path) -> None:
    summary = write_landing(StreamConfig(events=3_000, slices=5), tmp_path)
    truth = recompute(tmp_path)
    assert {(bad.table, bad.file, bad.line) for bad in truth.quarantined} == set(summary.malformed)
    assert len(truth.quarantined) == 48


def test_a_generated_stream_ends_without_dangling_references(tmp_path: Path) -> None:
    write_landing(StreamConfig(events=3_000, slices=5), tmp_path)
    truth = recompute(tmp_path)
    paid = sum(row["status"] == "paid" for row in truth.tables["member_order"].values())
    assert sum(group["orders"] for group in truth.sprint_performance) == paid > 500


LAST_STATE = """
    SELECT {columns} FROM (
        SELECT line ->> '$.op' AS op,
               json_extract(line, CASE line ->> '$.op' WHEN 'd' THEN '$.before' ELSE '$.after' END) AS image,
               row_number() OVER (PARTITION BY {key}
                                  ORDER BY (line ->> '$.source.ts_ms')::BIGINT DESC) AS place
        FROM read_csv('{folder}/{table}/*.jsonl', columns={{'line': 'JSON'}},
                      delim='\\x01', quote='', escape='', header=false))
    WHERE place = 1 AND op <> 'd'"""


def last_state(folder: Path, table: str) -> str:
    """SQL for the last rows of a table, by the window function that the case study replaced."""
    columns = ", ".join(f"image ->> '$.{name}' AS {name}" for name in SOURCE_TABLES[table].columns)
    key = ", ".join(
        f"coalesce(line ->> '$.after.{name}', line ->> '$.before.{name}')" for name in SOURCE_TABLES[table].key
    )
    return LAST_STATE.format(columns=columns, key=key, folder=folder, table=table)


def test_figures_of_a_generated_stream_equal_sql_over_the_same_files(tmp_path: Path) -> None:
    write_landing(StreamConfig(events=4_000, slices=5, malformed=0), tmp_path)
    with duckdb.connect() as database:
        for table in ("agent", "product", "member", "member_order"):
            database.execute(f"CREATE TABLE {table} AS {last_state(tmp_path, table)}")
        joined = """FROM member_order o JOIN agent a ON a.id = o.agent_id JOIN member m ON m.id = o.member_id
                    JOIN product p ON p.id = o.product_id
                    WHERE o.status = 'paid' GROUP BY ALL ORDER BY ALL"""
        sprint_performance = database.execute(
            f"""SELECT o.v_date, o.sprint_id, a.team_id, o.agent_id, count(*),
                       sum(o.amount::DECIMAL(20, 4)),
                       sum(p.score_weight::DECIMAL(20, 4) * o.quantity::INT) {joined}"""
        ).fetchall()
        member_growth = database.execute(
            f"""SELECT left(o.v_date, 7), m.city_id, o.product_id,
                       count(DISTINCT o.member_id) FILTER (o.order_type = 'new'),
                       count(DISTINCT o.member_id) FILTER (o.order_type = 'renew') {joined}"""
        ).fetchall()
    truth = recompute(tmp_path)
    assert performance(truth) == sprint_performance
    assert growth(truth) == member_growth
    assert len(performance(truth)) > 50

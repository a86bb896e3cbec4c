"""Debezium lines, held against rules that judge one line at a time and know nothing of Polars."""

from __future__ import annotations

import json
from datetime import date, datetime
from decimal import Decimal

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse_assets.sources.change_source import DELETED, OP, SourceTable
from lakehouse_assets.sources.debezium import parse
from lakehouse_assets.sources.errors import SourceUnsupported
from lakehouse_demo.line_rules import MalformedLine, parse_line
from lakehouse_demo.malformed import KINDS, malformed_line
from lakehouse_demo.source_tables import SOURCE_TABLES

DTYPES = {
    "STRING": pl.String(),
    "DAY": pl.String(),
    "INT": pl.Int32(),
    "DECIMAL(20,4)": pl.Decimal(20, 4),
    "DATE": pl.Date(),
    "TIMESTAMP(3)": pl.Datetime("ms"),
}


def expected_of(name: str) -> SourceTable:
    table = SOURCE_TABLES[name]
    return SourceTable(
        name=name,
        target=f"ods.{name}",
        columns={column: DTYPES[type_name] for column, type_name in table.columns.items()},
        required=frozenset({*table.key, "event_time"}),
        days=frozenset(column for column, type_name in table.columns.items() if type_name == "DAY"),
    )


ORDERS, AGENTS = expected_of("member_order"), expected_of("agent")
ROW = {
    "v_date": "2024-01-29",
    "id": "O1",
    "member_id": "M1",
    "agent_id": "A1",
    "product_id": "P1",
    "sprint_id": "S1",
    "order_type": "new",
    "quantity": 3,
    "amount": "12.5000",
    "status": "paid",
    "event_time": 1_706_500_000_123,
}


def event(op: str = "c", before: object = None, after: object = ROW, **more: object) -> dict[str, object]:
    return {"op": op, "before": before, "after": after, "ts_ms": 5, "source": {"ts_ms": 1_706_500_000_456}, **more}


def lines(*texts: str) -> pl.DataFrame:
    return pl.DataFrame({"raw": texts}, schema={"raw": pl.String}).select(
        pl.lit("member_order/1.jsonl").alias("source_file"), pl.int_range(1, pl.len() + 1).alias("line"), "raw"
    )


def only_row(*texts: str, table: SourceTable = ORDERS) -> dict[str, object]:
    rows, refused = parse(lines(*texts), table)
    assert refused.is_empty(), refused["reason"].to_list()
    assert rows.height == 1
    return rows.row(0, named=True)


def reason(text: str, table: SourceTable = ORDERS) -> str:
    rows, refused = parse(lines(text), table)
    assert rows.is_empty()
    return str(refused["reason"][0])


def test_an_insert_has_every_value_in_its_type() -> None:
    assert only_row(json.dumps(event())) == {
        **ROW,
        "amount": Decimal("12.5000"),
        OP: "c",
        DELETED: False,
        "event_time": datetime(2024, 1, 29, 3, 46, 40, 456000),
    }


def test_a_delete_is_the_row_before_it_at_the_time_of_the_change() -> None:
    row = only_row(json.dumps(event("d", before=ROW, after=None)))
    assert (row[OP], row[DELETED], row["id"]) == ("d", True, "O1")
    assert row["event_time"] == datetime(2024, 1, 29, 3, 46, 40, 456000)


def test_an_update_is_the_row_after_it() -> None:
    assert only_row(json.dumps(event("u", before={**ROW, "quantity": 1})))["quantity"] == 3


def test_the_order_of_members_and_white_space_do_not_matter() -> None:
    turned = dict(reversed(event(after=dict(reversed(ROW.items()))).items()))
    assert only_row("  " + json.dumps(turned, indent=1).replace("\n", "\t") + " \r")["id"] == "O1"


@pytest.mark.parametrize(
    "text", ["Ünïcödé 北京", 'a "quote" and a \\', "tab\t, line\n", "{}:,[]", '"after":{"id":1}', "😀", ""]
)
@pytest.mark.parametrize("ascii_only", [True, False])
def test_strings_come_as_they_are(text: str, ascii_only: bool) -> None:
    line = json.dumps(event(after={**ROW, "status": text}), ensure_ascii=ascii_only)
    assert only_row(line)["status"] == text


def test_nulls_are_nulls_where_they_may_be() -> None:
    row = only_row(json.dumps(event(after={**ROW, "amount": None, "quantity": None, "status": None})))
    assert (row["amount"], row["quantity"], row["status"]) == (None, None, None)


def test_dates() -> None:
    agent = {"id": "A1", "name": "An", "team_id": "T1", "hired_on": "2020-02-29"}
    table = SourceTable(
        name="agent", target="dim.agent", columns=dict(AGENTS.columns), required=frozenset({"id"}), days=frozenset()
    )
    assert only_row(json.dumps(event(after=agent)), table=table)["hired_on"] == date(2020, 2, 29)
    assert "hired_on" in reason(json.dumps(event(after={**agent, "hired_on": "2021-02-29"})), table)


def test_blank_lines_are_no_events() -> None:
    rows, refused = parse(lines("", "  ", "\t\r", json.dumps(event())), ORDERS)
    assert (rows.height, refused.height) == (1, 0)


def test_bad_lines_do_not_take_good_ones_with_them() -> None:
    rows, refused = parse(lines("{", json.dumps(event()), "[]", json.dumps(event("u"))), ORDERS)
    assert rows[OP].to_list() == ["c", "u"]
    assert refused["line"].to_list() == [1, 3]
    assert refused["raw"].to_list() == ["{", "[]"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"op":"c"', "no JSON"),
        ("NaN", "no JSON"),
        (json.dumps(event())[:-1] + ',"source":[1]}', "no JSON"),
        (json.dumps(event(after={**ROW, "status": {"a": 1}})), "too deep"),
        (json.dumps(event("x")), "op is x"),
        (json.dumps(event(after=None)), "after is no object"),
        (json.dumps(event("d")), "before is no object"),
        (json.dumps(event(after={**ROW, "id": None})), "id is null"),
        (json.dumps(event(after={**ROW, "id": 17})), "id is no STRING: 17"),
        (json.dumps(event(after={**ROW, "quantity": "3"})), 'quantity is no INT: "3"'),
        (json.dumps(event(after={**ROW, "quantity": 2.0})), "quantity is no INT: 2.0"),
        (json.dumps(event(after={**ROW, "quantity": True})), "quantity is no INT: true"),
        (json.dumps(event(after={**ROW, "quantity": 2**31})), "quantity is no INT"),
        (json.dumps(event(after={**ROW, "amount": 12.5})), "amount is no DECIMAL(20,4): 12.5"),
        (json.dumps(event(after={**ROW, "amount": "1.23456"})), "amount is no DECIMAL(20,4)"),
        (json.dumps(event(after={**ROW, "amount": "1" * 17})), "amount is no DECIMAL(20,4)"),
        (json.dumps(event(after={**ROW, "amount": "1e3"})), "amount is no DECIMAL(20,4)"),
        (json.dumps(event(after={**ROW, "v_date": "../../x"})), "v_date is no day"),
        (json.dumps(event(after={**ROW, "v_date": "2023-02-29"})), "v_date is no day"),
        (json.dumps(event(after={**ROW, "event_time": -1})), "event_time is no TIMESTAMP(3)"),
        (json.dumps(event(after={**ROW, "coupon": "x", "b": 1})), "unknown or repeated columns: b, coupon"),
        (json.dumps(event(after={key: ROW[key] for key in ROW if key != "id"})), "missing columns: id"),
        (json.dumps(event())[:-1].replace('"id":', '"id":"x","id":', 1) + "}", "repeated"),
        (json.dumps(event(source={"ts_ms": "now"})), 'source.ts_ms is "now"'),
        (json.dumps(event(source=None)), "source.ts_ms is missing"),
        ('{"after":{"v\\ud800": 1}}', "no JSON"),
    ],
)
def test_each_rule_says_what_is_wrong(text: str, words: str) -> None:
    assert words in reason(text)


@pytest.mark.parametrize("kind", range(len(KINDS)), ids=[f"{table}: {what}" for table, what, _ in KINDS])
def test_every_kind_of_malformed_line_is_refused(kind: int) -> None:
    table, text = malformed_line(kind, 1, v_date="2024-01-29", now_ms=1_706_500_000_000, seq=1)
    escaped = text.encode(errors="surrogateescape").decode("utf-8", errors="backslashreplace")
    rows, refused = parse(lines(escaped), expected_of(table))
    assert (rows.height, refused.height) == (0, 1)


def test_a_column_that_has_no_json_form_is_told() -> None:
    table = SourceTable(name="t", target="ods.t", columns={"id": pl.List(pl.Int64())}, required=frozenset())
    with pytest.raises(SourceUnsupported, match=r"column id of ods\.t is List\(Int64\)"):
        parse(lines(json.dumps(event())), table)


VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**33), 2**33),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(blacklist_categories=["Cs"]), max_size=12),
    st.sampled_from(["2024-01-29", "2024-13-01", "12.5", "-0.0001", "1.00001", "99999999999999999", "-1", "paid"]),
    st.just({}),
    st.just([1]),
)


@given(
    op=st.sampled_from(["c", "u", "d", "r", "x", "", None, 1]),
    changes=st.dictionaries(st.sampled_from([*ROW, "other"]), VALUES, max_size=3),
    dropped=st.sets(st.sampled_from(list(ROW)), max_size=1),
    time=st.one_of(st.integers(-1, 2**48), st.none(), st.text(max_size=3)),
    cut=st.one_of(st.none(), st.integers(0, 400)),
)
def test_lines_are_judged_as_one_by_one(
    op: object, changes: dict[str, object], dropped: set[str], time: object, cut: int | None
) -> None:
    row = {key: value for key, value in {**ROW, **changes}.items() if key not in dropped}
    side = {"before": row, "after": None} if op == "d" else {"before": None, "after": row}
    text = json.dumps({"op": op, **side, "ts_ms": 1, "source": {"ts_ms": time}})[:cut]
    rows, refused = parse(lines(text), ORDERS)
    if not text.strip():
        assert rows.is_empty()
        assert refused.is_empty()
        return
    try:
        expected = parse_line(text.encode(), SOURCE_TABLES["member_order"])
    except MalformedLine:
        assert (rows.height, refused.height) == (0, 1)
        return
    assert refused.is_empty(), refused["reason"][0]
    found = rows.row(0, named=True)
    assert found[OP] == expected.op
    assert {key: found[key] for key in row if key != "event_time"} == {
        key: value for key, value in expected.row.items() if key != "event_time"
    }


def test_refused_lines_of_several_files_are_explained() -> None:
    files = [
        lines(json.dumps(event()), json.dumps(event(op="x"))),
        lines(*[json.dumps(event())] * 3),
        lines(json.dumps(event(after={**ROW, "quantity": "many"})), json.dumps(event())),
        lines(*[json.dumps(event())] * 2),
    ]
    rows, refused = parse(pl.concat(files, rechunk=False), ORDERS)
    assert rows.height == 7
    assert refused["reason"].to_list() == ['quantity is no INT: "many"', "op is x"]

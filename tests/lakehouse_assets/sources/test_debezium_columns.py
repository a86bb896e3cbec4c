"""Many lines at a time, good and bad ones mixed, held against a judge that takes one line at a time with plain Python."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse_assets.sources.change_source import OP
from lakehouse_assets.sources.debezium import parse
from lakehouse_assets.sources.debezium_columns import certain_rows
from lakehouse_assets.sources.debezium_fields import AT
from lakehouse_demo.line_rules import ChangeEvent, MalformedLine, parse_line
from lakehouse_demo.source_tables import SOURCE_TABLES
from tests.effort import examples
from tests.lakehouse_assets.sources.test_debezium import ORDERS, ROW, VALUES, event, lines

TEXTS = st.text(st.characters(blacklist_categories=["Cs"]), max_size=8)
CHANGES = st.dictionaries(st.sampled_from(list(ROW)), st.one_of(VALUES, TEXTS), max_size=2)
ENVELOPES: list[dict[str, object]] = [
    {},
    {"transaction": None},
    {"schema": {"version": 1}},
    {"more": [1]},
    {"more": {"deep": {"er": 1}}},
    {"more": {"list": []}},
    {"source": {"ts_ms": 1_706_500_000_456, "db": "sales", "pos": 1.5, "snapshot": "2024-01-01T00:00:00Z"}},
    {"source": {"ts_ms": "soon"}},
    {"source": None},
    {"op": "x"},
]
SPOILT: list[Callable[[str], str]] = [
    lambda text: text[:-1],
    lambda text: text + text,
    lambda text: text + "\n" + text,
    lambda text: text.replace(", ", ",\n", 1),
    lambda text: text.replace('"quantity": 3', '"quantity": NaN'),
    lambda text: text.replace('"ts_ms": 5', '"ts_ms": NaN'),
    lambda text: text.replace('"quantity": 3', '"quantity": 03'),
    lambda text: text.replace('"quantity": 3', '"quantity": 3, "quantity": 3'),
    lambda text: text.replace('"status"', '"state"'),
    lambda text: text.replace('"status": "paid", ', ""),
    lambda text: text.replace('"status": "paid"', '"status": "\\ud800"'),
    lambda text: text.replace('"status": "paid"', '"status": "\x00"'),
    lambda text: text.replace('"amount": "12.5000"', '"amount": null'),
    lambda text: text.replace('"status": "paid"', '"status": "}{"').replace('"amount": "12.5000"', '"amount": null'),
    lambda text: f" \t{text} \r",
    lambda text: json.dumps(json.loads(text), separators=(",", ":")),
    lambda text: f"[{text}]",
    lambda text: "null",
    lambda text: "\ufeff" + text,
]


def _strict(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a member comes twice")
    return found


def _refused_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def judged(text: str) -> ChangeEvent | None:
    """The event of a line, or None: JSON of one line, no deeper than an object in the envelope, without lone surrogates."""
    try:
        envelope = json.loads(text, object_pairs_hook=_strict, parse_constant=_refused_constant)
        json.dumps(envelope, ensure_ascii=False).encode()
        if "\n" in text or not isinstance(envelope, dict):
            return None
        inner = [value for side in envelope.values() if isinstance(side, dict) for value in side.values()]
        if any(isinstance(value, list) for value in envelope.values()) or any(
            isinstance(value, dict | list) for value in inner
        ):
            return None
        return parse_line(text.encode(), SOURCE_TABLES["member_order"])
    except (ValueError, MalformedLine):
        return None


def hold_against_the_judge(texts: list[str]) -> None:
    rows, refused = parse(lines(*texts), ORDERS)
    expected = [judged(text) for text in texts]
    assert refused["line"].to_list() == [number for number, found in enumerate(expected, 1) if found is None]
    assert refused["raw"].to_list() == [text for text, found in zip(texts, expected, strict=True) if found is None]
    assert refused["reason"].null_count() == 0
    good = [found for found in expected if found is not None]
    assert rows[OP].to_list() == [found.op for found in good]
    assert rows["event_time"].dt.epoch("ms").to_list() == [found.event_time for found in good]
    names = [name for name in ROW if name != "event_time"]
    assert rows.select(names).to_dicts() == [{name: found.row[name] for name in names} for found in good]


@st.composite
def other_lines(draw: st.DrawFn) -> dict[int, str]:
    """Some lines of two hundred that are changed, put into another envelope, or spoilt."""
    texts: dict[int, str] = {}
    for place in draw(st.lists(st.integers(0, 199), max_size=12)):
        row = {**ROW, "id": f"O{place}", **draw(CHANGES)}
        op = draw(st.sampled_from(["c", "u", "d"]))
        sides = {"before": row, "after": None} if op == "d" else {"after": row}
        made = {**event(op, **sides), **draw(st.sampled_from(ENVELOPES))}
        text = json.dumps(made, ensure_ascii=draw(st.booleans()))
        texts[place] = draw(st.sampled_from(SPOILT))(text) if draw(st.booleans()) else text
    return texts


@given(other=other_lines())
@settings(max_examples=examples(25))
def test_many_lines_are_judged_as_one_by_one(other: dict[int, str]) -> None:
    usual = [json.dumps(event("cur"[number % 3], after={**ROW, "id": f"O{number}"})) for number in range(200)]
    hold_against_the_judge([other.get(number, text) for number, text in enumerate(usual)])


@pytest.mark.parametrize("number", range(len(SPOILT)))
def test_one_spoilt_line_among_good_ones(number: int) -> None:
    texts = [json.dumps(event(after={**ROW, "id": f"O{place}"})) for place in range(150)]
    texts[70] = SPOILT[number](texts[70])
    hold_against_the_judge(texts)


@pytest.mark.parametrize("envelope", ENVELOPES)
def test_one_other_envelope_among_good_ones(envelope: dict[str, object]) -> None:
    texts = [json.dumps(event("d", before={**ROW, "id": f"O{place}"}, after=None)) for place in range(150)]
    texts[70] = json.dumps({**event(), **envelope})
    hold_against_the_judge(texts)


def test_few_lines_are_left_to_be_judged_one_by_one() -> None:
    texts = [json.dumps(event(after={**ROW, "id": f"O{place}", "amount": None})) for place in range(4096)]
    texts[1000] = texts[1000][:-3]
    certain, left = certain_rows(lines(*texts), "raw", ORDERS)
    assert certain.height + left.height == 4096
    assert left.height <= 64
    assert pl.concat([certain[AT], left[AT]]).n_unique() == 4096

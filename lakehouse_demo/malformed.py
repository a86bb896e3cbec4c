"""Lines that a source should never send, one maker per kind of damage.

Each starts from a well-formed insert whose keys (``Q…``) no other event uses, so that a reader who lets one
through shows it in the figures, and breaks exactly one rule of ``source_tables``. Lone surrogates stand for
bytes that are no UTF-8.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

Envelope: TypeAlias = dict[str, Any]
Maker: TypeAlias = Callable[[Envelope], str]

_ROWS: Final[Mapping[str, Mapping[str, object]]] = {
    "member_order": {
        "v_date": "",
        "id": "",
        "member_id": "M00000001",
        "agent_id": "A0001",
        "product_id": "P01",
        "sprint_id": "S1",
        "order_type": "new",
        "quantity": 1,
        "amount": "99.0000",
        "status": "paid",
        "event_time": 0,
    },
    "member": {"id": "", "name": "Nobody", "city_id": "C01", "phone": None, "event_time": 0},
    "product": {
        "id": "",
        "name": "No product",
        "category": "ads",
        "category_name": "Advertising",
        "score_weight": "1.0000",
    },
    "agent": {"id": "", "name": "Nobody", "team_id": "T001", "hired_on": "2020-01-01"},
}


def malformed_line(kind: int, number: int, *, v_date: str, now_ms: int, seq: int) -> tuple[str, str]:
    """(table, line) of the ``number``-th malformed line, of the kind at place ``kind`` of ``KINDS``."""
    table, _, maker = KINDS[kind]
    row = dict(_ROWS[table]) | {"id": f"Q{number:06d}"}
    if "v_date" in row:
        row["v_date"] = v_date
    if "event_time" in row:
        row["event_time"] = now_ms
    source = {"db": "sales", "table": table, "ts_ms": now_ms, "seq": seq}
    return table, maker({"op": "c", "before": None, "after": row, "ts_ms": now_ms + 25, "source": source})


def _text(envelope: object) -> str:
    return json.dumps(envelope, ensure_ascii=False, separators=(",", ":"))


def _always(line: str) -> Maker:
    return lambda _: line


def _set(column: str, value: object) -> Maker:
    return lambda envelope: _text(envelope | {"after": envelope["after"] | {column: value}})


def _drop(column: str) -> Maker:
    return lambda envelope: _text(
        envelope | {"after": {name: value for name, value in envelope["after"].items() if name != column}}
    )


def _envelope_set(**values: object) -> Maker:
    return lambda envelope: _text(envelope | values)


def _envelope_drop(name: str) -> Maker:
    return lambda envelope: _text({key: value for key, value in envelope.items() if key != name})


def _truncated(envelope: Envelope) -> str:
    return _text(envelope)[:-40]


def _not_utf8(envelope: Envelope) -> str:
    return _text(envelope).replace("S1", "S\udcff\udcfe")


def _delete_without_key(envelope: Envelope) -> str:
    return _text(envelope | {"op": "d", "before": envelope["after"] | {"id": None}, "after": None})


KINDS: Final[tuple[tuple[str, str, Maker], ...]] = (
    ("member_order", "truncated JSON", _truncated),
    ("member_order", "missing key", _drop("id")),
    ("member_order", "null key", _set("id", None)),
    ("member_order", "wrong type: text for an integer", _set("quantity", "three")),
    ("member_order", "decimal overflow", _set("amount", "123456789012345678.0000")),
    ("member_order", "unknown column", _set("coupon_code", "SPRING")),
    ("member_order", "hostile v_date", _set("v_date", "../../x")),
    ("member_order", "unknown op", _envelope_set(op="x")),
    ("member", "truncated JSON", _truncated),
    ("member", "null key", _set("id", None)),
    ("member", "unknown column", _set("loyalty", 7)),
    ("member_order", "no JSON", _always("ERROR 1317 (70100): Query execution was interrupted")),
    ("member_order", "bytes that are no UTF-8", _not_utf8),
    ("member_order", "JSON array", _always("[]")),
    ("member_order", "JSON number", _always("17")),
    ("member_order", "empty object", _always("{}")),
    ("member_order", "null v_date", _set("v_date", None)),
    ("member_order", "v_date with a NUL", _set("v_date", "2024-01-30\0")),
    ("member_order", "v_date that is no day of the calendar", _set("v_date", "2024-02-30")),
    ("member_order", "v_date of 300 characters", _set("v_date", "2024-01-30" * 30)),
    ("member_order", "missing column", _drop("amount")),
    ("member_order", "wrong type: fraction for an integer", _set("quantity", 2.5)),
    ("member_order", "integer overflow", _set("quantity", 3_000_000_000)),
    ("member_order", "wrong type: comma in a decimal", _set("amount", "12,50")),
    ("member_order", "decimal with too many fraction digits", _set("amount", "1.23456")),
    ("member_order", "wrong type: list for a decimal", _set("amount", ["1.0000"])),
    ("member_order", "wrong type: text for a time", _set("event_time", "yesterday")),
    ("member_order", "null event_time", _set("event_time", None)),
    ("member_order", "null op", _envelope_set(op=None)),
    ("member_order", "missing op", _envelope_drop("op")),
    ("member_order", "insert without after", _envelope_set(after=None)),
    ("member_order", "after that is no object", _envelope_set(after="paid")),
    ("member_order", "missing source", _envelope_drop("source")),
    ("member_order", "change time that is no integer", _envelope_set(source={"ts_ms": "now"})),
    ("member_order", "delete without before", _envelope_set(op="d", after=None)),
    ("member_order", "delete with a null key", _delete_without_key),
    ("member", "missing key", _drop("id")),
    ("member", "number for a key", _set("id", 17)),
    ("member", "object for a name", _set("name", {"first": "No", "last": "Body"})),
    ("member", "unknown op", _envelope_set(op="truncate")),
    ("product", "decimal overflow", _set("score_weight", "99999999999999999.9999")),
    ("product", "wrong type: true for a decimal", _set("score_weight", True)),
    ("agent", "date that is no day of the calendar", _set("hired_on", "2023-13-01")),
    ("agent", "missing key", _drop("id")),
)
"""(table, what is wrong, maker), the most telling kinds first."""

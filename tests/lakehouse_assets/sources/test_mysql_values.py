"""Values of MySQL in both forms, without a server; against one stand in ``test_mysql``."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from lakehouse_assets.sources.mysql.json_documents import json_text
from lakehouse_assets.sources.mysql.values import CONVERSIONS, ColumnFacts


def convert(kind: str, value: Any, *, text: str = "", precision: int | None = None, digits: int | None = None) -> Any:
    facts = ColumnFacts(text=text, unsigned=False, precision=precision, scale=None, time_precision=digits)
    return CONVERSIONS[kind](facts)(value)


@pytest.mark.parametrize(
    ("value", "digits", "written"),
    [
        (timedelta(0), 0, "00:00:00"),
        (timedelta(hours=838, minutes=59, seconds=59), 0, "838:59:59"),
        (-timedelta(hours=25, minutes=1, seconds=2), None, "-25:01:02"),
        (timedelta(seconds=1, microseconds=40_000), 3, "00:00:01.040"),
        (-timedelta(microseconds=500_000), 6, "-00:00:00.500000"),
    ],
)
def test_a_time_is_as_the_server_writes_it(value: timedelta, digits: int | None, written: str) -> None:
    assert convert("time", value, digits=digits) == written


def test_bits_of_both_forms_are_the_same() -> None:
    assert [convert("bit", value, precision=1) for value in ("1", "0", b"\x01", b"\x00")] == [True, False, True, False]
    assert convert("bit", "00001111", precision=12) == convert("bit", b"\x00\x0f", precision=12) == b"\x00\x0f"


def test_a_set_is_in_the_order_of_its_type() -> None:
    kind = "set('it''s','b','a')"
    assert convert("set", {"a", "it's"}, text=kind) == convert("set", "it's,a", text=kind) == "it's,a"
    assert convert("set", set(), text=kind) == ""


@pytest.mark.parametrize(
    ("binary", "written", "text"),
    [
        (b"", "null", "null"),
        (b"\x04\x01", "true", "true"),
        (b"\x05\xff\xff", "-1", "-1"),
        (b"\x0b" + bytes(6) + b"\x14\x40", "5.0", "5.0"),
        (b"\x0c\x03\xe2\x82\xac", '"€"', '"€"'),
        (b"\x00\x01\x00\x0c\x00\x0b\x00\x01\x00\x05\x02\x00a", '{"a": 2}', '{"a":2}'),
        (b"\x02\x00\x00\x04\x00", "[]", "[ ]"),
        (b"\x0f\xf6\x04\x03\x02\x81\x32", "1.5", "1.50"),
        (b"\x0f\xfc\x02ab", '"base64:type252:YWI="', '"base64:type252:YWI="'),
    ],
)
def test_a_document_is_the_same_text_from_both_forms(binary: bytes, written: str, text: str) -> None:
    assert (json_text(binary), json_text(text)) == (written, written)


@pytest.mark.parametrize("damaged", [b"\x05\x01", b"\x0b\x00", b"\x00\x05\x00", b"\x63\x00", b"\x04"])
def test_a_damaged_document_is_told(damaged: bytes) -> None:
    with pytest.raises(ValueError, match="JSON"):
        json_text(damaged)

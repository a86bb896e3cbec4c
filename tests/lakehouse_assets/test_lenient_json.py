"""JSON as Flink takes it: other members, missing ones, nested ones, and values in other forms; never rounded, never lost."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse_assets.ingest import Ingester, Ingestion
from lakehouse_assets.quarantine import CORRECTION_SCHEMA, refused_lines, replay
from lakehouse_assets.sources.errors import SourceUnsupported
from lakehouse_assets.sources.json_texts import WRONG, members
from lakehouse_assets.sources.landing import LandingSource
from storage_engine import Catalog
from tests.lakehouse_assets.quarantine_table import QUARANTINE_DDL

ITEMS = Ingestion(source_table="item", target="ods.item", added=(), lenient=True)
Make = Callable[..., Ingester]


@pytest.fixture
def make(catalog: Catalog, tmp_path: Path) -> Make:
    """Makes the table of some columns beside ``id``, and its ingestion from a landing folder."""

    def made(columns: str, ingestion: Ingestion = ITEMS) -> Ingester:
        catalog.execute(QUARANTINE_DDL)
        catalog.execute(
            f"CREATE TABLE ods.item (id INT, {columns}, PRIMARY KEY (id) NOT ENFORCED) WITH ('bucket' = '1')"
        )
        (tmp_path / "item").mkdir()
        return Ingester(catalog, LandingSource(str(tmp_path)), [ingestion])

    return made


def land(folder: Path, file: str, lines: Sequence[str | dict[str, Any]]) -> None:
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    (folder / "item" / file).write_text("\n".join(texts))


def moved(ingester: Ingester) -> list[tuple[Any, ...]]:
    while ingester.run_batch():
        pass
    return ingester.catalog.table("ods.item").scan().sort("id").collect().rows()


@pytest.mark.parametrize("file", ["1.json", "1.jsonl"])
def test_other_members_are_passed_over_and_missing_ones_null(make: Make, tmp_path: Path, file: str) -> None:
    ingester = make("name STRING, n BIGINT")
    rows: list[dict[str, Any]] = [
        {"id": 1, "name": "a", "n": 5, "more": [1, {"id": 9}], "op": "x"},
        {"n": None, "id": 2},
        {"id": 3, "name": {"of": ["it"]}, "n": "7"},
        {"name": "no id"},
    ]
    events = [{"op": "c", "before": None, "after": row, "source": {"ts_ms": 1, "db": "x"}} for row in rows]
    land(tmp_path, file, rows if file == "1.json" else events)
    assert moved(ingester) == [(1, "a", 5), (2, None, None), (3, '{"of":["it"]}', 7)]
    waiting = refused_lines(ingester.quarantine)
    assert waiting.select("line", "reason").rows() == [(4, "id is null")]
    raw = waiting["raw"][0].replace('"id":null', '"id":4')
    corrected = waiting.select("source_file", "line", pl.lit(raw).alias("raw")).cast(CORRECTION_SCHEMA)
    assert replay(ingester.catalog, ITEMS, corrections=corrected)["reason"].to_list() == [None]
    assert moved(ingester)[3] == (4, "no id", None)


def test_changes_of_envelopes(make: Make, tmp_path: Path) -> None:
    ingester = make("name STRING")
    row = {"id": 1, "name": "a", "nested": {"x": [1]}}
    land(tmp_path, "1.jsonl", [{"op": "r", "after": row}, {"op": "c", "after": {**row, "id": 2}}])
    land(tmp_path, "2.jsonl", [{"op": "d", "before": {**row, "id": 2}, "after": None}, {"op": "u", "after": {"id": 1}}])
    land(
        tmp_path,
        "3.jsonl",
        ["", {"op": "q", "after": row}, {"after": row}, {"op": "d", "before": None}, "[]", "{", " "],
    )
    assert moved(ingester) == [(1, None)]
    assert refused_lines(ingester.quarantine)["reason"].to_list() == [
        "op is q",
        "op is missing",
        "id is null",
        "no JSON object in UTF-8",
        "no JSON object in UTF-8",
    ]


AT = datetime(2024, 1, 5, 10, 0, 0, 123000)
VALUES: dict[str, list[tuple[str, Any]]] = {
    "TINYINT": [("7", 7), ('"-7"', -7), ("7.0", 7), ("300", None), ("7.5", None)],
    "BIGINT": [(str(2**63 - 1), 2**63 - 1), (str(2**63), None), ('"1e3"', None)],
    "DOUBLE": [("1.5", 1.5), ("1e300", 1e300), ('"NaN"', math.nan), ("7", 7.0), ('"x"', None)],
    "DECIMAL(20, 4)": [("1.50", Decimal("1.5000")), ('"1234567890123456.7890"', Decimal("1234567890123456.7890"))],
    "DECIMAL(38, 20)": [
        ("1.00000000000000000001", None),
        ('"1.00000000000000000001"', Decimal("1.00000000000000000001")),
    ],
    "BOOLEAN": [("true", True), ('"false"', False), ("1", None)],
    "DATE": [('"2024-02-29"', date(2024, 2, 29)), ('"2024-02-30"', None)],
    "TIMESTAMP(3)": [('"2024-01-05 10:00:00.123"', AT), ('"2024-01-05T10:00:00.123Z"', AT), ("1704448800123", AT)],
    "TIMESTAMP_LTZ(3)": [
        ('"2024-01-05T10:00:00.123Z"', AT.replace(tzinfo=UTC)),
        ("1704448800123", AT.replace(tzinfo=UTC)),
    ],
    "STRING": [("7", "7"), ("true", "true"), ('"a\\"\\u00e9\\\\"', 'a"é\\'), ("[1, 2]", "[1,2]"), ('""', "")],
}


@pytest.mark.parametrize("dtype", VALUES)
def test_values_in_the_forms_that_flink_writes(make: Make, tmp_path: Path, dtype: str) -> None:
    """None: the line waits in quarantine, since the column cannot hold the value exactly."""
    ingester = make(f"x {dtype}")
    given = VALUES[dtype]
    land(tmp_path, "1.json", [f'{{"id": {number}, "x": {text}}}' for number, (text, _) in enumerate(given)])
    found = dict(moved(ingester))
    expected = {number: value for number, (_, value) in enumerate(given) if value is not None}
    assert {key: str(value) for key, value in found.items()} == {key: str(value) for key, value in expected.items()}
    assert refused_lines(ingester.quarantine)["line"].to_list() == [
        number + 1 for number, (_, value) in enumerate(given) if value is None
    ]


def test_a_null_where_none_may_be_waits_in_quarantine(make: Make, tmp_path: Path) -> None:
    """Also in rows that are taken strictly, where it once stopped the table."""
    strict = Ingestion(source_table="item", target="ods.item", added=())
    ingester = make("name STRING NOT NULL", strict)
    land(tmp_path, "1.json", [{"id": 1, "name": "a"}, {"id": 2, "name": None}])
    (tmp_path / "item" / "2.csv").write_text("id,name\n3,c\n4,\n")
    assert moved(ingester) == [(1, "a"), (3, "c")]
    assert refused_lines(ingester.quarantine)["reason"].to_list() == ["name is null", "name is null"]
    lenient = Ingester(ingester.catalog, ingester.source, [ITEMS])
    land(tmp_path, "3.json", [{"id": 5}, {"id": 6, "name": "f"}])
    assert moved(lenient)[2:] == [(6, "f")]


@pytest.mark.parametrize("name", ["a\\b", "it's", "a[0]"])
def test_a_name_that_cannot_be_looked_up_is_told(make: Make, tmp_path: Path, name: str) -> None:
    ingester = make(f"`{name}` STRING")
    land(tmp_path, "1.json", ['{"id": 1}'])
    with pytest.raises(SourceUnsupported, match="rename the column"):
        ingester.run_batch()


NAMES = ["id", "a b", 'q"', "é", "a.b", "$", "@.x", "a,b"]
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**64 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=5),
)
VALUE = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=3)
)
OBJECT = st.dictionaries(st.sampled_from([*NAMES, "other", "n", "r"]), VALUE).map(json.dumps)
BROKEN = st.sampled_from(
    ["", "{", "[1]", "1", '{"id": 1},{"id": 2}', '{"a": [{"b": 1}', '{"c": 2}]}', "nul", '{"id": 1} {}']
)


def text_of(value: Any) -> str | None:
    """A member as its text; what is nested is JSON without spaces."""
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def is_same(found: str | None, value: Any) -> bool:
    """Whether a text is a member's; numbers may be written in another way."""
    if found is None or value is None or isinstance(value, str | bool | list | dict):
        known = text_of(value)
        return found == known or isinstance(value, list | dict)
    return float(found) == float(value) if isinstance(value, float) else int(Decimal(found)) == value


@given(texts=st.lists(OBJECT | BROKEN, min_size=1, max_size=90))
@settings(deadline=None)
def test_members_are_what_pythons_own_reader_finds(texts: list[str]) -> None:
    """Each line by itself: what is no object, or holds a number that would be rounded, is told, and no other line with it."""
    found = members(pl.Series("raw", texts, dtype=pl.String()), {name: (name,) for name in NAMES})
    for text, row in zip(texts, found.iter_rows(named=True), strict=True):
        try:
            known = json.loads(text)
        except ValueError:
            known = None
        if not isinstance(known, dict):
            assert row[WRONG] == "no JSON object in UTF-8"
        elif row[WRONG] is None:
            assert all(is_same(row[name], known.get(name)) for name in NAMES), (text, row)
        else:
            assert "more digits" in row[WRONG]

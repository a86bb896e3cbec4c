"""Columns of landing files may have any name: those of what is told of changes, and such as mean something in a pattern."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from lakehouse_assets.ingest import Ingester, Ingestion
from lakehouse_assets.quarantine import CORRECTION_SCHEMA, refused_lines, replay
from lakehouse_assets.sources.landing import LandingSource
from storage_engine import Catalog
from tests.lakehouse_assets.quarantine_table import QUARANTINE_DDL

OWN = ["op", "deleted", "line", "source_file", "raw", "reason", "target", "position"]
INNER = ["_time", "_reason", "_event", "_row", "_json", "_raw", "_side", "_there", "_at", "_text.id", "_read.id"]
STRANGE = [
    "a.b",
    "a b",
    "größe",
    "x$y",
    "a+b",
    "(c)",
    "[d]",
    'q"uote',
    "back\\slash",
    "it's",
    "a|b",
    "{}",
    "a:b",
    "a,b",
    ".",
]
ITEMS = Ingestion(source_table="item", target="ods.item", added=())

Make = Callable[..., Ingester]


@pytest.fixture
def make(catalog: Catalog, tmp_path: Path) -> Make:
    """A table of ``id``, a text and a number, and its ingestion from a landing folder."""

    def made(name: str, ingestion: Ingestion = ITEMS) -> Ingester:
        catalog.execute(QUARANTINE_DDL)
        columns = {"id": "INT", name: "STRING", "n": "INT"}
        catalog.create_table("ods.item", columns, primary_key=["id"], options={"bucket": "1"})
        (tmp_path / "item").mkdir()
        return Ingester(catalog, LandingSource(str(tmp_path)), [ingestion])

    return made


def event(row: dict[str, Any], op: str = "c") -> str:
    side = {"before": row, "after": None} if op == "d" else {"before": None, "after": row}
    return json.dumps({"op": op, **side, "source": {"ts_ms": 1}}, ensure_ascii=False)


def land(folder: Path, file: str, lines: Sequence[str]) -> None:
    (folder / "item" / file).write_text("\n".join(lines))


def moved(ingester: Ingester) -> list[tuple[Any, ...]]:
    ingester.run_batch()
    return ingester.tables["ods.item"].scan().sort("id").collect().rows()


@pytest.mark.parametrize("name", [*OWN, *INNER, *STRANGE])
def test_lines(make: Make, tmp_path: Path, name: str) -> None:
    """Lines of a usual shape, such as are judged one by one, deletes, and refused ones that are corrected."""
    ingester = make(name)
    rows = [{"id": number, name: "x", "n": number} for number in range(3)]
    land(tmp_path, "1.jsonl", [*(event(row) for row in rows), event(rows[0], "d")])
    assert moved(ingester) == [(1, "x", 1), (2, "x", 2)]
    strange = [{"id": 3, name: 'é\\"', "n": None}, {"n": 4, name: None, "id": 4}]
    bad = [{"id": "bad", name: "y", "n": 5}, {"id": 6, "wrong": "y", "n": 6}]
    land(tmp_path, "2.jsonl", [event(row) for row in (*strange, *bad)])
    assert moved(ingester)[2:] == [(3, 'é\\"', None), (4, None, 4)]
    waiting = refused_lines(ingester.quarantine)
    assert waiting["reason"].to_list() == ['id is no INT: "bad"', f"missing columns: {name}"]
    texts = [event(row) for row in ({"id": 5, name: "y", "n": 5}, {"id": 6, name: "y", "n": 6})]
    corrected = waiting.select("source_file", "line", pl.Series("raw", texts)).cast(CORRECTION_SCHEMA)
    assert replay(ingester.catalog, ITEMS, corrections=corrected)["reason"].to_list() == [None, None]
    assert moved(ingester)[4:] == [(5, "y", 5), (6, "y", 6)]


@pytest.mark.parametrize("name", [*OWN, *INNER, *STRANGE])
def test_parquet_files(make: Make, tmp_path: Path, name: str) -> None:
    ingester = make(name)
    rows = pl.DataFrame({"id": [1, None], name: ["x", "y"], "n": [1, 2]})
    rows.cast({"id": pl.Int32, "n": pl.Int32}).write_parquet(tmp_path / "item" / "1.parquet")
    assert moved(ingester) == [(1, "x", 1)]
    waiting = refused_lines(ingester.quarantine)
    assert waiting.select("line", "reason").rows() == [(2, "id is null")]
    (raw,) = waiting["raw"]
    corrected = waiting.select("source_file", "line", pl.lit(raw.replace('"id":null', '"id":2')).alias("raw"))
    assert replay(ingester.catalog, ITEMS, corrections=corrected)["reason"].to_list() == [None]
    assert moved(ingester)[1:] == [(2, "y", 2)]


def test_what_is_told_of_changes_is_kept_where_columns_are_added_for_it(make: Make, tmp_path: Path) -> None:
    """A column of such a name that is added is not the source's: lines with it are refused, and ``op`` stands there."""
    ingester = make("op", Ingestion(source_table="item", target="ods.item", added=("op", "deleted")))
    land(tmp_path, "1.jsonl", [event({"id": 1, "n": 1}), event({"id": 2, "n": 2, "op": "x"})])
    assert moved(ingester) == [(1, "c", 1)]
    land(tmp_path, "2.jsonl", [event({"id": 1, "n": 1}, "d")])
    assert moved(ingester) == [], "the table has no column deleted, so the row is gone"
    assert refused_lines(ingester.quarantine)["reason"].to_list() == ["unknown or repeated columns: op"]


def test_a_refused_delete_that_is_corrected_deletes(make: Make, tmp_path: Path) -> None:
    ingester = make("name")
    row = {"id": 1, "name": "x", "n": 1}
    land(tmp_path, "1.jsonl", [event(row), event({**row, "n": "?"}, "d")])
    assert moved(ingester) == [(1, "x", 1)]
    waiting = refused_lines(ingester.quarantine)
    corrected = waiting.select("source_file", "line", pl.lit(event(row, "d")).alias("raw"))
    assert replay(ingester.catalog, ITEMS, corrections=corrected)["reason"].to_list() == [None]
    assert moved(ingester) == []


def test_a_new_snapshot_of_a_table_with_such_columns(catalog: Catalog, tmp_path: Path) -> None:
    """Rows that the source no longer has are deleted, whatever their own column ``deleted`` says."""
    catalog.execute(QUARANTINE_DDL)
    columns = {"id": "INT", "deleted": "STRING", "event_time": "TIMESTAMP(3)"}
    catalog.create_table("ods.item", columns, primary_key=["id"], options={"bucket": "1"})
    (tmp_path / "item").mkdir()
    land(tmp_path, "1.jsonl", [event({"id": number, "deleted": "no", "event_time": 1}) for number in (1, 2)])
    ingester = Ingester(catalog, LandingSource(str(tmp_path)), [ITEMS])
    assert len(moved(ingester)) == 2
    land(tmp_path, "1.jsonl", [event({"id": 2, "deleted": "yes", "event_time": 1})])
    ingester.resnapshot(ITEMS)
    assert moved(ingester) == [(2, "yes", datetime(1970, 1, 1, 0, 0, 0, 1000))]

"""CSV files and JSON rows in a landing folder, packed or not, on their way into a table."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Callable
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse_assets.ingest import Ingester, Ingestion
from lakehouse_assets.quarantine import CORRECTION_SCHEMA, refused_lines, replay
from lakehouse_assets.sources.errors import SourceSchemaChanged
from lakehouse_assets.sources.landing import LandingSource
from lakehouse_assets.sources.landing_formats import frames_of
from storage_engine import Catalog
from tests.lakehouse_assets.quarantine_table import QUARANTINE_DDL

ITEMS = Ingestion(source_table="item", target="ods.item", added=())
COLUMNS = "id INT, name STRING, price DECIMAL(10, 2), day DATE, at TIMESTAMP(3), big BIGINT"
ROW = {"id": 1, "name": "tea", "price": "1.50", "day": "2024-02-29", "at": 1_704_448_800_123, "big": 2**53 + 1}

Land = Callable[[str, str | bytes], None]
Make = Callable[..., Ingester]


def zstd(content: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as packed:
        packed.write(content)
    return sink.getvalue().to_pybytes()


PACKED: dict[str, Callable[[bytes], bytes]] = {"": bytes, ".gz": gzip.compress, ".zst": zstd}


@pytest.fixture
def land(tmp_path: Path) -> Land:
    """Puts a file into the folder of the table ``item``, packed as its name says."""
    (tmp_path / "item").mkdir()

    def write(file: str, content: str | bytes) -> None:
        given = content if isinstance(content, bytes) else content.encode()
        packing = next((suffix for suffix in PACKED if suffix and file.endswith(suffix)), "")
        (tmp_path / "item" / file).write_bytes(PACKED[packing](given))

    return write


@pytest.fixture
def make(catalog: Catalog, tmp_path: Path) -> Make:
    """Makes the table of some columns, and its ingestion."""

    def made(columns: str = COLUMNS, **options: Any) -> Ingester:
        catalog.execute(QUARANTINE_DDL)
        catalog.execute(f"CREATE TABLE ods.item ({columns}, PRIMARY KEY (id) NOT ENFORCED) WITH ('bucket' = '1')")
        return Ingester(catalog, LandingSource(str(tmp_path)), [ITEMS], **options)

    return made


def moved(ingester: Ingester) -> list[tuple[Any, ...]]:
    while ingester.run_batch():
        pass
    return ingester.catalog.table("ods.item").scan().sort("id").collect().rows()


def refused(ingester: Ingester) -> list[tuple[Any, ...]]:
    return refused_lines(ingester.quarantine).select("source_file", "line", "raw", "reason").rows()


TEA = (1, "tea", Decimal("1.50"), date(2024, 2, 29), datetime(2024, 1, 5, 10, 0, 0, 123000), 2**53 + 1)


@pytest.mark.parametrize("packing", PACKED)
def test_the_same_rows_in_every_format(make: Make, land: Land, packing: str) -> None:
    """Events, JSON rows and CSV, one file a row; the position moves through all of them."""
    ingester = make(max_rows=1)
    event = {"op": "c", "before": None, "after": ROW, "source": {"ts_ms": 1}}
    land(f"1.jsonl{packing}", json.dumps(event))
    land(f"2.json{packing}", json.dumps({**ROW, "id": 2}) + "\n")
    land(f"3.ndjson{packing}", "\n" + json.dumps({**ROW, "id": 3}))
    land(f"4.csv{packing}", f"big,id,name,price,day,at\n{2**53 + 1},4,tea,1.50,2024-02-29,2024-01-05 10:00:00.123\n")
    assert moved(ingester) == [(number, *TEA[1:]) for number in (1, 2, 3, 4)]
    assert refused(ingester) == []


def test_rows_of_json_that_do_not_fit_wait_in_quarantine(make: Make, land: Land) -> None:
    ingester = make("id INT, name STRING")
    lines = [
        '{"id": 1, "name": "a"}',
        '{"id": "x", "name": "b"}',
        "[1]",
        '{"id": 3}',
        '{"op": "c", "after": {"id": 4}}',
        "{",
    ]
    land("1.json", "\n".join(lines))
    assert moved(ingester) == [(1, "a")]
    no_row = "no flat JSON object in UTF-8; files of Debezium's events are named .jsonl"
    assert [(line, reason) for _, line, _, reason in refused(ingester)] == [
        (2, 'id is no INT: "x"'),
        (3, no_row),
        (4, "missing columns: name"),
        (5, no_row),
        (6, no_row),
    ]


def test_rows_of_csv_that_do_not_fit_wait_in_quarantine_and_come_back(make: Make, land: Land) -> None:
    ingester = make("id INT, name STRING, n INT")
    land("1.csv", b'id,name,n\r\n1,"a, ""b""\nc",1\r\n2,,\r\n3,""\r\n4,"",x\r\n\r\n5,a,b,c\r\n6,\xff,6\r\n7,z,"7"\r\n')
    assert moved(ingester) == [(1, 'a, "b"\nc', 1), (2, None, None), (7, "z", 7)]
    assert refused(ingester) == [
        ("item/1.csv", 4, '3,""', "2 fields instead of 3"),
        ("item/1.csv", 5, '{"op":"u","after":{"id":4,"name":"","n":"x"},"source":{"ts_ms":0}}', 'n is no INT: "x"'),
        ("item/1.csv", 7, "5,a,b,c", "4 fields instead of 3"),
        ("item/1.csv", 8, "6,ff,6", "bytes that are no UTF-8 (here in hexadecimal digits)"),
    ]
    waiting = refused_lines(ingester.quarantine).head(2)
    rows = [{"id": number, "name": "", "n": 0} for number in (3, 4)]
    texts = [json.dumps({"op": "c", "after": row, "source": {"ts_ms": 1}}) for row in rows]
    corrected = waiting.select("source_file", "line").with_columns(pl.Series("raw", texts)).cast(CORRECTION_SCHEMA)
    assert replay(ingester.catalog, ITEMS, corrections=corrected)["reason"].to_list() == [None, None]
    assert moved(ingester)[2:4] == [(3, "", 0), (4, "", 0)]


@pytest.mark.parametrize("file", ["1.csv", "1.json"])
def test_numbers_that_did_not_fit_come_back_once_the_column_is_widened(
    make: Make, land: Land, catalog: Catalog, file: str
) -> None:
    ingester = make("id INT, n INT, x FLOAT")
    rows = [{"id": 1, "n": 2**31, "x": 1.5}, {"id": 2, "n": 7, "x": 1e300}]
    header = "id,n,x\n" + "".join(f"{row['id']},{row['n']},{row['x']}\n" for row in rows)
    land(file, header if file == "1.csv" else "\n".join(map(json.dumps, rows)))
    assert moved(ingester) == []
    assert len(refused(ingester)) == 2
    catalog.execute("ALTER TABLE ods.item MODIFY n BIGINT; ALTER TABLE ods.item MODIFY x DOUBLE")
    assert replay(catalog, ITEMS)["reason"].to_list() == [None, None]
    assert catalog.table("ods.item").scan().sort("id").collect().rows() == [(1, 2**31, 1.5), (2, 7, 1e300)]


def test_changes_and_new_columns_of_csv(make: Make, land: Land) -> None:
    ingester = make("id INT, name STRING")
    land("1.csv", "\ufeffid,name,op\n1,a,c\n2,b,u\n3,c,x\n")
    land("2.csv", "id,op,name\n1,d,a\n")
    land("3.csv", "id,name,more\n4,d,e\n")
    land("4.csv", "")
    land("5.csv", "id,name,more\n")
    assert moved(ingester) == [(2, "b", None), (4, "d", "e")]
    assert [reason for *_, reason in refused(ingester)] == ["op is x"]
    assert ingester.waiting() == []
    assert ingester.resnapshot(ITEMS).rows_read == 5


@pytest.mark.parametrize(
    ("file", "content", "reason"),
    [
        ("1.csv", "id,name,id\n1,a,1\n", "the first line names id twice"),
        ("1.csv", "id,,name\n1,a,1\n", "column 2 of the first line has no name"),
        ("1.csv", 'id,name\n1,a\n2,"b\n3,c\n', "a quotation mark opens a field that does not end"),
        ("1.csv.gz", None, "the file cannot be unpacked"),
        ("1.json.zst", None, "the file cannot be unpacked"),
        ("1.jsonl.gz", None, "the file cannot be unpacked"),
    ],
)
def test_a_file_that_is_not_what_its_name_says_is_refused_and_the_next_one_read(
    make: Make, land: Land, tmp_path: Path, file: str, content: str | None, reason: str
) -> None:
    ingester = make("id INT, name STRING")
    land(file, content or json.dumps({"id": 1, "name": "a"}) * 100)
    if content is None:
        whole = (tmp_path / "item" / file).read_bytes()
        (tmp_path / "item" / file).write_bytes(whole[: len(whole) // 2])
    land("2.csv", "id,name\n9,z\n")
    assert moved(ingester) == [(9, "z")]
    ((source_file, line, _, told),) = refused(ingester)
    assert (source_file, line) == (f"item/{file}", 1)
    assert reason in told


def test_a_quotation_mark_within_a_field_is_a_character(make: Make, land: Land) -> None:
    ingester = make("id INT, name STRING")
    land("1.csv", 'id,name\n1,5" pipe\n2,b\n')
    assert moved(ingester) == [(1, '5" pipe'), (2, "b")]


def test_csv_without_its_first_line_stops_the_table_and_names_the_file(make: Make, land: Land) -> None:
    ingester = make("id INT, name STRING")
    land("1.csv", "1,a\n2,b\n")
    with pytest.raises(SourceSchemaChanged, match=r"file item/1\.csv lacks id, name.*and has 1, a anew"):
        ingester.run_batch()


FIELDS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)


@given(rows=st.lists(st.tuples(FIELDS, FIELDS, FIELDS), max_size=8), ending=st.sampled_from(["\n", "\r\n"]))
@settings(deadline=None)
def test_fields_are_what_pythons_own_reader_finds(rows: list[tuple[str, str, str]], ending: str) -> None:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator=ending, quoting=csv.QUOTE_ALL).writerows([("x", "y", "z"), *rows])
    frames = frames_of("1.csv", text.getvalue().encode())
    assert [tuple(row) for frame in frames for row in frame.select("x", "y", "z").rows()] == rows

"""Parquet files in a landing folder, on their way into a table: what is cast, refused, followed, and told."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lakehouse_assets.ingest import Ingester, Ingestion
from lakehouse_assets.quarantine import CORRECTION_SCHEMA, refused_lines, replay
from lakehouse_assets.sources.errors import SourceSchemaChanged
from lakehouse_assets.sources.landing import LandingSource
from storage_engine import Catalog
from tests.lakehouse_assets.quarantine_table import QUARANTINE_DDL

AT = datetime(2024, 1, 5, 12, 0, 0, 123000)
ITEMS = Ingestion(source_table="item", target="ods.item", added=())

Land = Callable[..., None]


@pytest.fixture
def land(tmp_path: Path) -> Land:
    """Writes a file of some columns, with pyarrow's types where they are given."""
    (tmp_path / "item").mkdir()

    def write(file: str, /, **columns: Any) -> None:
        pq.write_table(pa.table(columns), tmp_path / "item" / file)

    return write


@pytest.fixture
def mirror(catalog: Catalog, tmp_path: Path) -> Callable[..., Ingester]:
    """Makes the table of some columns beside ``id``, and its ingestion."""

    def make(columns: str, ingestion: Ingestion = ITEMS, **options: Any) -> Ingester:
        catalog.execute(QUARANTINE_DDL)
        catalog.execute(
            f"CREATE TABLE ods.item (id INT, {columns}, PRIMARY KEY (id) NOT ENFORCED) WITH ('bucket' = '1')"
        )
        return Ingester(catalog, LandingSource(str(tmp_path)), [ingestion], **options)

    return make


def moved(ingester: Ingester) -> list[dict[str, Any]]:
    """The table's rows once all files are read."""
    while ingester.run_batch():
        pass
    return ingester.catalog.table("ods.item").scan().sort("id").collect().to_dicts()


def types(ingester: Ingester) -> dict[str, str]:
    return {field.name: field.type.sql for field in ingester.catalog.table("ods.item").schema.fields}


def test_refused_rows_wait_in_quarantine_and_come_back_corrected(mirror: Callable[..., Ingester], land: Land) -> None:
    ingester = mirror("size INT, amount DECIMAL(10, 2), at TIMESTAMP(3), name STRING")
    land(
        "1.parquet",
        id=pa.array([1, 2, 2**40, 4, 5], pa.int64()),
        size=["7", 'a "few"', "8", "9", None],
        amount=[1.5, 2.5, 3.5, 4.125, None],
        at=pa.array([AT, AT, AT, AT, None], pa.timestamp("ns")),
        name=pa.array(["a", 'b"\\', "c", "d", None]).dictionary_encode(),
        op=pa.array(["c", "u", "u", "c", "d"]).dictionary_encode(),
    )
    assert moved(ingester) == [{"id": 1, "size": 7, "amount": Decimal("1.50"), "at": AT, "name": "a"}]
    waiting = refused_lines(ingester.quarantine)
    assert waiting.select("source_file", "line", "target", "reason").rows() == [
        ("item/1.parquet", 2, "ods.item", 'size is no INT: "a \\"few\\""'),
        ("item/1.parquet", 3, "ods.item", "id is no INT: 1099511627776"),
        ("item/1.parquet", 4, "ods.item", "amount is no DECIMAL(10, 2): 4.125"),
    ]
    assert replay(ingester.catalog, ITEMS)["reason"].to_list() == [
        r'size is no INT: "a \"few\""',
        "id is no INT: 1099511627776",
        "amount is no DECIMAL(10,2): 4.125",
    ]
    replaced = [(r'"a \"few\""', "3"), ("1099511627776", "3"), ("4.125", '"4.13"')]
    texts = [raw.replace(old, new) for raw, (old, new) in zip(waiting["raw"], replaced, strict=True)]
    corrected = waiting.select("source_file", "line", pl.Series("raw", texts)).cast(CORRECTION_SCHEMA)
    assert replay(ingester.catalog, ITEMS, corrections=corrected)["reason"].to_list() == [None] * 3
    assert moved(ingester)[1:] == [
        {"id": 2, "size": 3, "amount": Decimal("2.50"), "at": AT, "name": 'b"\\'},
        {"id": 3, "size": 8, "amount": Decimal("3.50"), "at": AT, "name": "c"},
        {"id": 4, "size": 9, "amount": Decimal("4.13"), "at": AT, "name": "d"},
    ]
    assert refused_lines(ingester.quarantine).is_empty()


def test_refused_rows_of_any_column_type_are_replayed(mirror: Callable[..., Ingester], land: Land) -> None:
    ingester = mirror("ratio DOUBLE, at TIMESTAMP(6), seen TIMESTAMP_LTZ(3), picture BYTES, size INT")
    at = datetime(1969, 7, 20, 20, 17, 40, 123_456)
    land(
        "1.parquet",
        id=pa.array([1, 2, 3], pa.int32()),
        ratio=[0.1, float("nan"), float("-inf")],
        at=[at, None, at],
        seen=pa.array([AT, AT, None], pa.timestamp("ms", "UTC")),
        picture=[b"\x00\xff", None, b""],
        size=["many"] * 3,
    )
    assert moved(ingester) == []
    waiting = refused_lines(ingester.quarantine)
    assert replay(ingester.catalog, ITEMS)["reason"].to_list() == ['size is no INT: "many"'] * 3
    corrected = waiting.with_columns(pl.col("raw").str.replace('"many"', "7")).select(CORRECTION_SCHEMA.names())
    assert replay(ingester.catalog, ITEMS, corrections=corrected)["reason"].to_list() == [None] * 3
    expected = [
        {"id": 1, "ratio": 0.1, "at": at, "picture": b"\x00\xff", "size": 7},
        {"id": 2, "ratio": float("nan"), "at": None, "picture": None, "size": 7},
        {"id": 3, "ratio": float("-inf"), "at": at, "picture": b"", "size": 7},
    ]
    found = moved(ingester)
    seen = [row.pop("seen") for row in found]
    assert repr(found) == repr(expected)
    assert seen == [AT.replace(tzinfo=UTC), AT.replace(tzinfo=UTC), None]


def test_types_that_are_not_followed_are_cast(mirror: Callable[..., Ingester], land: Land, tmp_path: Path) -> None:
    """A value that does not fit is refused in words that a line of JSON is refused in."""
    fixed = Ingestion(source_table="item", target="ods.item", added=(), follows_schema=False)
    ingester = mirror("size INT, part DECIMAL(6, 2)", fixed)
    land(
        "1.parquet",
        id=[1, 2, 3],
        size=pa.array([7, 2**31, None], pa.int64()),
        part=pa.array([Decimal("1.5"), Decimal("2.5"), Decimal("99999.5")], pa.decimal128(12, 2)),
    )
    event = {"op": "u", "after": {"id": 4, "size": 2**31, "part": "1.00"}, "source": {"ts_ms": 0}}
    (tmp_path / "item" / "2.jsonl").write_text(json.dumps(event))
    (tmp_path / "item" / "3.csv").write_text("id,size,part\n5,2147483648,1\n")
    assert moved(ingester) == [{"id": 1, "size": 7, "part": Decimal("1.50")}]
    assert (types(ingester)["size"], types(ingester)["part"]) == ("INT", "DECIMAL(6, 2)")
    assert refused_lines(ingester.quarantine).select("source_file", "line", "reason").rows() == [
        ("item/1.parquet", 2, "size is no INT: 2147483648"),
        ("item/1.parquet", 3, 'part is no DECIMAL(6, 2): "99999.50"'),
        ("item/2.jsonl", 1, "size is no INT: 2147483648"),
        ("item/3.csv", 2, "size is no INT: 2147483648"),
    ]


def test_a_column_of_a_hopeless_type_refuses_its_file_and_the_table_goes_on(
    mirror: Callable[..., Ingester], land: Land
) -> None:
    ingester = mirror("size BIGINT")
    land("1.parquet", id=[1], size=[1])
    land("2.parquet", id=[2, 3], size=[[2], [3]])
    land("3.parquet", id=[4], size=[4])
    assert [row["id"] for row in moved(ingester)] == [1, 4]
    assert refused_lines(ingester.quarantine)["reason"].to_list() == [
        f"size is no BIGINT, which List(Int64) of the file cannot become: [{number}]" for number in (2, 3)
    ]


@pytest.mark.parametrize("mode", ["one batch", "a file at a time"])
def test_files_of_different_columns_are_read_together(mirror: Callable[..., Ingester], land: Land, mode: str) -> None:
    ingester = mirror("size BIGINT, name STRING", max_rows=1 if mode == "a file at a time" else 1000)
    land("1.parquet", id=[1], size=pa.array([1], pa.int8()), name=["a"])
    land("2.parquet", name=pa.array(["b"]).dictionary_encode(), size=["2"], id=[2], op=["c"])
    land("3.parquet", id=[3, 4], size=["x", "4"], name=pa.nulls(2))
    land("4.parquet", size=pa.array([5], pa.float32()), id=pa.array([5], pa.uint8()), name=[5])
    if mode == "one batch":
        (result,) = ingester.run_batch()
        assert (result.rows_read, result.rows_rejected) == (5, 1)
    assert [tuple(row.values()) for row in moved(ingester)] == [(1, 1, "a"), (2, 2, "b"), (4, 4, None), (5, 5, "5")]
    assert refused_lines(ingester.quarantine)["reason"].to_list() == ['size is no BIGINT: "x"']


# -- schemas that are followed -----------------------------------------------------------------------------------------

FOLLOWED: dict[str, tuple[str, pa.Array, str]] = {
    "a longer integer": ("size INT", pa.array([2**40], pa.int64()), "BIGINT"),
    "a longer decimal": ("size DECIMAL(4, 2)", pa.array([Decimal("123.456")], pa.decimal128(8, 3)), "DECIMAL(8, 3)"),
    "a decimal for integers": ("size INT", pa.array([Decimal(10**11)], pa.decimal128(12, 0)), "DECIMAL(12, 0)"),
    "a longer float": ("size FLOAT", pa.array([0.1]), "DOUBLE"),
    "a unit of time": ("size TIMESTAMP(3)", pa.array([AT], pa.timestamp("us")), "TIMESTAMP(3)"),
    "a float for integers": ("size INT", pa.array([7.0]), "INT"),
    "an unsigned integer": ("size INT", pa.array([7], pa.uint32()), "INT"),
    "a dictionary": ("size STRING", pa.array(["x"]).dictionary_encode(), "STRING"),
    "a new column": ("name STRING", pa.array([7], pa.int16()), "SMALLINT"),
    "a new float": ("name STRING", pa.array([0.5]), "DOUBLE"),
    "a new unsigned column": ("name STRING", pa.array([2**32 - 1], pa.uint32()), "BIGINT"),
    "a new dictionary": ("name STRING", pa.array(["x"]).dictionary_encode(), "STRING"),
    "a new list": ("name STRING", pa.array([[1]], pa.list_(pa.int32())), "ARRAY<INT>"),
    "a new map": ("name STRING", pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int32())), "MAP<STRING NOT NULL, INT>"),
}


@pytest.mark.parametrize(("columns", "values", "wanted"), FOLLOWED.values(), ids=FOLLOWED.keys())
def test_new_and_wider_columns_are_followed(
    mirror: Callable[..., Ingester], land: Land, columns: str, values: pa.Array, wanted: str
) -> None:
    ingester = mirror(columns)
    land("1.parquet", id=[1], size=values, **({"name": ["a"]} if "name" in columns else {}))
    (row,) = moved(ingester)
    assert types(ingester)["size"] == wanted
    expected = values[0].as_py()
    assert row["size"] == ([{"key": "a", "value": 1}] if wanted.startswith("MAP") else expected)
    assert refused_lines(ingester.quarantine).is_empty()


def test_a_new_column_of_nulls_alone_is_left_out(mirror: Callable[..., Ingester], land: Land) -> None:
    ingester = mirror("name STRING")
    land("1.parquet", id=[1], name=["a"], note=pa.nulls(1))
    assert moved(ingester) == [{"id": 1, "name": "a"}]


def test_files_before_an_added_column_are_read_as_they_are(mirror: Callable[..., Ingester], land: Land) -> None:
    ingester = mirror("name STRING")
    land("1.parquet", id=[1], name=["a"])
    land("2.parquet", id=[2], name=["b"], size=[7])
    land("3.parquet", id=[3], name=["c"], size=[8])
    expected = [(1, "a", None), (2, "b", 7), (3, "c", 8)]
    assert [tuple(row.values()) for row in moved(ingester)] == expected
    assert refused_lines(ingester.quarantine).is_empty()
    ingester.catalog.table("ods.item").delete(pl.lit(value=True))
    ingester.reload(ITEMS)
    assert [tuple(row.values()) for row in moved(ingester)] == expected
    result = ingester.resnapshot(ITEMS)
    assert (result.rows_read, result.consumed[ingester.source.name][1]) == (3, "3.parquet")
    assert [tuple(row.values()) for row in moved(ingester)] == expected


TOLD: dict[str, tuple[Ingestion, dict[str, Any], str]] = {
    "missing": (ITEMS, {"id": [2]}, r"file item/2\.parquet lacks name, which ods\.item has\. .*land the file again"),
    "renamed": (ITEMS, {"id": [2], "title": ["b"]}, r"file item/2\.parquet lacks name.*has title anew.*RENAME COLUMN"),
    "without a counterpart": (
        ITEMS,
        {"id": [2], "name": ["b"], "lasts": pa.array([1], pa.duration("s"))},
        r"file item/2\.parquet changed, but ods\.item cannot: column 'lasts'.*cast it",
    ),
    "not followed": (
        Ingestion(source_table="item", target="ods.item", added=(), follows_schema=False),
        {"id": [2], "name": ["b"], "size": [1]},
        r"file item/2\.parquet has the columns .*size Int64; its target expects .*ALTER TABLE ods\.item",
    ),
}


@pytest.mark.parametrize(("ingestion", "columns", "message"), TOLD.values(), ids=TOLD.keys())
def test_what_needs_a_decision_names_the_file_after_those_before_it_are_read(
    mirror: Callable[..., Ingester], land: Land, ingestion: Ingestion, columns: dict[str, Any], message: str
) -> None:
    ingester = mirror("name STRING", ingestion)
    land("1.parquet", id=[1], name=["a"])
    land("2.parquet", **columns)
    ingester.run_batch()
    with pytest.raises(SourceSchemaChanged, match=message):
        ingester.run_batch()
    assert ingester.waiting() == ["ods.item"]
    land("2.parquet", id=[2], name=["b"])
    assert [row["id"] for row in moved(ingester)] == [1, 2]

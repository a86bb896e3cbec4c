"""Columns to Avro records and back: what fastavro reads of them, and what fastavro has written."""

from __future__ import annotations

import datetime as dt
import json
from decimal import Decimal
from io import BytesIO

import fastavro
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage_engine.codec.avro import read_blocks, write_blocks
from storage_engine.codec.avro_decode import decode_records
from storage_engine.codec.avro_encode import avro_schema, encode_records
from storage_engine.errors import CorruptFile, Unsupported
from storage_engine.spec.types import DataField, DataType, parse_type
from storage_engine.store.formats.arrow_bridge import to_arrow
from tests.effort import examples

SCALARS: dict[str, st.SearchStrategy] = {
    "TINYINT": st.integers(-(2**7), 2**7 - 1),
    "SMALLINT": st.integers(-(2**15), 2**15 - 1),
    "INT": st.integers(-(2**31), 2**31 - 1),
    "BIGINT": st.integers(-(2**63), 2**63 - 1),
    "BOOLEAN": st.booleans(),
    "DOUBLE": st.floats(allow_nan=False),
    "FLOAT": st.floats(allow_nan=False, width=32),
    "STRING": st.text(st.characters(codec="utf-8"), max_size=20),
    "BYTES": st.binary(max_size=200),
    "DATE": st.dates(),
    "TIME(3)": st.times().map(lambda time: time.replace(microsecond=time.microsecond // 1000 * 1000)),
    "TIMESTAMP(3)": st.datetimes().map(lambda at: at.replace(microsecond=at.microsecond // 1000 * 1000)),
    "TIMESTAMP(6)": st.datetimes(),
    "TIMESTAMP_LTZ(6)": st.datetimes().map(lambda at: at.replace(tzinfo=dt.UTC)),
    "DECIMAL(9, 2)": st.integers(-(10**9) + 1, 10**9 - 1).map(lambda units: Decimal(units).scaleb(-2)),
    "DECIMAL(38, 0)": st.integers(-(10**37), 10**37).map(Decimal),
}


def columns() -> st.SearchStrategy[tuple[str, st.SearchStrategy]]:
    """A type and its values, nested at most twice."""
    scalars = st.sampled_from(sorted(SCALARS)).map(lambda name: (name, SCALARS[name]))

    def nested(inner: st.SearchStrategy) -> st.SearchStrategy:
        lists = inner.map(lambda part: (f"ARRAY<{part[0]}>", st.lists(st.none() | part[1], max_size=3)))
        rows = st.lists(inner, min_size=1, max_size=3).map(
            lambda parts: (
                "ROW<" + ", ".join(f"f{at} {name}" for at, (name, _) in enumerate(parts)) + ">",
                st.fixed_dictionaries({f"f{at}": st.none() | values for at, (_, values) in enumerate(parts)}),
            )
        )
        pair = lambda key, part: st.fixed_dictionaries({"key": SCALARS[key], "value": st.none() | part[1]})  # noqa: E731
        maps = st.tuples(st.sampled_from(["STRING", "INT", "DATE"]), inner).map(
            lambda of: (f"MAP<{of[0]}, {of[1][0]}>", st.lists(pair(*of), max_size=3))
        )
        return st.one_of(lists, rows, maps)

    return st.recursive(scalars, nested, max_leaves=4)


@st.composite
def frames(draw: st.DrawFn) -> tuple[pl.DataFrame, pa.Schema, list[DataType]]:
    parts = draw(st.lists(columns(), min_size=1, max_size=4))
    rows = draw(st.integers(0, 6))
    types = [parse_type(name) for name, _ in parts]
    fields = [DataField(id=at, name=f"c{at}", type=type_) for at, type_ in enumerate(types)]
    data = {
        f"c{at}": pl.Series(
            f"c{at}", draw(st.lists(st.none() | values, min_size=rows, max_size=rows)), types[at].to_polars()
        )
        for at, (_, values) in enumerate(parts)
    }
    return pl.DataFrame(data), pa.schema([field.to_arrow() for field in fields]), types


def as_fastavro_gives(value: object, type_: DataType) -> object:
    """A value as fastavro gives it: maps of texts as dicts, timestamps with or without a zone, by their names' meaning."""
    if value is None:
        return None
    match type_.root.value:
        case "ARRAY":
            return [as_fastavro_gives(part, type_.element) for part in value]
        case "ROW":
            return {field.name: as_fastavro_gives(value[field.name], field.type) for field in type_.fields}
        case "MAP" if type_.key.root.value == "VARCHAR":
            return {pair["key"]: as_fastavro_gives(pair["value"], type_.value) for pair in value}
        case "MAP":
            return [{"key": pair["key"], "value": as_fastavro_gives(pair["value"], type_.value)} for pair in value]
        case "TIMESTAMP":
            return value.replace(tzinfo=dt.UTC)
        case "TIMESTAMP_LTZ":
            return value.replace(tzinfo=None)
    return value


@settings(max_examples=examples(30), deadline=None)
@given(frames(), st.integers(0, 2))
def test_records_are_what_fastavro_reads_and_come_back(made, skipped: int) -> None:
    frame, schema, types = made
    frame = frame[skipped:]
    blocks = [(frame.height, encode_records(to_arrow(frame, schema)))]
    data = write_blocks(avro_schema(schema), blocks, compression="deflate")
    assert list(fastavro.reader(BytesIO(data))) == [
        {name: as_fastavro_gives(value, type_) for (name, value), type_ in zip(row.items(), types, strict=True)}
        for row in frame.iter_rows(named=True)
    ]
    document, found = read_blocks(data, path="t.avro")
    assert decode_records(document, found, frame.columns, frame.schema).equals(frame)


FIELDS = [{"name": "a", "type": "int"}, {"name": "s", "type": ["string", "null"]}]
DTYPES = {"a": pl.Int32(), "s": pl.String()}


def file_of(fields: list, blocks: list[tuple[int, bytes]]) -> bytes:
    return write_blocks(json.dumps({"type": "record", "name": "r", "fields": fields}), blocks, compression="null")


def decoded(data: bytes, dtypes: dict = DTYPES) -> pl.DataFrame:
    document, blocks = read_blocks(data, path="t.avro")
    return decode_records(document, blocks, list(dtypes), dtypes)


def test_other_writers_unions_and_blocks_of_arrays_are_read() -> None:
    lists = [{"name": "l", "type": {"type": "array", "items": "int"}}]
    with_size = b"\x03\x04\x02\x04" + b"\x02\x06" + b"\x00"  # a block of 2 with its size, a block of 1, the end
    assert decoded(file_of(lists, [(1, with_size)]), {"l": pl.List(pl.Int32)})["l"].to_list() == [[1, 2, 3]]
    assert decoded(file_of(FIELDS, [(1, b"\x02\x02"), (0, b""), (1, b"\x04\x00\x02x")])).rows() == [(1, None), (2, "x")]
    assert decoded(file_of(FIELDS, [])).is_empty()


@pytest.mark.parametrize(
    ("fields", "block", "reason"),
    [
        (FIELDS, (1, b"\x02\x00\x02"), "records cannot be read"),
        (FIELDS, (1, b"\x02\x00\x02\xff"), "records cannot be read"),
        (FIELDS, (1, b"\x02\x02" + b"\x02\x02"), "records cannot be read"),
        (FIELDS, (1, b"\x02\x02" + b"\x00\x02x"), "do not end where"),
        (FIELDS, (2, b"\x02\x02"), "records|end"),
        (FIELDS, (1, b"\x02\x00\xfe\xff\xff\xff\xff\xff\xff\x7f"), "records"),
        ([{"name": "a", "type": "string"}, FIELDS[1]], (1, b"\x00\x02"), "stored as large_string"),
        ([{"name": "a", "type": {"type": "fixed", "name": "f", "size": 1}}, FIELDS[1]], (1, b"\x00\x02"), "'fixed'"),
        ([{"name": "a", "type": ["int", "long"]}, FIELDS[1]], (1, b"\x00\x00\x02"), "union of 2"),
    ],
)
def test_damaged_and_foreign_records_are_told(fields: list, block: tuple[int, bytes], reason: str) -> None:
    with pytest.raises(CorruptFile, match=reason):
        decoded(file_of(fields, [block]))


@pytest.mark.parametrize("type_", [pa.timestamp("ns"), pa.duration("s")])
def test_types_that_avro_lacks_are_refused(type_: pa.DataType) -> None:
    with pytest.raises(Unsupported, match="column 'x': Avro files hold no"):
        avro_schema(pa.schema([("x", type_)]))

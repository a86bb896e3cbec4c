"""File indexes: bytes that Java wrote, and every index against a plain set of values."""

from __future__ import annotations

import datetime as dt
import struct

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage_engine.codec.bitmap_index import BitmapIndex, write_bitmap_index
from storage_engine.codec.bloom_filter import may_contain, write_bloom_filter
from storage_engine.codec.file_index import read_file_index, write_file_index
from storage_engine.errors import CorruptFile
from storage_engine.kernel.fast_hash import fast_hashes, indexed_values
from storage_engine.spec.types import parse_type

# Columns s STRING ("a", "b", null) and i INT (5, 6, null), bloom filters of 20 items on both, a bitmap on i.
BY_JAVA = bytes.fromhex(
    "00054e4ed01a35ae00000001000000620000000200017300000001000c626c6f6f6d2d66696c746572000000620000001000016900000002000c"
    "626c6f6f6d2d66696c746572000000720000001000066269746d6170000000820000003e00000000000000030800002002000020005000000000"
    "000300000000000800000420000d02000000030000000201fffffffd000000120000000100000005000000000000001c0000000200000005ffff"
    "ffffffffffff00000006fffffffeffffffff"
)
HASHES_BY_JAVA = [
    ("INT", 1, 6614235796240398542),
    ("INT", -7, -9040340845809335386),
    ("BIGINT", 5000000000, 912067784288464579),
    ("STRING", "a", -3292477735350538661),
    ("STRING", "hello world", 5020219685658847592),
    ("DOUBLE", 1.5, 4457999897849084360),
    ("TIMESTAMP(6)", dt.datetime(2024, 3, 1, 12, 34, 56, 123456), -4152530513508755950),
]
TEXT, NUMBER = parse_type("STRING"), parse_type("INT")


def hash_of(value: object, sql: str) -> int:
    type_ = parse_type(sql)
    return int(fast_hashes(pl.Series([value], dtype=type_.to_polars()), type_).view(np.int64)[0])


@pytest.mark.parametrize(("sql", "value", "hash_"), HASHES_BY_JAVA)
def test_values_hash_as_in_java(sql: str, value: object, hash_: int) -> None:
    assert hash_of(value, sql) == hash_


# The sanity values of xxHash's own test suite are of a byte generator; these are of plain texts, of each path through it.
@pytest.mark.parametrize(
    ("text", "hash_"),
    [
        ("", 0xEF46DB3751D8E999),
        ("abc", 0x44BC2CF5AD770999),
        ("xxhash", 0x32DD38952C4BC720),
        ("I want an unsigned 64-bit seed!", 0xD4CB0A70A2B8C7C1),
        ("Nobody inspects the spammish repetition", 0xFBCEA83C8A378BF1),
    ],
)
def test_texts_hash_as_xx_hash_does(text: str, hash_: int) -> None:
    assert hash_of(text, "STRING") & (2**64 - 1) == hash_


def test_an_index_that_java_wrote_is_read_and_written_alike() -> None:
    indexes = read_file_index(BY_JAVA, path="t.index")
    assert {column: set(kinds) for column, kinds in indexes.items()} == {
        "s": {"bloom-filter"},
        "i": {"bloom-filter", "bitmap"},
    }
    texts, numbers = pl.Series(["a", "b", None]), pl.Series([5, 6, None], dtype=pl.Int32)
    ours = {
        "s": {"bloom-filter": write_bloom_filter(fast_hashes(texts, TEXT), items=20, fpp=0.1)},
        "i": {
            "bloom-filter": write_bloom_filter(fast_hashes(numbers, NUMBER), items=20, fpp=0.1),
            "bitmap": write_bitmap_index(numbers),
        },
    }
    assert ours["s"] == indexes["s"]
    assert ours["i"]["bloom-filter"] == indexes["i"]["bloom-filter"]
    bitmap = BitmapIndex.read(indexes["i"]["bitmap"], pl.Int32())
    assert [list(bitmap.having(value)) for value in (5, 6, 7, None)] == [[0], [1], [], [2]]
    assert write_file_index(indexes) == BY_JAVA


TYPED = {
    "INT": st.integers(-3, 3),
    "TINYINT": st.integers(-128, 127),
    "BIGINT": st.integers(-(2**63), 2**63 - 1),
    "STRING": st.text(st.characters(codec="utf-8"), max_size=40),
    "BYTES": st.binary(max_size=80),
    "DOUBLE": st.floats(allow_nan=False).filter(lambda value: value != 0),
    "DATE": st.dates(),
    "BOOLEAN": st.booleans(),
    "TIMESTAMP(3)": st.datetimes().map(lambda at: at.replace(microsecond=at.microsecond // 1000 * 1000)),
}


@st.composite
def columns(draw: st.DrawFn, *without: str) -> tuple[str, list, list]:
    """A type, the values of a file and values that may or may not be among them."""
    sql = draw(st.sampled_from(sorted(set(TYPED) - set(without))))
    values = draw(st.lists(st.none() | TYPED[sql], max_size=60))
    return sql, values, draw(st.lists(TYPED[sql], max_size=8)) + [value for value in values if value is not None]


@given(columns("BOOLEAN"))
def test_a_bloom_filter_denies_no_value_that_is_there(column) -> None:
    sql, values, probes = column
    type_ = parse_type(sql)
    dtype = type_.to_polars()
    body = write_bloom_filter(fast_hashes(pl.Series(values, dtype=dtype), type_), items=100, fpp=0.001)
    found = [bool(may_contain(body, fast_hashes(pl.Series([probe], dtype=dtype), type_))[0]) for probe in probes]
    assert [is_there for probe, is_there in zip(probes, found, strict=True) if probe in values] == [True] * sum(
        probe in values for probe in probes
    )


@given(columns("BYTES"))
def test_a_bitmap_index_knows_the_rows_of_every_value(column) -> None:
    sql, values, probes = column
    type_ = parse_type(sql)
    stored = indexed_values(pl.Series(values, dtype=type_.to_polars()), type_)
    wanted = indexed_values(pl.Series(probes, dtype=type_.to_polars()), type_)
    index = BitmapIndex.read(write_bitmap_index(stored), stored.dtype)
    for value in [*wanted, None]:
        assert list(index.having(value)) == [row for row, found in enumerate(stored) if found == value]


def test_many_long_texts_take_several_blocks() -> None:
    texts = pl.Series([f"{number:05d}{'x' * 100}" for number in range(1000)] * 2)
    index = BitmapIndex.read(write_bitmap_index(texts), pl.String())
    assert len(index.firsts) > 5
    for number in (0, 1, 499, 998, 999):
        assert list(index.having(texts[number])) == [number, number + 1000]
    assert list(index.having("")) == list(index.having("zzz")) == []


def test_the_first_version_of_bitmaps_is_read() -> None:
    head = b"\x01" + struct.pack(">ii?", 3, 2, True) + struct.pack(">i", -3)
    entries = struct.pack(">ii", 5, 0) + struct.pack(">ii", 6, -2)
    (bitmap,) = [b":0\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x10\x00\x00\x00\x00\x00"]  # the row 0
    index = BitmapIndex.read(head + entries + bitmap, pl.Int32())
    assert [list(index.having(value)) for value in (5, 6, 7, None)] == [[0], [1], [], [2]]


def test_names_are_in_java_s_own_utf8() -> None:
    names = ["a\0b", "é", "😀"]
    data = write_file_index({name: {"bitmap": None} for name in names})
    assert b"a\xc0\x80b" in data
    assert b"\xed\xa0\xbd\xed\xb8\x80" in data
    assert read_file_index(data, path="t") == {name: {"bitmap": None} for name in names}


@pytest.mark.parametrize("cut", [0, 7, 15, 30, 60, 97])
def test_a_cut_index_is_told(cut: int) -> None:
    with pytest.raises(CorruptFile, match=r"t\.index: not a readable file index"):
        read_file_index(BY_JAVA[:cut], path="t.index")

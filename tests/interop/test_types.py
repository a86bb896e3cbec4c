"""Every type as a value and as a key, in every file format: written by each engine, read by both."""

from __future__ import annotations

import datetime as dt
import math
from dataclasses import replace
from decimal import Decimal

import polars as pl
import pytest

from tests.interop.both import Both, Shared
from tests.interop.flink.canonical import canon
from tests.interop.workload import Column, ddl

DAY = dt.date(2024, 2, 29)
NOON = dt.datetime(2024, 2, 29, 12, 34, 56)
LONG = "a long text, " * 20
UTC = dt.UTC
STAMPS = [
    dt.datetime(1969, 12, 31, 23, 59, 59, 999_999),
    dt.datetime(1, 1, 1),
    dt.datetime(9999, 12, 31, 23, 59, 59, 999_000),
    dt.datetime(2024, 2, 29, 12, 34, 56, 123_456),
]


def stamps(unit: str, digits: int, *, zone: bool = False) -> Column:
    """TIMESTAMP(p) and TIMESTAMP_LTZ(p) of moments cut to p digits."""
    step = 10 ** (6 - min(digits, 6))
    cut = [moment.replace(microsecond=moment.microsecond // step * step) for moment in STAMPS]
    if unit == "ns":
        cut = [moment for moment in cut if 1700 < moment.year < 2200]
    if zone:
        cut = [moment.replace(tzinfo=UTC) for moment in cut]
    sql = f"TIMESTAMP{'_LTZ' if zone else ''}({digits})"
    return Column(sql=sql, dtype=pl.Datetime(unit, "UTC" if zone else None), values=cut)  # type: ignore[arg-type]


def integers(sql: str, dtype: pl.DataType, bits: int) -> Column:
    return Column(sql=sql, dtype=dtype, values=[0, 1, -1, 42, 2 ** (bits - 1) - 1, -(2 ** (bits - 1))])


def decimals(precision: int, scale: int) -> Column:
    nines, one = (9,) * precision, (1,)
    values = [Decimal(0), *(Decimal((sign, digits, -scale)) for sign in (0, 1) for digits in (nines, one))]
    return Column(sql=f"DECIMAL({precision}, {scale})", dtype=pl.Decimal(precision, scale), values=values)


def floats(sql: str, dtype: pl.DataType) -> Column:
    return Column(sql=sql, dtype=dtype, values=[0.0, -0.0, 1.5, -2.25, math.inf, -math.inf, math.nan])


TEXTS = ["", "a", "abcdefg", "abcdefgh", "éü", "😀\U0010ffff", "\uffff", "x'\"\\\n\t", LONG]
BYTES = [b"", b"\x00", b"\xff\x00\x7f", b"1234567", b"12345678", bytes(range(256))]
KEYABLE: dict[str, Column] = {
    "flag": Column(sql="BOOLEAN", dtype=pl.Boolean(), values=[True, False]),
    "i8": integers("TINYINT", pl.Int8(), 8),
    "i16": integers("SMALLINT", pl.Int16(), 16),
    "i32": integers("INT", pl.Int32(), 32),
    "i64": integers("BIGINT", pl.Int64(), 64),
    "d9": decimals(9, 2),
    "d18": decimals(18, 0),
    "d19": decimals(19, 4),
    "d38": decimals(38, 18),
    "text": Column(sql="STRING", dtype=pl.String(), values=TEXTS),
    "v20": Column(sql="VARCHAR(20)", dtype=pl.String(), values=TEXTS[:-1]),
    "c3": Column(sql="CHAR(3)", dtype=pl.String(), values=["abc", "a  ", "éü😀"]),
    "bytes": Column(sql="BYTES", dtype=pl.Binary(), values=BYTES),
    "vb": Column(sql="VARBINARY(8)", dtype=pl.Binary(), values=BYTES[:-1]),
    "b4": Column(sql="BINARY(4)", dtype=pl.Binary(), values=[b"\x00\x01\x02\xff", b"abcd"]),
    "day": Column(
        sql="DATE", dtype=pl.Date(), values=[DAY, dt.date(1969, 12, 31), dt.date(1, 1, 1), dt.date(9999, 12, 31)]
    ),
    "time": Column(
        sql="TIME(3)", dtype=pl.Time(), values=[dt.time(0), dt.time(23, 59, 59, 999_000), dt.time(12, 0, 0, 1_000)]
    ),
    "ts0": stamps("ms", 0),
    "ts3": stamps("ms", 3),
    "ts6": stamps("us", 6),
    "ts9": stamps("ns", 9),
    "ltz3": stamps("ms", 3, zone=True),
    "ltz6": stamps("us", 6, zone=True),
    "ltz9": stamps("ns", 9, zone=True),
}
BAG = pl.List(pl.Struct({"key": pl.String(), "value": pl.Int32()}))
INTS = pl.List(pl.Int32())
PAIR = pl.Struct({"key": pl.String(), "value": pl.Decimal(10, 2)})
NESTED = pl.Struct({"n": pl.Int32(), "deep": pl.Struct({"at": pl.Datetime("ms"), "names": pl.List(pl.String())})})
VALUES = KEYABLE | {
    "f32": floats("FLOAT", pl.Float32()),
    "f64": floats("DOUBLE", pl.Float64()),
    "ints": Column(sql="ARRAY<INT>", dtype=INTS, values=[[], [1, None, -1], list(range(50))]),
    "bag": Column(sql="MULTISET<STRING>", dtype=BAG, values=[[], [{"key": "a", "value": 2}, {"key": "é", "value": 1}]]),
    "lists": Column(sql="ARRAY<ARRAY<INT>>", dtype=pl.List(INTS), values=[[], [[1], [], None, [2, 3]]]),
    "map": Column(
        sql="MAP<STRING, DECIMAL(10, 2)>",
        dtype=pl.List(PAIR),
        values=[[], [{"key": "a", "value": Decimal("1.50")}, {"key": "", "value": None}]],
    ),
    "rec": Column(
        sql="ROW<n INT, deep ROW<`at` TIMESTAMP(3), names ARRAY<STRING>>>",
        dtype=NESTED,
        values=[
            {"n": None, "deep": None},
            {"n": 1, "deep": {"at": NOON, "names": ["x", None, ""]}},
            {"n": 2, "deep": {"at": None, "names": None}},
        ],
    ),
    "maps": Column(
        sql="ARRAY<MAP<INT, ARRAY<DATE>>>",
        dtype=pl.List(pl.List(pl.Struct({"key": pl.Int32(), "value": pl.List(pl.Date())}))),
        values=[[], [[{"key": 1, "value": [DAY, None]}], None, [], [{"key": -1, "value": None}]]],
    ),
    "recs": Column(
        sql="ARRAY<ROW<n INT, t STRING>>",
        dtype=pl.List(pl.Struct({"n": pl.Int32(), "t": pl.String()})),
        values=[[], [{"n": 1, "t": "a"}, {"n": None, "t": None}]],
    ),
}
ENGINES = ("ours", "paimon")


def column_frame(columns: dict[str, Column], rows: int) -> pl.DataFrame:
    """Each column's values in turn, a null after them, and all again; columns have other lengths, so all meet."""
    return pl.DataFrame(
        {
            name: pl.Series(
                name, [[*column.values, None][n % (len(column.values) + 1)] for n in range(rows)], column.dtype
            )
            for name, column in columns.items()
        }
    )


def as_orc_holds_it(column: Column) -> Column:
    """Without the timestamps that are not written to ORC, and the blanks at the end of a CHAR, which Paimon cuts off."""
    values = list(column.values)
    if isinstance(column.dtype, pl.Datetime):
        values = [moment for moment in values if 1970 <= moment.year < 2262]
    if column.sql.startswith("CHAR"):
        values = [value for value in values if not value.endswith(" ")]
    return replace(column, values=values)


def numbered(both: Both, columns: dict[str, Column], options: dict[str, str]) -> tuple[Shared, pl.DataFrame]:
    """A table of these columns behind the key `id`, and rows that are not in it yet."""
    ids = {"id": Column(sql="INT NOT NULL", dtype=pl.Int32(), values=range(40))}
    frame = column_frame(columns, 40).insert_column(0, pl.int_range(40, dtype=pl.Int32, eager=True).alias("id"))
    return both.create("db.t", ddl(ids | columns, ["id"]), options), frame


def agree(shared: Shared, frame: pl.DataFrame) -> None:
    assert shared.rows() == canon(frame)


@pytest.mark.feature("Types and files", "every type as a value, {format_}")
@pytest.mark.parametrize("format_", ["parquet", "orc", "avro"])
@pytest.mark.parametrize("writer", ENGINES)
def test_every_type_as_a_value(both: Both, writer: str, format_: str) -> None:
    other = ENGINES[1 - ENGINES.index(writer)]
    columns = VALUES
    if format_ == "orc":
        columns = {name: as_orc_holds_it(column) for name, column in VALUES.items()}
    if format_ == "avro":
        columns = {name: column for name, column in VALUES.items() if "(9)" not in column.sql}
    shared, frame = numbered(both, columns, {"bucket": "2", "file.format": format_})
    shared.write(frame[:25], by=writer)
    agree(shared, frame[:25])
    shared.write(frame[20:], by=other)
    agree(shared, frame)
    shared.compact(by=writer)
    agree(shared, frame)
    backwards = frame.with_columns(pl.exclude("id").reverse())
    shared.write(backwards, by=other)
    shared.compact(by=other)
    agree(shared, backwards)


@pytest.mark.feature("Types and files", "{format_} with {codec}")
@pytest.mark.parametrize(
    ("format_", "codec"),
    [
        *(("parquet", codec) for codec in ("zstd", "snappy", "gzip", "lz4", "uncompressed")),
        *(("orc", codec) for codec in ("zstd", "snappy", "zlib", "lz4", "none")),
        *(("avro", codec) for codec in ("zstd", "snappy", "deflate", "null")),
    ],
)
def test_every_compression(both: Both, format_: str, codec: str) -> None:
    columns = {name: VALUES[name] for name in ("i32", "text", "d19", "ts6", "ints", "rec")}
    if format_ == "orc":
        columns = {name: as_orc_holds_it(column) for name, column in columns.items()}
    options = {"bucket": "1", "file.format": format_, "file.compression": codec}
    shared, frame = numbered(both, columns, options)
    shared.write(frame[:25], by="ours")
    shared.write(frame[20:], by="paimon")
    agree(shared, frame)


@pytest.mark.feature("Types and files", "formats and compressions that differ by level and for the changelog")
def test_files_that_differ_by_level(both: Both) -> None:
    options = {
        "bucket": "1",
        "file.format.per.level": "0:avro,5:orc",
        "file.compression.per.level": "0:snappy",
        "changelog-producer": "input",
        "changelog-file.format": "parquet",
        "changelog-file.compression": "gzip",
        "metadata.stats-mode.per.level": "0:none",
        "fields.text.stats-mode": "counts",
    }
    columns = {name: VALUES[name] for name in ("i32", "text", "d19", "ts3")}
    columns = {name: as_orc_holds_it(column) for name, column in columns.items()}
    shared, frame = numbered(both, columns, options)
    for step, writer in enumerate((*ENGINES, *ENGINES)):
        shared.write(frame[step * 5 : step * 5 + 20], by=writer)
        agree(shared, frame[: step * 5 + 20])
        shared.new_changes()
    shared.compact(by="paimon")
    agree(shared, frame[:35])
    shared.write(frame[30:], by="ours")
    shared.compact(by="ours")
    agree(shared, frame)
    found = both.flink.rows("SELECT id FROM db.t WHERE i32 = 42")
    assert found == canon(frame.filter(pl.col("i32") == 42).select("id"))


@pytest.mark.feature("Types and files", "{id} as a key")
@pytest.mark.parametrize("column", KEYABLE.values(), ids=[column.sql for column in KEYABLE.values()])
def test_every_type_as_a_key(both: Both, column: Column) -> None:
    """An upsert of the other engine meets every row where it is: same bucket, same order, same bytes."""
    columns = {
        "k": Column(sql=column.sql, dtype=column.dtype, values=column.values),
        "n": Column(sql="INT NOT NULL", dtype=pl.Int32(), values=[]),
        "text": Column(sql="STRING", dtype=pl.String(), values=[]),
    }
    keys = pl.DataFrame({"k": pl.Series("k", list(column.values), dtype=column.dtype)})
    frame = keys.join(pl.DataFrame({"n": pl.Series([-7, 0, 1, 2**31 - 1], dtype=pl.Int32)}), how="cross")
    shared = both.create("db.t", ddl(columns, ["n", "k"]), {"bucket": "7"})
    for writer in ENGINES:
        written = frame.with_columns(text=pl.lit(writer))
        shared.write(written, by=writer)
        agree(shared, written)
        shared.compact(by=writer)
        agree(shared, written)
    gone = written[::2].with_columns(_row_kind=pl.lit("-D"))
    shared.write(gone, by="ours")
    agree(shared, written[1::2])
    shared.write(gone.with_columns(_row_kind=pl.lit("+I")), by="ours")
    shared.write(gone, by="paimon")
    agree(shared, written[1::2])


@pytest.mark.feature("Types and files", "pruning by statistics")
@pytest.mark.parametrize("writer", ENGINES)
def test_statistics_prune_no_row_that_is_there(both: Both, writer: str) -> None:
    columns = {name: column for name, column in VALUES.items() if name not in ("f32", "f64")}
    shared, frame = numbered(both, columns, {"bucket": "1"})
    for part in range(3):
        shared.write(frame[part * 14 : part * 14 + 14], by=writer)
    agree(shared, frame)
    found = both.flink.rows("SELECT id FROM db.t WHERE i32 = 42 OR text = 'abcdefgh'")
    wanted = frame.filter((pl.col("i32") == 42) | (pl.col("text") == "abcdefgh"))
    assert found == canon(wanted.select("id"))
    for name in ("i8", "i64", "d9", "d38", "text", "day", "ts3", "ts6", "ltz3", "bytes"):
        for value in VALUES[name].values:
            same = pl.col(name) == pl.lit(value, VALUES[name].dtype)
            ours = shared.table.scan().filter(same).select("id").collect()
            assert ours["id"].sort().to_list() == frame.filter(same)["id"].to_list(), (name, value)

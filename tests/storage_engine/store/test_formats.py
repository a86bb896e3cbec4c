"""Data file formats: what goes into a file comes out of it, or is refused."""

from __future__ import annotations

import datetime as dt
import uuid
from decimal import Decimal

import polars as pl
import pyarrow.parquet as pq
import pytest

from storage_engine import Catalog, Table
from storage_engine.codec.binary_row import deserialize_row
from storage_engine.errors import FileMissing, InvalidOption, InvalidSchema, Unsupported
from storage_engine.store.live_files import LiveFiles

FAR = [dt.datetime(1, 1, 1), dt.datetime(9999, 12, 31, 23, 59, 59, 999_000), None]
PARTS = dt.datetime(1969, 12, 31, 23, 59, 59, 999_999)


def a_table(url: str, columns: dict[str, str], **options: str) -> Table:
    catalog = Catalog(url)
    catalog.create_database("db")
    named = {"bucket": "1", **{name.replace("_", "."): value for name, value in options.items()}}
    catalog.create_table("db.t", {"id": "INT", **columns}, primary_key=["id"], options=named)
    return catalog.table("db.t")


@pytest.mark.parametrize("remote", [False, True])
def test_far_years_stand_beside_nanoseconds(remote: bool, tmp_path) -> None:
    columns = {
        "ms": "TIMESTAMP(3)",
        "ns": "TIMESTAMP(9)",
        "ltz": "TIMESTAMP_LTZ(6)",
        "list": "ARRAY<TIMESTAMP(3)>",
        "row": "ROW<at TIMESTAMP(6)>",
    }
    table = a_table(f"memory://{uuid.uuid4()}" if remote else str(tmp_path), columns)
    frame = pl.DataFrame(
        {
            "id": pl.Series([1, 2, 3], dtype=pl.Int32),
            "ms": pl.Series(FAR, dtype=pl.Datetime("ms")),
            "ns": pl.Series([1, None, -1], dtype=pl.Int64).cast(pl.Datetime("ns")),
            "ltz": pl.Series(FAR, dtype=pl.Datetime("us")).dt.replace_time_zone("UTC"),
            "list": pl.Series([FAR, None, []], dtype=pl.List(pl.Datetime("ms"))),
            "row": pl.Series([{"at": at} for at in FAR], dtype=pl.Struct({"at": pl.Datetime("us")})),
        }
    )
    table.write(frame)
    assert table.scan().collect().sort("id").equals(frame)
    early = table.scan().filter(pl.col("ms") < dt.datetime(1000, 1, 1)).select("id").collect()
    assert early["id"].to_list() == [1]


def test_orc_keeps_time_at_any_depth() -> None:
    columns = {"time": "TIME(3)", "times": "ARRAY<TIME(3)>", "by_time": "MAP<STRING, TIME(3)>"}
    table = a_table(f"memory://{uuid.uuid4()}", columns, file_format="orc")
    clock = dt.time(23, 59, 59, 1_000)
    pair = pl.Struct({"key": pl.String(), "value": pl.Time()})
    frame = pl.DataFrame(
        {
            "id": pl.Series([1, 2], dtype=pl.Int32),
            "time": [clock, None],
            "times": pl.Series([[clock, None], None], dtype=pl.List(pl.Time())),
            "by_time": pl.Series([[{"key": "a", "value": clock}], []], dtype=pl.List(pair)),
        }
    )
    table.write(frame)
    assert table.files()["file_path"].str.ends_with(".orc").all()
    assert table.scan().collect().sort("id").equals(frame)


@pytest.mark.parametrize(
    ("sql", "value", "reason"),
    [
        ("TIMESTAMP(3)", dt.datetime(1600, 1, 1), "timestamps of the years 1678 to 2261"),
        ("TIMESTAMP(6)", PARTS, "whole milliseconds before 1970"),
    ],
)
def test_orc_refuses_what_it_would_garble(sql: str, value: object, reason: str) -> None:
    table = a_table(f"memory://{uuid.uuid4()}", {"v": sql}, file_format="orc")
    dtype = table.schema.by_name["v"].type.to_polars()
    frame = pl.DataFrame({"id": pl.Series([1], dtype=pl.Int32), "v": pl.Series([value], dtype=dtype)})
    with pytest.raises(Unsupported, match=f"column 'v'.*{reason}"):
        table.write(frame)
    assert table.latest_snapshot() is None


NESTED = {
    "row": "ROW<n INT, t STRING>",
    "rows": "ARRAY<ROW<n INT, day DATE>>",
    "maps": "ARRAY<MAP<STRING, BIGINT>>",
    "by_number": "MAP<INT, ROW<at TIMESTAMP(3)>>",
    "in_row": "ROW<m MAP<STRING, ARRAY<DECIMAL(20, 3)>>, c TIME(3)>",
}


def nested_frame(table: Table) -> pl.DataFrame:
    """Rows whose nested values are null, empty and full at every depth."""
    at, day = dt.datetime(2024, 2, 29, 12), dt.date(1969, 12, 31)
    values = {
        "row": [{"n": 1, "t": None}, None, {"n": None, "t": "x"}, {"n": 7, "t": ""}],
        "rows": [[], [{"n": 1, "day": day}, None, {"n": None, "day": None}], None, [{"n": 3, "day": day}]],
        "maps": [None, [[{"key": "a", "value": 1}], None, []], [], [[{"key": "", "value": None}]]],
        "by_number": [
            [{"key": 5, "value": {"at": at}}, {"key": -6, "value": None}],
            None,
            [],
            [{"key": 0, "value": {"at": None}}],
        ],
        "in_row": [
            {"m": [{"key": "k", "value": [Decimal("1.500"), None]}], "c": None},
            {"m": None, "c": dt.time(23, 59, 59, 1_000)},
            None,
            {"m": [{"key": "z", "value": None}], "c": dt.time(0)},
        ],
    }
    columns = {"id": [1, 2, 3, 4], **values}
    return pl.DataFrame(
        {name: pl.Series(name, columns[name], dtype) for name, dtype in table.schema.polars_schema.items()}
    )


@pytest.mark.parametrize("format_", ["parquet", "orc", "avro"])
def test_nested_values_at_every_depth(format_: str) -> None:
    table = a_table(f"memory://{uuid.uuid4()}", NESTED, file_format=format_)
    frame = nested_frame(table)
    table.write(frame[1:])
    assert table.files()["file_path"].str.ends_with(f".{format_}").all()
    assert table.scan().collect().sort("id").equals(frame[1:])
    table.write(frame[:2])
    table.compact(full=True)
    assert table.scan().collect().sort("id").equals(frame)


def test_files_differ_by_level_and_changelog() -> None:
    options = {
        "file.format.per.level": "0:avro,5:orc",
        "file.compression.per.level": "0:snappy",
        "changelog-producer": "input",
        "changelog-file.format": "avro",
        "changelog-file.compression": "deflate",
        "file.suffix.include.compression": "true",
    }
    catalog = Catalog(f"memory://{uuid.uuid4()}")
    catalog.create_database("db")
    catalog.create_table("db.t", {"id": "INT", "n": "INT"}, primary_key=["id"], options={"bucket": "1", **options})
    table = catalog.table("db.t")
    frame = pl.DataFrame({"id": [1, 2], "n": [None, 2]}, schema={"id": pl.Int32, "n": pl.Int32})
    table.write(frame)
    assert [path.rpartition("-")[2].split(".", 1)[1] for path in table.files()["file_path"]] == ["snappy.avro"]
    assert table.changes(0).drop("_row_kind").collect().equals(frame)
    names = table.store.io.list_names(table.files()["file_path"][0].rpartition("/")[0])
    assert [name.split(".", 1)[1] for name in names if name.startswith("changelog-")] == ["deflate.avro"]
    table.write(frame)
    table.compact(full=True)  # of two files one is made; a single one would be moved up as it is
    assert [path.rpartition("-")[2].split(".", 1)[1] for path in table.files()["file_path"]] == ["zst.orc"]
    assert table.scan().collect().sort("id").equals(frame)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("file.format.per.level", "0:csv"),
        ("file.format.per.level", "avro"),
        ("file.compression.per.level", "x:zstd"),
        ("metadata.stats-mode", "truncate(0)"),
        ("changelog-file.stats-mode", "some"),
        ("fields.n.stats-mode", "truncate(x)"),
    ],
)
def test_a_bad_setting_of_files_is_refused(option: str, value: str) -> None:
    catalog = Catalog(f"memory://{uuid.uuid4()}")
    catalog.create_database("db")
    with pytest.raises(InvalidOption, match=f"option '{option}'"):
        catalog.create_table(
            "db.t", {"id": "INT", "n": "INT"}, primary_key=["id"], options={"bucket": "1", option: value}
        )


@pytest.mark.parametrize(
    ("options", "columns", "known"),
    [
        ({"metadata.stats-mode": "none"}, (), {}),
        ({"metadata.stats-mode": "counts"}, ("id", "s"), {"id": (None, None, 0), "s": (None, None, 1)}),
        ({"metadata.stats-mode": "full"}, ("id", "s"), {"id": (1, 3, 0), "s": ("a" * 20, "b" * 20, 1)}),
        (
            {"metadata.stats-mode.per.level": "0:none", "fields.s.stats-mode": "truncate(2)"},
            ("s",),
            {"s": ("aa", "bc", 1)},
        ),
        ({"metadata.stats-keep-first-n-columns": "1"}, ("id",), {"id": (1, 3, 0)}),
        ({"metadata.stats-keep-first-n-columns": "1", "metadata.stats-dense-store": "false"}, None, {"id": (1, 3, 0)}),
    ],
)
def test_statistics_are_kept_as_the_options_say(options, columns, known) -> None:
    catalog = Catalog(f"memory://{uuid.uuid4()}")
    catalog.create_database("db")
    types = {"id": "INT", "s": "STRING", "l": "ARRAY<INT>"}
    catalog.create_table("db.t", types, primary_key=["id"], options={"bucket": "1", **options})
    table = catalog.table("db.t")
    frame = pl.DataFrame({"id": [1, 2, 3], "s": ["a" * 20, None, "b" * 20], "l": [[1], None, []]})
    table.write(frame.cast(dict(table.schema.polars_schema)))
    live = LiveFiles(table.store, table.schema)
    (entry,) = live.entries(table.latest_snapshot())
    stats, names = entry.file.value_stats, entry.file.value_stats_cols
    assert names == columns
    names = table.schema.column_names if names is None else names
    types = [table.schema.by_name[name].type.with_nullable(True) for name in names]
    lows, highs = deserialize_row(types, stats.min_values), deserialize_row(types, stats.max_values)
    found = dict(zip(names, zip(lows, highs, stats.null_counts, strict=True), strict=True))
    assert {name: of for name, of in found.items() if of != (None, None, None)} == known
    assert table.scan().filter(pl.col("s") == "b" * 20).collect()["id"].to_list() == [3]
    assert table.scan().filter(pl.col("s") == "c").collect().is_empty()


def test_avro_refuses_what_it_does_not_hold() -> None:
    with pytest.raises(InvalidSchema, match=r"column 'v': Avro files hold no TIMESTAMP\(9\), 6 digits at most"):
        a_table(f"memory://{uuid.uuid4()}", {"v": "ARRAY<TIMESTAMP(9)>"}, file_format="avro")
    table = a_table(f"memory://{uuid.uuid4()}", {"a b": "INT"}, file_format="avro")
    with pytest.raises(Unsupported, match="column 'a b': an Avro field is named by"):
        table.write(pl.DataFrame({"id": [1], "a b": [1]}, schema={"id": pl.Int32, "a b": pl.Int32}))
    assert table.latest_snapshot() is None


def test_a_data_file_that_is_gone_is_named(tmp_path) -> None:
    table = a_table(str(tmp_path), {"n": "INT"})
    table.write(pl.DataFrame({"id": [1], "n": [2]}, schema={"id": pl.Int32, "n": pl.Int32}))
    path = table.files()["file_path"][0]
    table.store.io.delete(path)
    with pytest.raises(FileMissing, match=f"{path}: there is no such file"):
        table.scan().collect()


@pytest.mark.parametrize(
    ("key", "options", "told"),
    [
        ("PRIMARY KEY (k) NOT ENFORCED", {}, False),
        ("PRIMARY KEY (k) NOT ENFORCED", {"metadata.stats-mode": "counts"}, True),
        ("v STRING", {}, True),
    ],
)
def test_parquet_tells_the_ends_of_columns_unless_the_manifest_does(
    key: str, options: dict[str, str], told: bool, tmp_path
) -> None:
    catalog = Catalog(str(tmp_path))
    settings = ", ".join(f"'{name}' = '{value}'" for name, value in options.items())
    catalog.execute(f"CREATE DATABASE db; CREATE TABLE db.t (k INT, {key}){f' WITH ({settings})' if options else ''}")
    catalog.table("db.t").write(pl.DataFrame({"k": [1, 2]}))
    (path,) = tmp_path.rglob("data-*.parquet")
    row_group = pq.read_metadata(path).row_group(0)
    assert all((row_group.column(at).statistics is not None) is told for at in range(row_group.num_columns))


def test_texts_and_bytes_of_every_length_in_parquet(tmp_path) -> None:
    catalog = Catalog(str(tmp_path))
    catalog.execute(
        "CREATE DATABASE db; CREATE TABLE db.t (k INT, s STRING, b BYTES, l ARRAY<STRING>, PRIMARY KEY (k) NOT ENFORCED)"
    )
    texts = [None, "", "twelve bytes", "thirteen byte", "ß" * 40]
    rows = pl.DataFrame(
        {
            "k": pl.Series(range(5), dtype=pl.Int32),
            "s": texts,
            "b": [None if text is None else text.encode() for text in texts],
            "l": [None, [], [None, ""], texts[2:], ["a"]],
        }
    )
    catalog.table("db.t").write(rows)
    assert catalog.table("db.t").scan().collect().sort("k").equals(rows)
    (path,) = tmp_path.rglob("data-*.parquet")
    stored = pq.read_table(path)
    assert stored.select(rows.columns).to_pylist() == rows.to_dicts()

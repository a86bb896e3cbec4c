"""Data file formats: what goes into a file comes out of it, or is refused."""

from __future__ import annotations

import datetime as dt
import uuid

import polars as pl
import pytest

from storage_engine import Catalog, Table
from storage_engine.errors import FileMissing, InvalidOption, Unsupported
from storage_engine.options import TableOptions

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
        ("ROW<n INT>", {"n": 1}, "columns with a ROW"),
        ("MAP<STRING, ARRAY<ROW<n INT>>>", [], "columns with a ROW"),
    ],
)
def test_orc_refuses_what_it_would_garble(sql: str, value: object, reason: str) -> None:
    table = a_table(f"memory://{uuid.uuid4()}", {"v": sql}, file_format="orc")
    dtype = table.schema.by_name["v"].type.to_polars()
    frame = pl.DataFrame({"id": pl.Series([1], dtype=pl.Int32), "v": pl.Series([value], dtype=dtype)})
    with pytest.raises(Unsupported, match=f"column 'v'.*{reason}"):
        table.write(frame)
    assert table.latest_snapshot() is None


def test_a_data_file_that_is_gone_is_named(tmp_path) -> None:
    table = a_table(str(tmp_path), {"n": "INT"})
    table.write(pl.DataFrame({"id": [1], "n": [2]}, schema={"id": pl.Int32, "n": pl.Int32}))
    path = table.files()["file_path"][0]
    table.store.io.delete(path)
    with pytest.raises(FileMissing, match=f"{path}: there is no such file"):
        table.scan().collect()


@pytest.mark.parametrize(
    ("option", "value"),
    [("data-file.path-directory", "data"), ("index-file-in-data-file-dir", "true"), ("manifest.format", "orc")],
)
def test_a_layout_that_is_not_known_here_is_refused(option: str, value: str) -> None:
    with pytest.raises(InvalidOption, match=f"option '{option}' is '{value}'"):
        TableOptions.parse({option: value})
    assert TableOptions.parse({"manifest.format": "avro", "index-file-in-data-file-dir": "FALSE"}).bucket == -1

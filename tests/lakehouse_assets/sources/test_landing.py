"""A landing folder: names in order, positions, and files that are not there yet."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest

from lakehouse_assets.sources.change_source import SourceTable
from lakehouse_assets.sources.errors import SourceUnavailable
from lakehouse_assets.sources.landing import LandingSource

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
    monkeypatch.setattr(LandingSource, "file_names", lambda *_, **__: ["000001.jsonl"])
    with pytest.raises(SourceUnavailable, match=r"city/000001\.jsonl"):
        read(folder)

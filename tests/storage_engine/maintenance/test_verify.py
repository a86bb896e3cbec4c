"""Verifying a table: whatever file of a snapshot is damaged or gone is named, and nothing else."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from storage_engine import Catalog, Table

OPTIONS = {
    "bucket": "1",
    "deletion-vectors.enabled": "true",
    "file-index.bloom-filter.columns": "n",
    "file-index.bloom-filter.n.items": "1000",
}


def a_table(folder: Path, format_: str) -> Table:
    catalog = Catalog(str(folder))
    catalog.create_database("db")
    options = {**OPTIONS, "file.format": format_}
    table = catalog.create_table("db.t", {"id": "INT", "n": "BIGINT"}, primary_key=["id"], options=options)
    for ids in (range(3000), range(10)):
        table.write(pl.DataFrame({"id": ids, "n": ids}, schema={"id": pl.Int32, "n": pl.Int64}))
    return table


@pytest.mark.parametrize("format_", ["parquet", "orc", "avro"])
def test_each_damaged_file_is_named(format_: str, tmp_path: Path) -> None:
    table = a_table(tmp_path, format_)
    assert table.verify().is_empty()
    paths = [
        *table.files()["file_path"],
        *map(str, tmp_path.rglob("*.index")),
        *map(str, tmp_path.rglob("index/index-*")),
    ]
    assert len(paths) >= 4
    for path in paths:
        content = Path(path).read_bytes()
        Path(path).write_bytes(content[: len(content) // 2])
        assert table.verify()["file_path"].to_list() == [path]
        Path(path).unlink()
        ((found, problem),) = table.verify().rows()
        assert found == path
        assert "there is no such file" in problem
        Path(path).write_bytes(content)
    assert table.verify().is_empty()


def test_one_wrong_bit_in_a_page_is_found_by_its_checksum(tmp_path: Path) -> None:
    table = a_table(tmp_path, "parquet")
    path = Path(max(table.files()["file_path"], key=lambda name: Path(name).stat().st_size))
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 1
    path.write_bytes(content)
    assert table.verify()["file_path"].to_list() == [str(path)]


def test_a_damaged_manifest_and_an_empty_table(tmp_path: Path) -> None:
    a_table(tmp_path, "parquet")
    (manifest, *_) = sorted(tmp_path.rglob("manifest/manifest-list-*"))
    for path in tmp_path.rglob("manifest/manifest-list-*"):
        path.write_bytes(path.read_bytes()[:-20])
    again = Catalog(str(tmp_path)).table("db.t")
    ((_, problem),) = again.verify().rows()
    assert str(manifest.parent) in problem
    empty = Catalog(str(tmp_path)).create_table("db.u", {"id": "INT"}, primary_key=["id"])
    assert empty.verify().is_empty()

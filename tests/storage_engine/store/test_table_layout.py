"""Tables whose files lie elsewhere than usual, or whose manifests are of another format: written, looked after, read."""

from __future__ import annotations

import time
from pathlib import Path

import polars as pl
import pytest

from storage_engine import Catalog, Table
from storage_engine.errors import InvalidOption
from storage_engine.options import TableOptions

DEEP = {"data-file.path-directory": "deep/data", "index-file-in-data-file-dir": "true"}
KINDS: dict[str, dict[str, str]] = {
    "deletion vectors": {"bucket": "2", "deletion-vectors.enabled": "true"},
    "dynamic buckets": {"bucket": "-1", "changelog-producer": "lookup"},
}


def a_table(root: Path, options: dict[str, str], *, keys: tuple[str, ...] = ("day", "id")) -> Table:
    catalog = Catalog(str(root))
    catalog.create_database("db")
    columns = {"day": "STRING", "id": "INT", "n": "INT"}
    catalog.create_table("db.t", columns, primary_key=keys, partitioned_by=["day"], options=options)
    return catalog.table("db.t")


def a_frame(step: int) -> pl.DataFrame:
    return pl.DataFrame({"day": ["a", "a", "b"], "id": [1, 2 + step % 2, 3], "n": [step, step, step]})


def files_of(root: Path) -> set[str]:
    table = root / "db.db" / "t"
    return {str(path.relative_to(table)) for path in table.rglob("*") if path.is_file()}


@pytest.mark.parametrize("manifest_format", ["avro", "parquet", "orc"])
@pytest.mark.parametrize("options", KINDS.values(), ids=KINDS)
def test_files_lie_where_the_options_say(tmp_path: Path, options: dict[str, str], manifest_format: str) -> None:
    usual = a_table(tmp_path / "usual", options)
    table = a_table(tmp_path / "deep", {**options, **DEEP, "manifest.format": manifest_format})
    for step in range(4):
        for each in (usual, table):
            each.write(a_frame(step))
    for each in (usual, table):
        each.delete(pl.col("id") == 2)
        each.create_tag("kept")
        each.write(a_frame(8))
        each.compact(full=True)
        assert each.verify().is_empty()
    assert table.scan().sort("day", "id").collect().equals(usual.scan().sort("day", "id").collect())
    data = [path for path in files_of(tmp_path / "deep") if "bucket-" in path]
    assert data
    assert all(path.startswith("deep/data/day=") for path in data)
    assert any("/index-" in path for path in data)
    assert not (tmp_path / "deep" / "db.db" / "t" / "index").exists()


def test_what_nothing_needs_any_more_goes_from_there(tmp_path: Path) -> None:
    table = a_table(tmp_path, {**KINDS["deletion vectors"], **DEEP, "snapshot.clean-empty-directories": "true"})
    for step in range(3):
        table.write(a_frame(step))
    table.overwrite(a_frame(0).clear(), partitions=[{"day": "b"}])
    table.expire_snapshots(retain_max=1, retain_min=1)
    stray = tmp_path / "db.db" / "t" / "deep" / "data" / "day=a" / "bucket-0" / "data-stray.parquet"
    foreign = tmp_path / "db.db" / "t" / "deep" / "notes.txt"
    for path in (stray, foreign):
        path.write_bytes(b"x")
    before = table.scan().sort("id").collect()
    gone = table.remove_orphan_files(older_than_millis=int(time.time() * 1000))
    assert [path.rpartition("/")[2] for path in gone] == ["data-stray.parquet"]
    assert not any("day=b" in path for path in files_of(tmp_path))
    assert table.scan().sort("id").collect().equals(before)
    assert table.verify().is_empty()


def test_the_format_of_manifests_can_change(tmp_path: Path) -> None:
    a_table(tmp_path, {"bucket": "1", "manifest.merge-min-count": "2"})
    for step, name in enumerate(["orc", "parquet", "avro", "orc"]):
        Catalog(str(tmp_path)).execute(f"ALTER TABLE db.t SET ('manifest.format' = '{name}')")
        Catalog(str(tmp_path)).table("db.t").write(a_frame(step))
    fresh = Catalog(str(tmp_path)).table("db.t")
    assert fresh.scan().filter(pl.col("id") != 2).sort("day", "id").collect()["n"].to_list() == [3, 3, 3]


@pytest.mark.parametrize("text", ["/data", "..", "a/../b", "manifest", "schema/x", "", "dt=1", "data/bucket-1", "."])
def test_a_directory_that_is_none_of_its_own_is_refused(text: str) -> None:
    with pytest.raises(InvalidOption, match=r"data-file\.path-directory"):
        TableOptions.parse({"data-file.path-directory": text})

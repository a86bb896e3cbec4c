"""Files that keys are looked up in again and again are unpacked, within bounds, and never believed when damaged."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from storage_engine import Catalog, Table
from storage_engine.errors import CorruptFile, StorageUnavailable
from storage_engine.spec.manifest import FileSource
from storage_engine.spec.schema import SEQUENCE_NUMBER, VALUE_KIND
from storage_engine.store.data_files import DataFiles
from storage_engine.store.local_rows import LocalRows
from storage_engine.store.lookup_files import LOOKS_BEFORE, LookupFiles
from storage_engine.store.merge_frames import FilePart

ROWS = 500


def made(folder: str | Path, **options: str) -> tuple[Table, DataFiles]:
    catalog = Catalog(str(folder))
    catalog.create_database("db")
    columns = {"id": "BIGINT NOT NULL", "value": "STRING"}
    catalog.create_table("db.t", columns, primary_key=["id"], options={"bucket": "1", **options})
    table = catalog.table("db.t")
    return table, DataFiles(table.store.io, table.schema, table.store.schemas)


def written(table: Table, directory: str, *, ascending: bool = True) -> FilePart:
    files = DataFiles(table.store.io, table.schema, table.store.schemas)
    numbers = range(ROWS) if ascending else range(ROWS - 1, -1, -1)
    rows = pl.DataFrame({"id": numbers, "value": [f"value {number}" for number in numbers]}).with_columns(
        pl.col("id").alias(SEQUENCE_NUMBER), pl.lit(0, pl.Int8).alias(VALUE_KIND)
    )
    (meta,) = files.write(rows, directory, files.data_role(5, FileSource.COMPACT))
    return FilePart(meta=meta, directory=directory)


def looked_at(lookups: LookupFiles, part: FilePart, times: int = LOOKS_BEFORE + 1) -> list[bool]:
    return [lookups.rows(part, few=True) is not None for _ in range(times)]


def test_a_file_is_unpacked_when_it_is_looked_into_again_and_again(tmp_path: Path) -> None:
    table, files = made(tmp_path)
    part = written(table, f"{tmp_path}/a")
    lookups = LookupFiles(table.schema, files)
    assert lookups.rows(part, few=False) is None
    assert looked_at(lookups, part) == [False] * LOOKS_BEFORE + [True]
    rows = lookups.rows(part, few=False)
    assert rows is not None
    assert rows.get_column("value").to_list() == [f"value {number}" for number in range(ROWS)]


def test_what_is_no_local_file_is_unpacked_at_once(tmp_path: Path) -> None:
    table, files = made("memory://lookup-files")
    part = written(table, f"{table.store.paths.branch_root}/a")
    assert looked_at(LookupFiles(table.schema, files), part, 1) == [True]
    table, files = made(tmp_path, **{"file.format": "avro"})
    assert looked_at(LookupFiles(table.schema, files), written(table, f"{tmp_path}/a"), 1) == [True]


def test_no_more_is_unpacked_than_the_option_allows(tmp_path: Path) -> None:
    table, files = made(tmp_path / "none", **{"lookup.cache-max-disk-size": "0 b"})
    assert looked_at(LookupFiles(table.schema, files), written(table, f"{tmp_path}/a"), 10) == [False] * 10
    table, files = made(tmp_path / "few", **{"lookup.cache-max-disk-size": "48 kb"})
    lookups = LookupFiles(table.schema, files)
    parts = [written(table, f"{tmp_path}/{name}") for name in "bcde"]
    for part in parts:
        looked_at(lookups, part)
    assert lookups.rows(parts[0], few=False) is None, "the one looked into longest ago made room"
    assert lookups.rows(parts[-1], few=False) is not None


def test_files_that_are_gone_from_their_bucket_are_forgotten(tmp_path: Path) -> None:
    table, files = made(tmp_path)
    gone, stays = written(table, f"{tmp_path}/a"), written(table, f"{tmp_path}/a")
    elsewhere = written(table, f"{tmp_path}/b")
    lookups = LookupFiles(table.schema, files)
    for part in (gone, stays, elsewhere):
        looked_at(lookups, part)
    lookups.retain([stays])
    assert [lookups.rows(part, few=False) is not None for part in (gone, stays, elsewhere)] == [False, True, True]


def test_rows_out_of_order_are_not_searched(tmp_path: Path) -> None:
    table, files = made(tmp_path)
    assert looked_at(LookupFiles(table.schema, files), written(table, f"{tmp_path}/a", ascending=False)) == [False] * (
        LOOKS_BEFORE + 1
    )


def test_a_full_disk_does_not_fail_a_lookup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: LocalRows, rows: pl.LazyFrame) -> pl.DataFrame:
        raise StorageUnavailable("full")

    monkeypatch.setattr(LocalRows, "keep", full)
    table, files = made(tmp_path)
    assert looked_at(LookupFiles(table.schema, files), written(table, f"{tmp_path}/a"), 5) == [False] * 5


def test_a_damaged_file_is_left_to_its_reader_to_name(tmp_path: Path) -> None:
    table, files = made(tmp_path)
    part = written(table, f"{tmp_path}/a")
    path = Path(files.path_of(part.meta, part.directory))
    data = bytearray(path.read_bytes())
    data[len(data) // 2 :] = bytes(len(data) - len(data) // 2)
    path.write_bytes(data)
    assert looked_at(LookupFiles(table.schema, files), part, 5) == [False] * 5
    path.write_bytes(data[:-1])
    with pytest.raises(CorruptFile, match=part.meta.file_name):
        LookupFiles(table.schema, files).rows(part, few=True)

"""Files that roll while they are written: their sizes, what the manifest says of them, and a failure in the middle."""

from __future__ import annotations

import uuid

import polars as pl
import pytest

from storage_engine import Catalog, Table
from storage_engine.spec.manifest import FileSource
from storage_engine.store.data_files import DataFiles
from storage_engine.store.rolling_files import RollingFiles


def a_table(file_format: str = "parquet") -> Table:
    catalog = Catalog(f"memory://{uuid.uuid4()}")
    catalog.create_database("db")
    options = {"bucket": "1", "target-file-size": "64 kb", "file.format": file_format}
    catalog.create_table("db.t", {"id": "BIGINT", "text": "STRING"}, primary_key=["id"], options=options)
    return catalog.table("db.t")


def key_values(start: int, height: int) -> pl.DataFrame:
    numbers = pl.int_range(start, start + height, eager=True)
    return pl.DataFrame(
        {
            "id": numbers,
            "text": numbers.hash().cast(pl.String),
            "_SEQUENCE_NUMBER": numbers,
            "_VALUE_KIND": pl.Series([0, 3] * (height // 2), dtype=pl.Int8),
        }
    )


@pytest.mark.parametrize("background", [True, False])
@pytest.mark.parametrize("file_format", ["parquet", "orc"])
def test_files_have_the_target_size_and_are_described_truly(background: bool, file_format: str) -> None:
    table = a_table(file_format)
    files = DataFiles(table.store.io, table.schema, table.store.schemas)
    directory = f"{table.store.paths.root}/bucket-0"
    role = files.data_role(5, FileSource.COMPACT)
    with RollingFiles(files, directory, role, background=background) as rolling:
        for start in range(0, 30_000, 2000):
            rolling.write(key_values(start, 2000))
        written = rolling.close()
    assert len(written) > 3
    assert all(file.file_size < 2 * 64 * 1024 for file in written)
    found = [files.read(file, directory, ["id", "text", "_SEQUENCE_NUMBER", "_VALUE_KIND"]) for file in written]
    assert pl.concat(found).equals(key_values(0, 30_000))
    for file, rows in zip(written, found, strict=True):
        whole = files.meta(files.contents(rows, role), directory, file.file_name, file.file_size, role)
        assert whole.key_stats == file.key_stats
        assert whole.value_stats == file.value_stats
        assert (whole.min_key, whole.max_key) == (file.min_key, file.max_key)
        assert (whole.row_count, whole.delete_row_count) == (file.row_count, file.delete_row_count)
        assert (whole.min_sequence_number, whole.max_sequence_number) == (
            file.min_sequence_number,
            file.max_sequence_number,
        )


@pytest.mark.parametrize("background", [True, False])
def test_a_failure_leaves_no_file(background: bool) -> None:
    table = a_table()
    files = DataFiles(table.store.io, table.schema, table.store.schemas)
    directory = f"{table.store.paths.root}/bucket-0"
    with pytest.raises(pl.exceptions.ColumnNotFoundError):
        write_badly(files, directory, background=background)
    assert table.store.io.list_names(directory) == []


def write_badly(files: DataFiles, directory: str, *, background: bool) -> None:
    role = files.data_role(5, FileSource.COMPACT)
    with RollingFiles(files, directory, role, background=background) as rolling:
        for start in range(0, 30_000, 2000):
            rolling.write(key_values(start, 2000))
        rolling.write(key_values(30_000, 10).drop("text"))
        rolling.close()

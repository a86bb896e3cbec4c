"""Keys are found in upper files as a look at every row finds them, and little else is read."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from storage_engine import Catalog
from storage_engine.codec.deletion_vector import DeletionVector
from storage_engine.spec.manifest import FileSource
from storage_engine.spec.schema import SEQUENCE_NUMBER, VALUE_KIND
from storage_engine.store.data_files import DataFiles
from storage_engine.store.lookup_files import LOOKS_BEFORE
from storage_engine.store.merge_frames import FILE_NAME, GROUP, POSITION, FilePart
from storage_engine.write.point_lookup import PointLookup

ROWS = 3000
KEYS: dict[str, tuple[dict[str, str], Callable[[int], tuple[Any, ...]]]] = {
    "number": ({"a": "BIGINT NOT NULL"}, lambda number: (number * 2,)),
    "text and number": (
        {"a": "STRING NOT NULL", "b": "INT NOT NULL"},
        lambda number: (f"k{number // 10:05d}", number % 10),
    ),
    "date": ({"a": "DATE NOT NULL"}, lambda number: (date(1970, 1, 1) + timedelta(days=number),)),
    "fraction": ({"a": "DECIMAL(9, 2) NOT NULL"}, lambda number: (Decimal(number) / 4,)),
}


def _frame(
    names: list[str], schema: dict[str, pl.DataType], numbers: range, key: Callable[[int], tuple[Any, ...]]
) -> Any:
    columns = dict(zip(names, zip(*map(key, numbers), strict=True), strict=True))
    return pl.DataFrame(columns, schema={name: schema[name] for name in names})


@pytest.mark.parametrize("kind", KEYS)
@pytest.mark.parametrize("format_name", ["parquet", "avro"])
@pytest.mark.parametrize("count", [1, 20, 1000])
def test_what_is_found_is_what_a_look_at_every_row_finds(
    tmp_path: Path, kind: str, format_name: str, count: int
) -> None:
    key_columns, key = KEYS[kind]
    names = list(key_columns)
    catalog = Catalog(str(tmp_path))
    catalog.create_database("db")
    options = {"bucket": "2", "file.format": format_name}
    catalog.create_table("db.t", {**key_columns, "value": "STRING"}, primary_key=names, options=options)
    table = catalog.table("db.t")
    files = DataFiles(table.store.io, table.schema, table.store.schemas)
    parts = []
    for group, level in ((0, 5), (0, 3), (1, 5)):
        numbers = range(0, ROWS, 1 if level == 5 else 3)
        rows = _frame(names, table.schema.polars_schema, numbers, key).with_columns(
            pl.format("{} of {}", pl.lit(level), pl.row_index()).alias("value"),
            pl.row_index().cast(pl.Int64).alias(SEQUENCE_NUMBER),
            pl.lit(0, pl.Int8).alias(VALUE_KIND),
        )
        (meta,) = files.write(rows, f"{tmp_path}/{group}", files.data_role(level, FileSource.COMPACT))
        vector = DeletionVector([0, 7, 40]) if level == 5 and group == 0 else None
        parts.append(FilePart(meta=meta, directory=f"{tmp_path}/{group}", vector=vector, group=group))
    asked = range(0, ROWS + 100, (ROWS + 100) // count)
    keys = pl.concat(
        _frame(names, table.schema.polars_schema, asked, key).with_columns(pl.lit(group, pl.Int32).alias(GROUP))
        for group in (0, 1)
    )
    low, high = parts[1].meta.file_name, parts[0].meta.file_name
    expected = {}
    for number in asked:
        if number >= ROWS:
            continue
        expected[1, key(number)] = (f"5 of {number}", parts[2].meta.file_name, number)
        if number % 3 == 0:
            expected[0, key(number)] = (f"3 of {number // 3}", low, number // 3)
        elif number not in (0, 7, 40):
            expected[0, key(number)] = (f"5 of {number}", high, number)
    reader = DataFiles(table.store.io, table.schema, table.store.schemas)
    read, held = PointLookup(table.schema, reader), PointLookup(table.schema, files)
    for lookup in (held, *[read] * (LOOKS_BEFORE + 2)):  # from memory, from the files, from what was unpacked of them
        found = lookup.find(keys, parts)
        seen = found.rows.select(GROUP, *names, "value").hstack(found.places.select(FILE_NAME, POSITION))
        assert {(row[0], row[1:-3]): row[-3:] for row in seen.iter_rows()} == expected
        assert len(expected) == found.rows.height
        assert found.rows.schema[GROUP] == pl.Int32
        assert found.places.schema[POSITION] == pl.Int64


def test_a_file_is_decoded_only_where_keys_are(tmp_path: Path) -> None:
    catalog = Catalog(str(tmp_path))
    catalog.create_database("db")
    catalog.create_table(
        "db.t", {"id": "BIGINT NOT NULL", "value": "STRING"}, primary_key=["id"], options={"bucket": "1"}
    )
    table = catalog.table("db.t")
    files = DataFiles(table.store.io, table.schema, table.store.schemas)
    rows = pl.DataFrame({"id": range(5000), "value": ["x"] * 5000}).with_columns(
        pl.col("id").alias(SEQUENCE_NUMBER), pl.lit(0, pl.Int8).alias(VALUE_KIND)
    )
    (meta,) = files.write(rows, f"{tmp_path}/d", files.data_role(5, FileSource.COMPACT))
    wanted = pl.col("id").is_in([3, 4999, 7000])
    assert files.matching(meta, f"{tmp_path}/d", ["id", "value"], wanted, POSITION) is None, (
        "the writer has it in memory"
    )
    reader = DataFiles(table.store.io, table.schema, table.store.schemas)
    found = reader.matching(meta, f"{tmp_path}/d", ["id", "value"], wanted, POSITION)
    assert found is not None
    assert found.rows() == [(3, "x", 3), (4999, "x", 4999)]

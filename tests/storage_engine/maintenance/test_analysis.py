"""ANALYZE TABLE: what is kept of a table's rows, against plain Python; who keeps it, and for how long."""

from __future__ import annotations

import datetime as dt
import json
import uuid
from decimal import Decimal
from typing import Any

import polars as pl
import pytest

from storage_engine import Catalog, Table
from storage_engine.errors import InvalidInput, SqlError
from storage_engine.spec.snapshot import CommitKind

COLUMNS: dict[str, tuple[str, list[Any]]] = {
    "id": ("INT", [1, 2, 3, 4]),
    "text": ("STRING", ["a", "éé", None, "éé"]),
    "price": ("DECIMAL(10, 3)", [Decimal("1.5"), None, Decimal(-2), Decimal(0)]),
    "ratio": ("DOUBLE", [1.0, float("inf"), None, -0.25]),
    "day": ("DATE", [dt.date(2024, 1, 1), None, dt.date(1969, 12, 31), dt.date(2024, 1, 1)]),
    "at": ("TIMESTAMP(3)", [dt.datetime(2024, 1, 1, 1, 2, 3, 456_000), None, dt.datetime(2023, 1, 1), None]),
    "minute": ("TIMESTAMP(0)", [dt.datetime(2024, 1, 1, 1, 2, 3), None, None, None]),
    "flag": ("BOOLEAN", [True, True, None, False]),
    "content": ("BYTES", [b"", b"abc", None, b"d"]),
    "nothing": ("BIGINT", [None, None, None, None]),
    "list": ("ARRAY<INT>", [[1], None, [], [2]]),
}
WANTED = {
    "id": {"colId": 0, "distinctCount": 4, "min": "1", "max": "4", "nullCount": 0},
    "text": {"colId": 1, "distinctCount": 2, "nullCount": 1, "avgLen": 1, "maxLen": 2},
    "price": {"colId": 2, "distinctCount": 3, "min": "-2.000", "max": "1.500", "nullCount": 1},
    "ratio": {"colId": 3, "distinctCount": 3, "min": "-0.25", "max": "Infinity", "nullCount": 1},
    "day": {"colId": 4, "distinctCount": 2, "min": "-1", "max": "19723", "nullCount": 1},
    "at": {
        "colId": 5,
        "distinctCount": 2,
        "min": "2023-01-01 00:00:00.000",
        "max": "2024-01-01 01:02:03.456",
        "nullCount": 2,
    },
    "minute": {
        "colId": 6,
        "distinctCount": 1,
        "min": "2024-01-01 01:02:03",
        "max": "2024-01-01 01:02:03",
        "nullCount": 3,
    },
    "flag": {"colId": 7, "distinctCount": 2, "nullCount": 1},
    "content": {"colId": 8, "nullCount": 1, "avgLen": 1, "maxLen": 3},
    "nothing": {"colId": 9, "distinctCount": 0, "nullCount": 4},
}


@pytest.fixture
def catalog() -> Catalog:
    catalog = Catalog(f"memory://{uuid.uuid4()}")
    catalog.create_database("db")
    types = {name: sql for name, (sql, _) in COLUMNS.items()}
    table = catalog.create_table("db.t", types, primary_key=["id"], options={"bucket": "2"})
    values = {name: values for name, (_, values) in COLUMNS.items()}
    table.write(pl.DataFrame(values, schema=table.schema.polars_schema))
    table.write(pl.DataFrame(values, schema=table.schema.polars_schema).head(1))
    return catalog


def statistics(table: Table) -> dict[str, Any] | None:
    snapshot = table.latest_snapshot()
    assert snapshot is not None
    if snapshot.statistics is None:
        return None
    found: dict[str, Any] = json.loads(
        table.store.io.read_bytes(table.store.paths.statistics_file(snapshot.statistics))
    )
    return found


def test_statistics_of_all_columns(catalog: Catalog) -> None:
    table = catalog.table("db.t")
    before = table.latest_snapshot()
    assert before is not None
    catalog.execute("ANALYZE TABLE db.t COMPUTE STATISTICS FOR ALL COLUMNS")
    latest = table.latest_snapshot()
    assert latest is not None
    assert latest.commit_kind is CommitKind.ANALYZE
    found = statistics(table)
    assert found is not None
    size = sum(table.files()["file_size_in_bytes"].to_list())
    assert found.pop("mergedRecordSize") == size * 4 // 5
    assert found == {"snapshotId": before.id, "schemaId": 0, "mergedRecordCount": 4, "colStats": WANTED}
    assert table.scan().collect().height == 4
    assert table.changes(before.id).collect().is_empty()


def test_statistics_of_some_columns_or_none(catalog: Catalog) -> None:
    table = catalog.table("db.t")
    for clause, columns in (("", set()), (" FOR COLUMNS text, `id`", {"text", "id"})):
        catalog.execute(f"ANALYZE TABLE db.t COMPUTE STATISTICS{clause}")
        found = statistics(table)
        assert found is not None
        assert found["mergedRecordCount"] == 4
        assert set(found["colStats"]) == columns
    for columns, said in ((["list"], "ARRAY<INT> has no statistics"), (["x"], "no column 'x'")):
        with pytest.raises(InvalidInput, match=said):
            table.analyze(columns)
    with pytest.raises(SqlError, match="whole table"):
        catalog.execute("ANALYZE TABLE db.t PARTITION (id = 1) COMPUTE STATISTICS")


def test_statistics_are_kept_until_the_schema_changes(catalog: Catalog) -> None:
    table = catalog.table("db.t")
    analyzed = table.analyze()
    assert analyzed is not None
    assert analyzed.statistics is not None
    path = table.store.paths.statistics_file(analyzed.statistics)
    written = table.write(table.scan().collect().head(1))
    assert written is not None
    assert written.statistics == analyzed.statistics
    catalog.execute("ALTER TABLE db.t ADD more INT")
    table.write(catalog.table("db.t").scan().collect().head(1))
    assert statistics(table) is None
    table.expire_snapshots(retain_max=1, retain_min=1)
    assert not table.store.io.exists(path)
    assert catalog.create_table("db.empty", {"id": "INT"}, options={"bucket": "-1"}).analyze() is None


def test_statistics_move_no_keys() -> None:
    catalog = Catalog(f"memory://{uuid.uuid4()}")
    catalog.create_database("db")
    types = {"day": "STRING", "id": "INT"}
    table = catalog.create_table("db.m", types, primary_key=["id"], partitioned_by=["day"], options={"bucket": "-1"})
    writer, other = catalog.table("db.m"), catalog.table("db.m")
    for day in ("a", "b", "c"):
        writer.write(pl.DataFrame({"day": [day], "id": [1]}, schema_overrides={"id": pl.Int32}))
        other.analyze(None)
    assert table.scan().collect().rows() == [("c", 1)]

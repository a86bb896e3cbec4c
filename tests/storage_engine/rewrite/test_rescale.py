"""Rescaling, and postponed buckets: rows get the number of buckets that their partition has."""

from __future__ import annotations

import uuid
from typing import Any

import polars as pl
import pytest

from storage_engine import Catalog, Table
from storage_engine.errors import CorruptFile, InvalidInput, Unsupported
from storage_engine.spec.schema_change import SetOption

SCHEMA = {"day": pl.String, "id": pl.Int32, "n": pl.Int64}
COLUMNS = {"day": "STRING", "id": "INT", "n": "BIGINT"}


def a_table(**options: str) -> Table:
    catalog = Catalog(f"memory://{uuid.uuid4()}")
    catalog.create_database("db")
    named = {name.replace("__", ".").replace("_", "-"): value for name, value in options.items()}
    catalog.create_table("db.t", COLUMNS, primary_key=["day", "id"], partitioned_by=["day"], options=named)
    return catalog.table("db.t")


def write(table: Table, day: str, n: int, ids: range) -> None:
    table.write(pl.DataFrame({"day": [day] * len(ids), "id": ids, "n": [n] * len(ids)}, schema=SCHEMA))


def rows(table: Table) -> list[tuple[Any, ...]]:
    return sorted(table.scan().collect().iter_rows())


def buckets(table: Table, day: str) -> set[int]:
    return set(table.files().filter(pl.col("partition").str.contains(day))["bucket"])


@pytest.mark.parametrize("mode", [{}, {"deletion_vectors__enabled": "true"}, {"changelog_producer": "lookup"}])
def test_partitions_are_rescaled_one_by_one(mode: dict[str, str]) -> None:
    table = a_table(bucket="2", **mode)
    for n in range(2):
        write(table, "a", n, range(20))
        write(table, "b", n, range(10, 30))
    expected = rows(table)
    table.alter(SetOption(key="bucket", value="5"))
    with pytest.raises(CorruptFile, match="2 buckets, the table now has 5"):
        write(table, "a", 7, range(1))
    assert table.rescale(partitions=[{"day": "a"}]) is not None
    assert rows(table) == expected
    assert len(buckets(table, "a")) > 2 >= len(buckets(table, "b"))
    write(table, "a", 7, range(1))
    with pytest.raises(CorruptFile, match="2 buckets"):
        write(table, "b", 7, range(1))
    table.rescale()
    write(table, "b", 7, range(10, 11))
    assert rows(table) == sorted({row[:2]: row for row in [*expected, ("a", 0, 7), ("b", 10, 7)]}.values())
    assert table.rescale() is None


def test_a_number_that_the_option_does_not_name_is_refused() -> None:
    table = a_table(bucket="2")
    write(table, "a", 1, range(3))
    with pytest.raises(InvalidInput, match="ALTER TABLE"):
        table.rescale(3)
    with pytest.raises(Unsupported, match="-1"):
        a_table(bucket="-1").rescale(3)


@pytest.mark.parametrize("mode", [{}, {"deletion_vectors__enabled": "true"}, {"changelog_producer": "lookup"}])
def test_postponed_rows_are_seen_once_they_are_compacted(mode: dict[str, str]) -> None:
    table = a_table(bucket="-2", postpone__default_bucket_num="3", **mode)
    write(table, "a", 1, range(10))
    write(table, "a", 2, range(5, 15))
    table.write(
        pl.DataFrame({"day": ["a"], "id": [0], "n": [1], "_row_kind": ["-D"]}, schema_overrides={"id": pl.Int32})
    )
    assert rows(table) == []
    assert table.changes(0).collect().height == (0 if "changelog_producer" in mode else 21)
    assert all(path.endswith(".avro") for path in table.files()["file_path"])
    assert table.compact() is not None
    expected = [("a", id_, 1 if id_ < 5 else 2) for id_ in range(1, 15)]
    assert rows(table) == expected
    assert buckets(table, "a") <= {0, 1, 2}
    write(table, "a", 3, range(1, 3))
    assert rows(table) == expected
    table.compact(full=True)
    assert rows(table) == [("a", 1, 3), ("a", 2, 3), *expected[2:]]
    assert table.compact(full=True) is None


def test_postponed_rows_outlive_a_rescale_and_an_overwrite_replaces_them() -> None:
    table = a_table(bucket="-2")
    write(table, "a", 1, range(10))
    table.compact()
    write(table, "a", 2, range(1))
    with pytest.raises(InvalidInput, match="number of buckets is needed"):
        table.rescale()
    table.rescale(4)
    assert len(buckets(table, "a") - {-2}) > 1
    table.compact()
    assert rows(table) == [("a", 0, 2), *(("a", id_, 1) for id_ in range(1, 10))]
    write(table, "a", 5, range(3))
    table.overwrite(pl.DataFrame({"day": ["a"], "id": [7], "n": [7]}, schema=SCHEMA))
    assert rows(table) == []
    table.compact()
    assert rows(table) == [("a", 7, 7)]


def test_sql_rescales() -> None:
    catalog = Catalog(f"memory://{uuid.uuid4()}")
    catalog.execute("CREATE DATABASE db; CREATE TABLE db.t (id INT PRIMARY KEY NOT ENFORCED) WITH ('bucket' = '1')")
    catalog.execute("INSERT INTO db.t VALUES (1), (2), (3), (4); ALTER TABLE db.t SET ('bucket' = '2')")
    catalog.execute("CALL sys.rescale(`table` => 'db.t', `bucket_num` => 2)")
    table = catalog.table("db.t")
    assert set(table.files()["bucket"]) == {0, 1}
    assert sorted(table.scan().collect()["id"]) == [1, 2, 3, 4]

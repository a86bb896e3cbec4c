"""Indexes for files that lack them: later reads meet fewer files, no row changes, and earlier snapshots stay as they are."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Mapping

import polars as pl
import pytest

from storage_engine import Catalog, Table
from storage_engine.errors import InvalidInput
from storage_engine.read.plan import plan_scan
from storage_engine.rewrite.file_indexes import FileIndexRewrite
from storage_engine.spec.manifest import DataFileMeta
from storage_engine.spec.schema_change import AddColumn, RemoveOption, RenameColumn, SetOption
from storage_engine.spec.types import DataType, TypeRoot
from storage_engine.store.live_files import LiveFiles
from storage_engine.store.stored_indexes import read_indexes

COLUMNS = {"day": "STRING", "hour": "INT", "id": "INT", "name": "STRING", "n": "BIGINT"}
BLOOM = "file-index.bloom-filter.columns"
SMALL = {"file-index.bloom-filter.name.items": "100", "file-index.bloom-filter.title.items": "100"}
THRESHOLD = "file-index.in-manifest-threshold"


def a_table(*, keyed: bool = False, **options: str) -> Table:
    catalog = Catalog(f"memory://{uuid.uuid4()}")
    catalog.create_database("db")
    usual = {"bucket": "1", "metadata.stats-mode": "none", "write-only": "true", **SMALL}
    table = catalog.create_table(
        "db.t",
        COLUMNS,
        primary_key=["day", "hour", "id"] if keyed else (),
        partitioned_by=["day", "hour"],
        options=usual | ({} if keyed else {"bucket": "-1"}) | options,
    )
    for number in range(3):
        table.write(rows(number))
    return table


def rows(number: int) -> pl.DataFrame:
    ids = range(number * 100, number * 100 + 20)
    return pl.DataFrame(
        {
            "day": [f"d{number % 2}"] * 20,
            "hour": [number] * 20,
            "id": ids,
            "name": [f"name {i}" for i in ids],
            "n": ids,
        },
        schema={"day": pl.String, "hour": pl.Int32, "id": pl.Int32, "name": pl.String, "n": pl.Int64},
    )


def with_options(table: Table, options: Mapping[str, str]) -> None:
    table.alter(*(SetOption(key=key, value=value) for key, value in options.items()))


def files(table: Table, snapshot: int | None = None) -> list[DataFileMeta]:
    at = table.latest_snapshot() if snapshot is None else table.store.snapshots.get(snapshot)
    return [entry.file for entry in LiveFiles(table.store, table.schema).entries(at)]


def indexed(table: Table) -> list[dict[str, set[str]]]:
    """The kinds of indexes of every file, by column."""
    found = []
    for bucket in LiveFiles(table.store, table.schema).buckets(table.latest_snapshot()).values():
        for file in bucket.files:
            stored = read_indexes(table.store.io, file, bucket.directory)
            found.append({} if stored is None else {name: set(kinds) for name, kinds in stored.indexes.items()})
    return found


def files_read(table: Table, predicate: pl.Expr) -> int:
    return plan_scan(LiveFiles(table.store, table.schema), table.schema, table.latest_snapshot(), predicate).files_read


def content(table: Table, **at: int) -> Counter[tuple[object, ...]]:
    return Counter(table.scan(snapshot=at.get("snapshot")).collect().iter_rows())


@pytest.mark.parametrize("format_name", ["parquet", "orc", "avro"])
@pytest.mark.parametrize("threshold", ["0 b", "1 mb"], ids=["beside", "in the manifest"])
@pytest.mark.parametrize("keyed", [True, False])
def test_files_that_lack_indexes_get_them(keyed: bool, threshold: str, format_name: str) -> None:
    table = a_table(keyed=keyed, **{"file.format": format_name})
    if keyed:
        table.compact(full=True)
    before, names = content(table), {file.file_name for file in files(table)}
    with_options(table, {BLOOM: "name", "file-index.bitmap.columns": "n", THRESHOLD: threshold})
    assert (files_read(table, pl.col("name") == "name 107"), files_read(table, pl.col("n") == 999)) == (3, 3)
    snapshot = table.rewrite_file_indexes()
    assert snapshot is not None
    assert (snapshot.commit_kind.value, snapshot.delta_record_count) == ("COMPACT", 0)
    assert (files_read(table, pl.col("name") == "name 107"), files_read(table, pl.col("n") == 999)) == (1, 0)
    assert table.scan().filter(pl.col("name") == "name 107").collect()["id"].to_list() == [107]
    assert content(table) == before == content(table, snapshot=snapshot.id - 1)
    assert {file.file_name for file in files(table)} == names
    assert indexed(table) == [{"name": {"bloom-filter"}, "n": {"bitmap"}}] * 3
    assert [bool(file.extra_files) for file in files(table)] == [threshold == "0 b"] * 3
    assert table.rewrite_file_indexes() is None
    assert table.verify().is_empty()


def test_partitions_are_chosen_in_full_or_in_part() -> None:
    table = a_table()
    with_options(table, {BLOOM: "name"})
    assert table.rewrite_file_indexes([{"day": "nowhere"}]) is None
    table.rewrite_file_indexes([{"day": "d0"}])
    assert sum(map(bool, indexed(table))) == 2
    table.rewrite_file_indexes([{"day": "d1", "hour": 1}])
    assert all(indexed(table))
    with pytest.raises(InvalidInput, match="is partitioned by"):
        table.rewrite_file_indexes([{"n": 1}])


def test_a_column_that_was_renamed_is_found_and_a_new_one_has_no_index_in_old_files() -> None:
    table = a_table()
    table.alter(
        RenameColumn(path=("name",), new_name="title"),
        AddColumn(path=("extra",), type=DataType(root=TypeRoot.INT)),
        SetOption(key=BLOOM, value="title,extra"),
    )
    table.rewrite_file_indexes()
    assert indexed(table) == [{"name": {"bloom-filter"}}] * 3
    assert files_read(table, pl.col("title") == "name 107") == 1
    assert files_read(table, pl.col("extra") == 5) == 3
    assert table.scan().filter(pl.col("title") == "name 107").collect()["id"].to_list() == [107]


def test_indexes_may_come_and_go_and_come_again() -> None:
    table = a_table()
    before = content(table)
    kinds = [
        {BLOOM: "name"},
        {BLOOM: "n"},
        {BLOOM: "name"},
        {BLOOM: "name", "file-index.bloom-filter.name.fpp": "0.01"},
    ]
    for options in kinds:
        with_options(table, options)
        assert table.rewrite_file_indexes() is not None
        assert content(table) == before
        assert indexed(table) == [{options[BLOOM]: {"bloom-filter"}}] * 3
    table.alter(RemoveOption(key=BLOOM))
    assert table.rewrite_file_indexes() is None
    while table.expire_snapshots(retain_max=1, retain_min=1):
        pass
    assert content(table) == before
    assert table.verify().is_empty()
    table.compact_manifests()
    assert content(table) == before
    assert files_read(table, pl.col("name") == "nobody") == 0


def test_rows_that_are_deleted_meanwhile_stay_deleted() -> None:
    table = a_table(keyed=False, **{"deletion-vectors.enabled": "true"})
    table.delete(pl.col("id") == 107)
    with_options(table, {BLOOM: "name"})
    assert table.rewrite_file_indexes() is not None
    assert table.scan().filter(pl.col("name") == "name 107").collect().is_empty()
    assert table.scan().collect().height == 59


def test_a_file_that_was_compacted_away_meanwhile_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    table = a_table(keyed=True)
    table.write(rows(0).with_columns(name=pl.lit("newer")))
    with_options(table, {BLOOM: "name"})
    before, committed = content(table), FileIndexRewrite._committed
    raced: list[object] = []

    def late(self: FileIndexRewrite, *arguments: object) -> object:
        if not raced:
            raced.append(table.compact(full=True))
        return committed(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(FileIndexRewrite, "_committed", late)
    table.rewrite_file_indexes()
    assert raced != [None]
    assert content(table) == before
    assert all(indexed(table))
    assert files_read(table, pl.col("name") == "newer") == 1
    names = table.store.io.list_names(table.files()["file_path"][0].rpartition("/")[0])
    kept = {name for file in files(table) for name in (file.file_name, *file.extra_files)}
    assert {name for name in names if name.endswith(".index")} <= kept

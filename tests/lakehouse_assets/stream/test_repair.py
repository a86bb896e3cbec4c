"""Repair while the stream goes on: partitions of an upsert target, of an aggregation target, and whole targets."""

from __future__ import annotations

import polars as pl
import pytest

from lakehouse_assets.stream.declaration import Repair, Stream
from lakehouse_assets.stream.errors import InvalidStream
from lakehouse_assets.stream.repair import repair
from lakehouse_assets.stream.runner import StreamRunner
from storage_engine import Catalog, Table

DAYS = ("2024-01-01", "2024-01-02", "2024-01-03")
OPTIONS = {"bucket": "2", "changelog-producer": "lookup"}


def cleaned(orders: pl.DataFrame) -> pl.DataFrame:
    kind = pl.when(pl.col("amount") < 0).then(pl.lit("-D")).otherwise("_row_kind")
    return orders.with_columns(kind.alias("_row_kind"))


def per_day(orders: pl.DataFrame) -> pl.DataFrame:
    return orders.select(
        "_row_kind", "v_date", pl.lit(1, pl.Int64).alias("orders"), "amount", last="id", shop=pl.lit("s")
    )


CLEAN = Stream(
    source="db.orders", target="db.clean", transform=cleaned, repair=Repair(column="v_date", source=pl.col("v_date"))
)
OVERWRITTEN = Stream(
    source="db.clean",
    target="db.days",
    transform=per_day,
    reads="changelog",
    repair=Repair(column="v_date", source=pl.col("v_date"), mode="overwrite"),
)
CORRECTED = Stream(
    source="db.clean",
    target="db.days",
    transform=per_day,
    reads="changelog",
    repair=Repair(column="v_date", source=pl.col("v_date")),
)
FIGURES = [("2024-01-01", 2, 3), ("2024-01-02", 2, 7), ("2024-01-03", 1, 5)]


@pytest.fixture
def tables(catalog: Catalog) -> Catalog:
    catalog.create_database("db")
    columns = {"v_date": "STRING", "id": "STRING", "amount": "BIGINT"}
    for name in ("db.orders", "db.clean"):
        catalog.create_table(name, columns, primary_key=["v_date", "id"], partitioned_by=["v_date"], options=OPTIONS)
    catalog.create_table(
        "db.days",
        {"v_date": "STRING", "orders": "BIGINT", "amount": "BIGINT", "last": "STRING", "shop": "STRING"},
        primary_key=["v_date", "shop"],
        partitioned_by=["v_date"],
        options={
            **OPTIONS,
            "bucket": "1",
            "merge-engine": "aggregation",
            "fields.orders.aggregate-function": "sum",
            "fields.amount.aggregate-function": "sum",
            "fields.last.aggregate-function": "last_non_null_value",
            "fields.last.ignore-retract": "true",
        },
    )
    orders = [(DAYS[0], "a", 1), (DAYS[0], "b", 2), (DAYS[1], "c", 3), (DAYS[1], "d", 4), (DAYS[2], "e", 5)]
    put(catalog, "db.orders", *orders, (DAYS[2], "f", -1))
    run_all(catalog)
    return catalog


def put(catalog: Catalog, table: str, *rows: tuple[object, ...]) -> None:
    opened = catalog.table(table)
    opened.write(pl.DataFrame(rows, schema=opened.schema.polars_schema, orient="row"))


def run_all(catalog: Catalog) -> None:
    for stream in (CLEAN, OVERWRITTEN):
        runner = StreamRunner(catalog, stream)
        while runner.run_batch() is not None:
            pass


def figures(catalog: Catalog) -> list[tuple[object, ...]]:
    return catalog.table("db.days").scan().select("v_date", "orders", "amount").collect().sort("v_date").rows()


def latest_id(catalog: Catalog, table: str) -> int:
    latest = catalog.table(table).latest_snapshot()
    assert latest is not None
    return latest.id


def damage(catalog: Catalog) -> None:
    """A wrong amount, a row too many and a row too few, on two days."""
    put(catalog, "db.clean", (DAYS[0], "a", 100), (DAYS[1], "x", 9))
    catalog.table("db.clean").delete(pl.col("id") == "d")


def test_the_streams_are_right_to_begin_with(tables: Catalog) -> None:
    assert figures(tables) == FIGURES


def test_a_repair_commits_the_difference_once_and_its_changelog_corrects_who_reads_it(tables: Catalog) -> None:
    damage(tables)
    run_all(tables)
    assert figures(tables) != FIGURES
    before = latest_id(tables, "db.clean")
    result = repair(tables, CLEAN, [DAYS[0], DAYS[1]])
    assert result.rows_written == {"-D": 1, "+U": 2}
    assert result.partitions == ({"v_date": DAYS[0]}, {"v_date": DAYS[1]})
    appended = (
        tables.table("db.clean")
        .snapshots()
        .filter((pl.col("snapshot_id") > before) & (pl.col("commit_kind") == "APPEND"))
    )
    assert appended.height == 1
    run_all(tables)
    assert figures(tables) == FIGURES


def test_only_the_given_partitions_are_touched(tables: Catalog) -> None:
    damage(tables)
    result = repair(tables, CLEAN, [DAYS[0]])
    assert result.partitions == ({"v_date": DAYS[0]},)
    clean = tables.table("db.clean").scan().collect().sort("id")
    assert clean.filter(pl.col("v_date") == DAYS[1])["id"].to_list() == ["c", "x"]


def test_a_repair_of_what_is_right_commits_nothing(tables: Catalog) -> None:
    before = latest_id(tables, "db.clean")
    result = repair(tables, CLEAN, list(DAYS))
    assert (result.snapshot, result.rows, latest_id(tables, "db.clean")) == (None, 5, before)


def test_a_repair_may_be_repeated(tables: Catalog) -> None:
    damage(tables)
    repair(tables, CLEAN, list(DAYS))
    assert repair(tables, CLEAN, list(DAYS)).snapshot is None
    repair(tables, OVERWRITTEN, list(DAYS))
    repair(tables, OVERWRITTEN, list(DAYS))
    run_all(tables)
    assert figures(tables) == FIGURES


@pytest.mark.parametrize("stream", [OVERWRITTEN, CORRECTED], ids=["overwrite", "difference"])
def test_an_aggregation_is_repaired_and_goes_on_from_the_same_offset(tables: Catalog, stream: Stream) -> None:
    put(tables, "db.days", (DAYS[0], 7, 700, "z", "s"))
    assert figures(tables) != FIGURES
    result = repair(tables, stream, [DAYS[0]])
    assert result.partitions == ({"v_date": DAYS[0]},)
    assert figures(tables) == FIGURES
    put(tables, "db.orders", (DAYS[0], "g", 10))
    run_all(tables)
    assert figures(tables) == [(DAYS[0], 3, 13), *FIGURES[1:]]


@pytest.mark.parametrize("stream", [OVERWRITTEN, CORRECTED], ids=["overwrite", "difference"])
def test_changes_that_the_stream_has_not_read_are_not_counted_twice(tables: Catalog, stream: Stream) -> None:
    put(tables, "db.days", (DAYS[0], 7, 700, "z", "s"))
    put(tables, "db.orders", (DAYS[0], "g", 10))
    runner = StreamRunner(tables, CLEAN)
    assert runner.run_batch() is not None
    repair(tables, stream, list(DAYS))
    assert figures(tables) == FIGURES
    run_all(tables)
    assert figures(tables) == [(DAYS[0], 3, 13), *FIGURES[1:]]


def test_a_repair_that_the_stream_overtakes_is_done_again(tables: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tables, "db.days", (DAYS[0], 7, 700, "z", "s"))
    put(tables, "db.orders", (DAYS[0], "g", 10))
    overwrite = Table.overwrite

    def after_the_stream(table: Table, *args: object, **settings: object) -> object:
        monkeypatch.setattr(Table, "overwrite", overwrite)
        run_all(tables)
        return overwrite(table, *args, **settings)  # type: ignore[arg-type]

    monkeypatch.setattr(Table, "overwrite", after_the_stream)
    result = repair(tables, OVERWRITTEN, list(DAYS))
    assert result.attempts == 2
    assert figures(tables) == [(DAYS[0], 3, 13), *FIGURES[1:]]


def test_a_stream_that_a_repair_overtakes_reads_again(tables: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tables, "db.days", (DAYS[0], 7, 700, "z", "s"))
    put(tables, "db.orders", (DAYS[0], "g", 10))
    assert StreamRunner(tables, CLEAN).run_batch() is not None
    write = Table.write

    def after_the_repair(table: Table, *args: object, **settings: object) -> object:
        monkeypatch.setattr(Table, "write", write)
        repair(tables, CORRECTED, list(DAYS))
        return write(table, *args, **settings)  # type: ignore[arg-type]

    monkeypatch.setattr(Table, "write", after_the_repair)
    run_all(tables)
    assert figures(tables) == [(DAYS[0], 3, 13), *FIGURES[1:]]


@pytest.mark.parametrize("stream", [OVERWRITTEN, CORRECTED], ids=["overwrite", "difference"])
def test_a_whole_repair_goes_on_from_the_source_of_now(tables: Catalog, stream: Stream) -> None:
    clean = tables.table("db.clean")
    clean.store.consumers.delete(stream.name)
    for amount in range(6, 10):
        put(tables, "db.clean", (DAYS[2], "e", amount))
    clean.expire_snapshots(retain_max=1, retain_min=1)
    with pytest.raises(LookupError):
        StreamRunner(tables, stream).run_batch()
    repair(tables, stream)
    assert figures(tables) == [*FIGURES[:2], (DAYS[2], 1, 9)]
    assert StreamRunner(tables, stream).run_batch() is None
    put(tables, "db.clean", (DAYS[2], "e", 20))
    run_all(tables)
    assert figures(tables) == [*FIGURES[:2], (DAYS[2], 1, 20)]


def test_a_stream_that_never_ran_is_caught_up_first(tables: Catalog) -> None:
    tables.drop_table("db.clean")
    columns = {"v_date": "STRING", "id": "STRING", "amount": "BIGINT"}
    tables.create_table("db.clean", columns, primary_key=["v_date", "id"], partitioned_by=["v_date"], options=OPTIONS)
    assert repair(tables, CLEAN, [DAYS[0]]).rows == 2
    assert tables.table("db.clean").scan().collect().height == 5


def test_a_stream_without_repair_says_so(tables: Catalog) -> None:
    stream = Stream(source="db.orders", target="db.clean", transform=cleaned)
    with pytest.raises(InvalidStream, match="declare Stream"):
        repair(tables, stream, [DAYS[0]])

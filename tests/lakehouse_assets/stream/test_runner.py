"""A small stream of orders: widened by a dimension, then counted by city. Truth is plain Polars over the sources."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from lakehouse_assets.stream.declaration import Bounds, Lookup, Stream
from lakehouse_assets.stream.errors import ChangesExpired, InvalidStream, SourceRewound
from lakehouse_assets.stream.loop import Limits, Loop, StreamMover
from lakehouse_assets.stream.runner import StreamRunner, run_batch
from storage_engine import Catalog, Table
from storage_engine.errors import StorageEngineError, StorageUnavailable
from storage_engine.store.file_io import FileIO
from tests.fakes.faulty_file_io import Killed

LOOKUP_OPTIONS = {"bucket": "2", "changelog-producer": "lookup"}


def widened(orders: pl.DataFrame) -> pl.DataFrame:
    return orders.select("_row_kind", "id", "member", "amount", "city", "region")


def counted(orders: pl.DataFrame) -> pl.DataFrame:
    return orders.filter(pl.col("city").is_not_null()).select(
        "_row_kind", "city", pl.lit(1, pl.Int64).alias("orders"), "amount"
    )


WIDEN = Stream(
    source="db.orders",
    target="db.wide",
    transform=widened,
    lookups=(
        Lookup(table="db.members", left_on="member", columns={"city": "city"}),
        Lookup(table="db.cities", left_on="city", columns={"region": "region"}, deleted="gone"),
    ),
)
COUNT = Stream(source="db.wide", target="db.by_city", transform=counted, reads="changelog")


@pytest.fixture
def tables(catalog: Catalog) -> Catalog:
    catalog.create_database("db")
    text, number = "STRING", "BIGINT"
    for name, columns in {
        "db.orders": {"id": text, "member": text, "amount": number},
        "db.members": {"id": text, "city": text, "phone": text},
        "db.cities": {"id": text, "region": text, "gone": "BOOLEAN"},
        "db.wide": {"id": text, "member": text, "amount": number, "city": text, "region": text},
    }.items():
        catalog.create_table(name, columns, primary_key=["id"], options=LOOKUP_OPTIONS)
    catalog.create_table(
        "db.by_city",
        {"city": text, "orders": number, "amount": number},
        primary_key=["city"],
        options={
            **LOOKUP_OPTIONS,
            "merge-engine": "aggregation",
            "fields.orders.aggregate-function": "sum",
            "fields.amount.aggregate-function": "sum",
        },
    )
    return catalog


def put(catalog: Catalog, table: str, *rows: tuple[object, ...], kind: str = "+I") -> None:
    opened = catalog.table(table)
    frame = pl.DataFrame(rows, schema=opened.schema.polars_schema, orient="row")
    opened.write(frame.with_columns(pl.lit(kind).alias("_row_kind")))


def run_all(catalog: Catalog) -> None:
    for stream in (WIDEN, COUNT):
        runner = StreamRunner(catalog, stream)
        while runner.run_batch() is not None:
            pass


def rows_of(catalog: Catalog, table: str) -> list[tuple[object, ...]]:
    return catalog.table(table).scan().collect().sort("*").rows()


def assert_right(catalog: Catalog) -> None:
    """Both targets equal plain joins and sums over the sources as they are now."""
    members = catalog.table("db.members").scan().select("id", "city")
    cities = catalog.table("db.cities").scan().filter(~pl.col("gone")).select("id", "region")
    wide = (
        catalog.table("db.orders")
        .scan()
        .join(members, left_on="member", right_on="id", how="left")
        .join(cities, left_on="city", right_on="id", how="left")
        .select("id", "member", "amount", "city", "region")
        .collect()
        .sort("*")
    )
    assert rows_of(catalog, "db.wide") == wide.rows()
    sums = wide.drop_nulls("city").group_by("city").agg(pl.len().cast(pl.Int64), pl.col("amount").sum()).sort("*")
    found = catalog.table("db.by_city").scan().filter(pl.col("orders") != 0).collect().sort("*")
    assert found.rows() == sums.rows()


def test_nothing_to_do_is_none(tables: Catalog) -> None:
    assert run_batch(tables, WIDEN) is None
    put(tables, "db.members", ("m1", "c1", "1"))
    assert run_batch(tables, WIDEN) is None
    put(tables, "db.orders", ("o1", "m1", 10))
    assert run_batch(tables, WIDEN) is not None
    before = tables.table("db.wide").latest_snapshot()
    assert run_batch(tables, WIDEN) is None
    assert tables.table("db.wide").latest_snapshot() == before


def test_inserts_updates_and_deletes_reach_the_sums(tables: Catalog) -> None:
    put(tables, "db.members", ("m1", "c1", "1"), ("m2", "c2", "2"))
    put(tables, "db.orders", ("o1", "m1", 10), ("o2", "m1", 20), ("o3", "m2", 40))
    run_all(tables)
    assert rows_of(tables, "db.by_city") == [("c1", 2, 30), ("c2", 1, 40)]
    put(tables, "db.orders", ("o1", "m2", 11))
    put(tables, "db.orders", ("o2", "m1", 20), kind="-D")
    run_all(tables)
    assert rows_of(tables, "db.by_city") == [("c1", 0, 0), ("c2", 2, 51)]
    assert_right(tables)


def test_a_table_with_history_is_read_as_a_whole_first(tables: Catalog) -> None:
    put(tables, "db.members", ("m1", "c1", "1"))
    for number in range(5):
        put(tables, "db.orders", (f"o{number}", "m1", number))
    put(tables, "db.orders", ("o0", "m1", 0), kind="-D")
    result = run_batch(tables, WIDEN)
    assert result is not None
    assert (result.rows_read, result.rows_written) == (4, {"+I": 4})
    run_all(tables)
    assert_right(tables)


def test_a_dimension_that_arrives_late_or_changes_sends_its_rows_again(tables: Catalog) -> None:
    put(tables, "db.orders", ("o1", "m1", 10), ("o2", "m2", 20))
    run_all(tables)
    assert rows_of(tables, "db.wide") == [("o1", "m1", 10, None, None), ("o2", "m2", 20, None, None)]
    put(tables, "db.members", ("m1", "c1", "1"))
    result = run_batch(tables, WIDEN)
    assert result is not None
    assert (result.rows_read, result.rows_reemitted) == (0, 1)
    put(tables, "db.members", ("m1", "c2", "1"), ("m2", "c2", "2"))
    run_all(tables)
    assert_right(tables)


def test_a_change_reaches_the_rows_through_a_chain_of_lookups(tables: Catalog) -> None:
    put(tables, "db.cities", ("c1", "north", False), ("c2", "south", False))
    put(tables, "db.members", ("m1", "c1", "1"), ("m2", "c2", "2"))
    put(tables, "db.orders", ("o1", "m1", 10), ("o2", "m2", 20))
    run_all(tables)
    put(tables, "db.cities", ("c1", "east", False))
    result = run_batch(tables, WIDEN)
    assert result is not None
    assert result.rows_reemitted == 1
    assert_right_wide_only(tables)
    put(tables, "db.cities", ("c1", "east", True))
    run_all(tables)
    assert rows_of(tables, "db.wide")[0] == ("o1", "m1", 10, "c1", None)


def assert_right_wide_only(catalog: Catalog) -> None:
    run_all(catalog)
    assert_right(catalog)


def test_a_change_of_a_column_that_is_not_taken_sends_nothing(tables: Catalog) -> None:
    put(tables, "db.members", ("m1", "c1", "1"))
    put(tables, "db.orders", ("o1", "m1", 10))
    run_all(tables)
    put(tables, "db.members", ("m1", "c1", "another phone"))
    result = run_batch(tables, WIDEN)
    assert result is not None
    assert (result.rows_reemitted, sum(result.rows_written.values())) == (0, 0)
    assert run_batch(tables, WIDEN) is None


def test_a_member_and_an_order_that_change_together_count_once(tables: Catalog) -> None:
    put(tables, "db.members", ("m1", "c1", "1"), ("m2", "c1", "2"))
    put(tables, "db.orders", ("o1", "m1", 10), ("o2", "m2", 20))
    run_all(tables)
    put(tables, "db.orders", ("o1", "m1", 15))
    put(tables, "db.members", ("m1", "c2", "1"))
    put(tables, "db.orders", ("o1", "m2", 16))
    run_all(tables)
    assert_right(tables)


@pytest.mark.parametrize("max_snapshots", [1, 2, 3, 100])
def test_any_size_of_batches_ends_in_the_same_figures(tables: Catalog, max_snapshots: int) -> None:
    bounded = Stream(
        source=WIDEN.source,
        target=WIDEN.target,
        transform=WIDEN.transform,
        lookups=WIDEN.lookups,
        bounds=Bounds(max_snapshots=max_snapshots),
    )
    put(tables, "db.members", ("m1", "c1", "1"), ("m2", "c2", "2"))
    put(tables, "db.orders", ("o0", "m1", 1))
    run_all(tables)
    for number in range(1, 6):
        put(tables, "db.orders", (f"o{number % 3}", f"m{number % 2 + 1}", number))
        put(tables, "db.members", ("m1", f"c{number % 3}", str(number)))
    runner = StreamRunner(tables, bounded)
    batches = 0
    while runner.run_batch() is not None:
        batches += 1
    assert batches >= (3 if max_snapshots == 1 else 1)
    run_all(tables)
    assert_right(tables)


def test_a_batch_that_failed_after_its_commit_is_not_repeated(tables: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tables, "db.members", ("m1", "c1", "1"))
    put(tables, "db.orders", ("o1", "m1", 10))
    run_all(tables)
    put(tables, "db.orders", ("o2", "m1", 20))
    fail_after_write(monkeypatch, tables)
    with pytest.raises(Killed):
        run_batch(tables, WIDEN)
    with pytest.raises(Killed):
        run_batch(tables, COUNT)
    monkeypatch.undo()
    run_all(tables)
    assert_right(tables)


def test_a_batch_that_failed_before_its_commit_is_done_again(tables: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tables, "db.members", ("m1", "c1", "1"))
    put(tables, "db.orders", ("o1", "m1", 10))

    def killed(*_: object, **__: object) -> None:
        raise Killed

    monkeypatch.setattr(Table, "write", killed)
    with pytest.raises(Killed):
        run_batch(tables, WIDEN)
    monkeypatch.undo()
    run_all(tables)
    assert_right(tables)


def fail_after_write(monkeypatch: pytest.MonkeyPatch, _: Catalog) -> None:
    write = Table.write

    def and_die(table: Table, *args: object, **settings: object) -> None:
        write(table, *args, **settings)  # type: ignore[arg-type]
        raise Killed

    monkeypatch.setattr(Table, "write", and_die)


def test_a_commit_that_was_killed_before_its_changelog_is_finished_by_the_next_run(
    tables: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tables, "db.members", ("m1", "c1", "1"))
    put(tables, "db.orders", ("o1", "m1", 10))
    run_all(tables)
    put(tables, "db.orders", ("o1", "m1", 20), ("o2", "m1", 30))

    def killed(*_: object, **__: object) -> None:
        raise Killed

    monkeypatch.setattr("storage_engine.write.table_write.TableWrite.compact", killed)
    with pytest.raises(Killed):
        run_batch(tables, WIDEN)
    monkeypatch.undo()
    assert StreamRunner(tables, WIDEN).is_unfinished()
    assert run_batch(tables, COUNT) is None
    assert run_batch(tables, WIDEN) is None
    assert not StreamRunner(tables, WIDEN).is_unfinished()
    run_all(tables)
    assert_right(tables)


def test_overlapping_runs_count_each_change_once(tables: Catalog) -> None:
    put(tables, "db.members", ("m1", "c1", "1"))
    for number in range(8):
        put(tables, "db.orders", (f"o{number}", "m1", 1))
    errors: list[BaseException] = []

    def run() -> None:
        try:
            run_all(tables)
        except StorageEngineError as error:
            errors.append(error)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for number in range(8, 12):
        put(tables, "db.orders", (f"o{number}", "m1", 1))
    for thread in threads:
        thread.join()
    assert not errors
    run_all(tables)
    assert_right(tables)
    users = tables.table("db.by_city").snapshots().filter(pl.col("commit_kind") == "APPEND")
    own = users.filter(pl.col("commit_user") == COUNT.name)["commit_identifier"]
    assert own.is_unique().all()


def test_upto_bounds_what_is_read(tables: Catalog) -> None:
    put(tables, "db.members", ("m1", "c1", "1"))
    put(tables, "db.orders", ("o1", "m1", 1))
    run_all(tables)
    put(tables, "db.orders", ("o2", "m1", 2))
    upto = tables.table("db.orders").latest_snapshot()
    put(tables, "db.orders", ("o3", "m1", 3))
    assert upto is not None
    result = run_batch(tables, WIDEN, upto=upto.id)
    assert result is not None
    assert (result.rows_read, result.rows_behind) == (1, 1)
    assert run_batch(tables, WIDEN, upto=upto.id) is None


def test_expired_changes_are_told_with_the_way_out(tables: Catalog) -> None:
    put(tables, "db.orders", ("o1", "m1", 1))
    run_all(tables)
    tables.table("db.orders").store.consumers.delete(WIDEN.name)
    for number in range(4):
        put(tables, "db.orders", ("o1", "m1", number))
    tables.table("db.orders").expire_snapshots(retain_max=1, retain_min=1)
    with pytest.raises(ChangesExpired, match="repair the whole target"):
        run_batch(tables, WIDEN)


def test_expiry_waits_for_a_stream(tables: Catalog) -> None:
    put(tables, "db.orders", ("o1", "m1", 1))
    run_all(tables)
    for number in range(4):
        put(tables, "db.orders", ("o1", "m1", number))
    tables.table("db.orders").expire_snapshots(retain_max=1, retain_min=1)
    run_all(tables)
    assert_right(tables)


def test_a_source_that_was_rolled_back_is_told(tables: Catalog) -> None:
    put(tables, "db.orders", ("o1", "m1", 1))
    put(tables, "db.orders", ("o2", "m1", 1))
    run_all(tables)
    tables.table("db.orders").rollback_to(2)
    with pytest.raises(SourceRewound, match="repair the whole target"):
        run_batch(tables, WIDEN)


def test_an_overwritten_source_is_compared_since_it_has_no_changelog(tables: Catalog) -> None:
    put(tables, "db.members", ("m1", "c1", "1"), ("m2", "c2", "1"))
    put(tables, "db.orders", ("o1", "m1", 1), ("o2", "m2", 2))
    run_all(tables)
    orders = tables.table("db.orders")
    orders.overwrite(pl.DataFrame({"id": ["o2", "o3"], "member": ["m1", "m2"], "amount": [5, 6]}))
    put(tables, "db.orders", ("o4", "m1", 7))
    run_all(tables)
    assert_right(tables)


def test_offsets_survive_expiry_of_the_target(tables: Catalog) -> None:
    put(tables, "db.members", ("m1", "c1", "1"))
    put(tables, "db.orders", ("o1", "m1", 1))
    run_all(tables)
    target = tables.table("db.wide")
    for _ in range(3):
        target.compact(full=True)
        target.write(target.scan().collect())
    target.store.consumers.delete(COUNT.name)
    target.expire_snapshots(retain_max=1, retain_min=1)
    assert run_batch(tables, WIDEN) is None


def declared(target: str = "db.wide", **settings: object) -> Stream:
    return Stream(source="db.orders", target=target, transform=widened, **settings)  # type: ignore[arg-type]


def member_lookup(**columns: str) -> tuple[Lookup, ...]:
    return (Lookup(table="db.members", left_on="member", columns=columns),)


@pytest.mark.parametrize(
    ("stream", "message"),
    [
        (declared("db.by_city"), "must read the source's changelog"),
        (
            declared(reads="changelog", lookups=WIDEN.lookups),
            "counted again only in a table of merge engine aggregation",
        ),
        (declared(lookups=WIDEN.lookups[1:]), r"no such columns: \['city'\]"),
        (declared(lookups=member_lookup(town="city")), r"no such columns: \['town'\]"),
        (declared(lookups=member_lookup(city="amount")), "twice"),
        (declared(columns=("id", "price")), r"columns: db\.orders has no such columns: \['price'\]"),
    ],
)
def test_declarations_that_could_not_be_kept_are_refused(tables: Catalog, stream: Stream, message: str) -> None:
    with pytest.raises(InvalidStream, match=message):
        StreamRunner(tables, stream)


def test_a_source_without_changelog_is_read_by_its_new_rows(tables: Catalog) -> None:
    tables.create_table(
        "db.plain",
        {"id": "STRING", "member": "STRING", "amount": "BIGINT"},
        primary_key=["id"],
        options={"bucket": "1"},
    )
    counting = Stream(source="db.plain", target="db.by_city", transform=counted, reads="changelog")
    with pytest.raises(InvalidStream, match=r"db\.plain keeps no changelog, so .* db\.by_city would count it twice"):
        run_batch(tables, counting)
    stream = Stream(source="db.plain", target="db.wide", transform=widened, lookups=WIDEN.lookups)
    put(tables, "db.plain", ("o1", "m1", 1))
    assert run_batch(tables, stream) is not None
    put(tables, "db.plain", ("o1", "m1", 2), ("o2", "m1", 3))
    assert run_batch(tables, stream) is not None
    assert [row[:3] for row in rows_of(tables, "db.wide")] == [("o1", "m1", 2), ("o2", "m1", 3)]


def test_a_stream_that_names_its_columns_is_given_no_others(tables: Catalog) -> None:
    seen: list[list[str]] = []

    def noted(rows: pl.DataFrame) -> pl.DataFrame:
        seen.append(rows.columns)
        return counted(rows)

    put(tables, "db.members", ("m1", "c1", "1"), ("m2", "c2", "2"))
    put(tables, "db.orders", ("o1", "m1", 10))
    narrow = replace(COUNT, transform=noted, columns=("city", "amount"))
    wide = replace(WIDEN, columns=("amount",))
    for amount in (20, 30):
        assert run_batch(tables, wide) is not None
        assert run_batch(tables, narrow) is not None
        put(tables, "db.orders", ("o1", "m2", amount))
    put(tables, "db.members", ("m2", "c1", "2"))  # sends the order again
    assert run_batch(tables, wide) is not None
    tables.table("db.wide").overwrite(tables.table("db.wide").scan().collect())  # is told by no changelog
    assert run_batch(tables, narrow) is not None
    assert seen == [["_row_kind", "id", "city", "amount"]] * 3
    assert_right(tables)


def test_changes_that_add_what_they_take_back_are_not_written(tables: Catalog) -> None:
    put(tables, "db.members", ("m1", "c1", "1"))
    put(tables, "db.cities", ("c1", "north", False))
    put(tables, "db.orders", ("o1", "m1", 10), ("o2", "m1", 20))
    run_all(tables)
    put(tables, "db.cities", ("c1", "south", False))
    put(tables, "db.orders", ("o2", "m1", 21))
    assert run_batch(tables, WIDEN) is not None
    result = run_batch(tables, COUNT)
    assert result is not None
    assert result.rows_read == 4
    assert result.rows_written == {"-U": 1, "+U": 1}
    assert_right(tables)
    put(tables, "db.cities", ("c1", "west", False))
    assert run_batch(tables, WIDEN) is not None
    result = run_batch(tables, COUNT)
    assert result is not None
    assert result.rows_written == {}
    assert run_batch(tables, COUNT) is None, "the position has moved all the same"
    assert_right(tables)


def test_results_tell_what_was_done(tables: Catalog) -> None:
    put(tables, "db.members", ("m1", "c1", "1"))
    put(tables, "db.orders", ("o1", "m1", 1), ("o2", "m9", 1))
    result = run_batch(tables, WIDEN)
    assert result is not None
    assert result.target == "db.wide"
    assert result.consumed["db.orders"] == (None, 2)
    stats = result.lookups["db.members by member"]
    assert (stats.rows, stats.matched, stats.strategy) == (2, 1, "full-cache")
    assert result.rows_behind == 0
    put(tables, "db.orders", ("o3", "m1", 1))
    result = run_batch(tables, WIDEN)
    assert result is not None
    assert result.consumed["db.orders"] == (2, 4)
    assert result.latency_ms is not None
    assert result.latency_ms >= 0


def test_a_lookup_may_hold_rows_back_until_their_dimension_row_arrives(tables: Catalog) -> None:
    held = replace(WIDEN, lookups=(replace(WIDEN.lookups[0], hold=True), WIDEN.lookups[1]))
    runner = StreamRunner(tables, held)

    def run() -> list[tuple[object, ...]]:
        while runner.run_batch() is not None:
            pass
        return rows_of(tables, "db.wide")

    put(tables, "db.orders", ("o1", "late", 1), ("o2", "m2", 2))
    assert run() == []
    put(tables, "db.members", ("m2", "c1", "1"))
    assert [row[0] for row in run()] == ["o2"]
    put(tables, "db.members", ("late", "c1", "1"))
    assert [row[0] for row in run()] == ["o1", "o2"]
    put(tables, "db.members", ("m2", "c1", "1"), kind="-D")
    assert [row[0] for row in run()] == ["o1"]
    with pytest.raises(InvalidStream, match="holds rows back"):
        StreamRunner(tables, replace(WIDEN, lookups=(replace(WIDEN.lookups[0], hold=True, reemit=False),)))


def test_a_batch_is_bounded_in_bytes(tables: Catalog) -> None:
    for number in range(4):
        put(tables, "db.orders", (f"o{number}", "m", number))
    StreamRunner(tables, WIDEN).run_batch()
    for number in range(4):
        put(tables, "db.orders", (f"n{number}", "m", number))
    small = StreamRunner(tables, replace(WIDEN, bounds=Bounds(max_bytes=1)))
    read = [result.rows_read for result in iter(small.run_batch, None)]
    assert read == [1, 1, 1, 1]


def test_a_full_disk_stops_a_stream_that_goes_on_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk is full from the n-th write on, for a while; nothing is lost, nothing comes twice."""
    catalog = Catalog(str(tmp_path))
    catalog.create_database("db")
    for name in ("db.a", "db.b"):
        catalog.create_table(name, {"id": "BIGINT"}, primary_key=["id"], options=LOOKUP_OPTIONS)
    writer = Catalog(str(tmp_path)).table("db.a")
    for number in range(6):
        writer.write(pl.DataFrame({"id": [number]}))
    steps = 0

    def full(self: FileIO, operation: str, path: str) -> None:
        nonlocal steps
        steps += operation in ("write", "sync", "write temporary")
        if 12 < steps < 20 and operation in ("write", "sync", "write temporary"):
            raise StorageUnavailable(f"cannot {operation} {path}: No space left on device")

    monkeypatch.setattr(FileIO, "before_operation", full)
    monkeypatch.setattr("lakehouse_assets.stream.loop.FIRST_PAUSE_S", 0.01)
    said: list[str] = []
    stream = Stream(source="db.a", target="db.b", transform=lambda rows: rows, bounds=Bounds(max_snapshots=2))
    loop = Loop(
        [StreamMover(StreamRunner(catalog, stream))],
        Limits(linger_s=5.0),
        tolerant=True,
        on_error=lambda mover, error: said.append(f"{type(error).__name__} {error}"),
    )
    read = sum(result.rows_read for result in loop.results())
    assert said
    assert all("No space left on device" in text for text in said), said
    assert loop.troubles == {}
    assert read <= 6
    assert sorted(catalog.table("db.b").scan().collect()["id"]) == list(range(6))
    changes = catalog.table("db.b").changes(0).collect()
    assert changes.height == 6, "no change came twice"


def test_workers_of_a_bucket_shuffle_serve_a_stream(tmp_path: Path) -> None:
    catalog = Catalog(tmp_path)
    catalog.create_database("db")
    columns = {"id": "BIGINT", "city": "STRING"}
    catalog.create_table("db.orders", {"id": "BIGINT", "member": "BIGINT"}, primary_key=["id"], options=LOOKUP_OPTIONS)
    for name in ("db.members", "db.wide"):
        catalog.create_table(name, columns, primary_key=["id"], options={**LOOKUP_OPTIONS, "bucket": "4"})
    stream = Stream(
        source="db.orders",
        target="db.wide",
        transform=lambda rows: rows.select("_row_kind", "id", "city"),
        lookups=(
            Lookup(
                table="db.members",
                left_on="member",
                columns={"city": "city"},
                strategy="bucket-shuffle",
                workers=2,
                hold=True,
            ),
        ),
    )
    catalog.table("db.members").write(pl.DataFrame({"id": range(40), "city": "Seoul"}))
    catalog.table("db.orders").write(pl.DataFrame({"id": range(50), "member": range(50)}))
    runner = StreamRunner(catalog, stream)
    result = runner.run_batch()
    assert result is not None
    (stats,) = result.lookups.values()
    assert (stats.strategy, stats.workers, stats.misses, stats.cached_rows) == ("bucket-shuffle", 2, 10, 40)
    catalog.table("db.members").write(pl.DataFrame({"id": range(35, 45), "city": "Busan"}))
    assert runner.run_batch() is not None
    assert runner.run_batch() is None
    wide = catalog.table("db.wide").scan().sort("id").collect()
    assert wide.rows() == [(number, "Seoul" if number < 35 else "Busan") for number in range(45)]
    elsewhere = replace(stream, lookups=(replace(stream.lookups[0], strategy="full-cache"),))
    with pytest.raises(InvalidStream, match="strategy='bucket-shuffle'"):
        StreamRunner(catalog, elsewhere)

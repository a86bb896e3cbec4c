"""A snapshot that is larger than a batch goes through in portions, exactly once. Truth is plain Polars over the sources."""

from __future__ import annotations

import contextlib
import json
import random
import uuid
from dataclasses import replace

import polars as pl
import pytest

from lakehouse_assets.checks import stream_lag
from lakehouse_assets.health import table_health
from lakehouse_assets.stream.declaration import Bounds, Lookup, Repair, Stream
from lakehouse_assets.stream.offsets import DRIVING_PROPERTY, PORTION_PROPERTY, SOURCES_PROPERTY
from lakehouse_assets.stream.repair import repair
from lakehouse_assets.stream.runner import StreamRunner, run_batch
from storage_engine import Catalog
from storage_engine.errors import Unsupported
from tests.fakes.faulty_file_io import Killed
from tests.lakehouse_assets.deaths import deaths

BOUNDS = Bounds(max_rows=12)


def widened(orders: pl.DataFrame) -> pl.DataFrame:
    return orders.select("_row_kind", "id", "member", "amount", "city")


def counted(orders: pl.DataFrame) -> pl.DataFrame:
    return orders.select("_row_kind", "city", pl.lit(1, pl.Int64).alias("orders"), "amount")


WIDEN = Stream(
    source="db.orders",
    target="db.wide",
    transform=widened,
    lookups=(Lookup(table="db.members", left_on="member", columns={"city": "city"}),),
    bounds=BOUNDS,
    repair=Repair(column="id", source=pl.col("id")),
)
COUNT = Stream(
    source="db.wide",
    target="db.by_city",
    transform=counted,
    reads="changelog",
    bounds=BOUNDS,
    repair=Repair(column="city", source=pl.col("city")),
)
RECOUNT = Stream(
    source="db.orders",
    target="db.again",
    transform=counted,
    reads="changelog",
    lookups=WIDEN.lookups,
    bounds=BOUNDS,
)
STREAMS = (WIDEN, COUNT, RECOUNT)
SOURCES = {
    "lookup": {"bucket": "2", "changelog-producer": "lookup"},
    "one bucket": {"bucket": "1", "changelog-producer": "lookup"},
    "no changelog": {"bucket": "2"},
    "dynamic": {"bucket": "-1", "dynamic-bucket.target-row-num": "9", "changelog-producer": "lookup"},
}


def warehouse(source: str = "lookup") -> Catalog:
    catalog = Catalog(f"memory://{uuid.uuid4()}")
    catalog.create_database("db")
    text, number, lookup = "STRING", "BIGINT", SOURCES["lookup"]
    order = {"id": number, "member": text, "amount": number}
    catalog.create_table("db.orders", order, primary_key=["id"], options=SOURCES[source])
    catalog.create_table("db.members", {"id": text, "city": text}, primary_key=["id"], options=lookup)
    catalog.create_table("db.wide", {**order, "city": text}, primary_key=["id"], options=lookup)
    sums = {"merge-engine": "aggregation", "fields.default-aggregate-function": "sum", "bucket": "1"}
    for name in ("db.by_city", "db.again"):
        catalog.create_table(
            name, {"city": text, "orders": number, "amount": number}, primary_key=["city"], options=sums
        )
    return catalog


def put(catalog: Catalog, chance: random.Random, count: int, kind: str = "+I") -> None:
    """So many orders, new and changed, in one commit."""
    ids = chance.sample(range(80), count)
    rows = {"id": ids, "member": [f"m{chance.randrange(4)}" for _ in ids], "amount": [chance.randrange(9) for _ in ids]}
    catalog.table("db.orders").write(pl.DataFrame(rows).with_columns(pl.lit(kind).alias("_row_kind")))


def members(catalog: Catalog, chance: random.Random) -> None:
    rows = {"id": [f"m{number}" for number in range(4)], "city": [f"c{chance.randrange(3)}" for _ in range(4)]}
    catalog.table("db.members").write(pl.DataFrame(rows))


def finish(catalog: Catalog, *streams: Stream) -> int:
    """Every stream to its end; the largest batch that it read."""
    most = 0
    for stream in streams or STREAMS:
        runner = StreamRunner(catalog, stream)
        while (result := runner.run_batch()) is not None:
            most = max(most, result.rows_read)
    return most


def assert_wide(catalog: Catalog) -> pl.DataFrame:
    dimension = catalog.table("db.members").scan().collect()
    orders = catalog.table("db.orders").scan().collect()
    wide = orders.join(dimension.rename({"id": "member"}), on="member", how="left").sort("*")
    assert catalog.table("db.wide").scan().collect().sort("*").equals(wide)
    return wide


def assert_right(catalog: Catalog) -> None:
    wide = assert_wide(catalog)
    sums = wide.group_by("city").agg(pl.len().cast(pl.Int64).alias("orders"), pl.col("amount").sum()).sort("*")
    for name in ("db.by_city", "db.again"):
        found = catalog.table(name).scan().filter(pl.col("orders") != 0).collect().sort("*")
        assert found.equals(sums), name


@pytest.mark.parametrize("source", SOURCES)
def test_a_large_table_and_large_commits_go_through_in_bounded_batches(source: str) -> None:
    catalog, chance = warehouse(source), random.Random(1)
    members(catalog, chance)
    put(catalog, chance, 60)
    assert finish(catalog, WIDEN) <= 2 * BOUNDS.max_rows
    finish(catalog)
    assert_right(catalog)
    put(catalog, chance, 50)
    put(catalog, chance, 20, kind="-D")
    put(catalog, chance, 3)
    members(catalog, chance)
    assert finish(catalog, WIDEN) <= 4 * BOUNDS.max_rows  # -U and +U of each row
    finish(catalog)
    assert_right(catalog)


def test_a_table_without_keys_is_cut_by_rows() -> None:
    catalog = warehouse()
    for name in ("db.log", "db.copy"):
        catalog.create_table(name, {"n": "BIGINT"}, options={"bucket": "-1"})
    log = Stream(
        source="db.log", target="db.copy", transform=lambda rows: rows.select("n"), reads="changelog", bounds=BOUNDS
    )
    for first, last in ((0, 50), (50, 55), (55, 120)):
        catalog.table("db.log").write(pl.DataFrame({"n": range(first, last)}))
        assert finish(catalog, log) <= BOUNDS.max_rows
    assert catalog.table("db.copy").scan().collect()["n"].to_list() == list(range(120))


def started(chance: random.Random, *, at_start: bool) -> Catalog:
    """A warehouse whose first stream is in the middle of a large snapshot."""
    catalog = warehouse()
    members(catalog, chance)
    if not at_start:
        put(catalog, chance, 8)
        finish(catalog, WIDEN)
    put(catalog, chance, 50)
    for _ in range(2):
        result = run_batch(catalog, WIDEN)
        assert result is not None
        assert result.rows_behind > 0
    assert StreamRunner(catalog, WIDEN).consumed().within is not None
    return catalog


@pytest.mark.parametrize("at_start", [True, False])
def test_what_waits_is_told_and_other_bounds_change_nothing(at_start: bool) -> None:
    chance = random.Random(2)
    catalog = started(chance, at_start=at_start)
    runner = StreamRunner(catalog, WIDEN)
    behind = runner.pending().rows
    assert 0 < behind < 150
    assert set(runner.waiting()) == {"db.orders"}
    assert stream_lag(WIDEN).run(catalog).numbers["rows_behind"] == behind
    assert table_health(catalog, "db.wide", now_ms=0).behind == behind
    members(catalog, chance)
    put(catalog, chance, 5)
    other = replace(WIDEN, bounds=Bounds(max_rows=50))
    result = run_batch(catalog, other)
    assert result is not None
    assert (result.rows_reemitted, result.rows_read < 40) == (0, True)
    finish(catalog, other)
    assert_wide(catalog)


@pytest.mark.parametrize("at_start", [True, False])
def test_expiry_and_compaction_leave_what_is_still_read(at_start: bool) -> None:
    chance = random.Random(3)
    catalog = started(chance, at_start=at_start)
    orders = catalog.table("db.orders")
    put(catalog, chance, 10)
    orders.compact(full=True)
    orders.expire_snapshots(retain_max=1, retain_min=1)
    finish(catalog, WIDEN)
    assert_wide(catalog)
    orders.expire_snapshots(retain_max=1, retain_min=1)
    assert orders.snapshots().height <= 2


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("at_start", [True, False])
def test_a_repair_in_the_middle_leaves_nothing_out(at_start: bool, whole: bool) -> None:
    chance = random.Random(5)
    catalog = started(chance, at_start=at_start)
    repair(catalog, WIDEN, None if whole else [1, 2, 3])  # type: ignore[list-item]
    assert StreamRunner(catalog, WIDEN).consumed().within is None
    finish(catalog, WIDEN)
    assert_wide(catalog)
    put(catalog, chance, 5)
    finish(catalog, WIDEN)
    assert_wide(catalog)


def test_upto_holds_back_a_snapshot_that_was_begun() -> None:
    catalog = started(random.Random(6), at_start=False)
    place = StreamRunner(catalog, WIDEN).consumed().within
    assert place is not None
    assert run_batch(catalog, WIDEN, upto=place.until - 1) is None
    assert run_batch(catalog, WIDEN, upto=place.until) is not None


@pytest.mark.parametrize("at_start", [True, False])
def test_a_version_without_portions_fails_at_an_offset_inside_a_snapshot(at_start: bool) -> None:
    catalog = started(random.Random(7), at_start=at_start)
    target = catalog.table("db.wide")
    user = StreamRunner(catalog, WIDEN).consumed().user
    written = json.loads(target.committed_properties(user)[SOURCES_PROPERTY])
    with pytest.raises(ValueError, match="inside of snapshot"):
        int(written["db.orders"])
    finish(catalog, WIDEN)
    assert int(json.loads(target.committed_properties(user)[SOURCES_PROPERTY])["db.orders"]) > 0
    assert_wide(catalog)


@pytest.mark.parametrize(
    "told",
    [
        {SOURCES_PROPERTY: '{"db.orders": "1, inside of snapshot 2", "db.members": 1}'},
        {SOURCES_PROPERTY: '{"db.orders": 1, "db.members": 1}', PORTION_PROPERTY: '{"source": "db.orders", "rows": 4}'},
    ],
)
def test_an_offset_of_an_unknown_form_is_refused(told: dict[str, str]) -> None:
    catalog = started(random.Random(8), at_start=False)
    target = catalog.table("db.wide")
    consumed = StreamRunner(catalog, WIDEN).consumed()
    rows = target.scan().head(0).collect()
    target.write(
        rows,
        commit_user=consumed.user,
        commit_identifier=consumed.next_identifier,
        properties={**told, DRIVING_PROPERTY: "db.orders"},
    )
    before = target.latest_snapshot()
    with pytest.raises(Unsupported, match="does not know: let the version that wrote it"):
        run_batch(catalog, WIDEN)
    assert target.latest_snapshot() == before


def test_killed_and_overlapping_runs_count_each_change_once(monkeypatch: pytest.MonkeyPatch) -> None:
    catalog, chance = warehouse(), random.Random(1)
    streams = {stream.target: stream for stream in STREAMS}
    members(catalog, chance)
    for count in (50, 40):
        put(catalog, chance, count)
        for stream in STREAMS:
            with deaths(monkeypatch, chance, overtakes=lambda target: run_batch(catalog, streams[target])):
                for _ in range(5):
                    with contextlib.suppress(Killed):
                        run_batch(catalog, stream)
        members(catalog, chance)
    finish(catalog)
    assert_right(catalog)

"""A source that is overwritten goes through in portions, exactly once. Truth is plain Polars over the source."""

from __future__ import annotations

import contextlib
import json
import random
import uuid
from dataclasses import asdict
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from lakehouse_assets.stream.declaration import Bounds, Repair, Stream
from lakehouse_assets.stream.offsets import DRIVING_PROPERTY, PORTION_PROPERTY, properties
from lakehouse_assets.stream.place import Place
from lakehouse_assets.stream.repair import repair
from lakehouse_assets.stream.runner import StreamRunner, run_batch
from lakehouse_assets.stream.source import portions_of
from storage_engine import Catalog
from tests.effort import examples
from tests.fakes.faulty_file_io import Killed
from tests.lakehouse_assets.deaths import deaths

BOUNDS = Bounds(max_rows=12)
DAYS = ("mon", "tue")


def newest(rows: pl.DataFrame) -> pl.DataFrame:
    """One row of an order, whatever the day it stands in; those of no amount go away."""
    gone = pl.when(pl.col("amount") == 0).then(pl.lit("-D")).otherwise(pl.col("_row_kind"))
    return rows.select(gone.alias("_row_kind"), "id", "day", "amount")


def summed(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.select("_row_kind", "day", pl.lit(1, pl.Int64).alias("orders"), "amount")


COPY = Stream(source="db.orders", target="db.copy", transform=newest, bounds=BOUNDS)
NEWEST = Stream(
    source="db.orders",
    target="db.newest",
    transform=newest,
    bounds=BOUNDS,
    columns=("id", "day", "amount"),
    repair=Repair(column="id", source=pl.col("id")),
)
TOLD = Stream(source="db.orders", target="db.told", transform=newest, reads="changelog", bounds=BOUNDS)
SUMS = Stream(source="db.orders", target="db.sums", transform=summed, reads="changelog", bounds=BOUNDS)
MIXED = Stream(source="db.orders", target="db.mixed", transform=summed, reads="changelog", bounds=BOUNDS)
STREAMS = (COPY, NEWEST, TOLD, SUMS, MIXED)
SOURCES = {
    "lookup": {"bucket": "2", "changelog-producer": "lookup"},
    "input": {"bucket": "1", "changelog-producer": "input"},
    "dynamic": {"bucket": "-1", "dynamic-bucket.target-row-num": "9", "changelog-producer": "lookup"},
}


def warehouse(source: str) -> Catalog:
    catalog = Catalog(f"memory://{uuid.uuid4()}")
    catalog.create_database("db")
    columns = {"day": "STRING", "id": "BIGINT", "amount": "BIGINT", "note": "STRING"}
    catalog.create_table(
        "db.orders", columns, primary_key=["day", "id"], partitioned_by=["day"], options=SOURCES[source]
    )
    columns.pop("note")
    for name, key in {"db.copy": ["day", "id"], "db.told": ["day", "id"], "db.newest": ["id"]}.items():
        catalog.create_table(name, columns, primary_key=key, options={"bucket": "1"})
    sums = {"day": "STRING", "orders": "BIGINT", "amount": "BIGINT"}
    adding = {"bucket": "1", "merge-engine": "aggregation", "fields.default-aggregate-function": "sum"}
    catalog.create_table("db.sums", sums, primary_key=["day"], options=adding)
    last = {**adding, "fields.last.aggregate-function": "last_value"}
    catalog.create_table("db.mixed", {**sums, "last": "STRING"}, primary_key=["day"], options=last)
    return catalog


def assert_right(catalog: Catalog) -> None:
    orders = catalog.table("db.orders").scan().select("id", "day", "amount").collect()
    held = orders.filter(pl.col("amount") != 0).sort("id")
    assert catalog.table("db.copy").scan().select(held.columns).collect().sort("id").equals(held)
    for name in ("db.newest", "db.told"):
        assert catalog.table(name).scan().select(held.columns).collect().sort("id").equals(held), name
    sums = orders.group_by("day").agg(pl.len().cast(pl.Int64).alias("orders"), pl.col("amount").sum()).sort("day")
    for name in ("db.sums", "db.mixed"):
        found = catalog.table(name).scan().filter(pl.col("orders") != 0).select(sums.columns).collect().sort("day")
        assert found.equals(sums), name


def put(catalog: Catalog, kind: str, rows: dict[int, tuple[int, int]]) -> None:
    """An order stands in one day: one that moves goes from where it was, in the same commit."""
    table = catalog.table("db.orders")
    frame = pl.DataFrame(
        [(DAYS[day], number, amount, "") for number, (day, amount) in rows.items()],
        schema=table.schema.polars_schema,
        orient="row",
    )
    known = table.scan().collect()
    if kind == "all":
        table.overwrite(frame, partitions=[{"day": day} for day in DAYS])
    elif kind == "a day":
        elsewhere = known.filter(pl.col("day") != DAYS[0])
        day = frame.with_columns(pl.lit(DAYS[0]).alias("day")).join(elsewhere, on="id", how="anti")
        table.overwrite(day, partitions=[{"day": DAYS[0]}])
    else:
        was = known.join(frame, on="id", how="semi").with_columns(pl.lit("-D").alias("_row_kind"))
        now = frame.with_columns(pl.lit("+I").alias("_row_kind"))
        table.write(pl.concat([was, now]))


ROWS = st.dictionaries(st.integers(0, 40), st.tuples(st.integers(0, 1), st.integers(0, 3)), min_size=1, max_size=40)
STEP = st.tuples(st.sampled_from(["all", "a day", "write", "notes"]), ROWS)


@pytest.mark.parametrize("source", SOURCES)
@settings(
    max_examples=examples(4),
    phases=(Phase.explicit, Phase.generate),
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
@given(first=ROWS, steps=st.lists(STEP, min_size=1, max_size=4), seed=st.integers(0, 1000))
def test_right_after_every_overwrite_whoever_dies(
    source: str, first: dict[int, Any], steps: list[Any], seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is written, and what is overwritten, between two portions is there in the end, too."""
    catalog, chance = warehouse(source), random.Random(seed)
    put(catalog, "write", first)
    for stream in STREAMS:
        finish(catalog, stream)
    assert_right(catalog)
    streams = {stream.target: stream for stream in STREAMS}
    for kind, rows in steps:
        if kind == "notes":
            noted = catalog.table("db.orders").scan().with_columns(pl.lit(f"{seed}").alias("note")).collect()
            catalog.table("db.orders").overwrite(noted)
        else:
            put(catalog, kind, rows)
        for stream in STREAMS:
            with deaths(
                monkeypatch, chance, target=stream.target, overtakes=lambda name: run_batch(catalog, streams[name])
            ):
                for _ in range(chance.randrange(4)):
                    with contextlib.suppress(Killed):
                        run_batch(catalog, stream)
    for stream in STREAMS:
        finish(catalog, stream)
    assert_right(catalog)


def finish(catalog: Catalog, stream: Stream) -> list[int]:
    """A stream to its end; the rows that each batch read."""
    runner, read = StreamRunner(catalog, stream), []
    while (result := runner.run_batch()) is not None:
        read.append(result.rows_read)
    return read


def overwritten(source: str = "lookup", *, rows: int = 60) -> Catalog:
    catalog = warehouse(source)
    put(catalog, "write", {number: (number % 2, 1) for number in range(rows)})
    for stream in STREAMS:
        finish(catalog, stream)
    put(catalog, "all", {number: ((number // 3) % 2, 2) for number in range(20, rows + 20)})
    return catalog


@pytest.mark.parametrize("source", SOURCES)
def test_batches_are_bounded(source: str) -> None:
    catalog = overwritten(source)
    for stream in STREAMS:
        read = finish(catalog, stream)
        assert len(read) > 8
        assert max(read) <= 3 * BOUNDS.max_rows
    assert_right(catalog)


def test_a_repair_between_two_portions_leaves_nothing_out() -> None:
    for values in (None, [1, 30, 70]):
        catalog = overwritten()
        for _ in range(3):
            assert run_batch(catalog, NEWEST) is not None
        repair(catalog, NEWEST, values)  # type: ignore[arg-type]
        assert StreamRunner(catalog, NEWEST).consumed().within is None
        for stream in STREAMS:
            finish(catalog, stream)
        assert_right(catalog)


def test_rows_that_are_replaced_do_not_go_away_in_between() -> None:
    catalog = overwritten()
    always = {number for number in range(20, 60) if number % 2 == (number // 3) % 2}
    assert len(always) > 15
    runner = StreamRunner(catalog, NEWEST)
    while runner.run_batch() is not None:
        assert always <= set(catalog.table("db.newest").scan().collect()["id"])


def test_a_place_in_ranges_is_of_a_form_that_versions_without_refuse() -> None:
    """They make their ``Place`` of all members, which knows neither of these."""
    catalog = overwritten()
    run_batch(catalog, NEWEST)
    written = json.loads(catalog.table("db.newest").committed_properties(NEWEST.name)[PORTION_PROPERTY])
    assert (written["ranges"], written["compared"]) == (True, ["db.orders"])
    older = Place(source="db.orders", after=1, until=2, start=False, max_rows=3, max_bytes=None).document()
    assert set(written) - set(older) == {"ranges", "compared"}


@pytest.mark.parametrize("at_start", [True, False])
def test_a_place_that_a_version_without_ranges_has_written_is_gone_on_from(at_start: bool) -> None:
    catalog = warehouse("lookup")
    source, target = catalog.table("db.orders"), catalog.table("db.copy")
    put(catalog, "write", {number: (number % 2, 1) for number in range(60)})
    after = 0
    if not at_start:
        finish(catalog, COPY)
        after = StreamRunner(catalog, COPY).consumed().snapshot("db.orders") or 0
        put(catalog, "write", {number: (number % 2, 2) for number in range(60)})
    latest = source.latest_snapshot()
    assert latest is not None
    place = Place(source="db.orders", after=after, until=latest.id, start=at_start, max_rows=12, max_bytes=None)
    consumed = StreamRunner(catalog, COPY).consumed()
    for number, portion in enumerate(portions_of(source, place)[:2], start=1):
        rows = portion.read().with_columns(pl.lit("+I").alias("_row_kind")) if at_start else portion.read()
        document = {**asdict(place), "done": number, "left": 9}
        told = properties({"db.orders": after}, driving="db.orders", within=place)
        members = {name: value for name, value in document.items() if name not in ("ranges", "compared")}
        target.write(
            newest(rows),
            commit_user=consumed.user,
            commit_identifier=consumed.next_identifier + number - 1,
            properties={**told, PORTION_PROPERTY: json.dumps(members), DRIVING_PROPERTY: "db.orders"},
        )
    held = {row["id"] for row in target.scan().filter(pl.col("amount") == (1 if at_start else 2)).collect().to_dicts()}
    assert 5 < len(held) < 40
    read = finish(catalog, COPY)
    assert 60 - len(held) <= sum(read) <= 2 * (60 - len(held))
    orders = source.scan().select("day", "id", "amount").collect().sort("id")
    assert target.scan().collect().sort("id").equals(orders)


def test_rows_change_places_between_portions_of_a_commit() -> None:
    """A key of the target goes from one key of the source to another, in a commit that is larger than a batch."""
    catalog = warehouse("lookup")
    put(catalog, "write", {number: (number % 2, 1) for number in range(60)})
    finish(catalog, NEWEST)
    put(catalog, "write", {number: ((number + 1) % 2, 2) for number in range(60)})
    read = finish(catalog, NEWEST)
    assert max(read) <= 3 * BOUNDS.max_rows
    orders = catalog.table("db.orders").scan().select("day", "id", "amount").collect().sort("id")
    assert catalog.table("db.newest").scan().collect().sort("id").equals(orders)


@pytest.mark.parametrize("source", SOURCES)
def test_rows_change_places_in_a_small_commit(source: str) -> None:
    for number in range(8):
        catalog, chance = warehouse(source), random.Random(number)
        put(catalog, "write", {order: (chance.randrange(2), 1) for order in chance.sample(range(40), 6)})
        finish(catalog, NEWEST)
        put(catalog, "write", {order: (chance.randrange(2), 2) for order in chance.sample(range(40), 6)})
        known = catalog.table("db.orders").scan().collect().sort("id")
        put(catalog, "write", {row["id"]: (chance.randrange(2), 3) for row in known.head(3).to_dicts()})
        finish(catalog, NEWEST)
        orders = catalog.table("db.orders").scan().select("day", "id", "amount").collect().sort("id")
        assert catalog.table("db.newest").scan().collect().sort("id").equals(orders)

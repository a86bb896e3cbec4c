"""A stream that counts by looked-up values, step by step, against the same sums computed anew in plain Python."""

from __future__ import annotations

import uuid
from dataclasses import replace
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from lakehouse_assets.stream.declaration import Bounds, Lookup, Repair, Stream
from lakehouse_assets.stream.errors import InvalidStream
from lakehouse_assets.stream.repair import repair
from lakehouse_assets.stream.runner import StreamRunner
from storage_engine import Catalog
from tests.effort import examples

ORDERS = {"id": "BIGINT", "member": "BIGINT", "amount": "BIGINT"}
MEMBERS = {"id": "BIGINT", "city": "STRING", "phone": "STRING"}
CITIES = {"id": "STRING", "region": "STRING"}


def counted(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.select(
        "_row_kind",
        pl.col("city").fill_null("?"),
        pl.col("region").fill_null("?"),
        pl.lit(1, pl.Int64).alias("orders"),
        "amount",
    )


def stream(*, hold: bool) -> Stream:
    return Stream(
        source="db.orders",
        target="db.sums",
        transform=counted,
        reads="changelog",
        lookups=(
            Lookup(table="db.members", left_on="member", columns={"city": "city"}, hold=hold),
            Lookup(table="db.cities", left_on="city", columns={"region": "region"}),
        ),
        bounds=Bounds(max_snapshots=3),
    )


def warehouse(producer: str, *, keyed: bool = True) -> Catalog:
    catalog = Catalog(f"memory://{uuid.uuid4()}")
    catalog.create_database("db")
    options = {"bucket": "1", "changelog-producer": producer}
    catalog.create_table(
        "db.orders", ORDERS, primary_key=["id"] if keyed else [], options=options if keyed else {"bucket": "-1"}
    )
    for name, columns in (("db.members", MEMBERS), ("db.cities", CITIES)):
        catalog.create_table(name, columns, primary_key=["id"], options={**options, "changelog-producer": "lookup"})
    catalog.create_table(
        "db.sums",
        {"city": "STRING", "region": "STRING", "orders": "BIGINT", "amount": "BIGINT"},
        primary_key=["city", "region"],
        options={
            "bucket": "1",
            "changelog-producer": "lookup",
            "merge-engine": "aggregation",
            "fields.default-aggregate-function": "sum",
        },
    )
    return catalog


def expected(catalog: Catalog, *, hold: bool) -> dict[tuple[str, str], tuple[int, int]]:
    """What the tables of now give."""
    members = {row["id"]: row["city"] for row in catalog.table("db.members").scan().collect().to_dicts()}
    regions = {row["id"]: row["region"] for row in catalog.table("db.cities").scan().collect().to_dicts()}
    sums: dict[tuple[str, str], tuple[int, int]] = {}
    for order in catalog.table("db.orders").scan().collect().to_dicts():
        if hold and order["member"] not in members:
            continue
        city = members.get(order["member"])
        group = (city or "?", regions.get(city) or "?")
        orders, amount = sums.get(group, (0, 0))
        sums[group] = (orders + 1, amount + order["amount"])
    return sums


def found(catalog: Catalog) -> dict[tuple[str, str], tuple[int, int]]:
    """The target's groups that have rows; one that has lost them all keeps zeros."""
    rows = catalog.table("db.sums").scan().collect().rows()
    empty = [row for row in rows if not row[2]]
    assert all(row[3] == 0 for row in empty)
    return {(city, region): (orders, amount) for city, region, orders, amount in rows if orders}


def caught_up(runner: StreamRunner) -> int:
    """Run until nothing is left; how many batches that took."""
    batches = 0
    while runner.run_batch() is not None:
        batches += 1
    return batches


NUMBERS, NAMES = st.integers(0, 3), st.sampled_from(["a", "b", None])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("db.orders"), NUMBERS, NUMBERS, st.integers(1, 9)),
        st.tuples(st.just("db.members"), NUMBERS, NAMES, NAMES),
        st.tuples(st.just("db.cities"), st.sampled_from(["a", "b"]), NAMES),
        st.tuples(st.sampled_from(["-db.orders", "-db.members"]), NUMBERS, st.just(1), st.just(1)),
        st.just(("run",)),
    ),
    min_size=4,
    max_size=14,
)


def put(catalog: Catalog, step: Any) -> None:
    name, *values = step
    table = catalog.table(name.removeprefix("-"))
    kind = "-D" if name.startswith("-") else "+I"
    if name == "-db.members":
        values = [values[0], None, None]
    frame = pl.DataFrame([values], schema=table.schema.polars_schema, orient="row")
    table.write(frame.with_columns(pl.lit(kind).alias("_row_kind")))


@pytest.mark.parametrize("hold", [True, False], ids=["held", "not held"])
@pytest.mark.parametrize("producer", ["lookup", "none"])
@settings(
    max_examples=examples(4), phases=(Phase.generate,), deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
@given(steps=STEPS)
def test_sums_are_right_after_every_run(producer: str, hold: bool, steps: list[Any]) -> None:
    catalog = warehouse(producer)
    runner = StreamRunner(catalog, stream(hold=hold))
    for step in [*steps, ("run",)]:
        if step != ("run",):
            put(catalog, step)
            continue
        caught_up(runner)
        if catalog.table("db.orders").latest_snapshot() is not None:
            assert found(catalog) == expected(catalog, hold=hold)
        runner = StreamRunner(catalog, stream(hold=hold)) if len(steps) % 2 else runner


def test_late_rows_are_counted_once_and_a_killed_run_counts_none_twice() -> None:
    catalog = warehouse("lookup")
    put(catalog, ("db.orders", 1, 7, 10))
    put(catalog, ("db.orders", 2, 8, 5))
    assert caught_up(StreamRunner(catalog, stream(hold=True))) == 1
    assert found(catalog) == {}
    put(catalog, ("db.members", 7, "a", "1"))
    first, second = (StreamRunner(catalog, stream(hold=True)) for _ in range(2))
    result = first.run_batch()
    assert result is not None
    assert (result.rows_read, result.rows_reemitted, result.rows_written) == (0, 1, {"+U": 1})
    assert second.run_batch() is None, "another run finds the position moved"
    assert found(catalog) == {("a", "?"): (1, 10)}
    put(catalog, ("db.cities", "a", "north"))
    assert caught_up(second) == 1
    assert found(catalog) == {("a", "north"): (1, 10)}
    put(catalog, ("db.members", 7, "a", "another phone"))
    assert second.run_batch() is not None
    assert found(catalog) == {("a", "north"): (1, 10)}


def test_rows_without_a_key_wait_for_their_dimension_rows() -> None:
    catalog = warehouse("none", keyed=False)
    runner = StreamRunner(catalog, stream(hold=True))
    for amount in (10, 10, 3):
        put(catalog, ("db.orders", 1, 7, amount))
        caught_up(runner)
    assert found(catalog) == {}
    put(catalog, ("db.members", 7, "a", "1"))
    put(catalog, ("db.orders", 1, 7, 4))
    caught_up(runner)
    assert found(catalog) == {("a", "?"): (4, 27)}


def test_it_is_repaired_as_it_is_kept() -> None:
    catalog = warehouse("lookup")
    counting = replace(stream(hold=True), repair=Repair(column="city", source=pl.lit("a")))
    put(catalog, ("db.members", 7, "a", "1"))
    put(catalog, ("db.orders", 1, 7, 10))
    caught_up(StreamRunner(catalog, counting))
    catalog.table("db.sums").write(pl.DataFrame({"city": ["a"], "region": ["?"], "orders": [5], "amount": [5]}))
    assert repair(catalog, counting).snapshot is not None
    assert found(catalog) == expected(catalog, hold=True)


def test_what_could_not_be_taken_back_is_refused() -> None:
    catalog = warehouse("lookup")
    held = stream(hold=True)
    newest = {"city": "STRING", "region": "STRING", "orders": "BIGINT", "amount": "BIGINT"}
    catalog.create_table("db.newest", newest, primary_key=["city", "region"], options={"bucket": "1"})
    catalog.create_table("db.silent", MEMBERS, primary_key=["id"], options={"bucket": "1"})
    by_phone = Lookup(table="db.silent", left_on="member", right_on="phone", columns={"city": "city"})
    for wrong, message in (
        (replace(held, target="db.newest"), "merge engine aggregation"),
        (replace(held, lookups=(held.lookups[0], replace(held.lookups[1], reemit=False))), "all lookups"),
        (replace(held, lookups=(by_phone,)), "db.silent does not tell"),
    ):
        with pytest.raises(InvalidStream, match=message):
            StreamRunner(catalog, wrong)

"""Joins of two changelog tables, step by step, against the same join computed anew in plain Python."""

from __future__ import annotations

import random
import uuid
from collections import Counter
from dataclasses import replace
from typing import Any, Literal

import polars as pl
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from lakehouse_assets.stream.declaration import Bounds, Join, Lookup, Repair, Stream
from lakehouse_assets.stream.errors import InvalidStream
from lakehouse_assets.stream.repair import repair
from lakehouse_assets.stream.runner import StreamRunner, run_batch
from storage_engine import Catalog
from tests.effort import examples
from tests.fakes.faulty_file_io import Killed
from tests.lakehouse_assets.deaths import deaths

How = Literal["inner", "left", "full"]
SIDES = {"db.orders": {"id": "BIGINT", "account": "STRING", "amount": "BIGINT"}}
SIDES["db.payments"] = {"pid": "BIGINT", "payer": "STRING", "paid": "BIGINT"}
PAIRS = {"id": "BIGINT NOT NULL", "pid": "BIGINT NOT NULL", "account": "STRING", "amount": "BIGINT", "paid": "BIGINT"}


def paired(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.select("_row_kind", pl.col("id", "pid").fill_null(-1), "account", "amount", "paid")


def counted(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.select(
        "_row_kind",
        pl.col("account").fill_null("none"),
        pl.lit(1, pl.Int64).alias("pairs"),
        pl.col("paid").fill_null(0),
    )


def streams(how: How, max_rows: int = 1000) -> tuple[Stream, Stream]:
    join = Join(
        table="db.payments", left_on=("account",), right_on=("payer",), columns={"pid": "pid", "paid": "paid"}, how=how
    )
    declared = {"source": "db.orders", "join": join, "bounds": Bounds(max_snapshots=3, max_rows=max_rows)}
    return (
        Stream(target="db.pairs", transform=paired, **declared),
        Stream(target="db.sums", transform=counted, reads="changelog", **declared),
    )


def warehouse(producers: tuple[str, str]) -> Catalog:
    catalog = Catalog(f"memory://{uuid.uuid4()}")
    catalog.create_database("db")
    for (name, columns), producer in zip(SIDES.items(), producers, strict=True):
        options = {"bucket": "1", "changelog-producer": producer}
        catalog.create_table(name, columns, primary_key=[next(iter(columns))], options=options)
    options = {"bucket": "1", "changelog-producer": "lookup"}
    catalog.create_table("db.pairs", PAIRS, primary_key=["id", "pid"], options=options)
    sums = {f"fields.{name}.aggregate-function": "sum" for name in ("pairs", "paid")}
    catalog.create_table(
        "db.sums",
        {"account": "STRING NOT NULL", "pairs": "BIGINT", "paid": "BIGINT"},
        primary_key=["account"],
        options={**options, "merge-engine": "aggregation", **sums},
    )
    return catalog


def expected(catalog: Catalog, how: How) -> list[tuple[Any, ...]]:
    """(id, pid, account, amount, paid) of the join, row by row."""
    orders, payments = (catalog.table(name).scan().collect().rows() for name in SIDES)
    joined = [
        (order, payment) for order in orders for payment in payments if order[1] is not None and order[1] == payment[1]
    ]
    if how != "inner":
        joined += [(order, None) for order in orders if order not in [left for left, _ in joined]]
    if how == "full":
        joined += [(None, payment) for payment in payments if payment not in [right for _, right in joined]]
    rows = []
    for order, payment in joined:
        identity, account, amount = order or (-1, None if payment is None else payment[1], None)
        pid, _, paid = payment or (-1, None, None)
        rows.append((identity, pid, account, amount, paid))
    return sorted(rows, key=str)


def assert_right(catalog: Catalog, how: How) -> None:
    rows = expected(catalog, how)
    found = catalog.table("db.pairs").scan().collect().rows()
    assert sorted(found, key=str) == rows
    pairs: Counter[str] = Counter()
    paid: Counter[str] = Counter()
    for _, _, account, _, amount in rows:
        pairs[account or "none"] += 1
        paid[account or "none"] += amount or 0
    sums = catalog.table("db.sums").scan().filter(pl.col("pairs") != 0).collect()
    assert {row["account"]: (row["pairs"], row["paid"]) for row in sums.to_dicts()} == {
        account: (count, paid[account]) for account, count in pairs.items()
    }


ACCOUNTS = st.sampled_from(["a", "b", "c", None])
CHANGE = st.tuples(
    st.sampled_from(list(SIDES)),
    st.sampled_from(["+I", "+I", "-D", "overwrite"]),
    st.dictionaries(st.integers(0, 3), st.tuples(ACCOUNTS, st.integers(1, 9)), min_size=1, max_size=3),
)


@pytest.mark.parametrize("how", ["inner", "left", "full"])
@settings(
    max_examples=examples(8),
    phases=(Phase.explicit, Phase.generate),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
@given(
    producers=st.tuples(*[st.sampled_from(["lookup", "input"])] * 2),
    steps=st.lists(st.lists(CHANGE, min_size=1, max_size=3), min_size=2, max_size=4),
    max_rows=st.sampled_from([1, 2, 1000]),
)
def test_right_after_every_step(how: How, producers: tuple[str, str], steps: list[Any], max_rows: int) -> None:
    """Tables with an input changelog get changes as a source gives them: with the old row, if there was one."""
    catalog = warehouse(producers)
    declared = streams(how, max_rows)
    for number, step in enumerate(steps):
        for table, kind, rows in step:
            write(catalog, table, kind, rows)
        # a new runner now and then: caches are nothing but speed
        if number % 2 == 0:
            runners = [StreamRunner(catalog, stream) for stream in declared]
        for runner in runners:
            while runner.run_batch() is not None:
                pass
        assert_right(catalog, how)


def write(catalog: Catalog, name: str, kind: str, rows: dict[int, tuple[str | None, int]]) -> None:
    table = catalog.table(name)
    schema = table.schema.polars_schema
    frame = pl.DataFrame([(key, *values) for key, values in rows.items()], schema=schema, orient="row")
    if kind == "overwrite":
        table.overwrite(frame)
        return
    old = table.scan().collect()
    key = table.schema.primary_keys[0]
    if table.schema.options["changelog-producer"] == "input":
        known = old.join(frame, on=key, how="semi").with_columns(
            pl.lit("-U" if kind == "+I" else "-D").alias("_row_kind")
        )
        new = frame.with_columns(pl.lit("+I").alias("_row_kind")) if kind == "+I" else known.clear()
        frame = pl.concat([known.select("_row_kind", *schema), new.select("_row_kind", *schema)])
        if frame.is_empty():
            return
        table.write(frame)
        return
    table.write(frame.with_columns(pl.lit(kind).alias("_row_kind")))


@pytest.mark.parametrize("how", ["left", "full"])
def test_large_snapshots_are_read_in_shares_whoever_dies(how: How, monkeypatch: pytest.MonkeyPatch) -> None:
    catalog, chance, declared = warehouse(("lookup", "lookup")), random.Random(5), streams(how, 15)
    by_target, died = {stream.target: stream for stream in declared}, 0
    for _ in range(2):
        for table in SIDES:
            accounts = [f"{chance.randrange(90)}" if chance.random() < 0.9 else None for _ in range(60)]
            write(catalog, table, "+I", {key: (account, chance.randrange(9)) for key, account in enumerate(accounts)})
            gone = chance.sample(range(60), 20)
            write(catalog, table, "-D", dict.fromkeys(gone, (None, 0)))
        for target, stream in by_target.items():
            runner = StreamRunner(catalog, stream)
            with deaths(monkeypatch, chance, overtakes=lambda name: run_batch(catalog, by_target[name])):
                for _ in range(4):
                    try:
                        runner.run_batch()
                    except Killed:
                        died, runner = died + 1, StreamRunner(catalog, stream)
            assert runner.consumed().within is not None, "a share is to come"
            batches = []
            while (batch := runner.run_batch()) is not None:
                batches.append(batch)
            assert max(batch.rows_read for batch in batches) < 40, "all that is read at a time, were it not for shares"
            identifiers = catalog.table(target).snapshots().filter(pl.col("commit_user") == stream.name)
            appended = identifiers.filter(pl.col("commit_kind") == "APPEND")["commit_identifier"]
            assert appended.is_unique().all()
        assert_right(catalog, how)
    assert died > 3


def test_rows_change_places_between_shares() -> None:
    catalog = warehouse(("lookup", "lookup"))
    stream = streams("left", 6)[0]
    rows = {number: (f"{number}", number) for number in range(30)}
    write(catalog, "db.orders", "+I", rows)
    runner = StreamRunner(catalog, stream)
    while runner.run_batch() is not None:
        pass
    moved = {number: (f"{(number * 7 + 3) % 30}", number) for number in range(30)}
    write(catalog, "db.orders", "+I", moved)
    shares = 0
    while runner.run_batch() is not None:
        shares += 1
    assert shares > 2
    found = catalog.table("db.pairs").scan().collect().sort("id")
    assert dict(zip(found["id"], found["account"], strict=True)) == {
        number: account for number, (account, _) in moved.items()
    }


@pytest.mark.parametrize("side", SIDES)
def test_an_overwritten_side_is_read_in_shares(side: str) -> None:
    catalog, stream = warehouse(("lookup", "input")), streams("full", 12)[0]
    rows = {number: (f"{number % 17}", number) for number in range(30)}
    for table in SIDES:
        write(catalog, table, "+I", rows)
    runner = StreamRunner(catalog, stream)
    while runner.run_batch() is not None:
        pass
    write(catalog, side, "overwrite", {number: (f"{number % 13}", number) for number in range(10, 40)})
    read = []
    while (batch := runner.run_batch()) is not None:
        read.append(batch.rows_read)
        place = runner.consumed().within
        assert place is None or place.compared == (side,)
    assert len(read) > 4
    assert max(read) < 30
    assert sorted(catalog.table("db.pairs").scan().collect().rows(), key=str) == expected(catalog, "full")


def test_a_share_that_another_declaration_has_begun_is_not_gone_on_with() -> None:
    catalog = warehouse(("lookup", "lookup"))
    stream = streams("left", 10)[0]
    write(catalog, "db.orders", "+I", {number: (f"{number}", number) for number in range(30)})
    StreamRunner(catalog, stream).run_batch()
    alone = replace(stream, join=None, transform=lambda rows: paired(rows.with_columns(pid=None, paid=None)))
    before = catalog.table("db.pairs").latest_snapshot()
    with pytest.raises(InvalidStream, match=r"which joined db\.payments: let that one finish the snapshot first"):
        StreamRunner(catalog, alone).run_batch()
    assert catalog.table("db.pairs").latest_snapshot() == before


def test_a_join_is_repaired_in_parts() -> None:
    catalog = warehouse(("lookup", "lookup"))
    stream = Stream(
        source="db.orders",
        target="db.pairs",
        transform=paired,
        join=streams("left")[0].join,
        repair=Repair(column="account", source=pl.col("account")),
    )
    write(catalog, "db.orders", "+I", {1: ("a", 1), 2: ("b", 2)})
    write(catalog, "db.payments", "+I", {7: ("a", 5)})
    runner = StreamRunner(catalog, stream)
    runner.run_batch()
    right = catalog.table("db.pairs").scan().collect().sort("id")
    catalog.table("db.pairs").write(right.with_columns(paid=pl.lit(99, pl.Int64)))
    repair(catalog, stream, ["a", "b"])
    assert catalog.table("db.pairs").scan().collect().sort("id").equals(right)


def test_what_cannot_be_kept_exact_is_refused() -> None:
    catalog = warehouse(("lookup", "none"))
    with pytest.raises(InvalidStream, match="payments does not tell which rows it had before"):
        StreamRunner(catalog, streams("inner")[0])
    catalog = warehouse(("lookup", "lookup"))
    join = Join(table="db.payments", left_on=("account",), right_on=("nope",), columns={})
    with pytest.raises(InvalidStream, match="no such columns"):
        StreamRunner(catalog, Stream(source="db.orders", target="db.pairs", transform=paired, join=join))
    lookup = Lookup(table="db.payments", left_on="id", right_on="pid", columns={"paid": "other"})
    with pytest.raises(InvalidStream, match="no lookups of its own"):
        StreamRunner(
            catalog,
            Stream(
                source="db.orders", target="db.pairs", transform=paired, join=streams("left")[0].join, lookups=(lookup,)
            ),
        )

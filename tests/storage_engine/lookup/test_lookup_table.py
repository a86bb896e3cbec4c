"""Every strategy, batch after batch, against plain joins with the dimension's rows as they are at the time."""

from __future__ import annotations

import uuid
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from storage_engine import Catalog, LookupTable, Table, lookup_join
from storage_engine.errors import InvalidInput
from storage_engine.lookup import CacheBounds, Share, bucket_share
from storage_engine.lookup.full_cache import FullCache
from storage_engine.lookup.indexed_rows import IndexedRows
from storage_engine.lookup.partial_cache import PartialCache
from storage_engine.lookup.strategy import choose
from tests.effort import examples

PLENTY = CacheBounds(memory_bytes=1 << 30)
TINY = CacheBounds(memory_bytes=1, rows=3)
SCHEMA = {"id": "BIGINT", "city": "STRING", "name": "STRING"}


def dimension(options: dict[str, str] | None = None, **settings: Any) -> Table:
    catalog = Catalog(f"memory://{uuid.uuid4()}")
    catalog.create_database("db")
    given_options = {"bucket": "3", **(options or {})}
    catalog.create_table("db.dim", SCHEMA, **{"primary_key": ["id"], "options": given_options, **settings})
    return catalog.table("db.dim")


def put(table: Table, rows: list[tuple[Any, ...]], kind: str = "+I") -> None:
    frame = pl.DataFrame(rows, schema=table.schema.polars_schema, orient="row")
    table.write(frame.with_columns(pl.lit(kind).alias("_row_kind")))


def expected(table: Table, stream: pl.DataFrame, on: str) -> list[tuple[Any, ...]]:
    """The join in plain Python: every dimension row with that key, or nulls; a null matches nothing."""
    names = [name for name in SCHEMA if name != on]
    rows = table.scan().collect().to_dicts()
    joined = []
    for left in stream.to_dicts():
        key = left["key"]
        matches = [row for row in rows if key is not None and row[on] == key]
        joined += [(left["n"], key, *(row[name] for name in names)) for row in matches]
        joined += [] if matches else [(left["n"], key, *(None for _ in names))]
    return sorted(joined, key=str)


def found(lookup: LookupTable, stream: pl.DataFrame) -> list[tuple[Any, ...]]:
    return sorted(lookup.join(stream, left_on=["key"]).rows(), key=str)


IDS = st.integers(0, 6)
CITIES = st.sampled_from(["a", "b", "c", None])
CHANGES = st.lists(
    st.tuples(st.sampled_from(["+I", "-D", "overwrite"]), st.lists(st.tuples(IDS, CITIES), max_size=4)), max_size=5
)
TABLES = [
    {"changelog-producer": "lookup"},
    {"changelog-producer": "input"},
    {"changelog-producer": "lookup", "deletion-vectors.enabled": "true"},
    {"changelog-producer": "none"},
    {"changelog-producer": "none", "write-only": "true"},
    {"changelog-producer": "full-compaction"},
]


@pytest.mark.parametrize("strategy", ["full-cache", "partial-cache", "bucket-shuffle", "auto"])
@pytest.mark.parametrize("bounds", [PLENTY, TINY], ids=["plenty", "tiny"])
@settings(
    max_examples=examples(8), phases=(Phase.generate,), deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
@given(options=st.sampled_from(TABLES), steps=CHANGES, asked=st.lists(st.one_of(IDS, st.none()), max_size=6))
def test_by_primary_key(
    strategy: Any, bounds: CacheBounds, options: dict[str, str], steps: list[Any], asked: list[int | None]
) -> None:
    table = dimension(options)
    lookup = LookupTable(table, on=["id"], strategy=strategy, bounds=bounds)
    stream = pl.DataFrame({"n": range(len(asked)), "key": asked}, schema={"n": pl.Int64, "key": pl.Int64})
    for number, (kind, rows) in enumerate(steps):
        change(table, kind, rows, number, options)
        assert found(lookup, stream) == expected(table, stream, "id")
        assert found(lookup, stream.reverse()) == expected(table, stream, "id"), "asked again"


@pytest.mark.parametrize("strategy", ["full-cache", "partial-cache", "auto"])
@settings(
    max_examples=examples(8), phases=(Phase.generate,), deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
@given(
    options=st.sampled_from(TABLES),
    steps=CHANGES,
    asked=st.lists(CITIES, max_size=5),
    bounds=st.sampled_from([PLENTY, TINY]),
)
def test_by_a_secondary_key_all_matches_come(
    strategy: Any, options: dict[str, str], steps: list[Any], asked: list[str | None], bounds: CacheBounds
) -> None:
    table = dimension(options)
    lookup = LookupTable(table, on=["city"], strategy=strategy, bounds=bounds)
    stream = pl.DataFrame({"n": range(len(asked)), "key": asked}, schema={"n": pl.Int64, "key": pl.String})
    for number, (kind, rows) in enumerate(steps):
        change(table, kind, rows, number, options)
        assert found(lookup, stream) == expected(table, stream, "city")


def change(table: Table, kind: str, rows: list[tuple[int, str | None]], number: int, options: dict[str, str]) -> None:
    named = [(key, city, f"name {number}") for key, city in dict(rows).items()]
    if kind == "overwrite":
        table.overwrite(pl.DataFrame(named, schema=table.schema.polars_schema, orient="row"))
    elif named:
        put(table, named, kind)
    if options["changelog-producer"] == "full-compaction" and number % 2:
        table.compact(full=True)


def test_workers_of_a_bucket_shuffle_hold_their_buckets_and_together_join_all() -> None:
    table = dimension({"bucket": "5", "changelog-producer": "lookup"})
    put(table, [(key, "a", f"n{key}") for key in range(40)])
    stream = pl.DataFrame({"n": range(50), "key": [*range(48), None, None]})
    shares = [Share(worker=worker, workers=2) for worker in range(2)]
    lookups = [LookupTable(table, on=["id"], strategy="bucket-shuffle", share=share) for share in shares]
    for _ in range(2):
        parts, held = [], 0
        for share, lookup in zip(shares, lookups, strict=True):
            part = bucket_share(stream, table, left_on=["key"], on=["id"], share=share)
            parts += found(lookup, part)
            assert 0 < lookup.stats.cached_rows < table.scan().collect().height
            held += lookup.stats.cached_rows
        assert sorted(parts, key=str) == expected(table, stream, "id")
        assert held == table.scan().collect().height
        put(table, [(key, "b", "new") for key in range(30, 45)])


@pytest.mark.parametrize("strategy", ["full-cache", "partial-cache"])
@pytest.mark.parametrize("more", [0, 1], ids=["the same number", "a later one"])
def test_a_snapshot_whose_number_was_rolled_back_and_given_again(strategy: Any, more: int) -> None:
    table = dimension()
    put(table, [(1, "a", "x")])
    put(table, [(1, "b", "x"), (2, "b", "x")])
    stream = pl.DataFrame({"n": [1, 2], "key": [1, 2]})
    lookup = LookupTable(table, on=["id"], strategy=strategy)
    assert found(lookup, stream) == expected(table, stream, "id")
    other = Table("db.dim", table.store, table.schema)
    other.rollback_to(1)
    for number in range(1 + more):
        put(other, [(3 + number, "c", "y")])
    assert found(lookup, stream) == expected(table, stream, "id")


def test_a_share_needs_a_bucket_shuffle_and_a_worker_that_exists() -> None:
    table = dimension()
    with pytest.raises(InvalidInput, match="needs strategy 'bucket-shuffle'"):
        LookupTable(table, on=["id"], share=Share(worker=0, workers=1))
    with pytest.raises(InvalidInput, match="worker 2 of 2"):
        Share(worker=2, workers=2)
    with pytest.raises(InvalidInput, match="bucket key"):
        LookupTable(table, on=["city"], strategy="bucket-shuffle")


def test_a_partial_cache_reads_a_key_once_and_remembers_that_there_is_none() -> None:
    table = dimension({"changelog-producer": "lookup"})
    put(table, [(1, "a", "one")])
    lookup = LookupTable(table, on=["id"], strategy="partial-cache", bounds=PLENTY)
    stream = pl.DataFrame({"n": [0, 1], "key": [1, 9]})
    rates = []
    for _ in range(2):
        lookup.join(stream, left_on=["key"])
        rates.append((lookup.stats.cache_hit_rate, lookup.stats.hit_rate, lookup.stats.misses))
    assert rates == [(0.0, 0.5, 1), (1.0, 0.5, 1)]
    put(table, [(9, "b", "nine")])
    assert lookup.join(stream, left_on=["key"])["name"].to_list() == ["one", "nine"]
    assert lookup.stats.cache_hit_rate == 0.5, "only what has changed is read again"


def test_a_partial_cache_keeps_what_was_used_last_within_its_bounds() -> None:
    table = dimension({"changelog-producer": "lookup"})
    put(table, [(key, "a", "n") for key in range(100)])
    now = [0.0]
    bounds = CacheBounds(memory_bytes=1 << 30, rows=20, retention_ms=60_000)
    cache = PartialCache(table, on=["id"], columns=["id", "name"], bounds=bounds, clock_s=lambda: now[0])
    snapshot = table.store.snapshots.latest_id() or 0
    hot = pl.DataFrame({"id": [0]})
    for key in range(1, 60):
        cache.find(pl.DataFrame({"id": [key]}), snapshot)
        assert cache.keys <= 20
        rows, cached = cache.find(hot, snapshot)
        assert rows.height == 1
        assert cached == (0 if key == 1 else 1), "a key in use is never forgotten"
    now[0] = 61.0
    assert cache.find(hot, snapshot)[1] == 0, "nobody asked for a minute"


def test_a_full_cache_that_does_not_fit_lies_on_disk_and_goes_with_its_owner(tmp_path: Any) -> None:
    table = dimension({"changelog-producer": "lookup"})
    put(table, [(key, f"c{key % 7}", "n") for key in range(1000)])
    bounds = CacheBounds(memory_bytes=10, directory=str(tmp_path))
    cache = FullCache(table, on=["id"], columns=["id", "name"], bounds=bounds)
    keys = pl.DataFrame({"id": [1, 500, 5000]})
    assert cache.find(keys, table.store.snapshots.latest_id() or 0)[0].height == 2
    assert cache.on_disk
    assert list(tmp_path.glob("*/rows.arrow"))
    put(table, [(5000, "x", "late")])
    assert cache.find(keys, table.store.snapshots.latest_id() or 0)[0].height == 3
    del cache
    assert not list(tmp_path.iterdir())


def test_auto_says_why() -> None:
    small = CacheBounds(memory_bytes=100)
    schema = dimension().schema
    cases = [
        (schema, ["id"], PLENTY, "full-cache", "fit into"),
        (schema, ["id"], small, "partial-cache", "the key tells which bucket"),
        (schema, ["city"], small, "full-cache", "held on disk"),
        (dimension({"lookup.cache": "full"}).schema, ["id"], small, "full-cache", "'lookup.cache' is 'full'"),
    ]
    for chosen_schema, on, bounds, strategy, reason in cases:
        chosen, why = choose(chosen_schema, on, file_bytes=1000, bounds=bounds)
        assert (chosen, reason in why) == (strategy, True), why


def test_bounds_come_from_the_tables_options() -> None:
    options = {
        "lookup.cache-max-memory-size": "1 mb",
        "lookup.cache-rows": "500",
        "lookup.cache-file-retention": "10 min",
    }
    bounds = CacheBounds.of(dimension(options).schema)
    assert (bounds.memory_bytes, bounds.rows, bounds.retention_ms) == (1 << 20, 500, 600_000)


def test_a_dimension_without_rows_or_key(tmp_path: Any) -> None:
    empty = dimension()
    stream = pl.DataFrame({"n": [1], "key": [1]})
    joined = lookup_join(stream, empty, left_on="key")
    assert joined.rows() == [(1, 1, None, None)]
    assert lookup_join(stream, empty, left_on="key", how="inner").is_empty()
    append = dimension(primary_key=[], options={"bucket": "-1"})
    append.write(pl.DataFrame({"id": [1, 1], "city": ["a", "b"], "name": ["x", "y"]}))
    assert lookup_join(stream, append, left_on="key", right_on="id")["city"].sort().to_list() == ["a", "b"]


def test_rows_whose_hashes_meet_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "storage_engine.lookup.indexed_rows._hashes",
        lambda frame, on: frame[on[0]].to_numpy().astype("uint64") % 3,
    )
    frame = pl.DataFrame({"id": range(20), "v": range(20)})
    rows = IndexedRows(frame, ["id"])
    assert sorted(rows.positions(pl.DataFrame({"id": [4, 19, 77]}))) == [4, 19]


def test_keys_are_looked_up_once_from_the_table() -> None:
    table = dimension()
    put(table, [(key, f"c{key % 2}", "n") for key in range(10)])
    keys = pl.DataFrame({"id": [3, 77, None]})
    for strategy in ("auto", "full-cache"):
        assert table.lookup(keys, strategy)["id"].to_list() == [3]
    assert table.lookup(pl.DataFrame({"city": ["c1"]}), columns=["id"])["id"].sort().to_list() == [1, 3, 5, 7, 9]
    with pytest.raises(InvalidInput, match="no column 'nope'"):
        table.lookup(pl.DataFrame({"nope": [1]}))

"""Dynamic buckets: how keys are spread at first, and what happens when there may be no more buckets."""

from __future__ import annotations

import uuid

import polars as pl
import pytest

from storage_engine import Catalog, Table
from storage_engine.errors import InvalidOption


def a_table(**options: str) -> Table:
    catalog = Catalog(f"memory://{uuid.uuid4()}")
    catalog.create_database("db")
    named = {f"dynamic-bucket.{name.replace('_', '-')}": value for name, value in options.items()}
    catalog.create_table("db.t", {"id": "INT", "n": "INT"}, primary_key=["id"], options={"bucket": "-1", **named})
    return catalog.table("db.t")


def buckets_after(table: Table, *counts: int) -> dict[int, int]:
    """Rows by bucket, after keys from 0 up to each count were written."""
    for count in counts:
        table.write(pl.DataFrame({"id": range(count), "n": [count] * count}, schema={"id": pl.Int32, "n": pl.Int32}))
    found = table.scan(metadata_columns=["__bucket"]).collect()
    assert sorted(found["id"]) == list(range(counts[-1]))
    assert set(found["n"]) == {counts[-1]}
    return dict(found.group_by("__bucket").len().sort("__bucket").iter_rows())


def test_a_full_bucket_is_followed_by_another() -> None:
    assert buckets_after(a_table(target_row_num="10"), 5, 25) == {0: 10, 1: 10, 2: 5}


@pytest.mark.parametrize("options", [{"initial_buckets": "4"}, {"initial_buckets": "9", "assigner_parallelism": "4"}])
def test_the_first_rows_are_spread(options: dict[str, str]) -> None:
    found = buckets_after(a_table(**options), 100, 200)
    assert set(found) == {0, 1, 2, 3}
    assert min(found.values()) > 30


def test_spread_buckets_fill_up() -> None:
    found = buckets_after(a_table(initial_buckets="2", target_row_num="10"), 10, 100)
    assert max(found.values()) == 10
    assert len(found) in (10, 11)


@pytest.mark.parametrize("initial", [{}, {"initial_buckets": "2"}, {"initial_buckets": "8"}])
def test_there_are_no_more_than_the_most_buckets(initial: dict[str, str]) -> None:
    found = buckets_after(a_table(max_buckets="3", target_row_num="10", **initial), 5, 100, 150)
    assert set(found) == {0, 1, 2}
    assert min(found.values()) >= 10


def test_no_buckets_at_all_are_refused() -> None:
    with pytest.raises(InvalidOption, match="max-buckets"):
        a_table(max_buckets="0")

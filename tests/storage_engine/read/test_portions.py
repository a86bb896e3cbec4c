"""Portions of a snapshot and of changes: together they are all of it, and each key is in one of them."""

from __future__ import annotations

import random
import uuid

import polars as pl
import pytest

from storage_engine import Catalog, Table
from storage_engine.read.portions import Portion

KEYED = {"bucket": "2", "changelog-producer": "lookup"}
TABLES: dict[str, tuple[list[str], list[str], dict[str, str]]] = {
    "lookup changelog": (["d", "id"], ["d"], KEYED),
    "one bucket": (["id"], [], {"bucket": "1", "changelog-producer": "lookup"}),
    "no changelog": (["id"], [], {"bucket": "2"}),
    "the user's changelog": (["id"], [], {"bucket": "2", "changelog-producer": "input"}),
    "dynamic buckets": (["id"], [], {"bucket": "-1", "dynamic-bucket.target-row-num": "7", "changelog-producer": "lookup"}),
    "key without the partition": (["id"], ["d"], {"bucket": "-1", "changelog-producer": "lookup"}),
    "deletion vectors": (["id"], [], {**KEYED, "deletion-vectors.enabled": "true"}),
    "text key": (["name"], [], KEYED),
    "no key": ([], [], {"bucket": "-1"}),
}  # fmt: skip


def made(name: str) -> Table:
    keys, partitions, options = TABLES[name]
    catalog = Catalog(f"memory://{uuid.uuid4()}")
    catalog.create_database("db")
    columns = {"d": "STRING", "id": "BIGINT", "name": "STRING", "n": "BIGINT"}
    return catalog.create_table("db.t", columns, primary_key=keys, partitioned_by=partitions, options=options)


def rows(chance: random.Random, count: int) -> pl.DataFrame:
    ids = chance.sample(range(200), count)
    return pl.DataFrame(
        {
            "d": [chance.choice("ab") if chance.random() < 0.2 else "ab"[number % 2] for number in ids],
            "id": ids,
            "name": [f"name {number}" for number in ids],
            "n": [chance.randrange(1000) for _ in ids],
        }
    )


def written(name: str) -> Table:
    """A table with history, whose last commits are large."""
    chance, table = random.Random(4), made(name)
    for count in (30, 5, 120, 90):
        table.write(rows(chance, count))
    if table.schema.primary_keys:
        gone = rows(chance, 40)
        table.write(gone.with_columns(pl.lit("-D").alias("_row_kind")))
    return table


def taken(portions: list[Portion], key: list[str]) -> pl.DataFrame:
    """All rows of the portions; no key is in two of them."""
    frames = [portion.read() for portion in portions]
    if key:
        keys = pl.concat(frame.select(key).unique() for frame in frames)
        assert keys.height == keys.n_unique()
    return pl.concat(frames)


@pytest.mark.parametrize("name", TABLES)
def test_all_portions_are_the_whole_before_and_after_upkeep(name: str) -> None:
    table = written(name)
    latest = table.latest_snapshot()
    assert latest is not None
    assert_whole(table, latest.id)
    before = [portion.read() for portion in table.scan_portions(latest.id, max_rows=9)]
    table.compact(full=True)
    table.write(rows(random.Random(8), 50))
    after = [portion.read() for portion in table.scan_portions(latest.id, max_rows=9)]
    assert len(before) == len(after)
    assert all(ours.equals(theirs) for ours, theirs in zip(before, after, strict=True))


def assert_whole(table: Table, latest: int) -> None:
    key = list(table.schema.primary_keys)
    rows, whole = table.scan().collect().sort("*"), table.changes(2, latest).collect()
    for max_rows in (7, 50, 10_000):
        state = table.scan_portions(latest, max_rows=max_rows)
        assert taken(state, key).sort("*").equals(rows)
        changes = table.change_portions(2, latest, max_rows=max_rows)
        found = taken(changes, key)
        assert found.sort("*").equals(whole.sort("*"))
        if key:  # the changes of a key keep their order
            assert found.sort(key, maintain_order=True).equals(whole.sort(key, maintain_order=True))
        else:
            assert found.equals(whole)
        few = ["n"]  # the key is not among what is wanted
        narrow = table.scan_portions(latest, max_rows=max_rows, columns=few)
        assert [part.read().columns for part in narrow] == [few] * len(state)
        assert all(ours.read().equals(part.read().select(few)) for ours, part in zip(narrow, state, strict=True))
        told = table.change_portions(2, latest, max_rows=max_rows, columns=few)
        wide = [part.read().select("_row_kind", *few) for part in changes]
        assert all(ours.read().equals(part) for ours, part in zip(told, wide, strict=True))
        if max_rows == 7:
            assert len(state) > 5
            assert max(portion.read().height for portion in (*state, *changes)) <= 5 * max_rows
        if max_rows == 10_000:
            assert (len(state), len(changes)) == (1, 1)


def test_bytes_bound_them_too() -> None:
    table = made("one bucket")
    ids = range(5000)
    table.write(pl.DataFrame({"d": "a", "id": ids, "name": [f"name {number}" for number in ids], "n": ids}))
    latest = table.latest_snapshot()
    assert latest is not None
    portions = table.scan_portions(latest.id, max_rows=10_000, max_bytes=table.file_bytes() // 4)
    assert 4 <= len(portions) <= 5
    assert taken(portions, ["id"]).height == 5000

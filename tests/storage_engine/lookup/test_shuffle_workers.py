"""A bucket shuffle over real processes: each holds its own buckets, and one that is killed is started again."""

from __future__ import annotations

import os
import pickle
import signal
import uuid
from pathlib import Path

import polars as pl
import pytest

from storage_engine import Catalog, LookupTable, Table
from storage_engine.errors import InvalidInput, StorageEngineError
from storage_engine.lookup import CacheBounds
from storage_engine.lookup.shuffle_workers import ShuffleWorkers

PLENTY = CacheBounds(memory_bytes=1 << 30)
ROWS = 200


def dimension(catalog: Catalog) -> Table:
    catalog.create_database("db")
    options = {"bucket": "5", "changelog-producer": "lookup"}
    table = catalog.create_table("db.dim", {"id": "BIGINT", "name": "STRING"}, primary_key=["id"], options=options)
    table.write(pl.DataFrame({"id": range(ROWS)}).with_columns(name=pl.format("name {}", "id")))
    return table


def expected(table: Table, stream: pl.DataFrame) -> pl.DataFrame:
    """A plain join with the rows as they are."""
    rows = table.scan().collect()
    return stream.join(rows, left_on="key", right_on="id", how="left", maintain_order="left")


def ended(process: int) -> bool:
    """Whether there is no such process any more, not even one that nobody has waited for."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    return False


def test_processes_share_the_buckets_and_survive_a_kill(tmp_path: Path) -> None:
    table = dimension(Catalog(tmp_path))
    held = [ShuffleWorkers(table, on=["id"], columns=["id", "name"], bounds=PLENTY, workers=2)]
    keys = pl.DataFrame({"id": [*range(0, ROWS + 20, 3)]})

    def found() -> list[tuple[object, ...]]:
        latest = table.latest_snapshot()
        assert latest is not None
        return sorted(held[0].find(keys, latest.id)[0].rows())

    def wanted() -> list[tuple[object, ...]]:
        return sorted(table.scan().collect().join(keys, on="id", how="semi").rows())

    assert found() == wanted()
    assert sum(held[0].rows_by_worker) == ROWS
    assert all(0 < rows < ROWS for rows in held[0].rows_by_worker)
    processes = held[0].processes
    assert len(set(processes)) == 2
    table.write(pl.DataFrame({"id": [3, 6, 500], "name": ["new", "new", "not asked"]}))
    assert found() == wanted()
    assert held[0].processes == processes, "they stay from batch to batch"
    os.kill(processes[0], signal.SIGKILL)
    table.write(pl.DataFrame({"id": [9], "name": ["newer"]}))
    assert found() == wanted()
    assert held[0].processes[0] != processes[0]
    left = held[0].processes
    held.clear()
    assert all(ended(process) for process in left)


def test_a_lookup_table_joins_by_workers(tmp_path: Path) -> None:
    table = dimension(Catalog(tmp_path))
    lookup = LookupTable(table, on=["id"], strategy="bucket-shuffle", workers=2)
    stream = pl.DataFrame({"n": range(5), "key": [7, None, 5000, 7, 8]})
    joined = lookup.join(stream, left_on=["key"])
    assert joined.equals(expected(table, stream))
    assert (lookup.stats.workers, lookup.stats.misses, lookup.stats.cached_rows) == (2, 2, ROWS)
    assert lookup.join(stream.clear(), left_on=["key"]).height == 0


def test_what_a_worker_raises_reaches_the_caller(tmp_path: Path) -> None:
    table = dimension(Catalog(tmp_path))
    workers = ShuffleWorkers(table, on=["id"], columns=["id", "name"], bounds=PLENTY, workers=2)
    with pytest.raises(StorageEngineError, match="99"):
        workers.find(pl.DataFrame({"id": [1]}), 99)
    assert workers.find(pl.DataFrame({"id": [1]}), 1)[0].rows() == [(1, "name 1")]


def test_workers_need_a_bucket_shuffle_of_a_table_that_they_can_read(tmp_path: Path) -> None:
    table = dimension(Catalog(tmp_path))
    with pytest.raises(InvalidInput, match="bucket-shuffle"):
        LookupTable(table, on=["id"], strategy="full-cache", workers=2)
    with pytest.raises(InvalidInput, match="0 workers"):
        LookupTable(table, on=["id"], strategy="bucket-shuffle", workers=0)
    with pytest.raises(InvalidInput, match="join on the bucket key"):
        LookupTable(table, on=["name"], strategy="bucket-shuffle", workers=2)
    inside = dimension(Catalog(f"memory://{uuid.uuid4()}"))
    with pytest.raises(InvalidInput, match="in the memory of this process"):
        LookupTable(inside, on=["id"], strategy="bucket-shuffle", workers=2)


def test_a_table_is_opened_anew_where_it_is_unpickled(tmp_path: Path) -> None:
    table = dimension(Catalog(tmp_path))
    table.create_tag("now", snapshot=1)
    table.create_branch("other", tag="now")
    for known in (table, Catalog(tmp_path).table("db.dim", branch="other")):
        copy = pickle.loads(pickle.dumps(known))
        assert (copy.name, copy.schema) == (known.name, known.schema)
        assert copy.scan().collect().sort("id").equals(known.scan().collect().sort("id"))

"""One table, many processes: workers write or compact their share, one process commits it; workers die, commits are repeated."""

from __future__ import annotations

import multiprocessing
import os
import signal
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.context import BaseContext
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from storage_engine import Catalog, Table, decode_commit_message, encode_commit_message
from storage_engine.errors import CommitConflict, InvalidRows, Unsupported
from storage_engine.maintenance import orphans
from storage_engine.spec.snapshot import CommitKind
from tests.reliability.every_step import FAR_FUTURE
from tests.storage_engine.maintenance.metadata_table import MetadataTable

BUCKETS = 4
ROWS = 4000
SMALL = {"write-buffer-size": "256 kb"}


def context() -> BaseContext:
    found = multiprocessing.get_context("forkserver")
    found.set_forkserver_preload([__name__])
    return found


@pytest.fixture
def warehouse(tmp_path: Path) -> str:
    return str(tmp_path)


def create(warehouse: str, **options: str) -> Table:
    catalog = Catalog(warehouse)
    catalog.create_database("db")
    named = {key.replace("_", "-"): value for key, value in options.items()}
    columns = {"id": "BIGINT", "v": "BIGINT"}
    catalog.create_table("db.t", columns, primary_key=["id"], options={"bucket": str(BUCKETS), **SMALL, **named})
    return catalog.table("db.t")


def rows(step: int) -> pl.DataFrame:
    return pl.select(pl.int_range(ROWS).alias("id")).with_columns(v=pl.col("id") + step)


def write_share(warehouse: str, worker: int, step: int, *, dies: bool = False) -> list[bytes]:
    """A worker: the rows of one bucket."""
    table = Catalog(warehouse).table("db.t")
    mine = rows(step)
    mine = mine.filter(table.bucket_of(mine) == worker)
    with table.new_write() as write:
        for part in mine.iter_slices(400):
            write.write(part)
        messages = write.prepare_commit()
    if dies:
        os.kill(os.getpid(), signal.SIGKILL)
    return [encode_commit_message(message) for message in messages]


def compact_share(warehouse: str, task: Any) -> list[bytes]:
    return [encode_commit_message(message) for message in Catalog(warehouse).table("db.t").run_compaction(task)]


def upsert_all(warehouse: str, first: int, steps: int) -> int:
    table = Catalog(warehouse).table("db.t")
    for step in range(first, first + steps):
        table.write(rows(step), commit_user="writer", commit_identifier=step)
    return steps


def data_files(table: Table) -> set[str]:
    found = table.store.io.list_files(table.store.paths.root, recursive=True)
    return {file.path for file in found if "/bucket-" in file.path}


@pytest.mark.parametrize("producer", ["none", "lookup"])
def test_workers_write_and_one_commits(producer: str, warehouse: str) -> None:
    table = create(warehouse, changelog_producer=producer)
    with ProcessPoolExecutor(2, mp_context=context()) as pool:
        for step in (1, 2):
            shares = pool.map(write_share, [warehouse] * BUCKETS, range(BUCKETS), [step] * BUCKETS)
            messages = [decode_commit_message(data) for share in shares for data in share]
            assert table.scan().collect().height == (0 if step == 1 else ROWS), "nothing is visible before the commit"
            assert table.commit(messages, commit_user="job", commit_identifier=step) is not None
            assert table.commit(messages, commit_user="job", commit_identifier=step) is None, "a retry does nothing"
            if producer == "none":
                with pytest.raises(CommitConflict):
                    table.commit(messages)
            assert table.scan().sort("id").collect().equals(rows(step))
    appended = [table.store.snapshots.get(id_) for id_ in table.store.snapshots.ids()]
    assert [found.commit_kind for found in appended].count(CommitKind.APPEND) == 2
    if producer == "lookup":
        assert table.changes(0).collect()["_row_kind"].value_counts().sort("_row_kind").rows() == [
            ("+I", ROWS),
            ("+U", ROWS),
            ("-U", ROWS),
        ]


def test_a_worker_that_is_killed_leaves_no_trace(warehouse: str) -> None:
    table = create(warehouse)
    process = context().Process(target=write_share, args=(warehouse, 1, 1), kwargs={"dies": True})
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    left = data_files(table)
    assert left
    assert table.latest_snapshot() is None
    shares = [write_share(warehouse, worker, 1) for worker in range(BUCKETS)]
    table.commit(decode_commit_message(data) for share in shares for data in share)
    assert table.scan().sort("id").collect().equals(rows(1))
    orphans.remove_orphan_files(table.store, older_than_millis=FAR_FUTURE, now_millis=FAR_FUTURE)
    assert not left & data_files(table)
    MetadataTable(table.store.io, table.store.paths.root).check_no_leftovers()
    assert table.scan().sort("id").collect().equals(rows(1))


def test_what_is_not_prepared_is_removed(warehouse: str) -> None:
    table = create(warehouse)
    bad = pl.DataFrame({"id": [None], "v": [1]}, schema={"id": pl.Int64, "v": pl.Int64})
    with table.new_write() as write:
        for part in rows(1).iter_slices(400):
            write.write(part)
        assert data_files(table)
        with pytest.raises(InvalidRows, match=f"row {ROWS}"):
            write.write(bad)
    assert data_files(table) == set()


def test_dynamic_buckets_have_one_writer(warehouse: str) -> None:
    table = create(warehouse, bucket="-1")
    with pytest.raises(Unsupported, match="bucket"):
        table.new_write()
    with pytest.raises(Unsupported, match="bucket"):
        table.bucket_of(rows(1))


def test_a_compaction_is_shared_and_gives_way(warehouse: str) -> None:
    table = create(warehouse, write_only="true")
    upsert_all(warehouse, 1, 3)
    tasks = table.plan_compaction(full=True)
    assert [task.bucket for task in sorted(tasks, key=lambda task: task.bucket)] == list(range(BUCKETS))
    with ProcessPoolExecutor(2, mp_context=context()) as pool:
        shares = list(pool.map(compact_share, [warehouse] * len(tasks), tasks))
    messages = [decode_commit_message(data) for share in shares for data in share]
    upsert_all(warehouse, 4, 1)
    committed = table.commit(messages)
    assert committed is not None
    assert committed.commit_kind is CommitKind.COMPACT
    assert table.scan().sort("id").collect().equals(rows(4)), "a write meanwhile is not lost"
    overtaken = [message for task in table.plan_compaction(full=True) for message in table.run_compaction(task)]
    table.compact(full=True)
    files = data_files(table)
    with pytest.raises(CommitConflict):
        table.commit(overtaken)
    assert len(data_files(table)) < len(files), "what was overtaken is given up"
    assert table.scan().sort("id").collect().equals(rows(4))
    assert table.plan_compaction(full=True) == []


def test_a_compaction_job_beside_a_writer_of_another_process(warehouse: str) -> None:
    table = create(warehouse, write_only="true")
    with ProcessPoolExecutor(1, mp_context=context()) as pool:
        writing = pool.submit(upsert_all, warehouse, 1, 12)
        while not writing.done():
            table.compact()
        assert writing.result() == 12
    table.compact(full=True)
    assert table.scan().sort("id").collect().equals(rows(12))
    assert set(table.files()["level"]) == {5}
    kinds = [table.store.snapshots.get(id_).commit_kind for id_ in table.store.snapshots.ids()]
    assert kinds.count(CommitKind.APPEND) == 12

"""Many processes commit to one table at once: every commit that was acknowledged counts, and counts once.

At full size (``RELIABILITY_SCALE`` above 1) eight processes make 200 commits each.
"""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import polars as pl
import pytest

from storage_engine import Catalog, Table
from storage_engine.errors import CommitConflict
from storage_engine.spec.snapshot import CommitKind
from tests.reliability.scale import SCALE

PROCESSES, COMMITS = (8, 200) if SCALE > 1 else (3, 8)
SCHEMA = {"id": pl.Int64, "n": pl.Int64}
OPTIONS = {
    "plain": "'write-only' = 'false'",
    "lookup changelog": "'changelog-producer' = 'lookup'",
}
SHARED = -1


def commit_all(root: str, number: int, commits: int) -> int:
    """One process: each commit adds one to the counter that all share, and writes a row of its own; again if it was overtaken."""
    table = Catalog(root).table("db.t")
    conflicts = 0
    for identifier in range(1, commits + 1):
        frame = pl.DataFrame({"id": [SHARED, number * 1_000_000 + identifier], "n": [1, 1]}, schema=SCHEMA)
        while True:
            try:
                told = table.write(frame, commit_user=f"writer {number}", commit_identifier=identifier)
            except CommitConflict:
                conflicts += 1
                continue
            assert told is not None, "a commit that was refused had not been made"
            break
    return conflicts


@pytest.mark.slow
@pytest.mark.parametrize("kind", list(OPTIONS) if SCALE > 1 else ["lookup changelog"])
def test_no_acknowledged_commit_is_lost_or_doubled(tmp_path: Path, kind: str) -> None:
    catalog = Catalog(str(tmp_path))
    catalog.execute(f"""CREATE DATABASE db; CREATE TABLE db.t (id BIGINT, n BIGINT, PRIMARY KEY (id) NOT ENFORCED) WITH (
        'bucket' = '2', 'merge-engine' = 'aggregation', 'fields.n.aggregate-function' = 'sum', {OPTIONS[kind]},
        'snapshot.num-retained.min' = '1000000', 'snapshot.num-retained.max' = '1000000')""")
    with ProcessPoolExecutor(PROCESSES, mp_context=get_context("spawn")) as pool:
        started = [pool.submit(commit_all, str(tmp_path), number, COMMITS) for number in range(PROCESSES)]
        conflicts = sum(each.result() for each in started)
    table = catalog.table("db.t")
    check(table)
    assert conflicts >= 0
    table.settle()
    table.compact(full=True)
    check(table)


def check(table: Table) -> None:
    rows = dict(table.scan().collect().iter_rows())
    expected = PROCESSES * COMMITS
    assert rows.pop(SHARED) == expected
    assert len(rows) == expected
    assert set(rows.values()) == {1}
    for number in range(PROCESSES):
        assert table.last_committed(f"writer {number}") == COMMITS
    snapshots = [table.store.snapshots.get(snapshot_id) for snapshot_id in table.store.snapshots.ids()]
    appended = [each for each in snapshots if each.commit_kind is CommitKind.APPEND]
    assert len({(each.commit_user, each.commit_identifier) for each in appended}) == len(appended) == expected

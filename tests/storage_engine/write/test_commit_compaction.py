"""What a commit compacts, and when: the options that decide it."""

from __future__ import annotations

import threading
import uuid
from typing import Any

import polars as pl
import pytest

from storage_engine import Catalog, Table
from storage_engine.errors import StorageUnavailable
from storage_engine.spec.snapshot import CommitKind
from storage_engine.write.compactor import Compactor


def a_table(**options: str) -> Table:
    catalog = Catalog(f"memory://{uuid.uuid4()}")
    catalog.create_database("db")
    named = {name.replace("__", ".").replace("_", "-"): value for name, value in options.items()}
    catalog.create_table("db.t", {"id": "INT", "n": "BIGINT"}, primary_key=["id"], options={"bucket": "1", **named})
    return catalog.table("db.t")


def write(table: Table, n: int, identifier: int | None = None) -> None:
    frame = pl.DataFrame({"id": pl.int_range(100, eager=True, dtype=pl.Int32)}).with_columns(n=pl.lit(n, pl.Int64))
    table.write(frame, commit_user=None if identifier is None else "u", commit_identifier=identifier)


def levels(table: Table) -> list[int]:
    return sorted(table.files()["level"])


def kinds(table: Table) -> list[CommitKind]:
    return [table.store.snapshots.get(id_).commit_kind for id_ in table.store.snapshots.ids()]


def test_full_compaction_comes_with_every_so_many_identifiers() -> None:
    table = a_table(**{"changelog_producer": "full-compaction", "full-compaction__delta-commits": "3"})
    shapes = []
    for identifier in range(1, 7):
        write(table, identifier, identifier)
        shapes.append(levels(table))
    assert shapes == [[0], [0, 0], [5], [0, 5], [0, 0, 5], [5]]
    assert table.changes(0).collect()["_row_kind"].value_counts().sort("_row_kind").rows() == [
        ("+I", 100),
        ("+U", 100),
        ("-U", 100),
    ]
    write(table, 9)
    assert levels(table) == [5], "a commit without an identifier stands alone"


def test_a_small_bucket_is_always_one_run() -> None:
    table = a_table(compaction__total_size_threshold="1 mb")
    for n in range(3):
        write(table, n)
        assert levels(table) == ([0] if n == 0 else [5])


def test_level_0_goes_up_with_each_commit() -> None:
    table = a_table(compaction__force_up_level_0="true")
    for n in range(3):
        write(table, n)
        assert 0 not in levels(table)


@pytest.mark.parametrize(("interval", "left_at_level0"), [("0 ms", 0), ("1 d", 2)])
def test_a_bucket_is_optimized_after_a_while(interval: str, left_at_level0: int) -> None:
    table = a_table(compaction__optimization_interval=interval)
    write(table, 0)
    write(table, 1)
    assert levels(table) == [5]

    write(table, 2)
    write(table, 3)
    assert levels(table).count(0) <= left_at_level0
    assert (levels(table).count(0) == 2) == (left_at_level0 == 2)


class Gate:
    """Holds compactions back until it is opened."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.open = threading.Event()
        self.fails = False
        compact = Compactor.compact

        def held(*args: Any, **named: Any) -> Any:
            assert self.open.wait(60)
            if self.fails:
                raise StorageUnavailable("no space")
            return compact(*args, **named)

        monkeypatch.setattr(Compactor, "compact", held)


def test_a_write_does_not_wait_for_its_lookup(monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate(monkeypatch)
    table = a_table(changelog_producer="lookup", lookup_wait="false")
    write(table, 1, 1)
    write(table, 2, 2)
    assert kinds(table) == [CommitKind.APPEND, CommitKind.APPEND], "the compaction waits, the writer does not"
    assert table.changes(0).collect().is_empty()
    gate.open.set()
    table.settle()
    assert 0 not in levels(table)
    changes = table.changes(0).collect()
    state = {row[1]: row[2] for row in changes.filter(pl.col("_row_kind").is_in(["+I", "+U"])).iter_rows()}
    assert state == dict.fromkeys(range(100), 2)
    assert table.settle() is None


def test_a_write_without_an_identifier_waits_as_a_batch_job_does() -> None:
    table = a_table(deletion_vectors__enabled="true", lookup_wait="false")
    write(table, 1)
    assert kinds(table) == [CommitKind.APPEND, CommitKind.COMPACT]
    assert table.scan().collect()["n"].to_list() == [1] * 100


def test_a_failure_beside_is_made_good_later(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    gate = Gate(monkeypatch)
    gate.open.set()
    gate.fails = True
    table = a_table(deletion_vectors__enabled="true", lookup_wait="false")
    write(table, 1, 1)
    with pytest.raises(StorageUnavailable):
        table.settle()
    assert "a compaction failed (no space)" in caplog.text
    gate.fails = False
    table.settle()
    assert table.scan().collect()["n"].to_list() == [1] * 100

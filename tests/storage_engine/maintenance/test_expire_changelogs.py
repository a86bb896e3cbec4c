"""Changelogs that outlive their snapshots: what a reader of one needs stays, and nothing else does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from storage_engine import Catalog, Table
from storage_engine.errors import InvalidInput, SnapshotExpired
from storage_engine.maintenance import expire, orphans
from storage_engine.maintenance.expire_changelogs import expire_changelogs
from tests.storage_engine.maintenance.metadata_table import FIRST_MILLIS, SCHEMA, MetadataTable
from tests.storage_engine.maintenance.test_upkeep_model import FAR_FUTURE, SETTINGS, LinearHistory, ManyBranches

LASTING = {"changelog.num-retained.max": "2147483647", "changelog.time-retained": "365 d"}


def schema_of(producer: str):
    return replace(SCHEMA, options={**SCHEMA.options, **LASTING, "changelog-producer": producer})


class WithChangelogs(LinearHistory):
    """One branch whose changelog has files of its own."""

    producer = "input"

    def __init__(self) -> None:
        super().__init__()
        self.table.rows_are_changelog = self.producer == "none"

    @rule(least=st.integers(1, 3), age=st.integers(-20, 0))
    def expire(self, least: int, age: int) -> None:
        latest = self.store.snapshots.latest_id() or 0
        known = {*self.store.snapshots.changelog_ids(), *self.store.snapshots.ids()}
        older_than = FIRST_MILLIS + latest + age
        expire.expire_snapshots(self.store, schema_of(self.producer), retain_min=least, older_than_millis=older_than)
        assert {*self.store.snapshots.changelog_ids(), *self.store.snapshots.ids()} == known

    @rule(least=st.integers(1, 5), age=st.integers(-20, 0))
    def expire_changelogs(self, least: int, age: int) -> None:
        latest = self.store.snapshots.latest_id() or 0
        before = self.store.snapshots.changelog_ids()
        older_than = FIRST_MILLIS + latest + age
        consumer = self.store.consumers.next_snapshot("c") or FAR_FUTURE
        gone = expire_changelogs(
            self.store, schema_of(self.producer), retain_min=least, older_than_millis=older_than, now_millis=FAR_FUTURE
        )
        left = self.store.snapshots.changelog_ids()
        assert left == before[gone:]
        assert left[-1:] == before[-1:]
        expected = [
            id_
            for id_ in before
            if FIRST_MILLIS + id_ < older_than and id_ < min(before[-1], latest - least + 1, consumer)
        ]
        assert before[:gone] == expected

    @rule()
    def expire_all_changelogs(self) -> None:
        expire_changelogs(self.store, schema_of(self.producer), delete_all=True)
        assert self.store.snapshots.changelog_ids() == []
        self.table.check_no_leftovers()

    @rule()
    def remove_orphans_alone(self) -> None:
        orphans.remove_orphan_files(self.store, older_than_millis=FAR_FUTURE, now_millis=FAR_FUTURE)
        self.table.check()

    @invariant()
    def nothing_is_left_over_and_nothing_is_missing(self) -> None:
        """Lists that only upkeep reads may stay as long as the changelogs."""
        self.table.check()


class WithRowsAsChangelog(WithChangelogs):
    """One branch whose changelog is made of the rows as they were written."""

    producer = "none"


class BranchesWithChangelogs(ManyBranches):
    """Branches, rollbacks, fast-forwards and orphans with changelogs in between."""

    producer = "none"

    def __init__(self) -> None:
        super().__init__()
        self.table.rows_are_changelog = True

    @rule(least=st.integers(1, 3))
    def expire(self, least: int) -> None:
        expire.expire_snapshots(self.store, schema_of(self.producer), retain_min=least, older_than_millis=FAR_FUTURE)

    @rule(least=st.integers(1, 6))
    def expire_changelogs(self, least: int) -> None:
        expire_changelogs(self.store, schema_of(self.producer), retain_min=least, older_than_millis=FAR_FUTURE)

    @rule()
    def remove_orphans(self) -> None:
        orphans.remove_orphan_files(self.store, older_than_millis=FAR_FUTURE, now_millis=FAR_FUTURE)


@pytest.mark.parametrize("machine", [WithChangelogs, WithRowsAsChangelog, BranchesWithChangelogs])
def test_histories(machine: type[RuleBasedStateMachine]) -> None:
    case = machine.TestCase
    case.settings = SETTINGS
    case("runTest").runTest()


@pytest.fixture(params=["none", "input", "lookup"])
def table(request: pytest.FixtureRequest, tmp_path: Path) -> Table:
    """Six commits; one snapshot is kept, and four changelogs before it."""
    catalog = Catalog(str(tmp_path))
    catalog.execute(f"""CREATE DATABASE db; CREATE TABLE db.t (id INT, v INT, PRIMARY KEY (id) NOT ENFORCED)
        WITH ('bucket' = '1', 'changelog-producer' = '{request.param}', 'num-sorted-run.compaction-trigger' = '3',
        'snapshot.num-retained.min' = '1', 'snapshot.num-retained.max' = '100',
        'changelog.num-retained.min' = '5', 'changelog.time-retained' = '1 h', 'snapshot.time-retained' = '1 h')""")
    return catalog.table("db.t")


def write(table: Table, count: int = 6) -> None:
    for number in range(count):
        table.write(
            pl.DataFrame({"id": [number % 2, 10 + number], "v": [number, number]}, schema=table.schema.polars_schema)
        )


def test_changes_are_read_after_their_snapshots_are_gone(table: Table) -> None:
    write(table)
    told = table.changes(0).collect()
    rows = table.scan().collect().sort("id")
    latest = table.store.snapshots.latest_id() or 0
    assert table.expire_snapshots(retain_max=1) == latest - 1
    assert table.changes(0).collect().equals(told)
    assert table.scan().collect().sort("id").equals(rows)
    table.write(pl.DataFrame({"id": [0], "v": [77]}, schema=table.schema.polars_schema))
    assert table.changes(0).collect().head(told.height).equals(told)
    gone = table.expire_changelogs(retain_max=6, retain_min=1)
    first = table.store.snapshots.changelog_ids()[0]
    assert gone == first - 1 > 0
    with pytest.raises(SnapshotExpired):
        table.changes(0).collect()
    assert table.changes(first - 1).collect().height > 0
    assert table.remove_orphan_files(older_than_millis=0) == []


def test_an_option_lets_commits_expire_both(table: Table) -> None:
    table.write(pl.DataFrame({"id": [0], "v": [0]}, schema=table.schema.polars_schema))
    Catalog(table.store.paths.root.rpartition("/db.db")[0]).execute(
        """ALTER TABLE db.t SET ('snapshot.num-retained.max' = '2', 'changelog.num-retained.max' = '7',
            'snapshot.num-retained.min' = '1')"""
    )
    write(table, 12)
    latest = table.store.snapshots.latest_id() or 0
    assert table.store.snapshots.ids() == [latest - 1, latest]
    assert table.store.snapshots.changelog_ids()[-1] == latest - 2
    assert len(table.store.snapshots.changelog_ids()) <= 7
    assert table.changes(latest - 6).collect().height > 0


def test_a_rollback_takes_later_changelogs_along(table: Table) -> None:
    write(table)
    table.create_tag("start", 2)
    table.expire_snapshots(retain_max=1)
    table.rollback_to("start")
    assert table.store.snapshots.changelog_ids() == [1, 2]
    write(table, 1)
    assert table.changes(0).collect().height > 0


def test_what_cannot_be_meant_is_refused() -> None:
    table = MetadataTable.in_memory()
    for _ in range(3):
        table.append(table.store)
    expire.expire_snapshots(table.store, schema_of("none"), retain_min=1, retain_max=1)
    with pytest.raises(InvalidInput, match="retain_min"):
        expire_changelogs(table.store, schema_of("none"), retain_min=3, retain_max=2)
    assert expire_changelogs(MetadataTable.in_memory().store, SCHEMA) == 0


def test_directories_that_are_empty_go_too(tmp_path: Path) -> None:
    catalog = Catalog(str(tmp_path))
    catalog.execute("""CREATE TABLE t (a STRING, b STRING, id INT, PRIMARY KEY (a, b, id) NOT ENFORCED) PARTITIONED BY (a, b)
        WITH ('bucket' = '1', 'snapshot.clean-empty-directories' = 'true'); INSERT INTO t VALUES ('x', 'y', 1), ('x', 'z', 1);
        ALTER TABLE t DROP PARTITION (b = 'y')""")
    table = catalog.table("t")
    table.expire_snapshots(retain_max=1)
    root = tmp_path / "default.db" / "t"
    assert [path.name for path in (root / "a=x").iterdir()] == ["b=z"]
    table.drop_partitions([{"a": "x"}])
    table.expire_snapshots(retain_max=1)
    assert not (root / "a=x").exists()
    table.write(pl.DataFrame({"a": ["x"], "b": ["y"], "id": [2]}, schema_overrides={"id": pl.Int32}))
    assert table.scan().collect().height == 1

"""Random histories of commits, tags, branches, rollbacks and upkeep: nothing that is retained is ever harmed."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from storage_engine.maintenance import branches, expire, orphans, rollback, tags
from storage_engine.store.table_store import TableStore
from tests.effort import examples
from tests.storage_engine.maintenance.metadata_table import FIRST_MILLIS, SCHEMA, MetadataTable

FAR_FUTURE = 4_000_000_000_000
SETTINGS = settings(
    max_examples=examples(15), stateful_step_count=30, deadline=None, phases=[Phase.explicit, Phase.generate]
)


class LinearHistory(RuleBasedStateMachine):
    """One branch: expiry and the deletion of tags leave exactly what is still needed."""

    def __init__(self) -> None:
        super().__init__()
        self.table = MetadataTable.in_memory()
        self.names = iter(f"t{number}" for number in range(1000))
        self.retained: dict[str, set[str]] = {}

    @property
    def store(self) -> TableStore:
        return self.table.store

    @rule(count=st.integers(1, 3), changelog=st.booleans(), index=st.booleans())
    def append(self, count: int, changelog: bool, index: bool) -> None:
        self.table.append(self.store, count, changelog=changelog, index=index)

    @precondition(lambda self: self.table.live(self.store))
    @rule(data=st.data(), upgrade=st.booleans())
    def compact(self, data: st.DataObject, upgrade: bool) -> None:
        live = self.table.live(self.store)
        some = data.draw(st.lists(st.sampled_from(range(len(live))), min_size=1, max_size=3, unique=True))
        self.table.compact(self.store, [live[index] for index in some], upgrade=upgrade)

    @precondition(lambda self: self.store.snapshots.ids())
    @rule(data=st.data())
    def tag(self, data: st.DataObject) -> None:
        tags.create_tag(self.store, next(self.names), data.draw(st.sampled_from(self.store.snapshots.ids())))

    @precondition(lambda self: self.store.tags.names())
    @rule(data=st.data())
    def delete_tag(self, data: st.DataObject) -> None:
        tags.delete_tag(self.store, SCHEMA, data.draw(st.sampled_from(self.store.tags.names())))

    @rule(position=st.integers(1, 20))
    def consume(self, position: int) -> None:
        self.store.consumers.write("c", position)

    @rule()
    def stop_consuming(self) -> None:
        self.store.consumers.delete("c")

    @rule(least=st.integers(1, 3), more=st.integers(0, 3), age=st.integers(-20, 0))
    def expire(self, least: int, more: int, age: int) -> None:
        latest = self.store.snapshots.latest_id() or 0
        branch = self.store.paths.branch
        kept = self.table.contents()[branch]
        consumer = self.store.consumers.next_snapshot("c")
        expire.expire_snapshots(
            self.store,
            SCHEMA,
            retain_min=least,
            retain_max=least + more,
            older_than_millis=FIRST_MILLIS + latest + age,
        )
        left = self.store.snapshots.ids()
        assert left == list(range(left[0], latest + 1)) if latest else not left
        for name, files in self.table.contents()[branch].items():
            assert kept[name] == files
        assert all(int(i) in left for i in kept if i.isdigit() and int(i) > latest - least)
        assert consumer is None or all(int(i) in left for i in kept if i.isdigit() and int(i) >= consumer)

    @invariant()
    def nothing_is_left_over_and_nothing_is_missing(self) -> None:
        self.table.check_no_leftovers()


class ManyBranches(LinearHistory):
    """Branches, rollbacks and fast-forwards too: what stays behind is found by the removal of orphans."""

    def __init__(self) -> None:
        super().__init__()
        self.current = "main"

    @property
    def store(self) -> TableStore:
        main = self.table.store
        return main if self.current == "main" else main.of_branch(self.current)

    @rule(data=st.data())
    def switch(self, data: st.DataObject) -> None:
        self.current = data.draw(st.sampled_from(["main", *self.table.store.branch_names()]))

    @precondition(lambda self: self.table.store.tags.names() and len(self.table.store.branch_names()) < 2)
    @rule(data=st.data())
    def create_branch(self, data: st.DataObject) -> None:
        tag = data.draw(st.sampled_from(self.table.store.tags.names()))
        self.current = f"b{next(self.names)}"
        branches.create_branch(self.table.store, self.current, tag=tag)
        contents = self.table.contents()
        assert set(map(frozenset, contents[self.current].values())) == {frozenset(contents["main"][f"tag {tag}"])}

    @precondition(lambda self: len(self.table.store.branch_names()) < 2)
    @rule()
    def create_empty_branch(self) -> None:
        self.current = f"b{next(self.names)}"
        branches.create_branch(self.table.store, self.current)

    @precondition(lambda self: self.current != "main")
    @rule()
    def delete_branch(self) -> None:
        branches.delete_branch(self.table.store, self.current)
        self.current = "main"

    @precondition(lambda self: self.current != "main" and self.store.snapshots.ids())
    @rule()
    def fast_forward(self) -> None:
        before = self.table.contents()
        branches.fast_forward(self.table.store, self.current)
        after = self.table.contents()
        first = min(int(name) for name in before[self.current] if name.isdigit())
        older = {name: files for name, files in before["main"].items() if name.isdigit() and int(name) < first}
        snapshots = {name: files for name, files in after["main"].items() if name.isdigit()}
        assert snapshots == {**older, **{n: f for n, f in before[self.current].items() if n.isdigit()}}
        assert after[self.current] == before[self.current]

    @precondition(lambda self: self.store.snapshots.ids())
    @rule(data=st.data())
    def roll_back(self, data: st.DataObject) -> None:
        target: Any = data.draw(st.sampled_from([*self.store.snapshots.ids(), *self.store.tags.names()]))
        before = self.table.contents()[self.current]
        found = rollback.rollback_to(self.store, target)
        after = self.table.contents()[self.current]
        assert self.store.snapshots.latest() == found
        assert max(int(name) for name in after if name.isdigit()) == found.id
        assert all(before[name] == files for name, files in after.items() if name in before)

    @rule()
    def remove_orphans(self) -> None:
        before = self.table.contents()
        dry = orphans.remove_orphan_files(self.store, older_than_millis=FAR_FUTURE, now_millis=FAR_FUTURE, dry_run=True)
        removed = orphans.remove_orphan_files(self.store, older_than_millis=FAR_FUTURE, now_millis=FAR_FUTURE)
        assert dry == removed
        assert self.table.contents() == before
        self.table.check_no_leftovers()

    @invariant()
    def nothing_is_left_over_and_nothing_is_missing(self) -> None:
        """Branches and rollbacks may leave files behind, until orphans are removed."""
        self.table.check()


@pytest.mark.parametrize("machine", [LinearHistory, ManyBranches])
def test_histories(machine: type[RuleBasedStateMachine]) -> None:
    case = machine.TestCase
    case.settings = SETTINGS
    case("runTest").runTest()

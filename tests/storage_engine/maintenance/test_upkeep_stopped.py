"""Upkeep that is stopped at any step, and done again: nothing that is retained is harmed, nothing stays behind."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import pytest

from storage_engine.errors import AlreadyExists, BranchNotFound, TagNotFound
from storage_engine.maintenance import branches, expire, orphans, rollback, tags
from storage_engine.spec.schema_change import SetOption
from storage_engine.store.table_store import TableStore
from tests.fakes.faulty_file_io import Fault, FaultyFileIO, Killed
from tests.storage_engine.maintenance.metadata_table import SCHEMA, MetadataTable
from tests.storage_engine.maintenance.test_upkeep_model import FAR_FUTURE


def history() -> MetadataTable:
    """Nine snapshots with compactions and upgrades, tags on 2 and 7, and a branch from the tag on 2."""
    table = MetadataTable.in_memory(FaultyFileIO)
    store = table.store
    for number in range(1, 7):
        table.append(store, changelog=number % 2 == 0, index=number % 3 == 0)
        if number == 2:
            tags.create_tag(store, "early")
    table.compact(store, table.live(store)[:3])
    tags.create_tag(store, "late")
    table.compact(store, table.live(store)[:2], upgrade=True)
    table.append(store, index=True)
    branch = branches.create_branch(store, "repair", tag="early")
    table.append(branch)
    table.compact(branch, table.live(branch)[:2])
    return table


def nothing(store: TableStore) -> None:
    """The history is enough."""


def expire_all(store: TableStore) -> None:
    expire.expire_snapshots(store, SCHEMA, retain_min=1, retain_max=1, older_than_millis=FAR_FUTURE)


def delete_branch(store: TableStore) -> None:
    branches.delete_branch(store, "repair")


def remove_orphans(store: TableStore) -> None:
    orphans.remove_orphan_files(store, older_than_millis=FAR_FUTURE, now_millis=FAR_FUTURE)


def alter(store: TableStore) -> None:
    store.alter([SetOption(key="snapshot.num-retained.min", value="3")], table="t")


Operation = Callable[[TableStore], object]
OPERATIONS: dict[str, tuple[Operation, Operation]] = {
    "expire": (nothing, expire_all),
    "create a tag": (nothing, lambda store: tags.create_tag(store, "new", 4)),
    "delete a tag": (nothing, lambda store: tags.delete_tag(store, SCHEMA, "early")),
    "delete the tag of an expired snapshot": (expire_all, lambda store: tags.delete_tag(store, SCHEMA, "late")),
    "replace a tag": (nothing, lambda store: tags.replace_tag(store, SCHEMA, "late", 5)),
    "replace the tag of an expired snapshot": (expire_all, lambda store: tags.replace_tag(store, SCHEMA, "late")),
    "change the schema": (nothing, alter),
    "change the schema of a branch": (nothing, lambda store: alter(store.of_branch("repair"))),
    "create a branch": (nothing, lambda store: branches.create_branch(store, "other", tag="late")),
    "delete a branch": (nothing, delete_branch),
    "fast forward": (nothing, lambda store: branches.fast_forward(store, "repair")),
    "roll back": (nothing, lambda store: rollback.rollback_to(store, 5)),
    "roll back to a tag": (nothing, lambda store: rollback.rollback_to(store, "early")),
    "roll back to the tag of an expired snapshot": (expire_all, lambda store: rollback.rollback_to(store, "early")),
    "remove orphans": (delete_branch, remove_orphans),
}
MOST_STOPS = 12


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_that_was_stopped_can_be_done_again(name: str) -> None:
    prepare, operate = OPERATIONS[name]
    expected, steps = completed(prepare, operate)
    for ends_at in range(1, steps + 1, max(1, steps // MOST_STOPS)):
        table = history()
        prepare(table.store)
        armed(table).arm(Fault.DIES, at=ends_at)
        with pytest.raises(Killed):
            operate(TableStore.open(table.io, table.root))
        armed(table).arm(None)
        if "other" in table.store.branch_names():
            branches.delete_branch(table.store, "other")  # a half made branch is deleted and made again
        table.check()
        with suppress(AlreadyExists, BranchNotFound, TagNotFound):
            operate(TableStore.open(table.io, table.root))
        remove_orphans(table.store)
        assert shape(table) == expected
        table.check_no_leftovers()


def armed(table: MetadataTable) -> FaultyFileIO:
    """The file system of a history."""
    assert isinstance(table.io, FaultyFileIO)
    return table.io


def completed(prepare: Operation, operate: Operation) -> tuple[dict[str, dict[str, int]], int]:
    """What an operation leads to, and how many steps it takes."""
    table = history()
    prepare(table.store)
    armed(table).arm(None)
    operate(TableStore.open(table.io, table.root))
    steps = len(armed(table).steps)
    table.check()
    remove_orphans(table.store)
    table.check_no_leftovers()
    return shape(table), steps


def shape(table: MetadataTable) -> dict[str, dict[str, int]]:
    """How many live files each snapshot and tag of each branch has, and its newest schema: names differ between two
    histories."""
    return {
        store.paths.branch: {
            **{name: len(files) for name, files in table.contents()[store.paths.branch].items()},
            "schema": store.schemas.ids()[-1],
        }
        for store in table.branches()
    }

"""Stops an operation on a table at any of its steps, then looks at what is left as somebody else would."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from storage_engine import Table
from storage_engine.errors import StorageEngineError
from storage_engine.maintenance import orphans
from storage_engine.spec.schema_change import SetOption
from storage_engine.spec.snapshot import CommitKind
from tests.fakes.faulty_file_io import CHANGES, Fault, FaultyFileIO, Killed
from tests.reliability.subjects import (
    BATCH,
    HISTORY,
    REPLACED,
    USER,
    State,
    Subject,
    create,
    frame,
    open_table,
    replayed,
    rows_of,
)
from tests.storage_engine.maintenance.metadata_table import MetadataTable

FAR_FUTURE = 4_000_000_000_000
IDENTIFIER = 3
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}(-\d+)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """What is stopped: how it is called, and the state that it leads to."""

    kind: CommitKind
    call: Callable[[Table], object]
    after: Callable[[Subject, State], State]
    compacts_history: bool = True


OPERATIONS = {
    "write": Operation(
        kind=CommitKind.APPEND,
        call=lambda table: table.write(frame(BATCH), commit_user=USER, commit_identifier=IDENTIFIER),
        after=lambda subject, state: subject.after(state, BATCH),
    ),
    "compact": Operation(
        kind=CommitKind.COMPACT,
        call=lambda table: table.compact(full=True),
        after=lambda subject, state: state,
        compacts_history=False,
    ),
    "overwrite": Operation(
        kind=CommitKind.OVERWRITE,
        call=lambda table: table.overwrite(
            frame(REPLACED).drop("_row_kind"),
            partitions=[{"day": "a"}],
            commit_user=USER,
            commit_identifier=IDENTIFIER,
        ),
        after=lambda subject, state: subject.after({key: v for key, v in state.items() if key[0] != "a"}, REPLACED),
    ),
}


def sparse_disk() -> str | None:
    """Where many small files are made quickest."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


@contextmanager
def workspace() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=sparse_disk(), prefix="every-step-") as directory:
        yield Path(directory)


class Trial:
    """One operation on one kind of table. ``seen`` counts the states that were reached."""

    def __init__(
        self, workspace: Path, subject: Subject, operation: Operation, *, io_type: type[FaultyFileIO] = FaultyFileIO
    ) -> None:
        self.subject = subject
        self.operation = operation
        self.seen: Counter[str] = Counter()
        self._known: set[Hashable] = set()
        self.io_type = io_type
        self._template = workspace / "template"
        self._root = workspace / "warehouse"
        self.before = self._history()
        self.after = operation.after(subject, self.before)
        base = open_table(self._template).latest_snapshot()
        assert base is not None
        self.base = base.id

    def steps(self) -> list[tuple[str, str]]:
        """The steps of the operation when it meets no fault: what is done, and to which path."""
        return self._stopped(None, 0).steps

    def fresh_copy(self) -> Path:
        """The warehouse as it was before the operation."""
        shutil.rmtree(self._root, ignore_errors=True)
        shutil.copytree(self._template, self._root)
        return self._root

    def stop(self, fault: Fault, at: int) -> None:
        """Stop the operation at one step, and check all that must hold then."""
        io = self._stopped(fault, at)
        self.seen["was over before"] += io.struck is None
        left = self._left()
        if left in self._known:
            self.seen["left what was left before"] += 1
            return
        self._check_left()
        self._check_done_again()
        self._check_orphans()
        self._known.add(left)

    def _left(self) -> Hashable:
        """What lies on the disk, names told apart by their kind only and sizes roughly; and whether it was acknowledged."""
        found: Counter[tuple[str, int]] = Counter()
        for directory, _, names in os.walk(self._root):
            place = directory.removeprefix(str(self._root))
            for name in names:
                size = os.path.getsize(f"{directory}/{name}")
                found[f"{place}/{_UUID.sub('', name)}", size.bit_length()] += 1
        return self._acknowledged, frozenset(found.items())

    def _history(self) -> State:
        create(self._template, self.subject)
        state: State = {}
        table = open_table(self._template)
        batches = HISTORY if self.operation.compacts_history else [*HISTORY, BATCH]
        for identifier, rows in enumerate(batches, start=1):
            table.write(frame(rows), commit_user=USER, commit_identifier=identifier)
            state = self.subject.after(state, rows)
            if not self.operation.compacts_history:
                table.alter(SetOption(key="write-only", value="true"))
        if not self.operation.compacts_history:
            table.alter(SetOption(key="write-only", value="false"))
        assert self.subject.hides_level0 or rows_of(table) == state
        return state

    def _stopped(self, fault: Fault | None, at: int) -> FaultyFileIO:
        self._acknowledged = False
        table = open_table(self.fresh_copy(), self.io_type.from_url)
        io = table.store.io
        assert isinstance(io, FaultyFileIO)
        io.arm(fault, at=at)
        try:
            self.operation.call(table)
            self._acknowledged = True
        except StorageEngineError as error:
            self.seen[f"raised {type(error).__name__}"] += 1
        except Killed:
            self.seen["killed"] += 1
        return io

    def _check_left(self) -> None:
        """What a fresh reader finds: all or nothing, and all of it if it was acknowledged; then the rest is finished."""
        table, acknowledged = open_table(self._root), self._acknowledged
        kinds = self._kinds(table)
        visible = self.operation.kind in kinds
        self.seen["visible" if visible else "invisible"] += 1
        assert visible or not acknowledged, "an acknowledged commit is lost"
        if not self.subject.hides_level0:
            assert rows_of(table) == (self.after if visible else self.before)
            assert rows_of(table, self.base) == self.before
        settled = table.settle()
        self.seen["a compaction was finished"] += settled is not None
        assert settled is None or not acknowledged, "an acknowledged write was left half done"
        self._check_state(table, self.after if visible else self.before)

    def _check_done_again(self) -> None:
        """The same call once more, and then a new one."""
        table = open_table(self._root)
        had = self._kinds(table).count(self.operation.kind)
        again = self.operation.call(table)
        if self.operation.kind is not CommitKind.COMPACT:
            assert (again is None) == (had > 0), "a retry commits what was not committed, and nothing else"
            assert self._kinds(table).count(self.operation.kind) == 1
        self._check_state(table, self.after)

    def _check_orphans(self) -> None:
        """Exactly what nothing refers to is removed, and the table goes on."""
        table = open_table(self._root)
        names = MetadataTable(table.store.io, table.store.paths.root)
        removed = orphans.remove_orphan_files(table.store, older_than_millis=FAR_FUTURE, now_millis=FAR_FUTURE)
        self.seen["orphans"] += bool(removed)
        self.seen["temporary files"] += any(path.endswith(".tmp") for path in removed)
        names.check_no_leftovers()
        table = open_table(self._root)
        self._check_state(table, self.after)
        table.write(frame(BATCH), commit_user=USER, commit_identifier=IDENTIFIER + 1)
        self._check_state(table, self.subject.after(self.after, BATCH))

    def _check_state(self, table: Table, expected: State) -> None:
        assert rows_of(table) == expected
        if self.subject.has_changelog and self.operation.kind is not CommitKind.OVERWRITE:
            assert replayed(table) == expected

    def _kinds(self, table: Table) -> list[CommitKind]:
        """What was committed since, by the user of the operation under the identifier of the operation."""
        found = [table.store.snapshots.get(number) for number in table.store.snapshots.ids() if number > self.base]
        if self.operation.kind is CommitKind.COMPACT:
            return [snapshot.commit_kind for snapshot in found]
        return [
            snapshot.commit_kind
            for snapshot in found
            if (snapshot.commit_user, snapshot.commit_identifier) == (USER, IDENTIFIER)
        ]


_AT_THE_COMMIT = frozenset({"create", "write temporary", "link", "after link", "replace"})
_IN_TURN = (Fault.DIES, Fault.FAILS, Fault.LOSES_POWER, Fault.DIES, Fault.IS_AWAY)


def faults(steps: list[tuple[str, str]], *, scale: int, seed: int) -> Iterator[tuple[Fault, int]]:
    """Which fault to meet at which step.

    Each step meets one at least; those around a commit meet all. To die before a step that changes nothing is to die
    before the next one that does. One step behind the last shows that the operation is then over.
    """
    for at, step in enumerate([*(operation for operation, _ in steps), "create"], start=1):
        if step in _AT_THE_COMMIT or (scale > 1 and step in CHANGES):
            yield from ((fault, at) for fault in Fault if fault is not Fault.IS_INTERRUPTED)
        elif step in CHANGES:
            yield _IN_TURN[(at + seed) % len(_IN_TURN)], at
        else:
            yield Fault.FAILS, at

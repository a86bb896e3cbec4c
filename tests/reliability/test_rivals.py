"""Two writers of one table: whatever the second does between any two steps of the first, both get what they were told.

The second one acts where the first looks at, or makes, what is not its own: snapshots, hints and schemas. Its other steps
read files that never change, or write files that nobody else knows.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from storage_engine import Table
from storage_engine.errors import CommitConflict
from storage_engine.maintenance import orphans
from storage_engine.spec.snapshot import CommitKind
from tests.fakes.faulty_file_io import Fault, FaultyFileIO
from tests.reliability.every_step import FAR_FUTURE, IDENTIFIER, OPERATIONS, Trial, workspace
from tests.reliability.scale import SCALE, SEED
from tests.reliability.subjects import BATCH, SUBJECTS, USER, Row, State, frame, open_table, replayed, rows_of
from tests.storage_engine.maintenance.metadata_table import MetadataTable

RIVAL = "rival"
ROWS: list[Row] = [("a", 21, 1, "+I"), ("b", 22, 2, "+I"), ("d", 23, 3, "+I"), ("a", 3, 7, "+I")]
STRIDE = 1 if SCALE > 1 else 3


def writes_others(table: Table) -> Any:
    return table.write(frame(ROWS), commit_user=RIVAL, commit_identifier=1)


def writes_the_same(table: Table) -> Any:
    return table.write(frame(BATCH), commit_user=USER, commit_identifier=IDENTIFIER)


def compacts(table: Table) -> Any:
    return table.compact(full=True)


Rival = Callable[[Table], Any]
CASES: list[tuple[str, str, Rival]] = [
    ("lookup changelog", "write", writes_others),
    ("lookup changelog", "write", writes_the_same),
    ("lookup changelog", "overwrite", compacts),
    ("deletion vectors", "write", writes_others),
    ("deletion vectors", "compact", writes_others),
    ("dynamic buckets", "write", writes_others),
    ("dynamic buckets", "overwrite", writes_others),
    ("aggregation", "write", writes_the_same),
    ("aggregation with lookup changelog", "compact", compacts),
]
if SCALE > 1:
    CASES = [
        (subject, operation, rival)
        for subject in SUBJECTS
        for operation in OPERATIONS
        for rival in (writes_others, writes_the_same, compacts)
        if rival is not writes_the_same or operation == "write"
    ]


@pytest.fixture
def place() -> Iterator[Path]:
    with workspace() as directory:
        yield directory


class Meeting:
    """An operation that a rival interrupts, and what must hold afterwards."""

    def __init__(self, trial: Trial, rival: Rival) -> None:
        self.trial = trial
        self.rival = rival
        self.seen: Counter[str] = Counter()

    def at(self, step: int) -> None:
        root = self.trial.fresh_copy()
        table = open_table(root, self.trial.io_type.from_url)
        assert isinstance(table.store.io, FaultyFileIO)
        told: list[Any] = []
        table.store.io.arm(
            Fault.IS_INTERRUPTED, at=step, interrupt=lambda: told.append(self.rival(open_table(root)) is not None)
        )
        try:
            told.insert(0, self.trial.operation.call(table) is not None)
            self.seen["committed" if told[0] else "had nothing to do"] += 1
        except CommitConflict:
            told.insert(0, False)
            self.seen["conflict"] += 1
        self._check(root, was_done=told[0], rival_was_done=told[-1])

    def _check(self, root: Path, *, was_done: bool, rival_was_done: bool) -> None:
        table = open_table(root)
        subject, operation = self.trial.subject, self.trial.operation
        commits = Counter(
            snapshot.commit_user
            for snapshot in map(table.store.snapshots.get, table.store.snapshots.ids())
            if snapshot.id > self.trial.base and snapshot.commit_kind is not CommitKind.COMPACT
        )
        if self.rival is writes_the_same:
            assert was_done != rival_was_done, "of two that commit the same, one does"
            expected = self.trial.after
        else:
            expected = self.trial.after if was_done else self.trial.before
            expected = subject.after(expected, ROWS) if self.rival is writes_others else expected
        assert commits[USER] == (
            operation.kind is not CommitKind.COMPACT and (was_done or self.rival is writes_the_same)
        )
        assert commits[RIVAL] == (self.rival is writes_others)
        assert table.settle() is None
        found = rows_of(table)
        assert found in self._acceptable(expected, was_done=was_done)
        if subject.has_changelog and operation.kind is not CommitKind.OVERWRITE:
            assert replayed(table) == found
        orphans.remove_orphan_files(table.store, older_than_millis=FAR_FUTURE, now_millis=FAR_FUTURE)
        MetadataTable(table.store.io, table.store.paths.root).check_no_leftovers()
        self._goes_on(root, found)

    def _acceptable(self, expected: State, *, was_done: bool) -> list[State]:
        """An overwrite comes before the rival's write, or behind it."""
        if self.trial.operation.kind is CommitKind.OVERWRITE and was_done and self.rival is writes_others:
            both = self.trial.subject.after(self.trial.before, ROWS)
            return [expected, self.trial.operation.after(self.trial.subject, both)]
        return [expected]

    def _goes_on(self, root: Path, found: State) -> None:
        """Keys are still known where they were put."""
        table = open_table(root)
        table.write(frame([*ROWS, *BATCH]), commit_user=USER, commit_identifier=IDENTIFIER + 1)
        assert rows_of(open_table(root)) == self.trial.subject.after(found, [*ROWS, *BATCH])


def shared_steps(trial: Trial) -> list[int]:
    """Steps that look at, or make, what others may have made meanwhile."""
    found = []
    for number, (_, path) in enumerate(trial.steps(), start=1):
        name = os.path.basename(path)
        if name in ("LATEST", "EARLIEST", "snapshot", "schema") or name.startswith(("snapshot-", "schema-")):
            found.append(number)
    return found


@pytest.mark.parametrize(("subject", "operation", "rival"), CASES, ids=[f"{s}-{o}-{r.__name__}" for s, o, r in CASES])
def test_two_writers_both_get_what_they_were_told(subject: str, operation: str, rival: Rival, place: Path) -> None:
    meeting = Meeting(Trial(place, SUBJECTS[subject], OPERATIONS[operation]), rival)
    for step in shared_steps(meeting.trial)[SEED % STRIDE :: STRIDE]:
        meeting.at(step)
    assert meeting.seen["committed"]
    if rival is writes_the_same or operation == "overwrite" or (operation, rival) == ("compact", compacts):
        assert meeting.seen["conflict"] + meeting.seen["had nothing to do"]


# -- controls ----------------------------------------------------------------------------------------------------------


class Overwriting(FaultyFileIO):
    """Creates what stands there already."""

    def create_exclusive(self, path: str, data: bytes, *, needs: Iterable[str] = ()) -> bool:
        self.before_operation("create", path)
        self.overwrite(path, data)
        return True


class LooksFirst(FaultyFileIO):
    """Looks whether a file is there, then writes it."""

    def create_exclusive(self, path: str, data: bytes, *, needs: Iterable[str] = ()) -> bool:
        if self.exists(path):
            return False
        self.before_operation("create", path)
        self.overwrite(path, data)
        return True


@pytest.mark.parametrize("io_type", [Overwriting, LooksFirst])
def test_a_file_system_without_exclusive_creation_is_caught(io_type: type[FaultyFileIO], place: Path) -> None:
    trial = Trial(place, SUBJECTS["aggregation"], OPERATIONS["write"], io_type=io_type)
    assert is_caught(Meeting(trial, writes_others))


def test_a_writer_that_looks_only_once_what_was_committed_is_caught(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("storage_engine.write.commit.CommitRequest.is_repeated", lambda *_: False)
    assert is_caught(Meeting(Trial(place, SUBJECTS["aggregation"], OPERATIONS["write"]), writes_the_same))


def test_a_compaction_that_sees_no_conflict_is_caught(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("storage_engine.write.commit.conflict", lambda *_, **__: None)
    assert is_caught(Meeting(Trial(place, SUBJECTS["lookup changelog"], OPERATIONS["write"]), compacts))


def is_caught(meeting: Meeting) -> bool:
    for step in shared_steps(meeting.trial):
        try:
            meeting.at(step)
        except (AssertionError, LookupError):
            return True
    return False

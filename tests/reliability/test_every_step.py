"""Writes, compactions and overwrites that are stopped at every step: all or nothing, exactly once, and no trace stays.

The checks prove something only because planted bugs fail them: see the controls below.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from storage_engine.errors import StorageEngineError
from storage_engine.maintenance import orphans
from storage_engine.write.table_write import TableWrite
from tests.fakes.faulty_file_io import Fault, FaultyFileIO
from tests.reliability.every_step import OPERATIONS, Trial, faults, workspace
from tests.reliability.scale import SCALE, SEED
from tests.reliability.subjects import SUBJECTS

SUBJECT_NAMES = [name for name in SUBJECTS if SCALE > 1 or name != "aggregation with lookup changelog"]


@pytest.fixture
def place() -> Iterator[Path]:
    with workspace() as directory:
        yield directory


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("subject", SUBJECT_NAMES)
def test_an_operation_may_stop_at_every_step(subject: str, operation: str, place: Path) -> None:
    trial = Trial(place, SUBJECTS[subject], OPERATIONS[operation])
    for fault, at in faults(trial.steps(), scale=SCALE, seed=SEED):
        trial.stop(fault, at)
    reached = {"visible", "invisible", "killed", "raised StorageUnavailable", "orphans", "temporary files"}
    reached |= {"was over before", "left what was left before"}
    if operation == "write" and (SUBJECTS[subject].has_changelog or SUBJECTS[subject].hides_level0):
        reached |= {"a compaction was finished", "raised CommitUnfinished"}
    assert {state for state in reached if not trial.seen[state]} == set(), "the faults did not lead everywhere"


# -- controls ----------------------------------------------------------------------------------------------------------


def caught(trial: Trial, *, only: tuple[Fault, ...]) -> bool:
    """Whether the checks fail at some step."""
    for fault, at in faults(trial.steps(), scale=2, seed=SEED):
        if fault in only:
            try:
                trial.stop(fault, at)
            except (AssertionError, StorageEngineError):
                return True
    return False


def nothing(*_: Any, **__: Any) -> None:
    """Instead of what should be done."""


def test_a_writer_that_forgets_what_it_committed_is_caught(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("storage_engine.write.commit.CommitRequest.is_repeated", lambda *_: False)
    monkeypatch.setattr(TableWrite, "_is_committed", lambda *_: False)
    assert caught(Trial(place, SUBJECTS["aggregation"], OPERATIONS["write"]), only=(Fault.DIES,))


def test_a_compaction_that_nobody_finishes_is_caught(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TableWrite, "settle", nothing)
    assert caught(Trial(place, SUBJECTS["lookup changelog"], OPERATIONS["write"]), only=(Fault.DIES,))


@pytest.mark.parametrize("needed", [set(), None], ids=["everything", "nothing"])
def test_a_removal_of_orphans_that_takes_the_wrong_files_is_caught(
    needed: set[str] | None, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial = Trial(place, SUBJECTS["aggregation"], OPERATIONS["write"])
    wrong = (lambda _: needed) if needed is not None else (lambda _: AllNames())
    monkeypatch.setattr(orphans, "_all_needed", wrong)
    assert caught(trial, only=(Fault.DIES,))


class AllNames(set[str]):
    """Holds every name."""

    def __contains__(self, name: object) -> bool:
        return True


class Unsynced(FaultyFileIO):
    """Trusts that there is always power."""

    def __init__(self, filesystem: Any, *, fsync: bool = True) -> None:
        super().__init__(filesystem, fsync=False)


class InPlace(FaultyFileIO):
    """Writes snapshots in place, so that a reader may see a part of one."""

    def create_exclusive(self, path: str, data: bytes, *, needs: Iterable[str] = ()) -> bool:
        with self.open_output(path) as file:
            file.write(data[: len(data) // 2])
            self.before_operation("link", path)
            file.write(data[len(data) // 2 :])
        return True


@pytest.mark.parametrize(
    ("io_type", "fault"), [(Unsynced, Fault.LOSES_POWER), (InPlace, Fault.DIES)], ids=["unsynced", "in place"]
)
def test_a_file_system_that_cuts_corners_is_caught(io_type: type[FaultyFileIO], fault: Fault, place: Path) -> None:
    trial = Trial(place, SUBJECTS["aggregation"], OPERATIONS["write"], io_type=io_type)
    assert caught(trial, only=(fault,))

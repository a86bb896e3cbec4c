"""Write–audit–publish: a repair is written to a branch, checked there, compared with main, and only then committed.

What is published is the difference itself, in one commit, on the condition that the stream has not moved since the branch was
made: if it has, all begins anew from what it has consumed now. So nothing that was committed meanwhile is undone, as a
fast-forward would undo it, and a check that fails leaves main as it was.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

import polars as pl

from lakehouse_assets.checks import Check, Outcome
from lakehouse_assets.stream.blame import Blaming
from lakehouse_assets.stream.declaration import Stream, of_one_target
from lakehouse_assets.stream.repair import (
    ATTEMPTS,
    PAUSE_S,
    Correction,
    RepairAttempt,
    RepairResult,
    busy,
    repairable,
)
from storage_engine import Catalog, Table
from storage_engine.errors import CommitConflict

PREFIX: Final = "audit-"
KEPT: Final = timedelta(days=1)
"""How long the branch of a repair that was not published stays to be looked at."""
SAMPLE_ROWS: Final = 5
CHANGE: Final = "change"
_FORMAT: Final = "%Y%m%d-%H%M%S"


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """What a repair changes in its parts: counts of rows, and some of them (``change``: added, removed, before, after)."""

    added: int
    removed: int
    changed: int
    sample: pl.DataFrame

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changed)


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditResult:
    """How an audited repair ended. ``repaired``: None if a check failed; then ``branch`` holds what was not published."""

    target: str
    difference: Difference
    outcomes: Mapping[str, Outcome] = field(default_factory=dict)
    repaired: RepairResult | None = None
    branch: str | None = None
    attempts: int = 1

    @property
    def failed(self) -> tuple[str, ...]:
        """Names of the checks that kept it from being published."""
        return tuple(name for name, outcome in self.outcomes.items() if not outcome.passed and not outcome.warning)


def audited_repair(
    catalog: Catalog,
    stream: Stream | Sequence[Stream],
    checks: Mapping[str, Check],
    values: Sequence[str] | None = None,
) -> AuditResult:
    """Repair parts of a target (None: all of it), if its checks pass on a branch that holds the repaired rows.

    ``stream``: all that fill the target.

    Raises InvalidStream, StreamBusy if the stream moved on during each attempt, and what ``repair`` raises.
    """
    with Blaming(*of_one_target(stream)):
        runners = repairable(catalog, stream)
        target = runners[0].target
        _forget_old(target)
        for number in range(1, ATTEMPTS + 1):
            attempt = RepairAttempt(runners, values, number)
            correction = attempt.correction()
            try:
                return _audited(catalog, target, attempt, correction, checks, number)
            except CommitConflict:
                time.sleep(PAUSE_S)
        raise busy(runners)


def _audited(
    catalog: Catalog,
    target: Table,
    attempt: RepairAttempt,
    correction: Correction,
    checks: Mapping[str, Check],
    number: int,
) -> AuditResult:
    """One attempt. Raises CommitConflict if the stream moved meanwhile."""
    found = difference(target, attempt.current, correction.wanted)
    name = f"{PREFIX}{datetime.now(UTC).strftime(_FORMAT)}-{uuid.uuid4().hex[:6]}"
    failed = False
    if found:
        _make_branch(target, name)
    try:
        if found:
            attempt.write_to(catalog.table(target.name, branch=name), correction)
        seen = BranchedCatalog(catalog, {target.name: name}) if found else catalog
        outcomes = {check: checks[check].run(seen) for check in checks}
        result = AuditResult(
            target=target.name, difference=found, outcomes=outcomes, branch=name if found else None, attempts=number
        )
        failed = bool(result.failed)
        if failed:
            return result
        return AuditResult(
            target=target.name,
            difference=found,
            outcomes=outcomes,
            repaired=attempt.commit(correction),
            attempts=number,
        )
    finally:
        if found and not failed:
            target.delete_branch(name)


def difference(target: Table, current: pl.DataFrame, wanted: pl.DataFrame) -> Difference:
    """What a repair changes, by the target's key."""
    key, columns = list(target.schema.primary_keys), list(target.schema.column_names)
    current, wanted = current.select(columns), wanted.select(columns)
    gone = current.join(wanted, on=columns, how="anti", nulls_equal=True)
    came = wanted.join(current, on=columns, how="anti", nulls_equal=True)
    removed, added = gone.join(came, on=key, how="anti"), came.join(gone, on=key, how="anti")
    before, after = gone.join(came, on=key, how="semi").sort(key), came.join(gone, on=key, how="semi").sort(key)
    sample = pl.concat(
        rows.head(SAMPLE_ROWS).select(pl.lit(name).alias(CHANGE), pl.all())
        for name, rows in (("added", added), ("removed", removed), ("before", before), ("after", after))
    )
    return Difference(added=added.height, removed=removed.height, changed=after.height, sample=sample)


class BranchedCatalog(Catalog):
    """A catalog in which some tables are read as one of their branches has them."""

    def __init__(self, catalog: Catalog, branches: Mapping[str, str]) -> None:
        """``branches``: table → branch. Shares all else with the catalog."""
        self.__dict__.update(catalog.__dict__)
        self._branches = dict(branches)

    def table(self, name: str, branch: str | None = None) -> Table:
        """A table, or the branch that stands for it."""
        return super().table(name, branch=branch or self._branches.get(name))


def _make_branch(target: Table, name: str) -> None:
    """A branch with the rows of main's newest snapshot."""
    target.create_tag(name)
    try:
        target.create_branch(name, tag=name)
    finally:
        target.delete_tag(name)


def _forget_old(target: Table) -> None:
    """Remove branches of repairs that were not published, some time ago."""
    until = (datetime.now(UTC) - KEPT).strftime(_FORMAT)
    for name in target.branches()["branch_name"].to_list():
        if name.startswith(PREFIX) and name.removeprefix(PREFIX)[: len(until)] < until:
            target.delete_branch(name)

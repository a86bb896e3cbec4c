"""What a run that goes on and on tells Dagster: an event for each batch, or one for several when they come quickly.

Events and counts cost time that changes wait for, so they are written when nothing else is to be done, or are due.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from typing import Any, Final

import dagster as dg

from lakehouse_assets.metadata import batch_metadata
from lakehouse_assets.reporting import TableAsset, data_version, report_checks, report_table
from lakehouse_assets.resources import LakehouseResource
from lakehouse_assets.stream.runner import BatchResult

COST_SHARE: Final = 20
"""A table is looked at again after so many times what the look took."""


@dataclass(slots=True)
class _Pending:
    """Batches of a table that were not told yet, and when it was told last."""

    results: list[BatchResult] = field(default_factory=list)
    told_s: float = 0.0
    touched: dict[tuple[tuple[str, object], ...], Mapping[str, object]] = field(default_factory=dict)
    table_changed: bool = False
    table_due_s: float = 0.0
    checks_due_s: float = 0.0
    last: BatchResult | None = None


@dataclass(slots=True)
class BatchReports:
    """The events of one run. ``key_of``: table → key of its stream asset.

    ``every_s``: batches that come more quickly share an event (0: each has its own).
    """

    context: dg.AssetExecutionContext
    lakehouse: LakehouseResource
    tables: Mapping[str, TableAsset]
    key_of: Callable[[str], dg.AssetKey]
    every_s: float = 0.0
    checks_every_s: float = float("inf")
    _pending: dict[str, _Pending] = field(default_factory=dict)
    _started_s: float = field(default_factory=time.monotonic)

    def note(self, result: BatchResult) -> None:
        """A batch was committed."""
        pending = self._pending.setdefault(result.target, _Pending(checks_due_s=self._started_s + self.checks_every_s))
        if pending.results and not self.every_s:
            self._tell(pending)
        pending.results.append(result)
        pending.table_changed = True
        for partition in result.partitions:
            pending.touched[tuple(partition.items())] = partition
        if not self.every_s:
            self._tell_table(pending, result)
        elif time.monotonic() - pending.told_s >= self.every_s:
            self._tell(pending)

    def idle(self) -> None:
        """Nothing else is to be done: tell what is due."""
        now = time.monotonic()
        for pending in self._pending.values():
            if pending.results and self.every_s:
                self._tell(pending)
            if pending.last is not None and pending.table_changed and now >= pending.table_due_s and self.every_s:
                self._tell_table(pending, pending.last)
            if pending.last is not None and now >= pending.checks_due_s:
                self._evaluate(pending)

    def ended(self, targets: Sequence[str], *, checks: bool, report_idle: bool) -> list[dg.MaterializeResult[Any]]:
        """Tell all that is left; the run's own result for each of its tables that has news (or every one)."""
        found: list[dg.MaterializeResult[Any]] = []
        for target in targets:
            pending = self._pending.get(target)
            key = self.key_of(target)
            if pending is None:
                found += [dg.MaterializeResult(asset_key=key)] if report_idle else []
                continue
            last = together(pending.results) if pending.results else pending.last
            if last is not None and pending.table_changed:
                self._tell_table(pending, last)
            if checks:
                report_checks(self.context, self.lakehouse, self.tables[target])
            if last is not None and (pending.results or report_idle):
                metadata = batch_metadata(last) | {"batches": max(1, len(pending.results))}
                found.append(dg.MaterializeResult(asset_key=key, metadata=metadata, tags=data_version(last.snapshot)))
        return found

    def _tell(self, pending: _Pending) -> None:
        result = together(pending.results)
        metadata = batch_metadata(result) | {"batches": len(pending.results)}
        self.context.log_event(
            dg.AssetMaterialization(self.key_of(result.target), metadata=metadata, tags=data_version(result.snapshot))
        )
        pending.results, pending.last, pending.told_s = [], result, time.monotonic()

    def _tell_table(self, pending: _Pending, result: BatchResult) -> None:
        started = time.monotonic()
        numbers = {
            "rows_read": result.rows_read,
            "rows_rejected": result.rows_rejected,
            "commit_ms": result.commit_ms,
        }
        report_table(
            self.context,
            self.lakehouse,
            self.tables[result.target],
            snapshot=result.snapshot,
            touched=tuple(pending.touched.values()),
            numbers=numbers,
        )
        pending.touched, pending.table_changed = {}, False
        pending.table_due_s = time.monotonic() + max(self.every_s, COST_SHARE * (time.monotonic() - started))

    def _evaluate(self, pending: _Pending) -> None:
        started = time.monotonic()
        if pending.last is not None:
            report_checks(self.context, self.lakehouse, self.tables[pending.last.target])
        cost = time.monotonic() - started
        pending.checks_due_s = time.monotonic() + max(self.checks_every_s, COST_SHARE * cost)


def together(results: Sequence[BatchResult]) -> BatchResult:
    """Several batches of a table as one: sums of what was read and written, the longest of what took time."""
    parts: dict[str, list[BatchResult]] = {}
    for result in results:
        parts.setdefault(result.stream, []).append(result)
    of_each = {name: reduce(_both, own) for name, own in parts.items()}
    whole = reduce(_both, results)
    if list(of_each) == [""]:
        return whole
    behind = sum(own.rows_behind for own in of_each.values())
    return replace(whole, rows_behind=behind, parts=of_each)


def _both(first: BatchResult, then: BatchResult) -> BatchResult:
    kinds = {**first.rows_written, **then.rows_written}
    partitions = {tuple(each.items()): each for each in (*first.partitions, *then.partitions)}
    latencies = [each for each in (first.latency_ms, then.latency_ms) if each is not None]
    return replace(
        then,
        consumed={
            **first.consumed,
            **{
                name: (first.consumed[name][0] if name in first.consumed else old, new)
                for name, (old, new) in then.consumed.items()
            },
        },
        rows_read=first.rows_read + then.rows_read,
        rows_reemitted=first.rows_reemitted + then.rows_reemitted,
        rows_written={kind: first.rows_written.get(kind, 0) + then.rows_written.get(kind, 0) for kind in kinds},
        partitions=tuple(partitions.values()),
        duration_ms=first.duration_ms + then.duration_ms,
        commit_ms=max(first.commit_ms, then.commit_ms),
        latency_ms=max(latencies, default=None),
        rows_rejected=first.rows_rejected + then.rows_rejected,
    )

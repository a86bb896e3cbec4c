"""Joins of two tables that have more to be read than one batch may: the join keys are shared out, a share a batch.

Keys go by their hash, rows without a join key by that of their primary key, so the shares are the same at any time. A row of
the target may be in one share before and in another one afterwards, where a row of a table gets another join key. So the shares
are walked twice, first for what goes away, then for what comes; once is enough where the target adds up, and at the start.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from lakehouse_assets.stream.declaration import Stream
from lakehouse_assets.stream.errors import InvalidStream
from lakehouse_assets.stream.key_share import KeyShare
from lakehouse_assets.stream.offsets import Consumed
from lakehouse_assets.stream.place import Place
from lakehouse_assets.stream.plan import Plan
from lakehouse_assets.stream.source import DELETE, UNBOUNDED, UPDATE_AFTER, Pending
from storage_engine import Table
from storage_engine.read.portions import parts_within

_WALKS: Final = (DELETE, UPDATE_AFTER)


def place_in(plan: Plan, stream: Stream, tables: Mapping[str, Table]) -> Place | None:
    """Where a join begins to read in shares what a plan would read at once; None if that is within the stream's bounds."""
    bounds, found = stream.bounds, {name: plan.pending[name] for name in stream.driving}
    if plan.start:
        found = {name: _whole(tables[name], each) for name, each in found.items()}
    else:
        found = {name: _compared(tables[name], each) if each.overwritten else each for name, each in found.items()}
    if not plan.start and not any(each.exceeds(bounds) for each in found.values()):
        return None
    rows, size = (
        sum(values) for values in zip(*((each.rows, each.file_bytes) for each in found.values()), strict=True)
    )
    shares = parts_within(rows, size, max_rows=bounds.max_rows, max_bytes=bounds.max_bytes)
    if shares == 1:
        return None
    driving = found.pop(stream.source)
    return Place(
        source=stream.source,
        after=driving.after,
        until=driving.until,
        start=plan.start,
        max_rows=bounds.max_rows,
        max_bytes=bounds.max_bytes,
        left=rows,
        shares=shares,
        beside={name: each.until for name, each in found.items()},
        compared=tuple(name for name in stream.driving if not plan.start and plan.pending[name].overwritten),
    )


def plan_of(place: Place, stream: Stream, tables: Mapping[str, Table], offsets: Consumed) -> Plan:
    """The batch that reads the next share. Raises InvalidStream if the place is that of another declaration."""
    if {place.source, *place.beside} != set(stream.driving) or not place.shares:
        raise InvalidStream(
            f"{stream.name} has read a part of {place.source}'s snapshot {place.until} by another declaration, which joined"
            f" {', '.join(place.beside) or 'nothing'}: let that one finish the snapshot first, or repair the whole target"
        )
    walks = (None,) if place.start or stream.reads == "changelog" else _WALKS
    walk, number = divmod(place.done, place.shares)
    done, all_shares = place.done + 1, len(walks) * place.shares
    left = place.left * (all_shares - done) // (all_shares - place.done)
    read = {place.source: place.after, **{name: offsets.snapshot(name) or 0 for name in place.beside}}
    pending = {name: _part(tables[name], place, after, rows=place.left - left) for name, after in read.items()}
    return Plan(
        offsets=offsets,
        pending=pending,
        start=place.start,
        within=None if done == all_shares else replace(place, done=done, left=left),
        share=KeyShare(
            number=number, of=place.shares, kind=walks[walk], max_rows=place.max_rows, max_bytes=place.max_bytes
        ),
    )


def _part(table: Table, place: Place, after: int, *, rows: int) -> Pending:
    """A table as a share reads it, of ``rows`` rows of all tables."""
    until = place.until_in(table.name) or 0
    if place.start or until <= after:
        return Pending(after=0 if place.start else after, until=until)
    return Pending(
        after=after,
        until=until,
        rows=rows,
        overwritten=table.name in place.compared,
        committed_ms=table.store.snapshots.get(until).time_millis,
    )


def _compared(table: Table, found: Pending) -> Pending:
    """What is read of both states of a table that was overwritten."""
    portions = table.difference_portions(found.after, found.until, max_rows=UNBOUNDED.max_rows)
    rows, file_bytes = sum(each.rows for each in portions), sum(each.file_bytes for each in portions)
    return replace(found, rows=rows, file_bytes=file_bytes)


def _whole(table: Table, found: Pending) -> Pending:
    """All rows of a table as what is to be read of it."""
    if not found.until:
        return found
    rows = table.store.snapshots.get(found.until).total_record_count
    return replace(found, rows=rows, file_bytes=table.file_bytes(found.until))

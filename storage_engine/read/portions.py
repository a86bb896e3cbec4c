"""A snapshot, or what happened up to one, in portions that fit in memory: in the same portions whenever it is asked for.

The files of a snapshot never change, so neither does how they are dealt out. Rows of one key are in one portion. What is too
large and has a key is cut into ranges of the first key column, of which no more than their own row groups are read, and a range
that is too large still is shared out by a hash of the key, as Paimon hashes keys; a file without keys is cut by the places of
its rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import polars as pl

from storage_engine.kernel.key_cuts import SortedRun, cut
from storage_engine.read.unit_parts import WHOLE, UnitPart
from storage_engine.spec.schema import TableSchema

_LEAST_ROWS = 1024
"""Files have bytes beside those of their rows: no unit is shared out into less rows than these for its bytes alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Portion:
    """Some rows of a table. ``rows`` and ``file_bytes`` are those of the files, or the share of them; ``read`` gives the rows."""

    rows: int
    file_bytes: int
    read: Callable[[], pl.DataFrame]


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """What is dealt out: rows that no other unit has a key of. ``frames`` reads them, or a part of them, in their order, some at
    a time, with the key's columns among others. ``runs``: where they stand in the order of keys, none: they are not in it.
    """

    rows: int
    file_bytes: int
    frames: Callable[[UnitPart], Iterator[pl.DataFrame]]
    runs: Callable[[], list[SortedRun]] = list


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How large a portion may be, as far as a single row allows it. ``ranges``: large units are cut into ranges of keys before
    they are shared out by a hash, as versions without ranges do at once.
    """

    max_rows: int
    max_bytes: int | None
    ranges: bool = True

    def exceeded(self, rows: int, file_bytes: int) -> bool:
        """Whether it is more than a portion takes, if it can be parted."""
        return rows > self.max_rows or (self.max_bytes is not None and file_bytes > self.max_bytes)

    def parts(self, rows: int, file_bytes: int) -> int:
        """How many parts some rows are shared out into."""
        return parts_within(rows, file_bytes, max_rows=self.max_rows, max_bytes=self.max_bytes)


def dealt(units: Iterable[Unit], empty: pl.DataFrame, limits: Limits) -> list[Portion]:
    """Portions within limits, of the columns that ``empty`` has."""
    portions: list[Portion] = []
    group: list[Unit] = []
    rows = file_bytes = 0
    for unit in units:
        if group and limits.exceeded(rows + unit.rows, file_bytes + unit.file_bytes):
            portions.append(_together(group, empty))
            group, rows, file_bytes = [], 0, 0
        if limits.parts(unit.rows, unit.file_bytes) > 1:
            portions += _cut(unit, empty, limits)
            continue
        group.append(unit)
        rows, file_bytes = rows + unit.rows, file_bytes + unit.file_bytes
    return [*portions, _together(group, empty)] if group else portions


def parts_within(rows: int, file_bytes: int, *, max_rows: int, max_bytes: int | None) -> int:
    """How many parts of about the same size some rows are shared out into, so that each is within bounds."""
    by_bytes = 1 if max_bytes is None else -(-file_bytes // max_bytes)
    return max(-(-rows // max_rows), min(by_bytes, -(-rows // _LEAST_ROWS)), 1)


def read_with_key(schema: TableSchema, names: Sequence[str]) -> list[str]:
    """Columns to read so that rows can be shared out: the wanted ones, and the key."""
    return list(dict.fromkeys((*schema.primary_keys, *names)))


def _together(units: Sequence[Unit], empty: pl.DataFrame) -> Portion:
    group = tuple(units)
    return Portion(
        rows=sum(unit.rows for unit in group),
        file_bytes=sum(unit.file_bytes for unit in group),
        read=lambda: pl.concat(
            [empty, *(frame.select(empty.columns) for unit in group for frame in unit.frames(WHOLE))]
        ),
    )


def _cut(unit: Unit, empty: pl.DataFrame, limits: Limits) -> Iterator[Portion]:
    most = -(-unit.rows // limits.parts(unit.rows, unit.file_bytes))
    runs = unit.runs() if limits.ranges else []
    ranges = cut(runs, most) if runs else [(None, unit.rows)]
    ends = [*(low for low, _ in ranges[1:]), None]
    for (low, rows), high in zip(ranges, ends, strict=True):
        file_bytes = unit.file_bytes * rows // unit.rows
        shares = limits.parts(rows, file_bytes)
        for number in range(shares):
            part = UnitPart(low=low, high=high, number=number, of=shares)
            yield Portion(
                rows=rows // shares,
                file_bytes=file_bytes // shares,
                read=lambda part=part: pl.concat(
                    [empty, *(frame.select(empty.columns) for frame in unit.frames(part))]
                ),  # type: ignore[misc]
            )

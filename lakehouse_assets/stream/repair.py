"""Repair: whole partitions of a target computed again from the source, in one commit, while the stream goes on.

The partitions are recomputed as of the offsets that the stream has consumed, and committed on condition that these have not
moved, so that no change is lost or counted twice. Of an upsert target only the *difference* is written, as changes that
flow on downstream; the partitions of an aggregation target are replaced.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from lakehouse_assets.stream.declaration import Stream
from lakehouse_assets.stream.offsets import StreamOffsets
from lakehouse_assets.stream.runner import ROW_KIND
from lakehouse_assets.stream.widen import Widener
from storage_engine import Catalog, Snapshot, Table
from storage_engine.errors import CommitConflict

_ATTEMPTS = 20
_WAIT_S = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class RepairResult:
    """What a repair did; ``snapshot`` is None where the partitions were right already."""

    snapshot: Snapshot | None
    partitions: tuple[str, ...]
    rows: int
    rows_changed: int
    attempts: int


def repair(catalog: Catalog, stream: Stream, partitions: Sequence[str]) -> RepairResult:
    """Recompute partitions (values of the target's first partition column).

    Tries again while the stream keeps moving its offsets. Raises CommitConflict if it never holds still.
    """
    target = catalog.table(stream.target)
    conflict: CommitConflict | None = None
    for attempt in range(1, _ATTEMPTS + 1):
        offsets = StreamOffsets.read(target, stream.name)
        try:
            return _attempt(catalog, stream, target, tuple(partitions), offsets, attempt)
        except CommitConflict as raised:
            conflict = raised
            time.sleep(_WAIT_S)
    raise conflict or CommitConflict(f"table {stream.target}: the repair was not tried")


def _attempt(
    catalog: Catalog,
    stream: Stream,
    target: Table,
    partitions: tuple[str, ...],
    offsets: StreamOffsets,
    attempt: int,
) -> RepairResult:
    column = target.schema.partition_keys[0]
    rows = _recomputed(catalog, stream, target, partitions, offsets)
    expected = {stream.name: offsets.identifier}
    if stream.every_change:
        specs = [{column: value} for value in partitions]
        snapshot = target.overwrite(rows, partitions=specs, expected_offsets=expected)
        changed = rows.height
    else:
        current = target.scan().filter(pl.col(column).is_in(list(partitions))).collect()
        difference = _difference(current, rows, target)
        changed = difference.height
        snapshot = target.write(difference, expected_offsets=expected) if changed else None
    return RepairResult(
        snapshot=snapshot, partitions=partitions, rows=rows.height, rows_changed=changed, attempts=attempt
    )


def _recomputed(
    catalog: Catalog, stream: Stream, target: Table, partitions: tuple[str, ...], offsets: StreamOffsets
) -> pl.DataFrame:
    """What the partitions must hold at the consumed offsets: rows of the target with ``_row_kind``."""
    source = catalog.table(stream.source)
    consumed = offsets.snapshots.get(stream.source)
    column = target.schema.partition_keys[0]
    if consumed is None:
        return pl.DataFrame(schema={ROW_KIND: pl.String(), **target.schema.polars_schema})
    chosen = stream.partition_filter(partitions) if stream.partition_filter else pl.col(column).is_in(list(partitions))
    rows = source.scan(snapshot=consumed).filter(chosen).with_columns(pl.lit("+I").alias(ROW_KIND)).collect()
    widened = Widener(catalog, stream).widen(rows, offsets.snapshots)
    result = stream.transform(widened).select(ROW_KIND, *target.schema.column_names)
    return result.filter(pl.col(column).is_in(list(partitions)), pl.col(ROW_KIND).is_in(["+I", "+U"]))


def _difference(current: pl.DataFrame, wanted: pl.DataFrame, target: Table) -> pl.DataFrame:
    """The changes that turn ``current`` into ``wanted``."""
    keys = list(target.schema.primary_keys)
    columns = list(target.schema.column_names)
    gone = current.join(wanted, on=keys, how="anti").with_columns(pl.lit("-D").alias(ROW_KIND))
    changed = wanted.join(current, on=columns, how="anti", nulls_equal=True)
    return pl.concat([gone.select(ROW_KIND, *columns), changed.select(ROW_KIND, *columns)])

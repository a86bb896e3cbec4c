"""What a source has now of the keys that were written, where it only tells of the writes: one row of each key.

That is what a table without a changelog does, or with the changelog of its input. What stands there afterwards may be another
row: the one that was there before, if what was written is late by the sequence field, or a merged one. Only then are rows
looked up, and a row that is newer than all that the files held before is certain without a look.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from lakehouse_assets.stream.source import DELETE, ROW_KIND, UPDATE_AFTER, Pending, compaction_brings_changelog
from storage_engine import Table
from storage_engine.errors import SnapshotExpired
from storage_engine.kernel.key_sort import newest, sort_keys
from storage_engine.kernel.merge_plan import MergePlan
from storage_engine.options import MergeEngine
from storage_engine.read.value_bounds import highest_value


def only_tells_writes(table: Table) -> bool:
    """Whether what a reader of changes finds are the rows that were written, whatever became of them."""
    return bool(table.schema.primary_keys) and not compaction_brings_changelog(table)


def sequence_of(table: Table) -> list[str]:
    """Columns that must be read, beside the key, to tell which row of a key is the newest."""
    return [name for name in table.schema.table_options.sequence_field if name not in table.schema.primary_keys]


def newest_rows(table: Table, written: pl.DataFrame, found: Pending) -> pl.DataFrame:
    """One row of each key, the state at ``found.until``, with ``_row_kind``: -D where there is none any more.

    ``written``: rows in commit order, of ``_row_kind``, the key, the sequence columns and any others.
    REQUIRES: the table ``only_tells_writes``, and its changes are read, not its rows.
    """
    key = list(table.schema.primary_keys)
    last = _last_of_each(written, key, sequence_of(table))
    is_certain = _are_certain(table, last, found)
    if is_certain.all():
        return last
    doubtful = last.filter(~is_certain)
    names = [name for name in written.columns if name != ROW_KIND]
    stored = table.lookup(doubtful.select(key), columns=names, snapshot=found.until)
    gone = doubtful.join(stored, on=key, how="anti", maintain_order="left")
    return pl.concat(
        [
            last.filter(is_certain),
            stored.select(pl.lit(UPDATE_AFTER).alias(ROW_KIND), *names),
            gone.with_columns(pl.lit(DELETE).alias(ROW_KIND)),
        ]
    )


def _last_of_each(written: pl.DataFrame, key: Sequence[str], sequence: Sequence[str]) -> pl.DataFrame:
    """The last row of each key by its sequence, of equal ones the last."""
    if written.is_empty():
        return written
    whole = written.rechunk()
    keys = sort_keys(whole, key)
    rows = None if keys is None else newest(whole, keys, sequence)
    if rows is None:
        ordered = whole.sort(sequence, nulls_last=False, maintain_order=True) if sequence else whole
        return ordered.unique(key, keep="last", maintain_order=True)
    return whole if len(rows) == whole.height else whole[np.sort(rows)]


def _are_certain(table: Table, last: pl.DataFrame, found: Pending) -> pl.Series:
    """Whether the last row that was written of a key is what the table has of it."""
    plan, sequence = MergePlan.of(table.schema), sequence_of(table)
    nothing, everything = (pl.Series([value]).new_from_index(0, last.height) for value in (False, True))
    if plan.engine is not MergeEngine.DEDUPLICATE or plan.ignore_delete:
        return nothing
    if not sequence:
        return everything
    schema = table.schema
    stays_in_partition = set(schema.partition_keys) <= set(schema.primary_keys)
    partitions = last.select(schema.partition_keys).unique() if stays_in_partition else None
    try:
        before = table.store.snapshots.get(found.after) if found.after else None
        is_known, highest = highest_value(table.store, schema, before, sequence[0], partitions)
    except SnapshotExpired:  # what comes next is there still
        return nothing
    if not is_known:
        return nothing
    if highest is None:
        return everything
    bound = pl.Series([highest], dtype=schema.polars_schema[sequence[0]])
    leading = last.get_column(sequence[0])
    # of equal ones the later write wins, unless further columns decide
    is_newer = leading >= bound if len(sequence) == 1 else leading > bound
    return is_newer.fill_null(value=False)

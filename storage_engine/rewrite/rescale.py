"""Rescaling: a partition's rows are written anew into another number of buckets.

Spec: "Rescale Bucket" of Apache Paimon 1.3.1: INSERT OVERWRITE of whole partitions, refused if others commit rows meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

import polars as pl

from storage_engine.errors import InvalidInput, Unsupported
from storage_engine.kernel.conform import conform
from storage_engine.spec.schema import TableSchema
from storage_engine.spec.snapshot import Snapshot
from storage_engine.store.live_files import LiveFiles
from storage_engine.store.table_store import TableStore
from storage_engine.write.requests import Committer
from storage_engine.write.table_write import TableWrite

RowsOf = Callable[[Snapshot, bytes], pl.DataFrame]


def rescale(
    store: TableStore,
    schema: TableSchema,
    *,
    table: str,
    buckets: int | None,
    partitions: Iterable[bytes] | None,
    rows_of: RowsOf,
) -> Snapshot | None:
    """Write partitions (None: all) into so many buckets (None: as the table's option says), each as one commit.

    ``rows_of`` reads a partition at a snapshot. A partition that has the number already is left alone. Gives the last snapshot,
    None if nothing was to be done. Raises InvalidInput, Unsupported, CommitConflict.
    """
    count = schema.table_options.bucket if buckets is None else buckets
    _check(schema, count, table=table)
    wanted = None if partitions is None else frozenset(partitions)
    latest = store.snapshots.latest()
    live = LiveFiles(store, schema)
    counts: dict[bytes, int] = {}
    for bucket in live.buckets(latest).values():
        if bucket.total_buckets > 0 and (wanted is None or bucket.partition in wanted):
            counts[bucket.partition] = bucket.total_buckets
    rescaled = replace(schema, options={**schema.options, "bucket": str(count)})
    done = None
    for partition in (partition for partition, total in counts.items() if total != count):
        base = store.snapshots.latest()
        if base is None:
            return None
        rows = conform(rows_of(base, partition), rescaled, table=table)
        writer = TableWrite(store, rescaled, table=table)
        done = writer.overwrite(rows, frozenset({partition}), Committer(), read_at=base.id) or done
    return done


def _check(schema: TableSchema, count: int, *, table: str) -> None:
    if count < 1:
        raise InvalidInput(f"table {table}: a number of buckets is needed to rescale to, 1 or more; it is {count}")
    fixed = schema.table_options.bucket
    if fixed == -1:  # dynamic
        raise Unsupported(f"table {table}: option 'bucket' is -1: its buckets are not of a fixed number")
    if fixed > 0 and fixed != count:
        raise InvalidInput(
            f"table {table}: option 'bucket' is {fixed}; set it to {count} first, so that later writes find the rows:"
            f" ALTER TABLE {table} SET ('bucket' = '{count}')"
        )

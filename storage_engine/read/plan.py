"""Which files a batch read of a snapshot needs, and how each must be read."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import polars as pl

from storage_engine.codec.collector import collector_paused
from storage_engine.codec.manifest_columns import EntryColumns
from storage_engine.read.file_statistics import OfFiles
from storage_engine.read.index_pruning import IndexPruner
from storage_engine.read.pruning import Pruner
from storage_engine.read.split_columns import SplitColumns, split_columns
from storage_engine.read.split_rules import Split, SplitRules, SplitTotals
from storage_engine.spec.schema import TableSchema
from storage_engine.spec.snapshot import Snapshot
from storage_engine.store.live_files import LiveFiles


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The splits of one read, and how much pruning saved. Where they are very many, each is made when it is asked for."""

    snapshot: Snapshot | None
    splits: Sequence[Split]
    files_read: int = 0
    files_pruned: int = 0

    @property
    def totals(self) -> SplitTotals:
        """What the splits add up to."""
        return self.splits.totals if isinstance(self.splits, SplitColumns) else SplitTotals.of(self.splits)


def plan_scan(
    live: LiveFiles,
    schema: TableSchema,
    snapshot: Snapshot | None,
    predicate: pl.Expr | None = None,
    *,
    buckets: Collection[int] | None = None,
    read_optimized: bool = False,
) -> Plan:
    """Plan a batch read of all or of some buckets. ``read_optimized``: only the files of the top level, unmerged
    (Paimon's ``t$ro``).
    """
    pruner = Pruner(live.schemas, schema, predicate, buckets=buckets)
    found = live.found(snapshot, kept_manifests=pruner.kept_manifests, keep=pruner.keep)
    index_files = live.index_files(snapshot)
    index_pruner = IndexPruner(live.io, live.schemas, schema, predicate)
    rules = SplitRules(schema, read_optimized=read_optimized)
    if isinstance(found, EntryColumns):
        many = split_columns(live, found, rules, pruner, index_pruner, index_files)
        read = len(many.cut.rows)
        return Plan(snapshot=snapshot, splits=many, files_read=read, files_pruned=len(found) - read)
    with collector_paused():
        dealt = live.by_bucket(found, index_files).values()
        splits = [split for bucket in dealt for split in rules.splits(bucket)]
        splits = splits if predicate is None else list(_pruned(splits, pruner, index_pruner))
    read = sum(len(split.files) for split in splits)
    return Plan(snapshot=snapshot, splits=tuple(splits), files_read=read, files_pruned=len(found) - read)


def _pruned(splits: Sequence[Split], pruner: Pruner, index_pruner: IndexPruner) -> Iterator[Split]:
    """Splits without the files that need not be read; statistics are looked at for all files at once."""
    files = {
        is_raw: [file for split in splits if split.raw is is_raw for file in split.files] for is_raw in (True, False)
    }
    raw = iter(pruner.may_hold_rows(OfFiles(files[True])))
    merged = iter(pruner.may_hold_keys(OfFiles(files[False])))
    for split in splits:
        may_hold = [next(raw if split.raw else merged) for _ in split.files]
        if not split.raw:
            if any(may_hold):
                yield split
            continue
        some = [file for file, may in zip(split.files, may_hold, strict=True) if may]
        if kept := index_pruner.kept_files(some, split.bucket.directory):
            yield Split(bucket=split.bucket, files=tuple(kept), raw=True)

"""Plans of very many files: they are dealt into splits as columns, and a split becomes a value where it is asked for.

Spec: "Batch read" of Apache Paimon 1.3.1; ``read.plan`` says the same of few files, one by one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import TypeVar, overload

import numpy as np
import numpy.typing as npt
import polars as pl

from storage_engine.codec.collector import collector_paused
from storage_engine.codec.manifest_columns import EntryColumns
from storage_engine.codec.many_values import made_of_columns
from storage_engine.lsm.section_columns import Bools, Longs, key_ranks, section_order
from storage_engine.read.file_statistics import OfColumns
from storage_engine.read.index_pruning import IndexPruner
from storage_engine.read.pruning import Pruner
from storage_engine.read.split_rules import Reading, Split, SplitRules, SplitTotals
from storage_engine.spec.types import DataType
from storage_engine.store.live_files import IndexFiles, LiveFiles
from storage_engine.store.paths import POSTPONE_BUCKET

_AT_ONCE = 4_000
_Scalar = TypeVar("_Scalar", bound=np.generic)


@dataclass(frozen=True, slots=True)
class _Cut:
    """Splits of a frame of files: the rows of one after the other, how many each has, which are read raw."""

    rows: Longs
    sizes: Longs
    raw: Bools

    @property
    def ends(self) -> Longs:
        """Where in ``rows`` each split ends."""
        return np.cumsum(self.sizes)

    def only(self, keep: Bools) -> _Cut:
        """The splits without the rows that are not kept, and without those that have none left."""
        left = np.add.reduceat(keep, self.ends - self.sizes, dtype=np.int64) if len(self.sizes) else self.sizes
        return _Cut(self.rows[keep], left[left > 0], self.raw[left > 0])


@dataclass(frozen=True)
class SplitColumns(Sequence[Split]):
    """Splits, bucket by bucket. Each time one is asked for it is made anew: iterate once, or keep what you need.

    ``files`` are the entries of the buckets that have splits, bucket by bucket; ``group`` numbers their buckets.
    """

    live: LiveFiles
    rules: SplitRules
    index_files: IndexFiles
    files: pl.DataFrame
    group: Longs
    cut: _Cut

    def __len__(self) -> int:
        return len(self.cut.sizes)

    @overload
    def __getitem__(self, index: int) -> Split: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Split]: ...
    def __getitem__(self, index: int | slice) -> Split | Sequence[Split]:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        place = range(len(self))[index]
        first, end = self._with_neighbours(place, place + 1)
        return self._made(first, end)[place - first]

    def __iter__(self) -> Iterator[Split]:
        end = 0
        while end < len(self):
            first, end = self._with_neighbours(end, min(end + _AT_ONCE, len(self)))
            yield from self._made(first, end)

    @property
    def totals(self) -> SplitTotals:
        """What they add up to; none of them is made."""
        read = self.files.select("_ROW_COUNT", "_FILE_SIZE")[self.cut.rows].sum().row(0)
        return SplitTotals(
            partitions=self.files.get_column("_PARTITION").n_unique(),
            buckets=len(np.unique(self.group)),
            splits=len(self),
            raw_splits=int(self.cut.raw.sum()),
            files=len(self.cut.rows),
            raw_files=int(self.cut.sizes[self.cut.raw].sum()),
            rows=read[0],
            bytes=read[1],
        )

    @cached_property
    def _buckets(self) -> Longs:
        """The number of each split's bucket, ascending."""
        return self.group[self.cut.rows[self.cut.ends - 1]]

    def _with_neighbours(self, first: int, end: int) -> tuple[int, int]:
        """The same splits and the others of their buckets."""
        numbers = self._buckets
        return int(np.searchsorted(numbers, numbers[first])), int(np.searchsorted(numbers, numbers[end - 1], "right"))

    def _made(self, first: int, end: int) -> list[Split]:
        """The splits from one to another one, which are all those of their buckets."""
        numbers, ends = self._buckets[first:end], self.cut.ends[first:end]
        start, stop = np.searchsorted(self.group, [numbers[0], numbers[-1] + 1]).tolist()
        part, bounds = self.files[start:stop], np.flatnonzero(np.diff(self.group[start:stop], prepend=-1, append=-1))
        last = part.select("_PARTITION", "_BUCKET", "_TOTAL_BUCKETS")[bounds[1:] - 1]
        begins = (ends - self.cut.sizes[first:end]).tolist()
        with collector_paused():
            files = EntryColumns(part).files()
            bounded = [files[low:high] for low, high in pairwise(bounds.tolist())]
            partitions, numbers_of, totals = (column.to_list() for column in last)
            keys = list(zip(partitions, numbers_of, strict=True))
            buckets = self.live.buckets_of(keys, totals, bounded, self.index_files)
            rows = (self.cut.rows[begins[0] : ends[-1]] - start).tolist()
            bounds_of = zip(begins, ends.tolist(), strict=True)
            members = [[files[row] for row in rows[low - begins[0] : high - begins[0]]] for low, high in bounds_of]
            raw = self.cut.raw[first:end].tolist()
            together = self.rules.merged_together
            columns: dict[str, Iterable[object]] = {
                "bucket": map(buckets.__getitem__, (numbers - self.group[start]).tolist()),
                "files": [tuple(each) if is_raw else together(each) for each, is_raw in zip(members, raw, strict=True)],
                "raw": raw,
            }
            return made_of_columns(Split, len(raw), columns)


def split_columns(
    live: LiveFiles,
    found: EntryColumns,
    rules: SplitRules,
    pruner: Pruner,
    index_pruner: IndexPruner,
    index_files: IndexFiles,
) -> SplitColumns:
    """The splits of live entries, without the files that need not be read."""
    files, group = _by_bucket(found.frame.filter(pl.col("_BUCKET") != POSTPONE_BUCKET))
    cut = _cut(files, group, rules)
    cut = cut.only(_kept(files, cut, pruner))
    cut = cut.only(_kept_by_indexes(live, files, cut, index_pruner))
    needed = np.isin(group, group[cut.rows])
    if not needed.all():
        files, group = files.filter(needed), _numbered(group[needed])
        cut = _Cut((np.cumsum(needed) - 1)[cut.rows], cut.sizes, cut.raw)
    return SplitColumns(live, rules, index_files, files, group, cut)


def _by_bucket(files: pl.DataFrame) -> tuple[pl.DataFrame, Longs]:
    """Files bucket by bucket, in order of the first of each, and the number of the bucket of each."""
    row = "_ROW"
    grouped = files.select("_PARTITION", "_BUCKET").with_row_index(row)
    grouped = grouped.group_by("_PARTITION", "_BUCKET", maintain_order=True).agg(row)
    order = grouped.get_column(row).explode(empty_as_null=False)
    sizes = grouped.get_column(row).list.len().to_numpy()
    return files if order.is_sorted() else files[order], np.repeat(np.arange(len(sizes)), sizes)


def _numbered(groups: Longs) -> Longs:
    """Ascending numbers without gaps."""
    return np.cumsum(np.diff(groups, prepend=groups[:1]) != 0)


def _cut(files: pl.DataFrame, group: Longs, rules: SplitRules) -> _Cut:
    level, count = files.get_column("_LEVEL").to_numpy(), files.height
    rows = np.arange(count)
    match rules.reading:
        case Reading.APPEND:
            rows = np.lexsort((_numbers(files, "_MAX_SEQUENCE_NUMBER"), _numbers(files, "_MIN_SEQUENCE_NUMBER"), group))
        case Reading.TOP_LEVEL:
            rows = rows[(level > 0) & (level == _over_groups(np.maximum, level, group))]
        case Reading.UPPER_LEVELS:
            rows = rows[level > 0]
        case Reading.MERGED:
            return _sections(files, group, level, rules.key_types)
    starts = np.diff(group[rows], prepend=-1) != 0
    return _Cut(rows, _sizes(starts), np.ones(int(starts.sum()), np.bool_))


def _sections(files: pl.DataFrame, group: Longs, level: Longs, key_types: Sequence[DataType]) -> _Cut:
    """A bucket of one level without retractions as it is, of each other one the sections of overlapping files."""
    is_clean = (files.get_column("_DELETE_ROW_COUNT") == 0).fill_null(value=False).to_numpy() & (level > 0)
    same_level = _over_groups(np.maximum, level, group) == _over_groups(np.minimum, level, group)
    whole = same_level & _over_groups(np.logical_and, is_clean, group)
    lows, highs = np.zeros(files.height, np.int64), np.zeros(files.height, np.int64)
    if not whole.all():
        some = files.filter(~whole)
        ranks = key_ranks(key_types, pl.concat([some.get_column("_MIN_KEY"), some.get_column("_MAX_KEY")]))
        lows[~whole], highs[~whole] = np.split(ranks, 2)
    rows, starts = section_order(group, lows, highs)
    sizes = _sizes(starts)
    first = rows[starts]
    no_retraction = (files.get_column("_DELETE_ROW_COUNT") == 0).fill_null(value=False).to_numpy()
    return _Cut(rows, sizes, whole[first] | (sizes == 1) & no_retraction[first])


def _kept(files: pl.DataFrame, cut: _Cut, pruner: Pruner) -> Bools:
    """Which rows of the splits statistics do not rule out; all those of a split that is merged, or none."""
    of_split = np.repeat(np.arange(len(cut.sizes)), cut.sizes)
    is_raw = cut.raw[of_split]
    keep = np.ones(len(cut.rows), np.bool_)
    keep[is_raw] = pruner.may_hold_rows(OfColumns(files[cut.rows[is_raw]]))
    keep[~is_raw] = pruner.may_hold_keys(OfColumns(files[cut.rows[~is_raw]]))
    some = np.bincount(of_split, weights=keep, minlength=len(cut.sizes)) > 0
    return np.where(is_raw, keep, some[of_split])


def _kept_by_indexes(live: LiveFiles, files: pl.DataFrame, cut: _Cut, pruner: IndexPruner) -> Bools:
    keep = np.ones(len(cut.rows), np.bool_)
    if not pruner.is_active:
        return keep
    asked = files.select(pl.col("_EMBEDDED_FILE_INDEX").is_not_null() | (pl.col("_EXTRA_FILES").list.len() > 0))
    places = np.flatnonzero(np.repeat(cut.raw, cut.sizes) & asked.to_series().to_numpy()[cut.rows])
    for place, entry in zip(places, EntryColumns(files[cut.rows[places]]).entries(), strict=True):
        directory = live.layout.bucket_directory(entry.partition, entry.bucket)
        keep[place] = bool(pruner.kept_files([entry.file], directory))
    return keep


def _numbers(files: pl.DataFrame, name: str) -> Longs:
    return files.get_column(name).to_numpy()


def _over_groups(reduce: np.ufunc, values: npt.NDArray[_Scalar], group: Longs) -> npt.NDArray[_Scalar]:
    """For each row what the values of its group are reduced to."""
    if not len(group):
        return values
    return reduce.reduceat(values, np.flatnonzero(np.diff(group, prepend=-1)))[group]


def _sizes(starts: Bools) -> Longs:
    """How many rows there are from each start to the next one."""
    return np.diff(np.append(np.flatnonzero(starts), len(starts)))

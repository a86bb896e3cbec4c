"""What manifests say of the values in files: of few files as values, of very many as columns.

Polars has no price for a row but one for each call: a plan of ten files, as each batch of a stream makes, is cheaper without.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl

from storage_engine.spec.manifest import DataFileMeta, SimpleStats

Longs: TypeAlias = npt.NDArray[np.int64]
IsSame = Callable[[int], bool]
"""Whether files of a version of the table have the columns of this one."""
ByColumns: TypeAlias = Iterable[tuple[Sequence[str], Sequence[int] | Longs]]
_PLACE = "_PLACE"


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistics:
    """Minimum, maximum (serialized rows) and null counts of some columns, for those ``places`` where they are known."""

    places: Sequence[int] | Longs
    mins: Sequence[bytes] | pl.Series
    maxs: Sequence[bytes] | pl.Series
    null_counts: Callable[[int], Sequence[int | None] | pl.Series]
    rows: Sequence[int] | pl.Series

    @staticmethod
    def of_values(stats: Sequence[SimpleStats], rows: Sequence[int], width: int) -> Statistics:
        """Those of ``width`` columns, with the numbers of rows that they describe."""
        places = [place for place, part in enumerate(stats) if len(part.null_counts) == width]
        return Statistics(
            places=places,
            mins=[stats[place].min_values for place in places],
            maxs=[stats[place].max_values for place in places],
            null_counts=lambda index: [stats[place].null_counts[index] for place in places],
            rows=[rows[place] for place in places],
        )

    @staticmethod
    def of_column(stats: pl.Series, rows: pl.Series, width: int) -> Statistics:
        """The same of a column of statistics."""
        places = (stats.struct.field("_NULL_COUNTS").list.len().fill_null(0) == width).arg_true()
        known = stats[places].struct.unnest()
        return Statistics(
            places=places.to_numpy(),
            mins=known.get_column("_MIN_VALUES"),
            maxs=known.get_column("_MAX_VALUES"),
            null_counts=known.get_column("_NULL_COUNTS").list.get,
            rows=rows[places],
        )


class FileStatistics(Protocol):
    """The statistics of some files."""

    def __len__(self) -> int: ...

    def by_columns(self, is_same: IsSame, all_columns: Sequence[str]) -> ByColumns:
        """Places of files by the columns that their value statistics are of; of files with other columns, none."""

    def of_values(self, places: Sequence[int] | Longs, width: int) -> Statistics:
        """Those of ``width`` columns of some of the files."""

    def of_keys(self, width: int) -> Statistics:
        """Those of the keys of all files."""


@dataclass(frozen=True, slots=True)
class OfFiles:
    """The statistics of a few files."""

    files: Sequence[DataFileMeta]

    def __len__(self) -> int:
        return len(self.files)

    def by_columns(self, is_same: IsSame, all_columns: Sequence[str]) -> ByColumns:
        """See ``FileStatistics``."""
        found: dict[tuple[str, ...], list[int]] = defaultdict(list)
        names, same = tuple(all_columns), {id_ for id_ in {file.schema_id for file in self.files} if is_same(id_)}
        for place, file in enumerate(self.files):
            if file.schema_id in same:
                found[names if file.value_stats_cols is None else file.value_stats_cols].append(place)
        return found.items()

    def of_values(self, places: Sequence[int] | Longs, width: int) -> Statistics:
        """See ``FileStatistics``."""
        some = [self.files[place] for place in places]
        return Statistics.of_values([file.value_stats for file in some], [file.row_count for file in some], width)

    def of_keys(self, width: int) -> Statistics:
        """See ``FileStatistics``."""
        rows = [file.row_count for file in self.files]
        return Statistics.of_values([file.key_stats for file in self.files], rows, width)


@dataclass(frozen=True, slots=True)
class OfColumns:
    """The statistics of very many files: a frame of the columns of their entries."""

    files: pl.DataFrame

    def __len__(self) -> int:
        return self.files.height

    def by_columns(self, is_same: IsSame, all_columns: Sequence[str]) -> ByColumns:
        """See ``FileStatistics``."""
        named, ids = self.files.get_column("_VALUE_STATS_COLS"), self.files.get_column("_SCHEMA_ID")
        known = ids.is_in([id_ for id_ in ids.unique() if is_same(id_)])
        if (of_all := known & named.is_null()).any():
            yield all_columns, of_all.arg_true().to_numpy()
        if (of_some := known & named.is_not_null()).any():
            places = pl.DataFrame([named, pl.int_range(len(named), eager=True).alias(_PLACE)]).filter(of_some)
            for (columns,), some in places.group_by(named.name):
                yield list(columns), some.get_column(_PLACE).to_numpy()

    def of_values(self, places: Sequence[int] | Longs, width: int) -> Statistics:
        """See ``FileStatistics``."""
        some = self.files.select("_VALUE_STATS", "_ROW_COUNT")[places]
        return Statistics.of_column(some.get_column("_VALUE_STATS"), some.get_column("_ROW_COUNT"), width)

    def of_keys(self, width: int) -> Statistics:
        """See ``FileStatistics``."""
        return Statistics.of_column(self.files.get_column("_KEY_STATS"), self.files.get_column("_ROW_COUNT"), width)

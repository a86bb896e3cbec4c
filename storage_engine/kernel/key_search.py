"""Finding keys in rows that are sorted by them, by halving: the cost follows the keys, not the rows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import polars as pl

Places = npt.NDArray[np.int64]

_SEARCHED = (pl.Int8, pl.Int16, pl.Int32, pl.Int64, pl.String, pl.Date)
"""Types of a leading key column whose order in a file is that of Polars."""
_KEY_PLACE = "_KEY_PLACE"


def can_search(dtype: pl.DataType) -> bool:
    """Whether rows are searched by a leading key column of this type."""
    return dtype in _SEARCHED


def places_of(rows: pl.DataFrame, keys: pl.DataFrame, names: Sequence[str]) -> Places:
    """Where in ``rows`` the ``keys`` stand, ascending, each place once; both have the key columns ``names``, without nulls.

    A key may be asked for more than once.

    REQUIRES: ``rows`` are sorted by the first of them, which ``can_search``.
    """
    first = names[0]
    values = keys.get_column(first).unique()
    stored = rows.get_column(first)
    starts = stored.search_sorted(values, side="left").to_numpy().astype(np.int64)
    ends = stored.search_sorted(values, side="right").to_numpy().astype(np.int64)
    places = _spread(starts, ends - starts)
    places.sort()
    if len(names) == 1 or not len(places):
        return places
    met = rows[list(names)][places].with_columns(pl.Series(_KEY_PLACE, places))
    return met.join(keys, on=names, how="semi", maintain_order="left").get_column(_KEY_PLACE).to_numpy(writable=True)


def _spread(starts: Places, lengths: Places) -> Places:
    """All numbers of ranges that begin at ``starts``."""
    begins = np.cumsum(lengths) - lengths
    return np.repeat(starts - begins, lengths) + np.arange(int(lengths.sum()), dtype=np.int64)

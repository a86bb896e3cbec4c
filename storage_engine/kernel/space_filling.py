"""Rows along a space-filling curve: sort keys that keep rows together which are near in several columns.

Spec: "Sort Compact" of Apache Paimon 1.3.1: strategies ``order``, ``zorder`` and ``hilbert``. Which curve a table was sorted by
stands nowhere in it: its files have narrower ranges of values, and that is all a reader needs. Other than in Paimon a column is
first stretched to its own extent, so that small numbers and long common prefixes count as much as large numbers and short ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt
import polars as pl

from storage_engine.errors import InvalidInput

Words = npt.NDArray[np.uint64]
_WORD_BYTES = 8
_HILBERT_BITS = 32
_CHUNK_ROWS = 1 << 16
_SIGN = np.uint64(1 << 63)
_FEW_COLUMNS = 5
_KEY = "_CURVE_"


class OrderStrategy(StrEnum):
    """How rows are ordered by several columns."""

    ORDER = "order"
    ZORDER = "zorder"
    HILBERT = "hilbert"

    @staticmethod
    def parse(name: str, columns: int) -> OrderStrategy:
        """A strategy by its name; ``auto`` goes by the number of columns. Raises InvalidInput."""
        if name == "auto":
            few = OrderStrategy.ZORDER if columns < _FEW_COLUMNS else OrderStrategy.HILBERT
            return OrderStrategy.ORDER if columns == 1 else few
        try:
            return OrderStrategy(name)
        except ValueError as cause:
            raise InvalidInput(f"order strategy {name!r} is not known; expected order, zorder or hilbert") from cause


@dataclass(frozen=True, slots=True, kw_only=True)
class _Extent:
    """What the values of a column lie between: encoded, after the first ``skipped`` bytes that all of them share."""

    skipped: int
    low: int
    high: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """A strategy over some columns of which the extent is known. ``bytes_of_text``: how much of a text counts, at most 8."""

    strategy: OrderStrategy
    columns: tuple[str, ...]
    extents: Mapping[str, _Extent]
    bytes_of_text: int = _WORD_BYTES

    @staticmethod
    def over(ends: pl.DataFrame, strategy: OrderStrategy, *, bytes_of_text: int = _WORD_BYTES) -> Curve:
        """The curve over the columns of ``ends``, whose rows hold their smallest and largest values (see ``ends_of``)."""
        text = min(bytes_of_text, _WORD_BYTES)
        extents = {column.name: _extent(column, text) for column in ends.iter_columns()}
        return Curve(strategy=strategy, columns=tuple(ends.columns), extents=extents, bytes_of_text=text)

    def sort(self, frame: pl.DataFrame) -> pl.DataFrame:
        """The rows along the curve; rows of one place keep their order."""
        keys = frame.select(self.columns) if self.strategy is OrderStrategy.ORDER else self.keys(frame)
        order = keys.select(pl.arg_sort_by(keys.columns, nulls_last=False, maintain_order=True)).to_series()
        return frame[order]

    def keys(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Columns (UInt64) whose order is that of the curve; by ``order`` they keep it but for ties."""
        words = [self._stretched(frame.get_column(name)) for name in self.columns]
        match self.strategy:
            case OrderStrategy.ORDER:
                found = words
            case OrderStrategy.ZORDER:
                found = _as_words(interleaved([_big_endian(word, _WORD_BYTES) for word in words]))
            case OrderStrategy.HILBERT:
                places = hilbert([word >> np.uint64(64 - _HILBERT_BITS) for word in words], _HILBERT_BITS)
                found = _as_words(interleaved([_big_endian(place, _HILBERT_BITS // 8) for place in places]))
        return pl.DataFrame({f"{_KEY}{number}": word for number, word in enumerate(found)})

    def _stretched(self, values: pl.Series) -> Words:
        """Values from 0 (null) to 2⁶⁴, in their order, over the whole width."""
        extent = self.extents[values.name]
        low, high = np.uint64(extent.low), np.uint64(extent.high)
        encoded = np.clip(encoded_values(values, skipped=extent.skipped, length=self.bytes_of_text), low, high)
        shift = np.uint64(64 - (extent.high - extent.low).bit_length())
        placed = np.maximum((encoded - low) << shift if shift < 64 else np.zeros_like(encoded), np.uint64(1))
        placed[values.is_null().to_numpy()] = 0
        return placed


def ends_of(frame: pl.DataFrame, columns: Sequence[str]) -> pl.DataFrame:
    """The smallest and the largest value of some columns: two rows. Frames of this form can be put on top of each other."""
    chosen = frame.select(columns)
    return pl.concat([chosen.select(pl.all().min()), chosen.select(pl.all().max())])


def _extent(ends: pl.Series, length: int) -> _Extent:
    present = ends.drop_nulls()
    if present.is_empty():
        return _Extent(skipped=0, low=0, high=0)
    skipped = 0
    if present.dtype in (pl.String, pl.Binary):
        low, high = present.cast(pl.Binary).sort().to_list()
        skipped = next((place for place, (a, b) in enumerate(zip(low, high, strict=False)) if a != b), len(low))
    encoded = encoded_values(present, skipped=skipped, length=length)
    return _Extent(skipped=skipped, low=int(encoded.min()), high=int(encoded.max()))


def encoded_values(values: pl.Series, *, skipped: int = 0, length: int = _WORD_BYTES) -> Words:
    """Values as unsigned numbers of the same order (null: any). Text by ``length`` bytes after those that are skipped.

    Raises InvalidInput for a nested type, which has no order.
    """
    dtype = values.dtype
    if dtype in (pl.String, pl.Binary):
        return _leading_bytes(values.cast(pl.Binary), skipped, length)
    if dtype.is_float() or dtype.is_decimal():
        bits = values.cast(pl.Float64).fill_null(0.0).to_numpy().view(np.uint64)
        return np.where(bits >= _SIGN, ~bits, bits | _SIGN)
    if dtype.is_nested():
        raise InvalidInput(f"column {values.name!r} of type {dtype} has no order to sort by")
    numbers = values.to_physical().cast(pl.Int64).fill_null(0).to_numpy()
    return numbers.view(np.uint64) ^ _SIGN


def _leading_bytes(values: pl.Series, skipped: int, length: int) -> Words:
    whole = values.fill_null(b"").bin.slice(skipped, length).rechunk().to_arrow()
    offsets = np.frombuffer(whole.buffers()[1], dtype=np.int64)[whole.offset : whole.offset + len(whole) + 1]
    data = np.frombuffer(whole.buffers()[2] or b"", dtype=np.uint8)
    found = np.zeros((len(whole), _WORD_BYTES), dtype=np.uint8)
    lengths = np.diff(offsets)
    for place in range(length):
        there = lengths > place
        found[there, place] = data[offsets[:-1][there] + place]
    return found.view(">u8").astype(np.uint64)[:, 0]


def _big_endian(words: Words, size: int) -> npt.NDArray[np.uint8]:
    """The lowest ``size`` bytes of each word, the highest first: a row for each word."""
    return words.astype(">u8").view(np.uint8).reshape(-1, _WORD_BYTES)[:, _WORD_BYTES - size :]


def interleaved(columns: Sequence[npt.NDArray[np.uint8]]) -> npt.NDArray[np.uint8]:
    """The bits of several columns in turn, highest first; each column has as many bytes a row."""
    rows, size = columns[0].shape
    found = np.empty((rows, size * len(columns)), dtype=np.uint8)
    for start in range(0, rows, _CHUNK_ROWS):
        some = np.stack([column[start : start + _CHUNK_ROWS] for column in columns], axis=1)
        bits = np.unpackbits(some, axis=2).transpose(0, 2, 1)
        found[start : start + _CHUNK_ROWS] = np.packbits(bits.reshape(len(some), -1), axis=1)
    return found


def _as_words(rows: npt.NDArray[np.uint8]) -> list[Words]:
    """Rows of bytes as columns of unsigned numbers, the leading one first."""
    padded = np.pad(rows, ((0, 0), (0, -rows.shape[1] % _WORD_BYTES)))
    words = np.ascontiguousarray(padded).view(">u8").astype(np.uint64)
    return list(words.T)


def hilbert(axes: Sequence[Words], bits: int) -> list[Words]:
    """Points as their places on the Hilbert curve, whose bits are those of the given columns in turn (Skilling's transform)."""
    places = [axis.copy() for axis in axes]
    for bit in range(bits - 1, 0, -1):
        below = np.uint64((1 << bit) - 1)
        for axis in range(len(places)):
            is_set = (places[axis] >> np.uint64(bit)) & np.uint64(1) == 1
            swapped = np.where(is_set, np.uint64(0), (places[0] ^ places[axis]) & below)
            places[axis] ^= swapped
            places[0] ^= np.where(is_set, below, swapped)
    for axis in range(1, len(places)):
        places[axis] ^= places[axis - 1]
    turned = np.zeros_like(places[0])
    for bit in range(bits - 1, 0, -1):
        is_set = (places[-1] >> np.uint64(bit)) & np.uint64(1) == 1
        turned ^= np.where(is_set, np.uint64((1 << bit) - 1), np.uint64(0))
    return [place ^ turned for place in places]

"""Texts as whole numbers: columns of numbers that order as the texts do, byte by byte."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import takewhile

import numpy as np
import numpy.typing as npt
import polars as pl

Longs = npt.NDArray[np.int64]
Unsigned = npt.NDArray[np.uint64]
Bytes = npt.NDArray[np.uint8]

_WORD_BYTES, _MOST_WORDS = 7, 8
_PADDING = 8
_VIEW_BYTES, _IN_VIEW = 16, 12
"""Of a text's view: all, and those in which a short text stands, behind four of its length."""
_KEPT = np.array([-1 << 8 * (_WORD_BYTES - count) for count in range(_WORD_BYTES + 1)], np.int64)
"""By the number of bytes that are left of a text: which bits of a word are its own."""


def padded_bytes(column: pl.Series) -> tuple[Bytes, Longs, Longs]:
    """All bytes of a column of texts or bytes with some zeros behind them, and of each value where it begins and its length.

    A null is of no bytes.
    """
    array = column.cast(pl.Binary).fill_null(b"").to_arrow(compat_level=pl.CompatLevel.oldest())
    offsets = np.frombuffer(array.buffers()[1], dtype=np.int64)[array.offset : array.offset + len(array) + 1]
    data = np.zeros(int(offsets[-1] - offsets[0]) + _PADDING, dtype=np.uint8)
    if len(data) > _PADDING:
        data[:-_PADDING] = np.frombuffer(array.buffers()[2], dtype=np.uint8)[offsets[0] : offsets[-1]]
    return data, offsets[:-1] - offsets[0], np.diff(offsets)


def text_words(column: pl.Series) -> list[Longs] | None:
    """Numbers of 56 bits, the first of which decides; the bytes that all texts begin with are left out.

    None for texts that are long, or that hold a zero byte. REQUIRES: there are texts, and no nulls.
    """
    return _words_of_views(column) or _words_of_bytes(column)


def _words_of_views(column: pl.Series) -> list[Longs] | None:
    """Of texts so short that they lie in the views of the column's array, so that none is copied; None for others."""
    array = column.rechunk().to_arrow(compat_level=pl.CompatLevel.newest())
    views = np.frombuffer(array.buffers()[1], np.uint8)[array.offset * _VIEW_BYTES :][: len(array) * _VIEW_BYTES]
    lengths, leading, trailing = (
        np.ndarray(shape=(len(array),), dtype=dtype, buffer=views.data, offset=offset, strides=(_VIEW_BYTES,))
        for dtype, offset in (("<i4", 0), (">u8", 4), (">u4", 12))
    )
    longest = int(lengths.max())
    if longest > _IN_VIEW or np.count_nonzero(views != 0) != int(lengths.sum()) + np.count_nonzero(lengths):
        return None
    texts = _ShortTexts(leading.astype(np.uint64), trailing.astype(np.uint64))
    shared = min(texts.shared(), longest)
    firsts = range(shared, longest, _WORD_BYTES) or (longest,)
    return [texts.word(first, min(_WORD_BYTES, longest - first)) for first in firsts]


@dataclass(frozen=True, slots=True)
class _ShortTexts:
    """Twelve bytes of each text, zeros behind its own: the first eight and the last four, as numbers that order alike."""

    leading: Unsigned
    trailing: Unsigned

    def shared(self) -> int:
        """How many bytes all of them begin with."""
        low, high = int(self.leading.min()), int(self.leading.max())
        if low != high:
            return 8 - -(-(low ^ high).bit_length() // 8)
        return 12 - -(-(int(self.trailing.min()) ^ int(self.trailing.max())).bit_length() // 8)

    def word(self, first: int, count: int) -> Longs:
        """So many bytes from some place on, as a number."""
        mask, behind = np.uint64((1 << 8 * count) - 1), 8 - first - count
        if behind >= 0:
            word = self.leading >> np.uint64(8 * behind) & mask
        else:
            word = self.trailing >> np.uint64(8 * (4 + behind))
            if first < 8:
                word |= self.leading << np.uint64(-8 * behind)
            word &= mask
        return word.astype(np.int64)


def _words_of_bytes(column: pl.Series) -> list[Longs] | None:
    low, high = str(column.min()).encode(), str(column.max()).encode()
    data, starts, lengths = padded_bytes(column)
    shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(low, high, strict=False)))
    lengths = lengths - shared
    count = max(1, -(-int(lengths.max()) // _WORD_BYTES))
    if count > _MOST_WORDS or not data[:-_PADDING].all():
        return None
    unaligned = np.ndarray(shape=(len(data) - _PADDING + 1,), dtype=">i8", buffer=data.data, strides=(1,))
    words: list[Longs] = []
    for first in range(0, count * _WORD_BYTES, _WORD_BYTES):
        at = np.minimum(starts + (shared + first), len(unaligned) - 1)
        word = unaligned[at].astype(np.int64) >> 8 & (1 << 8 * _WORD_BYTES) - 1
        words.append(word & _KEPT[np.clip(lengths - first, 0, _WORD_BYTES)])
    return words

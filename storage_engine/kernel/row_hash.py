"""The hash of key rows: Murmur3 over the BinaryRow that the values would make, without making the rows.

Spec: "Bucket" and "BinaryRow" of Apache Paimon. A body is: header (null bits from bit 8 on), one 8-byte slot for each field,
then the variable parts in field order. All of it is fed to the hash as little-endian 32-bit words.

The work goes block by block, so that the arrays of a mixing step stay in the processor's cache.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl

from storage_engine.errors import Unsupported
from storage_engine.kernel.text_words import padded_bytes
from storage_engine.spec.types import BINARY_ROOTS, STRING_ROOTS, DataType, TypeRoot

Words: TypeAlias = npt.NDArray[np.uint32]
Longs: TypeAlias = npt.NDArray[np.int64]
Mask: TypeAlias = npt.NDArray[np.bool_]

_SEED = 42
_SPREAD = np.uint32(0x9E3779B1)
"""Rows of a bucket have hashes that are alike in their lower bits; multiplied by this, the upper bits tell them apart."""
_C1, _C2, _ADDEND = np.uint32(0xCC9E2D51), np.uint32(0x1B873593), np.uint32(0xE6546B64)
_BLOCK_ROWS = 1 << 15
_INLINE_BYTES = 7
_COMPACT_DECIMAL, _COMPACT_TIMESTAMP = 18, 3
_HEADER_BITS = 8
_TAIL_MASKS = np.array([0, 0xFF, 0xFFFF, 0xFFFFFF, 0xFFFFFFFF], dtype=np.uint32)


@dataclass(frozen=True, slots=True)
class _Variable:
    """The variable part of a field: words of each row, and the word at an index of some rows (padded with zeros)."""

    word_counts: Longs
    word: Callable[[Longs, int], Words]


@dataclass(frozen=True, slots=True)
class _Field:
    """A field of a block: both words of its slot, null rows, its variable part.

    ``high`` is None where the slot's upper word is the offset of the variable part for all rows, and ``pointed`` marks the
    rows of a mixed field where it is.
    """

    low: Words
    high: Words | None
    nulls: Mask | None
    variable: _Variable | None = None
    pointed: Mask | None = None


_Encoder: TypeAlias = Callable[[pl.Series, Mask | None], _Field]


def row_hash(frame: pl.DataFrame, types: Sequence[DataType]) -> npt.NDArray[np.int32]:
    """The hash of each row of a frame whose columns have these types, in this order.

    The columns must have the Polars dtypes of the types. Raises Unsupported for nested types.
    """
    encoders = [_encoder(data_type) for data_type in types]
    hashes = np.empty(frame.height, dtype=np.uint32)
    for start in range(0, frame.height, _BLOCK_ROWS):
        block = frame.slice(start, _BLOCK_ROWS)
        fields = [encode(column, _nulls(column)) for encode, column in zip(encoders, block, strict=True)]
        hashes[start : start + block.height] = _hash_block(fields, block.height)
    return hashes.view(np.int32)


def shares_of(hashes: npt.NDArray[np.int32], of: int) -> npt.NDArray[np.uint64]:
    """The share of each hash, counted from 0, if there are ``of`` of them: about as many hashes in each."""
    spread = hashes.view(np.uint32) * _SPREAD
    return (spread.astype(np.uint64) * np.uint64(of)) >> np.uint64(32)


def _nulls(column: pl.Series) -> Mask | None:
    return column.is_null().to_numpy() if column.null_count() else None


def _hash_block(fields: Sequence[_Field], rows: int) -> Words:
    hashes = np.full(rows, _SEED, dtype=np.uint32)
    header_bytes = (len(fields) + _HEADER_BITS + 63) // 64 * 8
    for word in _header(fields, header_bytes // 4):
        _mix(hashes, word)
    ends = np.full(rows, header_bytes + 8 * len(fields), dtype=np.int64)
    for field in fields:
        high = field.high
        if high is None:
            high = ends.astype(np.uint32)
        elif field.pointed is not None:
            high = np.where(field.pointed, ends.astype(np.uint32), high)
        _mix(hashes, field.low)
        _mix(hashes, high)
        if field.variable is not None:
            ends += 4 * field.variable.word_counts
    for field in fields:
        if field.variable is not None:
            _mix_variable(hashes, field.variable)
    return _finished(hashes, ends)


def _header(fields: Sequence[_Field], count: int) -> list[Words | np.uint32]:
    words: list[Words | np.uint32] = [np.uint32(0)] * count
    for index, field in enumerate(fields):
        if field.nulls is not None:
            place, bit = divmod(index + _HEADER_BITS, 32)
            words[place] = words[place] | (field.nulls.astype(np.uint32) << np.uint32(bit))
    return words


def _mix(hashes: Words, word: Words | np.uint32) -> None:
    """One step of Murmur3, in place."""
    mixed = np.multiply(np.atleast_1d(word), _C1)
    mixed = (mixed << np.uint32(15)) | (mixed >> np.uint32(17))
    mixed *= _C2
    hashes ^= mixed
    rotated = hashes >> np.uint32(19)
    hashes <<= np.uint32(13)
    hashes |= rotated
    hashes *= np.uint32(5)
    hashes += _ADDEND


def _mix_variable(hashes: Words, variable: _Variable) -> None:
    """Mix the variable part word by word, each time only the rows that have one more."""
    counts = variable.word_counts
    shortest, longest = int(counts.min()), int(counts.max())
    everywhere = np.arange(len(hashes))
    for index in range(shortest):
        _mix(hashes, variable.word(everywhere, index))
    active = everywhere
    for index in range(shortest, longest):
        active = active[counts[active] > index]
        part = hashes[active]
        _mix(part, variable.word(active, index))
        hashes[active] = part


def _finished(hashes: Words, lengths: Longs) -> Words:
    hashes ^= lengths.astype(np.uint32)
    hashes ^= hashes >> np.uint32(16)
    hashes *= np.uint32(0x85EBCA6B)
    hashes ^= hashes >> np.uint32(13)
    hashes *= np.uint32(0xC2B2AE35)
    hashes ^= hashes >> np.uint32(16)
    return hashes


def _encoder(data_type: DataType) -> _Encoder:
    root = data_type.root
    if root in STRING_ROOTS | BINARY_ROOTS:
        return _bytes
    if root is TypeRoot.DECIMAL:
        return _compact_decimal if (data_type.precision or 0) <= _COMPACT_DECIMAL else _long_decimal
    if root in _TIMESTAMPS:
        if (6 if data_type.precision is None else data_type.precision) <= _COMPACT_TIMESTAMP:
            return _long
        return _fine_timestamp
    if root not in _ENCODERS:
        raise Unsupported(f"a column of type {data_type.sql} cannot be hashed: it cannot be a key")
    return _ENCODERS[root]


def _numbers(column: pl.Series, dtype: Any = None) -> npt.NDArray[Any]:
    """Physical values, null as zero."""
    physical = column.to_physical()
    values = physical.fill_null(False if physical.dtype == pl.Boolean else 0).to_numpy()
    return values if dtype is None else values.astype(dtype)


def _narrow(unsigned: Any) -> _Encoder:
    """Values of at most four bytes, as they are: the slot's other bytes stay zero, for negative numbers too."""

    def encode(column: pl.Series, nulls: Mask | None) -> _Field:
        low = _numbers(column).view(unsigned).astype(np.uint32)
        return _Field(low, np.zeros(1, np.uint32), nulls)

    return encode


def _time(column: pl.Series, nulls: Mask | None) -> _Field:
    return _Field((_numbers(column) // 1_000_000).astype(np.uint32), np.zeros(1, np.uint32), nulls)


def _long(column: pl.Series, nulls: Mask | None) -> _Field:
    words = np.ascontiguousarray(_numbers(column)).view(np.uint32)
    return _Field(words[0::2], words[1::2], nulls)


def _decimal_words(column: pl.Series) -> npt.NDArray[np.uint64]:
    """Unscaled values as rows of (low, high) 64-bit halves, null as zero."""
    array = column.fill_null(0).to_arrow()
    words = np.frombuffer(array.buffers()[1], dtype=np.uint64).reshape(-1, 2)
    return words[array.offset : array.offset + len(array)]


def _compact_decimal(column: pl.Series, nulls: Mask | None) -> _Field:
    words = np.ascontiguousarray(_decimal_words(column)[:, 0]).view(np.uint32)
    return _Field(words[0::2], words[1::2], nulls)


def _long_decimal(column: pl.Series, nulls: Mask | None) -> _Field:
    """Sixteen bytes behind the slots: the shortest big-endian two's complement, then zeros."""
    halves = _decimal_words(column)
    big_endian = np.ascontiguousarray(halves[:, ::-1]).astype(">u8").view(np.uint8).reshape(-1, 16)
    sign = (big_endian[:, 0] >> 7).astype(np.uint8) * np.uint8(0xFF)
    magnitude = big_endian ^ sign[:, None]
    first = np.argmax(magnitude != 0, axis=1)
    first[~magnitude.any(axis=1)] = 15
    # A leading bit that is set would read as a sign, so one more byte stays.
    first -= magnitude[np.arange(len(first)), first] >> 7
    source = first[:, None] + np.arange(16)
    padded = np.concatenate([big_endian, np.zeros_like(big_endian)], axis=1)
    aligned = np.take_along_axis(padded, source, axis=1)
    lengths = (16 - first).astype(np.uint32)
    if nulls is not None:
        aligned[nulls] = 0
        lengths[nulls] = 0
    words = np.ascontiguousarray(aligned).view(np.uint32)
    return _Field(lengths, None, nulls, _fixed_variable(words))


def _fine_timestamp(column: pl.Series, nulls: Mask | None) -> _Field:
    """Milliseconds behind the slots; the nanoseconds within the millisecond in the slot."""
    values = _numbers(column)
    per_millisecond = 1_000 if column.dtype.time_unit == "us" else 1_000_000  # type: ignore[attr-defined]
    millis, rest = np.divmod(values, per_millisecond)
    nanos = (rest * (1_000_000 // per_millisecond)).astype(np.uint32)
    words = np.ascontiguousarray(millis).view(np.uint32).reshape(-1, 2)
    return _Field(nanos, None, nulls, _fixed_variable(words))


def _fixed_variable(words: Words) -> _Variable:
    """A variable part with equally many words for all rows (a null reserves them, too)."""
    counts = np.full(len(words), words.shape[1], dtype=np.int64)
    return _Variable(counts, lambda rows, index: words[rows, index])


def _bytes(column: pl.Series, nulls: Mask | None) -> _Field:
    """Up to seven bytes stand in the slot, with their number in the last byte; longer ones behind the slots."""
    data, starts, lengths = padded_bytes(column)
    unaligned: Words = np.ndarray(shape=(len(data) - 3,), dtype=np.uint32, buffer=data.data, strides=(1,))

    def word(rows: Longs, index: int) -> Words:
        left = np.clip(lengths[rows] - 4 * index, 0, 4)
        at = np.minimum(starts[rows] + 4 * index, len(unaligned) - 1)
        words: Words = unaligned[at] & _TAIL_MASKS[left]
        return words

    rows = np.arange(len(lengths))
    marks = ((lengths | 0x80) << 24).astype(np.uint32)
    low, high = word(rows, 0), word(rows, 1) | marks
    pointed = lengths > _INLINE_BYTES
    counts = np.where(pointed, (lengths + 7) // 8 * 2, 0)
    low = np.where(pointed, lengths.astype(np.uint32), low)
    if nulls is not None:
        high[nulls] = 0
    return _Field(low, high, nulls, _Variable(counts, word), pointed)


_TIMESTAMPS = frozenset({TypeRoot.TIMESTAMP, TypeRoot.TIMESTAMP_LTZ})
_ENCODERS: dict[TypeRoot, _Encoder] = {
    TypeRoot.BOOLEAN: _narrow(np.uint8),
    TypeRoot.TINYINT: _narrow(np.uint8),
    TypeRoot.SMALLINT: _narrow(np.uint16),
    TypeRoot.INT: _narrow(np.uint32),
    TypeRoot.FLOAT: _narrow(np.uint32),
    TypeRoot.DATE: _narrow(np.uint32),
    TypeRoot.TIME: _time,
    TypeRoot.BIGINT: _long,
    TypeRoot.DOUBLE: _long,
}
